"""Figures of a mask: its pixels and features in the Median-Minimum diagram, and on images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, MaxNLocator, StrMethodFormatter

from crdetect.equality import by_value
from crdetect.masks import ADDED, AUX_ONLY, CLASSES, Features
from crdetect.mm.criterion import DiagramCriterion
from crdetect.mm.diagram import Limits
from crdetect.pipeline import Detection
from crdetect.plots.images import MISSING_COLOR, draw_image, images_height_in
from crdetect.plots.labels import number_points
from crdetect.plots.plane import draw_criterion, draw_density, name_axes
from crdetect.plots.style import (
    CLASS_CODES,
    LOOKS,
    Y_LABEL,
    count_norm,
    grey_density_map,
    new_figure,
)
from crdetect.plots.words import MEANCRT, MEDIANCR, class_counts, code_labels, crmask_meaning
from crdetect.stack import Statistics, for_row_blocks

MOST_NUMBERS = 150
"""Largest number of features whose numbers are written into a figure: more are hard to read."""

# Sizes were chosen by eye.
_PANEL_WIDTH_IN = 7.5  # width of a panel, inches
_IMAGE_WIDTH_PT = 440.0  # width of the image in a panel, without labels and colour bar, points
_PLANES_IN = 6.5  # height of the two diagrams, with title and legend, inches
_LEAST_DOT_PT = 1.5  # smallest size of the mark of a pixel, points: pixels of large images vanish
_MOST_DOTS = 20000  # largest number of pixels above the diagram that are drawn one by one
_SAMPLE = 1 << 20  # number of pixels from which the height of a diagram is estimated
# Largest height of a pixel, in heights of the diagram, for which the whole axis is linear. Where
# there is a higher one, the axis is logarithmic above the diagram.
_LINEAR_UP_TO = 2.0
_LOG_COLOR = "#F3EFE6"  # background of the part where the axis is logarithmic


def mediancr(detection: Detection, foot: str = "") -> Figure:
    """Draw the pixels and features of MEDIANCR in the diagram, and on median2d and mean2d.

    Parameters
    ----------
    detection : Detection
        The result of a run, with any crmethod.
    foot : str, optional
        Line at the foot of the figure.

    Returns
    -------
    matplotlib.figure.Figure
    """
    statistics, codes = detection.statistics, detection.codes
    shown = [
        Shown("(c) median2d", statistics.median2d, codes),
        Shown("(d) mean2d", statistics.mean2d, codes),
    ]
    return _draw_mask(detection, subject_mediancr(detection), shown, foot)


def meancr(detection: Detection, meancr_adu: np.ndarray) -> Figure:
    """Draw the pixels and features of MEANCRT, and what the detector still finds in meancr.

    Parameters
    ----------
    detection : Detection
        The result of a run, with any crmethod.
    meancr_adu : (rows, columns) array
        The combined image meancr, in which MEANCR was found.

    Returns
    -------
    matplotlib.figure.Figure
    """
    masks, mean2d = detection.masks, detection.statistics.mean2d
    codes = detection.hits.mean.codes(masks.meancrt)
    codes = np.where(codes == ADDED, np.maximum(detection.codes, codes), codes)
    left = np.where(masks.meancr, np.uint8(AUX_ONLY), np.uint8(0))
    title = f"(d) meancr, and what the detector still finds in it (MEANCR): {masks.meancr.sum()} px"
    if detection.parameters.general.detector is None:
        title = "(d) meancr, where no detector looks for more: MEANCR is empty"
    shown = [Shown("(c) mean2d", mean2d, codes), Shown(title, meancr_adu, left)]
    return _draw_mask(detection, Subject("MEANCRT", MEANCRT, "mean2d", mean2d, codes), shown)


def crmask(detection: Detection, number: int) -> Figure:
    """Draw the pixels and features of the mask of one exposure.

    Parameters
    ----------
    detection : Detection
        The result of a run, with any crmethod.
    number : int
        Number of the exposure, from 1.

    Returns
    -------
    matplotlib.figure.Figure
    """
    exposure = detection.observation.stack.exposures[number - 1]
    codes = detection.hits.exposures[number - 1].codes(detection.masks.crmasks[number - 1])
    name, mask = f"exposure {number}", f"CRMASK{number}"
    shown = [
        Shown(f"(c) {name}", exposure, np.zeros_like(codes)),
        Shown(f"(d) {name} with {mask}", exposure, codes),
    ]
    subject = Subject(mask, crmask_meaning(number), name, exposure, codes)
    return _draw_mask(detection, subject, shown)


# ---------------------------------------------------------------------------------------------
# What is drawn


@by_value
@dataclass(frozen=True)
class Subject:
    """The mask that a figure is about, and the image it belongs to.

    Attributes
    ----------
    mask_name : str
        Name of the mask.
    meaning : str
        What it means that a pixel belongs to the mask.
    image_name : str
        Name of the image.
    image_adu : (rows, columns) array
        The image; its height above min2d is drawn.
    codes : (rows, columns) array of uint8
        Codes of the pixels of the mask, 0 outside.
    numbers : str
        Name of the numbers of its features.
    """

    mask_name: str
    meaning: str
    image_name: str
    image_adu: np.ndarray
    codes: np.ndarray
    numbers: str = "number"


def subject_mediancr(detection: Detection) -> Subject:
    """MEDIANCR and median2d as the subject of a figure."""
    median2d = detection.statistics.median2d
    return Subject("MEDIANCR", MEDIANCR, "median2d", median2d, detection.codes, "CR_number")


@by_value
@dataclass(frozen=True)
class Shown:
    """An image below the diagrams, its title, and the codes of the pixels marked on it."""

    title: str
    image_adu: np.ndarray
    codes: np.ndarray


def _draw_mask(
    detection: Detection, subject: Subject, shown: list[Shown], foot: str = ""
) -> Figure:
    flagged = Flagged.of(subject, detection.statistics)
    plane = Plane.of(detection, subject, flagged)
    images_in = images_height_in(subject.codes.shape, _PANEL_WIDTH_IN)
    figure = new_figure(2 * _PANEL_WIDTH_IN, _PLANES_IN + images_in)
    upper, lower = figure.subfigures(2, 1, height_ratios=[_PLANES_IN, images_in])
    pixels, features = upper.subplots(1, 2)
    y_label = Y_LABEL.replace("median2d", subject.image_name)
    for ax in (pixels, features):
        plane.set_scales(ax)
        plane.draw_density(ax)
        plane.draw_criterion(ax)
        name_axes(ax, "", y_label)
    x = _inside(flagged.x_adu, plane.limits)
    labels = code_labels(detection)
    _draw_flagged(pixels, x, flagged, labels)
    pixels.set_title("(a) Flagged pixels", fontsize="medium")
    for ax, image in zip(lower.subplots(1, 2), shown, strict=True):
        draw_image(ax, image.image_adu, detection.parameters.general.color_scale, image.title)
        _mark_pixels(ax, image.codes, labels)
    if foot:
        lower.supxlabel(foot, fontsize="small")
    _add_legend(upper, pixels, plane, flagged, detection.statistics)
    upper.suptitle(_title(detection, subject, flagged.features))
    _draw_features(features, x, flagged, subject.numbers)
    return figure


def _title(detection: Detection, subject: Subject, features: Features) -> str:
    total = len(features)
    title = (
        f"{subject.mask_name} by {detection.parameters.general.crmethod}: pixels "
        f"{subject.meaning}. Flagged pixels: {features.label.size}; features: {total}"
    )
    return f"{title}\nFeatures {class_counts(detection, features)}" if total else title


@by_value
@dataclass(frozen=True)
class Flagged:
    """Flagged pixels of a mask, sorted by feature, and their places in the diagram.

    Attributes
    ----------
    features : Features
        The pixels.
    x_adu, height_adu : arrays
        Value in min2d of each pixel, and its height above that in the image of the mask.
    """

    features: Features
    x_adu: np.ndarray
    height_adu: np.ndarray

    @classmethod
    def of(cls, subject: Subject, statistics: Statistics) -> Flagged:
        """Take the pixels of a mask."""
        features = Features.of(subject.codes)
        where = features.y, features.x
        x = statistics.min2d[where]
        # A pixel without a value in an exposure may be masked there; its height is drawn as 0.
        return cls(features, x, np.nan_to_num(subject.image_adu[where] - x, nan=0.0))

    def peaks(self) -> np.ndarray:
        """Index of the highest pixel of each feature, in the order of the features."""
        label = self.features.label
        order = np.lexsort((self.height_adu, label))
        return order[np.flatnonzero(np.diff(label[order], append=0))]


@by_value
@dataclass(frozen=True)
class Plane:
    """Density of the pixels that are not flagged in the diagram of a mask, and its limits.

    Attributes
    ----------
    limits : Limits
        Limits of the bins; flagged pixels may be far above.
    counts : (BINS, BINS) array of int
        Number of pixels in each bin that are not flagged.
    beyond_x, beyond_y : arrays
        Places of those of them that are above the bins, ADU; a sample where there are many.
    beyond_total : int
        Number of pixels above the bins that are not flagged.
    top_adu : float
        Height of the highest pixel, flagged or not.
    criterion : DiagramCriterion or None
        Boundary and threshold; None where M.M.Cosmic took no part.
    """

    limits: Limits
    counts: np.ndarray
    beyond_x: np.ndarray
    beyond_y: np.ndarray
    beyond_total: int
    top_adu: float
    criterion: DiagramCriterion | None

    @classmethod
    def of(cls, detection: Detection, subject: Subject, flagged: Flagged) -> Plane:
        """Count the pixels that are not flagged in the bins of the diagram."""
        min2d, image = detection.statistics.min2d, subject.image_adu
        clean = detection.statistics.detectable & (subject.codes == 0) & ~np.isnan(image)
        diagram = detection.diagram
        limits = _limits_of(min2d, image, clean) if diagram is None else diagram.real.limits
        counts = _count(min2d, image, clean, limits)
        x, y = _beyond(min2d, image, clean, limits.ymax)
        top = max(float(heights.max(initial=0)) for heights in (y, flagged.height_adu))
        step = max(1, -(-x.size // _MOST_DOTS))
        x, y, total = _inside(x, limits)[::step], y[::step], x.size
        criterion = None if diagram is None else diagram.criterion
        return cls(limits, counts, x, y, total, top, criterion)

    def draw_density(self, ax: Axes) -> None:
        """Draw the density of the pixels that are not flagged, and each one above the bins."""
        draw_density(ax, self.limits, self.counts, count_norm(1.0, self.counts), grey_density_map())
        ax.plot(
            self.beyond_x,
            self.beyond_y,
            linestyle="none",
            marker=".",
            markersize=2,
            color="0.55",
            zorder=2,
        )

    def draw_criterion(self, ax: Axes) -> None:
        """Draw boundary and threshold, where the run has a Median-Minimum diagram."""
        if self.criterion is not None:
            draw_criterion(ax, self.limits, self.criterion)

    def set_scales(self, ax: Axes) -> None:
        """Set the limits of a panel; y is logarithmic above the bins if pixels are far above."""
        limits, top = self.limits, self.top_adu
        margin = 0.02 * (limits.xmax - limits.xmin)
        ax.set_xlim(limits.xmin - margin, limits.xmax + margin)
        if top <= _LINEAR_UP_TO * limits.ymax:
            ax.set_ylim(-0.02 * limits.ymax, max(limits.ymax, 1.05 * top))
            return
        decades = np.log10(1.3 * top / limits.ymax)
        linear = max(1.0, 1.5 * decades)  # height of the linear part on paper, in decades
        # matplotlib divides linscale by 1 − 1/base = 0.9 to get decades
        ax.set_yscale("symlog", linthresh=limits.ymax, linscale=0.9 * linear)
        ax.set_ylim(-0.02 * limits.ymax, 1.3 * top)
        ax.axhspan(limits.ymax, 1.3 * top, color=_LOG_COLOR, zorder=0, linewidth=0)
        _set_ticks(ax, limits.ymax, 1.3 * top)


def _set_ticks(ax: Axes, ymax: float, top: float) -> None:
    """Set the ticks of an axis that is logarithmic above ymax."""
    ticks = MaxNLocator(5).tick_values(0, ymax)
    powers = 10.0 ** np.arange(np.floor(np.log10(ymax)), np.ceil(np.log10(top)) + 1)
    steps = np.outer(powers, [1, 2, 5] if top < 10**1.5 * ymax else [1]).ravel()
    linear = ticks[(ticks >= 0) & (ticks <= ymax)]
    ax.yaxis.set_major_locator(FixedLocator([*linear, *_above(steps, ymax)]))
    ax.yaxis.set_minor_locator(FixedLocator(_above(np.outer(powers, range(2, 10)), ymax)))
    ax.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))


def _above(values: np.ndarray, height: float) -> np.ndarray:
    # The label of a lower tick would touch the last label of the linear part.
    return values[values > 1.1 * height]


def _limits_of(min2d: np.ndarray, image: np.ndarray, clean: np.ndarray) -> Limits:
    """Limits of the bins for a run without a diagram: twice the height of 99.9 % of the pixels."""
    xmin = float(min2d.min(initial=np.inf, where=clean))
    if not np.isfinite(xmin):  # all pixels are flagged
        return Limits(0.0, 1.0, 1.0)
    xmax = float(min2d.max(initial=-np.inf, where=clean))
    step = max(1, clean.size // _SAMPLE)
    some = clean.ravel()[::step]
    height = (image.ravel()[::step] - min2d.ravel()[::step])[some]
    ymax = 2 * float(np.quantile(height, 0.999)) if height.size else 0.0
    return Limits(xmin, xmax if xmax > xmin else xmin + 1, ymax or 1.0)


def _count(min2d: np.ndarray, image: np.ndarray, clean: np.ndarray, limits: Limits) -> np.ndarray:
    def count_rows(rows: slice) -> np.ndarray:
        x = min2d[rows][clean[rows]]
        return limits.count(x, image[rows][clean[rows]] - x)

    return sum(for_row_blocks(count_rows, clean.shape))


def _beyond(
    min2d: np.ndarray, image: np.ndarray, clean: np.ndarray, height_adu: float
) -> tuple[np.ndarray, np.ndarray]:
    """Find the places in the diagram of the clean pixels above a height."""

    def rows_beyond(rows: slice) -> tuple[np.ndarray, np.ndarray]:
        height = image[rows] - min2d[rows]
        some = clean[rows] & (height > height_adu)
        return min2d[rows][some], height[some]

    x, y = zip(*for_row_blocks(rows_beyond, clean.shape), strict=True)
    return np.concatenate(x), np.concatenate(y)


def _inside(x_adu: np.ndarray, limits: Limits) -> np.ndarray:
    """Move pixels to the left or right of the diagram to its edge."""
    return np.clip(x_adu, limits.xmin, limits.xmax)


# ---------------------------------------------------------------------------------------------
# Panels


def _crowding(n: int) -> float:
    """Factor of the size of n markers: 1 up to 500 of them, falling to 0.5 for 8000 or more."""
    return float(np.clip((500 / max(n, 1)) ** 0.25, 0.5, 1))


def _draw_flagged(ax: Axes, x: np.ndarray, flagged: Flagged, labels: dict[int, str]) -> None:
    """Draw the flagged pixels with the colour and marker of their codes."""
    crowding = _crowding(x.size)
    for code, label in labels.items():
        look, some = LOOKS[code], flagged.features.code == code
        ax.plot(
            x[some],
            flagged.height_adu[some],
            linestyle="none",
            marker=look.marker,
            markersize=look.size * crowding,
            markerfacecolor=look.color,
            markeredgecolor="k",
            markeredgewidth=0.3 if crowding == 1 else 0,
            label=f"{label}: {np.count_nonzero(some)}",
            zorder=5,
        )


def _draw_features(ax: Axes, x: np.ndarray, flagged: Flagged, numbers: str) -> None:
    """Draw the highest pixel of each feature, and write the numbers of the highest features."""
    peaks, classes = flagged.peaks(), flagged.features.classes
    x, y = x[peaks], flagged.height_adu[peaks]
    order = np.argsort(-y, kind="stable")
    for number, name in enumerate(CLASSES):
        look = LOOKS[CLASS_CODES[name]]
        some = classes == number
        ax.plot(
            x[some],
            y[some],
            linestyle="none",
            marker=look.marker,
            markersize=look.size * _crowding(2 * peaks.size),
            color=look.color,
            markeredgewidth=0,
            zorder=5,
        )
    ax.set_title(f"(b) Features at their highest pixel, with {numbers}", fontsize="medium")
    # The peaks are in the order of the features, whose numbers begin with 1.
    written = number_points(ax, x[order], y[order], order + 1, MOST_NUMBERS)
    if written < peaks.size:
        title = f"(b) Features at their highest pixel, {written} of {peaks.size} with {numbers}"
        ax.set_title(title, fontsize="medium")


def _mark_pixels(ax: Axes, codes: np.ndarray, labels: dict[int, str]) -> None:
    """Mark the pixels of each code on an image, in their own size unless that is too small."""
    size = max(_LEAST_DOT_PT, _IMAGE_WIDTH_PT / max(codes.shape))
    for code, label in labels.items():
        y, x = np.nonzero(codes == code)
        ax.plot(
            x + 1,
            y + 1,
            linestyle="none",
            marker="s",
            markersize=size,
            color=LOOKS[code].color,
            markeredgewidth=0,
            label=f"{label}: {x.size}",
            zorder=5,
        )


def _add_legend(
    figure: SubFigure,
    pixels: Axes,
    plane: Plane,
    flagged: Flagged,
    statistics: Statistics,
) -> None:
    """Add one legend for all panels, below the diagrams: inside it would hide data."""
    handles = [_as_legend(handle) for handle in pixels.get_legend_handles_labels()[0]]
    handles.append(Patch(color="0.6", label=f"not flagged: {int(plane.counts.sum())}"))
    if plane.beyond_total:
        beyond = f"not flagged, above the diagram: {plane.beyond_total}"
        handles.append(_no_line(marker=".", color="0.55", label=beyond))
    if pixels.get_yscale() != "linear":
        handles.append(Patch(facecolor=_LOG_COLOR, edgecolor="0.7", label="y is logarithmic"))
    outside = np.count_nonzero(flagged.x_adu != _inside(flagged.x_adu, plane.limits))
    if outside:
        text = f"{outside} flagged beside the diagram, drawn at its edge"
        handles.append(_no_line(label=text))
    if not statistics.count2d.all():
        handles.append(Patch(color=MISSING_COLOR, label="no value"))
    figure.legend(
        handles=handles, loc="outside lower center", ncols=4, frameon=False, fontsize="small"
    )


def _as_legend(line: Line2D) -> Line2D:
    """Copy a line for the legend, with a marker that is large enough to be recognised."""
    copy = Line2D([], [])
    copy.update_from(line)
    copy.set(markersize=6, markeredgewidth=0.3, label=line.get_label())
    return copy


def _no_line(**properties) -> Line2D:
    return Line2D([], [], linestyle="none", **properties)
