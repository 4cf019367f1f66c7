"""Recipes of numina: they take an observing block, and return masks and combined images.

The requirements of the recipes are made from the schema in `crdetect.parameters`. numina passes
their values on unchanged, and the schema validates all of them when the recipe runs. All the faults
of the input together raise one `numina.exceptions.ValidationError`, which numina shows as one line.

In this module an *observing block* is numina's description of the frames and of how to reduce them;
it is not a block of parameters (`crdetect.schema.block.Block`). The folder ``recipes`` holds no
recipes: numina demands this name for the folder of default requirements.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numina.core import BaseRecipe
from numina.core.dataholders import Requirement, Result
from numina.core.recipeinout import RecipeInput, RecipeResult
from numina.core.requirements import ObservationResultRequirement
from numina.exceptions import NoResultFound, ValidationError
from numina.types.dataframe import DataFrame
from numina.types.datatype import DataType
from numina.types.frame import DataFrameType
from numina.types.product import DataProductMixin
from numina.types.qc import QC
from pydantic import Field

from crdetect import __version__
from crdetect.catalogue import BESIDE_FITS, COMBINED, patterns
from crdetect.control import faults_of_control_file, other_names, warn_of_other_profiles
from crdetect.equality import by_value
from crdetect.errors import InputError, Stopped
from crdetect.exposures import Exposures, image_of, make_exposures, read_image
from crdetect.interactive import detect_with_person
from crdetect.loader import AnyImage, StoppedByPerson
from crdetect.methods import Method
from crdetect.output import whole_or_nothing
from crdetect.parameters import ALIASES, BLOCKS, Parameters
from crdetect.profiles import Known, ObservingBlockInputs, known_of, recognise, with_saturation
from crdetect.run import DetectionRun, Run, run, run_with_masks
from crdetect.schema.block import Block, is_none
from crdetect.schema.kinds import Flag
from crdetect.schema.words import (
    Described,
    describe_block,
    unknown_parameter,
    validate_block,
    yaml_value,
)
from crdetect.stored import read_crmasks, read_masks_file

# ---------------------------------------------------------------------------------------------
# Requirements and results


class Default(str):
    """Text of the default of a requirement, which marks a value that the user did not give.

    numina gives a recipe the default of a requirement if the user gives no value. The class
    distinguishes it from a value of the user, even one of the same text, and ``numina
    show-recipes`` prints it like any text.
    """

    __slots__ = ()


class Value(DataType):
    """Data type of a requirement whose value numina passes on unchanged.

    Parameters
    ----------
    accepted : str
        Text that says which values the schema accepts; ``numina show-recipes`` prints it as the
        type.
    """

    def __init__(self, accepted: str = "anything"):
        super().__init__(object)
        self.accepted = accepted

    def descriptive_name(self) -> str:
        """Return the text that says which values are accepted."""
        return self.accepted


class CrMasks(DataProductMixin, DataFrameType):
    """Data type of a ``crmasks.fits``."""

    def __init__(self):
        super().__init__(datamodel=AnyImage)

    def _datatype_load(self, obj: Any) -> DataFrame | None:
        # any text is taken for the name of a file; build_recipe_input checks that the file exists
        return None if is_none(obj) else DataFrame(filename=str(obj))


class MasksRequirement(Requirement):
    """Requirement of masks, which are searched for in three places.

    They are a file that the observing block names, else the result of an earlier observing block,
    else a product in the control file or in the database.

    numina itself stops searching if there is no result of an earlier observing block.
    """

    def query(self, dal: Any, obsres: Any, options: Any = None) -> DataFrame:
        """Search for the masks."""
        try:
            return super().query(dal, obsres, options)
        except (NoResultFound, OSError, ValueError):  # the last two: results were removed
            return self.query_on_dal(dal, obsres)

    def query_on_ob(self, ob: Any) -> DataFrame:
        """Return the masks that the observing block names; an empty value names none."""
        value = super().query_on_ob(ob)
        if value is None:
            raise NoResultFound("the block names no masks")
        return value


def schema_input(*parameters: Described, **others: Requirement) -> type[RecipeInput]:
    """Make the input class of a recipe from parameters of the schema.

    Parameters
    ----------
    *parameters : Described
        Parameters that become requirements.
    **others : Requirement
        Other requirements, by their names.
    """
    requirements = {"obresult": ObservationResultRequirement()} | others
    for parameter in parameters:
        unit = f", in {parameter.unit}" if parameter.unit else ""
        requirements[parameter.name] = Requirement(
            Value(parameter.accepted),
            parameter.description + unit,
            optional=True,
            default=Default(yaml_value(parameter.default)),
        )
    return type("SchemaInput", (RecipeInput,), requirements)


CombinedResult = type(
    "CombinedResult",
    (RecipeResult,),
    {product.stem: Result(DataFrameType(AnyImage), product.holds) for product in COMBINED.values()},
)
"""Result class of a recipe that combines exposures."""


class CombinationInputs(ObservingBlockInputs):
    """Inputs of an observing block that combines exposures with masks of an earlier run."""

    force: Flag = Field(
        False,
        description="apply the masks although they are of other exposures, or in another order",
    )


def described_inputs(model: type[Block]) -> list[Described]:
    """Describe the inputs of an observing block without ``images``, which are its frames."""
    return [item for item in describe_block(model) if item.name != "images"]


SCHEMA = {item.name: item for block in BLOCKS.values() for item in describe_block(block)}
"""Descriptions of all parameters, by their names."""

# ---------------------------------------------------------------------------------------------
# Recipes


@by_value
@dataclass(frozen=True)
class Job:
    """An observing block whose requirements are valid, and whose frames were read.

    Attributes
    ----------
    rinput : numina.core.recipeinout.RecipeInput
        The input as numina made it.
    inputs : Block
        Inputs of the observing block: extension, gain, read noise, bias and the like.
    parameters : Parameters
        Parameters that were given, and the defaults of the others.
    exposures : Exposures
        The frames.
    known : dict of Known
        gain, rnoise, bias, and saturation if it is known, with their origins.
    """

    rinput: RecipeInput
    inputs: Block
    parameters: Parameters
    exposures: Exposures
    known: dict[str, Known]

    def history(self) -> list[str]:
        """Return lines on the program, the frames and the detector, for the HISTORY cards."""
        lines = [f"crdetect {__version__}, by numina"]
        identities = enumerate(self.exposures.identities, start=1)
        lines += [f"- exposure {i}: {identity.name}" for i, identity in identities]
        return lines + [f"- {name} = {known}" for name, known in self.known.items()]

    def summary(self) -> dict[str, Any]:
        """Return the exposures, and gain, read noise, bias and saturation with their origins."""
        exposures = [
            {"name": identity.name, "uuid": identity.identifier}
            for identity in self.exposures.identities
        ]
        return {"exposures": exposures} | {
            name: {"value": None if np.ndim(known.value) else known.value, "from": known.origin}
            for name, known in self.known.items()
        }


@dataclass(frozen=True)
class InputNotes:
    """Notes on the input of an observing block, kept until the recipe runs and reports faults.

    Attributes
    ----------
    others : dict
        Values that were given under names of no requirement.
    faults : list of str
        What is wrong with the observing block, the control file and the masks.
    sources : dict of str
        Where each parameter was given: observing block, control file or command line.
    """

    others: dict[str, Any] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    sources: dict[str, str] = field(default_factory=dict)


def _too_few(frames: int, fewest: int) -> list[str]:
    """Return the fault of an observing block with too few frames; no fault if there are enough."""
    if frames >= fewest:
        return []
    text = {2: "two", 3: "three"}[fewest]
    return [f"frames must be {text} or more equivalent exposures, not {frames}"]


class SchemaRecipe(BaseRecipe):
    """Base class of the recipes: the schema validates values, and faults make one line.

    Attributes
    ----------
    model : type of Block
        Class of the inputs of an observing block: extension, gain, read noise, bias and the like.
    """

    datamodel = AnyImage()
    logger = logging.getLogger("numina.recipes.crdetect")
    model: type[Block] = ObservingBlockInputs

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._notes = InputNotes()

    def build_recipe_input(self, ob: Any, dal: Any) -> RecipeInput:
        """Build the input of the recipe, and note its faults, which `run` reports."""
        faults = self.look_at_block(ob, dal)
        faults += faults_of_control_file(ob, dal)
        warn_of_other_profiles(ob, dal)
        others = other_names(ob, dal, self.requirements())
        for name in others:
            ob.requirements.pop(name, None)
        rinput = super().build_recipe_input(ob, dal)
        faults += self.look_at_input(rinput)
        sources = {name: found["source"] for name, found in getattr(dal, "sources", {}).items()}
        self._notes = InputNotes(others, faults, sources)
        return rinput

    def look_at_block(self, _ob: Any, _dal: Any) -> list[str]:
        """Prepare an observing block before numina builds the input; return its faults."""
        return []

    def look_at_input(self, _rinput: RecipeInput) -> list[str]:
        """Check the input that numina has built; return its faults."""
        return []

    def run(self, rinput: RecipeInput) -> RecipeResult:
        """Run the recipe.

        Raises
        ------
        numina.exceptions.ValidationError
            If the input has faults, which the message names in one line; or, as StoppedByPerson, if
            a person stopped the run.
        """
        block = rinput.obresult
        _print_as_numina_does()
        try:
            return self.reduce(self.read(rinput))
        except InputError as error:
            line = " ".join(str(error).split())
            raise ValidationError(f"block {block.id} ({block.mode}): {line}") from error
        except Stopped as stopped:
            raise StoppedByPerson(
                f"block {block.id} ({block.mode}): a person stopped it, there are no products"
            ) from stopped

    def run_qc(self, recipe_input: RecipeInput, recipe_result: RecipeResult) -> RecipeResult:
        """Set the QC flag of the result from its summary, and log the reasons."""
        quality = recipe_result.summary["quality"]
        recipe_result.qc = QC[quality["verdict"]]
        for reason in quality["reasons"]:
            self.logger.warning("quality %s", reason)
        self.logger.info("quality of block %s: %s", recipe_input.obresult.id, quality["verdict"])
        return recipe_result

    def read(self, rinput: RecipeInput) -> Job:
        """Validate the requirements, then read the frames."""
        raise NotImplementedError

    def reduce(self, job: Job) -> RecipeResult:
        """Reduce the frames of an observing block as its mode says."""
        raise NotImplementedError

    def given(self, rinput: RecipeInput, names: Iterable[str]) -> dict[str, Any]:
        """Return the values that the user gave for these names."""
        values = {name: getattr(rinput, name) for name in names if name in self.requirements()}
        return {name: value for name, value in values.items() if not isinstance(value, Default)}

    @property
    def data_folder(self) -> Path:
        """Folder to which the names of frames refer."""
        return Path(self.runinfo.get("data_dir") or "")

    def validate(self, rinput: RecipeInput) -> tuple[Block, Parameters]:
        """Validate the requirements.

        Returns
        -------
        inputs : Block
            Inputs of the observing block.
        parameters : Parameters
            Parameters of the run.

        Raises
        ------
        InputError
            If there are faults; the message names all of them.
        """
        others = dict(self._notes.others)
        aliases = {name for name in others if ALIASES.get(name) in self.requirements()}
        values = self.given(rinput, SCHEMA) | {name: others.pop(name) for name in aliases}
        n = len(rinput.obresult.frames)
        method = Method.parse(str(values.get("crmethod")))
        fewest = method.fewest_exposures if "crmethod" in self.requirements() else 2
        faults = _too_few(n, fewest)
        faults += self._notes.faults
        faults += [unknown_parameter(name, self.requirements()) for name in others]
        inputs, more = validate_block(self.model, self.given(rinput, self.model.model_fields))
        parameters, still_more = Parameters.parse(values)
        if faults := faults + more + still_more:
            raise InputError("; ".join(faults))
        self._tell_sources(values)
        return inputs, parameters

    def _tell_sources(self, values: Mapping[str, Any]) -> None:
        """Log where parameters were given; those of the observing block at level debug."""
        for name, value in values.items():
            source = self._notes.sources.get(name, "block")
            level = logging.DEBUG if source == "block" else logging.INFO
            source += " or configs.yaml" if source == "control file" else ""
            self.logger.log(level, "%s = %s (from the %s)", name, json.dumps(value), source)

    def make_job(
        self,
        rinput: RecipeInput,
        inputs: Block,
        parameters: Parameters,
        read: Sequence[tuple[np.ndarray, fits.Header]],
        known: dict[str, Known],
    ) -> Job:
        """Make the exposures from the images, and log the origins of gain, read noise and bias."""
        for name, value in known.items():
            self.logger.info("%s = %s", name, value)
        values = {name: known[name].value for name in ("gain", "rnoise", "bias")}
        names = [frame.filename or "in memory" for frame in rinput.obresult.frames]
        images, headers = zip(*read, strict=True)
        exposures = make_exposures(images, headers, names, **values)
        return Job(rinput, inputs, parameters, exposures, known)

    def combined(self, finished: Run) -> dict[str, Any]:
        """Return the combined images as FITS, by the names of their results."""
        return {
            product.stem: self.signed(finished.combined_hdul(name))
            for name, product in COMBINED.items()
        }

    def detect(self, job: Job) -> DetectionRun:
        """Find the cosmic rays, and combine the exposures.

        Tables of features (CSV), figures (PNG, PDF), the report and ``params_used.yaml`` are
        written into the work folder.
        """
        finished = run(
            job.exposures,
            job.parameters,
            history=job.history(),
            preamble="# As requirements of the observing block these values give the same masks.\n",
            progress=self.logger.info,
            detect=detect_with_person,
        )
        with whole_or_nothing(Path(), patterns(BESIDE_FITS)) as folder:
            finished.write(folder, BESIDE_FITS)
        self.logger.info("masks %s: %s", finished.uuid, finished.masked_pixels)
        return finished

    def signed(self, hdul: fits.HDUList) -> fits.HDUList:
        """Add keywords to the header of a product that say which recipe made it."""
        self.set_base_headers(hdul[0].header)
        return hdul


class AnyInstrumentRecipe(SchemaRecipe):
    """Recipe for images of any instrument, whose detector an instrument profile describes."""

    def look_at_block(self, ob: Any, dal: Any) -> list[str]:
        """Select the instrument profile of the observing block by the header of its first frame."""
        try:
            _recognise_instrument(ob, dal)
        except InputError as error:
            return [str(error)]
        return []

    def read(self, rinput: RecipeInput) -> Job:
        """Validate the requirements, then read the frames."""
        inputs, parameters = self.validate(rinput)
        read = [_read_frame(frame, inputs.extnum) for frame in rinput.obresult.frames]
        image, header = read[0]
        profile = rinput.obresult.configuration
        known = known_of(inputs, profile, header, image.shape, self.data_folder)
        parameters = with_saturation(parameters, known, self.given(rinput, SCHEMA))
        return self.make_job(rinput, inputs, parameters, read, known)


class CrDetectionRecipe(AnyInstrumentRecipe):
    """Find the cosmic rays of equivalent exposures, and combine the exposures."""

    RecipeInput = schema_input(*described_inputs(ObservingBlockInputs), *SCHEMA.values())
    RecipeResult = CombinedResult
    crmasks = Result(CrMasks, "masks of cosmic rays")
    summary = Result(Value("a summary"), "masked pixels, features, gain and noise, quality")

    def reduce(self, job: Job) -> RecipeResult:
        """Find the cosmic rays, and combine the exposures with the masks."""
        finished = self.detect(job)
        return self.create_result(
            crmasks=self.signed(finished.crmasks_hdul()),
            summary=finished.summary() | job.summary(),
            **self.combined(finished),
        )


class CrCombinationRecipe(AnyInstrumentRecipe):
    """Combine equivalent exposures with the masks of a ``crmasks.fits``.

    ``mm_cr_coincidences``, ``use_auxmedian`` and the pixels to be replaced by a local median are
    those of the run that made the masks; the requirement ``use_auxmedian`` overrides its value.
    """

    model = CombinationInputs
    RecipeInput = schema_input(
        *described_inputs(CombinationInputs),
        SCHEMA["use_auxmedian"]._replace(default="as the masks were made"),
        crmasks=MasksRequirement(CrMasks, "masks of cosmic rays", optional=True),
    )
    RecipeResult = CombinedResult
    summary = Result(Value("a summary"), "the masks, gain and noise, quality")

    def look_at_input(self, rinput: RecipeInput) -> list[str]:
        """Check that the masks exist, before numina links or copies them."""
        if rinput.crmasks is None:
            return [_NO_MASKS]
        # as numina does: 'data/..' is the folder above even if data is a link
        path = Path(os.path.normpath(self.data_folder / rinput.crmasks.filename))
        if path.is_file():
            return []
        fault = f"crmasks: no file {rinput.crmasks.filename}, that is {path}"
        rinput.crmasks = None
        return [fault]

    def reduce(self, job: Job) -> RecipeResult:
        """Combine the exposures with the masks."""
        frame = job.rinput.crmasks
        if frame.frame is None:
            stored = read_masks_file(Path(frame.filename))
        else:
            stored = read_crmasks(frame.frame, frame.filename or "crmasks")
        given = self.given(job.rinput, ["use_auxmedian"])
        finished = run_with_masks(
            job.exposures,
            stored,
            job.parameters.general.use_auxmedian if given else None,
            force=job.inputs.force,
            history=job.history(),
            progress=self.logger.info,
        )
        self.logger.info(
            "masks %s of %s, use_auxmedian = %s",
            stored.uuid,
            frame.filename,
            finished.uses_auxmedian,
        )
        summary = finished.summary() | job.summary()
        return self.create_result(summary=summary, **self.combined(finished))


_NO_MASKS = (
    "crmasks is missing: name a file in the block or the control file, or let an earlier block or "
    "--db give it (--db does not give masks whose quality is BAD: name them to use them)"
)


def _recognise_instrument(ob: Any, dal: Any) -> None:
    """Select the profile by the header of the first frame, unless the observing block names one."""
    if ob.requested_profile is not None or not ob.frames:
        return
    image = ob.frames[0].open()
    header, date = image[0].header, AnyImage().extractor.extract("observation_date", image)
    if ob.frames[0].frame is None:
        image.close()
    found = recognise(header, dal.components.values(), date)
    if found != ob.profile:
        ob.requested_profile = found
        dal.assign_configuration(ob)
        ob.requested_profile = None


def _print_as_numina_does() -> None:
    """Give the console handler of crdetect the level and the format of numina's.

    numina gives the package of a recipe a handler that prints all messages down to DEBUG, and
    removes it after the run. The file ``processing.log`` still gets all messages.
    """
    ours, numinas = (
        [handler for handler in logging.getLogger(name).handlers if _is_console(handler)]
        for name in ("crdetect", "numina")
    )
    for handler in ours if numinas else ():
        handler.setLevel(numinas[0].level)
        handler.setFormatter(numinas[0].formatter)


def _is_console(handler: logging.Handler) -> bool:
    return isinstance(handler, logging.StreamHandler) and not isinstance(
        handler, logging.FileHandler
    )


def _read_frame(frame: DataFrame, extnum: int | str | None) -> tuple[np.ndarray, fits.Header]:
    if frame.frame is None:
        return read_image(Path(frame.filename), extnum)
    return image_of(frame.open(), extnum, frame.filename or "a frame")
