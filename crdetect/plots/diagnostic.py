"""Figures of a mask: its pixels and features in the diagram, and on the images."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
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
from crdetect.stack import Statistics, row_blocks

MOST_NUMBERS = 150
"""Features that get their number in the figure."""

_PANEL_WIDTH_IN = 7.5
_IMAGE_WIDTH_PT = 440.0  # what of a panel an image fills, without labels
_PLANES_IN = 6.3  # height of the panels of the diagram, with title and legend
_LEAST_DOT_PT = 1.5  # a pixel of a large image would be too small to be seen
_MOST_DOTS = 20000  # pixels beyond the diagram drawn one by one
_SAMPLE = 1 << 20  # pixels that tell the height of a diagram without simulations
_LINEAR_UP_TO = 2.0  # heights of the diagram; beyond, y is logarithmic above the diagram
_LOG_COLOR = "#F3EFE6"


def mediancr(detection: Detection) -> Figure:
    """Draw what is flagged in MEDIANCR: in the diagram, numbered, and on median2d and mean2d.

    Parameters
    ----------
    detection : Detection
        What a run found, with or without M.M.Cosmic.

    Returns
    -------
    matplotlib.figure.Figure
    """
    statistics, codes = detection.statistics, detection.codes
    shown = [
        Shown("(c) median2d", statistics.median2d, codes),
        Shown("(d) mean2d", statistics.mean2d, codes),
    ]
    return _draw_mask(detection, subject_mediancr(detection), shown)


def meancr(detection: Detection, meancr_adu: np.ndarray) -> Figure:
    """Draw what is flagged in MEANCRT, and what the detector still finds in meancr.

    Parameters
    ----------
    detection : Detection
        What a run found, with or without M.M.Cosmic.
    meancr_adu : (rows, columns) array
        The combination meancr.

    Returns
    -------
    matplotlib.figure.Figure
    """
    masks, mean2d = detection.masks, detection.statistics.mean2d
    codes = detection.hits.mean.codes(masks.meancrt)
    codes = np.where(codes == ADDED, np.maximum(detection.codes, codes), codes)
    left = np.where(masks.meancr, np.uint8(AUX_ONLY), np.uint8(0))
    title = f"(d) meancr with MEANCR, which the detector still finds: {masks.meancr.sum()} px"
    shown = [Shown("(c) mean2d", mean2d, codes), Shown(title, meancr_adu, left)]
    return _draw_mask(detection, Subject("MEANCRT", "mean2d", mean2d, codes), shown)


def crmask(detection: Detection, number: int) -> Figure:
    """Draw what is flagged in one exposure.

    Parameters
    ----------
    detection : Detection
        What a run found, with or without M.M.Cosmic.
    number : int
        Of the exposure, from 1.

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
    return _draw_mask(detection, Subject(mask, name, exposure, codes), shown)


# ---------------------------------------------------------------------------------------------
# What is drawn


@by_value
@dataclass(frozen=True)
class Subject:
    """A mask, and the image it belongs to.

    Attributes
    ----------
    mask_name, image_name : str
        What to call them.
    image_adu : (rows, columns) array
        The image that is compared with min2d.
    codes : (rows, columns) array of uint8
        Codes of the pixels of the mask, 0 outside.
    numbers : str
        What the numbers of its features are called.
    """

    mask_name: str
    image_name: str
    image_adu: np.ndarray
    codes: np.ndarray
    numbers: str = "number"


def subject_mediancr(detection: Detection) -> Subject:
    """MEDIANCR and median2d."""
    return Subject(
        "MEDIANCR", "median2d", detection.statistics.median2d, detection.codes, "CR_number"
    )


@by_value
@dataclass(frozen=True)
class Shown:
    """An image to be shown, and the codes of the pixels marked on it."""

    title: str
    image_adu: np.ndarray
    codes: np.ndarray


def _draw_mask(detection: Detection, subject: Subject, shown: list[Shown]) -> Figure:
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
    _draw_flagged(pixels, x, flagged.height_adu, flagged, _crowding(x.size))
    pixels.set_title("(a) Flagged pixels", fontsize="medium")
    for ax, image in zip(lower.subplots(1, 2), shown, strict=True):
        draw_image(ax, image.image_adu, detection.parameters.general.color_scale, image.title)
        _mark_pixels(ax, image.codes)
    _add_legend(upper, pixels, plane, flagged, detection.statistics)
    upper.suptitle(_title(detection, subject, flagged.features))
    _draw_features(features, x, flagged, subject.numbers)
    return figure


def _title(detection: Detection, subject: Subject, features: Features) -> str:
    counts = features.counts()
    listing = ", ".join(f"{name} {n}" for name, n in counts.items())
    return (
        f"{subject.mask_name} by {detection.parameters.general.crmethod}. "
        f"Flagged pixels: {features.label.size}; features: {sum(counts.values())} ({listing})"
    )


@by_value
@dataclass(frozen=True)
class Flagged:
    """Flagged pixels, sorted by feature, and where they are in the diagram."""

    features: Features
    x_adu: np.ndarray
    height_adu: np.ndarray

    @classmethod
    def of(cls, subject: Subject, statistics: Statistics) -> Flagged:
        """Take the pixels of a mask."""
        features = Features.of(subject.codes)
        where = features.y, features.x
        x = statistics.min2d[where]
        # a missing exposure can be masked where the others are
        return cls(features, x, np.nan_to_num(subject.image_adu[where] - x, nan=0.0))

    def peaks(self) -> np.ndarray:
        """Index of the highest pixel of each feature, in the order of the features."""
        label = self.features.label
        order = np.lexsort((self.height_adu, label))
        return order[np.flatnonzero(np.diff(label[order], append=0))]


@by_value
@dataclass(frozen=True)
class Plane:
    """The diagram of a mask: pixels that are not flagged, boundary and threshold.

    Attributes
    ----------
    limits : Limits
        Of the diagram; flagged pixels may be far above.
    counts : (BINS, BINS) array of int
        Pixels that are not flagged.
    beyond_x, beyond_y : arrays
        Those of them above the diagram, ADU; when there are many, not all.
    beyond_total : int
        How many there are above it.
    top_adu : float
        Height of the highest pixel.
    criterion : DiagramCriterion or None
        None where M.M.Cosmic took no part.
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
        """Make the diagram of a mask."""
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
        """Draw how many pixels are not flagged, and each of them above the diagram."""
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
        """Draw boundary and threshold, where there are any."""
        if self.criterion is not None:
            draw_criterion(ax, self.limits, self.criterion)

    def set_scales(self, ax: Axes) -> None:
        """Set limits; where cosmic rays are far above the diagram, y is logarithmic there."""
        limits, top = self.limits, self.top_adu
        margin = 0.02 * (limits.xmax - limits.xmin)
        ax.set_xlim(limits.xmin - margin, limits.xmax + margin)
        if top <= _LINEAR_UP_TO * limits.ymax:
            ax.set_ylim(-0.02 * limits.ymax, max(limits.ymax, 1.05 * top))
            return
        decades = np.log10(1.3 * top / limits.ymax)
        linear = max(1.0, 1.5 * decades)  # the height of the linear part, in decades
        # matplotlib multiplies linscale by 1 / (1 − 1/base) to have decades
        ax.set_yscale("symlog", linthresh=limits.ymax, linscale=0.9 * linear)
        ax.set_ylim(-0.02 * limits.ymax, 1.3 * top)
        ax.axhspan(limits.ymax, 1.3 * top, color=_LOG_COLOR, zorder=0, linewidth=0)
        _set_ticks(ax, limits.ymax, 1.3 * top)


def _set_ticks(ax: Axes, ymax: float, top: float) -> None:
    """Set the ticks of a scale that is logarithmic above ymax."""
    ticks = MaxNLocator(5).tick_values(0, ymax)
    powers = 10.0 ** np.arange(np.floor(np.log10(ymax)), np.ceil(np.log10(top)) + 1)
    steps = np.outer(powers, [1, 2, 5] if top < 10**1.5 * ymax else [1]).ravel()
    linear = ticks[(ticks >= 0) & (ticks <= ymax)]
    ax.yaxis.set_major_locator(FixedLocator([*linear, *_above(steps, ymax)]))
    ax.yaxis.set_minor_locator(FixedLocator(_above(np.outer(powers, range(2, 10)), ymax)))
    ax.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))


def _above(values: np.ndarray, height: float) -> np.ndarray:
    # not so near that its label would touch the last one of the linear part
    return values[values > 1.1 * height]


def _limits_of(min2d: np.ndarray, image: np.ndarray, clean: np.ndarray) -> Limits:
    """Limits for a run without simulations: twice the height of nearly all clean pixels."""
    xmin = float(min2d.min(initial=np.inf, where=clean))
    if not np.isfinite(xmin):  # nothing is clean
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

    with ThreadPoolExecutor() as pool:
        return sum(pool.map(count_rows, row_blocks(clean.shape)))


def _beyond(
    min2d: np.ndarray, image: np.ndarray, clean: np.ndarray, height_adu: float
) -> tuple[np.ndarray, np.ndarray]:
    """Clean pixels above a height: their places in the diagram."""

    def rows_beyond(rows: slice) -> tuple[np.ndarray, np.ndarray]:
        height = image[rows] - min2d[rows]
        some = clean[rows] & (height > height_adu)
        return min2d[rows][some], height[some]

    with ThreadPoolExecutor() as pool:
        x, y = zip(*pool.map(rows_beyond, row_blocks(clean.shape)), strict=True)
    return np.concatenate(x), np.concatenate(y)


def _inside(x_adu: np.ndarray, limits: Limits) -> np.ndarray:
    """Bring what lies beside the diagram to its edge."""
    return np.clip(x_adu, limits.xmin, limits.xmax)


# ---------------------------------------------------------------------------------------------
# Panels


def _crowding(n: int) -> float:
    """Factor of the size of n markers."""
    return float(np.clip((500 / max(n, 1)) ** 0.25, 0.5, 1))


def _draw_flagged(
    ax: Axes, x: np.ndarray, y: np.ndarray, flagged: Flagged, crowding: float
) -> None:
    """Draw the pixels of each code in its look."""
    for code, look in LOOKS.items():
        some = flagged.features.code == code
        ax.plot(
            x[some],
            y[some],
            linestyle="none",
            marker=look.marker,
            markersize=look.size * crowding,
            markerfacecolor=look.color,
            markeredgecolor="k",
            markeredgewidth=0.3 if crowding == 1 else 0,
            label=f"{look.label}: {np.count_nonzero(some)}",
            zorder=5,
        )


def _draw_features(ax: Axes, x: np.ndarray, flagged: Flagged, numbers: str) -> None:
    """Draw the highest pixel of each feature, and the number of the highest features."""
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
    ax.set_title(f"(b) Features by {numbers}, at their highest pixel", fontsize="medium")
    # features count from 1 in the order of the peaks
    written = number_points(ax, x[order], y[order], order + 1, MOST_NUMBERS)
    if written < peaks.size:
        title = f"(b) The highest features: {written} of {peaks.size} with {numbers}"
        ax.set_title(title, fontsize="medium")


def _mark_pixels(ax: Axes, codes: np.ndarray) -> None:
    """Mark the pixels of each code on an image, as large as they are where that can be seen."""
    size = max(_LEAST_DOT_PT, _IMAGE_WIDTH_PT / max(codes.shape))
    for code, look in LOOKS.items():
        y, x = np.nonzero(codes == code)
        ax.plot(
            x + 1,
            y + 1,
            linestyle="none",
            marker="s",
            markersize=size,
            color=look.color,
            markeredgewidth=0,
            label=f"{look.label}: {x.size}",
            zorder=5,
        )


def _add_legend(
    figure: SubFigure,
    pixels: Axes,
    plane: Plane,
    flagged: Flagged,
    statistics: Statistics,
) -> None:
    """Explain all panels at once, below them: inside, a legend would hide data."""
    handles = [_as_legend(handle) for handle in pixels.get_legend_handles_labels()[0]]
    handles.append(Patch(color="0.6", label=f"not flagged: {int(plane.counts.sum())}"))
    if plane.beyond_total:
        beyond = f"not flagged, above the diagram: {plane.beyond_total}"
        handles.append(_no_line(marker=".", color="0.55", label=beyond))
    if pixels.get_yscale() != "linear":
        handles.append(Patch(facecolor=_LOG_COLOR, edgecolor="0.7", label="y is logarithmic"))
    outside = np.count_nonzero(flagged.x_adu != _inside(flagged.x_adu, plane.limits))
    if outside:
        handles.append(_no_line(label=f"{outside} flagged beside the diagram, drawn at its edge"))
    if not statistics.count2d.all():
        handles.append(Patch(color=MISSING_COLOR, label="no value"))
    figure.legend(
        handles=handles, loc="outside lower center", ncols=5, frameon=False, fontsize="small"
    )


def _as_legend(line: Line2D) -> Line2D:
    """Copy what a legend shows of a line, with a marker large enough to tell its shape."""
    copy = Line2D([], [])
    copy.update_from(line)
    copy.set(markersize=6, markeredgewidth=0.3, label=line.get_label())
    return copy


def _no_line(**properties) -> Line2D:
    return Line2D([], [], linestyle="none", **properties)
