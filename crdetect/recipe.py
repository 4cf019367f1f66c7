"""The recipes of numina: an observing block in, masks and combined images out.

The requirements are made from the schema in `crdetect.parameters`; numina passes their values on
as they were given, and the schema judges them all at once when the recipe runs. Whatever is wrong
with the input ends in one `numina.exceptions.ValidationError`, which numina shows as one line.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
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
from crdetect.combine import COMBINATIONS, Combination
from crdetect.errors import InputError, Stopped
from crdetect.exposures import Exposures, image_of, make_exposures, read_image
from crdetect.interactive import detect_with_person
from crdetect.loader import AnyImage
from crdetect.methods import Method
from crdetect.output import whole_or_nothing
from crdetect.parameters import ALIASES, BLOCKS, Parameters
from crdetect.pipeline import Detection
from crdetect.products import (
    PATTERNS,
    apply_masks,
    check_applicable,
    combined_hdul,
    crmasks_hdul,
    read_crmasks,
    read_masks_file,
    write_problematic,
    write_tables,
)
from crdetect.profiles import BlockInputs, Known, known_of, recognise, with_saturation
from crdetect.quality import assess_stored
from crdetect.runfile import requirements_text
from crdetect.schema.block import Block, is_none
from crdetect.schema.kinds import Flag
from crdetect.schema.words import (
    Described,
    describe_block,
    is_misspelt,
    unknown_parameter,
    validate_block,
    yaml_value,
)

# ---------------------------------------------------------------------------------------------
# Requirements and results


class Default(str):
    """Text of a default, shown to people. A value of this class was not given."""

    __slots__ = ()


class Value(DataType):
    """A value passed on as it was given.

    Parameters
    ----------
    accepted : str
        What the schema accepts, in words: ``numina show-recipes`` shows it as the type.
    """

    def __init__(self, accepted: str = "anything"):
        super().__init__(object)
        self.accepted = accepted

    def descriptive_name(self) -> str:
        """Say what is accepted."""
        return self.accepted


class CrMasks(DataProductMixin, DataFrameType):
    """A ``crmasks.fits``."""

    def __init__(self):
        super().__init__(datamodel=AnyImage)

    def _datatype_load(self, obj: Any) -> DataFrame | None:
        # whatever stands there is taken as a file's name: build_recipe_input looks if it exists
        return None if is_none(obj) else DataFrame(filename=str(obj))


class MasksRequirement(Requirement):
    """Masks: named in the block, else of an earlier block, else found as any product.

    numina itself looks no further where a link to an earlier block leads nowhere.
    """

    def query(self, dal: Any, obsres: Any, options: Any = None) -> DataFrame:
        """Search the masks."""
        try:
            return super().query(dal, obsres, options)
        except (NoResultFound, OSError, ValueError):  # also results that were removed
            return self.query_on_dal(dal, obsres)

    def query_on_ob(self, ob: Any) -> DataFrame:
        """Take what the block names; an empty value names nothing."""
        value = super().query_on_ob(ob)
        if value is None:
            raise NoResultFound("the block names no masks")
        return value


def schema_input(*parameters: Described, **others: Requirement) -> type[RecipeInput]:
    """Make the input of a recipe: the observing block, and parameters of the schema."""
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
    {
        f"combined_{name}": Result(DataFrameType(AnyImage), f"combination {name}")
        for name in COMBINATIONS
    },
)
"""Result of a recipe that combines exposures."""


class CombinationInputs(BlockInputs):
    """What to read, and if the masks may be of other exposures."""

    force: Flag = Field(
        False,
        description="apply the masks although they are of other exposures, or in another order",
    )


def described_inputs(model: type[Block]) -> list[Described]:
    """Describe what a block tells beside the parameters; the images are its frames."""
    return [item for item in describe_block(model) if item.name != "images"]


SCHEMA = {item.name: item for block in BLOCKS.values() for item in describe_block(block)}

_WORK_PATTERNS = tuple(name for name in PATTERNS if not name.endswith(".fits"))
"""Tables and figures: those of an earlier run go when new ones come."""


# ---------------------------------------------------------------------------------------------
# Recipes


@dataclass(frozen=True)
class Job:
    """An observing block, judged and read.

    Attributes
    ----------
    rinput : numina.core.recipeinout.RecipeInput
        As numina made it.
    inputs : Block
        What the block tells beside the parameters.
    parameters : Parameters
        Those given, and the defaults of the others.
    exposures : Exposures
        The frames.
    known : dict of Known
        gain, rnoise, bias, and saturation where it is known.
    """

    rinput: RecipeInput
    inputs: Block
    parameters: Parameters
    exposures: Exposures
    known: dict[str, Known]

    def history(self) -> list[str]:
        """Lines for the HISTORY cards."""
        lines = [f"crdetect {__version__}, by numina"]
        identities = enumerate(self.exposures.identities, start=1)
        lines += [f"- exposure {i}: {identity.name}" for i, identity in identities]
        return lines + [f"- {name} = {known}" for name, known in self.known.items()]

    def summary(self) -> dict[str, Any]:
        """Tell exposures, gain, read noise, bias, saturation and their origin."""
        exposures = [
            {"name": identity.name, "uuid": identity.identifier}
            for identity in self.exposures.identities
        ]
        return {"exposures": exposures} | {
            name: {"value": None if np.ndim(known.value) else known.value, "from": known.origin}
            for name, known in self.known.items()
        }


def _too_few(frames: int, *, two: bool) -> list[str]:
    """Say how many frames a block must have, if it has fewer."""
    least, text = (2, "two") if two else (3, "three")
    if frames >= least:
        return []
    return [f"frames must be {text} or more equivalent exposures, not {frames}"]


class SchemaRecipe(BaseRecipe):
    """What the recipes share: values judged by the schema, and one line where input is wrong."""

    datamodel = AnyImage()
    logger = logging.getLogger("numina.recipes.crdetect")
    model: type[Block] = BlockInputs
    """What a block tells beside the parameters."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._others: dict[str, Any] = {}
        self._faults: list[str] = []
        self._sources: dict[str, str] = {}

    def build_recipe_input(self, ob: Any, dal: Any) -> RecipeInput:
        """Build the input; names that no requirement has wait for `run`, which complains."""
        requirements = self.requirements()
        self._faults += _faults_of_control_file(ob, dal)
        _warn_of_other_profiles(ob, dal)
        self._others = _other_names(ob, dal, requirements)
        for name in self._others:
            ob.requirements.pop(name, None)
        rinput = super().build_recipe_input(ob, dal)
        sources = getattr(dal, "sources", {})
        self._sources = {name: found["source"] for name, found in sources.items()}
        return rinput

    def run(self, rinput: RecipeInput) -> RecipeResult:
        """Run the recipe.

        Raises
        ------
        numina.exceptions.ValidationError
            With all that is wrong with the input, in one line.
        """
        block = rinput.obresult
        _print_as_numina_does()
        try:
            return self.reduce(self.read(rinput))
        except InputError as error:
            line = " ".join(str(error).split())
            raise ValidationError(f"block {block.id} ({block.mode}): {line}") from error
        except Stopped:
            self.logger.error("block %s (%s): stopped, no products", block.id, block.mode)  # noqa: TRY400
            sys.exit(3)

    def run_qc(self, recipe_input: RecipeInput, recipe_result: RecipeResult) -> RecipeResult:
        """Give the result the verdict of its summary, and log the reasons."""
        quality = recipe_result.summary["quality"]
        recipe_result.qc = QC[quality["verdict"]]
        for reason in quality["reasons"]:
            self.logger.warning("quality %s", reason)
        self.logger.info("quality of block %s: %s", recipe_input.obresult.id, quality["verdict"])
        return recipe_result

    def read(self, rinput: RecipeInput) -> Job:
        """Judge the requirements, then read the frames."""
        raise NotImplementedError

    def reduce(self, job: Job) -> RecipeResult:
        """Do what the mode is for."""
        raise NotImplementedError

    def given(self, rinput: RecipeInput, names: Iterable[str]) -> dict[str, Any]:
        """Take the values of these names that someone gave."""
        values = {name: getattr(rinput, name) for name in names if name in self.requirements()}
        return {name: value for name, value in values.items() if not isinstance(value, Default)}

    @property
    def data_folder(self) -> Path:
        """Where the names of frames start from."""
        return Path(self.runinfo.get("data_dir") or "")

    def judge(self, rinput: RecipeInput) -> tuple[Block, Parameters]:
        """Judge the requirements; all faults are told at once."""
        others = dict(self._others)
        aliases = {name for name in others if ALIASES.get(name) in self.requirements()}
        values = self.given(rinput, SCHEMA) | {name: others.pop(name) for name in aliases}
        n = len(rinput.obresult.frames)
        method = Method.parse(str(values.get("crmethod")))
        two = "crmethod" not in self.requirements() or method.fewest_exposures == 2
        faults = _too_few(n, two=two)
        faults += self._faults
        faults += [unknown_parameter(name, self.requirements()) for name in others]
        inputs, more = validate_block(self.model, self.given(rinput, self.model.model_fields))
        parameters, still_more = Parameters.parse(values)
        if faults := faults + more + still_more:
            raise InputError("; ".join(faults))
        self._tell_sources(values)
        return inputs, parameters

    def _tell_sources(self, values: Mapping[str, Any]) -> None:
        """Tell where parameters were given; those of the block only to the log file."""
        for name, value in values.items():
            source = self._sources.get(name, "block")
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
        """Stack images that were read; say where their noise and bias come from."""
        for name, value in known.items():
            self.logger.info("%s = %s", name, value)
        values = {name: known[name].value for name in ("gain", "rnoise", "bias")}
        names = [frame.filename or "in memory" for frame in rinput.obresult.frames]
        images, headers = zip(*read, strict=True)
        exposures = make_exposures(images, headers, names, **values)
        return Job(rinput, inputs, parameters, exposures, known)

    def combined(
        self, combined: Mapping[str, Combination], job: Job, *remarks: str
    ) -> dict[str, Any]:
        """Make the combined frames, by the names of their results."""
        header, history = job.exposures.header, [*job.history(), *remarks]
        return {
            f"combined_{name}": self.signed(combined_hdul(combination, header, history))
            for name, combination in combined.items()
        }

    def detect(
        self, job: Job
    ) -> tuple[Detection, dict[str, Combination], fits.HDUList, dict[str, Any]]:
        """Find the cosmic rays, and combine; return also the masks as a product, and a summary.

        Tables of what was found (CSV), figures (PNG, PDF), the report and ``params_used.yaml`` go
        to the work folder.
        """
        exposures = job.exposures
        detection = detect_with_person(
            exposures.stack, exposures.noise, job.parameters, progress=self.logger.info
        )
        masks = self.signed(
            crmasks_hdul(detection, exposures.header, job.history(), exposures.identities)
        )
        combined = detection.combine(exposures.stack, exposures.noise)
        self._write_tables_and_figures(detection, combined, job.history())
        summary = {
            "masks_uuid": masks[0].header["UUID"],
            "masked_pixels": {
                hdu.name: hdu.header["NPMASKED"] for hdu in masks if "NPMASKED" in hdu.header
            },
            "features": detection.features.counts(),
            "used": {name: str(value) for name, value in detection.used().items()},
            "quality": detection.quality.to_mapping(),
        }
        self.logger.info("masks %s: %s", summary["masks_uuid"], summary["masked_pixels"])
        return detection, combined, masks, summary | job.summary()

    def _write_tables_and_figures(
        self, detection: Detection, combined: Mapping[str, Combination], history: list[str]
    ) -> None:
        from crdetect.plots import save_all

        with whole_or_nothing(Path(), _WORK_PATTERNS) as folder:
            self.logger.info("writing tables")
            write_tables(detection.features, folder)
            write_problematic(detection.problematic, folder)
            text = requirements_text(detection.repeating())
            (folder / "params_used.yaml").write_text(
                f"# These requirements of the block give the same masks again.\n{text}",
                encoding="utf-8",
            )
            save_all(detection, combined, history, folder, self.logger.info)

    def signed(self, hdul: fits.HDUList) -> fits.HDUList:
        """Say in the header which recipe made a product."""
        self.set_base_headers(hdul[0].header)
        return hdul


class AnyInstrumentRecipe(SchemaRecipe):
    """Reads images of any instrument; a profile tells what is known of it."""

    def build_recipe_input(self, ob: Any, dal: Any) -> RecipeInput:
        """Build the input, with the profile whose keys the first frame has."""
        try:
            _recognise_instrument(ob, dal)
        except InputError as error:
            self._faults.append(str(error))
        return super().build_recipe_input(ob, dal)

    def read(self, rinput: RecipeInput) -> Job:
        """Judge the requirements, then read the frames."""
        inputs, parameters = self.judge(rinput)
        read = [_read_frame(frame, inputs.extnum) for frame in rinput.obresult.frames]
        image, header = read[0]
        profile = rinput.obresult.configuration
        known = known_of(inputs, profile, header, image.shape, self.data_folder)
        parameters = with_saturation(parameters, known, self.given(rinput, SCHEMA))
        return self.make_job(rinput, inputs, parameters, read, known)


class CrDetectionRecipe(AnyInstrumentRecipe):
    """Find the cosmic rays of equivalent exposures, and combine the exposures."""

    RecipeInput = schema_input(*described_inputs(BlockInputs), *SCHEMA.values())
    RecipeResult = CombinedResult
    crmasks = Result(CrMasks, "masks of cosmic rays")
    summary = Result(Value("a summary"), "masked pixels, features, gain and noise, quality")

    def reduce(self, job: Job) -> RecipeResult:
        """Detect, and combine with what was found."""
        _, combined, masks, summary = self.detect(job)
        return self.create_result(
            crmasks=masks,
            summary=summary,
            **self.combined(combined, job, f"masks UUID: {summary['masks_uuid']}"),
        )


class CrCombinationRecipe(AnyInstrumentRecipe):
    """Combine equivalent exposures with the masks of a ``crmasks.fits``.

    What the masks were made with (``mm_cr_coincidences``, ``use_auxmedian``, pixels to be replaced
    by a local median) is read from them; ``use_auxmedian`` in the requirements overrides it.
    """

    model = CombinationInputs
    RecipeInput = schema_input(
        *described_inputs(CombinationInputs),
        SCHEMA["use_auxmedian"]._replace(default="as the masks were made"),
        crmasks=MasksRequirement(CrMasks, "masks of cosmic rays", optional=True),
    )
    RecipeResult = CombinedResult
    summary = Result(Value("a summary"), "the masks, gain and noise, quality")

    def build_recipe_input(self, ob: Any, dal: Any) -> RecipeInput:
        """Build the input, and look if the masks are there before numina links or copies them."""
        rinput = super().build_recipe_input(ob, dal)
        if rinput.crmasks is None:
            self._faults.append(_NO_MASKS)
            return rinput
        # as numina does: 'data/..' is the folder above, be data a link or not
        path = Path(os.path.normpath(self.data_folder / rinput.crmasks.filename))
        if not path.is_file():
            self._faults.append(f"crmasks: no file {rinput.crmasks.filename}, that is {path}")
            rinput.crmasks = None
        return rinput

    def reduce(self, job: Job) -> RecipeResult:
        """Combine with the masks."""
        exposures, frame = job.exposures, job.rinput.crmasks
        if frame.frame is None:
            stored = read_masks_file(Path(frame.filename))
        else:
            stored = read_crmasks(frame.frame, frame.filename or "crmasks")
        forced = check_applicable(stored, exposures, job.inputs.force)
        given = self.given(job.rinput, ["use_auxmedian"])
        use_auxmedian = stored.uses_auxmedian(job.parameters, given)
        self.logger.info(
            "masks %s of %s, use_auxmedian = %s", stored.uuid, frame.filename, use_auxmedian
        )
        combined = apply_masks(stored, exposures.stack, exposures.noise, use_auxmedian)
        quality = assess_stored(stored.masks, stored.verdict, forced)
        summary = {
            "masks_uuid": stored.uuid,
            "use_auxmedian": use_auxmedian,
            "forced": forced,
            "quality": quality.to_mapping(),
        }
        remarks = [f"masks UUID: {stored.uuid}", *([f"forced: {forced}"] if forced else [])]
        return self.create_result(
            summary=summary | job.summary(), **self.combined(combined, job, *remarks)
        )


_NO_MASKS = (
    "crmasks is missing: name a file in the block or the control file, or let an earlier block or "
    "--db give it (--db does not give masks whose quality is BAD: name them to use them)"
)


def _recognise_instrument(ob: Any, dal: Any) -> None:
    """Give a block the profile whose keys the first frame has, unless one was asked for."""
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
    """Let our messages on the console look like those of numina, from the same level on.

    numina gives the package of a recipe a handler that prints everything down to DEBUG; it takes
    it away after the run. The file ``processing.log`` keeps everything.
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


def _faults_of_control_file(ob: Any, dal: Any) -> list[str]:
    """Find instruments, pipelines and modes in a control file that are nearly those of a block."""
    instruments = getattr(dal, "req_table", {})
    drp = dal.drps.query_by_name(ob.instrument)
    pipelines = instruments.get(ob.instrument, {}).get(ob.profile, {})
    modes = pipelines.get(ob.pipeline, {})
    levels = [
        (instruments, ob.instrument, dal.drps.query_all()),
        (pipelines, ob.pipeline, drp.pipelines),
        (modes, ob.mode, drp.modes),
    ]
    return [
        f"the control file has values for {name}; did you mean {right}?"
        for names, right, valid in levels
        for name in names
        if name not in valid and is_misspelt(name, right)
    ]


def _warn_of_other_profiles(ob: Any, dal: Any) -> None:
    """Warn of values for other profiles only, those that come with the package apart."""
    profiles = getattr(dal, "req_table", {}).get(ob.instrument, {})
    packaged = dal.drps.query_by_name(ob.instrument).default_requirements()
    packaged = packaged.get("requirements", {}).get(ob.instrument, {})
    given = [name for name, content in profiles.items() if content != packaged.get(name)]
    if given and ob.profile not in given:
        SchemaRecipe.logger.warning(
            "the control file has requirements for profile %s, not for that of the frames, %s",
            ", ".join(given),
            ob.profile,
        )


def _other_names(ob: Any, dal: Any, requirements: Collection[str]) -> dict[str, Any]:
    """Collect what was given under a name that is no requirement: numina would not tell."""
    table = getattr(dal, "req_table", {}).get(ob.instrument, {})
    modes = table.get(ob.profile, {}).get(ob.pipeline, {})
    values = {entry["name"]: entry["content"] for entry in modes.get(ob.mode, ())}
    values |= ob.requirements
    line = getattr(dal, "extra_data", {})
    if line.keys() - requirements:  # the command line speaks to all blocks
        known = _known_to_other_modes(dal.drps.query_by_name(ob.instrument), ob.pipeline)
        values |= {name: value for name, value in line.items() if name not in known}
    return {name: value for name, value in values.items() if name not in requirements}


def _known_to_other_modes(drp: Any, pipeline: str) -> set[str]:
    recipes = (drp.get_recipe_object(mode, pipeline) for mode in drp.pipelines[pipeline].recipes)
    return {name for recipe in recipes for name in recipe.requirements()}


def _read_frame(frame: DataFrame, extnum: int | str | None) -> tuple[np.ndarray, fits.Header]:
    if frame.frame is None:
        return read_image(Path(frame.filename), extnum)
    return image_of(frame.open(), extnum, frame.filename or "a frame")
