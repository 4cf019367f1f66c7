"""The stack of equivalent exposures, and the statistics of its pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from crdetect.equality import by_value
from crdetect.errors import InputError

_PIXELS_PER_BLOCK = 1 << 17  # a block of rows and its temporaries stay in the processor's cache


@by_value
@dataclass(frozen=True)
class Stack:
    """Equivalent exposures of one target.

    Parameters
    ----------
    exposures : (N, rows, columns) array
        In ADU, bias removed. Values that are not finite are missing. Kept as float32; float32
        input without infinities is not copied.

    Raises
    ------
    InputError
        With fewer than two exposures, arrays that are not 2-D, or an exposure without any finite
        value.
    """

    exposures: np.ndarray

    def __post_init__(self):
        exposures = np.asarray(self.exposures, dtype=np.float32)
        if exposures.ndim != 3:
            raise InputError(f"a stack has 3 dimensions (N, rows, columns), not {exposures.ndim}")
        if len(exposures) < 2:
            raise InputError(f"at least 2 exposures are needed, not {len(exposures)}")
        for i, exposure in enumerate(exposures, start=1):
            if not np.isfinite(exposure).any():
                raise InputError(f"exposure {i} has no finite value")
        if np.isinf(exposures).any():
            exposures = np.where(np.isinf(exposures), np.float32(np.nan), exposures)
        object.__setattr__(self, "exposures", exposures)

    def __len__(self) -> int:
        return len(self.exposures)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of an exposure."""
        return self.exposures.shape[1:]

    @cached_property
    def complete(self) -> bool:
        """Whether no value is missing."""
        return not np.isnan(self.exposures).any()

    def check_coincidences(self, coincidences: int) -> None:
        """Raise InputError unless 2 ≤ c < N; of two exposures, c is 1 whatever it should be."""
        if len(self) > 2 and not 2 <= coincidences < len(self):
            raise InputError(
                f"mm_cr_coincidences must be at least 2 and less than the number of exposures "
                f"({len(self)}), not {coincidences}"
            )

    def statistics(self, coincidences: int = 2) -> Statistics:
        """Order statistics of every pixel; see `Statistics`.

        Parameters
        ----------
        coincidences : int
            The number c of hits of one pixel to be found, 2 ≤ c < N.

        Raises
        ------
        InputError
            If c is not less than the number of exposures.
        """
        self.check_coincidences(coincidences)
        coincidences = min(coincidences, len(self) - 1)
        planes = {
            name: np.empty(self.shape, np.float32)
            for name in ("min2d", "median2d", "mean2d", "max2d")
        }
        count2d = np.empty(self.shape, np.int16)

        def reduce_rows(rows: slice) -> None:
            result, count2d[rows] = _reduce(self.exposures[:, rows], coincidences, self.complete)
            for name, plane in result.items():
                planes[name][rows] = plane

        for_row_blocks(reduce_rows, self.shape)
        return Statistics(count2d=count2d, coincidences=coincidences, **planes)


@by_value
@dataclass(frozen=True)
class Statistics:
    """Statistics of the values of each pixel; all arrays are (rows, columns), ADU.

    Attributes
    ----------
    min2d : array of float32
        Mean of the N − c lowest values (of the lowest one, where fewer than c + 1 are left);
        the minimum for N = 3, c = 2.
    median2d, mean2d, max2d : array of float32
        NaN where no value is left.
    count2d : array of int16
        How many exposures have a value.
    coincidences : int
        The number c of hits to be found.
    """

    min2d: np.ndarray
    median2d: np.ndarray
    mean2d: np.ndarray
    max2d: np.ndarray
    count2d: np.ndarray
    coincidences: int

    @cached_property
    def detectable(self) -> np.ndarray:
        """Pixels with at least c + 1 values, the others are never flagged."""
        return self.count2d > self.coincidences


def row_blocks(shape: tuple[int, int]) -> Iterator[slice]:
    """Slices of rows that cover an image, each with few enough pixels for the cache."""
    rows = max(1, _PIXELS_PER_BLOCK // max(1, shape[1]))
    return (slice(start, start + rows) for start in range(0, shape[0], rows))


def for_row_blocks(function: Callable[[slice], Any], shape: tuple[int, int]) -> list[Any]:
    """Call a function with each block of rows of an image, in threads; return what it returns."""
    with ThreadPoolExecutor() as pool:
        return list(pool.map(function, row_blocks(shape)))


def sort_planes(planes: list[np.ndarray]) -> list[np.ndarray]:
    """Sort the values of each pixel over a few planes, by an odd-even transposition network.

    For the few exposures of a stack this takes a fraction of `numpy.sort` along the first axis.
    NaN is not allowed.
    """
    planes = list(planes)
    for turn in range(len(planes)):
        for i in range(turn % 2, len(planes) - 1, 2):
            low = np.minimum(planes[i], planes[i + 1])
            planes[i + 1] = np.maximum(planes[i], planes[i + 1])
            planes[i] = low
    return planes


def _reduce(
    exposures: np.ndarray, coincidences: int, complete: bool
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Reduce some rows of a stack to its statistics."""
    if complete:
        ordered = sort_planes(list(exposures))
        count = np.full(exposures.shape[1:], len(exposures), np.int16)
    else:
        missing = np.isnan(exposures)
        ordered = sort_planes(list(np.where(missing, np.float32(np.inf), exposures)))
        count = (len(exposures) - missing.sum(axis=0)).astype(np.int16)
    planes = {
        # sums over sorted values do not depend on the order of the exposures
        "min2d": _mean_of_lowest(ordered, np.maximum(count - coincidences, 1)),
        "median2d": _median_of_sorted(ordered, count),
        "mean2d": _mean_of_lowest(ordered, count),
        "max2d": _value_at(ordered, count - 1),
    }
    if not complete:
        for plane in planes.values():
            plane[count == 0] = np.nan
    return planes, count


def _mean_of_lowest(ordered: list[np.ndarray], how_many: np.ndarray) -> np.ndarray:
    if (how_many == 1).all():
        return ordered[0].copy()
    total = np.zeros(ordered[0].shape, np.float64)
    for position, plane in enumerate(ordered):
        np.add(total, plane, out=total, where=how_many > position)
    return (total / np.maximum(how_many, 1)).astype(np.float32)


def _median_of_sorted(ordered: list[np.ndarray], count: np.ndarray) -> np.ndarray:
    upper = _value_at(ordered, count // 2)
    if (count % 2 == 1).all():
        return upper
    return 0.5 * (_value_at(ordered, (count - 1) // 2) + upper)


def _value_at(ordered: list[np.ndarray], position: np.ndarray) -> np.ndarray:
    """Value of each pixel at a position of its sorted values."""
    first = int(position.flat[0])
    if 0 <= first < len(ordered) and (position == first).all():
        return ordered[first].copy()
    value = ordered[0].copy()
    for i, plane in enumerate(ordered):
        np.copyto(value, plane, where=position == i)
    return value
