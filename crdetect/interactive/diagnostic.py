"""Window in which a person looks at the pixels and features of MEDIANCR."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backend_bases import KeyEvent

from crdetect.errors import Stopped
from crdetect.interactive import terminal
from crdetect.interactive.keys import DIAGNOSTIC, hint
from crdetect.interactive.window import Window, open_window
from crdetect.masks import CLASSES
from crdetect.pipeline import Detection
from crdetect.plots import mediancr
from crdetect.plots.images import grey_limits
from crdetect.plots.style import YELLOW
from crdetect.plots.words import class_labels, code_labels
from crdetect.stack import Stack

_TITLE = "MEDIANCR"
_HINTS = "info", "list", "numbers", "next", "back", "continue", "stop", "help"
_MOST_LISTED = 500  # largest number of pixels listed on the terminal at a time
_MOST_NUMBERS = 200  # largest number of features whose numbers are written on the images
_PLANES, _IMAGES = ("(a)", "(b)"), ("(c)", "(d)")  # panels of the diagram, and of the images


def look_at(detection: Detection, stack: Stack) -> str:
    """Let a person look at the flagged pixels; return ``continue`` or ``back``.

    Parameters
    ----------
    detection : Detection
        The result.
    stack : Stack
        The exposures.

    Raises
    ------
    Stopped
        If the person stops the run.
    """
    hints = [name for name in _HINTS if name != "back" or detection.diagram is not None]
    figure = mediancr(detection, hint(DIAGNOSTIC, hints))
    with open_window(figure, _TITLE, DIAGNOSTIC) as window:
        viewer = _Viewer(window, detection, stack)
        while True:
            action, event = window.wait()
            if action == "stop":
                raise Stopped
            if action == "continue" or (action == "back" and detection.diagram is not None):
                return action
            viewer.act(action, event)


class _Viewer:
    """The panels of the window, and the changes that a person has made to them."""

    def __init__(self, window: Window, detection: Detection, stack: Stack):
        self.window = window
        self.detection = detection
        self.features = detection.features
        self.codes = code_labels(detection)
        self.classes = class_labels(detection)
        self.panels = {ax.get_title()[:3]: ax for ax in window.figure.axes if ax.get_title()}
        self.images = _images(detection, stack)
        self.shown = {"(c)": "median2d", "(d)": "mean2d"}
        self._texts: list = []
        self._marks: list = []
        statistics = detection.statistics
        x = statistics.min2d[self.features.y, self.features.x]
        self.places = x, statistics.median2d[self.features.y, self.features.x] - x
        for names in (_PLANES, _IMAGES):
            first, second = (self.panels[name] for name in names)
            second.sharex(first)
            second.sharey(first)
        for name, image in self.shown.items():
            self._set_image(name, image)
        window.show()
        window.settle()

    def act(self, action: str, event: KeyEvent) -> None:
        """Do the action of a key."""
        todo = {
            "info": self._describe,
            "list": self._list,
            "numbers": self._number,
            "aspect": self._turn_aspect,
            "next": self._next_image,
            "image": self._choose_image,
            "minmax": self._scale,
            "zscale": self._scale,
            "home": lambda _: self.window.home(),
        }
        if action in todo:
            todo[action](event)
            self.window.canvas.draw_idle()

    # -- pixels

    def _describe(self, event: KeyEvent) -> None:
        """Describe the pixel under the mouse on the terminal, and mark it in all panels."""
        pixel = self._pixel_under(event)
        if pixel is None:
            terminal.say("there is no pixel under the mouse")
            return
        y, x = pixel
        terminal.say(*self._about(y, x))
        statistics = self.detection.statistics
        low = float(statistics.min2d[y, x])
        places = dict.fromkeys(_PLANES, (low, float(statistics.median2d[y, x]) - low))
        places |= dict.fromkeys(_IMAGES, (x + 1, y + 1))
        _remove(self._marks)
        ring = {"marker": "o", "markerfacecolor": "none", "markeredgecolor": YELLOW, "zorder": 9}
        size = {"markersize": 14, "markeredgewidth": 2}
        self._marks = [
            line
            for name, place in places.items()
            for line in self.panels[name].plot(*place, scalex=False, scaley=False, **ring, **size)
        ]

    def _pixel_under(self, event: KeyEvent) -> tuple[int, int] | None:
        """Find the pixel (y, x from 0) of an image, or the nearest flagged one of a diagram."""
        name = self._panel_under(event)
        if name in _IMAGES:
            y, x = round(event.ydata) - 1, round(event.xdata) - 1
            rows, columns = self.detection.codes.shape
            return (y, x) if 0 <= y < rows and 0 <= x < columns else None
        if name is None or not self.features.label.size:
            return None
        places = event.inaxes.transData.transform(np.column_stack(self.places))
        nearest = int(np.nanargmin(np.hypot(*(places - (event.x, event.y)).T)))
        return int(self.features.y[nearest]), int(self.features.x[nearest])

    def _about(self, y: int, x: int) -> list[str]:
        """Lines on a pixel: its verdict, its values, and the boundary at its place."""
        statistics, diagram = self.detection.statistics, self.detection.diagram
        low, height = statistics.min2d[y, x], statistics.median2d[y, x] - statistics.min2d[y, x]
        values = ", ".join(f"{name} {image[y, x]:.5g}" for name, image in self.images.items())
        lines = [f"pixel x {x + 1}, y {y + 1}: {self._verdict(y, x)}", f"  {values}"]
        if diagram is not None:
            boundary = float(diagram.criterion.boundary(np.array(low)))
            lines.append(f"  median2d − min2d {height:.5g}, boundary there {boundary:.5g}")
        return lines

    def _verdict(self, y: int, x: int) -> str:
        code = self.detection.codes[y, x]
        if code == 0:
            return "not flagged in MEDIANCR"
        here = (self.features.y == y) & (self.features.x == x)
        number = int(self.features.label[here][0])
        name = CLASSES[self.features.classes[number - 1]]
        return f"flagged in MEDIANCR, {self.codes[code]}; feature {number}, {self.classes[name]}"

    def _list(self, _: KeyEvent) -> None:
        """List the flagged pixels in the zoom of images and diagrams on the terminal."""
        rows = np.flatnonzero(self._in_zoom())
        terminal.say(
            f"flagged pixels in the zoom: {rows.size}",
            f"values of the mask: {', '.join(self.codes.values())}",
            "CR_number  X_pixel  Y_pixel  Mask_value      min2d  median2d − min2d",
        )
        features, (low, height) = self.features, self.places
        terminal.say(
            *(
                f"{features.label[i]:9d}  {features.x[i] + 1:7d}  {features.y[i] + 1:7d}  "
                f"{features.code[i]:10d}  {low[i]:9.5g}  {height[i]:16.5g}"
                for i in rows[:_MOST_LISTED]
            )
        )
        if rows.size > _MOST_LISTED:
            terminal.say(f"… and {rows.size - _MOST_LISTED} more: zoom in to see them")

    def _in_zoom(self) -> np.ndarray:
        """Mask of the flagged pixels that all panels show."""
        on_images = self.features.x + 1, self.features.y + 1
        low, height = self.places
        plane = self.panels["(a)"]
        # Pixels to the left or right of the diagram are drawn at its edge.
        inside = np.clip(low, *sorted(plane.dataLim.intervalx)), height
        return _shows(self.panels["(c)"], *on_images) & _shows(plane, *inside)

    def _number(self, _: KeyEvent) -> None:
        """Write the numbers of the features in the zoom on the images, or remove them."""
        if self._texts:
            _remove(self._texts)
            self._texts = []
            return
        rows = np.flatnonzero(self._in_zoom())
        _, first = np.unique(self.features.label[rows], return_index=True)
        chosen = rows[first][:_MOST_NUMBERS]
        box = {"pad": 0.5, "fc": YELLOW, "ec": "none", "alpha": 0.8}
        style = {"fontsize": "x-small", "color": "k", "bbox": box, "zorder": 8}
        self._texts = [
            self.panels[name].annotate(
                str(self.features.label[i]),
                (self.features.x[i] + 1, self.features.y[i] + 1),
                (3, 3),
                textcoords="offset points",
                annotation_clip=True,
                **style,
            )
            for name in _IMAGES
            for i in chosen
        ]

    # -- images

    def _panel_under(self, event: KeyEvent) -> str | None:
        return next((name for name, ax in self.panels.items() if ax is event.inaxes), None)

    def _target(self, event: KeyEvent) -> str:
        name = self._panel_under(event)
        return name if name in _IMAGES else "(d)"

    def _set_image(self, panel: str, name: str) -> None:
        """Show an image with all its pixels, not a reduced one, since a person may zoom in."""
        ax = self.panels[panel]
        ax.images[0].set_data(self.images[name])
        ax.set_title(f"{panel} {name}", fontsize="medium")
        self.shown[panel] = name
        self._scale_panel(panel, self.detection.parameters.general.color_scale)

    def _next_image(self, event: KeyEvent) -> None:
        names, panel = list(self.images), self._target(event)
        self._set_image(panel, names[(names.index(self.shown[panel]) + 1) % len(names)])

    def _choose_image(self, event: KeyEvent) -> None:
        name = "mean2d" if event.key == "0" else f"exposure {event.key}"
        if name in self.images:
            self._set_image(self._target(event), name)
        else:
            terminal.say(f"there is no {name}")

    def _scale(self, event: KeyEvent) -> None:
        for panel in _IMAGES:
            self._scale_panel(panel, {",": "minmax", "/": "zscale"}[event.key])

    def _scale_panel(self, panel: str, scale: str) -> None:
        """Set the grey levels by the part of the image that is in the zoom."""
        ax = self.panels[panel]
        shown = self.images[self.shown[panel]]
        columns, rows = (
            slice(max(0, round(min(limits)) - 1), max(1, round(max(limits))))
            for limits in (ax.get_xlim(), ax.get_ylim())
        )
        part = shown[rows, columns]
        drawn = ax.images[0]
        drawn.set_clim(*grey_limits(part if part.size else shown, scale))
        drawn.colorbar.set_label(f"ADU ({scale})")

    def _turn_aspect(self, _: KeyEvent) -> None:
        equal = self.panels["(c)"].get_aspect() == "auto"
        for name in _IMAGES:
            ax = self.panels[name]
            ax.set_aspect("equal" if equal else "auto")


def _images(detection: Detection, stack: Stack) -> dict[str, np.ndarray]:
    statistics = detection.statistics
    images = {"median2d": statistics.median2d, "mean2d": statistics.mean2d}
    images |= {"min2d": statistics.min2d, "max2d": statistics.max2d}
    images |= {f"exposure {i}": image for i, image in enumerate(stack.exposures, start=1)}
    return images | {"AUXCLEAN": detection.auxclean}


def _shows(ax: Axes, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    (left, right), (bottom, top) = sorted(ax.get_xlim()), sorted(ax.get_ylim())
    return (x >= left) & (x <= right) & (y >= bottom) & (y <= top)


def _remove(artists: Sequence) -> None:
    for artist in artists:
        artist.remove()
