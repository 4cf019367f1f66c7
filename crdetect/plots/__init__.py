"""Figures of what a run found; they are made from results, nothing is detected here.

matplotlib is used through its object interface, without pyplot: figures belong to nobody but the
caller, whatever the thread, and nothing stays open.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from matplotlib.figure import Figure

from crdetect.combine import Combination
from crdetect.masks import CLASSES, Feature
from crdetect.pipeline import Detection, Progress
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
    "save_all",
    "save_figures",
    "save_pages",
]

_COMPRESSION = 3


def save_all(
    detection: Detection,
    combined: Mapping[str, Combination],
    history: Sequence[str],
    folder: Path,
    progress: Progress,
) -> list[Path]:
    """Write figures, pages of features and the report of a run.

    Parameters
    ----------
    detection : Detection
        What the run found.
    combined : dict of Combination
        The combinations, by their names.
    history : sequence of str
        Lines on the input.
    folder : Path
        An existing folder.
    progress : callable
        Told what is drawn.

    Returns
    -------
    list of Path
        The files: those of `save_figures`, ``diagnostic_meancr.png``, those of `save_pages`, and
        ``report.html``.
    """
    progress("drawing figures")
    figures = save_figures(detection, folder)
    figures.append(folder / "diagnostic_meancr.png")
    _save(meancr(detection, combined["meancr"].value), figures[-1])
    sheet = Sheet.of(detection, combined)
    pages = save_pages(sheet, folder, progress)
    progress("writing the report")
    report = folder / "report.html"
    write_report(report, sheet, history, figures)
    return [*figures, *pages, report]


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
        ``diagnostic_mediancr.png`` and ``diagnostic_crmask{i}.png``; where the Median-Minimum
        diagram took part ``diagnostic_histogram2d.png``; where the exposures were matched
        ``diagnostic_noise.png``; where flux factors were measured ``flux_factor{i}.png`` and
        ``image_number_at_median_position.png``; where offsets were measured
        ``xyoffset_crosscorr_{i}.png``.
    """
    paths = []
    for name, draw in _figures(detection):
        paths.append(folder / name)
        _save(draw(), paths[-1])
    return paths


def save_pages(sheet: Sheet, folder: Path, progress: Progress) -> list[Path]:
    """Write the pages of features, ``maxplots`` of them in each file.

    Parameters
    ----------
    sheet : Sheet
        What to draw from.
    folder : Path
        An existing folder.
    progress : callable
        Told what is drawn.

    Returns
    -------
    list of Path
        ``mediancr_identified_{class}.pdf`` and ``problematic_pixels.pdf``, those that would not
        be empty.
    """
    most = sheet.detection.parameters.general.maxplots
    paths = []
    for name, features in _features_by_file(sheet.detection).items():
        drawn = features if most < 0 else features[:most]
        if drawn:
            paths.append(folder / name)
            write_pages(paths[-1], sheet, drawn, progress)
    return paths


def _features_by_file(detection: Detection) -> dict[str, list[Feature]]:
    files: dict[str, list[Feature]] = {f"mediancr_identified_{name}.pdf": [] for name in CLASSES}
    for feature in detection.features:
        files[f"mediancr_identified_{feature.class_name}.pdf"].append(feature)
    return files | {"problematic_pixels.pdf": list(detection.problematic)}


def _save(figure: Figure, path: Path) -> None:
    # savefig would draw it twice; these pictures get smaller by it, and in half the time
    figure.canvas.print_png(path, pil_kwargs={"compress_level": _COMPRESSION})


def _figures(detection: Detection) -> Iterator[tuple[str, Callable[[], Figure]]]:
    """Yield the names of the figures that apply, and what draws them."""
    numbers = range(1, len(detection.masks.crmasks) + 1)
    if detection.diagram is not None:
        yield "diagnostic_histogram2d.png", partial(histogram2d, detection)
    yield "diagnostic_mediancr.png", partial(mediancr, detection)
    for i in numbers:
        yield f"diagnostic_crmask{i}.png", partial(crmask, detection, i)
    if detection.exposure_model is not None:
        yield "diagnostic_noise.png", partial(noise, detection.exposure_model)
    if detection.flux.measured:
        for i in numbers:
            yield f"flux_factor{i}.png", partial(flux_factor, detection.flux, i)
        yield "image_number_at_median_position.png", partial(number_at_median, detection.flux)
    offsets = None if detection.diagram is None else detection.diagram.offsets
    if offsets is not None and offsets.measured:
        for i in numbers:
            yield f"xyoffset_crosscorr_{i}.png", partial(crosscorrelation, offsets, i)
