"""Figure of the noise model: variance of the exposures beyond photons and read noise."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from crdetect.equivalence.model import ExposureModel
from crdetect.plots.images import reduced, show_pixels
from crdetect.plots.style import SKY, VERMILLION, new_figure

# Lowest upper end of the colour scale, as a ratio of standard deviations: equivalent exposures,
# whose ratio is 1 everywhere, have one colour.
_LEAST_TOP = 1.5


def noise(exposure_model: ExposureModel) -> Figure:
    """Draw the variance of the exposures against the signal, and the map of the excess noise.

    Parameters
    ----------
    exposure_model : ExposureModel
        Differences and noise model fitted to the exposures.
    """
    figure = new_figure(11.0, 5.0)
    spread_of_signal, place = figure.subplots(1, 2, width_ratios=[1, 1.2])
    _draw_spread(spread_of_signal, exposure_model)
    ratio = np.sqrt(exposure_model.inflation)
    small = reduced(ratio)
    top = max(_LEAST_TOP, float(np.percentile(small, 99.5)))
    drawn = show_pixels(place, small, ratio.shape, cmap="cividis", vmin=1.0, vmax=top)
    figure.colorbar(drawn, ax=place, label="noise / noise of photons and readout alone")
    place.set_title("Noise of the model")
    figure.suptitle("\n".join(exposure_model.summary()), fontsize="small")
    return figure


def _draw_spread(ax: Axes, exposure_model: ExposureModel) -> None:
    """Draw the variance of the values against the signal: measured, expected, and modelled."""
    ax.set(
        xlabel="signal (e)",
        ylabel="variance of a value (e²)",
        title="Variance between the exposures",
    )
    spread = exposure_model.noise_model.spread
    if spread is None:
        ax.text(0.5, 0.5, "no noise model was fitted", ha="center", transform=ax.transAxes)
        return
    x = np.maximum(spread.signal_e, 0.1)
    ax.loglog(x, spread.measured, "o", color=SKY, markeredgecolor="k", label="measured")
    ax.loglog(x, spread.known, "k:", label="photons and read noise")
    ax.loglog(x, spread.modelled, color=VERMILLION, label="noise model")
    ax.legend(frameon=False, loc="upper left")
