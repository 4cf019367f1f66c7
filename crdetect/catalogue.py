"""The catalogue of products: name, contents, condition and writer of each file.

All code that names a file of a run takes the name from here: the writing, the removal of stale
files, the report, the work folder of numina and the table in the documentation. To add a product,
add an entry to the catalogue.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from enum import Enum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crdetect.combine import COMBINATIONS
from crdetect.masks import CLASSES, Feature
from crdetect.products import features_csv, problematic_csv

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from crdetect.run import DetectionRun, Run


class Shelf(Enum):
    """Groups of products that are written, left out or replaced together."""

    MASKS = "masks"
    COMBINED = "combined images"
    TABLES = "tables"
    FIGURES = "figures"
    PAGES = "pages of features"
    REPORT = "report"


DRAWN = frozenset({Shelf.FIGURES, Shelf.PAGES, Shelf.REPORT})
"""Groups of products that ``--no-plots`` leaves out."""

BESIDE_FITS = frozenset(Shelf) - {Shelf.MASKS, Shelf.COMBINED}
"""Groups of products that numina does not store itself: they go to its work folder."""


@dataclass(frozen=True)
class Product:
    """A file that a run may write, or a series of files with one for each exposure.

    Attributes
    ----------
    name : str
        Name of the file; ``{i}`` stands for the number of the exposure, from 1.
    shelf : Shelf
        Group of the product.
    holds : str
        Contents of the file in words.
    write : callable
        Function of the run, the path, and the number of the exposure (0 for a single file) that
        writes the file.
    applies : callable
        Condition: a function of the run that returns whether the run has this product.
    """

    name: str
    shelf: Shelf
    holds: str
    write: Callable[[Any, Path, int], None]
    applies: Callable[[Any], bool] = lambda _run: True

    @property
    def stem(self) -> str:
        """Name of the file without its ending: numina's name of a result."""
        return self.name.partition(".")[0]

    @property
    def is_series(self) -> bool:
        """Whether the product is a series with one file for each exposure."""
        return "{i}" in self.name

    @property
    def pattern(self) -> str:
        """Pattern, as of `glob`, that matches the names of its files."""
        return self.name.replace("{i}", "[0-9]*")

    def caption(self, i: int) -> str:
        """Say what a file holds, for a caption; in a series, the file of one exposure."""
        words = self.holds.partition(", where")[0]  # the file is there: its condition is met
        words = words.replace("exposure i", f"exposure {i}") if self.is_series else words
        return words[:1].upper() + words[1:]

    def numbers(self, run: Run) -> range:
        """Return the numbers of the exposures in the series; 0 alone for a single file."""
        return range(1, run.n_exposures + 1) if self.is_series else range(1)

    def files(self, run: Run) -> Iterator[tuple[str, int]]:
        """Yield the name of each file that a run has, with the number of the exposure."""
        if self.applies(run):
            yield from ((self.name.format(i=i), i) for i in self.numbers(run))


# ---------------------------------------------------------------------------------------------
# Writers


def _write_text(text: Callable[[DetectionRun], str]) -> Callable[[DetectionRun, Path, int], None]:
    def write(run: DetectionRun, path: Path, _i: int) -> None:
        path.write_text(text(run), encoding="utf-8")

    return write


def _draw(draw: Callable[[Any, DetectionRun, int], Figure]) -> Callable:
    """Make a writer of a figure; ``draw`` takes `crdetect.plots`, the run and the number."""

    def write(run: DetectionRun, path: Path, i: int) -> None:
        from crdetect import plots  # matplotlib is slow to import: only figures pay for it

        plots.save(draw(plots, run, i), path)

    return write


def _pages(features: Callable[[DetectionRun], list[Feature]]) -> dict[str, Callable]:
    """Make the writer and the condition of a PDF file with pages of the given features."""

    def chosen(run: DetectionRun) -> list[Feature]:
        most = run.detection.parameters.general.maxplots
        return features(run) if most < 0 else features(run)[:most]

    def write(run: DetectionRun, path: Path, _i: int) -> None:
        from crdetect.plots import write_pages

        write_pages(path, run.sheet, chosen(run), run.progress)

    return {"write": write, "applies": lambda run: bool(chosen(run))}


def _report(run: DetectionRun, path: Path, _i: int) -> None:
    from crdetect.plots import write_report

    figures = {
        path.with_name(name): product.caption(i)
        for product in CATALOGUE
        if product.shelf is Shelf.FIGURES
        for name, i in product.files(run)
        if path.with_name(name).exists()
    }
    run.progress("writing the report")
    write_report(path, run.sheet, run.lines, figures)


def _of_class(name: str, run: DetectionRun) -> list[Feature]:
    return [feature for feature in run.detection.features if feature.class_name == name]


def _csv_of_class(name: str, run: DetectionRun) -> str:
    return features_csv(run.detection.features, name)


def _offset(plots: Any, run: DetectionRun, i: int) -> Figure:
    diagram = run.detection.diagram
    return plots.crosscorrelation(diagram and diagram.offsets, i)


def _has_diagram(run: DetectionRun) -> bool:
    return run.detection.diagram is not None


def _was_modelled(run: DetectionRun) -> bool:
    return run.detection.exposure_model is not None


def _has_measured_flux(run: DetectionRun) -> bool:
    return run.detection.flux.measured


def _has_measured_offsets(run: DetectionRun) -> bool:
    diagram = run.detection.diagram
    return diagram is not None and diagram.offsets is not None and diagram.offsets.measured


# ---------------------------------------------------------------------------------------------
# The catalogue


def _combined(name: str) -> Product:
    return Product(
        f"combined_{name}.fits",
        Shelf.COMBINED,
        f"combination {name}: image, VARIANCE and MAP",
        lambda run, path, _i: run.combined_hdul(name).writeto(path),
    )


MASKS = Product(
    "crmasks.fits",
    Shelf.MASKS,
    "masks, cleaned median, parameters",
    lambda run, path, _i: run.crmasks_hdul().writeto(path),
)

COMBINED = {name: _combined(name) for name in COMBINATIONS}
"""The combined images by the names of the combinations; a run with stored masks has only these."""

_TABLES = (
    *(
        Product(
            f"mediancr_identified_{name}.csv",
            Shelf.TABLES,
            f"pixels of the features of MEDIANCR of class {name}",
            _write_text(partial(_csv_of_class, name)),
        )
        for name in CLASSES
    ),
    Product(
        "problematic_pixels.csv",
        Shelf.TABLES,
        "groups of pixels masked in all exposures, which no combination can mend",
        _write_text(lambda run: problematic_csv(run.detection.problematic)),
    ),
    Product(
        "params_used.yaml",
        Shelf.TABLES,
        "parameters that repeat the run without a person",
        _write_text(lambda run: run.params_used()),
    ),
)

_FIGURES = (
    Product(
        "diagnostic_histogram2d.png",
        Shelf.FIGURES,
        "the Median-Minimum diagram, where it takes part",
        _draw(lambda plots, run, _i: plots.histogram2d(run.detection)),
        _has_diagram,
    ),
    Product(
        "diagnostic_mediancr.png",
        Shelf.FIGURES,
        "pixels flagged in MEDIANCR",
        _draw(lambda plots, run, _i: plots.mediancr(run.detection)),
    ),
    Product(
        "diagnostic_crmask{i}.png",
        Shelf.FIGURES,
        "pixels flagged in exposure i",
        _draw(lambda plots, run, i: plots.crmask(run.detection, i)),
    ),
    Product(
        "diagnostic_noise.png",
        Shelf.FIGURES,
        "how the exposures differ, where they were matched",
        _draw(lambda plots, run, _i: plots.noise(run.detection.exposure_model)),
        _was_modelled,
    ),
    Product(
        "flux_factor{i}.png",
        Shelf.FIGURES,
        "the flux of exposure i, where flux factors were measured",
        _draw(lambda plots, run, i: plots.flux_factor(run.detection.flux, i)),
        _has_measured_flux,
    ),
    Product(
        "image_number_at_median_position.png",
        Shelf.FIGURES,
        "which exposure has the median value, where flux factors were measured",
        _draw(lambda plots, run, _i: plots.number_at_median(run.detection.flux)),
        _has_measured_flux,
    ),
    Product(
        "xyoffset_crosscorr_{i}.png",
        Shelf.FIGURES,
        "the offset of exposure i, where offsets were measured",
        _draw(_offset),
        _has_measured_offsets,
    ),
    Product(
        "diagnostic_meancr.png",
        Shelf.FIGURES,
        "pixels flagged in MEANCRT, and those that MEANCR adds",
        _draw(lambda plots, run, _i: plots.meancr(run.detection, run.combined["meancr"].value)),
    ),
)

_PAGES = (
    *(
        Product(
            f"mediancr_identified_{name}.pdf",
            Shelf.PAGES,
            f"two pages for each feature of class {name}, maxplots features at most",
            **_pages(partial(_of_class, name)),
        )
        for name in CLASSES
    ),
    Product(
        "problematic_pixels.pdf",
        Shelf.PAGES,
        "two pages for each group of pixels masked in all exposures, maxplots groups at most",
        **_pages(lambda run: list(run.detection.problematic)),
    ),
)

CATALOGUE = (
    MASKS,
    *COMBINED.values(),
    *_TABLES,
    *_FIGURES,
    *_PAGES,
    Product("report.html", Shelf.REPORT, "the run in one file, to be opened in a browser", _report),
)
"""All products that a run may write, in the order in which they are written."""


def patterns(shelves: Collection[Shelf] = frozenset(Shelf)) -> tuple[str, ...]:
    """Return the patterns of the names of all files in some groups of products."""
    return tuple(product.pattern for product in CATALOGUE if product.shelf in shelves)
