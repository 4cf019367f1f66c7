"""Recipe for MEGARA: the mode MegaraCrDetection with ``pipeline: crdetect``, which needs megaradrp.

megaradrp reduces the frames first: overscan, trimming, bias, dark, gain. The reduced frames are in
electrons, so that ADU means electrons here, and the gain is 1.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

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
from pydantic import Field

from crdetect.errors import InputError
from crdetect.output import whole_or_nothing
from crdetect.profiles import Known, required
from crdetect.recipe import (
    SCHEMA,
    Job,
    SchemaRecipe,
    Value,
    described_inputs,
    schema_input,
)
from crdetect.run import DetectionRun
from crdetect.schema.block import Block
from crdetect.schema.kinds import Flag, NumberOrFile

ELECTRONS = "megaradrp's gain step: data are in electrons"
"""Origin of the gain, for HISTORY and summary."""


class MegaraInputs(Block):
    """Inputs of an observing block of MEGARA beside the parameters and the calibration frames."""

    rnoise: NumberOrFile | None = Field(
        None,
        description="read noise of one exposure, as a standard deviation; none takes RDNOISE1 and "
        "RDNOISE2 from the header",
        json_schema_extra={"unit": "e"},
    )
    save_preprocessed: Flag = Field(
        False,
        description="write the exposures as they are before detection (preprocessed_1.fits, …)",
    )
    save_postprocessed: Flag = Field(
        False,
        description="write the exposures with cosmic rays replaced by meancr2 "
        "(postprocessed_1.fits, …)",
    )
    dtype: Literal["float32"] = Field(
        "float32", description="accepted for compatibility, without effect: type of the images"
    )
    debug: Flag = Field(
        False,
        description="accepted for compatibility, without effect: processing.log keeps everything",
    )


# Names of the files that save_preprocessed and save_postprocessed ask for.
_SAVED_PATTERNS = ("preprocessed_[0-9]*.fits", "postprocessed_[0-9]*.fits")


class MegaraCrDetectionRecipe(SchemaRecipe, MegaraBaseRecipe):
    """Find the cosmic rays of equivalent exposures of MEGARA."""

    model = MegaraInputs
    RecipeInput = schema_input(
        *described_inputs(MegaraInputs),
        *SCHEMA.values(),
        master_bias=MasterBiasRequirement(optional=True),
        master_dark=MasterDarkRequirement(optional=True),
        master_bpm=MasterBPMRequirement(optional=True),
    )
    RecipeResult = RecipeResult
    crmasks = Result(CRMasks)
    summary = Result(Value("a summary"), "masked pixels, features, gain and noise, quality")
    datamodel = MegaraDataModel()
    logger = logging.getLogger("numina.recipes.crdetect")

    def types_getter(self) -> tuple[list, list]:
        """Choose megaradrp's steps after trimming.

        Its step that interpolates bad pixels is left out: bad pixels become missing values.
        """
        dark_and_gain = [correctors.get_corrector_dark, correctors.get_corrector_gain]
        return [MasterBias, MasterDark], [correctors.get_corrector_bias, dark_and_gain]

    def read(self, rinput: RecipeInput) -> Job:
        """Validate the requirements, then reduce the frames with megaradrp's steps."""
        inputs, parameters = self.validate(rinput)
        read = self._preprocess(rinput)
        if rinput.master_bpm is not None:
            _take_out_bad_pixels([data for data, _ in read], rinput.master_bpm.open()[0].data)
        image, header = read[0]
        known = _known_of(inputs, header, image.shape, self.data_folder)
        return self.make_job(rinput, inputs, parameters, read, known)

    def _preprocess(self, rinput: RecipeInput) -> list[tuple[np.ndarray, fits.Header]]:
        """Remove the overscan, trim, subtract bias and dark, and apply the gain."""
        flows = self.init_filters(rinput)
        processed = []
        for frame in rinput.obresult.frames:
            hdul = frame.open()
            for flow in flows:
                hdul = flow(hdul)
            processed.append((hdul[0].data.astype(np.float32), hdul[0].header))
        return processed

    def reduce(self, job: Job) -> RecipeResult:
        """Find the cosmic rays."""
        finished = self.detect(job)
        self._save(job, finished)
        masks = self.signed(finished.crmasks_hdul())
        return self.create_result(crmasks=masks, summary=finished.summary() | job.summary())

    def _save(self, job: Job, finished: DetectionRun) -> None:
        """Write the preprocessed and postprocessed exposures that were asked for."""
        saving, exposures = job.inputs, job.exposures
        with whole_or_nothing(Path(), _SAVED_PATTERNS) as folder:
            if saving.save_preprocessed:
                _write(exposures.stack.exposures, exposures.headers, folder, "preprocessed")
            if saving.save_postprocessed:
                clean = finished.combined["meancr2"].value
                replaced = np.where(finished.masks.crmasks, clean, exposures.stack.exposures)
                _write(replaced, exposures.headers, folder, "postprocessed")


def _write(arrays: np.ndarray, headers: Sequence[fits.Header], folder: Path, name: str) -> None:
    for i, (array, header) in enumerate(zip(arrays, headers, strict=True), start=1):
        fits.PrimaryHDU(array, header).writeto(folder / f"{name}_{i}.fits")


def _take_out_bad_pixels(arrays: Sequence[np.ndarray], bpm: np.ndarray) -> None:
    """Set bad pixels to NaN, which means a missing value."""
    for array in arrays:
        if bpm.shape != array.shape:
            raise InputError(
                f"master_bpm has shape {bpm.shape}, the trimmed exposures have {array.shape}"
            )
        array[bpm != 0] = np.nan


def _known_of(
    inputs: MegaraInputs, header: fits.Header, shape: tuple[int, int], folder: Path
) -> dict[str, Known]:
    """Return gain, read noise and bias of exposures in electrons, with the bias subtracted.

    The read noise is taken from the requirements, else from the header for each amplifier: RDNOISE1
    for the lower half of the rows, RDNOISE2 for the upper half.
    """
    rnoise = required(inputs, folder).get("rnoise")
    if rnoise is None:
        rnoise = Known(_read_noise(header, shape), "keys RDNOISE1 and RDNOISE2, electrons")
    bias = Known(0.0, "megaradrp's bias step")
    return {"gain": Known(1.0, ELECTRONS), "rnoise": rnoise, "bias": bias}


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
