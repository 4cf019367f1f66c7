"""Figures of the flux factors: how they were measured, and which exposure is the median."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
from matplotlib.colors import BoundaryNorm
from matplotlib.figure import Figure

from crdetect.equivalence.flux import FluxFactors
from crdetect.plots.style import SKY, VERMILLION, new_figure

_SHOWN = 0.002  # of the maximum: where the density is drawn
_LARGEST_SIDE_PX = 1000


def flux_factor(flux: FluxFactors, number: int) -> Figure:
    """Draw how probable each ratio of one exposure to the others is.

    Parameters
    ----------
    flux : FluxFactors
        Measured factors.
    number : int
        Of the exposure, from 1.
    """
    density, factor = flux.densities[number - 1], flux.factors[number - 1]
    figure = new_figure(8.0, 5.0)
    ax = figure.subplots()
    ax.fill_between(flux.ratios, density, color=SKY, alpha=0.4, linewidth=0)
    ax.plot(flux.ratios, density, color=SKY, label="pixels with signal, as wide as their errors")
    ax.axvline(factor, color=VERMILLION, linewidth=2, label=f"flux factor {factor:.4f}")
    ax.axvline(1.0, color="k", linewidth=1, linestyle=":", label="flux of the median")
    shown = flux.ratios[density > _SHOWN]
    low, high = min(shown.min(), 0.95), max(shown.max(), 1.05)
    ax.set(
        xlim=(max(low, factor - 0.5), min(high, factor + 0.5)),
        ylim=(0, 1.05),
        xlabel=f"exposure {number} / others, brought to the flux of the median",
        ylabel="density, relative to its maximum",
        title=f"Flux factor of exposure {number}",
    )
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=3, frameon=False)
    return figure


def number_at_median(flux: FluxFactors) -> Figure:
    """Draw which exposure is the median of each pixel, and how often each one is.

    In equivalent exposures each has its share, everywhere; where one prevails, it is the one
    between a fainter and a brighter one.
    """
    number = flux.number_at_median
    n = len(flux.factors)
    figure = new_figure(11.0, 6.0)
    figure.set_layout_engine("compressed")  # pixels are square: labels follow the image
    image, shares = figure.subplots(1, 2, width_ratios=[3, 1])
    colors = mpl.colormaps["cividis"].resampled(n)
    rows, columns = number.shape
    step = max(
        1, max(number.shape) // _LARGEST_SIDE_PX
    )  # numbers have no mean: pixels are left out
    drawn = image.imshow(
        np.ma.masked_equal(number[::step, ::step], 0),
        cmap=colors,
        norm=BoundaryNorm(np.arange(n + 1) + 0.5, n),
        origin="lower",
        extent=(0.5, columns + 0.5, 0.5, rows + 0.5),
        interpolation="nearest",
        aspect="auto" if max(rows, columns) > 2 * min(rows, columns) else "equal",
    )
    bar = image.inset_axes([1.02, 0, 0.03, 1])  # as high as the image
    figure.colorbar(drawn, cax=bar, ticks=range(1, n + 1), label="exposure")
    image.set(xlabel="x (FITS pixel)", ylabel="y (FITS pixel)", title="Exposure at the median")
    share = np.bincount(number.ravel(), minlength=n + 1)[1:] / max(np.count_nonzero(number), 1)
    bars = shares.bar(range(1, n + 1), share, color=colors(np.arange(n)), edgecolor="k")
    shares.bar_label(bars, fmt="{:.3f}", fontsize="small")
    shares.axhline(1 / n, color="k", linestyle=":", label=f"1/{n}")
    shares.set(
        xticks=range(1, n + 1),
        xlabel="exposure",
        title="Share of the pixels",
        ylim=(0, 1.2 * max(1 / n, share.max())),  # room for the legend
    )
    shares.legend(frameon=False, loc="upper right")
    return figure
