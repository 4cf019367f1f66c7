"""The mode MegaraCrDetection of MEGARA, through ``pipeline: crdetect``; it needs megaradrp.

The frames go through megaradrp's own steps: overscan, trimming, bias, dark, gain. After them they
are in electrons: what is called ADU elsewhere is an electron here, and gain is 1.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from astropy.io import fits
from megaradrp.core import correctors
from megaradrp.core.recipe import MegaraBaseRecipe
from megaradrp.datamodel import MegaraDataModel
from megaradrp.ntypes import CRMasks, MasterBias, MasterDark
from megaradrp.requirements import (
    MasterBiasRequirement,
    MasterBPMRequirement,
    MasterDarkRequirement,
)
from numina.core.dataholders import Result
from numina.core.recipeinout import RecipeInput, RecipeResult

from crdetect.errors import InputError
from crdetect.exposures import make_exposures, number_or_map
from crdetect.parameters import Block, Flag, describe_block, validate_block
from crdetect.pipeline import Detection
from crdetect.products import whole_or_nothing
from crdetect.recipe import (
    INPUTS,
    SCHEMA,
    BlockInputs,
    Job,
    Known,
    SchemaRecipe,
    Value,
    schema_input,
)

ELECTRONS = "megaradrp's gain step: data are in electrons"


class Saving(Block):
    """What is written beside the products."""

    save_preprocessed: Flag = False
    save_postprocessed: Flag = False


_SAVING = [
    item._replace(description=text)
    for item, text in zip(
        describe_block(Saving),
        (
            "write the exposures as they are before detection (preprocessed_1.fits, …)",
            "write the exposures with cosmic rays replaced by meancr2 (postprocessed_1.fits, …)",
        ),
        strict=True,
    )
]
_SAVED_PATTERNS = ("preprocessed_[0-9]*.fits", "postprocessed_[0-9]*.fits")


class MegaraCrDetectionRecipe(SchemaRecipe, MegaraBaseRecipe):
    """Find the cosmic rays of equivalent exposures of MEGARA."""

    RecipeInput = schema_input(
        *(item for name, item in INPUTS.items() if name != "extnum"),
        *SCHEMA.values(),
        *_SAVING,
        master_bias=MasterBiasRequirement(optional=True),
        master_dark=MasterDarkRequirement(optional=True),
        master_bpm=MasterBPMRequirement(optional=True),
    )
    RecipeResult = RecipeResult
    crmasks = Result(CRMasks)
    summary = Result(Value("a summary"), "numbers of masked pixels and of features")
    datamodel = MegaraDataModel()
    logger = logging.getLogger("numina.recipes.crdetect")

    def types_getter(self) -> tuple[list, list]:
        """Choose the steps after trimming; bad pixels are not interpolated: they are missing."""
        dark_and_gain = [correctors.get_corrector_dark, correctors.get_corrector_gain]
        return [MasterBias, MasterDark], [correctors.get_corrector_bias, dark_and_gain]

    def faults(self, rinput: RecipeInput) -> list[str]:
        """Tell what is wrong apart from the parameters."""
        _, faults = validate_block(Saving, self.given(rinput, Saving.model_fields))
        return super().faults(rinput) + faults

    def read(self, rinput: RecipeInput) -> Job:
        """Judge the requirements, then bring the frames through megaradrp's steps."""
        inputs, parameters = self.judge(rinput)
        names = [frame.filename or "in memory" for frame in rinput.obresult.frames]
        opened = self._preprocess(rinput)
        headers = [header for _, header in opened]
        arrays = [data for data, _ in opened]
        if rinput.master_bpm is not None:
            _take_out_bad_pixels(arrays, rinput.master_bpm.open()[0].data)
        noise = _noise_of(inputs, headers[0], arrays[0].shape, self.data_folder)
        for name, known in noise.items():
            self.logger.info("%s = %s", name, known)
        values = {name: known.value for name, known in noise.items()}
        return Job(rinput, parameters, make_exposures(arrays, headers, names, **values), noise)

    def _preprocess(self, rinput: RecipeInput) -> list[tuple[np.ndarray, fits.Header]]:
        """Remove overscan, trim, subtract bias and dark, apply the gain."""
        flows = self.init_filters(rinput)
        processed = []
        for frame in rinput.obresult.frames:
            hdul = frame.open()
            for flow in flows:
                hdul = flow(hdul)
            processed.append((hdul[0].data.astype(np.float32), hdul[0].header))
        return processed

    def reduce(self, job: Job) -> RecipeResult:
        """Detect."""
        detection, combined, masks, summary = self.detect(job)
        self._save(job, detection, combined["meancr2"].value)
        return self.create_result(crmasks=masks, summary=summary)

    def _save(self, job: Job, detection: Detection, clean: np.ndarray) -> None:
        """Write exposures into the work folder, as far as it was asked for."""
        saving, _ = validate_block(Saving, self.given(job.rinput, Saving.model_fields))
        exposures = job.exposures
        with whole_or_nothing(Path(), _SAVED_PATTERNS) as folder:
            if saving.save_preprocessed:
                _write(exposures.stack.exposures, exposures.headers, folder, "preprocessed")
            if saving.save_postprocessed:
                replaced = np.where(detection.masks.crmasks, clean, exposures.stack.exposures)
                _write(replaced, exposures.headers, folder, "postprocessed")


def _write(arrays: np.ndarray, headers: Sequence[fits.Header], folder: Path, name: str) -> None:
    for i, (array, header) in enumerate(zip(arrays, headers, strict=True), start=1):
        fits.PrimaryHDU(array, header).writeto(folder / f"{name}_{i}.fits")


def _take_out_bad_pixels(arrays: Sequence[np.ndarray], bpm: np.ndarray) -> None:
    """Make bad pixels missing values."""
    for array in arrays:
        if bpm.shape != array.shape:
            raise InputError(
                f"master_bpm has shape {bpm.shape}, the trimmed exposures {array.shape}"
            )
        array[bpm != 0] = np.nan


def _noise_of(
    inputs: BlockInputs, header: fits.Header, shape: tuple[int, int], folder: Path
) -> dict[str, Known]:
    """Find gain, read noise and bias of data that are in electrons.

    Requirements come first; then gain is 1, bias 0, and the read noise that of each amplifier,
    RDNOISE1 in the lower half of the rows, RDNOISE2 in the upper one, electrons.
    """
    known = {"gain": Known(1.0, ELECTRONS), "bias": Known(0.0, "megaradrp's bias step")}
    given = inputs.model_dump(include=inputs.model_fields_set & {"gain", "rnoise", "bias"})
    known |= {
        name: Known(number_or_map(value, folder, name), f"requirement {name}")
        for name, value in given.items()
        if value is not None
    }
    if "rnoise" not in known:
        known["rnoise"] = Known(_read_noise(header, shape), "keys RDNOISE1 and RDNOISE2, electrons")
    return {name: known[name] for name in ("gain", "rnoise", "bias")}


def _read_noise(header: fits.Header, shape: tuple[int, int]) -> float | np.ndarray:
    values = [header.get(key, header.get("RDNOISE")) for key in ("RDNOISE1", "RDNOISE2")]
    if not all(type(value) in (int, float) and value >= 0 for value in values):
        raise InputError(
            f"rnoise is not known: RDNOISE1 and RDNOISE2 of the first exposure are {values}; give "
            "rnoise, in electrons, in the requirements"
        )
    lower, upper = map(float, values)
    if lower == upper:
        return lower
    rnoise = np.full(shape, lower, np.float32)
    rnoise[shape[0] // 2 :] = upper
    return rnoise
