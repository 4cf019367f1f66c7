"""The Median-Minimum diagram: the number of clean pixels at each (min2d, median2d − min2d)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np

from crdetect.equality import by_value
from crdetect.mm.parameters import MM

BINS = 100
"""Bins of the diagram in each direction."""

_MARGIN = 0.05  # free space above the highest fixed point


@dataclass(frozen=True)
class Limits:
    """Limits of the diagram in ADU; y starts at 0."""

    xmin: float
    xmax: float
    ymax: float

    @classmethod
    def around(cls, xmin: float, xmax: float, ymax: float, parameters: MM) -> Limits:
        """Make limits that hold these values, as far as the parameters do not set others."""
        fixed = [point[1] for point in parameters.mm_fixed_points_in_boundary or ()]
        ymax = max([parameters.mm_ydiag_max or ymax, *((1 + _MARGIN) * y for y in fixed)])
        # exposures without any noise still have a diagram
        return cls(xmin, max(xmax, np.nextafter(xmin, np.inf) + 1e-3), ymax or 1.0)

    def hold(self, points: Iterable[tuple[float, ...]]) -> bool:
        """Whether fixed points (x, y, …) are low enough for a diagram with these limits."""
        return all((1 + _MARGIN) * point[1] <= self.ymax for point in points)

    @property
    def x_edges(self) -> np.ndarray:
        """Edges of the columns."""
        return np.linspace(self.xmin, self.xmax, BINS + 1)

    @property
    def y_edges(self) -> np.ndarray:
        """Edges of the rows."""
        return np.linspace(0.0, self.ymax, BINS + 1)

    def count(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Count points in the bins; those outside the limits do not count.

        Returns
        -------
        (BINS, BINS) array of int
            Rows are y, columns x.
        """
        column = _bin_index(x, self.xmin, self.xmax)
        row = _bin_index(y, 0.0, self.ymax)
        inside = (column >= 0) & (column < BINS) & (row >= 0) & (row < BINS)
        flat = (row * BINS + column)[inside]
        return np.bincount(flat, minlength=BINS * BINS).reshape(BINS, BINS)


def _bin_index(values: np.ndarray, low: float, high: float) -> np.ndarray:
    scaled = np.floor((values - np.float32(low)) * np.float32(BINS / (high - low)))
    index = np.clip(scaled, -1, BINS).astype(np.int32)  # far outside is outside
    index[values == np.float32(high)] = BINS - 1  # the last bin holds its upper edge
    return index


@by_value
@dataclass(frozen=True)
class Diagram:
    """A histogram of the diagram.

    Attributes
    ----------
    limits : Limits
        Its extent.
    counts : (BINS, BINS) array of float
        Mean number of pixels per set of exposures; rows are y, columns x.
    nsets : int or None
        How many sets the mean is over; 1 for the real exposures, None for a computed one.
    """

    limits: Limits
    counts: np.ndarray
    nsets: int | None

    def without_isolated(self, min_neighbors: int) -> Diagram:
        """Empty the bins that have fewer non-empty neighbours (of 8) than asked for."""
        if min_neighbors == 0:
            return self
        filled = (self.counts > 0).astype(np.float32)
        kernel = np.ones((3, 3), np.float32)
        kernel[1, 1] = 0
        neighbors = cv2.filter2D(filled, -1, kernel, borderType=cv2.BORDER_CONSTANT)
        kept = np.where(np.rint(neighbors) >= min_neighbors, self.counts, 0)
        return Diagram(self.limits, kept, self.nsets)
