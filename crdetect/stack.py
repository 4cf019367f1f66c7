"""The stack of equivalent exposures, and the statistics of its pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from crdetect.equality import by_value
from crdetect.errors import InputError
from crdetect.resources import ALL_PROCESSORS, Resources

# Approximate maximum number of pixels in a block of rows, so that the block and its temporary
# arrays stay in the processor's cache. It was chosen by hand and changes no result.
_PIXELS_PER_BLOCK = 1 << 17


@by_value
@dataclass(frozen=True)
class Stack:
    """Equivalent exposures of one target.

    Parameters
    ----------
    exposures : (N, rows, columns) array
        Values in ADU, after subtraction of the bias. A value that is not finite is missing. The
        array is converted to float32; float32 input without infinities is not copied.

    Attributes
    ----------
    complete : bool
        Whether all exposures have a value at all pixels.

    Raises
    ------
    InputError
        If there are fewer than two exposures, the array has not three dimensions, or an exposure
        has no finite value.
    """

    exposures: np.ndarray
    complete: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self):
        exposures = np.asarray(self.exposures, dtype=np.float32)
        if exposures.ndim != 3:
            raise InputError(f"a stack has 3 dimensions (N, rows, columns), not {exposures.ndim}")
        if len(exposures) < 2:
            raise InputError(f"at least 2 exposures are needed, not {len(exposures)}")
        complete = True
        for i, exposure in enumerate(exposures, start=1):
            finite = np.isfinite(exposure)
            if not finite.any():
                raise InputError(f"exposure {i} has no finite value")
            complete = complete and bool(finite.all())
        if not complete and np.isinf(exposures).any():
            exposures = np.where(np.isinf(exposures), np.float32(np.nan), exposures)
        object.__setattr__(self, "exposures", exposures)
        object.__setattr__(self, "complete", complete)

    def __len__(self) -> int:
        return len(self.exposures)

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows and number of columns of an exposure."""
        return self.exposures.shape[1:]

    def check_coincidences(self, coincidences: int) -> None:
        """Raise InputError unless 2 ≤ c < N.

        For two exposures any c is accepted, and c = 1 is used.
        """
        if len(self) > 2 and not 2 <= coincidences < len(self):
            raise InputError(
                f"mm_cr_coincidences must be at least 2 and less than the number of exposures "
                f"({len(self)}), not {coincidences}"
            )

    def statistics(
        self, coincidences: int = 2, resources: Resources = ALL_PROCESSORS
    ) -> Statistics:
        """Compute the order statistics of every pixel; see `Statistics`.

        Parameters
        ----------
        coincidences : int
            Number c of coincident hits that are to be found, 2 ≤ c < N.
        resources : Resources, optional
            Computing resources; the result does not depend on them.

        Raises
        ------
        InputError
            If c is less than 2, or not less than the number of exposures.
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

        for_row_blocks(reduce_rows, self.shape, resources)
        return Statistics(count2d=count2d, coincidences=coincidences, **planes)


@by_value
@dataclass(frozen=True)
class Statistics:
    """Order statistics of the values of each pixel; all arrays are (rows, columns).

    Attributes
    ----------
    min2d : array of float32
        Mean of the n − c lowest of the n values that a pixel has, ADU; the lowest value where n is
        not above c. It is the minimum for three exposures and c = 2.
    median2d, mean2d, max2d : array of float32
        Median, mean and maximum, ADU; NaN, as min2d, where a pixel has no value.
    count2d : array of int16
        Number of exposures that have a value.
    coincidences : int
        Number c of coincident hits that are to be found.
    """

    min2d: np.ndarray
    median2d: np.ndarray
    mean2d: np.ndarray
    max2d: np.ndarray
    count2d: np.ndarray
    coincidences: int

    @cached_property
    def detectable(self) -> np.ndarray:
        """Pixels with at least c + 1 values; the others are never flagged."""
        return self.count2d > self.coincidences


def row_blocks(shape: tuple[int, int]) -> Iterator[slice]:
    """Divide the rows of an image into slices of few enough pixels for the processor's cache."""
    rows = max(1, _PIXELS_PER_BLOCK // max(1, shape[1]))
    return (slice(start, start + rows) for start in range(0, shape[0], rows))


def for_row_blocks(
    function: Callable[[slice], Any], shape: tuple[int, int], resources: Resources = ALL_PROCESSORS
) -> list[Any]:
    """Call a function with each block of rows of an image, in threads.

    Returns
    -------
    list
        Results of the calls, from the first block to the last.
    """
    return resources.map(function, row_blocks(shape))


def sort_planes(planes: list[np.ndarray]) -> list[np.ndarray]:
    """Sort the values of each pixel over a few planes, by an odd-even transposition network.

    For the few exposures of a stack this takes a fraction of the time of `numpy.sort` along the
    first axis. NaN is not allowed.
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
    """Compute the planes of statistics, and the number of values, of some rows of a stack."""
    if complete:
        ordered = sort_planes(list(exposures))
        count = np.full(exposures.shape[1:], len(exposures), np.int16)
    else:
        missing = np.isnan(exposures)
        ordered = sort_planes(list(np.where(missing, np.float32(np.inf), exposures)))
        count = (len(exposures) - missing.sum(axis=0)).astype(np.int16)
    planes = {
        # Sums over sorted values do not depend on the order of the exposures.
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
    """Return the value at the given position of the sorted values of each pixel."""
    first = int(position.flat[0])
    if 0 <= first < len(ordered) and (position == first).all():
        return ordered[first].copy()
    value = ordered[0].copy()
    for i, plane in enumerate(ordered):
        np.copyto(value, plane, where=position == i)
    return value
