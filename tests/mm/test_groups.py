from itertools import combinations

import numpy as np
import pytest
from scenes import scene_of
from scipy.stats import norm

from crdetect import Noise
from crdetect.mm.groups import Group, Population, Tails, populations, standard_normal
from crdetect.mm.scene import Exposure

FAR = 1e9  # electrons per ADU: without photon noise
HEIGHTS = np.array([0.0, 0.5, 2.0, 5.0, 9.0])


def normal_group(means, sigmas):
    """One pixel of exposures with read noise only."""
    exposures = [
        Exposure(np.array([mean]), 1.0, Noise(FAR, s))
        for mean, s in zip(means, sigmas, strict=False)
    ]
    return Group(1.0, tuple((Tails.of(e.signal_adu, e, 0.0), 0) for e in exposures))


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
    exposure = Exposure(np.array([0.0, 30.0, 500.0]), 1.5, noise)
    tails = Tails.of(exposure.signal_adu, exposure, 0.0)
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


def level_means(population):
    """Expected values (groups, N), ADU."""
    return np.array([group.means for group in population.groups])


@pytest.mark.parametrize("gain", [0.3, 1.0, 5.0])
@pytest.mark.parametrize("rnoise", [0.0, 3.4])
def test_common_signals_are_rounded_within_a_tenth_of_the_noise(gain, rnoise):
    signal = np.random.default_rng(1).exponential(300, 3000).astype(np.float32)
    signal[:10] = 0
    noise = Noise(gain, rnoise)
    for value in signal[::50]:
        (group,) = Population.of(scene_of([np.array([value])] * 3, noise)).groups
        sigma = np.sqrt(noise.variance_adu2(np.array(value)) + 1e-6 + 0.3 / gain**2)
        assert abs(group.means[0] - value) <= 0.12 * sigma
    one = signal.copy()
    population = Population.of(scene_of([one] * 3, noise))
    assert population.pixels.sum() == 3000
    assert len(population.groups) < 3000 / 4
    assert population.levels.shape == (len(population.groups), 3)
    mean = population.pixels @ level_means(population)[:, 0] / 3000
    assert mean == pytest.approx(signal.mean(dtype=float), rel=2e-3)


def test_factors_and_noises_of_the_exposures():
    signal = np.full(50, 100.0)
    noises = [Noise(1.0, 3.0), Noise(2.0, 4.0), Noise(1.0, 3.0, 20.0)]
    (group,) = Population.of(scene_of([signal] * 3, noises, factors=[0.5, 1.0, 2.0])).groups
    np.testing.assert_allclose(group.means / group.means[1], [0.5, 1.0, 2.0])
    variance = [50 + 9, 50 + 16, 200 + 200**2 / 20 + 9]
    np.testing.assert_allclose(group.sigmas**2, variance, rtol=0.03)
    assert group.pixels == 50


def test_different_signals_are_grouped_whatever_their_order():
    rng = np.random.default_rng(6)
    base = rng.uniform(5, 400, 500)
    signals = [base, base + rng.normal(0, 5, 500) + 20, base * 1.1]
    ordered = Population.of(scene_of(signals, Noise(1.0, 3.4)))
    shuffled = Population.of(scene_of([signals[i] for i in (2, 0, 1)], Noise(1.0, 3.4)))
    np.testing.assert_array_equal(ordered.levels, shuffled.levels)
    np.testing.assert_array_equal(ordered.pixels, shuffled.pixels)
    assert ordered.pixels.sum() == 500
    mean = ordered.pixels @ level_means(ordered) / 500
    np.testing.assert_allclose(mean, np.mean(np.sort(signals, axis=0), axis=1), rtol=3e-3)


def test_rounded_signals_scatter_no_more_than_before():
    """Signals apart by much less than the noise: rounding must not add to its variance."""
    rng = np.random.default_rng(8)
    n = 4000
    base = rng.uniform(95, 105, n)
    signals = [base + rng.uniform(-5, 5, n) for _ in range(3)]
    population = Population.of(scene_of(signals, Noise(1.0, 3.4)))
    weight = population.pixels[:, np.newaxis] / (3 * n)
    means = level_means(population)
    sigmas = np.array([group.sigmas for group in population.groups])
    total = np.sum(weight * (sigmas**2 + means**2)) - np.sum(weight * means) ** 2
    expected = np.mean([s + 3.4**2 for s in signals]) + np.var(signals)
    assert total == pytest.approx(expected, rel=0.01)


def test_maps_make_populations():
    rng = np.random.default_rng(3)
    n = 5000
    gain, rnoise = rng.choice([1.0, 2.0], n), rng.uniform(3.0, 3.3, n)
    noise = Noise(gain, rnoise, 70.0)
    made = list(populations(scene_of([np.full(n, 50.0)] * 3, noise, min2d_adu=gain)))
    assert sum(population.pixels.sum() for population in made) == n
    for population in made:
        (group,) = population.groups
        of_gain = population.min2d_adu[0]
        assert (population.min2d_adu == of_gain).all()
        variance = 50 / of_gain + 50**2 / 70
        assert variance + 9 < group.sigmas[0] ** 2 * 1.03
        assert group.sigmas[0] ** 2 * 0.97 < variance + 3.3**2
    assert sum(p.pixels.sum() for p in made if p.min2d_adu[0] == 2) == (gain == 2).sum()


def test_one_population_where_there_is_no_map():
    (population,) = populations(scene_of([np.arange(100.0)] * 3, Noise(1.0, 3.4)))
    assert population.pixels.sum() == 100


def test_deconvolution_finds_the_true_signals():
    """Two levels: measured with noise they scatter; the minima tell that there are but two."""
    rng = np.random.default_rng(5)
    true = np.repeat([40.0, 100.0], [60_000, 20_000])
    noise = Noise(1.0, 3.0)
    values = np.sort([noise.draw_adu(true, rng) for _ in range(3)], axis=0)
    population = Population.of(scene_of([values[1]] * 3, noise, min2d_adu=values[0]))
    freed = population.deconvolved()
    assert freed.pixels.sum() == pytest.approx(80_000, rel=1e-6)
    signal = level_means(population)[:, 0]

    def scatter(pixels, near):
        inside = np.abs(signal - near) < 28
        share = pixels[inside] / pixels[inside].sum()
        mean = share @ signal[inside]
        return mean, np.sqrt(share @ (signal[inside] - mean) ** 2)

    for near, measured in ((40.0, 4.7), (100.0, 7.0)):
        mean, width = scatter(freed.pixels, near)
        assert mean == pytest.approx(near, abs=0.5)
        assert width < 0.6 * measured
        assert scatter(population.pixels, near)[1] == pytest.approx(measured, rel=0.1)
    assert freed.pixels[signal < 70].sum() == pytest.approx(60_000, rel=0.005)
