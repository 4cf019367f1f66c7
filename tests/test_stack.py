import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from crdetect import InputError, Stack
from crdetect.resources import Resources
from crdetect.stack import row_blocks, sort_planes

QUICK = settings(max_examples=25, deadline=None, derandomize=True)
NUMBERS_AND_COINCIDENCES = [(3, 2), (4, 2), (4, 3), (5, 2), (5, 3), (5, 4)]

finite = st.floats(-1e6, 1e6, width=32, allow_subnormal=False)
maybe_missing = finite | st.sampled_from([np.nan, np.inf, -np.inf])


def cubes(elements, n):
    shape = st.tuples(st.just(n), st.integers(1, 4), st.integers(2, 5))
    return hnp.arrays(np.float32, shape, elements=elements)


@st.composite
def incomplete_cubes(draw, n):
    cube = draw(cubes(maybe_missing, n))
    cube[:, 0, 0] = draw(hnp.arrays(np.float32, n, elements=finite))  # none is wholly missing
    return cube


def of_one_pixel(values, coincidences):
    """The statistics as the design words them, for the values of one pixel."""
    values = np.sort(values[np.isfinite(values)].astype(float))
    if values.size == 0:
        return {"min2d": np.nan, "median2d": np.nan, "mean2d": np.nan, "max2d": np.nan}
    return {
        "min2d": values[: max(values.size - coincidences, 1)].mean(),
        "median2d": np.median(values),
        "mean2d": values.mean(),
        "max2d": values.max(),
    }


@pytest.mark.parametrize(("n", "c"), NUMBERS_AND_COINCIDENCES)
@QUICK
@given(data=st.data())
def test_statistics_of_incomplete_stacks(n, c, data):
    cube = data.draw(incomplete_cubes(n))
    statistics = Stack(cube).statistics(c)
    for y, x in np.ndindex(cube.shape[1:]):
        for name, expected in of_one_pixel(cube[:, y, x], c).items():
            found = getattr(statistics, name)[y, x]
            np.testing.assert_allclose(found, expected, rtol=3e-7, atol=0.05, err_msg=name)
    np.testing.assert_array_equal(statistics.count2d, np.isfinite(cube).sum(axis=0))
    np.testing.assert_array_equal(statistics.detectable, np.isfinite(cube).sum(axis=0) >= c + 1)


@pytest.mark.parametrize(("n", "c"), NUMBERS_AND_COINCIDENCES)
@QUICK
@given(data=st.data())
def test_statistics_of_complete_stacks_are_those_of_numpy(n, c, data):
    cube = data.draw(cubes(finite, n))
    statistics = Stack(cube).statistics(c)
    lowest = np.sort(cube, axis=0)[: n - c]
    np.testing.assert_array_equal(
        statistics.min2d, lowest.mean(axis=0, dtype=float).astype(np.float32)
    )
    np.testing.assert_array_equal(statistics.median2d, np.median(cube, axis=0))
    np.testing.assert_array_equal(statistics.max2d, cube.max(axis=0))
    np.testing.assert_allclose(
        statistics.mean2d, cube.mean(axis=0, dtype=float), rtol=3e-7, atol=1e-9
    )
    assert (statistics.count2d == n).all()
    assert statistics.detectable.all()


@QUICK
@given(cube=incomplete_cubes(5), order=st.permutations(range(5)))
def test_order_of_exposures_does_not_matter(cube, order):
    one, other = Stack(cube).statistics(2), Stack(cube[list(order)]).statistics(2)
    for name in ("min2d", "median2d", "mean2d", "max2d", "count2d"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


@pytest.mark.parametrize(
    ("n", "c", "expected"), [(3, 2, 1.0), (4, 2, 1.5), (5, 2, 2.0), (5, 3, 1.5), (5, 4, 1.0)]
)
def test_min2d_is_the_mean_of_the_lowest(n, c, expected):
    values = np.arange(n, 0, -1, dtype=np.float32)
    cube = np.broadcast_to(values[:, np.newaxis, np.newaxis], (n, 2, 2))
    assert (Stack(cube).statistics(c).min2d == expected).all()


@pytest.mark.parametrize("missing", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    ("left", "expected_min", "expected_median"),
    [(5, 2.0, 3.0), (4, 1.5, 2.5), (3, 1.0, 2.0), (2, 1.0, 1.5), (1, 1.0, 1.0)],
)
def test_missing_values_take_no_part(missing, left, expected_min, expected_median):
    values = np.arange(1.0, 6.0)
    cube = np.tile(values[:, np.newaxis, np.newaxis], (1, 2, 2))
    cube[left:, 1, 1] = missing
    statistics = Stack(cube).statistics(2)
    assert statistics.min2d[1, 1] == expected_min
    assert statistics.median2d[1, 1] == expected_median
    assert statistics.mean2d[1, 1] == values[:left].mean()
    assert statistics.max2d[1, 1] == left
    assert statistics.count2d[1, 1] == left
    assert statistics.detectable[1, 1] == (left >= 3)


def test_pixel_without_any_value():
    cube = np.ones((3, 2, 2))
    cube[:, 0, 1] = np.nan, np.inf, -np.inf
    statistics = Stack(cube).statistics()
    for name in ("min2d", "median2d", "mean2d", "max2d"):
        plane = getattr(statistics, name)
        assert plane.dtype == np.float32
        assert np.isnan(plane[0, 1])
        assert np.isnan(plane).sum() == 1
    assert statistics.count2d.dtype == np.int16
    assert statistics.count2d[0, 1] == 0
    assert not statistics.detectable[0, 1]


@pytest.mark.parametrize("missing", [0.0, 0.2])
def test_wide_images_are_reduced_in_several_blocks(missing):
    rng = np.random.default_rng(3)
    cube = rng.normal(100, 10, (3, 4, 1 << 18)).astype(np.float32)
    assert len(list(row_blocks(cube.shape[1:]))) > 1
    cube[rng.random(cube.shape) < missing] = np.nan
    cube[:, :, :8] = 1  # a pixel without values would make numpy warn
    cube[0, np.isnan(cube).all(axis=0)] = 5
    statistics = Stack(cube).statistics()
    np.testing.assert_array_equal(statistics.median2d, np.nanmedian(cube, axis=0))
    np.testing.assert_array_equal(statistics.max2d, np.nanmax(cube, axis=0))
    np.testing.assert_array_equal(statistics.min2d, np.nanmin(cube, axis=0))
    np.testing.assert_allclose(
        statistics.mean2d, np.nanmean(cube, axis=0, dtype=float), rtol=1e-6, atol=1e-4
    )


@pytest.mark.parametrize("dtype", [">f4", "f8", "i2", "u2", ">i4", "u1", bool])
def test_other_types_become_native_float32(dtype):
    cube = np.arange(12).reshape(3, 2, 2).astype(dtype)
    stack = Stack(cube)
    assert stack.exposures.dtype == np.float32
    assert stack.exposures.dtype.isnative
    np.testing.assert_array_equal(stack.exposures, cube.astype(float))


def test_float32_is_not_copied():
    cube = np.ones((3, 2, 2), np.float32)
    stack = Stack(cube)
    assert np.shares_memory(stack.exposures, cube)
    assert (len(stack), stack.shape, stack.complete) == (3, (2, 2), True)


class Passes:
    """Counts how often numpy functions see each value of a stack."""

    def __init__(self, monkeypatch, values):
        self.seen, self.values = 0, values
        for name in ("isfinite", "isinf", "isnan"):
            monkeypatch.setattr(np, name, self.counted(getattr(np, name)))

    def counted(self, function):
        def call(array, *args, **kwargs):
            self.seen += np.size(array) if np.size(array) >= self.values // 3 else 0
            return function(array, *args, **kwargs)

        return call


def test_missing_values_are_looked_for_once_and_in_no_thread(monkeypatch):
    cube = np.ones((3, 600, 400), np.float32)
    passes = Passes(monkeypatch, cube.size)
    stack = Stack(cube)
    assert passes.seen == cube.size
    stack.statistics(resources=Resources(6))
    assert stack.complete
    assert passes.seen == cube.size


def test_infinities_become_missing_in_a_copy():
    cube = np.ones((3, 2, 2), np.float32)
    cube[1, 0, 0] = np.inf
    stack = Stack(cube)
    assert not stack.complete
    assert np.isnan(stack.exposures[1, 0, 0])
    assert np.isinf(cube[1, 0, 0])


@pytest.mark.parametrize(
    ("cube", "message"),
    [
        (np.ones((1, 4, 4)), "at least 2 exposures are needed, not 1"),
        (np.ones((4, 4)), "3 dimensions"),
        (np.ones((3, 4, 4, 1)), "3 dimensions"),
        (np.stack([np.ones((4, 4)), np.full((4, 4), np.nan), np.ones((4, 4))]), "exposure 2"),
        (np.stack([*np.ones((2, 4, 4)), np.full((4, 4), -np.inf)]), "exposure 3"),
        (np.ones((3, 0, 4)), "no finite value"),
    ],
)
def test_what_is_not_a_stack(cube, message):
    with pytest.raises(InputError, match=message):
        Stack(cube)


@pytest.mark.parametrize(("n", "c"), [(3, 3), (3, 1), (5, 5), (5, 0), (4, 7)])
def test_coincidences_must_be_fewer_than_exposures(n, c):
    with pytest.raises(InputError, match=rf"mm_cr_coincidences .*\({n}\), not {c}"):
        Stack(np.ones((n, 2, 2))).statistics(c)


@QUICK
@given(st.integers(1, 7).flatmap(lambda n: hnp.arrays(np.float32, (n, 6), elements=finite)))
def test_planes_are_sorted(cube):
    before = cube.copy()
    np.testing.assert_array_equal(sort_planes(list(cube)), np.sort(cube, axis=0))
    np.testing.assert_array_equal(cube, before)


@QUICK
@given(rows=st.integers(1, 300), columns=st.integers(1, 1 << 20))
def test_blocks_cover_every_row_once(rows, columns):
    covered = [row for block in row_blocks((rows, columns)) for row in range(rows)[block]]
    assert covered == list(range(rows))
