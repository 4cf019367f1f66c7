from collections import Counter

import numpy as np
import pytest
from scenes import scene_of

from crdetect import Noise
from crdetect.mm.groups import Population, _count_alike, populations
from crdetect.mm.scene import Expected, Scene


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
    assert population.npixels.sum() == 3000
    assert len(population.groups) < 3000 / 4
    assert population.levels.shape == (len(population.groups), 3)
    mean = population.npixels @ level_means(population)[:, 0] / 3000
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
    np.testing.assert_array_equal(ordered.npixels, shuffled.npixels)
    assert ordered.npixels.sum() == 500
    mean = ordered.npixels @ level_means(ordered) / 500
    np.testing.assert_allclose(mean, np.mean(np.sort(signals, axis=0), axis=1), rtol=3e-3)


def test_rounded_signals_scatter_no_more_than_before():
    """Signals apart by much less than the noise: rounding must not add to its variance."""
    rng = np.random.default_rng(8)
    n = 4000
    base = rng.uniform(95, 105, n)
    signals = [base + rng.uniform(-5, 5, n) for _ in range(3)]
    population = Population.of(scene_of(signals, Noise(1.0, 3.4)))
    weight = population.npixels[:, np.newaxis] / (3 * n)
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
    assert sum(population.npixels.sum() for population in made) == n
    for population in made:
        (group,) = population.groups
        of_gain = population.min2d_adu[0]
        assert (population.min2d_adu == of_gain).all()
        variance = 50 / of_gain + 50**2 / 70
        assert variance + 9 < group.sigmas[0] ** 2 * 1.03
        assert group.sigmas[0] ** 2 * 0.97 < variance + 3.3**2
    assert sum(p.npixels.sum() for p in made if p.min2d_adu[0] == 2) == (gain == 2).sum()


def test_one_population_where_there_is_no_map():
    (population,) = populations(scene_of([np.arange(100.0)] * 3, Noise(1.0, 3.4)))
    assert population.npixels.sum() == 100


def test_deconvolution_finds_the_true_signals():
    """Two levels: measured with noise they scatter; the minima tell that there are but two."""
    rng = np.random.default_rng(5)
    true = np.repeat([40.0, 100.0], [60_000, 20_000])
    noise = Noise(1.0, 3.0)
    values = np.sort([noise.draw_adu(true, rng) for _ in range(3)], axis=0)
    population = Population.of(scene_of([values[1]] * 3, noise, min2d_adu=values[0]))
    freed = population.deconvolved()
    assert freed.npixels.sum() == pytest.approx(80_000, rel=1e-6)
    signal = level_means(population)[:, 0]

    def scatter(pixels, near):
        inside = np.abs(signal - near) < 28
        share = pixels[inside] / pixels[inside].sum()
        mean = share @ signal[inside]
        return mean, np.sqrt(share @ (signal[inside] - mean) ** 2)

    for near, measured in ((40.0, 4.7), (100.0, 7.0)):
        mean, width = scatter(freed.npixels, near)
        assert mean == pytest.approx(near, abs=0.5)
        assert width < 0.6 * measured
        assert scatter(population.npixels, near)[1] == pytest.approx(measured, rel=0.1)
    assert freed.npixels[signal < 70].sum() == pytest.approx(60_000, rel=0.005)


@pytest.mark.parametrize("n", range(2, 10))
@pytest.mark.parametrize("highest", [3, 500, 300_000_000])
def test_combinations_of_levels(n, highest):
    """Also where all combinations together would be far more than an integer can count."""
    rng = np.random.default_rng(n)
    levels = rng.integers(0, min(highest, 4), (n, 3000), dtype=np.int32)
    levels[:, ::7] = rng.integers(0, highest + 1, levels[:, ::7].shape)
    levels[0, 0] = highest
    found, number = _count_alike(list(levels))
    expected = sorted(Counter(tuple(sorted(pixel)) for pixel in levels.T.tolist()).items())
    assert [tuple(combination) for combination in found.tolist()] == [key for key, _ in expected]
    assert number.tolist() == [count for _, count in expected]


def test_levels_of_one_signal():
    found, number = _count_alike([np.array([5, 0, 5, 2], np.int32)])
    assert found.tolist() == [[0], [2], [5]]
    assert number.tolist() == [1, 1, 2]


@pytest.mark.parametrize("maps", [False, True])
@pytest.mark.parametrize("common", [False, True])
def test_copies_are_grouped_alike(common, maps):
    """Whether arrays and noises are one object or several equal ones has no meaning."""
    rng = np.random.default_rng(2)
    signal = rng.uniform(5, 400, 300).astype(np.float32)
    gain = rng.choice([1.0, 2.0], 300) if maps else 1.5

    def noise():
        return Noise(np.copy(gain), 3.4) if maps else Noise(gain, 3.4)

    shared = noise()
    number = 1 if common else 3
    one = Expected((signal,) * number, (1.0, 1.0, 0.7), (shared,) * 3)
    copied = Expected(
        tuple(signal.copy() for _ in range(number)), (1.0, 1.0, 0.7), tuple(noise() for _ in "123")
    )
    edges, heights = np.linspace(-20, 450, 100), np.linspace(0, 60, 30)
    counts = [
        [
            group.above(edges, heights)
            for population in populations(Scene(expected, 2, signal))
            for group in population.groups
        ]
        for expected in (one, copied)
    ]
    np.testing.assert_array_equal(*counts)
