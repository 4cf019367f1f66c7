"""The parameters: one schema, from which everything that names a parameter is made.

Each block of parameters is a frozen pydantic model: `General` here, those of the criteria and of
the detectors beside what they are for. The validation of YAML files, the requirements of the
numina recipe, the template, the table in the documentation, the HISTORY cards and PARAMS of
``crmasks.fits`` are derived from them.
"""

from __future__ import annotations

import json
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
    ] = parameter(..., "equivalent exposures, in order")
    extnum: Annotated[
        Count | str | None, BeforeValidator(_digits), Accepts("an extension's number or name")
    ] = parameter(None, "extension that holds the image; none: the first one with an image")
    gain: PositiveOrFile = parameter(..., "gain", "e/ADU")
    rnoise: NumberOrFile = parameter(..., "read noise", "ADU")
    bias: AnyOrFile = parameter(0.0, "bias level, removed once, on reading", "ADU")


class General(Block):
    """Parameters that do not belong to one method."""

    title: ClassVar[str] = "general"

    crmethod: CrMethod = parameter(
        "mm_pycosmic",
        "detector of one image, alone, with the Median-Minimum diagram (mm_), or with joint "
        "detection (joint_); mmcosmic and joint are those alone",
    )
    mm_cr_coincidences: AtLeastTwo = parameter(
        2, "hits of a pixel to be found; less than the number of exposures"
    )
    device: Literal["auto", "cpu", "cuda"] = parameter(
        "auto", "processor for the networks (deepcr, conn); auto: a GPU if there is one"
    )
    use_auxmedian: Flag = parameter(
        False, "replace masked pixels by the cleaned median (AUXCLEAN) instead of the minimum"
    )
    interactive: Flag = parameter(
        False, "let a person refine the boundary in the diagram, and look at what is flagged"
    )
    flux_factor: Annotated[
        Literal["auto"] | Positive | tuple[Positive, ...] | None,
        Accepts("auto, a number > 0, or a list of them, one per exposure"),
    ] = parameter(None, "flux of each exposure relative to the median")
    flux_factor_regions: Regions | None = parameter(None, "where flux factors are measured")
    apply_flux_factor_to: Literal["original", "simulated"] = parameter(
        "simulated", "what the flux factors are applied to"
    )
    dilation: Growth = parameter(0, "dilation of all masks but MEANCR, after detection", "pixel")
    regions_to_be_skipped: Regions | None = parameter(None, "regions where nothing is flagged")
    pixels_to_be_flagged_as_cr: Pixels | None = parameter(
        None, "pixels flagged in MEDIANCR, MEANCRT and each CRMASK, whatever is detected"
    )
    pixels_to_be_ignored_as_cr: Pixels | None = parameter(None, "pixels never flagged")
    pixels_to_be_ignored_in_mediancr: Pixels | None = parameter(
        None, "pixels never flagged in MEDIANCR, whatever is flagged in the exposures"
    )
    pixels_to_be_replaced_by_local_median: PixelsAndWidths | None = parameter(
        None,
        "pixels replaced, in the combinations with masks, by the median of the others in a box "
        "around them; an even width counts as the next odd one",
    )
    verify_cr: Flag = parameter(False, "let a person keep or reject each feature of MEDIANCR")
    semiwindow: AtLeastOne = parameter(15, "half width of the image around a feature", "pixel")
    color_scale: Literal["zscale", "minmax"] = parameter("zscale", "grey levels of the figures")
    maxplots: Annotated[int, WholeNumber(-1)] = parameter(
        0, "features drawn in each PDF file, the first ones (-1: all, 0: no PDF files)"
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
            lines.append(f"  # {item.description}{unit}: {item.accepted}")
            lines.append(f"  {item.name}: {yaml_value(item.default)}")
    return "\n".join(lines) + "\n"
