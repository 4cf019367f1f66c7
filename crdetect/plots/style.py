"""Style of all figures: colours, colour scales, labels of axes, and the empty figure.

Colours of classes are from the palette of Okabe & Ito, which people with any kind of colour
vision can tell apart. Markers differ, too, for print without colour.
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
"""Pixels per inch of the PNG files."""

X_LABEL = "min2d (ADU)"
Y_LABEL = "median2d − min2d (ADU)"
"""Labels of the axes of the Median-Minimum diagram."""

ORANGE, SKY, GREEN = "#E69F00", "#56B4E9", "#009E73"
YELLOW, VERMILLION, PURPLE = "#F0E442", "#D55E00", "#CC79A7"
"""Colours of the palette of Okabe & Ito."""

# Number of colours of a map of two parts. They meet at a count of 1, to within 1/1024 of the range.
_COLOURS = 1024


@dataclass(frozen=True)
class Look:
    """Colour and marker of the pixels of one code, and of the features of one class.

    Attributes
    ----------
    color : str
        Colour, in a form that matplotlib knows.
    marker : str
        Marker, as matplotlib calls it.
    size : float
        Size of the marker in points, where there are few of them.
    """

    color: str
    marker: str
    size: float


LOOKS = {
    ADDED: Look(PURPLE, "D", 3.2),
    AUX_ONLY: Look(GREEN, "s", 4.0),
    ACROSS_ONLY: Look(SKY, "^", 4.5),
    BOTH: Look(VERMILLION, "o", 4.5),
}
"""Colour and marker of each code, in the order of drawing: later ones cover earlier ones. What the
codes mean depends on the run: see `crdetect.plots.words.code_labels`."""

CLASS_CODES = {"any4": BOTH, "only3": AUX_ONLY, "only2": ACROSS_ONLY, "other": ADDED}
"""Code whose colour and marker the features of each class have."""


def new_figure(width_in: float, height_in: float) -> Figure:
    """Make an empty figure, its size in inches; it is laid out when it is drawn."""
    figure = Figure(figsize=(width_in, height_in), dpi=DPI, layout="constrained", facecolor="w")
    FigureCanvasAgg(figure)
    return figure


def count_norm(least: float, *counts: np.ndarray) -> LogNorm:
    """Logarithmic colour scale of counts, from ``least`` to the largest of them or 10."""
    return LogNorm(min(least, 1.0), max(10.0, *(float(count.max()) for count in counts)))


def two_part_map(norm: LogNorm) -> Colormap:
    """Colour map for mean counts: greys below 1, viridis from 1 on.

    The mean over simulated sets is below 1 in a bin where not every set has a pixel. The change
    of colours shows where that is.
    """
    lower = int(np.floor(float(norm(1.0)) * _COLOURS + 1e-6))
    greys = mpl.colormaps["Greys"](np.linspace(0.12, 0.5, lower))
    upper = mpl.colormaps["viridis"](np.linspace(0.0, 1.0, _COLOURS - lower))
    return ListedColormap(np.vstack([greys, upper]), "below and above one")


def grey_density_map() -> Colormap:
    """Colour map of a background of counts, light enough for markers on top."""
    return ListedColormap(mpl.colormaps["Greys"](np.linspace(0.15, 0.75, 256)), "background")
