from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from crdetect import COMBINATIONS, InputError, Masks, Noise, Stack, combine
from crdetect.combine import MASKED, check_masks

QUICK = settings(max_examples=25, deadline=None, derandomize=True)
SHAPE = (3, 4)

# few different values, so that there are ties, as in files of integers
values = st.sampled_from([-7.5, 0, 10, 10, 11, 12, 12, 100, 5000, np.nan])


@dataclass(frozen=True)
class Case:
    stack: Stack
    coincidences: int
    masks: Masks
    noise: Noise
    auxclean: np.ndarray | None

    def combine(self, **kwargs):
        statistics = self.stack.statistics(self.coincidences)
        return combine(self.stack, statistics, self.masks, self.noise, self.auxclean, **kwargs)


@st.composite
def cases(draw):
    n = draw(st.integers(3, 5))
    cube = draw(hnp.arrays(np.float32, (n, *SHAPE), elements=values, fill=st.nothing()))
    cube[:, 0, 0] = 10
    mask = hnp.arrays(bool, SHAPE, fill=st.nothing())
    crmasks = draw(hnp.arrays(bool, (n, *SHAPE), fill=st.nothing()))
    masks = Masks(draw(mask), draw(mask), crmasks, draw(mask))
    noise = Noise(*draw(st.sampled_from([(1.0, 3.0), (2.0, 0.0), _maps()])))
    auxclean = draw(st.none() | hnp.arrays(np.float32, SHAPE, elements=st.floats(-5, 50, width=32)))
    return Case(Stack(cube), draw(st.integers(2, n - 1)), masks, noise, auxclean)


def _maps():
    ramp = np.arange(1, 13, dtype=np.float32).reshape(SHAPE)
    return ramp, 0.5 * ramp


def of_one_pixel(case, y, x):
    """The combinations as the design words them, for one pixel: (value, variance, how many)."""
    gain, rnoise = (
        value[y, x] if np.ndim(value) else value
        for value in (case.noise.gain, case.noise.rnoise_adu)
    )
    column = case.stack.exposures[:, y, x].astype(float)
    present = np.sort(column[~np.isnan(column)])
    if present.size == 0:
        return dict.fromkeys(COMBINATIONS, (np.nan, np.nan, 0))

    def variance(used, value):
        return used.var(ddof=1) if used.size > 1 else max(value, 0) / gain + rnoise**2

    def of(used, value):
        return value, variance(used, value), used.size

    lowest = present[: max(present.size - case.coincidences, 1)]
    mean, median = of(present, present.mean()), of(present, np.median(present))
    minimum = filling = of(lowest, lowest.mean())
    if case.auxclean is not None:
        value = float(case.auxclean[y, x])
        filling = value, variance(np.zeros(1), value), 1
    unmasked = column[~case.masks.crmasks[:, y, x] & ~np.isnan(column)]
    mediancr = filling if case.masks.mediancr[y, x] else median
    meancr = of(unmasked, unmasked.mean()) if unmasked.size else filling
    return {
        "mean": mean,
        "median": median,
        "min": minimum,
        "mediancr": mediancr,
        "meancrt": mediancr if case.masks.meancrt[y, x] else mean,
        "meancr": meancr,
        "meancr2": filling if case.masks.meancr[y, x] else meancr,
    }


@QUICK
@given(cases())
def test_combinations_of_each_pixel(case):
    combined = case.combine()
    assert tuple(combined) == COMBINATIONS
    for y, x in np.ndindex(SHAPE):
        for name, expected in of_one_pixel(case, y, x).items():
            c = combined[name]
            found = c.value[y, x], c.variance[y, x], c.count[y, x]
            np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6, err_msg=name)


@QUICK
@given(cases())
def test_types_and_inputs_left_alone(case):
    arrays = [case.stack.exposures, case.masks.mediancr, case.masks.crmasks, case.auxclean]
    before = [None if array is None else array.copy() for array in arrays]
    for combination in case.combine(local_medians=[(2, 2, 3, 3)]).values():
        assert combination.value.dtype == combination.variance.dtype == np.float32
        assert combination.count.dtype == np.int16
        assert combination.value.shape == combination.variance.shape == SHAPE
    for array, copy in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(array, copy)


def without_hits(cube, coincidences=2):
    none = np.zeros(cube.shape[1:], bool)
    masks = Masks(none, none, np.zeros(cube.shape, bool), none)
    return Case(Stack(cube), coincidences, masks, Noise(2.0, 3.0), None)


@pytest.mark.parametrize(("n", "c", "expected"), [(3, 2, 1), (5, 2, 3), (5, 3, 2), (4, 2, 2)])
def test_map_of_the_minimum_with_equal_values(n, c, expected):
    minimum = without_hits(np.full((n, 2, 2), 12.0), c).combine()["min"]
    assert (minimum.count == expected).all()
    assert (minimum.variance == (0.0 if expected > 1 else 12 / 2 + 9)).all()


def test_wide_images_are_combined_in_several_blocks():
    rng = np.random.default_rng(4)
    cube = rng.normal(100, 10, (3, 4, 1 << 18)).astype(np.float32)
    case = without_hits(cube)
    case.masks.crmasks[:2] = rng.random((2, *cube.shape[1:])) < 0.3
    meancr = case.combine()["meancr"]
    unmasked = np.where(case.masks.crmasks, np.nan, cube.astype(float))
    np.testing.assert_allclose(meancr.value, np.nanmean(unmasked, axis=0), rtol=1e-6)
    n = (~np.isnan(unmasked)).sum(axis=0)
    np.testing.assert_array_equal(meancr.count, n)
    several = n > 1
    variance = np.nanvar(unmasked[:, several], axis=0, ddof=1)
    np.testing.assert_allclose(meancr.variance[several], variance, rtol=1e-6)


BOXES = [
    [(4, 3, 3, 3)],
    [(1, 1, 5, 3)],
    [(6, 5, 3, 7)],
    [(2, 2, 3, 1), (3, 2, 3, 1)],
]


@pytest.mark.parametrize("boxes", BOXES)
def test_local_medians(boxes):
    cube = np.random.default_rng(6).normal(50, 20, (3, 5, 6)).astype(np.float32)
    case = without_hits(cube)
    without, combined = case.combine(), case.combine(local_medians=boxes)
    for name in COMBINATIONS:
        expected = without[name].value.copy()
        if name in MASKED:
            for x, y, width_x, width_y in boxes:
                around = [
                    without[name].value[row, column]
                    for row, column in np.ndindex(expected.shape)
                    if abs(row - y + 1) <= width_y // 2
                    and abs(column - x + 1) <= width_x // 2
                    and (row, column) != (y - 1, x - 1)
                ]
                expected[y - 1, x - 1] = np.median(around)
        np.testing.assert_allclose(combined[name].value, expected, rtol=1e-6)
        for x, y, _, _ in boxes if name in MASKED else ():
            assert combined[name].count[y - 1, x - 1] == 1
            np.testing.assert_allclose(
                combined[name].variance[y - 1, x - 1],
                max(expected[y - 1, x - 1], 0) / 2 + 9,
                rtol=1e-6,
            )


def test_local_median_of_nothing_leaves_the_pixel():
    cube = np.random.default_rng(6).normal(50, 20, (3, 5, 6)).astype(np.float32)
    cube[:, :3, 3:] = np.nan
    cube[:, 1, 4] = [10.0, 20.0, 60.0]
    case = without_hits(cube)
    without, combined = case.combine(), case.combine(local_medians=[(3, 3, 1, 1), (5, 2, 3, 3)])
    for name in COMBINATIONS:
        for key in ("value", "variance", "count"):
            np.testing.assert_array_equal(getattr(combined[name], key), getattr(without[name], key))


@pytest.mark.parametrize("box", [(7, 1, 3, 3), (1, 6, 3, 3)])
def test_local_medians_outside_the_image(box):
    case = without_hits(np.ones((3, 5, 6)))
    with pytest.raises(InputError, match=r"pixels_to_be_replaced_by_local_median.*\[1, 6, 1, 5\]"):
        case.combine(local_medians=[(2, 2, 3, 3), box])


@pytest.mark.parametrize("shape", [(4, 5, 6), (3, 6, 5), (3, 5, 5)])
def test_masks_must_fit_the_stack(shape):
    none = np.zeros(shape[1:], bool)
    masks = Masks(none, none, np.zeros(shape, bool), none)
    with pytest.raises(InputError, match=rf"masks are for {shape[0]} exposures"):
        check_masks(Stack(np.ones((3, 5, 6))), masks)
