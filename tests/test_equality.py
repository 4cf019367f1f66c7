"""Objects that hold arrays compare by value, all of them."""

import dataclasses
import importlib
import inspect
import pkgutil
import typing
from types import SimpleNamespace

import numpy as np
import pytest

import crdetect
from crdetect import Masks, Noise, Parameters, Stack
from crdetect.combine import Combination
from crdetect.detectors.conn import _Layer
from crdetect.equality import by_value
from crdetect.equivalence.order_statistics import Tails
from crdetect.masks import Hits


@by_value
@dataclasses.dataclass(frozen=True)
class Held:
    value: object
    note: str = dataclasses.field(default="", compare=False)


@by_value
@dataclasses.dataclass(frozen=True)
class Other:
    value: object


NAN, ARRAY = float("nan"), np.array([1.0, np.nan, 3.0])


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        (ARRAY, ARRAY.copy(), True),
        (ARRAY, np.array([1.0, 2.0, 3.0]), False),
        (ARRAY, ARRAY[:2], False),
        (ARRAY, None, False),
        (None, ARRAY, False),
        (np.full(3, 2.0), 2.0, False),
        (np.array([True, False]), np.array([True, False]), True),
        (np.array(["a", "b"]), np.array(["a", "b"]), True),
        (np.array([1, 2]), np.array([1.0, 2.0]), True),
        ((ARRAY, 1), (ARRAY.copy(), 1), True),
        ((ARRAY, 1), (ARRAY.copy(),), False),
        ([ARRAY], [np.zeros(3)], False),
        ({"a": ARRAY}, {"a": ARRAY.copy()}, True),
        ({"a": ARRAY}, {"b": ARRAY}, False),
        (NAN, float("nan"), True),
        (NAN, 1.0, False),
        (Held(ARRAY), Held(ARRAY.copy()), True),
        (Held(ARRAY), Other(ARRAY), False),
        ("text", "text", True),
        ("text", b"text", False),
    ],
)
def test_equality_by_value(one, other, equal):
    assert (Held(one) == Held(other)) is equal
    assert (Held(one) != Held(other)) is not equal


def test_equal_objects_are_of_one_class_and_have_no_hash():
    assert Held(1) != Other(1)
    assert Held(1) != 1
    assert Held(1, "a") == Held(1, "b")
    with pytest.raises(TypeError, match="unhashable"):
        hash(Held(1))


def test_what_users_compare():
    def objects():
        mask = np.zeros((4, 5), bool)
        mask[1, 2] = True
        image = np.ones((4, 5), np.float32)
        image[2, 2] = np.nan
        cube = np.ones((3, 4, 5))
        cube[1, 2, 3] = np.nan
        return [
            Noise(np.full((4, 5), 2.0), 3.0),
            Noise(2.0, 3.0),
            Stack(cube),
            Stack(cube).statistics(2),
            Masks(mask, mask, np.array([mask] * 3), mask),
            Hits(mask, ~mask),
            Combination(image, image, mask),
        ]

    for one, other in zip(objects(), objects(), strict=True):
        assert one == other, type(one)
        array = next(v for v in vars(other).values() if isinstance(v, np.ndarray | float))
        name = next(name for name, value in vars(other).items() if value is array)
        assert one != dataclasses.replace(other, **{name: array + 1}), type(one)


def test_one_detection_equals_another_of_the_same_exposures():
    rng = np.random.default_rng(1)
    cube = rng.normal(100.0, 3.0, (3, 40, 50)).astype(np.float32)
    cube[:2, 20, 30] += 500.0
    parameters = Parameters.from_mapping({"crmethod": "mm_lacosmic", "mm_seed": 3})
    noise = Noise(1.0, 3.0)
    one, other = (crdetect.detect(Stack(cube.copy()), noise, parameters) for _ in range(2))
    assert one == other
    cube[:2, 10, 10] += 500.0
    assert one != crdetect.detect(Stack(cube), noise, parameters)


# ---------------------------------------------------------------------------------------------
# Every class of the package

# Tails are keys of a count: they are compared often, and equal ones are one object. Tensors are no
# arrays, and nobody compares layers of a network.
EXCEPT = {Tails, _Layer}


def parts_of(annotation):
    yield annotation
    for argument in typing.get_args(annotation):
        yield from parts_of(argument)


def dataclasses_of(modules):
    for module in modules:
        for cls in vars(module).values():
            if (
                inspect.isclass(cls)
                and dataclasses.is_dataclass(cls)
                and cls.__module__ == module.__name__
            ):
                yield cls


def holding_arrays(classes):
    """Find the classes with a field that is an array, or holds an object that has one."""
    fields = {}
    for cls in classes:
        names = {field.name for field in dataclasses.fields(cls)}
        hints = typing.get_type_hints(cls, localns={"torch": SimpleNamespace(Tensor=np.ndarray)})
        fields[cls] = [p for name, hint in hints.items() if name in names for p in parts_of(hint)]
    found = {np.ndarray}
    while True:
        more = {cls for cls, parts in fields.items() if found & set(filter(inspect.isclass, parts))}
        if more <= found | EXCEPT:
            return found - {np.ndarray}
        found |= more - EXCEPT


def classes_of_package():
    names = [module.name for module in pkgutil.walk_packages(crdetect.__path__, "crdetect.")]
    names.remove("crdetect.megara")  # imports megaradrp, which warns; it has no such class
    return set(dataclasses_of(map(importlib.import_module, names)))


def test_every_dataclass_with_arrays_compares_by_value():
    holding = holding_arrays(classes_of_package())
    assert {Noise, Stack, Masks, Hits, Combination} <= holding
    generated = [cls.__qualname__ for cls in holding if cls.__hash__ is not None]
    assert generated == []
    assert {cls.__eq__.__module__ for cls in holding} == {"crdetect.equality"}
    assert all(cls.__eq__ is object.__eq__ for cls in EXCEPT)
