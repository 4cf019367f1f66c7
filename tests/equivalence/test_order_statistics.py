from itertools import combinations

import numpy as np
import pytest
from scipy.stats import norm

from crdetect import Noise
from crdetect.equivalence.order_statistics import Group, Tails, standard_normal
from crdetect.mm.scene import ExpectedExposure

FAR = 1e9  # electrons per ADU: without photon noise
HEIGHTS = np.array([0.0, 0.5, 2.0, 5.0, 9.0])


def normal_group(means, sigmas):
    """One pixel of exposures with read noise only."""
    exposures = [
        ExpectedExposure(np.array([mean]), 1.0, Noise(FAR, s))
        for mean, s in zip(means, sigmas, strict=False)
    ]
    return Group(1.0, tuple((Tails.of(e.signal_adu, e.factor, e.noise, 0.0), 0) for e in exposures))


def middle_above(a, heights, means, sigmas):
    """Probability density of the minimum a with the median above a + d, by all the ways to be."""
    n = len(means)
    beyond = [
        norm.sf((a[:, np.newaxis] + heights - m) / s) for m, s in zip(means, sigmas, strict=False)
    ]
    within = [
        norm.sf((a - m) / s)[:, np.newaxis] - far
        for m, s, far in zip(means, sigmas, beyond, strict=False)
    ]
    total = np.zeros((a.size, heights.size))
    for first in range(n):
        density = norm.pdf((a - means[first]) / sigmas[first]) / sigmas[first]
        others = [i for i in range(n) if i != first]
        for number in range((n - 1) // 2):  # of the others below the median
            for low in combinations(others, number):
                chance = [within[i] if i in low else beyond[i] for i in others]
                total += density[:, np.newaxis] * np.prod(chance, axis=0)
    return total


@pytest.mark.parametrize(
    ("means", "sigmas"),
    [
        ([5.0] * 3, [2.0] * 3),
        ([5.0, 6.0, 4.0], [2.0] * 3),
        ([5.0, 5.0, 9.0], [2.0, 2.0, 4.0]),
        ([5.0] * 5, [2.0] * 5),
        ([5.0, 6.0, 4.0, 5.0, 7.0], [2.0, 3.0, 2.5, 2.0, 2.0]),
        ([5.0] * 7, [3.0] * 7),
        ([5.0, 5.0, 4.0, 6.0, 4.0, 6.0, 7.0, 5.0, 3.0], [2.0] * 9),
    ],
)
def test_minimum_and_median_of_normal_exposures(means, sigmas):
    group = normal_group(means, sigmas)
    cells = group.cells()
    coarse = cells[::8]
    found = np.add.reduceat(group.above(cells, HEIGHTS), np.arange(0, cells.size - 1, 8))
    for row, low in zip(found, coarse, strict=False):
        high = min(low + 8 * (cells[1] - cells[0]), cells[-1])
        a = np.linspace(low, high, 81)
        density = middle_above(a, HEIGHTS, means, sigmas)
        expected = np.trapezoid(density, a, axis=0)
        # in cells of 0.1 sigma the product of many steep tails is not quite linear
        rtol = 0.02 if len(means) <= 5 else 0.05
        np.testing.assert_allclose(row, expected, rtol=rtol, atol=2e-7)
    assert found[:, 0].sum() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("n", [3, 5, 7, 9])
def test_pixels_and_order_of_the_exposures(n):
    rng = np.random.default_rng(n)
    group = normal_group(rng.uniform(0, 5, n), rng.uniform(1, 3, n))
    cells = group.cells()
    found = group.above(cells, HEIGHTS)
    other = Group(7.0, group.exposures[::-1])
    np.testing.assert_allclose(other.above(cells, HEIGHTS), 7 * found, rtol=1e-9, atol=1e-15)
    each = np.broadcast_to([[2.0]], (cells.size - 1, 1))  # a height for each cell
    np.testing.assert_allclose(group.above(cells, each)[:, 0], found[:, 2], rtol=1e-12)


def test_minimum_alone():
    group = normal_group([5.0, 6.0, 4.0], [2.0, 3.0, 2.5])
    x = np.linspace(-10, 12, 45)
    expected = np.prod([norm.sf((x - m) / s) for m, s in ((5, 2), (6, 3), (4, 2.5))], axis=0)
    np.testing.assert_allclose(group.lowest_above(x), expected, rtol=5e-3, atol=1e-12)


def test_span_and_reach_hold_all_that_happens():
    rng = np.random.default_rng(4)
    for means, sigmas in (([5.0] * 3, [2.0] * 3), ([0.0, 3.0, 50.0, 2.0, 9.0], [1, 2, 9, 1, 3])):
        group = normal_group(means, sigmas)
        values = np.sort(rng.normal(means, sigmas, (100_000, len(means))), axis=1)
        low, high = group.span
        assert low < values[:, 0].min()
        assert values[:, 0].max() < high
        assert (values[:, len(means) // 2] - values[:, 0]).max() < group.reach
        cells = group.cells()
        assert (cells[0], cells[-1]) == (low, high)
        assert np.diff(cells).max() <= 0.1 * min(sigmas) * 1.001


def test_standard_normal():
    group = standard_normal(5)
    values = np.sort(np.random.default_rng(1).normal(size=(200_000, 5)), axis=1)
    heights = np.array([0.0, 0.5, 1.0, 2.0, 3.0])
    found = group.above(group.cells(), heights).sum(axis=0)
    expected = ((values[:, 2] - values[:, 0])[:, np.newaxis] > heights).mean(axis=0)
    error = np.sqrt(expected * (1 - expected) / len(values))
    assert (np.abs(found - expected) <= 4.5 * error + 1e-3).all()


@pytest.mark.parametrize("kappa", [np.inf, 40.0])
def test_tails_are_those_of_the_noise(kappa):
    """Against draws: of factor, gain, read noise, photons."""
    noise = Noise(0.5, 4.0, kappa)
    exposure = ExpectedExposure(np.array([0.0, 30.0, 500.0]), 1.5, noise)
    tails = Tails.of(exposure.signal_adu, exposure.factor, exposure.noise, 0.0)
    rng = np.random.default_rng(2)
    for level, signal in enumerate(exposure.signal_adu):
        drawn = noise.draw_adu(np.full(200_000, 1.5 * signal), rng).astype(float)
        assert tails.mean[level] == 1.5 * signal
        assert tails.sigma[level] == pytest.approx(drawn.std(), rel=0.012)
        x = tails.mean[level] + tails.sigma[level] * np.linspace(-3, 4, 15)
        expected = (drawn[:, np.newaxis] > x).mean(axis=0)
        error = np.sqrt(expected * (1 - expected) / drawn.size)
        assert (np.abs(tails.survival(level, x) - expected) < 4.5 * error + 2e-4).all()
        assert tails.survival(level, np.array([1e9, np.inf])).tolist() == pytest.approx([0, 0])
        assert tails.survival(level, np.array([-1e9])).tolist() == pytest.approx([1])


# ---------------------------------------------------------------------------------------------
# Groups of the pixels
