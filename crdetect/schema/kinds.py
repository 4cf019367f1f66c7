"""Kinds of values that a parameter may take, each with a text that says which values it accepts.

A kind is an annotated type of pydantic: ``la_niter: Rounds``. Numbers are also accepted as text
("1.0E6"), since YAML and the command line give some of them so.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema


@dataclass(frozen=True)
class Accepts:
    """Text that says which values a kind accepts, for messages, template and documentation.

    Attributes
    ----------
    words : str or callable
        The text, or a function without arguments that returns it.
    """

    words: str | Callable[[], str]

    @property
    def text(self) -> str:
        """The text."""
        return self.words if isinstance(self.words, str) else self.words()


@dataclass(frozen=True)
class WholeNumber:
    """Integer between two limits, both included: ``Annotated[int, WholeNumber(1)]``.

    Attributes
    ----------
    minimum, maximum : int
        The limits. The default maximum is that of a C int, since C libraries get the values.
    """

    minimum: int
    maximum: int = 2**31 - 1

    @property
    def text(self) -> str:
        """Text that says which integers are accepted."""
        if self.maximum == WholeNumber.maximum:
            return f"an integer ≥ {self.minimum}"
        return f"an integer from {self.minimum} to {self.maximum}"

    def __get_pydantic_core_schema__(
        self, _source: Any, _handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        limits = core_schema.int_schema(ge=self.minimum, le=self.maximum)
        return core_schema.no_info_before_validator_function(not_boolean, limits)


def not_boolean(value: Any) -> Any:
    """Refuse true and false as numbers, although Python takes them for 1 and 0."""
    if isinstance(value, bool):
        raise ValueError("a boolean is not a number")  # noqa: TRY004 (pydantic expects a ValueError)
    return value


def _flag(value: Any) -> Any:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    raise ValueError("neither true nor false")


def _digits(value: Any) -> Any:
    """Convert an integer that YAML read as text, because of quotation marks."""
    return int(value) if isinstance(value, str) and value.strip().isdecimal() else value


def _nested(value: Any) -> Any:
    """Make a list of a single item, which is accepted instead of a list."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, (list, tuple)) and value and not isinstance(value[0], (list, tuple, str)):
        return [value]
    return value


_REGION_TEXT = re.compile(r"\s*\[\s*(\d+)\s*:\s*(\d+)\s*,\s*(\d+)\s*:\s*(\d+)\s*\]\s*")


def _region(value: Any) -> Any:
    """Read ``[xmin, xmax, ymin, ymax]`` or ``"[xmin:xmax, ymin:ymax]"`` (FITS pixels)."""
    if isinstance(value, str):
        found = _REGION_TEXT.fullmatch(value)
        if not found:
            raise ValueError("not a region")
        value = [int(group) for group in found.groups()]
    return value


def _ordered(region: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    if region[0] > region[1] or region[2] > region[3]:
        raise ValueError("a region's limits are in the wrong order")
    return region


def _number_in_text(value: Any) -> Any:
    """Convert a number that YAML read as text, such as 1.0E6; leave the name of a file as it is."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


Number = Annotated[float, BeforeValidator(not_boolean), Accepts("a number")]
Positive = Annotated[float, BeforeValidator(not_boolean), Field(gt=0), Accepts("a number > 0")]
NonNegative = Annotated[float, BeforeValidator(not_boolean), Field(ge=0), Accepts("a number ≥ 0")]
Probability = Annotated[
    float, BeforeValidator(not_boolean), Field(ge=0, le=1), Accepts("a number between 0 and 1")
]
Flag = Annotated[bool, BeforeValidator(_flag), Accepts("true or false")]


Count = Annotated[int, WholeNumber(0)]
AtLeastOne = Annotated[int, WholeNumber(1)]
AtLeastTwo = Annotated[int, WholeNumber(2)]
Coordinate = Annotated[int, WholeNumber(1)]
Size = Annotated[int, WholeNumber(1, 301)]
Growth = Annotated[int, WholeNumber(0, 1000)]
Rounds = Annotated[int, WholeNumber(1, 1000)]
Seed = Annotated[int, BeforeValidator(not_boolean), Field(ge=0), Accepts("an integer ≥ 0, or none")]

PairOfPositive = Annotated[
    Positive | tuple[Positive, Positive], Accepts("a number > 0, or two: [peaks, tails]")
]
PairOfProbability = Annotated[
    Probability | tuple[Probability, Probability],
    Accepts("a number between 0 and 1, or two: [peaks, tails]"),
]
Region = Annotated[
    tuple[Coordinate, Coordinate, Coordinate, Coordinate],
    BeforeValidator(_region),
    AfterValidator(_ordered),
    Accepts("a region [xmin, xmax, ymin, ymax] in FITS pixels"),
]
Regions = Annotated[
    tuple[Region, ...],
    BeforeValidator(_nested),
    Accepts("a list of regions [xmin, xmax, ymin, ymax] in FITS pixels"),
]
Pixels = Annotated[
    tuple[tuple[Coordinate, Coordinate], ...],
    BeforeValidator(_nested),
    Accepts("a list of FITS pixels [x, y]"),
]
PixelsAndWidths = Annotated[
    tuple[tuple[Coordinate, Coordinate, Size, Size], ...],
    BeforeValidator(_nested),
    Accepts("a list of [x, y, width in x, width in y] in FITS pixels"),
]
FixedPoints = Annotated[
    tuple[tuple[Number, NonNegative] | tuple[Number, NonNegative, Positive], ...],
    BeforeValidator(_nested),
    Accepts("a list of points [x, y] or [x, y, weight] of the diagram, y ≥ 0"),
]
Offsets = Annotated[
    tuple[tuple[Number, Number], ...],
    BeforeValidator(_nested),
    Accepts("a list of [dx, dy], one per exposure"),
]
NumberOrFile = Annotated[
    NonNegative | str,
    BeforeValidator(_number_in_text),
    Accepts("a number ≥ 0 or the name of a FITS file"),
]
PositiveOrFile = Annotated[
    Positive | str,
    BeforeValidator(_number_in_text),
    Accepts("a number > 0 or the name of a FITS file"),
]
AnyOrFile = Annotated[
    Number | str,
    BeforeValidator(_number_in_text),
    Accepts("a number or the name of a FITS file"),
]
