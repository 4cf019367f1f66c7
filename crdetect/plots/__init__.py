"""Figures of what a run found; they are made from results, nothing is detected here.

matplotlib is used through its object interface, without pyplot: figures belong to nobody but the
caller, whatever the thread, and nothing stays open.
"""

from __future__ import annotations

from pathlib import Path

from crdetect.pipeline import Detection
from crdetect.plots.histogram2d import histogram2d
from crdetect.plots.mediancr import mediancr

__all__ = ["histogram2d", "mediancr", "save_figures"]


def save_figures(detection: Detection, folder: Path) -> list[Path]:
    """Write the figures that apply to a run.

    Parameters
    ----------
    detection : Detection
        What the run found.
    folder : Path
        An existing folder.

    Returns
    -------
    list of Path
        ``diagnostic_histogram2d.png``, only where the Median-Minimum diagram took part, and
        ``diagnostic_mediancr.png``.
    """
    figures = {"diagnostic_mediancr.png": mediancr}
    if detection.diagram is not None:
        figures = {"diagnostic_histogram2d.png": histogram2d} | figures
    paths = []
    for name, draw in figures.items():
        paths.append(folder / name)
        draw(detection).savefig(paths[-1], format="png", dpi="figure")
    return paths
