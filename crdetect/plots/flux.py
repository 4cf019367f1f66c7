"""Figures of the flux factors: how they were measured, and which exposure is the median."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
from matplotlib.colors import BoundaryNorm
from matplotlib.figure import Figure

from crdetect.equivalence.flux import FluxFactors
from crdetect.plots.images import show_pixels, thinning_step
from crdetect.plots.style import SKY, VERMILLION, new_figure

# Lowest density that the axis of ratios has room for, in units of its maximum; chosen by eye.
_SHOWN = 0.002


def flux_factor(flux: FluxFactors, number: int) -> Figure:
    """Draw the distribution of the ratio of one exposure to the others, and its flux factor.

    Parameters
    ----------
    flux : FluxFactors
        Measured flux factors.
    number : int
        Number of the exposure, from 1.
    """
    density, factor = flux.densities[number - 1], flux.factors[number - 1]
    figure = new_figure(8.0, 5.0)
    ax = figure.subplots()
    ax.fill_between(flux.ratios, density, color=SKY, alpha=0.4, linewidth=0)
    ax.plot(
        flux.ratios,
        density,
        color=SKY,
        label="ratios of pixels with signal, each as wide as its error",
    )
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
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=2, frameon=False)
    return figure


def number_at_median(flux: FluxFactors) -> Figure:
    """Draw which exposure has the median value of each pixel, and the share of each exposure.

    The shares of equivalent exposures are equal, everywhere in the image. An exposure whose flux
    is between those of a fainter and a brighter one has a larger share.
    """
    number = flux.number_at_median
    n = len(flux.factors)
    figure = new_figure(11.0, 6.0)
    figure.set_layout_engine("compressed")  # the labels stay beside an image of square pixels
    image, shares = figure.subplots(1, 2, width_ratios=[3, 1])
    colors = mpl.colormaps["cividis"].resampled(n)
    step = thinning_step(number.shape)
    drawn = show_pixels(
        image,
        np.ma.masked_equal(number[::step, ::step], 0),
        number.shape,
        cmap=colors,
        norm=BoundaryNorm(np.arange(n + 1) + 0.5, n),
    )
    bar = image.inset_axes([1.02, 0, 0.03, 1])  # as high as the image
    figure.colorbar(drawn, cax=bar, ticks=range(1, n + 1), label="exposure")
    image.set_title("Exposure that has the median value")
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
