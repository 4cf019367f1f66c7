"""Figures of what a run found; they are made from results, nothing is detected here.

matplotlib is used through its object interface, without pyplot: figures belong to nobody but the
caller, whatever the thread, and nothing stays open.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from matplotlib.figure import Figure

from crdetect.pipeline import Detection
from crdetect.plots.flux import flux_factor, number_at_median
from crdetect.plots.histogram2d import histogram2d
from crdetect.plots.mediancr import mediancr
from crdetect.plots.noise import noise
from crdetect.plots.offsets import crosscorrelation

__all__ = [
    "crosscorrelation",
    "flux_factor",
    "histogram2d",
    "mediancr",
    "noise",
    "number_at_median",
    "save_figures",
]


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
        ``diagnostic_mediancr.png``; where the Median-Minimum diagram took part
        ``diagnostic_histogram2d.png``; where flux factors were measured ``flux_factor{i}.png``
        and ``image_number_at_median_position.png``; where the
        exposures were matched ``diagnostic_noise.png``; where offsets were measured
        ``xyoffset_crosscorr_{i}.png``.
    """
    paths = []
    for name, draw in _figures(detection):
        paths.append(folder / name)
        draw().savefig(paths[-1], format="png", dpi="figure")
    return paths


def _figures(detection: Detection) -> Iterator[tuple[str, Callable[[], Figure]]]:
    """Yield the names of the figures that apply, and what draws them."""
    numbers = range(1, len(detection.masks.crmasks) + 1)
    if detection.diagram is not None:
        yield "diagnostic_histogram2d.png", partial(histogram2d, detection)
    yield "diagnostic_mediancr.png", partial(mediancr, detection)
    if detection.calibration is not None:
        yield "diagnostic_noise.png", partial(noise, detection.calibration)
    if detection.flux.measured:
        for i in numbers:
            yield f"flux_factor{i}.png", partial(flux_factor, detection.flux, i)
        yield "image_number_at_median_position.png", partial(number_at_median, detection.flux)
    offsets = None if detection.diagram is None else detection.diagram.offsets
    if offsets is not None and offsets.measured:
        for i in numbers:
            yield f"xyoffset_crosscorr_{i}.png", partial(crosscorrelation, offsets, i)
