"""Figures and report of a run, drawn from its results.

matplotlib is used through its object interface, without pyplot, so that several threads can draw
and no figure stays open. `crdetect.catalogue` lists the names of the figures and the conditions
under which each one is written.
"""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from crdetect.plots.diagnostic import crmask, meancr, mediancr
from crdetect.plots.flux import flux_factor, number_at_median
from crdetect.plots.histogram2d import histogram2d
from crdetect.plots.noise import noise
from crdetect.plots.offsets import crosscorrelation
from crdetect.plots.pages import Sheet, feature_figures, write_pages
from crdetect.plots.report import write_report

__all__ = [
    "Sheet",
    "crmask",
    "crosscorrelation",
    "feature_figures",
    "flux_factor",
    "histogram2d",
    "meancr",
    "mediancr",
    "noise",
    "number_at_median",
    "save",
    "write_pages",
    "write_report",
]

# Level of compression of the PNG files, from 0 to 9 (zlib): higher levels take much longer and make
# files little smaller.
_COMPRESSION = 3


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG."""
    # Figure.savefig would draw the figure twice.
    figure.canvas.print_png(path, pil_kwargs={"compress_level": _COMPRESSION})
