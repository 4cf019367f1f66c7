"""Kinds of values by themselves; the parameters that are of them are tried in test_parameters."""

from typing import Annotated

import pytest
from pydantic import TypeAdapter, ValidationError

from crdetect.schema.kinds import (
    Accepts,
    FixedPoints,
    Flag,
    NumberOrFile,
    PairOfPositive,
    Pixels,
    Region,
    Regions,
    WholeNumber,
)


def read(kind, value):
    return TypeAdapter(kind).validate_python(value)


@pytest.mark.parametrize(
    ("kind", "given", "expected"),
    [
        (Annotated[int, WholeNumber(2, 5)], 2, 2),
        (Annotated[int, WholeNumber(2, 5)], "5", 5),
        (Annotated[int, WholeNumber(2, 5)], 3.0, 3),
        (PairOfPositive, "1.0E1", 10.0),
        (PairOfPositive, [5, 3], (5.0, 3.0)),
        (Flag, "True", True),
        (Region, "[1:2, 3:4]", (1, 2, 3, 4)),
        (Regions, [1, 2, 3, 4], ((1, 2, 3, 4),)),
        (Pixels, [5, 6], ((5, 6),)),
        (FixedPoints, [[0, 1], [2, 3, 4]], ((0.0, 1.0), (2.0, 3.0, 4.0))),
        (NumberOrFile, "1E1", 10.0),
        (NumberOrFile, "map.fits", "map.fits"),
    ],
)
def test_values_that_are_accepted(kind, given, expected):
    value = read(kind, given)
    assert value == expected
    assert type(value) is type(expected)


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        *((Annotated[int, WholeNumber(2, 5)], value) for value in (1, 6, 2.5, True, "a", None)),
        (Annotated[int, WholeNumber(0)], 2**31),
        (PairOfPositive, [5, 0]),
        (PairOfPositive, True),
        (Flag, 1),
        (Region, [2, 1, 3, 4]),
        (Region, "[1:2]"),
        (Pixels, [[1, 2, 3]]),
        (NumberOrFile, -1),
    ],
)
def test_values_that_are_refused(kind, given):
    with pytest.raises(ValidationError):
        read(kind, given)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (WholeNumber(2), "an integer ≥ 2"),
        (WholeNumber(1, 9), "an integer from 1 to 9"),
        (Accepts("a name"), "a name"),
        (Accepts(lambda: "one of these"), "one of these"),
    ],
)
def test_what_is_accepted_in_words(kind, text):
    assert kind.text == text
