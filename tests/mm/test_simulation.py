import numpy as np
import pytest
from scenes import chi_square_per_bin, scene_of
from scipy.stats import norm

from crdetect import Noise
from crdetect.mm.diagram import BINS
from crdetect.mm.parameters import MM
from crdetect.mm.simulation import blocks, draw_points, simulate
from crdetect.resources import Resources

ROOM = 2.0


# ---------------------------------------------------------------------------------------------
# The statistics


def test_read_noise_alone_against_order_statistics():
    """Density of the two lowest of three Gaussian values: 6 φ(a) φ(b) (1 − Φ(b)), a < b."""
    n, sigma, nsets = 60000, 2.0, 5
    diagram = simulate(
        scene_of([np.zeros(n)] * 3, Noise(1.0, sigma)),
        ROOM,
        MM(mm_nsimulations=nsets),
        Resources(2),
    )
    fine = 8  # points per bin and direction
    limits = diagram.limits
    step_x, step_y = (limits.xmax - limits.xmin) / BINS / fine, limits.ymax / BINS / fine
    lowest = limits.xmin + (np.arange(BINS * fine) + 0.5) * step_x
    second = lowest + ((np.arange(BINS * fine) + 0.5) * step_y)[:, np.newaxis]
    a, b = lowest / sigma, second / sigma
    density = 6 * norm.pdf(a) * norm.pdf(b) * norm.sf(b) / sigma**2
    share = density.reshape(BINS, fine, BINS, fine).sum(axis=(1, 3)) * step_x * step_y
    assert share.sum() == pytest.approx(1.0, abs=0.01)
    expected = n * nsets * share
    found, spread = chi_square_per_bin(diagram.counts * nsets, expected, expected)
    assert found == pytest.approx(1.0, abs=4.5 * spread)


def draw_independently(signals, gain, rnoise, c, nsets, rng):
    """(min2d, median2d − min2d) of simulated sets, by sorting."""
    for _ in range(nsets):
        exposures = [rng.poisson(s * gain) / gain + rng.normal(0, rnoise, s.size) for s in signals]
        minimum = np.sort(exposures, axis=0)[: len(signals) - c].mean(axis=0)
        yield minimum, np.median(exposures, axis=0) - minimum


ramp = np.linspace(0, 400, 40000)
CASES = {
    "three": ([ramp] * 3, 1.0, 3.4, 2),
    "gain": ([ramp] * 3, 4.0, 2.0, 2),
    "gain below 1": ([ramp] * 3, 0.5, 5.0, 2),
    "four": ([ramp] * 4, 1.0, 3.4, 2),
    "four, three hits": ([ramp] * 4, 1.0, 3.4, 3),
    "five": ([ramp] * 5, 2.0, 3.4, 2),
    "five, three hits": ([ramp] * 5, 2.0, 3.4, 3),
    "exposures of different flux": ([0.8 * ramp, ramp, 1.2 * ramp], 1.0, 3.4, 2),
    "maps": ([ramp] * 3, np.linspace(1, 4, ramp.size), np.linspace(2, 6, ramp.size), 2),
}


@pytest.mark.parametrize("case", CASES)
def test_diagram_against_an_independent_simulation(case):
    signals, gain, rnoise, c = CASES[case]
    nsets = 4
    diagram = simulate(
        scene_of(signals, Noise(gain, rnoise), c), ROOM, MM(mm_nsimulations=nsets), Resources(2)
    )
    limits = diagram.limits
    ranges = [[0, limits.ymax], [limits.xmin, limits.xmax]]
    sets = draw_independently(signals, gain, rnoise, c, nsets, np.random.default_rng(99))
    other = sum(np.histogram2d(y, x, bins=BINS, range=ranges)[0] for x, y in sets)
    found = diagram.counts * nsets
    chi_square, spread = chi_square_per_bin(found, other, found + other)
    assert chi_square == pytest.approx(1.0, abs=4.5 * spread)
    assert diagram.nsets == nsets
    assert diagram.counts.sum() == pytest.approx(ramp.size, rel=0.001)


# ---------------------------------------------------------------------------------------------
# Repeatable, whatever the number of threads


@pytest.fixture(scope="module")
def large():
    """More pixels than one block has."""
    signal = np.linspace(0, 100, 600_000)
    scene = scene_of([signal] * 3, Noise(1.0, 3.0))
    assert len(blocks(scene)) > 2
    return scene


def test_number_of_threads_does_not_matter(large):
    one, two, five = (simulate(large, ROOM, MM(mm_nsimulations=2), Resources(n)) for n in (1, 2, 5))
    assert one.limits == two.limits == five.limits
    np.testing.assert_array_equal(one.counts, two.counts)
    np.testing.assert_array_equal(one.counts, five.counts)


def test_blocks_cover_all_pixels(large):
    covered = np.concatenate([np.arange(600_000)[block] for block in blocks(large)])
    np.testing.assert_array_equal(covered, np.arange(600_000))


@pytest.mark.parametrize("nsets", [1, 2])
def test_blocks_and_sets_draw_different_numbers(large, nsets):
    """Were two blocks, or two sets, drawn alike, every bin would hold an even number."""
    n = blocks(large)[0].stop * (2 // nsets)
    scene = scene_of([np.full(n, 50.0)] * 3, Noise(1.0, 3.0))
    diagram = simulate(scene, ROOM, MM(mm_nsimulations=nsets), Resources(2))
    assert (np.rint(diagram.counts * nsets) % 2 == 1).any()


@pytest.mark.parametrize(
    ("seed", "other", "equal"),
    [(1, 1, True), (1, 2, False), (None, None, False), (0, 2**70, False)],
)
def test_seeds(seed, other, equal):
    scene = scene_of([np.full(500, 20.0)] * 3, Noise(1.0, 3.0))
    one, two = (
        simulate(scene, ROOM, MM(mm_seed=s, mm_nsimulations=2), Resources(1)) for s in (seed, other)
    )
    assert (one.limits == two.limits and np.array_equal(one.counts, two.counts)) == equal


# ---------------------------------------------------------------------------------------------
# Limits


@pytest.mark.parametrize("real", [(-500.0, 10.0), (10.0, 5000.0), (-500.0, 5000.0), (10.0, 11.0)])
def test_x_spans_real_and_simulated_values(real):
    signals = [np.full(2000, 50.0)] * 3
    alone = simulate(scene_of(signals, Noise(1.0, 3.0)), ROOM, MM(), Resources(1)).limits
    scene = scene_of(signals, Noise(1.0, 3.0), min2d_adu=np.resize(real, 2000))
    limits = simulate(scene, ROOM, MM(), Resources(1)).limits
    assert limits.xmin == min(real[0], alone.xmin)
    assert limits.xmax == max(real[1], alone.xmax)
    assert alone.xmin < 50 < alone.xmax


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"mm_ydiag_max": 77.0}, 77.0),
        ({"mm_ydiag_max": 77.0, "mm_fixed_points_in_boundary": [[0, 100], [5, 10]]}, 105.0),
        ({"mm_fixed_points_in_boundary": [[0, 1000.0, 3.0]]}, 1050.0),
    ],
)
def test_top_of_the_diagram(given, expected):
    scene = scene_of([np.full(2000, 50.0)] * 3, Noise(1.0, 3.0))
    assert simulate(scene, ROOM, MM(**given), Resources(1)).limits.ymax == pytest.approx(expected)


@pytest.mark.parametrize("given", [{}, {"mm_fixed_points_in_boundary": [[0, 0.1]]}])
def test_automatic_top_leaves_room(given):
    scene = scene_of([np.full(2000, 50.0)] * 3, Noise(1.0, 3.0))
    diagram = simulate(scene, ROOM, MM(mm_nsimulations=20, **given), Resources(1))
    highest = diagram.limits.y_edges[1:][diagram.counts.any(axis=1)].max()
    assert highest <= 0.9 * diagram.limits.ymax
    assert 2 * highest >= 0.8 * diagram.limits.ymax


@pytest.mark.parametrize("room", [1.0, 2.0, 4.0])
def test_room_above_the_first_set(room):
    """Two sets draw the same first one: its highest pixel fixes the top."""
    scene = scene_of([np.full(2000, 50.0)] * 3, Noise(1.0, 3.0))
    first = simulate(scene, 1.0, MM(mm_nsimulations=1), Resources(1)).limits
    limits = simulate(scene, room, MM(mm_nsimulations=2), Resources(1)).limits
    assert limits.ymax == pytest.approx(room * first.ymax)
    assert (limits.xmin, limits.xmax) == (first.xmin, first.xmax)


@pytest.mark.parametrize("level", [0.0, 100.0, 1e6])
def test_exposures_without_noise(level):
    """Poisson statistics remain, unless there is no signal."""
    scene = scene_of([np.full(100, level)] * 3, Noise(1e9, 0.0))
    diagram = simulate(scene, ROOM, MM(mm_nsimulations=3), Resources(1))
    limits = diagram.limits
    assert limits.xmin < limits.xmax
    assert limits.ymax > 0
    assert diagram.counts.sum() == pytest.approx(100, abs=5)


# ---------------------------------------------------------------------------------------------
# The exposures of a scene


def test_points_of_any_number_of_exposures_and_hits():
    """Without noise each exposure is known: 2^25 photons and more are exact to 1e-3."""
    levels = np.array([7.0, 3.0, 9.0, 1.0, 8.0, 2.0, 6.0, 4.0, 5.0])
    for n in range(3, 10):
        for c in range(2, n):
            signals = [np.full(4, level) for level in levels[:n]]
            scene = scene_of(signals, Noise(1e8, 0.0), c)
            minimum, height = draw_points(scene, slice(None), np.random.default_rng(1))
            ordered = np.sort(levels[:n])
            np.testing.assert_allclose(minimum, np.mean(ordered[: n - c]), rtol=1e-3)
            np.testing.assert_allclose(minimum + height, np.median(ordered), rtol=1e-3)


def test_each_exposure_has_its_own_factor_and_noise():
    """Of three values far apart the lowest and the middle one are those of two exposures."""
    n = 40_000
    noises = [Noise(1.0, 2.0), Noise(4.0, 3.0), Noise(2.0, 5.0)]
    scene = scene_of([np.full(n, 400.0)] * 3, noises, factors=[1.0, 2.0, 3.0])
    minimum, height = draw_points(scene, slice(None), np.random.default_rng(3))
    for values, mean, variance in (
        (minimum.astype(float), 400.0, 400 + 4),
        (minimum.astype(float) + height, 800.0, 200 + 9),
    ):
        assert abs(values.mean() - mean) < 4.5 * np.sqrt(variance / n)
        assert abs(values.var() / variance - 1) < 4.5 * np.sqrt(2 / n)
