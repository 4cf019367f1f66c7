"""One run for all callers, from exposures and parameters to products.

The command, the recipes of numina and the mode of MEGARA call `run` (or `run_with_masks`) and show
the result in their own way. This module reads no file and prints nothing; a `Run` writes its
products into a folder.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.io import fits

from crdetect import pipeline
from crdetect.catalogue import CATALOGUE, Product, Shelf
from crdetect.combine import Combination
from crdetect.equality import by_value
from crdetect.exposures import Exposures
from crdetect.masks import Masks
from crdetect.mm.boundary import Boundary
from crdetect.parameters import Parameters
from crdetect.pipeline import Detection, Progress
from crdetect.products import combined_hdul, crmasks_hdul, masks_by_name
from crdetect.quality import assess_stored
from crdetect.resources import Resources
from crdetect.runfile import requirements_text
from crdetect.stored import StoredMasks, apply_masks, check_applicable
from crdetect.verdict import Quality

if TYPE_CHECKING:
    from crdetect.plots import Sheet

_logger = logging.getLogger(__name__)


@by_value
@dataclass(frozen=True, kw_only=True)
class Run:
    """The exposures, masks and combined images of a run.

    Attributes
    ----------
    exposures : Exposures
        The exposures as they were read.
    masks : Masks
        The masks.
    uuid : str
        Identifier of the masks.
    combined : dict of Combination
        The combined images by the names of the combinations.
    quality : Quality
        Checks of the result.
    history : tuple of str
        Lines on the program and its input, for the HISTORY cards.
    resources : Resources
        Computing resources; no product depends on them.
    progress : callable
        Function that is called with the name of each step as it begins.
    """

    exposures: Exposures
    masks: Masks
    uuid: str
    combined: Mapping[str, Combination]
    quality: Quality
    history: tuple[str, ...]
    resources: Resources = field(default_factory=Resources)
    progress: Progress = field(default=_logger.debug)

    @property
    def n_exposures(self) -> int:
        """Number of exposures."""
        return len(self.masks.crmasks)

    @property
    def lines(self) -> tuple[str, ...]:
        """Lines on the program, its input and the masks, for the HISTORY cards and the report."""
        return (*self.history, f"masks UUID: {self.uuid}")

    @property
    def products(self) -> tuple[Product, ...]:
        """The products that a run of this kind may have."""
        return tuple(product for product in CATALOGUE if product.shelf is Shelf.COMBINED)

    def combined_hdul(self, name: str) -> fits.HDUList:
        """Make the FITS file of a combined image."""
        return combined_hdul(self.combined[name], self.exposures.header, self.lines)

    def findings(self) -> dict[str, str]:
        """Return the values that the run measured or drew at random, as text, by their names."""
        return {}

    def remarks(self) -> list[str]:
        """Return sentences on the results of the run, for people."""
        return []

    @cached_property
    def masked_pixels(self) -> dict[str, int]:
        """Number of masked pixels of each mask, by the names of the masks."""
        named = masks_by_name(self.masks)
        return {name: int(np.count_nonzero(mask)) for name, mask in named.items()}

    def summary(self) -> dict[str, Any]:
        """Return a summary in plain values: UUID and pixel numbers of the masks, and quality."""
        return {
            "masks_uuid": self.uuid,
            "masked_pixels": self.masked_pixels,
            "quality": self.quality.to_mapping(),
        }

    def write(self, folder: Path, shelves: Collection[Shelf] = frozenset(Shelf)) -> list[Path]:
        """Write the products into an existing folder.

        Parameters
        ----------
        folder : Path
            Folder for the products. Files of the same names are overwritten; see
            `crdetect.output.whole_or_nothing`.
        shelves : collection of Shelf, optional
            Groups of products that are written; by default all.

        Returns
        -------
        list of Path
            The files that were written.
        """
        written = []
        for shelf in Shelf:
            chosen = [
                (product, name, i)
                for product in self.products
                if product.shelf is shelf and shelf in shelves
                for name, i in product.files(self)
            ]
            if chosen:
                self.progress(f"writing {shelf.value}")
                with self.resources.bounded():
                    self._write_shelf(shelf, folder, chosen)
            written += [folder / name for _, name, _ in chosen]
        return written

    def _write_shelf(
        self, shelf: Shelf, folder: Path, chosen: Sequence[tuple[Product, str, int]]
    ) -> None:
        def write(item: tuple[Product, str, int]) -> None:
            product, name, i = item
            product.write(self, folder / name, i)

        if shelf is Shelf.COMBINED:  # these files are large: several threads write them at once
            self.resources.map(write, chosen)
        else:
            for item in chosen:
                write(item)


@by_value
@dataclass(frozen=True, kw_only=True)
class DetectionRun(Run):
    """A run that detected cosmic rays.

    Attributes
    ----------
    detection : Detection
        Masks, and the intermediate results from which they were made.
    preamble : str
        Lines of ``params_used.yaml`` before the requirements: a comment, and the input if the
        params file of the run has one.
    """

    detection: Detection
    preamble: str = ""

    @property
    def products(self) -> tuple[Product, ...]:
        """All products of the catalogue."""
        return CATALOGUE

    def crmasks_hdul(self) -> fits.HDUList:
        """Make the FITS file of the masks (``crmasks.fits``)."""
        return crmasks_hdul(
            self.detection,
            self.quality,
            self.exposures.header,
            self.history,
            self.exposures.identities,
            self.uuid,
        )

    @cached_property
    def sheet(self) -> Sheet:
        """Images and masks from which pages of features and the report are drawn."""
        from crdetect.plots import Sheet

        return Sheet.of(self.detection, self.combined)

    def findings(self) -> dict[str, str]:
        """Return the values that the run measured or drew at random, as text, by their names."""
        return self.detection.findings()

    def remarks(self) -> list[str]:
        """Return sentences on the differences between the exposures, if these were fitted."""
        model = self.detection.exposure_model
        return [] if model is None else model.summary()

    def summary(self) -> dict[str, Any]:
        """Return a summary in plain values, with numbers of features and measured parameters."""
        used = {name: str(value) for name, value in self.detection.used().items()}
        return super().summary() | {"features": self.detection.features.counts(), "used": used}

    def params_used(self) -> str:
        """Return the parameters that give the same masks again without interaction, as YAML."""
        return self.preamble + requirements_text(self.detection.repeating())


@by_value
@dataclass(frozen=True, kw_only=True)
class CombinationRun(Run):
    """A run that combined exposures with masks of an earlier run.

    Attributes
    ----------
    uses_auxmedian : bool
        Whether AUXCLEAN, and not min2d, fills the masked pixels.
    forced : str or None
        Differences between the exposures and those of the masks that the user chose to ignore;
        None if there are none.
    """

    uses_auxmedian: bool
    forced: str | None

    @property
    def lines(self) -> tuple[str, ...]:
        """Lines on the program, its input, the masks and ignored differences."""
        return (*super().lines, *self.remarks())

    def remarks(self) -> list[str]:
        """Return a sentence on the differences that the user chose to ignore, if there are any."""
        return [f"forced: {self.forced}"] if self.forced else []

    def summary(self) -> dict[str, Any]:
        """Return a summary in plain values, with the filling and ignored differences."""
        more = {"use_auxmedian": self.uses_auxmedian, "forced": self.forced}
        return super().summary() | more


def run(
    exposures: Exposures,
    parameters: Parameters,
    *,
    history: Sequence[str] = (),
    preamble: str = "",
    boundary: Boundary | None = None,
    workers: int | Resources | None = None,
    progress: Progress = _logger.debug,
    detect: Callable[..., Detection] = pipeline.detect,
) -> DetectionRun:
    """Detect the cosmic rays of exposures, combine the exposures and check the quality.

    Parameters
    ----------
    exposures : Exposures
        The exposures as they were read.
    parameters : Parameters
        Method, thresholds and selections of pixels.
    history : sequence of str, optional
        Lines on the program and its input, for the HISTORY cards.
    preamble : str, optional
        Lines of ``params_used.yaml`` before the requirements.
    boundary : Boundary, optional
        Boundary of an earlier run, which is used instead of a newly fitted one.
    workers : int or Resources, optional
        Number of processors that may be busy at a time; by default all that the process may use.
        The result does not depend on it.
    progress : callable, optional
        Function that is called with the name of each step as it begins.
    detect : callable, optional
        Function that takes the place of `crdetect.detect` in an interactive run.

    Returns
    -------
    DetectionRun

    Raises
    ------
    InputError
        If the parameters do not fit the exposures.
    Stopped
        If the user stops an interactive run.
    """
    resources = Resources.of(workers)
    with resources.bounded():
        detection = detect(
            exposures.stack, exposures.noise, parameters, resources, progress, boundary=boundary
        )
        progress("combining")
        combined = detection.combine(resources=resources)
        progress("checking the quality")
        quality = detection.quality
    return DetectionRun(
        exposures=exposures,
        masks=detection.masks,
        uuid=str(uuid.uuid4()),
        combined=combined,
        quality=quality,
        history=tuple(history),
        resources=resources,
        progress=progress,
        detection=detection,
        preamble=preamble,
    )


def run_with_masks(
    exposures: Exposures,
    stored: StoredMasks,
    use_auxmedian: bool | None = None,
    *,
    force: bool = False,
    history: Sequence[str] = (),
    workers: int | Resources | None = None,
    progress: Progress = _logger.debug,
) -> CombinationRun:
    """Combine exposures with masks of an earlier run.

    Parameters
    ----------
    exposures : Exposures
        The exposures as they were read.
    stored : StoredMasks
        The masks.
    use_auxmedian : bool, optional
        Whether AUXCLEAN, and not min2d, fills the masked pixels; by default the parameter of the
        earlier run decides.
    force : bool, optional
        Whether to apply the masks although they are those of other exposures, or in another order.
    history : sequence of str, optional
        Lines on the program and its input, for the HISTORY cards.
    workers : int or Resources, optional
        Number of processors that may be busy at a time; by default all that the process may use.
        The result does not depend on it.
    progress : callable, optional
        Function that is called with the name of each step as it begins.

    Returns
    -------
    CombinationRun

    Raises
    ------
    InputError
        If the masks do not fit the exposures, or if they are those of other exposures and
        ``force`` is not set.
    """
    forced = check_applicable(stored, exposures, force)
    progress("combining")
    if use_auxmedian is None:
        use_auxmedian = stored.parameters.general.use_auxmedian
    resources = Resources.of(workers)
    with resources.bounded():
        combined = apply_masks(stored, exposures.stack, exposures.noise, use_auxmedian, resources)
    return CombinationRun(
        exposures=exposures,
        masks=stored.masks,
        uuid=stored.uuid,
        combined=combined,
        quality=assess_stored(stored.masks, stored.verdict, forced),
        history=tuple(history),
        resources=resources,
        progress=progress,
        uses_auxmedian=use_auxmedian,
        forced=forced,
    )
