"""The Median-Minimum diagram: the number of clean pixels at each (min2d, median2d − min2d)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np

from crdetect.equality import by_value
from crdetect.mm.parameters import MM

BINS = 100
"""Number of bins of the diagram in x and in y; it is part of the definition of the method."""

# Space above the highest fixed point, in units of its height, so that a boundary drawn through it
# is inside the diagram. The number was chosen by hand.
_MARGIN = 0.05


@dataclass(frozen=True)
class Limits:
    """Ranges of x and y that the diagram covers, ADU; y starts at 0."""

    xmin: float
    xmax: float
    ymax: float

    @classmethod
    def around(cls, xmin: float, xmax: float, ymax: float, mm: MM) -> Limits:
        """Make limits that include the given ranges of x and y, ADU.

        The parameter ``mm_ydiag_max`` takes the place of ymax; fixed points are always included.
        """
        fixed = [point[1] for point in mm.mm_fixed_points_in_boundary or ()]
        ymax = max([mm.mm_ydiag_max or ymax, *((1 + _MARGIN) * y for y in fixed)])
        # Exposures without any noise have a diagram, too: neither range may be empty.
        return cls(xmin, max(xmax, np.nextafter(xmin, np.inf) + 1e-3), ymax or 1.0)

    def hold(self, points: Iterable[tuple[float, ...]]) -> bool:
        """Tell whether all fixed points (x, y, …) lie low enough for these limits."""
        return all((1 + _MARGIN) * point[1] <= self.ymax for point in points)

    @property
    def x_edges(self) -> np.ndarray:
        """Edges of the columns, ADU."""
        return np.linspace(self.xmin, self.xmax, BINS + 1)

    @property
    def y_edges(self) -> np.ndarray:
        """Edges of the rows, ADU."""
        return np.linspace(0.0, self.ymax, BINS + 1)

    def count(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Count the points in each bin; points outside the limits are left out.

        Returns
        -------
        (BINS, BINS) array of int
            Number of points; rows are bins of y, columns bins of x.
        """
        column = _bin_index(x, self.xmin, self.xmax)
        row = _bin_index(y, 0.0, self.ymax)
        inside = (column >= 0) & (column < BINS) & (row >= 0) & (row < BINS)
        flat = (row * BINS + column)[inside]
        return np.bincount(flat, minlength=BINS * BINS).reshape(BINS, BINS)


def _bin_index(values: np.ndarray, low: float, high: float) -> np.ndarray:
    scaled = np.floor((values - np.float32(low)) * np.float32(BINS / (high - low)))
    index = np.clip(scaled, -1, BINS).astype(np.int32)  # −1 and BINS stand for all that is outside
    index[values == np.float32(high)] = BINS - 1  # the last bin includes its upper edge
    return index


@by_value
@dataclass(frozen=True)
class Diagram:
    """The two-dimensional histogram of the pixels in the diagram.

    Attributes
    ----------
    limits : Limits
        Ranges of x and y, ADU.
    counts : (BINS, BINS) array of float
        Mean number of pixels in each bin per set of exposures; rows are bins of y, columns bins
        of x.
    nsets : int or None
        Number of sets that were averaged: 1 for the real exposures, None if the histogram was
        computed from probabilities.
    """

    limits: Limits
    counts: np.ndarray
    nsets: int | None

    def without_isolated(self, min_neighbors: int) -> Diagram:
        """Empty the bins that have fewer than ``min_neighbors`` non-empty neighbours (of 8)."""
        if min_neighbors == 0:
            return self
        filled = (self.counts > 0).astype(np.float32)
        kernel = np.ones((3, 3), np.float32)
        kernel[1, 1] = 0
        neighbors = cv2.filter2D(filled, -1, kernel, borderType=cv2.BORDER_CONSTANT)
        kept = np.where(np.rint(neighbors) >= min_neighbors, self.counts, 0)
        return Diagram(self.limits, kept, self.nsets)
