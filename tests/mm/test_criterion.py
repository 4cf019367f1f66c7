import numpy as np
import pytest

from crdetect import Noise, Stack
from crdetect.mm.boundary import boundary_of_simulated
from crdetect.mm.criterion import DiagramCriterion
from crdetect.mm.diagram import BINS, Diagram, Limits
from crdetect.mm.parameters import MM

SHAPE = (40, 50)
CORNERS = [[0.0, 5.0], [100.0, 40.0]]


@pytest.fixture(scope="module")
def stack():
    """Exposures with many hits, some in two exposures, and missing values."""
    rng = np.random.default_rng(6)
    cube = rng.uniform(-10, 120, SHAPE) + rng.normal(0, 5, (3, *SHAPE))
    cube += rng.exponential(60, cube.shape) * (rng.random(cube.shape) < 0.4)
    cube[rng.random(cube.shape) < 0.1] = np.nan
    return Stack(cube)


def criterion_of(noise, **given):
    parameters = MM(mm_boundary_fit="piecewise", mm_fixed_points_in_boundary=CORNERS, **given)
    diagram = Diagram(Limits(0.0, 1.0, 1.0), np.zeros((BINS, BINS)), 1)
    return DiagramCriterion.make(boundary_of_simulated(diagram, parameters), noise, parameters)


NOISES = {
    "numbers": Noise(1.0, 3.0),
    "map": Noise(1.0, np.linspace(1, 9, SHAPE[0] * SHAPE[1]).reshape(SHAPE)),
}


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("of", ["median2d", "mean2d", 0, 2])
@pytest.mark.parametrize(
    ("given", "threshold", "in_rnoise"),
    [
        ({}, 3.0, True),
        ({"mm_threshold": 25.0}, 25.0, False),
        ({"mm_threshold_rnoise": 12.0}, 12.0, True),
        ({"mm_threshold": None, "mm_threshold_rnoise": None}, 0.0, False),
        ({"mm_minimum_max2d_rnoise": 40.0}, 3.0, True),
    ],
)
def test_flagged_pixels_meet_all_conditions(stack, noise, of, given, threshold, in_rnoise):
    noise = NOISES[noise]
    statistics = stack.statistics()
    image = stack.exposures[of] if isinstance(of, int) else getattr(statistics, of)
    before = image.copy()
    flagged = criterion_of(noise, **given).flag(image, statistics)
    rnoise = np.broadcast_to(noise.rnoise_adu, SHAPE)
    least_max = given.get("mm_minimum_max2d_rnoise", 5.0) * rnoise
    for y, x in np.ndindex(SHAPE):
        values = stack.exposures[:, y, x]
        values = values[~np.isnan(values)]
        expected = False
        if values.size == 3 and not np.isnan(image[y, x]):
            height = image[y, x] - values.min()
            expected = (
                height > np.interp(values.min(), *np.transpose(CORNERS))
                and height > threshold * (rnoise[y, x] if in_rnoise else 1)
                and values.max() > least_max[y, x]
            )
        assert flagged[y, x] == expected
    assert flagged.dtype == bool
    assert flagged.any()
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize("c", [2, 3])
def test_pixels_with_too_few_values_are_never_flagged(c):
    cube = np.zeros((5, 1, 6), np.float32)
    cube[:c] = 1000.0  # would be flagged anywhere
    for column in range(5):
        cube[5 - column :, 0, column] = np.nan
    statistics = Stack(cube).statistics(c)
    image = np.full((1, 6), 1000.0, np.float32)
    flagged = criterion_of(Noise(1.0, 1.0)).flag(image, statistics)
    left = np.isfinite(cube).sum(axis=0)
    np.testing.assert_array_equal(flagged, left > c)


@pytest.mark.parametrize("noise", NOISES)
def test_threshold_alone(stack, noise):
    noise = NOISES[noise]
    statistics = stack.statistics()
    beyond = criterion_of(noise, mm_threshold_rnoise=4.0).beyond_threshold(
        statistics.median2d, statistics
    )
    height = statistics.median2d - statistics.min2d
    np.testing.assert_array_equal(beyond, height > np.float32(4) * np.float32(noise.rnoise_adu))


def test_wide_images_are_judged_in_several_blocks():
    rng = np.random.default_rng(2)
    cube = rng.uniform(0, 100, (3, 3, 1 << 19)).astype(np.float32)
    statistics = Stack(cube).statistics()
    flagged = criterion_of(Noise(1.0, 3.0)).flag(statistics.median2d, statistics)
    ordered = np.sort(cube, axis=0)
    height = ordered[1] - ordered[0]
    boundary = np.interp(ordered[0], *np.transpose(CORNERS))
    expected = (height > boundary) & (height > 9) & (ordered[2] > 15)
    np.testing.assert_array_equal(flagged, expected)


@pytest.mark.parametrize("noise", NOISES)
def test_candidates_are_flagged_where_they_are_above_the_boundary(stack, noise):
    criterion, statistics = criterion_of(NOISES[noise]), stack.statistics()
    candidates = criterion.candidates(statistics.median2d, statistics)
    height = statistics.median2d - statistics.min2d
    above = height > criterion.boundary(statistics.min2d)
    flagged = criterion.flag(statistics.median2d, statistics)
    np.testing.assert_array_equal(flagged, candidates & above)
    assert flagged.sum() < candidates.sum() < candidates.size
