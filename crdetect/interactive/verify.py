"""The window where features are kept or rejected, one by one."""

from __future__ import annotations

from dataclasses import dataclass, replace

import matplotlib as mpl
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes

from crdetect.equality import by_value
from crdetect.errors import Stopped
from crdetect.interactive import terminal
from crdetect.interactive.keys import VERIFY, hint
from crdetect.interactive.window import Window, open_window
from crdetect.masks import CLASSES, Features
from crdetect.parameters import General, Parameters
from crdetect.pipeline import Detection
from crdetect.plots.images import MISSING_COLOR, grey_limits
from crdetect.plots.style import LOOKS, VERMILLION, new_figure
from crdetect.stack import Stack

_TITLE = "Features of MEDIANCR"
_HINTS = "keep", "reject", "single", "undo", "quit", "stop", "help"
_PANEL_IN = 3.6
_MOST_COLUMNS = 5
_GREY = mpl.colormaps["gray"].with_extremes(bad=MISSING_COLOR)
_DECISIONS = {"keep": "kept", "reject": "rejected", "single": "rejected in MEDIANCR only"}


@by_value
@dataclass(frozen=True)
class Verdicts:
    """What a person said about features, in their order; those without a verdict are kept.

    Attributes
    ----------
    features : Features
        The features.
    decisions : tuple of str
        ``keep``, ``reject`` or ``single``.
    """

    features: Features
    decisions: tuple[str, ...] = ()

    def decided(self, decision: str) -> Verdicts:
        """Add the verdict on the next feature."""
        return replace(self, decisions=(*self.decisions, decision))

    def undone(self) -> Verdicts:
        """Take the last verdict back."""
        return replace(self, decisions=self.decisions[:-1])

    @property
    def number(self) -> int:
        """Number of the next feature."""
        return len(self.decisions) + 1

    def counts(self) -> str:
        """Count the verdicts, for people."""
        return ", ".join(
            f"{self.decisions.count(decision)} {text}" for decision, text in _DECISIONS.items()
        )

    def pixels(self, decision: str) -> list[tuple[int, int]]:
        """FITS pixels of the features with a verdict."""
        numbers = [i for i, made in enumerate(self.decisions, start=1) if made == decision]
        some = np.isin(self.features.label, numbers)
        pairs = np.column_stack([self.features.x[some] + 1, self.features.y[some] + 1])
        return [tuple(pair) for pair in pairs.tolist()]

    def applied(self, parameters: Parameters) -> Parameters:
        """Make parameters that reject what was rejected.

        Masks come from the parameters alone, so that growth of a rejected pixel, or another
        pixel found because of it, is gone, too.
        """
        nowhere, single = self.pixels("reject"), self.pixels("single")
        rejected = {*nowhere, *single}
        if not rejected:
            return parameters
        general = parameters.general
        flagged = [xy for xy in general.pixels_to_be_flagged_as_cr or () if xy not in rejected]
        values = {
            "pixels_to_be_ignored_as_cr": [*(general.pixels_to_be_ignored_as_cr or ()), *nowhere],
            "pixels_to_be_ignored_in_mediancr": [
                *(general.pixels_to_be_ignored_in_mediancr or ()),
                *single,
            ],
            "pixels_to_be_flagged_as_cr": flagged,
        }
        edited = general.model_dump() | {name: pixels or None for name, pixels in values.items()}
        return parameters.model_copy(update={"general": General.model_validate(edited)})


def verify(detection: Detection, stack: Stack) -> Parameters:
    """Show feature by feature; return parameters that reject what the person rejects.

    Parameters
    ----------
    detection : Detection
        What was found.
    stack : Stack
        The exposures.

    Raises
    ------
    Stopped
        If the person stops the run.
    """
    verdicts = Verdicts(detection.features)
    total = int(verdicts.features.label.max(initial=0))
    if total == 0:
        terminal.say("verify_cr: there is no feature in MEDIANCR")
        return detection.parameters
    rows, columns = _grid(len(stack))
    figure = new_figure(_PANEL_IN * columns, _PANEL_IN * rows + 0.8)
    with open_window(figure, _TITLE, VERIFY) as window:
        view = _View(window, detection, stack, total)
        while verdicts.number <= total:
            view.show(verdicts)
            action, _ = window.wait()
            if action == "stop":
                raise Stopped
            if action in ("quit", "continue"):
                break
            if action == "undo":
                verdicts = verdicts.undone()
            elif action in _DECISIONS:
                verdicts = verdicts.decided(action)
            elif action in ("minmax", "zscale"):
                view.scale = action
    left = total - len(verdicts.decisions)
    terminal.say(f"features: {verdicts.counts()}, {left} kept without a look")
    return verdicts.applied(detection.parameters)


def _grid(n: int) -> tuple[int, int]:
    """Rows and columns of panels for n exposures, and a row for what is made of them."""
    columns = min(max(n, 3), _MOST_COLUMNS)
    return -(-n // columns) + 1, columns


class _View:
    """Panels around a feature: they are made once, and what they show changes."""

    def __init__(self, window: Window, detection: Detection, stack: Stack, total: int):
        self.window, self.total = window, total
        self.codes = detection.codes
        general, statistics = detection.parameters.general, detection.statistics
        self.scale, self.semiwindow = general.color_scale, general.semiwindow
        filling = detection.auxclean if general.use_auxmedian else statistics.min2d
        self.images = {f"exposure {i}": image for i, image in enumerate(stack.exposures, start=1)}
        self.images |= {
            "median2d": statistics.median2d,
            "median2d without MEDIANCR": np.where(self.codes > 0, filling, statistics.median2d),
            "mean2d": statistics.mean2d,
        }
        *upper, lower = window.figure.subplots(*_grid(len(stack)), squeeze=False)
        upper = np.ravel(upper)
        for ax in (*upper[len(stack) :], *lower[3:]):
            ax.set_visible(False)
        self.panels = dict(zip(self.images, [*upper[: len(stack)], *lower[:3]], strict=True))
        self.drawn = {
            name: ax.imshow([[0.0]], cmap=_GREY, origin="lower", interpolation="nearest")
            for name, ax in self.panels.items()
        }
        self.marks: list = []

    def show(self, verdicts: Verdicts) -> None:
        """Show the next feature."""
        rows, columns = self._around(verdicts)
        extent = (columns.start + 0.5, columns.stop + 0.5, rows.start + 0.5, rows.stop + 0.5)
        shown = {name: image[rows, columns] for name, image in self.images.items()}
        # one scale for all: images are to be compared
        low, high = grey_limits(shown["median2d"], self.scale)
        for name, drawn in self.drawn.items():
            drawn.set(data=shown[name], extent=extent, clim=(low, high))
            drawn.axes.set(xlim=extent[:2], ylim=extent[2:])
            drawn.axes.set_title(name, fontsize="medium")
        for mark in self.marks:
            mark.remove()
        inside = verdicts.features.label == verdicts.number
        self.marks = _mark_codes(self.panels["median2d"], verdicts.features, inside)
        for name in self.panels:
            self.marks.append(_outline(self.panels[name], verdicts.features, inside))
        name = CLASSES[verdicts.features.classes[verdicts.number - 1]]
        self.window.figure.suptitle(
            f"feature {verdicts.number} of {self.total} ({name}), {np.count_nonzero(inside)} "
            f"pixels; {verdicts.counts()}"
        )
        self.window.figure.supxlabel(hint(VERIFY, _HINTS), fontsize="small")
        self.window.show()
        self.window.settle()

    def _around(self, verdicts: Verdicts) -> tuple[slice, slice]:
        inside = verdicts.features.label == verdicts.number
        places = verdicts.features.y[inside], verdicts.features.x[inside]
        return tuple(
            _window(place, self.semiwindow, size)
            for place, size in zip(places, self.codes.shape, strict=True)
        )


def _window(places: np.ndarray, semiwindow: int, size: int) -> slice:
    """Take so many pixels beside the middle of a feature, and at least all of it."""
    middle = (int(places.min()) + int(places.max())) // 2
    half = max(semiwindow, int(np.ptp(places)) // 2 + 2)
    return slice(max(0, middle - half), min(size, middle + half + 1))


def _mark_codes(ax: Axes, features: Features, inside: np.ndarray) -> list[Artist]:
    """Mark the pixels of a feature by their codes, without hiding them."""
    marks: list[Artist] = []
    for code, look in LOOKS.items():
        some = inside & (features.code == code)
        style = {"marker": look.marker, "markersize": 3, "markerfacecolor": look.color}
        style |= {"markeredgecolor": "k", "markeredgewidth": 0.4, "linestyle": "none"}
        x, y = features.x[some] + 1, features.y[some] + 1
        marks += ax.plot(x, y, scalex=False, scaley=False, **style)
    return marks


def _outline(ax: Axes, features: Features, inside: np.ndarray) -> Artist:
    """Draw a line around a feature."""
    x, y = features.x[inside], features.y[inside]
    mask = np.zeros((np.ptp(y) + 3, np.ptp(x) + 3))
    mask[y - y.min() + 1, x - x.min() + 1] = 1
    columns, rows = (np.arange(size) for size in mask.shape[::-1])
    return ax.contour(columns + x.min(), rows + y.min(), mask, [0.5], colors=VERMILLION)
