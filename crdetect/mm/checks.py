"""Checks of the boundary in the Median-Minimum diagram."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from crdetect.mm.diagram import BINS
from crdetect.mm.parameters import MM
from crdetect.verdict import AtMost, Check

if TYPE_CHECKING:  # it makes these checks
    from crdetect.mm.method import MedianMinimum

# These limits were chosen by hand; they change no mask.

# Number of clean pixels above the boundary that is good, as a multiple of the number asked for; and
# the number above which it is bad, as a multiple of the good one.
_GOOD_MULTIPLE, _BAD_MULTIPLE = 2, 10
# Median over the points of the height of the boundary divided by the height of its point.
_HEIGHT = AtMost(good=2.0, bad=4.0)


def boundary_checks(diagram: MedianMinimum, mm: MM) -> Iterator[Check]:
    """Check that the boundary follows its points and lets few clean pixels through.

    Parameters
    ----------
    diagram : MedianMinimum
        The diagram with its boundary.
    mm : MM
        The parameters of M.M.Cosmic.

    Yields
    ------
    Check
        The number of clean pixels above the boundary; and the height of the boundary, if any of
        its points lies above 0.
    """
    # a boundary through its points leaves one pixel of all simulated sets in each column above it
    through_points = BINS / mm.mm_nsimulations
    good = _GOOD_MULTIPLE * max(through_points, mm.mm_false_pixels or 0)
    yield Check.of(
        "number of clean pixels expected above the boundary",
        number_above(diagram),
        AtMost(good, _BAD_MULTIPLE * good),
        "The boundary does not follow its points: look at diagnostic_histogram2d.png and change "
        "mm_knots_splfit, mm_ydiag_max or the fixed points",
    )
    points = diagram.criterion.boundary.points
    used = points.y > 0
    if used.any():
        curve = diagram.criterion.boundary.curve
        yield Check.of(
            "median height of the boundary relative to its points",
            float(np.median(curve(points.x[used]) / points.y[used])),
            _HEIGHT,
            "The boundary lies far above the clean pixels and misses faint hits: look at "
            "diagnostic_histogram2d.png and change mm_weight_boundary_extension or the fixed "
            "points",
        )


def number_above(diagram: MedianMinimum) -> float:
    """Return the number of clean pixels above the boundary, computed if possible or else simulated.

    A simulated number is the mean over the simulated sets of exposures.
    """
    if diagram.expected_above is not None:
        return diagram.expected_above
    clean = diagram.clean
    x, y = (
        0.5 * (edges[1:] + edges[:-1]) for edges in (clean.limits.x_edges, clean.limits.y_edges)
    )
    return float(clean.counts[y[:, np.newaxis] > diagram.criterion.boundary(x)].sum())
