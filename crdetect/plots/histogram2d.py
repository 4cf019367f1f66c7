"""Figure of the Median-Minimum diagram: clean pixels, real exposures, boundary and threshold."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colorbar import Colorbar
from matplotlib.figure import Figure

from crdetect.mm.boundary import Boundary, Curve
from crdetect.mm.diagram import Limits
from crdetect.mm.method import MedianMinimum
from crdetect.mm.parameters import MM
from crdetect.parameters import Parameters
from crdetect.pipeline import Detection
from crdetect.plots.plane import (
    FINAL_COLOR,
    FINAL_LINE,
    draw_criterion,
    draw_density,
    name_axes,
    sample,
)
from crdetect.plots.style import ORANGE, count_norm, new_figure, two_part_map

FIXED, KNOTS = "fixed points", "knots"
"""Identifiers (gid) of the markers that move when a person edits the boundary."""

# Lowest expected number of pixels in a bin of a computed diagram that is drawn; chosen by eye. Far
# above the boundary the numbers are tiny but not 0, and the colour scale has to end somewhere.
_LEAST_COMPUTED = 1e-4


def histogram2d(detection: Detection) -> Figure:
    """Draw the diagrams of clean and of all pixels side by side, with boundary and threshold.

    Parameters
    ----------
    detection : Detection
        The result of a run in which M.M.Cosmic took part.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If M.M.Cosmic took no part.
    """
    if detection.diagram is None:
        raise ValueError("this run has no Median-Minimum diagram to draw")
    figure = new_figure(15.0, 7.2)
    draw_histogram2d(figure, detection.diagram, detection.parameters)
    return figure


def draw_histogram2d(figure: Figure, diagram: MedianMinimum, parameters: Parameters) -> None:
    """Draw the diagrams of clean and of all pixels in an empty figure."""
    limits, boundary = diagram.clean.limits, diagram.criterion.boundary
    left, right = figure.subplots(1, 2, sharex=True, sharey=True)
    mesh = _draw_both(left, right, diagram)
    _draw_points(left, boundary)
    _draw_rounds(left, boundary, limits)
    draw_criterion(right, limits, diagram.criterion)
    name_axes(left, _title_of_clean(diagram, parameters.mm))
    name_axes(right, "Real exposures: all pixels up to this height, higher ones are not drawn")
    left.set(xlim=(limits.xmin, limits.xmax), ylim=(0, limits.ymax))
    _add_colorbar(figure, mesh, [left, right])
    for ax in (left, right):
        # The legend is below the axes: inside them it would hide data.
        ax.legend(
            loc="upper center",
            bbox_to_anchor=(0.5, -0.08),
            ncols=3,
            frameon=False,
            fontsize="small",
        )
    figure.suptitle(f"Median-Minimum diagram ({parameters.general.crmethod})")


def _title_of_clean(diagram: MedianMinimum, mm: MM) -> str:
    if diagram.clean.nsets is None:
        how = f"Computed, {diagram.expected_above:.3g} pixels expected above the boundary"
    else:
        how = f"Simulated: mean of {diagram.clean.nsets} sets"
    photons = mm.mm_photon_distribution
    if photons == "nbinom":
        photons += f", κ = {diagram.nbinom_shape or mm.mm_nbinom_shape}"
    return (
        f"{how}\nphotons: {photons}; synthetic: {mm.mm_synthetic}; "
        f"boundary: {diagram.criterion.boundary.kind}"
    )


def _draw_both(left: Axes, right: Axes, diagram: MedianMinimum) -> QuadMesh:
    clean, real = diagram.clean, diagram.real
    least = _LEAST_COMPUTED if clean.nsets is None else 1 / clean.nsets
    counts = np.where(clean.counts < 0.5 * least, 0, clean.counts)
    norm = count_norm(least, counts, real.counts)
    cmap = two_part_map(norm)
    draw_density(right, real.limits, real.counts, norm, cmap)
    return draw_density(left, clean.limits, counts, norm, cmap)


def _add_colorbar(figure: Figure, mesh: QuadMesh, axes: list[Axes]) -> Colorbar:
    bar = figure.colorbar(mesh, ax=axes, pad=0.01, fraction=0.04, aspect=35)
    bar.set_label("pixels per bin, expected or mean per set (grey: less than 1)")
    bar.ax.axhline(1.0, color="k", linewidth=1.5)
    return bar


def _draw_points(ax: Axes, boundary: Boundary) -> None:
    for points, text, style in (
        (boundary.points, "points of the fit", {"marker": "+", "color": "k", "markersize": 5}),
        (
            boundary.fixed,
            "fixed points",
            {"marker": "D", "color": "k", "markerfacecolor": ORANGE, "markersize": 9, "gid": FIXED},
        ),
    ):
        if points.x.size or points is boundary.fixed:  # fixed ones may be added in a window
            label = text if points.x.size else "_"
            ax.plot(points.x, points.y, linestyle="none", label=label, zorder=6, **style)


def _draw_rounds(ax: Axes, boundary: Boundary, limits: Limits) -> None:
    *earlier, final = boundary.rounds
    ramp = mpl.colormaps["OrRd"](np.linspace(0.4, 0.9, max(len(earlier), 1)))
    for number, (curve, color) in enumerate(zip(earlier, ramp, strict=False), start=1):
        width = 1.6 if number == 1 else 0.8
        ax.plot(
            *sample(curve, limits),
            color=color,
            linewidth=width,
            label=_round_label(number, len(earlier)),
            zorder=4,
        )
    _draw_final(ax, final, limits, len(boundary.rounds))


def _round_label(number: int, earlier: int) -> str:
    """Label of a round of the fit; the second one stands for all intermediate rounds."""
    if number == 1:
        return "fit, round 1"
    if number > 2:
        return "_"
    return "fit, round 2" if earlier == 2 else f"fit, rounds 2–{earlier}"


def _draw_final(ax: Axes, final: Curve, limits: Limits, rounds: int) -> None:
    text = f"fit, round {rounds}: the boundary" if rounds > 1 else "the boundary"
    ax.plot(*sample(final, limits), label=text, **FINAL_LINE)
    ax.plot(
        final.knots,
        final(final.knots),
        linestyle="none",
        marker="o",
        markersize=5.5,
        color=FINAL_COLOR,
        markeredgecolor="w",
        gid=KNOTS,
        label="knots",
        zorder=7,
    )
