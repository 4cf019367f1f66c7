"""The Median-Minimum diagram of clean pixels, computed from probabilities without random numbers.

A pixel has its minimum in the interval (a, a + da] and its median − minimum above d if the value of
one exposure i lies in that interval, the values of all others lie above it, and fewer than half of
the values lie within d of it. For an odd number N of exposures of densities
f_i and survival functions S_i, and c = N − 1, so that min2d is the minimum itself, the expected
number of such pixels is

    sum over pixels and i of f_i(a) da · P(at most (N − 3)/2 of the others are in (a, a + d]),

which for three exposures has the terms f_i(a) da · S_j(a + d) · S_k(a + d). Pixels of equal
expected signals share a term: see `crdetect.mm.groups`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy

from crdetect.equality import by_value
from crdetect.equivalence.order_statistics import Group, standard_normal
from crdetect.errors import InputError
from crdetect.mm.diagram import BINS, Diagram, Limits
from crdetect.mm.groups import Population, populations
from crdetect.mm.parameters import MM
from crdetect.mm.scene import Scene


def check_available(nexposures: int, coincidences: int) -> None:
    """Raise InputError unless the diagram can be computed for N exposures and c coincidences."""
    if nexposures % 2 == 0 or coincidences != nexposures - 1:
        raise InputError(
            "mm_simulation: analytic needs an odd number N of exposures and mm_cr_coincidences: "
            f"N − 1, not {nexposures} and {coincidences}; accepted: montecarlo"
        )


@by_value
@dataclass(frozen=True)
class CleanPixels:
    """The clean pixels of the exposures, grouped by noise and expected signal.

    Attributes
    ----------
    populations : tuple of Population
        One population for each pair of gain and read noise.
    """

    populations: tuple[Population, ...]

    @classmethod
    def of(cls, scene: Scene) -> CleanPixels:
        """Group the pixels of a scene."""
        return cls(tuple(populations(scene)))

    def deconvolved(self) -> CleanPixels:
        """Remove the noise of the measured signals from their distribution.

        See `Population.deconvolved`.
        """
        return CleanPixels(tuple(population.deconvolved() for population in self.populations))

    @cached_property
    def groups(self) -> list[Group]:
        """The groups of pixels of equal expected signals."""
        return [group for population in self.populations for group in population.groups]

    def limits(self, min2d_adu: np.ndarray, room: float, mm: MM) -> Limits:
        """Find limits of the diagram, beyond each of which one clean pixel is expected.

        Parameters
        ----------
        min2d_adu : array
            Observed minima; they lie inside the limits, too.
        room : float
            Height of the diagram, in units of the height above which one clean pixel is expected.
        mm : MM
            The fixed points and ``mm_ydiag_max`` may set another height.

        Notes
        -----
        Values are taken as normally distributed here, which is accurate enough for limits.
        """
        pixels = np.array([group.pixels for group in self.groups])
        means = np.array([group.means for group in self.groups])
        sigmas = np.array([group.sigmas for group in self.groups])
        ordered = np.sort(means, axis=1)
        spread = ordered[:, means.shape[1] // 2] - ordered[:, 0]
        widest = sigmas.max(axis=1)
        heights, tail = _normal_tail(means.shape[1])

        def not_lower(a: float) -> np.ndarray:
            return np.prod(scipy.special.ndtr((means - a) / sigmas), axis=1)

        def higher(d: float) -> np.ndarray:
            return np.interp((d - spread) / widest, heights, tail)

        low, high = float((means - 9 * sigmas).min()), float((means + 9 * sigmas).max())
        top = float((spread + 9 * widest).max())
        xmin = _where_one(lambda a: pixels @ (1 - not_lower(a)), low, high)
        xmax = _where_one(lambda a: pixels @ not_lower(a), high, low)
        ymax = _where_one(lambda d: pixels @ higher(d), top, 0.0)
        return Limits.around(
            min(xmin, float(min2d_adu.min())),
            max(xmax, float(min2d_adu.max())),
            room * ymax,
            mm,
        )

    def diagram(self, limits: Limits) -> Diagram:
        """Compute the expected number of clean pixels in each bin."""
        # number of pixels in each column above each edge of the rows
        above = np.zeros((BINS, BINS + 1))
        for group in self.groups:
            edges, column = _cells_in_columns(limits, group)
            if not column.size:
                continue
            rows = int(np.searchsorted(limits.y_edges, group.reach))
            starts = np.flatnonzero(np.diff(column, prepend=-1))
            number = group.above(edges, limits.y_edges[:rows])
            above[column[starts], :rows] += np.add.reduceat(number, starts, axis=0)
        return Diagram(limits, -np.diff(above, axis=1).T, None)

    def number_above(self, boundary: Callable[[np.ndarray], np.ndarray]) -> float:
        """Compute the expected number of clean pixels above a boundary, in the whole image."""
        total = 0.0
        for group in self.groups:
            edges = group.cells()
            heights = boundary(0.5 * (edges[1:] + edges[:-1]))
            total += float(group.above(edges, heights[:, np.newaxis]).sum())
        return total


def _normal_tail(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Compute the probability that median − minimum of n standard normal values exceeds heights.

    Returns
    -------
    heights, probabilities : arrays
        Heights in standard deviations, and the probability that each is exceeded.
    """
    heights = np.linspace(0.0, 9.0, 181)
    normal = standard_normal(n)
    return heights, normal.above(normal.cells(), heights).sum(axis=0)


def _where_one(number: Callable[[float], float], none: float, every: float) -> float:
    """Find the coordinate at which the expected number of pixels is 1.

    Parameters
    ----------
    number : callable
        Expected number of pixels as a function of the coordinate.
    none, every : float
        Coordinates at which the number is 0, and at which it is the number of all pixels.
    """
    if number(every) <= 1:
        return every
    return float(scipy.optimize.brentq(lambda place: number(place) - 1, none, every))


def _cells_in_columns(limits: Limits, group: Group) -> tuple[np.ndarray, np.ndarray]:
    """Divide the columns of the diagram into cells for the integral over the minimum.

    No cell is in two columns, and none is wider than the step of the group.

    Returns
    -------
    edges : (m + 1,) array
        Edges of the cells, ADU.
    column : (m,) array of int
        Column of each cell.
    """
    width = (limits.xmax - limits.xmin) / BINS
    each = int(np.ceil(width / group.step))
    first, last = (np.clip(group.span, limits.xmin, limits.xmax) - limits.xmin) * (each / width)
    cells = np.arange(int(first), min(int(last) + 1, BINS * each))
    edges = limits.xmin + (width / each) * np.append(cells, cells[-1:] + 1)
    return edges, cells // each
