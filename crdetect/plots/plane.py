"""What is drawn in the plane of the Median-Minimum diagram: density, boundary, threshold."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import Colormap, LogNorm
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from crdetect.mm.boundary import Curve
from crdetect.mm.criterion import DiagramCriterion
from crdetect.mm.diagram import Limits
from crdetect.plots.style import X_LABEL, Y_LABEL

FINAL_COLOR = "#7F0000"  # the dark end of the ramp of rounds
FINAL_LINE = {
    "color": FINAL_COLOR,
    "linewidth": 2.0,
    "path_effects": [withStroke(linewidth=3.6, foreground="w")],  # to be seen on any colour
    "zorder": 4.5,
    "gid": "boundary",
}
"""How the boundary is drawn in all figures."""

_SAMPLES = 501


def sample(curve: Curve, limits: Limits) -> tuple[np.ndarray, np.ndarray]:
    """Sample a curve over the whole width of the diagram, at its knots too.

    The curve itself is asked, so that the figure shows what flags the pixels, constant parts
    included.
    """
    knots = curve.knots[(curve.knots > limits.xmin) & (curve.knots < limits.xmax)]
    x = np.union1d(np.linspace(limits.xmin, limits.xmax, _SAMPLES), knots)
    return x, curve(x)


def draw_density(
    ax: Axes, limits: Limits, counts: np.ndarray, norm: LogNorm, cmap: Colormap
) -> QuadMesh:
    """Draw the counts of a diagram; empty bins stay white."""
    return ax.pcolormesh(
        limits.x_edges, limits.y_edges, np.ma.masked_equal(counts, 0), norm=norm, cmap=cmap
    )


def draw_density_image(
    ax: Axes, limits: Limits, counts: np.ndarray, norm: LogNorm, cmap: Colormap
) -> AxesImage:
    """Draw the counts as an image: much quicker than `draw_density` where pages are written."""
    return ax.imshow(
        np.ma.masked_equal(counts, 0),
        norm=norm,
        cmap=cmap,
        origin="lower",
        extent=(limits.xmin, limits.xmax, 0, limits.ymax),
        interpolation="nearest",
        aspect="auto",
    )


def draw_criterion(ax: Axes, limits: Limits, criterion: DiagramCriterion) -> list[Line2D]:
    """Draw the final boundary and the threshold over the whole width."""
    x, y = sample(criterion.boundary.curve, limits)
    (boundary,) = ax.plot(x, y, label="boundary", **FINAL_LINE)
    threshold, text = typical_threshold(criterion)
    line = ax.axhline(
        threshold,
        color="k",
        linewidth=1.2,
        linestyle=(0, (5, 3)),
        label=text,
        path_effects=[withStroke(linewidth=2.6, foreground="w")],
        zorder=4,
    )
    return [boundary, line]


def typical_threshold(criterion: DiagramCriterion) -> tuple[float, str]:
    """Threshold in ADU (of a map, the median) and what to call it."""
    value = float(np.median(criterion.threshold_adu))
    what = "threshold (median of the map)" if np.ndim(criterion.threshold_adu) else "threshold"
    return value, f"{what}: {value:.4g} ADU"


def name_axes(ax: Axes, title: str, y_label: str = Y_LABEL) -> None:
    """Write the labels of the plane's axes and a title."""
    ax.set_xlabel(X_LABEL)
    ax.set_ylabel(y_label)
    ax.set_title(title, fontsize="medium")
