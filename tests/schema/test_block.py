from typing import ClassVar

import pytest
from pydantic import ValidationError

from crdetect.schema.block import Block, is_none, parameter
from crdetect.schema.kinds import Number


class Toy(Block):
    prefix: ClassVar[str] = "ty"
    ty_level: Number | None = parameter(1.0, "level", "ADU")


def test_block_is_frozen_and_closed():
    with pytest.raises(ValidationError):
        Toy().ty_level = 2.0
    with pytest.raises(ValidationError):
        Toy(ty_levle=2.0)


@pytest.mark.parametrize("given", [None, "", "none", "null", " None "])
def test_none_in_all_its_spellings(given):
    assert is_none(given)
    assert Toy(ty_level=given).ty_level is None


@pytest.mark.parametrize("given", [0, False, "0", "no", []])
def test_what_is_not_none(given):
    assert not is_none(given)


@pytest.mark.parametrize("given", [float("nan"), float("inf"), "nan", "-inf"])
def test_numbers_are_finite(given):
    with pytest.raises(ValidationError):
        Toy(ty_level=given)
