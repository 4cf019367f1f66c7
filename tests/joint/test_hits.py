import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm, poisson

from crdetect.joint.hits import Surroundings, Thresholds, deviances, find_hits, look_around

SHAPE = (60, 70)
RNOISE2 = np.float32(9.0)
THRESHOLDS = Thresholds.for_false_alarms(10.0, 1.5)


def exposures(seed, signal=20.0, n=3, shape=SHAPE):
    rng = np.random.default_rng(seed)
    photons = rng.poisson(signal, (n, *shape))
    return (photons + rng.normal(0, np.sqrt(RNOISE2), photons.shape)).astype(np.float32)


def find(level, thresholds=THRESHOLDS, present=None, inflation=1.0):
    inflated = np.full(level.shape[1:], inflation, np.float32)
    return find_hits(level, present, RNOISE2, inflated, thresholds)


# ---------------------------------------------------------------------------------------------
# Deviances


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 2000), min_size=3, max_size=6))
def test_deviances_of_photons_are_ratios_of_likelihoods(numbers):
    values = np.sort(np.array(numbers, float))[:, np.newaxis]
    found, means = deviances(values, 0.0)
    for m in range(1, len(values) + 1):
        lowest = values[:m, 0]
        best = poisson.logpmf(lowest, lowest).sum()
        common = poisson.logpmf(lowest, lowest.mean()).sum()
        assert found[m - 1, 0] == pytest.approx(2 * (best - common), abs=1e-3 * m)
        assert means[m - 1, 0] == pytest.approx(lowest.mean())


def test_deviances_of_read_noise_are_chi_squares():
    rnoise2 = 1e6  # photons do not count beside it
    values = np.sort(np.random.default_rng(1).normal(0, 1e3, (4, 50)), axis=0)
    found, _ = deviances(values, rnoise2)
    expected = [np.square(values[:m] - values[:m].mean(axis=0)).sum(axis=0) / 1e6 for m in (2, 3)]
    assert np.allclose(found[1:3], expected, atol=0.01)


def test_inflation_divides_deviances():
    values = np.sort(exposures(1).reshape(3, -1), axis=0)
    assert np.allclose(deviances(values, RNOISE2, 4.0)[0] * 4, deviances(values, RNOISE2)[0])


def test_what_is_around_counts_as_another_value_and_is_limited():
    values = np.array([[10.0], [10.0]])
    alone = deviances(values, RNOISE2)[0]

    def with_mean(mean, variance=1e-3):
        around = Surroundings(np.array([mean]), np.array([variance]))
        return deviances(values, RNOISE2, around=around)[0]

    assert np.allclose(with_mean(10.0), alone)
    # λ is known to be 12: the deviance of two values of 10 + 9 from 12 + 9
    expected = 2 * 2 * (19 * np.log(19 / 21) - 19 + 21)
    assert with_mean(12.0)[1, 0] == pytest.approx(expected, rel=0.01)
    assert np.allclose(with_mean(1000.0), alone + 10)  # a spot that nothing announces
    assert np.allclose(with_mean(1000.0, 1e9), alone, atol=1e-2)  # nothing known


def test_surroundings_of_noise_and_of_a_slope():
    flat = look_around(exposures(2, shape=(300, 300)), RNOISE2)
    assert abs(flat.mean_e.mean() - 20) < 0.3
    assert np.median(flat.variance_e2) < 0.5 * 29  # of a value: 20 + 9
    columns = np.arange(300.0) * 5
    slope = look_around(exposures(2, signal=columns, shape=(300, 300)), RNOISE2)
    inner = slice(5, -5)
    assert np.abs(slope.mean_e[:, inner].mean(axis=0) - columns[inner]).max() < 12


def test_surroundings_are_wide_beside_a_line():
    signal = np.full(SHAPE, 20.0)
    signal[:, 35] = 5000.0
    around = look_around(exposures(3, signal=signal), RNOISE2)
    assert np.median(around.variance_e2[:, 33]) > 100 * np.median(around.variance_e2[:, 10])


# ---------------------------------------------------------------------------------------------
# False alarms


@pytest.mark.parametrize("signal", [0.0, 3.0, 100.0, 1000.0])
@pytest.mark.parametrize("asked", [100.0, 1000.0])
def test_false_alarms_are_at_most_as_many_as_asked_for(signal, asked):
    shape = (500, 1000)
    level = exposures(4, signal, shape=shape)
    hits = find(level, Thresholds.for_false_alarms(asked, 1.5))
    per_megapixel = hits.sum() / 3 / 0.5
    # the asked-for number is of one test; a pixel's neighbours may speak against it
    assert asked / 20 < per_megapixel < 1.2 * asked
    assert np.count_nonzero(hits.sum(axis=0) > 1) <= 2


@pytest.mark.parametrize("n", [3, 9])
def test_very_bright_pixels_have_no_more_false_alarms(n):
    level = exposures(11, 1e6, n, (300, 500))
    assert find(level, Thresholds.for_false_alarms(100.0, 1.5)).sum() / n / 0.15 < 150


def test_threshold_is_a_normal_quantile():
    assert Thresholds.for_false_alarms(10.0, 0.0).strong == pytest.approx(norm.isf(1e-5))


# ---------------------------------------------------------------------------------------------
# Hits that are there


def test_isolated_hits_and_double_hits_are_found():
    level = exposures(5)
    level[0, 10, 10] += 80  # 15 σ
    level[1, 30, 30] += 80
    level[2, 30, 30] += 70
    hits = find(level)
    assert [tuple(place) for place in np.argwhere(hits)] == [
        (0, 10, 10), (1, 30, 30), (2, 30, 30)
    ]  # fmt: skip


def test_wings_are_found_beside_tracks_only():
    found_beside = found_alone = 0
    for seed in range(20):
        level = exposures(seed)
        level[0, 20, 10:20] += 300
        level[0, 21, 10:20] += 18  # 3.3 σ: a wing
        level[0, 40, 10:20:3] += 18  # the same, alone
        hits = find(level)[0]
        assert hits[20, 10:20].all()
        found_beside += hits[21, 10:20].sum()
        found_alone += hits[40, 10:20:3].sum()
    assert found_beside > 0.8 * 200
    assert found_alone < 0.1 * 80


def test_tracks_of_probable_pixels_are_found_where_single_ones_are_not():
    together = alone = 0
    for seed in range(20):
        level = exposures(seed)
        level[1, 20, 10:14] += 23  # 4.3 σ each
        level[1, 40, 10:50:10] += 23
        hits = find(level)[1]
        together += hits[20, 10:14].sum()
        alone += hits[40, 10:50:10].sum()
    assert together > 1.4 * alone


def test_weakest_charge():
    level = exposures(6)
    level[0, 20, 10:20] += 300
    hits = find(level, Thresholds(4.0, 10.0))
    values, base = level[0][hits[0]], level[1:, hits[0]].mean(axis=0)
    assert hits[0, 20, 10:20].all()
    assert ((values - base) > 9 * np.sqrt(base + 9)).all()


def test_hot_pixels_are_no_hits_and_dead_values_make_none():
    level = exposures(7)
    level[:, 10, 10] += 20000
    level[0, 30, 30] -= 15  # a low value, 3 σ
    hits = find(level)
    assert not hits[:, 10, 10].any()
    assert not hits[:, 30, 30].any()


@settings(max_examples=10, deadline=None)
@given(st.permutations(range(4)), st.integers(0, 100))
def test_permuting_exposures_permutes_hits(order, seed):
    level = exposures(seed, n=4)
    level[0, 20, 10:20] += 100
    level[2, 15:25, 15] += 60
    order = list(order)
    assert np.array_equal(find(level[order]), find(level)[order])


@pytest.mark.parametrize("n", [2, 3, 5, 8])
def test_any_number_of_exposures(n):
    level = exposures(8, n=n)
    for i in range(n - 1):
        level[i, 20, 20] += 400 + 50 * i
    hits = find(level)
    assert hits[:-1, 20, 20].all()
    assert hits.sum() <= n  # one of noise, beside


def test_missing_values_are_never_hit_and_do_not_count():
    level = exposures(9)
    level[0, 20, 20] += 400
    level[1, 40, 40] += 400
    present = np.ones(level.shape, bool)
    present[2, 20, 20] = False  # two are left: one is hit
    present[:2, 40, 40] = False  # one is left: nothing to compare it with
    level[~present] = 0
    hits = find(level, present=present)
    assert hits[0, 20, 20]
    assert not hits[:, 40, 40].any()
    assert not hits[~present].any()


def test_more_noise_fewer_hits():
    level = exposures(10)
    level[0, 10, 10:50:5] += 40
    assert 0 < find(level, inflation=2.0).sum() < find(level).sum()
