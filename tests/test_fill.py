import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from crdetect.fill import fill_missing, masked_median, median_around

QUICK = settings(max_examples=25, deadline=None, derandomize=True)
SHAPE = (8, 9)

images = hnp.arrays(np.float32, SHAPE, elements=st.integers(-50, 50), fill=st.nothing())
masks = hnp.arrays(bool, SHAPE, fill=st.nothing())
halves = st.integers(1, 4)


def window(image, y, x, half_y, half_x):
    return image[max(y - half_y, 0) : y + half_y + 1, max(x - half_x, 0) : x + half_x + 1]


def by_loops(image, mask, half_y, half_x, leave_out_last=False):
    left_out = mask.copy()
    if leave_out_last:
        left_out[-1], left_out[:, -1] = True, True
    filled = image.copy()
    for y, x in np.argwhere(mask):
        good = window(image, y, x, half_y, half_x)[~window(left_out, y, x, half_y, half_x)]
        if good.size:
            filled[y, x] = np.median(good)
    return filled


@QUICK
@given(images, masks, halves, halves, st.booleans())
def test_masked_pixels_become_the_median_of_the_others(image, mask, half_y, half_x, last):
    before = image.copy()
    filled = masked_median(image, mask, half_y, half_x, last)
    assert filled.dtype == np.float32
    np.testing.assert_array_equal(filled, by_loops(image, mask, half_y, half_x, last))
    np.testing.assert_array_equal(image, before)


def test_window_of_seven_pixels_by_default():
    image = np.random.default_rng(1).normal(0, 9, (20, 20)).astype(np.float32)
    mask = np.random.default_rng(2).random((20, 20)) < 0.3
    np.testing.assert_array_equal(masked_median(image, mask), by_loops(image, mask, 3, 3))


def test_nothing_masked_is_a_copy():
    image = np.ones(SHAPE, np.float32)
    filled = masked_median(image, np.zeros(SHAPE, bool))
    np.testing.assert_array_equal(filled, image)
    assert not np.shares_memory(filled, image)


def test_pixels_without_good_neighbours_keep_their_value():
    image = np.arange(72, dtype=np.float32).reshape(SHAPE)
    np.testing.assert_array_equal(masked_median(image, np.ones(SHAPE, bool)), image)


def test_many_pixels_in_several_chunks():
    image = np.tile(np.arange(600, dtype=np.float32), (300, 1))
    mask = np.ones(image.shape, bool)
    mask[:, ::3] = False
    filled = masked_median(image, mask, 1, 1)
    expected = np.repeat(image[:, ::3], 3, axis=1)  # of the one good column beside
    expected[:, 2::3] += 3
    expected[:, -1] = image[:, -1]  # has none
    np.testing.assert_array_equal(filled, expected)


@QUICK
@given(images, masks, halves, halves, st.data())
def test_median_of_the_other_pixels_around(image, missing, half_y, half_x, data):
    image[missing] = np.nan
    y = np.array(data.draw(st.lists(st.integers(0, SHAPE[0] - 1), min_size=1, max_size=5)))
    x = np.array(data.draw(st.lists(st.integers(0, SHAPE[1] - 1), min_size=5, max_size=5)))
    x = x[: y.size]
    expected = []
    for row, column in zip(y, x, strict=True):
        others = image.copy()
        others[row, column] = np.nan
        around = window(others, row, column, half_y, half_x)
        good = around[np.isfinite(around)]
        expected.append(np.median(good) if good.size else np.nan)
    np.testing.assert_array_equal(median_around(image, y, x, half_y, half_x), np.float32(expected))


def test_image_without_gaps_is_returned_as_it_is():
    image = np.ones(SHAPE, np.float32)
    assert fill_missing(image) is image


@QUICK
@given(images, masks)
def test_gaps_are_filled_from_around(image, missing):
    missing[0, 0] = False
    given_image = np.where(missing, np.float32(np.nan), image)
    filled = fill_missing(given_image)
    assert filled.dtype == np.float32
    expected = by_loops(given_image, missing, 3, 3)
    expected[np.isnan(expected)] = np.median(image[~missing])
    np.testing.assert_array_equal(filled, expected)


@pytest.mark.parametrize("fill", [-4.0, 0.0, 1e5])
def test_wide_gaps_take_the_median_of_the_image(fill):
    image = np.full((30, 30), fill, np.float32)
    image[:20] = np.nan
    np.testing.assert_array_equal(fill_missing(image), np.full((30, 30), fill))
