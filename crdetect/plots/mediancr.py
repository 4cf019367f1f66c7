"""Figure of MEDIANCR: its pixels and features in the diagram, and on the images."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, MaxNLocator, StrMethodFormatter

from crdetect.masks import CLASSES, Features
from crdetect.mm.diagram import Limits
from crdetect.pipeline import Detection
from crdetect.plots.images import MISSING_COLOR, draw_image, images_height_in
from crdetect.plots.labels import number_points
from crdetect.plots.plane import draw_criterion, draw_density, name_axes
from crdetect.plots.style import (
    CLASS_CODES,
    LOOKS,
    count_norm,
    grey_density_map,
    new_figure,
)
from crdetect.stack import Statistics, row_blocks

MOST_NUMBERS = 150
"""Features that get their number in the figure."""

_PANEL_WIDTH_IN = 7.5
_PLANES_IN = 6.5  # height of the panels of the diagram, with title and legend
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
    flagged = _Flagged.of(detection)
    background = _background_of(detection, flagged)
    images_in = images_height_in(detection.codes.shape, _PANEL_WIDTH_IN)
    figure = new_figure(2 * _PANEL_WIDTH_IN, _PLANES_IN + images_in)
    upper, lower = figure.subfigures(2, 1, height_ratios=[_PLANES_IN, images_in])
    pixels, features = upper.subplots(1, 2)
    for ax in (pixels, features):
        _draw_plane(ax, detection, background, flagged)
    x = _inside(flagged.x_adu, background.limits)
    _draw_flagged(pixels, x, flagged.height_adu, flagged, _crowding(x.size))
    name_axes(pixels, "(a) Flagged pixels")
    _draw_images(*lower.subplots(1, 2), detection, flagged)
    _add_legend(upper, pixels, background, flagged, detection.statistics)
    upper.suptitle(_title(detection, flagged.features))
    _draw_features(features, x, flagged)
    return figure


def _title(detection: Detection, features: Features) -> str:
    counts = features.counts()
    listing = ", ".join(f"{name} {n}" for name, n in counts.items())
    return (
        f"MEDIANCR by {detection.parameters.general.crmethod}. "
        f"Flagged pixels: {features.label.size}; features: {sum(counts.values())} ({listing})"
    )


# ---------------------------------------------------------------------------------------------
# What is drawn


@dataclass(frozen=True)
class _Flagged:
    """Flagged pixels, sorted by feature, and where they are in the diagram."""

    features: Features
    x_adu: np.ndarray
    height_adu: np.ndarray

    @classmethod
    def of(cls, detection: Detection) -> _Flagged:
        features, statistics = detection.features, detection.statistics
        where = features.y, features.x
        x = statistics.min2d[where]
        return cls(features, x, statistics.median2d[where] - x)

    def peaks(self) -> np.ndarray:
        """Index of the highest pixel of each feature, in the order of the features."""
        label = self.features.label
        order = np.lexsort((self.height_adu, label))
        return order[np.flatnonzero(np.diff(label[order], append=0))]


@dataclass(frozen=True)
class _Background:
    """Pixels that are not flagged: counted in the diagram, and listed where they are above it.

    ``beyond_total`` says how many there are above it; when there are many, not all are listed.
    """

    limits: Limits
    counts: np.ndarray
    beyond_x: np.ndarray
    beyond_y: np.ndarray
    beyond_total: int


def _background_of(detection: Detection, flagged: _Flagged) -> _Background:
    statistics = detection.statistics
    clean = statistics.detectable & (detection.codes == 0)
    if detection.diagram is None:
        limits = _limits_of(statistics, clean)
        counts = _count(statistics, clean, limits)
    else:
        limits = detection.diagram.real.limits
        counts = detection.diagram.real.counts - limits.count(flagged.x_adu, flagged.height_adu)
    x, y = _beyond(statistics, clean, limits.ymax)
    step = max(1, -(-x.size // _MOST_DOTS))
    return _Background(limits, counts, _inside(x, limits)[::step], y[::step], x.size)


def _limits_of(statistics: Statistics, clean: np.ndarray) -> Limits:
    """Limits for a run without simulations: twice the height of nearly all clean pixels."""
    xmin = float(statistics.min2d.min(initial=np.inf, where=clean))
    if not np.isfinite(xmin):  # nothing is clean
        return Limits(0.0, 1.0, 1.0)
    xmax = float(statistics.min2d.max(initial=-np.inf, where=clean))
    step = max(1, clean.size // _SAMPLE)
    some = clean.ravel()[::step]
    height = (statistics.median2d.ravel()[::step] - statistics.min2d.ravel()[::step])[some]
    ymax = 2 * float(np.quantile(height, 0.999)) if height.size else 0.0
    return Limits(xmin, xmax if xmax > xmin else xmin + 1, ymax or 1.0)


def _count(statistics: Statistics, clean: np.ndarray, limits: Limits) -> np.ndarray:
    def count_rows(rows: slice) -> np.ndarray:
        x = statistics.min2d[rows][clean[rows]]
        return limits.count(x, statistics.median2d[rows][clean[rows]] - x)

    with ThreadPoolExecutor() as pool:
        return sum(pool.map(count_rows, row_blocks(clean.shape)))


def _beyond(
    statistics: Statistics, clean: np.ndarray, height_adu: float
) -> tuple[np.ndarray, np.ndarray]:
    """Clean pixels above a height: their places in the diagram."""

    def rows_beyond(rows: slice) -> tuple[np.ndarray, np.ndarray]:
        height = statistics.median2d[rows] - statistics.min2d[rows]
        some = clean[rows] & (height > height_adu)
        return statistics.min2d[rows][some], height[some]

    with ThreadPoolExecutor() as pool:
        x, y = zip(*pool.map(rows_beyond, row_blocks(clean.shape)), strict=True)
    return np.concatenate(x), np.concatenate(y)


def _inside(x_adu: np.ndarray, limits: Limits) -> np.ndarray:
    """Bring what lies beside the diagram to its edge."""
    return np.clip(x_adu, limits.xmin, limits.xmax)


# ---------------------------------------------------------------------------------------------
# Panels


def _draw_plane(ax: Axes, detection: Detection, background: _Background, flagged: _Flagged) -> None:
    """Draw what panels (a) and (b) share: scales, density, boundary and threshold."""
    limits = background.limits
    tops = (heights.max(initial=0) for heights in (flagged.height_adu, background.beyond_y))
    _set_scales(ax, limits, float(max(tops)))
    norm = count_norm(1.0, background.counts)
    draw_density(ax, limits, background.counts, norm, grey_density_map())
    ax.plot(
        background.beyond_x,
        background.beyond_y,
        linestyle="none",
        marker=".",
        markersize=2,
        color="0.55",
        zorder=2,
    )
    if detection.diagram is not None:
        draw_criterion(ax, limits, detection.diagram.criterion)


def _set_scales(ax: Axes, limits: Limits, top: float) -> None:
    """Set limits; where cosmic rays are far above the diagram, y is logarithmic there."""
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
    ticks = MaxNLocator(5).tick_values(0, limits.ymax)
    powers = 10.0 ** np.arange(np.floor(np.log10(limits.ymax)), np.ceil(np.log10(1.3 * top)) + 1)
    steps = np.outer(powers, [1, 2, 5] if decades < 1.5 else [1]).ravel()
    ax.yaxis.set_major_locator(
        FixedLocator([*ticks[(ticks >= 0) & (ticks <= limits.ymax)], *_above(steps, limits.ymax)])
    )
    ax.yaxis.set_minor_locator(FixedLocator(_above(np.outer(powers, range(2, 10)), limits.ymax)))
    ax.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))


def _above(values: np.ndarray, height: float) -> np.ndarray:
    # not so near that its label would touch the last one of the linear part
    return values[values > 1.1 * height]


def _crowding(n: int) -> float:
    """Factor of the size of n markers."""
    return float(np.clip((500 / max(n, 1)) ** 0.25, 0.5, 1))


def _draw_flagged(
    ax: Axes, x: np.ndarray, y: np.ndarray, flagged: _Flagged, crowding: float
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


def _draw_features(ax: Axes, x: np.ndarray, flagged: _Flagged) -> None:
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
    name_axes(ax, "(b) Features by CR_number, at their highest pixel")
    # features count from 1 in the order of the peaks
    written = number_points(ax, x[order], y[order], order + 1, MOST_NUMBERS)
    if written < peaks.size:
        name_axes(ax, f"(b) The highest features: {written} of {peaks.size} with CR_number")


def _draw_images(median: Axes, mean: Axes, detection: Detection, flagged: _Flagged) -> None:
    statistics, scale = detection.statistics, detection.parameters.general.color_scale
    draw_image(median, statistics.median2d, scale, "(c) median2d")
    draw_image(mean, statistics.mean2d, scale, "(d) mean2d")
    for ax in (median, mean):
        _draw_flagged(ax, flagged.features.x + 1, flagged.features.y + 1, flagged, 0.7)


def _add_legend(
    figure: SubFigure,
    pixels: Axes,
    background: _Background,
    flagged: _Flagged,
    statistics: Statistics,
) -> None:
    """Explain all panels at once, below them: inside, a legend would hide data."""
    handles = [_as_legend(handle) for handle in pixels.get_legend_handles_labels()[0]]
    handles.append(Patch(color="0.6", label=f"not flagged: {int(background.counts.sum())}"))
    if background.beyond_total:
        beyond = f"not flagged, above the diagram: {background.beyond_total}"
        handles.append(_no_line(marker=".", color="0.55", label=beyond))
    if pixels.get_yscale() != "linear":
        handles.append(Patch(facecolor=_LOG_COLOR, edgecolor="0.7", label="y is logarithmic"))
    outside = np.count_nonzero(flagged.x_adu != _inside(flagged.x_adu, background.limits))
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
