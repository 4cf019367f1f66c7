"""Figure of the noise model: how exposures differ beyond photons and read noise."""

from __future__ import annotations

import cv2
import numpy as np
from matplotlib.figure import Figure

from crdetect.equivalence.model import ExposureModel
from crdetect.plots.style import SKY, VERMILLION, new_figure

_LARGEST_SIDE_PX = 1000
_LEAST_TOP = 1.5  # of the colour scale: equivalent exposures are one colour


def noise(exposure_model: ExposureModel) -> Figure:
    """Draw the spread of the exposures against the signal, and where it is larger than expected.

    Parameters
    ----------
    exposure_model : ExposureModel
        How the exposures differ.
    """
    figure = new_figure(11.0, 5.0)
    spread_of_signal, place = figure.subplots(1, 2, width_ratios=[1, 1.2])
    _draw_spread(spread_of_signal, exposure_model)
    ratio = np.sqrt(exposure_model.inflation)
    rows, columns = ratio.shape
    scale = min(1.0, _LARGEST_SIDE_PX / max(rows, columns))
    small = cv2.resize(ratio, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    drawn = place.imshow(
        small,
        cmap="cividis",
        vmin=1.0,
        vmax=max(_LEAST_TOP, float(np.percentile(small, 99.5))),
        origin="lower",
        extent=(0.5, columns + 0.5, 0.5, rows + 0.5),
        interpolation="nearest",
        aspect="auto" if max(rows, columns) > 2 * min(rows, columns) else "equal",
    )
    figure.colorbar(drawn, ax=place, label="noise / that of photons and read noise")
    place.set(xlabel="x (FITS pixel)", ylabel="y (FITS pixel)", title="Noise that was used")
    figure.suptitle("\n".join(exposure_model.summary()), fontsize="small")
    return figure


def _draw_spread(ax, exposure_model: ExposureModel) -> None:
    ax.set(
        xlabel="signal (e)",
        ylabel="variance of a value (e²)",
        title="Spread of the exposures",
    )
    spread = exposure_model.noise_model.spread
    if spread is None:
        ax.text(0.5, 0.5, "nothing was fitted", ha="center", transform=ax.transAxes)
        return
    x = np.maximum(spread.signal_e, 0.1)
    ax.loglog(x, spread.measured, "o", color=SKY, markeredgecolor="k", label="measured")
    ax.loglog(x, spread.known, "k:", label="photons and read noise")
    ax.loglog(x, spread.modelled, color=VERMILLION, label="noise model")
    ax.legend(frameon=False, loc="upper left")
