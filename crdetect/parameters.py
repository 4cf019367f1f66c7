"""Parameters of a run: one schema, from which all lists of parameters are made.

Each block of parameters is a frozen pydantic model. `General` is defined here, the blocks of
criteria and detectors are defined beside their code. They give the validation of YAML files, the
requirements of the numina recipes, the template, the tables of the documentation, and HISTORY and
PARAMS of ``crmasks.fits``.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializeAsAny,
    model_validator,
)

from crdetect.detectors.registry import REGISTRY
from crdetect.errors import InputError
from crdetect.joint.parameters import Joint
from crdetect.methods import Method, all_methods
from crdetect.mm.parameters import MM
from crdetect.schema.block import Block, parameter
from crdetect.schema.kinds import (
    Accepts,
    AnyOrFile,
    AtLeastOne,
    AtLeastTwo,
    Count,
    Flag,
    Growth,
    NumberOrFile,
    Pixels,
    PixelsAndWidths,
    Positive,
    PositiveOrFile,
    Regions,
    WholeNumber,
)
from crdetect.schema.words import describe_block, unknown_parameter, validate_block, yaml_value

# Maximum length of a comment in the template, in characters, without the indentation.
_COMMENT_WIDTH = 92


def _digits(value: Any) -> Any:
    """Convert an integer that YAML read as text, because of quotation marks."""
    return int(value) if isinstance(value, str) and value.strip().isdecimal() else value


def _known_method(crmethod: str) -> str:
    if crmethod not in all_methods(REGISTRY):
        raise ValueError("not a crmethod")
    return crmethod


CrMethod = Annotated[
    str,
    AfterValidator(_known_method),
    Accepts(lambda: f"one of {', '.join(all_methods(REGISTRY))}"),
]
"""Detection method: a detector of one image, a criterion that compares exposures, or both, such as
``mm_pycosmic``."""


class Inputs(Block):
    """Inputs of a run: the exposures, their extension, gain, read noise and bias."""

    title: ClassVar[str] = "input"

    images: Annotated[
        tuple[Annotated[str, Field(min_length=1)], ...],
        Field(min_length=2),
        Accepts("a list of FITS files: three or more, two for joint detection"),
    ] = parameter(..., "FITS files of the equivalent exposures, in order")
    extnum: Annotated[
        Count | str | None, BeforeValidator(_digits), Accepts("an extension's number or name")
    ] = parameter(
        None, "extension of the files that holds the image; none takes the first one with an image"
    )
    gain: PositiveOrFile = parameter(..., "gain, which turns ADU into electrons", "e/ADU")
    rnoise: NumberOrFile = parameter(
        ..., "read noise of one exposure, as a standard deviation", "ADU"
    )
    bias: AnyOrFile = parameter(
        0.0, "bias level, which is subtracted once, when the exposures are read", "ADU"
    )


class General(Block):
    """General parameters, which do not belong to a single method."""

    title: ClassVar[str] = "general"

    crmethod: CrMethod = parameter(
        "mm_pycosmic",
        "method: a detector that looks at one image at a time, M.M.Cosmic (mmcosmic, or mm_ "
        "with a detector), or joint detection of all exposures (joint, or joint_ with a "
        "detector)",
    )
    mm_cr_coincidences: AtLeastTwo = parameter(
        2,
        "number c of exposures in which the same pixel may be hit, less than the number N of "
        "exposures: min2d is the mean of the N − c lowest values; a lower c finds fainter "
        "hits, a higher c tolerates more hits at the same place",
    )
    device: Literal["auto", "cpu", "cuda"] = parameter(
        "auto", "processor that runs the networks (deepcr, conn); auto takes a GPU if there is one"
    )
    use_auxmedian: Flag = parameter(
        False,
        "fill masked pixels with the median image as the detector cleaned it (AUXCLEAN) "
        "instead of the minimum min2d",
    )
    interactive: Flag = parameter(
        False,
        "show the diagram to a person who may refine its boundary, and then the pixels that "
        "are flagged",
    )
    flux_factor: Annotated[
        Literal["auto"] | Positive | tuple[Positive, ...] | None,
        Accepts("auto, a number > 0, or a list of them, one per exposure"),
    ] = parameter(
        None,
        "flux of each exposure relative to the median image; auto measures it, none takes all "
        "fluxes as equal",
    )
    flux_factor_regions: Regions | None = parameter(
        None, "regions in which flux factors are measured; none takes the whole image"
    )
    apply_flux_factor_to: Literal["original", "simulated"] = parameter(
        "simulated",
        "original divides the exposures by their flux factors; simulated leaves them as they "
        "are and multiplies the signal that the diagram expects of each",
    )
    dilation: Growth = parameter(
        0,
        "width by which all masks except MEANCR grow after detection; raise it if faint "
        "borders of cosmic rays remain",
        "pixel",
    )
    regions_to_be_skipped: Regions | None = parameter(None, "regions in which no pixel is flagged")
    pixels_to_be_flagged_as_cr: Pixels | None = parameter(
        None, "pixels that are flagged in MEDIANCR, MEANCRT and each CRMASK in any case"
    )
    pixels_to_be_ignored_as_cr: Pixels | None = parameter(
        None, "pixels that are never flagged in any mask"
    )
    pixels_to_be_ignored_in_mediancr: Pixels | None = parameter(
        None, "pixels that are never flagged in MEDIANCR, but may be flagged in the other masks"
    )
    pixels_to_be_replaced_by_local_median: PixelsAndWidths | None = parameter(
        None,
        "pixels that are replaced, in the combinations that use masks, by the median of the "
        "other pixels in a box around them; an even width counts as the next odd one",
    )
    verify_cr: Flag = parameter(
        False, "show each feature of MEDIANCR to a person who keeps or rejects it"
    )
    semiwindow: AtLeastOne = parameter(
        15, "half width of the image that is shown around a feature", "pixel"
    )
    color_scale: Literal["zscale", "minmax"] = parameter(
        "zscale",
        "range of the grey levels in figures: zscale shows the background best, minmax covers "
        "all values",
    )
    maxplots: Annotated[int, WholeNumber(-1)] = parameter(
        0,
        "number of features that are drawn in each PDF file, from the first on; -1 draws all, "
        "0 writes no PDF files",
    )

    @property
    def method(self) -> Method:
        """Detector and criterion that ``crmethod`` names."""
        return Method.parse(self.crmethod)

    @property
    def detector(self) -> str | None:
        """Name of the detector of one image; None if ``crmethod`` names a criterion alone."""
        return self.method.detector

    @property
    def criterion(self) -> str | None:
        """Name of the criterion, ``mm`` or ``joint``; None for a detector alone."""
        return self.method.criterion

    @property
    def divides_by_flux(self) -> bool:
        """Whether the exposures themselves are divided by their flux factors."""
        return self.flux_factor is not None and self.apply_flux_factor_to == "original"

    @property
    def asks_a_person(self) -> bool:
        """Whether a person is asked during the run."""
        return self.interactive or self.verify_cr

    @model_validator(mode="after")
    def _flagged_or_ignored(self) -> Self:
        for name in ("pixels_to_be_ignored_as_cr", "pixels_to_be_ignored_in_mediancr"):
            both = set(self.pixels_to_be_flagged_as_cr or ()) & set(getattr(self, name) or ())
            if both:
                raise ValueError(
                    f"pixels {sorted(map(list, both))} are in pixels_to_be_flagged_as_cr "
                    f"and in {name}: keep them in one"
                )
        return self


OWN_BLOCKS: dict[str, type[Block]] = {"general": General, "mm": MM, "jt": Joint}
"""Blocks that do not belong to a detector, by the prefixes of their parameters."""


class _Blocks(Mapping[str, type[Block]]):
    """Mapping of prefixes to blocks, made when it is first used, as `REGISTRY` is."""

    @cached_property
    def _blocks(self) -> dict[str, type[Block]]:
        detectors = {kind.block.prefix: kind.block for kind in REGISTRY.values()}
        return {"general": General, **detectors, **OWN_BLOCKS}

    def __getitem__(self, prefix: str) -> type[Block]:
        return self._blocks[prefix]

    def __iter__(self) -> Iterator[str]:
        return iter(self._blocks)

    def __len__(self) -> int:
        return len(self._blocks)


BLOCKS: Mapping[str, type[Block]] = _Blocks()
"""All blocks by the prefixes of their parameters: ``general``, the detectors, the criteria."""

ALIASES = {"pixels_to_be-flagged_as_cr": "pixels_to_be_flagged_as_cr"}
"""Other accepted spellings of parameters, from the documentation of numina-crmasks."""


class Parameters(BaseModel):
    """All parameters of a run, in blocks.

    `from_mapping` takes the names and values of a YAML file; the constructor takes blocks.

    Attributes
    ----------
    general : General
        General parameters.
    mm, jt : MM, Joint
        Parameters of M.M.Cosmic and of joint detection.
    detectors : tuple of Block
        Parameters of every detector. Each block is also an attribute named by its prefix: ``la``,
        ``pc`` and so on.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    general: General = Field(default_factory=General)
    mm: MM = MM()
    jt: Joint = Joint()
    detectors: tuple[SerializeAsAny[Block], ...] = Field(
        default_factory=lambda: tuple(kind.block() for kind in REGISTRY.values())
    )

    def block(self, prefix: str) -> Block:
        """Return the block of parameters with this prefix, a key of `BLOCKS`.

        >>> Parameters().block("pc") == Parameters().pc
        True
        """
        if prefix in OWN_BLOCKS:
            return getattr(self, prefix)
        return next(block for block in self.detectors if block.prefix == prefix)

    def __getattr__(self, name: str) -> Any:
        for block in self.__dict__.get("detectors", ()):
            if block.prefix == name:
                return block
        return super().__getattr__(name)  # type: ignore[misc]  # pydantic defines it

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any], where: str = "parameters") -> Parameters:
        """Make the parameters from names and values.

        Parameters
        ----------
        values : mapping
            Values by the names of the parameters; missing ones take their defaults.
        where : str
            Origin of the values, for the error message.

        Raises
        ------
        InputError
            If names are unknown, or if values are not accepted or contradict each other. The
            message names all the faults.
        """
        parameters, faults = cls.parse(values)
        if parameters is None:
            raise InputError(f"{where}: " + "; ".join(faults))
        return parameters

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> tuple[Parameters | None, list[str]]:
        """Make the parameters as `from_mapping` does; return them, or None, and all the faults."""
        values, faults = _resolve_aliases(values)
        flat = {name: block for block, model in BLOCKS.items() for name in model.model_fields}
        faults += [unknown_parameter(name, flat) for name in values if name not in flat]
        blocks = {}
        for block, model in BLOCKS.items():
            own = {name: value for name, value in values.items() if flat.get(name) == block}
            valid, more = validate_block(model, own)
            faults += more
            if valid is not None:
                blocks[block] = valid
        if faults:
            return None, faults
        own = {block: blocks.pop(block) for block in OWN_BLOCKS}
        return cls(**own, detectors=tuple(blocks.values())), []

    def to_mapping(self) -> dict[str, Any]:
        """Return names and plain values (lists, numbers, text, None) in the order of the schema."""
        return {
            name: value
            for block in BLOCKS
            for name, value in self.block(block).model_dump(mode="json").items()
        }

    def active_blocks(self) -> Iterator[Block]:
        """Yield the blocks whose parameters count in a run with this crmethod."""
        yield self.general
        if self.general.detector:
            yield self.block(REGISTRY[self.general.detector].block.prefix)
        if self.general.criterion == "mm":
            yield self.mm
        if self.models_exposures:
            yield self.jt

    @property
    def models_exposures(self) -> bool:
        """Whether differences between the exposures and their noise are fitted."""
        adaptive = self.general.criterion == "mm" and self.mm.mm_synthetic == "adaptive"
        return self.general.criterion == "joint" or adaptive

    def history(self) -> list[str]:
        """Return the parameters of the active blocks as lines for the HISTORY cards."""
        return [
            f"- {name} = {json.dumps(value)}"
            for block in self.active_blocks()
            for name, value in block.model_dump(mode="json").items()
        ]


def _resolve_aliases(values: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    resolved: dict[str, Any] = {}
    faults = []
    for name, value in values.items():
        target = ALIASES.get(name, name)
        if target in resolved:
            faults.append(f"{target} is given twice (also as {name})")
        resolved[target] = value
    return resolved, faults


def spellings(name: str) -> set[str]:
    """Return all accepted spellings of a parameter's name, including the name itself."""
    target = ALIASES.get(name, name)
    return {target, *(alias for alias, other in ALIASES.items() if other == target)}


def template(blocks: Iterable[str] | None = None) -> str:
    """Write a params file with comments and the default of every parameter.

    Parameters
    ----------
    blocks : iterable of str, optional
        Blocks to write, keys of `BLOCKS`; all by default.

    Returns
    -------
    str
        YAML text, which ``crdetect run`` accepts once the exposures are named.
    """
    lines = [
        "# Parameters of crdetect. Coordinates are FITS pixels: the first is 1, x before y.",
        "images:  # three or more equivalent exposures; two for joint detection",
        "  - exposure_1.fits",
        "  - exposure_2.fits",
        "  - exposure_3.fits",
        "extnum: 0  # extension with the image: its number or name",
        "gain: 1.0  # e/ADU: a number or a FITS file with a map",
        "rnoise: 3.4  # ADU: a number or a FITS file with a map",
        "bias: 0.0  # ADU: a number or a FITS file with a map",
        "requirements:",
    ]
    for block in blocks or BLOCKS:
        lines += ["", f"  # ---- {BLOCKS[block].title} ----"]
        for item in describe_block(BLOCKS[block]):
            unit = f" [{item.unit}]" if item.unit else ""
            comment = [*_wrapped(item.description), *_wrapped(f"accepted{unit}: {item.accepted}")]
            lines += [f"  # {line}" for line in comment]
            lines.append(f"  {item.name}: {yaml_value(item.default)}")
    return "\n".join(lines) + "\n"


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, _COMMENT_WIDTH, break_long_words=False, break_on_hyphens=False)
