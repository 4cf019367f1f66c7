import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import BSpline
from scipy.optimize import lsq_linear, minimize

from crdetect import InputError
from crdetect.mm.boundary import (
    boundary_of_simulated,
    computed_points,
    fit_boundary,
    fit_rising_spline,
    simulated_points,
)
from crdetect.mm.diagram import BINS, Diagram, Limits
from crdetect.mm.parameters import MM

QUICK = settings(max_examples=25, deadline=None, derandomize=True)
LIMITS = Limits(-50.0, 450.0, 200.0)


# ---------------------------------------------------------------------------------------------
# The points


def height_by_search(pixels, step):
    """Climb down from the top to where one pixel is above, linearly between bin centres.

    At the centre of a bin stand all pixels up to that bin; below the first there are none.
    """
    if pixels.sum() < 2:
        return 0.0
    wanted = pixels.sum() - 1
    cumulative = np.append(0, np.cumsum(pixels))
    heights = (np.arange(len(pixels) + 1) - 0.5) * step
    for k in range(len(pixels), 0, -1):
        if cumulative[k - 1] <= wanted < cumulative[k]:
            part = (wanted - cumulative[k - 1]) / (cumulative[k] - cumulative[k - 1])
            return max(heights[k - 1] + part * step, 0.0)
    raise AssertionError


@QUICK
@given(
    st.integers(0, 2**32), st.sampled_from([1, 3, 10]), st.sampled_from([0.001, 0.03, 0.5, 20.0])
)
def test_points_of_random_columns(seed, nsets, level):
    rng = np.random.default_rng(seed)
    fading = np.exp(-np.arange(BINS) / rng.uniform(3, 40))[:, np.newaxis]
    pixels = rng.poisson(level * fading * rng.uniform(0, 2, BINS))
    x, y = simulated_points(Diagram(LIMITS, pixels / nsets, nsets))
    filled = np.flatnonzero(pixels.sum(axis=0))
    np.testing.assert_allclose(x, LIMITS.xmin + (filled + 0.5) * 5.0)
    expected = [height_by_search(pixels[:, column], 2.0) for column in filled]
    np.testing.assert_allclose(y, expected, atol=1e-9)


@pytest.mark.parametrize(
    ("rows", "counts", "expected"),
    [
        ([10], [1], 0.0),  # a single pixel
        ([10], [2], 2.0 * 10.0),  # one of two within the bin
        ([10], [1000], 2.0 * 10.499),
        ([10, 20], [100, 1], 2.0 * 19.5),  # the highest height where one is above
        ([10, 20], [1, 1], 2.0 * 19.5),
        ([0], [2], 0.0),
        ([0], [4], 2.0 * 0.25),
        ([99], [1000], 2.0 * 99.499),
    ],
)
def test_points_by_hand(rows, counts, expected):
    pixels = np.zeros((BINS, BINS))
    pixels[rows, 7] = counts
    x, y = simulated_points(Diagram(LIMITS, pixels / 10, 10))
    assert x.tolist() == [-50 + 7.5 * 5]
    assert y.tolist() == pytest.approx([expected], abs=1e-9)


def test_points_of_an_empty_diagram():
    x, y = simulated_points(Diagram(LIMITS, np.zeros((BINS, BINS)), 10))
    assert x.size == y.size == 0


def falling(scale, number):
    """A diagram whose columns fall exponentially, each with its own scale and number."""
    edges = LIMITS.y_edges[:, np.newaxis]
    above = number * np.exp(-edges / scale)
    return Diagram(LIMITS, above[:-1] - above[1:], None), above


@pytest.mark.parametrize("expected", [1e-6, 0.02, 0.1, 1.0, 7.0])
def test_computed_points_of_exponential_columns(expected):
    scale, number = np.linspace(2, 9, BINS), np.geomspace(1e-3, 1e5, BINS)
    diagram, above = falling(scale, number)
    x, y = computed_points(diagram, expected)
    # what is beyond the diagram is not known
    inside = number - above[-1]
    filled = inside > expected
    assert 0 < filled.sum() < BINS or expected < 1e-3
    np.testing.assert_allclose(x, LIMITS.xmin + (np.flatnonzero(filled) + 0.5) * 5.0)
    exact = (scale * np.log(number / expected))[filled]
    below = (exact < 150) & (above[-1][filled] < 1e-3 * expected)
    assert below.any()
    np.testing.assert_allclose(y[below], exact[below], rtol=1e-3)
    assert y.max() <= 200


def test_computed_points_are_lower_where_more_are_expected():
    diagram, _ = falling(np.linspace(2, 9, BINS), np.full(BINS, 1e5))
    heights = [computed_points(diagram, n)[1] for n in (1e-9, 1e-3, 0.1, 1.0, 100.0, 9e4)]
    assert all((low < high).all() for high, low in itertools.pairwise(heights))


def test_computed_points_within_one_bin():
    """A column of one filled bin: the number falls from its lower to its upper edge."""
    counts = np.zeros((BINS, BINS))
    counts[7, 3] = 50.0
    x, y = computed_points(Diagram(LIMITS, counts, None), 0.1)
    assert x.tolist() == [-50 + 3.5 * 5]
    assert 14 <= y[0] <= 16


def test_computed_points_of_an_empty_diagram():
    x, y = computed_points(Diagram(LIMITS, np.zeros((BINS, BINS)), None), 0.1)
    assert x.size == y.size == 0


# ---------------------------------------------------------------------------------------------
# The spline


def squares(curve, points):
    x, y, weight = points
    return float(np.sum(weight * (curve(x) - y) ** 2))


@st.composite
def points(draw):
    """Points of many kinds: rising, falling, steps, noise; with outliers and heavy weights."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n = draw(st.integers(12, 100))
    x = np.sort(rng.uniform(0, 1, n))
    shape = draw(st.sampled_from(["rising", "falling", "step", "flat", "wave"]))
    y = {
        "rising": np.sqrt(x + 0.01),
        "falling": -x,
        "step": (x > 0.5).astype(float),
        "flat": np.zeros(n),
        "wave": x + 0.5 * np.sin(12 * x),
    }[shape] + rng.normal(0, draw(st.sampled_from([0.0, 0.05, 0.5])), n)
    weight = np.where(rng.random(n) < 0.3, 2.0 ** rng.integers(0, 6), 1.0)
    if draw(st.booleans()):
        weight[rng.integers(n)] *= 1e4
    scale_x, scale_y = draw(st.sampled_from([(1.0, 1.0), (3e4, 50.0), (0.1, 1e3)]))
    return x * scale_x + draw(st.sampled_from([0.0, -20.0])), y * scale_y, weight


@QUICK
@given(points(), st.integers(2, 9))
def test_slope_is_not_negative(points, knots):
    x, y, weight = points
    curve = fit_rising_spline(x, y, weight, knots)
    heights = curve(np.linspace(x.min(), x.max(), 4000))
    dip = np.max(np.maximum.accumulate(heights) - heights)
    assert dip <= 0.003 * np.ptp(y) + 1e-9
    np.testing.assert_allclose(curve.knots, np.linspace(x.min(), x.max(), knots))


@QUICK
@given(points(), st.integers(2, 9))
def test_no_rising_coefficients_fit_better(points, knots):
    """Rising coefficients make a rising spline: bounded least squares over them is feasible."""
    x, y, weight = points
    curve = fit_rising_spline(x, y, weight, knots)
    t = curve.spline.t
    root = np.sqrt(weight)
    n = len(t) - 4
    design = BSpline.design_matrix(x, t, 3).toarray() @ np.tril(np.ones((n, n)))
    bounds = [-np.inf] + [0] * (n - 1), np.inf
    other = lsq_linear(root[:, np.newaxis] * design, root * y, bounds, tol=1e-12)
    assert squares(curve, points) <= 2 * other.cost * 1.001 + 1e-4 * np.ptp(y) ** 2


@settings(QUICK, max_examples=10)
@given(points(), st.integers(2, 6), st.integers(0, 2**32))
def test_no_feasible_neighbour_fits_better(points, knots, seed):
    x, _, _ = points
    curve = fit_rising_spline(*points, knots)
    best, spline = squares(curve, points), curve.spline
    rng = np.random.default_rng(seed)
    places = np.linspace(x.min(), x.max(), 400)
    slope = spline.derivative()(places)
    tried = 0
    for size in np.repeat([1e-3, 1e-2, 0.1], 30):
        change = rng.normal(0, size * max(np.ptp(spline.c), 1e-3), spline.c.size)
        other = BSpline(spline.t, spline.c + change, 3)
        # back to where the slope is not negative: the fit itself is such a place
        falling = other.derivative()(places) - np.minimum(slope, 0)
        if falling.min() < 0:
            steepest = np.max(-falling)
            rise = steepest * np.linspace(0, 1, spline.c.size) * (x.max() - x.min())
            other = BSpline(spline.t, other.c + rise, 3)
        if other.derivative()(places).min() < min(slope.min(), 0):
            continue
        tried += 1
        assert squares(other, points) >= best * (1 - 1e-3) - 1e-4 * np.ptp(points[1]) ** 2
    assert tried


@pytest.mark.parametrize("fixed", [False, True])
@pytest.mark.parametrize("knots", [2, 5, 8])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_as_good_as_a_general_minimiser(seed, knots, fixed):
    rng = np.random.default_rng(seed)
    x = np.sort(rng.uniform(0, 1, 60))
    y = np.sqrt(x + 0.05) + 0.3 * np.sin(9 * x) + rng.normal(0, 0.05, 60)
    weight = np.where(rng.random(60) < 0.5, 32.0, 1.0)
    if fixed:
        x, y = np.append(x, [0.3, 0.8]), np.append(y, [0.5, 1.6])
        weight = np.append(weight, [32e4, 32e4])
    curve = fit_rising_spline(x, y, weight, knots)
    t = curve.spline.t
    design = BSpline.design_matrix(x, t, 3).toarray()
    slopes = BSpline(t, np.eye(len(t) - 4), 3).derivative()(np.linspace(x.min(), x.max(), 200))
    scale = weight.max()
    found = minimize(
        lambda c: np.sum(weight / scale * (design @ c - y) ** 2),
        np.linspace(y.min(), y.max(), len(t) - 4),
        jac=lambda c: 2 * design.T @ (weight / scale * (design @ c - y)),
        constraints={"type": "ineq", "fun": lambda c: slopes @ c, "jac": lambda _: slopes},
        method="SLSQP",
        options={"maxiter": 2000, "ftol": 1e-14},
    )
    assert squares(curve, (x, y, weight)) <= found.fun * scale * 1.0002


def test_rising_points_on_a_line_are_met():
    x = np.linspace(-10, 90, 30)
    curve = fit_rising_spline(x, 3 + 0.5 * x, np.ones(30), 5)
    np.testing.assert_allclose(curve(x), 3 + 0.5 * x, atol=1e-4)


def test_falling_points_give_their_mean():
    x = np.linspace(0, 1, 31)
    curve = fit_rising_spline(x, -x, np.ones(31), 5)
    np.testing.assert_allclose(curve(x), -0.5, atol=1e-4)


@pytest.mark.parametrize("n", [2, 3])
def test_few_points_are_met(n):
    x, y = np.arange(n) * 10.0, np.arange(n) * 2.0
    np.testing.assert_allclose(fit_rising_spline(x, y, np.ones(n), 7)(x), y, atol=1e-4)


# ---------------------------------------------------------------------------------------------
# The boundary


@pytest.fixture(scope="module")
def diagram():
    """Pixels that fill a region which widens with x, and one isolated bin above."""
    rng = np.random.default_rng(12)
    x = rng.uniform(0, 400, 200_000)
    y = np.abs(rng.normal(0, 3 + 0.4 * np.sqrt(x)))
    counts = LIMITS.count(x.astype(np.float32), y.astype(np.float32)).astype(float)
    counts[90, 50] = 5
    return Diagram(LIMITS, counts / 10, 10)


@pytest.mark.parametrize("fixed", [[], [[100.0, 60.0], [300.0, 150.0, 0.5]]])
@pytest.mark.parametrize("rounds", [0, 1, 5])
def test_rounds_raise_the_boundary(diagram, rounds, fixed):
    parameters = MM(mm_niter_boundary_extension=rounds, mm_fixed_points_in_boundary=fixed)
    boundary = boundary_of_simulated(diagram, parameters)
    assert boundary.kind == "spline"
    assert len(boundary.rounds) == rounds + 1
    x, y = simulated_points(diagram)
    np.testing.assert_array_equal(boundary.points.x, x)
    np.testing.assert_array_equal(boundary.points.y, y)
    x_fixed, y_fixed, weight_fixed = np.array([(*p, 10000.0)[:3] for p in fixed]).reshape(-1, 3).T
    weight = np.ones(x.size)
    for turn, curve in enumerate(boundary.rounds):
        if turn:
            weight = np.where(y > boundary.rounds[turn - 1](x), 2.0**turn, 1.0)
        expected = fit_rising_spline(
            np.append(x, x_fixed),
            np.append(y, y_fixed),
            np.append(weight, weight_fixed * weight.max()),
            parameters.mm_knots_splfit,
        )
        np.testing.assert_allclose(curve(x), expected(x), rtol=1e-6)
    np.testing.assert_array_equal(boundary.points.weight, weight)
    heights = [float(np.sum(np.maximum(y - curve(x), 0))) for curve in boundary.rounds]
    assert heights == sorted(heights, reverse=True)
    np.testing.assert_array_equal(boundary(x), boundary.rounds[-1](x))


@pytest.mark.parametrize("weight", [1.0, 3.0])
def test_weight_of_the_points_above(diagram, weight):
    boundary = boundary_of_simulated(
        diagram, MM(mm_weight_boundary_extension=weight, mm_niter_boundary_extension=3)
    )
    assert set(boundary.points.weight) == {1.0, weight**3}


def test_isolated_bins_do_not_raise_it(diagram):
    with_it, without = (
        boundary_of_simulated(diagram, MM(mm_hist2d_min_neighbors=least)) for least in (0, 1)
    )
    assert with_it.points.y.max() > 170
    assert without.points.y.max() < 100


@pytest.mark.parametrize(
    "fixed", [[[100.0, 60.0]], [[20.0, 30.0], [300.0, 150.0]], [[500.0, 180.0]], [[-200.0, 5.0]]]
)
def test_fixed_points_are_met(diagram, fixed):
    parameters = MM(mm_fixed_points_in_boundary=fixed, mm_hist2d_min_neighbors=1)
    boundary = boundary_of_simulated(diagram, parameters)
    for x, y in fixed:
        assert boundary(np.array([x]))[0] == pytest.approx(y, rel=0.02)
    assert boundary.fixed.x.tolist() == [x for x, _ in fixed]
    assert boundary.fixed.weight.tolist() == [10000.0] * len(fixed)


def test_fixed_points_of_little_weight(diagram):
    heavy, light, without = (
        boundary_of_simulated(
            diagram,
            MM(mm_fixed_points_in_boundary=points, mm_hist2d_min_neighbors=1),
        )(np.array([200.0]))[0]
        for points in ([[200.0, 150.0]], [[200.0, 150.0, 1e-6]], None)
    )
    assert heavy == pytest.approx(150, rel=0.02)
    assert light == pytest.approx(without, rel=0.01)


@pytest.mark.parametrize("order", [1, -1])
def test_piecewise_boundary(diagram, order):
    corners = [[0.0, 10.0], [100.0, 50.0], [250.0, 40.0]]
    boundary = boundary_of_simulated(
        diagram,
        MM(mm_boundary_fit="piecewise", mm_fixed_points_in_boundary=corners[::order]),
    )
    x = np.linspace(-300, 600, 500)
    np.testing.assert_allclose(boundary(x), np.interp(x, *np.transpose(corners)), rtol=1e-12)
    assert (boundary.kind, len(boundary.rounds), boundary.points.x.size) == ("piecewise", 1, 0)
    np.testing.assert_allclose(boundary.curve.knots, [0, 100, 250])


@pytest.mark.parametrize(
    "parameters",
    [
        MM(),
        MM(mm_boundary_fit="piecewise", mm_fixed_points_in_boundary=[[0, 10], [100, 50]]),
        MM(mm_fixed_points_in_boundary=[[600.0, 190.0]]),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_constant_beyond_the_outer_knots(diagram, parameters, dtype):
    boundary = boundary_of_simulated(diagram, parameters)
    first, last = boundary.curve.knots[[0, -1]]
    below, above = dtype([first - 1e5, first - 1, first]), dtype([last, last + 1, last + 1e5])
    np.testing.assert_allclose(boundary(below), boundary(np.array([first]))[0], rtol=1e-5)
    np.testing.assert_allclose(boundary(above), boundary(np.array([last]))[0], rtol=1e-5)


def test_boundary_of_simulated_is_a_fit_to_its_points(diagram):
    parameters = MM(mm_hist2d_min_neighbors=1, mm_fixed_points_in_boundary=[[100.0, 60.0]])
    kept = diagram.without_isolated(1)
    assert (kept.counts != diagram.counts).any()
    one = boundary_of_simulated(diagram, parameters)
    other = fit_boundary(*simulated_points(kept), parameters)
    x = np.linspace(-60, 460, 100)
    np.testing.assert_array_equal(one(x), other(x))


@pytest.mark.parametrize("columns", [[], [7]])
def test_too_few_columns_for_a_spline(columns):
    counts = np.zeros((BINS, BINS))
    counts[3, columns] = 10
    with pytest.raises(InputError, match="fewer than two columns"):
        boundary_of_simulated(Diagram(LIMITS, counts, 1), MM())


def test_two_columns_do():
    counts = np.zeros((BINS, BINS))
    counts[3, 10], counts[8, 90] = 10, 10
    boundary = boundary_of_simulated(Diagram(LIMITS, counts, 1), MM())
    np.testing.assert_allclose(boundary(boundary.points.x), boundary.points.y, atol=1e-3)
