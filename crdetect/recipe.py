"""The recipes of numina: an observing block in, masks and combined images out.

The requirements are made from the schema in `crdetect.parameters`; numina passes their values on
as they were given, and the schema judges them all at once when the recipe runs. Whatever is wrong
with the input ends in one `numina.exceptions.ValidationError`, which numina shows as one line.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numina.core import BaseRecipe
from numina.core.dataholders import Requirement, Result
from numina.core.recipeinout import RecipeInput, RecipeResult
from numina.core.requirements import ObservationResultRequirement
from numina.exceptions import ValidationError
from numina.types.dataframe import DataFrame
from numina.types.datatype import DataType
from numina.types.frame import DataFrameType
from numina.types.product import DataProductMixin
from pydantic import Field

from crdetect import __version__
from crdetect.combine import COMBINATIONS, Combination
from crdetect.errors import InputError, Stopped
from crdetect.exposures import Exposures, image_of, make_exposures, number_or_map, read_image
from crdetect.interactive import detect_with_person
from crdetect.loader import AnyImage
from crdetect.masks import Features
from crdetect.parameters import (
    ALIASES,
    BLOCKS,
    Described,
    Inputs,
    NumberOrFile,
    Parameters,
    PositiveOrFile,
    describe_block,
    is_none,
    unknown_parameter,
    validate_block,
    yaml_value,
)
from crdetect.pipeline import Detection
from crdetect.products import (
    PATTERNS,
    StoredMasks,
    apply_masks,
    combined_hdul,
    crmasks_hdul,
    read_crmasks,
    read_masks_file,
    whole_or_nothing,
    write_tables,
)
from crdetect.runfile import requirements_text

# ---------------------------------------------------------------------------------------------
# Requirements and results


class BlockInputs(Inputs):
    """What to read, where the frames are those of an observing block."""

    images: tuple[str, ...] = ()
    gain: PositiveOrFile | None = Field(
        None,
        description="gain; none: from the instrument profile or the header",
        json_schema_extra={"unit": "e/ADU"},
    )
    rnoise: NumberOrFile | None = Field(
        None,
        description="read noise; none: from the instrument profile or the header",
        json_schema_extra={"unit": "ADU"},
    )


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


INPUTS = {item.name: item for item in describe_block(BlockInputs) if item.name != "images"}
SCHEMA = {item.name: item for block in BLOCKS.values() for item in describe_block(block)}

_WORK_PATTERNS = tuple(name for name in PATTERNS if not name.endswith(".fits"))
"""Tables and figures: those of an earlier run go when new ones come."""


# ---------------------------------------------------------------------------------------------
# Gain, read noise, bias


@dataclass(frozen=True)
class Known:
    """A number or a map of numbers, and where it comes from."""

    value: float | np.ndarray
    origin: str

    def __str__(self):
        value = "a map" if np.ndim(self.value) else f"{self.value:g}"
        return f"{value} (from {self.origin})"


def noise_of(
    inputs: BlockInputs, profile: Any, header: fits.Header, folder: Path
) -> dict[str, Known]:
    """Find gain (e/ADU), rnoise (ADU) and bias (ADU).

    The requirement comes first, then ``detector.gain`` or ``detector.rdnoise`` of the instrument
    profile, then GAIN or RDNOISE in the first exposure's header, be it that of the primary or of
    the image's extension. Profile and header give the read noise in electrons, as is usual there,
    the requirement ``rnoise`` gives it in ADU.

    Parameters
    ----------
    inputs : BlockInputs
        Requirements.
    profile : numina.instrument.generic.InstrumentGeneric
        The profile, as the observing block has it.
    header : astropy.io.fits.Header
        Of the first exposure.
    folder : Path
        Where the names of files with maps start from.

    Raises
    ------
    InputError
        If there is no value, or it is no number in range.
    """
    known = {
        name: Known(
            number_or_map(value, folder, name),
            f"requirement {name}" if name in inputs.model_fields_set else "default",
        )
        for name, value in inputs.model_dump(include={"gain", "rnoise", "bias"}).items()
        if value is not None
    }
    if "gain" not in known:
        known["gain"] = _look_up("gain", "detector.gain", "GAIN", profile, header)
    if "rnoise" not in known:
        electrons = _look_up("rnoise", "detector.rdnoise", "RDNOISE", profile, header)
        with np.errstate(all="ignore"):  # a gain of 0 in a map is found out later
            rnoise = electrons.value / known["gain"].value
        known["rnoise"] = Known(rnoise, f"{electrons.origin}, divided by gain")
    return {name: known[name] for name in ("gain", "rnoise", "bias")}


def _look_up(name: str, path: str, key: str, profile: Any, header: fits.Header) -> Known:
    value, origin = _property(profile, path), _origin(path, profile)
    if value is None:
        value, origin = header.get(key), f"key {key} of the header"
    if value is not None:
        return Known(_number(value, origin, name), origin)
    raise InputError(
        f"{name} is not known: give it in the requirements, or as {path} in an instrument "
        f"profile, or as {key} in the header of the first exposure"
    )


def _property(profile: Any, path: str) -> Any:
    try:
        return profile.get_property(path)
    except (AttributeError, KeyError):
        return None


def _origin(path: str, profile: Any) -> str:
    about = getattr(getattr(profile, "origin", None), "description", None)
    return f"{path} of the instrument profile" + (f" '{about}'" if about else "")


def _number(value: Any, origin: str, name: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = np.nan
    if not np.isfinite(number) or number < 0 or (name == "gain" and number == 0):
        raise InputError(f"{origin} is {value!r}, which is no {name}; give {name} as a requirement")
    return number


# ---------------------------------------------------------------------------------------------
# Recipes


@dataclass(frozen=True)
class Job:
    """An observing block, judged and read.

    Attributes
    ----------
    rinput : numina.core.recipeinout.RecipeInput
        As numina made it.
    parameters : Parameters
        Those given, and the defaults of the others.
    exposures : Exposures
        The frames.
    noise : dict of Known
        gain, rnoise and bias.
    """

    rinput: RecipeInput
    parameters: Parameters
    exposures: Exposures
    noise: dict[str, Known]

    def history(self) -> list[str]:
        """Lines for the HISTORY cards."""
        lines = [f"crdetect {__version__}, by numina"]
        lines += [f"- exposure {i}: {name}" for i, name in enumerate(self.exposures.names, start=1)]
        return lines + [f"- {name} = {known}" for name, known in self.noise.items()]

    def summary(self) -> dict[str, Any]:
        """Gain, read noise, bias and their origin, for ``result.json``."""
        return {
            name: {"value": None if np.ndim(known.value) else known.value, "from": known.origin}
            for name, known in self.noise.items()
        }


class SchemaRecipe(BaseRecipe):
    """What the recipes share: values judged by the schema, and one line where input is wrong."""

    datamodel = AnyImage()
    logger = logging.getLogger("numina.recipes.crdetect")

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._others: dict[str, Any] = {}

    def build_recipe_input(self, ob: Any, dal: Any) -> RecipeInput:
        """Build the input; names that no requirement has wait for `run`, which complains."""
        requirements = self.requirements()
        self._others = _other_names(ob, dal, requirements)
        for name in self._others:
            ob.requirements.pop(name, None)
        return super().build_recipe_input(ob, dal)

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

    def reduce(self, job: Job) -> RecipeResult:
        """Do what the mode is for."""
        raise NotImplementedError

    def given(self, rinput: RecipeInput, names: Iterable[str]) -> dict[str, Any]:
        """Take the values of these names that someone gave."""
        values = {name: getattr(rinput, name) for name in names if name in self.requirements()}
        return {name: value for name, value in values.items() if not isinstance(value, Default)}

    def faults(self, rinput: RecipeInput) -> list[str]:
        """Tell what is wrong apart from the parameters."""
        n = len(rinput.obresult.frames)
        return [f"frames must be three or more equivalent exposures, not {n}"] if n < 3 else []

    @property
    def data_folder(self) -> Path:
        """Where the names of frames start from."""
        return Path(self.runinfo.get("data_dir") or "")

    def read(self, rinput: RecipeInput) -> Job:
        """Judge the requirements, then read the frames."""
        frames = rinput.obresult.frames
        inputs, parameters = self.judge(rinput)
        opened = [_read_frame(frame, inputs.extnum) for frame in frames]
        headers = [header for _, header in opened]
        profile = rinput.obresult.configuration
        noise = noise_of(inputs, profile, headers[0], self.data_folder)
        for name, known in noise.items():
            self.logger.info("%s = %s", name, known)
        exposures = make_exposures(
            [data for data, _ in opened],
            headers,
            [frame.filename or "in memory" for frame in frames],
            **{name: known.value for name, known in noise.items()},
        )
        return Job(rinput, parameters, exposures, noise)

    def judge(self, rinput: RecipeInput) -> tuple[BlockInputs, Parameters]:
        """Judge the requirements; all faults are told at once."""
        others = dict(self._others)
        aliases = {name for name in others if ALIASES.get(name) in self.requirements()}
        values = self.given(rinput, SCHEMA) | {name: others.pop(name) for name in aliases}
        faults = self.faults(rinput)
        faults += [unknown_parameter(name, self.requirements()) for name in others]
        inputs, more = validate_block(BlockInputs, self.given(rinput, BlockInputs.model_fields))
        parameters, still_more = Parameters.parse(values)
        if faults := faults + more + still_more:
            raise InputError("; ".join(faults))
        return inputs, parameters

    def combined(self, combined: Mapping[str, Combination], job: Job, masks: str) -> dict[str, Any]:
        """Make the combined frames, by the names of their results."""
        history = [*job.history(), f"masks UUID: {masks}"]
        return {
            f"combined_{name}": self.signed(
                combined_hdul(combination, job.exposures.headers[0], history)
            )
            for name, combination in combined.items()
        }

    def detect(self, job: Job) -> tuple[Detection, fits.HDUList, dict[str, Any]]:
        """Find the cosmic rays; return also the masks as a product, and a summary.

        Tables of what was found (CSV), figures (PNG) and ``params_used.yaml`` go to the work
        folder.
        """
        exposures = job.exposures
        detection = detect_with_person(
            exposures.stack, exposures.noise, job.parameters, progress=self.logger.info
        )
        masks = self.signed(crmasks_hdul(detection, exposures.headers[0], job.history()))
        features = detection.features
        self._write_tables_and_figures(detection, features)
        summary = {
            "masks_uuid": masks[0].header["UUID"],
            "masked_pixels": {
                hdu.name: hdu.header["NPMASKED"] for hdu in masks if "NPMASKED" in hdu.header
            },
            "features": features.counts(),
            "used": {name: str(value) for name, value in detection.used().items()},
        }
        self.logger.info("masks %s: %s", summary["masks_uuid"], summary["masked_pixels"])
        return detection, masks, summary | job.summary()

    def _write_tables_and_figures(self, detection: Detection, features: Features) -> None:
        from crdetect.plots import save_figures

        self.logger.info("writing tables and figures")
        with whole_or_nothing(Path(), _WORK_PATTERNS) as folder:
            write_tables(features, folder)
            text = requirements_text(detection.repeating())
            (folder / "params_used.yaml").write_text(
                f"# These requirements of the block give the same masks again.\n{text}",
                encoding="utf-8",
            )
            save_figures(detection, folder)

    def signed(self, hdul: fits.HDUList) -> fits.HDUList:
        """Say in the header which recipe made a product."""
        self.set_base_headers(hdul[0].header)
        return hdul


class CrDetectionRecipe(SchemaRecipe):
    """Find the cosmic rays of equivalent exposures, and combine the exposures."""

    RecipeInput = schema_input(*INPUTS.values(), *SCHEMA.values())
    RecipeResult = CombinedResult
    crmasks = Result(CrMasks, "masks of cosmic rays")
    summary = Result(Value("a summary"), "numbers of masked pixels and of features")

    def reduce(self, job: Job) -> RecipeResult:
        """Detect, and combine with what was found."""
        detection, masks, summary = self.detect(job)
        combined = detection.combine(job.exposures.stack, job.exposures.noise)
        return self.create_result(
            crmasks=masks,
            summary=summary,
            **self.combined(combined, job, summary["masks_uuid"]),
        )


class CrCombinationRecipe(SchemaRecipe):
    """Combine equivalent exposures with the masks of a ``crmasks.fits``.

    What the masks were made with (``mm_cr_coincidences``, ``use_auxmedian``, pixels to be replaced
    by a local median) is read from them; ``use_auxmedian`` in the requirements overrides it.
    """

    RecipeInput = schema_input(
        *INPUTS.values(),
        SCHEMA["use_auxmedian"]._replace(default="as the masks were made"),
        crmasks=Requirement(CrMasks, "masks of cosmic rays", optional=True),
    )
    RecipeResult = CombinedResult
    summary = Result(Value("a summary"), "the masks")

    no_masks = "crmasks is missing: it must be the name of a file, or found by --db"

    def build_recipe_input(self, ob: Any, dal: Any) -> RecipeInput:
        """Build the input, and look if the masks are there before numina links or copies them."""
        rinput = super().build_recipe_input(ob, dal)
        if rinput.crmasks is not None:
            # as numina does: 'data/..' is the folder above, be data a link or not
            path = Path(os.path.normpath(self.data_folder / rinput.crmasks.filename))
            if not path.is_file():
                self.no_masks = f"crmasks: no file {rinput.crmasks.filename}, that is {path}"
                rinput.crmasks = None
        return rinput

    def faults(self, rinput: RecipeInput) -> list[str]:
        """Tell what is wrong apart from the parameters."""
        return super().faults(rinput) + ([self.no_masks] if rinput.crmasks is None else [])

    def reduce(self, job: Job) -> RecipeResult:
        """Combine with the masks."""
        stored = self._read_masks(job)
        given = self.given(job.rinput, ["use_auxmedian"])
        use_auxmedian = stored.uses_auxmedian(job.parameters, given)
        self.logger.info("masks %s, use_auxmedian = %s", stored.uuid, use_auxmedian)
        combined = apply_masks(stored, job.exposures.stack, job.exposures.noise, use_auxmedian)
        summary = {"masks_uuid": stored.uuid, "use_auxmedian": use_auxmedian}
        return self.create_result(
            summary=summary | job.summary(), **self.combined(combined, job, stored.uuid)
        )

    def _read_masks(self, job: Job) -> StoredMasks:
        frame = job.rinput.crmasks
        if frame.frame is None:
            stored = read_masks_file(Path(frame.filename))
        else:
            stored = read_crmasks(frame.frame, frame.filename or "crmasks")
        own = job.exposures.headers[0].get("DATE-OBS")
        if own not in (None, stored.date_obs):
            self.logger.warning(
                "the masks are of %s, the first frame is of %s", stored.date_obs, own
            )
        return stored


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


def _other_names(ob: Any, dal: Any, requirements: Iterable[str]) -> dict[str, Any]:
    """Collect what was given under a name that is no requirement: numina would not tell."""
    profiles = getattr(dal, "req_table", {}).get(ob.instrument, {})
    if profiles and ob.profile not in profiles:
        SchemaRecipe.logger.warning(
            "the control file has requirements for profile %s, not for that of the frames, %s",
            ", ".join(profiles),
            ob.profile,
        )
    modes = profiles.get(ob.profile, {}).get(ob.pipeline, {})
    values = {entry["name"]: entry["content"] for entry in modes.get(ob.mode, ())}
    values |= ob.requirements
    # the command line speaks to all blocks, of either mode
    line = getattr(dal, "extra_data", {})
    values |= {name: value for name, value in line.items() if name not in {*SCHEMA, "crmasks"}}
    return {name: value for name, value in values.items() if name not in requirements}


def _read_frame(frame: DataFrame, extnum: int | str | None) -> tuple[np.ndarray, fits.Header]:
    if frame.frame is None:
        return read_image(Path(frame.filename), extnum)
    return image_of(frame.open(), extnum, frame.filename or "a frame")
