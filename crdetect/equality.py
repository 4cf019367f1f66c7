"""Equality of objects that hold arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

import numpy as np

_Class = TypeVar("_Class", bound=type)


def by_value(cls: _Class) -> _Class:
    """Make the objects of a dataclass compare by value, arrays included.

    It is a decorator to be written above ``dataclass``. The comparison that a dataclass generates
    fails on arrays, because their ``==`` is an array. With this decorator two objects are equal if
    they are of one class and all their fields are equal; two arrays are equal if they have one
    shape and equal elements, where NaN equals NaN. The objects have no hash.
    """

    def equal(self: Any, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(
            _equal(getattr(self, field.name), getattr(other, field.name))
            for field in fields(cls)
            if field.compare
        )

    setattr(cls, "__eq__", equal)  # noqa: B010 (a type checker refuses the assignment)
    setattr(cls, "__hash__", None)  # noqa: B010
    return cls


def _equal(one: Any, other: Any) -> bool:
    if one is other:
        return True
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        one, other = np.asarray(one), np.asarray(other)
        floats = one.dtype.kind in "fc" and other.dtype.kind in "fc"
        return np.array_equal(one, other, equal_nan=floats)
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_equal(one[key], other[key]) for key in one)
    if isinstance(one, tuple | list) and isinstance(other, tuple | list):
        pairs = zip(one, other, strict=False)
        return len(one) == len(other) and all(_equal(*pair) for pair in pairs)
    if isinstance(one, float) and isinstance(other, float):
        return one == other or (np.isnan(one) and np.isnan(other))
    return bool(one == other)
