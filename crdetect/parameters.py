"""The parameters: one schema, from which everything that names a parameter is made.

Each block of parameters is a frozen pydantic model: `General` here, those of the criteria and of
the detectors beside what they are for. The validation of YAML files, the requirements of the
numina recipe, the template, the table in the documentation, the HISTORY cards and PARAMS of
``crmasks.fits`` are derived from them.
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

_COMMENT_WIDTH = 92  # characters of a comment in the template, without indentation


def _digits(value: Any) -> Any:
    """Read a number in quotation marks."""
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
"""A detector of one image, a criterion that compares exposures, or both: ``mm_pycosmic``."""


class Inputs(Block):
    """What to read: the exposures and the numbers that turn ADU into electrons."""

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
    """Parameters that do not belong to one method."""

    title: ClassVar[str] = "general"

    crmethod: CrMethod = parameter(
        "mm_pycosmic",
        "method: a detector that looks at one image at a time, M.M.Cosmic (mmcosmic, or mm_ "
        "with a detector), or joint detection of all exposures (joint, or joint_ with a "
        "detector)",
    )
    mm_cr_coincidences: AtLeastTwo = parameter(
        2,
        "number c of hits of one pixel that are looked for, less than the number N of "
        "exposures: min2d is the mean of the N − c lowest values; a lower c finds fainter "
        "hits, a higher c bears more hits at the same place",
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
        None, "pixels that are flagged in MEDIANCR, MEANCRT and each CRMASK, whatever is detected"
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
        """What crmethod says: detector and criterion."""
        return Method.parse(self.crmethod)

    @property
    def detector(self) -> str | None:
        """Name of the detector of one image; None for a criterion alone."""
        return self.method.detector

    @property
    def criterion(self) -> str | None:
        """Name of what compares exposures, ``mm`` or ``joint``; None for a detector alone."""
        return self.method.criterion

    @property
    def divides_by_flux(self) -> bool:
        """Whether the exposures themselves are divided by flux factors."""
        return self.flux_factor is not None and self.apply_flux_factor_to == "original"

    @property
    def asks_a_person(self) -> bool:
        """Whether a person takes part."""
        return self.interactive or self.verify_cr

    @property
    def uses_mm(self) -> bool:
        """Whether the Median-Minimum diagram takes part."""
        return self.criterion == "mm"

    @property
    def uses_joint(self) -> bool:
        """Whether joint detection takes part."""
        return self.criterion == "joint"

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
"""The blocks that do not belong to a detector, by the prefix of their parameters."""


class _Blocks(Mapping[str, type[Block]]):
    """The blocks by the prefix of their parameters; see `REGISTRY` for when they are found."""

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
"""All blocks by the prefix of their parameters: those of the detectors stand between the others."""

ALIASES = {"pixels_to_be-flagged_as_cr": "pixels_to_be_flagged_as_cr"}
"""Spellings of the peer's documentation."""


class Parameters(BaseModel):
    """All the parameters of a run, block by block.

    Use `from_mapping` for the flat names of the YAML files; the constructor takes blocks.

    Attributes
    ----------
    general : General
        Those that do not belong to one method.
    mm, jt : MM, Joint
        Those of M.M.Cosmic and of joint detection.
    detectors : tuple of Block
        Those of every detector. Each block is also an attribute by its prefix: ``la``, ``pc``, ….
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    general: General = Field(default_factory=General)
    mm: MM = MM()
    jt: Joint = Joint()
    detectors: tuple[SerializeAsAny[Block], ...] = Field(
        default_factory=lambda: tuple(kind.block() for kind in REGISTRY.values())
    )

    def block(self, prefix: str) -> Block:
        """Return the block of this prefix, one of `BLOCKS`; of a detector also as an attribute.

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
        """Build the parameters from their flat names.

        Parameters
        ----------
        values : mapping
            Parameter names and values; what is missing takes its default.
        where : str
            Where the values come from, for the error message.

        Raises
        ------
        InputError
            With all the faults found: unknown names (and the nearest valid one), values that are
            not accepted, values that contradict each other.
        """
        parameters, faults = cls.parse(values)
        if parameters is None:
            raise InputError(f"{where}: " + "; ".join(faults))
        return parameters

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> tuple[Parameters | None, list[str]]:
        """Build the parameters as `from_mapping` does; return them, or None and all the faults."""
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
        """Flat names and plain values (lists, numbers, text, None), in the order of the schema."""
        return {
            name: value
            for block in BLOCKS
            for name, value in self.block(block).model_dump(mode="json").items()
        }

    def active_blocks(self) -> Iterator[Block]:
        """Yield the blocks that take part in a run with this crmethod."""
        yield self.general
        if self.general.detector:
            yield self.block(REGISTRY[self.general.detector].block.prefix)
        if self.general.criterion == "mm":
            yield self.mm
        if self.models_exposures:
            yield self.jt

    @property
    def models_exposures(self) -> bool:
        """Whether the exposures are matched and their noise is fitted."""
        adaptive = self.general.criterion == "mm" and self.mm.mm_synthetic == "adaptive"
        return self.general.criterion == "joint" or adaptive

    def history(self) -> list[str]:
        """Lines for the HISTORY cards: the parameters of the active blocks."""
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
    """Return all the spellings of a parameter's name, itself included."""
    target = ALIASES.get(name, name)
    return {target, *(alias for alias, other in ALIASES.items() if other == target)}


def template(blocks: Iterable[str] | None = None) -> str:
    """Write a commented params file with the default of every parameter.

    Parameters
    ----------
    blocks : iterable of str, optional
        Blocks to write, keys of `BLOCKS`; all by default.

    Returns
    -------
    str
        YAML text; ``crdetect run`` accepts it once the exposures are named.
    """
    lines = [
        "# Parameters of crdetect. Coordinates are FITS pixels: the first is 1, x before y.",
        "images:  # three or more equivalent exposures",
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
