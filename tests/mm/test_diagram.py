import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from crdetect.mm.diagram import BINS, Diagram, Limits
from crdetect.mm.parameters import MM

QUICK = settings(max_examples=25, deadline=None, derandomize=True)

limits = st.sampled_from(
    [Limits(0.0, 100.0, 100.0), Limits(-37.5, 812.5, 6.25), Limits(1e4, 1e4 + 64, 1024.0)]
)
places = st.lists(st.tuples(st.integers(-3, BINS + 2), st.integers(-3, BINS + 2)), max_size=50)
far = st.sampled_from([-1e30, -1e12, -1e6, 1e6, 1e12, 1e30])


def points_in(limits, places, offset):
    """Points in the middle of bins, or near it: not where rounding decides."""
    bins = np.array(places, float).reshape(-1, 2) + offset
    x = limits.xmin + bins[:, 0] * (limits.xmax - limits.xmin) / BINS
    return x.astype(np.float32), (bins[:, 1] * limits.ymax / BINS).astype(np.float32)


@QUICK
@given(limits, places, st.sampled_from([0.25, 0.5, 0.75]), st.lists(st.tuples(far, far)))
def test_counts_are_those_of_numpy(limits, places, offset, outside):
    x, y = points_in(limits, places, offset)
    outside = np.array(outside, np.float32).reshape(-1, 2)
    x, y = np.append(x, outside[:, 0]), np.append(y, outside[:, 1])
    expected, y_edges, x_edges = np.histogram2d(
        y, x, bins=BINS, range=[[0, limits.ymax], [limits.xmin, limits.xmax]]
    )
    counts = limits.count(x, y)
    assert counts.shape == (BINS, BINS)
    np.testing.assert_array_equal(counts, expected)
    np.testing.assert_allclose(limits.x_edges, x_edges)
    np.testing.assert_allclose(limits.y_edges, y_edges)


@pytest.mark.parametrize(
    ("x", "y", "bin_of"),
    [
        (0.0, 0.0, (0, 0)),
        (100.0, 100.0, (99, 99)),  # as numpy, the last bin holds its upper edge
        (1.0, 2.0, (2, 1)),
        (100.0, 0.0, (0, 99)),
        (-0.001, 50.0, None),
        (100.001, 50.0, None),
        (50.0, -0.001, None),
        (50.0, 100.001, None),
    ],
)
def test_edges(x, y, bin_of):
    counts = Limits(0.0, 100.0, 100.0).count(np.float32([x]), np.float32([y]))
    assert [tuple(place) for place in np.argwhere(counts)] == ([bin_of] if bin_of else [])


def test_no_points():
    assert Limits(0.0, 1.0, 1.0).count(np.zeros(0, np.float32), np.zeros(0, np.float32)).sum() == 0


@QUICK
@given(hnp.arrays(np.float64, (BINS, BINS), elements=st.just(0.0)), st.data())
def test_isolated_bins_are_emptied(counts, data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    counts += rng.poisson(data.draw(st.sampled_from([0.05, 0.5, 3.0])), counts.shape) / 10
    before = counts.copy()
    kernel = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]])
    neighbors = ndimage.convolve((counts > 0).astype(int), kernel, mode="constant")
    diagram = Diagram(Limits(0.0, 1.0, 1.0), counts, 10)
    for least in range(9):
        kept = diagram.without_isolated(least)
        np.testing.assert_array_equal(kept.counts, np.where(neighbors >= least, counts, 0))
        assert (kept.limits, kept.nsets) == (diagram.limits, 10)
    np.testing.assert_array_equal(counts, before)


@pytest.mark.parametrize("y", [90.0, 95.0, 95.3, 100.0, 200.0])
def test_points_that_a_diagram_holds_do_not_make_it_higher(y):
    limits = Limits.around(0.0, 10.0, 100.0, MM())
    with_point = Limits.around(0.0, 10.0, 100.0, MM(mm_fixed_points_in_boundary=[[5.0, y]]))
    assert limits.hold([(5.0, y)]) == (with_point == limits)
    assert limits.hold([])
