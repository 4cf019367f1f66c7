"""Colours, colour scales and the empty figure: what all figures share.

Colours of classes are from the palette of Okabe & Ito, which people with any kind of colour
vision tell apart; markers differ too, for print without colour.
"""

from __future__ import annotations

from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Colormap, ListedColormap, LogNorm
from matplotlib.figure import Figure

from crdetect.masks import ACROSS_ONLY, ADDED, AUX_ONLY, BOTH

DPI = 150
X_LABEL = "min2d (ADU)"
Y_LABEL = "median2d − min2d (ADU)"

ORANGE, SKY, GREEN = "#E69F00", "#56B4E9", "#009E73"
YELLOW, VERMILLION, PURPLE = "#F0E442", "#D55E00", "#CC79A7"
"""From the palette of Okabe & Ito."""

_COLOURS = 1024  # entries of a colour map: its two parts meet at 1 within 1/1024 of its range


@dataclass(frozen=True)
class Look:
    """How the pixels of one code are drawn, and the features of the class of the same name."""

    label: str
    color: str
    marker: str
    size: float


LOOKS = {
    ADDED: Look("added (code 1)", PURPLE, "D", 3.2),
    AUX_ONLY: Look("aux only (code 3)", GREEN, "s", 4.0),
    ACROSS_ONLY: Look("M.M. or joint only (code 2)", SKY, "^", 4.5),
    BOTH: Look("both (code 4)", VERMILLION, "o", 4.5),
}
"""Look of each code, in the order of drawing."""

CLASS_CODES = {"any4": BOTH, "only3": AUX_ONLY, "only2": ACROSS_ONLY, "other": ADDED}
"""The code whose look each class of features has."""


def new_figure(width_in: float, height_in: float) -> Figure:
    """Make an empty figure of its own, in inches, laid out when it is drawn."""
    figure = Figure(figsize=(width_in, height_in), dpi=DPI, layout="constrained", facecolor="w")
    FigureCanvasAgg(figure)
    return figure


def count_norm(least: float, *counts: np.ndarray) -> LogNorm:
    """Log scale from ``least`` to the largest of some counts, to 10 at least."""
    return LogNorm(min(least, 1.0), max(10.0, *(float(count.max()) for count in counts)))


def two_part_map(norm: LogNorm) -> Colormap:
    """Colour map for mean counts: greys below 1, viridis from 1 on.

    A mean over sets falls below 1 where not every set has a pixel; the eye should see where.
    """
    lower = int(np.floor(float(norm(1.0)) * _COLOURS + 1e-6))
    greys = mpl.colormaps["Greys"](np.linspace(0.12, 0.5, lower))
    upper = mpl.colormaps["viridis"](np.linspace(0.0, 1.0, _COLOURS - lower))
    return ListedColormap(np.vstack([greys, upper]), "below and above one")


def grey_density_map() -> Colormap:
    """Colour map of a background of counts, light enough for markers on top."""
    return ListedColormap(mpl.colormaps["Greys"](np.linspace(0.15, 0.75, 256)), "background")
