"""Figures of what a run found; they are made from results, nothing is detected here.

matplotlib is used through its object interface, without pyplot: figures belong to nobody but the
caller, whatever the thread, and nothing stays open. Which figure is written when, and under which
name, stands in `crdetect.catalogue`.
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

_COMPRESSION = 3  # zlib level of the PNG files: higher ones take longer and gain little


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG."""
    # savefig would draw the figure twice.
    figure.canvas.print_png(path, pil_kwargs={"compress_level": _COMPRESSION})
