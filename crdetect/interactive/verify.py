"""Window in which a person keeps or rejects the features of MEDIANCR, one by one."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from crdetect.equality import by_value
from crdetect.errors import Stopped
from crdetect.interactive import terminal
from crdetect.interactive.keys import VERIFY, hint
from crdetect.interactive.window import Window, open_window
from crdetect.masks import Feature, Features
from crdetect.parameters import General, Parameters
from crdetect.pipeline import Detection
from crdetect.plots.images import grey_limits, grey_map, rows_and_columns
from crdetect.plots.style import LOOKS, VERMILLION, new_figure
from crdetect.plots.surroundings import Surroundings
from crdetect.plots.words import class_labels, code_labels
from crdetect.stack import Stack

_TITLE = "Features of MEDIANCR"
_HINTS = "keep", "reject", "single", "undo", "quit", "stop", "help"
_PANEL_IN = 3.6  # side of a panel, inches
_TEXTS_IN = 1.3  # height of title, legend and keys, inches
_DECISIONS = {"keep": "kept", "reject": "rejected", "single": "rejected in MEDIANCR only"}


@by_value
@dataclass(frozen=True)
class Verdicts:
    """Decisions of a person about features; features without a decision are kept.

    Attributes
    ----------
    features : Features
        The features.
    decisions : tuple of str
        ``keep``, ``reject`` or ``single`` for the first features, in their order.
    """

    features: Features
    decisions: tuple[str, ...] = ()

    def decided(self, decision: str) -> Verdicts:
        """Add the decision about the next feature."""
        return replace(self, decisions=(*self.decisions, decision))

    def undone(self) -> Verdicts:
        """Take back the last decision."""
        return replace(self, decisions=self.decisions[:-1])

    @property
    def number(self) -> int:
        """Number of the next feature."""
        return len(self.decisions) + 1

    def counts(self) -> str:
        """Count the features with each decision, in words."""
        return ", ".join(
            f"{self.decisions.count(decision)} {text}" for decision, text in _DECISIONS.items()
        )

    def pixels(self, decision: str) -> list[tuple[int, int]]:
        """Pixels (x, y, FITS) of the features with a given decision."""
        numbers = [i for i, made in enumerate(self.decisions, start=1) if made == decision]
        some = np.isin(self.features.label, numbers)
        pairs = np.column_stack([self.features.x[some] + 1, self.features.y[some] + 1])
        return [tuple(pair) for pair in pairs.tolist()]

    def applied(self, parameters: Parameters) -> Parameters:
        """Make parameters with which the rejected features are not flagged.

        Masks depend on the parameters alone. Hence pixels that were flagged only because of a
        rejected pixel, by dilation for example, are not flagged any more, either.
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
    """Show the features one by one; return parameters without those that a person rejects.

    Parameters
    ----------
    detection : Detection
        The result with all features.
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
    images = _images(detection, stack)
    rows, columns = rows_and_columns(len(images))
    figure = new_figure(_PANEL_IN * columns, _PANEL_IN * rows + _TEXTS_IN)
    with open_window(figure, _TITLE, VERIFY) as window:
        view = _View(window, detection, images)
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


def _images(detection: Detection, stack: Stack) -> dict[str, np.ndarray]:
    """Images that are shown around a feature, by their titles."""
    general, statistics = detection.parameters.general, detection.statistics
    filling = detection.auxclean if general.use_auxmedian else statistics.min2d
    images = {f"exposure {i}": image for i, image in enumerate(stack.exposures, start=1)}
    corrected = np.where(detection.codes > 0, filling, statistics.median2d)
    return images | {
        "median2d": statistics.median2d,
        "median2d without MEDIANCR": corrected,
        "mean2d": statistics.mean2d,
    }


class _View:
    """Panels around a feature: they are made once, and get the data of one feature after another.

    Parameters
    ----------
    window : Window
        The window that shows them.
    detection : Detection
        The result with all features.
    images : dict of arrays
        Images by their titles.
    """

    def __init__(self, window: Window, detection: Detection, images: dict[str, np.ndarray]):
        self.window, self.images = window, images
        self.features, self.shape = list(detection.features), detection.codes.shape
        general = detection.parameters.general
        self.scale, self.semiwindow = general.color_scale, general.semiwindow
        self.classes = class_labels(detection)
        axes = window.figure.subplots(*rows_and_columns(len(images)), squeeze=False).ravel()
        for ax in axes[len(images) :]:
            ax.set_visible(False)
        self.panels = dict(zip(images, axes, strict=False))
        self.drawn = {
            name: ax.imshow([[0.0]], cmap=grey_map(), origin="lower", interpolation="nearest")
            for name, ax in self.panels.items()
        }
        self.marks: list[Artist] = []
        _explain(window, code_labels(detection))

    def show(self, verdicts: Verdicts) -> None:
        """Show the next feature."""
        feature = self.features[verdicts.number - 1]
        around = Surroundings.around(feature, self.semiwindow, self.shape)
        shown = {name: around.cut(image) for name, image in self.images.items()}
        # All images have the same grey levels, so that they can be compared.
        low, high = grey_limits(shown["median2d"], self.scale)
        for name, drawn in self.drawn.items():
            drawn.set(data=shown[name], extent=around.extent, clim=(low, high))
            drawn.axes.set(xlim=around.extent[:2], ylim=around.extent[2:])
            drawn.axes.set_title(name, fontsize="medium")
        self._mark(feature, around)
        self.window.figure.suptitle(
            f"feature {feature.number} of {len(self.features)}, "
            f"{self.classes[feature.class_name]}: {feature.x.size} pixels\n{verdicts.counts()}"
        )
        self.window.show()
        self.window.settle()

    def _mark(self, feature: Feature, around: Surroundings) -> None:
        """Mark the codes of a feature in the median, and draw its outline on all images."""
        for mark in self.marks:
            mark.remove()
        self.marks = _mark_codes(self.panels["median2d"], feature)
        line = around.outline(around.holds(feature))
        for ax in self.panels.values():
            self.marks += ax.plot(*line, color=VERMILLION, scalex=False, scaley=False)


def _explain(window: Window, labels: dict[int, str]) -> None:
    """Write the keys and the meaning of the marks below the panels."""
    handles = [
        Line2D([], [], label=label, markersize=6, **_style(code)) for code, label in labels.items()
    ]
    window.figure.legend(
        handles=handles,
        title=hint(VERIFY, _HINTS),
        loc="outside lower center",
        ncols=2,
        frameon=False,
        fontsize="small",
        title_fontsize="small",
    )


def _style(code: int) -> dict[str, object]:
    """Style of the mark of a code."""
    look = LOOKS[code]
    edge = {"markeredgecolor": "k", "markeredgewidth": 0.4, "linestyle": "none"}
    return {"marker": look.marker, "markerfacecolor": look.color} | edge


def _mark_codes(ax: Axes, feature: Feature) -> list[Artist]:
    """Mark the pixels of a feature by their codes; marks are small and leave the pixels visible."""
    marks: list[Artist] = []
    for code in LOOKS:
        some = feature.code == code
        x, y = feature.x[some] + 1, feature.y[some] + 1
        marks += ax.plot(x, y, markersize=3, scalex=False, scaley=False, **_style(code))
    return marks
