import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from crdetect import Features, InputError
from crdetect.masks import (
    CLASSES,
    Hits,
    Selection,
    as_uint8,
    dilate,
    features_touching,
    label_features,
    pixel_mask,
    region_mask,
)

QUICK = settings(max_examples=25, deadline=None, derandomize=True)
SQUARE = np.ones((3, 3), bool)
SHAPE = (7, 9)

masks = hnp.arrays(bool, SHAPE, fill=st.nothing())  # each pixel is drawn
codes = hnp.arrays(np.uint8, SHAPE, elements=st.sampled_from([0, 0, 0, 0, 1, 2, 3, 4]))


def labelled(mask):
    labels, n = ndimage.label(mask, SQUARE)
    return n, labels


@QUICK
@given(masks)
def test_labels_are_those_of_scipy_up_to_their_order(mask):
    n, labels = label_features(mask)
    n_expected, expected = labelled(mask)
    assert n == n_expected
    pairs = set(zip(labels.ravel().tolist(), expected.ravel().tolist(), strict=True))
    assert len(pairs) == len({one for one, _ in pairs}) == len({other for _, other in pairs})
    np.testing.assert_array_equal(labels > 0, mask)


@QUICK
@given(masks, masks)
def test_features_touching_seeds(mask, seeds):
    n, labels = labelled(mask)
    expected = np.zeros(SHAPE, bool)
    for k in range(1, n + 1):
        if (seeds & (labels == k)).any():
            expected |= labels == k
    np.testing.assert_array_equal(features_touching(mask, seeds), expected)


@QUICK
@given(masks, st.integers(0, 3))
def test_dilation_by_eight_neighbours(mask, times):
    before = mask.copy()
    expected = ndimage.binary_dilation(mask, SQUARE, times) if times else mask
    np.testing.assert_array_equal(dilate(mask, times), expected)
    np.testing.assert_array_equal(mask, before)


@pytest.mark.parametrize("mask", [np.eye(4, dtype=bool), np.eye(8, dtype=bool)[::2, 1::2]])
def test_masks_as_zeros_and_ones(mask):
    numbers = as_uint8(mask)
    assert numbers.dtype == np.uint8
    np.testing.assert_array_equal(numbers, mask.astype(int))


@QUICK
@given(
    st.lists(
        st.tuples(
            st.tuples(st.integers(1, SHAPE[1]), st.integers(1, SHAPE[1])).map(sorted),
            st.tuples(st.integers(1, SHAPE[0]), st.integers(1, SHAPE[0])).map(sorted),
        ),
        max_size=3,
    )
)
def test_regions_are_inclusive_and_in_fits_pixels(ranges):
    marked = region_mask([(*x, *y) for x, y in ranges], SHAPE, "some")
    for row, column in np.ndindex(SHAPE):
        inside = [
            xmin <= column + 1 <= xmax and ymin <= row + 1 <= ymax
            for (xmin, xmax), (ymin, ymax) in ranges
        ]
        assert marked[row, column] == any(inside)


def test_pixels_are_fits_pixels():
    marked = pixel_mask([(1, 1), (9, 2)], SHAPE, "some")
    assert np.argwhere(marked).tolist() == [[0, 0], [1, 8]]


@pytest.mark.parametrize("function", [region_mask, pixel_mask])
def test_nothing_is_marked_by_none(function):
    marked = function(None, SHAPE, "some")
    assert marked.shape == SHAPE
    assert not marked.any()


@pytest.mark.parametrize(
    ("function", "item"),
    [
        (region_mask, (1, 10, 1, 7)),
        (region_mask, (1, 9, 1, 8)),
        (pixel_mask, (10, 1)),
        (pixel_mask, (1, 8)),
    ],
)
def test_what_leaves_the_image_is_refused(function, item):
    with pytest.raises(InputError, match=r"a_name: the .* \[.*not inside the image \[1, 9, 1, 7\]"):
        function([item], SHAPE, "a_name")


@QUICK
@given(masks, masks, masks, masks, st.integers(0, 2))
def test_decisions_of_the_user(detected, skipped, flagged, ignored, dilation):
    flagged &= ~ignored  # the parameters exclude the contrary
    selection = Selection(skipped, flagged, ignored)
    forbidden = skipped | ignored
    np.testing.assert_array_equal(selection.detectable(detected), detected & ~forbidden)
    grown = detected | flagged
    if dilation:
        grown = ndimage.binary_dilation(grown, SQUARE, dilation)
    np.testing.assert_array_equal(
        selection.complete(detected, dilation), np.where(forbidden, flagged, grown)
    )


@pytest.mark.parametrize(
    ("mask", "aux", "mm", "code"),
    [
        (True, False, False, 1),
        (True, False, True, 2),
        (True, True, False, 3),
        (True, True, True, 4),
        *((False, aux, mm, 0) for aux, mm in itertools.product((False, True), repeat=2)),
    ],
)
def test_codes_of_pixels(mask, aux, mm, code):
    hits = Hits(np.full((1, 1), aux), np.full((1, 1), mm))
    coded = hits.codes(np.full((1, 1), mask))
    assert coded.dtype == np.uint8
    assert coded.tolist() == [[code]]
    assert hits.union.tolist() == [[aux or mm]]


@pytest.mark.parametrize(
    ("held", "expected"),
    [
        ([4], "any4"),
        ([2, 4, 3, 1], "any4"),
        ([3, 3], "only3"),
        ([3, 1], "only3"),
        ([2], "only2"),
        ([1, 2], "only2"),
        ([2, 3], "other"),
        ([2, 1, 3], "other"),
        ([1], "other"),
    ],
)
def test_class_of_a_feature(held, expected):
    coded = np.zeros((3, 8), np.uint8)
    coded[1, 1 : 1 + len(held)] = held
    features = Features.of(coded)
    assert features.counts() == {name: int(name == expected) for name in CLASSES}
    assert features.of_class(expected).tolist() == [
        [1, x, 2, code] for x, code in enumerate(held, start=2)
    ]


@QUICK
@given(codes)
def test_features_hold_every_coded_pixel_in_order(coded):
    features = Features.of(coded)
    again = np.zeros_like(coded)
    again[features.y, features.x] = features.code
    np.testing.assert_array_equal(again, coded)
    rows = list(zip(features.label, features.y, features.x, strict=True))
    assert rows == sorted(rows)
    n, labels = labelled(coded > 0)
    assert len(features.classes) == n == len(set(features.label.tolist()))
    for k in range(1, n + 1):
        assert len(set(features.label[labels[features.y, features.x] == k].tolist())) == 1


@QUICK
@given(codes)
def test_classes_of_all_features(coded):
    features = Features.of(coded)
    n, labels = labelled(coded > 0)
    expected = dict.fromkeys(CLASSES, 0)
    pixels = dict.fromkeys(CLASSES, 0)
    for k in range(1, n + 1):
        held = set(coded[labels == k].tolist()) - {1}
        name = {frozenset({3}): "only3", frozenset({2}): "only2"}.get(frozenset(held), "other")
        name = "any4" if 4 in held else name
        expected[name] += 1
        pixels[name] += int((labels == k).sum())
    assert features.counts() == expected
    for name in CLASSES:
        rows = features.of_class(name)
        assert len(rows) == pixels[name]
        assert all(coded[y - 1, x - 1] == code for _, x, y, code in rows)


@QUICK
@given(codes)
def test_features_one_by_one(coded):
    features = Features.of(coded)
    each = list(features)
    assert [feature.number for feature in each] == list(range(1, len(features) + 1))
    for feature in each:
        own = features.label == feature.number
        np.testing.assert_array_equal(feature.x, features.x[own])
        np.testing.assert_array_equal(feature.y, features.y[own])
        np.testing.assert_array_equal(feature.code, features.code[own])
        assert len(feature.x) > 0
        assert feature.class_name == CLASSES[features.classes[feature.number - 1]]


@QUICK
@given(codes)
def test_groups_of_a_mask_with_codes_of_their_own(coded):
    mask = coded != 3
    groups = Features.where(mask, coded)
    again = np.zeros_like(mask)
    again[groups.y, groups.x] = True
    np.testing.assert_array_equal(again, mask)
    np.testing.assert_array_equal(groups.code, coded[groups.y, groups.x])
    assert len(groups) == labelled(mask)[0]


def test_no_features():
    features = Features.of(np.zeros(SHAPE, np.uint8))
    assert features.counts() == dict.fromkeys(CLASSES, 0)
    assert all(len(features.of_class(name)) == 0 for name in CLASSES)
