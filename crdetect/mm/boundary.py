"""The upper boundary of the clean pixels in the Median-Minimum diagram.

The boundary is fitted once; flagging and figures use the same object.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy

from crdetect.equality import by_value
from crdetect.errors import InputError
from crdetect.mm.diagram import Diagram
from crdetect.mm.parameters import MM

# Weight of a fixed point that has none of its own, in units of the largest weight of the other
# points. The number is that of numina-crmasks, so that boundaries agree.
_FIXED_POINT_WEIGHT = 10000.0
# Maximum weight of a point, in units of the weight of a point below the last fit. Larger weights
# do not change the fit and cost precision. The number was chosen by hand.
_LARGEST_WEIGHT = 1e9
# Number of abscissae in each interval of knots at which the slope is constrained to be ≥ 0. The
# derivative of a cubic has one extremum per interval at most, so that ten are plenty; the number
# was chosen by hand.
_SLOPES_PER_INTERVAL = 10
# Weight of the squared second differences of the coefficients, in units of the median weight of a
# point. This small penalty makes the fit unique in intervals without points; where there are
# points, they outweigh it. The number was chosen by hand.
_SMOOTHNESS = 1e-6


@dataclass(frozen=True, eq=False)
class Curve:
    """A spline that continues as a constant beyond its outer knots."""

    spline: scipy.interpolate.BSpline

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Curve):
            return NotImplemented
        one, two = self.spline, other.spline  # scipy compares splines by identity
        return one.k == two.k and np.array_equal(one.t, two.t) and np.array_equal(one.c, two.c)

    __hash__ = None  # type: ignore[assignment]  # that is how a class says it has no hash

    @property
    def knots(self) -> np.ndarray:
        """Abscissae of the knots, ADU."""
        return np.unique(self.spline.t)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Return the height of the boundary at x, ADU."""
        return self.spline(np.clip(x, self.spline.t[0], self.spline.t[-1]))


@by_value
@dataclass(frozen=True)
class Points:
    """Points that a boundary is fitted to, in ADU, with their weights in the last round."""

    x: np.ndarray
    y: np.ndarray
    weight: np.ndarray


@by_value
@dataclass(frozen=True)
class Boundary:
    """The upper boundary of the clean pixels, with the points and the rounds of its fit.

    Attributes
    ----------
    kind : str
        Form of the boundary: ``spline`` or ``piecewise``.
    rounds : tuple of Curve
        The fit of each round; the last one is the boundary.
    points : Points
        Points measured in the diagram; there are none for ``piecewise``.
    fixed : Points
        Points given by the user (``mm_fixed_points_in_boundary``).
    """

    kind: str
    rounds: tuple[Curve, ...]
    points: Points
    fixed: Points

    @property
    def curve(self) -> Curve:
        """The fit of the last round, which is the boundary."""
        return self.rounds[-1]

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Return the height of the boundary at x, ADU."""
        return self.curve(x)


def simulated_points(diagram: Diagram) -> tuple[np.ndarray, np.ndarray]:
    """Return the y of each column above which one pixel of all simulated sets is expected.

    It is the quantile 1 − 1/n of the n pixels of the column, interpolated between the centres of
    the bins. If the topmost pixel is isolated, every height in the gap below it is such a quantile;
    the upper end of the gap is taken, because on average one of n new draws exceeds the maximum of
    n earlier ones. A column with a single pixel gives y = 0, a column without pixels gives no
    point.

    Returns
    -------
    x, y : arrays
        Centres of the columns and heights, ADU.
    """
    step = diagram.limits.ymax / len(diagram.counts)
    pixels = np.rint(diagram.counts * diagram.nsets)
    filled = np.flatnonzero(pixels.any(axis=0))
    top = len(pixels) - 1 - np.argmax(pixels[::-1, filled] > 0, axis=0)
    # The number of pixels above y falls linearly: at the centre of the bin below the top one all
    # pixels of the top bin are above, at the centre of the top bin none.
    y = step * (top + 0.5 - 1 / pixels[top, filled])
    y[pixels[:, filled].sum(axis=0) < 2] = 0.0
    return _column_centres(diagram, filled), np.maximum(y, 0.0)


def computed_points(diagram: Diagram, expected: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the y of each column above which a given number of pixels is expected.

    The number of pixels above y is interpolated exponentially between the edges of the bins.
    A column with fewer pixels than that gives no point.

    Parameters
    ----------
    diagram : Diagram
        The computed diagram.
    expected : float
        Number of pixels expected above the point of each column.

    Returns
    -------
    x, y : arrays
        Centres of the columns and heights, ADU.
    """
    edges = diagram.limits.y_edges
    above = np.cumsum(diagram.counts[::-1], axis=0)[::-1]
    filled = np.flatnonzero(above[0] > expected)
    least = np.finfo(float).tiny
    logs = np.log(np.maximum(np.vstack([above[:, filled], np.zeros(filled.size)]), least))
    y = [np.interp(-np.log(expected), -column, edges) for column in logs.T]
    return _column_centres(diagram, filled), np.array(y)


def _column_centres(diagram: Diagram, columns: np.ndarray) -> np.ndarray:
    edges = diagram.limits.x_edges
    return 0.5 * (edges[columns] + edges[columns + 1])


def fit_boundary(x: np.ndarray, y: np.ndarray, mm: MM) -> Boundary:
    """Fit a boundary to the points of a diagram.

    Parameters
    ----------
    x, y : arrays
        Points of `simulated_points` or `computed_points`, ADU; ``piecewise`` does not use them.
    mm : MM
        Form of the boundary, number of knots, number of rounds and fixed points.

    Returns
    -------
    Boundary

    Raises
    ------
    InputError
        If there are too few points for a spline.

    References
    ----------
    Cardiel et al. 2026 (M.M.Cosmic).
    """
    fixed = _fixed_points(mm)
    if mm.mm_boundary_fit == "piecewise":
        order = np.argsort(fixed.x)
        lines = (_polyline(fixed.x[order], fixed.y[order]),)
        return Boundary("piecewise", lines, Points(*np.zeros((3, 0))), fixed)
    if np.unique(np.append(x, fixed.x)).size < 2:
        raise InputError(
            "the Median-Minimum diagram has fewer than two columns with clean pixels: "
            "give mm_fixed_points_in_boundary and mm_boundary_fit: piecewise"
        )
    weight = np.ones(x.size)
    rounds = [_fit_with_fixed(x, y, weight, fixed, mm.mm_knots_splfit)]
    for turn in range(1, mm.mm_niter_boundary_extension + 1):
        raised = min(mm.mm_weight_boundary_extension**turn, _LARGEST_WEIGHT)
        weight = np.where(y > rounds[-1](x), raised, 1.0)
        rounds.append(_fit_with_fixed(x, y, weight, fixed, mm.mm_knots_splfit))
    return Boundary("spline", tuple(rounds), Points(x, y, weight), fixed)


def boundary_of_simulated(diagram: Diagram, mm: MM) -> Boundary:
    """Fit a boundary to a simulated diagram after its isolated bins are emptied.

    See `fit_boundary`.
    """
    points = simulated_points(diagram.without_isolated(mm.mm_hist2d_min_neighbors))
    return fit_boundary(*points, mm)


def _fixed_points(mm: MM) -> Points:
    given = mm.mm_fixed_points_in_boundary or ()
    rows = [(*point, _FIXED_POINT_WEIGHT)[:3] for point in given]
    return Points(*np.array(rows, float).reshape(-1, 3).T)


def _polyline(x: np.ndarray, y: np.ndarray) -> Curve:
    return Curve(scipy.interpolate.BSpline(np.concatenate([x[:1], x, x[-1:]]), y, 1))


def _fit_with_fixed(
    x: np.ndarray, y: np.ndarray, weight: np.ndarray, fixed: Points, knots: int
) -> Curve:
    largest = weight.max(initial=1.0)
    return fit_rising_spline(
        np.append(x, fixed.x),
        np.append(y, fixed.y),
        np.append(weight, fixed.weight * largest),
        knots,
    )


def fit_rising_spline(x: np.ndarray, y: np.ndarray, weight: np.ndarray, knots: int) -> Curve:
    """Fit a cubic spline of non-negative slope by weighted least squares.

    Parameters
    ----------
    x, y, weight : arrays
        Coordinates of the points, and the weights of their squared residuals.
    knots : int
        Number of equidistant knots from the lowest to the highest x, both included.

    Returns
    -------
    Curve

    Notes
    -----
    Least squares with the inequalities that the slope be ≥ 0 at ten abscissae in each interval
    (problem LSI) are transformed to a least-distance problem (LDP), which non-negative least
    squares (NNLS) solve exactly: Lawson & Hanson 1974, *Solving Least Squares Problems*,
    chapter 23.
    """
    places = np.linspace(x.min(), x.max(), knots)
    t = np.concatenate([places[:1]] * 3 + [places] + [places[-1:]] * 3)
    span = places[-1] - places[0]
    root = np.sqrt(weight)
    design = scipy.interpolate.BSpline.design_matrix(x, t, 3).toarray() * root[:, np.newaxis]
    n = design.shape[1]
    smooth = np.sqrt(_SMOOTHNESS * np.median(weight)) * np.diff(np.eye(n), 2, axis=0)
    q, r = np.linalg.qr(np.vstack([design, smooth]))
    target = q.T @ np.concatenate([root * y, np.zeros(n - 2)])
    where = np.linspace(places[0], places[-1], _SLOPES_PER_INTERVAL * (knots - 1) + 1)
    slopes = scipy.interpolate.BSpline(t, np.eye(n), 3).derivative()(where) * span
    # With z = R c − target the fit asks for the z of least norm with G z ≥ −G target.
    g = np.linalg.solve(r.T, slopes.T).T
    z = _least_distance(g, -g @ target)
    return Curve(scipy.interpolate.BSpline(t, np.linalg.solve(r, z + target), 3))


def _least_distance(g: np.ndarray, h: np.ndarray) -> np.ndarray:
    """Return the z of least norm with g z ≥ h (problem LDP)."""
    if (h <= 0).all():
        return np.zeros(g.shape[1])
    scale = np.abs(h).max()  # the scaling keeps the NNLS problem well conditioned
    e = np.vstack([g.T, h / scale])
    f = np.append(np.zeros(g.shape[1]), 1.0)
    u, _ = scipy.optimize.nnls(e, f)
    residual = e @ u - f
    return -residual[:-1] / residual[-1] * scale
