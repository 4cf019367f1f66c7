from typing import ClassVar, Literal

import pytest
import yaml
from pydantic import Field

from crdetect.mm.parameters import MM
from crdetect.schema.block import Block, parameter
from crdetect.schema.kinds import PairOfPositive, Rounds
from crdetect.schema.words import (
    describe_block,
    fault_of,
    is_misspelt,
    unknown_parameter,
    validate_block,
    yaml_value,
)


class Toy(Block):
    prefix: ClassVar[str] = "ty"
    ty_threshold: PairOfPositive = parameter((5.0, 3.0), "threshold", "sigma")
    ty_rounds: Rounds | None = parameter(None, "rounds")
    ty_filter: Literal["median", "mean"] = parameter("median", "filter")
    ty_level: float = parameter(..., "level", "ADU")


def test_block_in_words():
    assert [tuple(item) for item in describe_block(Toy)] == [
        ("ty_threshold", (5.0, 3.0), "a number > 0, or two: [peaks, tails]", "sigma", "threshold"),
        ("ty_rounds", None, "an integer from 1 to 1000, or none", None, "rounds"),
        ("ty_filter", "median", "one of median, mean", None, "filter"),
        ("ty_level", None, "float", "ADU", "level"),
    ]


def test_faults_name_what_is_accepted():
    block, faults = validate_block(Toy, {"ty_treshold": 3, "ty_rounds": 0, "ty_filter": "x"})
    assert block is None
    assert faults == [
        "ty_treshold is not a parameter; did you mean ty_threshold?",
        "ty_rounds must be an integer from 1 to 1000, or none, not 0",
        'ty_filter must be one of median, mean, not "x"',
        "ty_level is missing: it must be float",
    ]


def test_unknown_name_that_is_like_no_other():
    assert unknown_parameter("seed", ["la_niter"]) == "seed is not a parameter"


@pytest.mark.parametrize(
    ("name", "value", "fault"),
    [
        ("mm_knots_splfit", 7, None),
        ("mm_knots_splfit", 1, "mm_knots_splfit must be an integer from 2 to 100, not 1"),
        ("mm_boundary_fit", "piecewise", None),  # the points it needs are another matter
        ("mm_fixed_points_in_boundary", [[1, 2], [1, 3]], None),
        ("mm_seed", None, None),
    ],
)
def test_fault_of_one_parameter_whatever_the_others_are(name, value, fault):
    assert fault_of(MM, name, value) == fault


@pytest.mark.parametrize(
    "value", [None, True, 1, 1e6, 1e-7, "auto", (5.0, 3.0), ((1, 2), (3, 4)), "1.0", "none: x"]
)
def test_values_in_one_line_of_yaml(value):
    text = yaml_value(value)
    assert "\n" not in text
    read = yaml.safe_load(f"key: {text}")["key"]
    assert read == (yaml.safe_load(yaml.safe_dump(_lists(value))))


def _lists(value):
    return [_lists(item) for item in value] if isinstance(value, tuple) else value


@pytest.mark.parametrize(
    ("name", "expected"),
    [("CrDetecton", True), ("CrDetection", False), ("CrCombination", False), ("other", False)],
)
def test_misspelt_is_nearly_right(name, expected):
    assert is_misspelt(name, "CrDetection") is expected


def test_default_that_is_made_is_described_by_its_value():
    class Made(Block):
        ty_places: tuple[int, ...] = Field(default_factory=lambda: (1, 2), description="places")

    assert describe_block(Made)[0].default == (1, 2)
