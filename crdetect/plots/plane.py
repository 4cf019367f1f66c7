"""Parts of figures in the plane of the Median-Minimum diagram: density, boundary, threshold."""

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

FINAL_COLOR = "#7F0000"
"""Colour of the boundary: the dark end of the colours of the rounds of the fit."""

FINAL_LINE = {
    "color": FINAL_COLOR,
    "linewidth": 2.0,
    "path_effects": [withStroke(linewidth=3.6, foreground="w")],  # to be seen on any colour
    "zorder": 4.5,
    "gid": "boundary",
}
"""Style of the boundary in all figures."""

_SAMPLES = 501  # number of points at which a curve is drawn, its knots not counted


def sample(curve: Curve, limits: Limits) -> tuple[np.ndarray, np.ndarray]:
    """Points of a curve over the whole width of the diagram, and at its knots.

    They are values of the very curve that flags pixels, its constant parts included.
    """
    knots = curve.knots[(curve.knots > limits.xmin) & (curve.knots < limits.xmax)]
    x = np.union1d(np.linspace(limits.xmin, limits.xmax, _SAMPLES), knots)
    return x, curve(x)


def draw_density(
    ax: Axes, limits: Limits, counts: np.ndarray, norm: LogNorm, cmap: Colormap
) -> QuadMesh:
    """Draw the number of pixels in each bin of a diagram; empty bins stay white."""
    return ax.pcolormesh(
        limits.x_edges, limits.y_edges, np.ma.masked_equal(counts, 0), norm=norm, cmap=cmap
    )


def draw_density_image(
    ax: Axes, limits: Limits, counts: np.ndarray, norm: LogNorm, cmap: Colormap
) -> AxesImage:
    """Draw the number of pixels in each bin as an image, which a PDF file takes much faster."""
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
    """Draw the final boundary and the threshold over the whole width of the diagram."""
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
    """Threshold, ADU (the median of a map), and its label."""
    value = float(np.median(criterion.threshold_adu))
    what = "threshold (median of the map)" if np.ndim(criterion.threshold_adu) else "threshold"
    return value, f"{what}: {value:.4g} ADU"


def name_axes(ax: Axes, title: str, y_label: str = Y_LABEL) -> None:
    """Write the labels of the axes of the diagram, and a title."""
    ax.set_xlabel(X_LABEL)
    ax.set_ylabel(y_label)
    ax.set_title(title, fontsize="medium")
