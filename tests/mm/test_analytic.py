import numpy as np
import pytest
from scenes import chi_square_per_bin, scene_of
from scipy.integrate import quad
from scipy.stats import norm

from crdetect import InputError, Noise
from crdetect.mm.analytic import CleanPixels, check_available
from crdetect.mm.boundary import computed_points, simulated_points
from crdetect.mm.diagram import BINS, Diagram, Limits
from crdetect.mm.parameters import MM
from crdetect.mm.simulation import simulate
from crdetect.resources import Resources
from crdetect.simulate import make_scene_e

N = 40_000
RAMP = np.linspace(0, 400, N)
RNG = np.random.default_rng(1)
STEEP = 400 * RNG.random(N) ** 3 + 5
MEASURED = [np.maximum(STEEP + RNG.normal(0, np.sqrt(STEEP + 11)), 0) for _ in range(3)]
MAPS = Noise(RNG.uniform(1.0, 1.15, N), RNG.uniform(3.0, 3.3, N))
FLUX = (0.8, 1.0, 1.2)


# ---------------------------------------------------------------------------------------------
# The diagram


def of_read_noise(limits, sigma):
    """Share of the pixels in each bin: 6 φ(a) φ(b) (1 − Φ(b)), a < b, for the two lowest of 3."""
    fine = 8  # points per bin and direction
    step_x, step_y = (limits.xmax - limits.xmin) / BINS / fine, limits.ymax / BINS / fine
    lowest = limits.xmin + (np.arange(BINS * fine) + 0.5) * step_x
    second = lowest + ((np.arange(BINS * fine) + 0.5) * step_y)[:, np.newaxis]
    a, b = lowest / sigma, second / sigma
    density = 6 * norm.pdf(a) * norm.pdf(b) * norm.sf(b) / sigma**2
    return density.reshape(BINS, fine, BINS, fine).sum(axis=(1, 3)) * step_x * step_y


def test_read_noise_alone_against_order_statistics():
    """Far below one pixel, where no simulation reaches."""
    n, sigma = 60_000, 2.0
    limits = Limits(-10.0, 6.0, 16.0)
    found = CleanPixels.of(scene_of([np.zeros(n)] * 3, Noise(1.0, sigma))).diagram(limits)
    assert found.nsets is None
    assert found.limits is limits
    expected = n * of_read_noise(limits, sigma)
    some = expected > 1e-6
    assert some.sum() > 2000
    assert expected[some].min() < 2e-6
    ratio = found.counts[some] / expected[some]
    assert abs(ratio.mean() - 1) < 0.005
    assert ratio.std() < 0.02
    assert np.abs(ratio - 1).max() < 0.06


CASES = {
    "three": ([RAMP] * 3, Noise(1.0, 3.4), 2, None),
    "gain": ([RAMP] * 3, Noise(4.0, 2.0), 2, None),
    "gain below 1": ([RAMP] * 3, Noise(0.5, 5.0), 2, None),
    "five": ([RAMP] * 5, Noise(2.0, 3.4), 4, None),
    "nine": ([RAMP] * 9, Noise(2.0, 3.4), 8, None),
    "negative binomial": ([RAMP] * 3, Noise(1.0, 3.4, 50.0), 2, None),
    "few photons": ([RAMP / 80] * 3, Noise(1.0, 1.0), 2, None),
    "flux": ([RAMP] * 3, Noise(1.0, 3.4), 2, FLUX),
    "five of different flux": ([RAMP] * 5, Noise(1.0, 3.4, 200.0), 4, [0.8, 1, 1.2, 0.9, 1.1]),
    "divided by flux": ([RAMP] * 3, [Noise(1.0, 3.4).divided(f) for f in FLUX], 2, None),
    "signals of their own": (MEASURED, Noise(1.0, 3.4), 2, None),
    "maps": ([RAMP] * 3, MAPS, 2, None),
    "maps that rise with the signal": (
        [RAMP] * 3,
        Noise(np.linspace(1, 4, N), np.linspace(2, 6, N)),
        2,
        None,
    ),
}


@pytest.fixture(scope="module")
def pairs():
    """Diagrams of each case with 100 sets, as simulated and as computed."""
    cache = {}

    def make(case):
        if case not in cache:
            signals, noise, c, factors = CASES[case]
            scene = scene_of(signals, noise, c, factors)
            simulated = simulate(scene, 2.0, MM(mm_nsimulations=100), Resources(2))
            cache[case] = simulated, CleanPixels.of(scene).diagram(simulated.limits)
        return cache[case]

    return make


@pytest.mark.parametrize("case", CASES)
def test_simulations_converge_to_it(pairs, case):
    simulated, computed = pairs(case)
    found, expected = simulated.counts * 100, computed.counts * 100
    chi_square, spread = chi_square_per_bin(found, expected, expected)
    assert chi_square == pytest.approx(1.0, abs=4.5 * spread)
    assert computed.counts.sum() == pytest.approx(simulated.counts.sum(), rel=1e-3)
    assert computed.counts.min() >= -1e-9


def one_above(pixels, edges):
    """Height above which there is one pixel, between edges as an exponential function."""
    above = np.append(np.cumsum(pixels[::-1])[::-1], 0)
    row = np.flatnonzero(above >= 1).max()
    low, high = above[row], max(above[row + 1], 1e-3)
    return edges[row] + edges[1] * np.log(low) / np.log(low / high)


@pytest.mark.parametrize("case", CASES)
def test_points_agree_where_simulations_have_statistics(pairs, case):
    """One pixel per set above: of 100 sets, 100 pixels tell where, within a third of a bin."""
    simulated, computed = pairs(case)
    edges = simulated.limits.y_edges
    differences = []
    for x, y in zip(*computed_points(computed, 1.0), strict=True):
        pixels = simulated.counts[:, np.searchsorted(simulated.limits.x_edges, x) - 1]
        if pixels.sum() > 200:
            differences.append((y - one_above(pixels, edges)) / edges[1])
    assert len(differences) > 40
    assert abs(np.mean(differences)) < 0.15
    assert np.std(differences) < 0.5
    assert np.abs(differences).max() < 2


@pytest.mark.parametrize("case", ["three", "five", "flux", "negative binomial"])
def test_points_of_ten_sets_scatter_around_the_computed_ones(case):
    """On the average they agree within a bin, though each is but the highest pixel of a column."""
    signals, noise, c, factors = CASES[case]
    scene = scene_of(signals, noise, c, factors)
    differences = []
    for seed in range(4):
        simulated = simulate(scene, 2.0, MM(mm_seed=seed), Resources(2))
        computed = CleanPixels.of(scene).diagram(simulated.limits)
        full = simulated.counts.sum(axis=0) > 200
        columns = Diagram(simulated.limits, np.where(full, simulated.counts, 0), 10)
        x, y = simulated_points(columns)
        expected = np.interp(x, *computed_points(computed, 0.1))
        differences += list((y - expected) / simulated.limits.y_edges[1])
    assert len(differences) > 200
    assert abs(np.mean(differences)) < 1


def test_columns_do_not_depend_on_the_limits():
    """A column of narrow limits is a tenth of one ten times as wide."""
    pixels = CleanPixels.of(scene_of([RAMP] * 3, Noise(1.0, 3.4)))
    wide = pixels.diagram(Limits(0.0, 400.0, 100.0)).counts
    narrow = pixels.diagram(Limits(100.0, 140.0, 100.0)).counts
    # the second has ten columns for one, and the edges of its cells are others
    tenths = narrow.reshape(BINS, 10, 10).sum(axis=2)
    np.testing.assert_allclose(tenths, wide[:, 25:35], rtol=0.01, atol=0.02)
    high = pixels.diagram(Limits(0.0, 400.0, 200.0)).counts
    np.testing.assert_allclose(high[:50], wide[::2] + wide[1::2], rtol=1e-6, atol=1e-9)
    assert pixels.diagram(Limits(-900.0, -500.0, 100.0)).counts.sum() == 0
    assert pixels.diagram(Limits(900.0, 1500.0, 100.0)).counts.sum() == 0


# ---------------------------------------------------------------------------------------------
# Limits


@pytest.mark.parametrize("case", CASES)
def test_limits_hold_the_pixels_of_one_set(case):
    signals, noise, c, factors = CASES[case]
    scene = scene_of(signals, noise, c, factors)
    found = CleanPixels.of(scene).limits(scene.min2d_adu, 1.0, MM())
    # with room 1 the first set's own limits: its lowest, highest and topmost pixel
    sets = [
        simulate(scene, 1.0, MM(mm_seed=s, mm_nsimulations=1), Resources(2)).limits
        for s in range(9)
    ]
    # as if normal, few photons seem to go farther down than they do
    wide = (0.12 if case == "few photons" else 0.04) * (found.xmax - found.xmin)
    assert found.xmin == pytest.approx(np.median([s.xmin for s in sets]), abs=wide)
    assert found.xmax == pytest.approx(np.median([s.xmax for s in sets]), abs=wide)
    assert found.ymax == pytest.approx(np.median([s.ymax for s in sets]), rel=0.2)


@pytest.mark.parametrize("real", [(-500.0, 10.0), (10.0, 5000.0), (-500.0, 5000.0), (10.0, 11.0)])
def test_x_spans_real_values(real):
    signals, noise = [np.full(2000, 50.0)] * 3, Noise(1.0, 3.0)
    pixels = CleanPixels.of(scene_of(signals, noise))
    alone = pixels.limits(np.full(5, 50.0), 2.0, MM())
    limits = pixels.limits(np.array(real), 2.0, MM())
    assert limits.xmin == min(real[0], alone.xmin)
    assert limits.xmax == max(real[1], alone.xmax)
    assert alone.xmin < 50 < alone.xmax


def test_room_and_given_top():
    pixels = CleanPixels.of(scene_of([np.full(2000, 50.0)] * 3, Noise(1.0, 3.0)))
    one, four = (pixels.limits(np.array([50.0]), room, MM()) for room in (1.0, 4.0))
    assert four.ymax == pytest.approx(4 * one.ymax)
    assert (one.xmin, one.xmax) == (four.xmin, four.xmax)
    assert pixels.limits(np.array([50.0]), 2.0, MM(mm_ydiag_max=77.0)).ymax == 77
    points = MM(mm_fixed_points_in_boundary=[[0, 1000.0]])
    assert pixels.limits(np.array([50.0]), 2.0, points).ymax == pytest.approx(1050)


@pytest.mark.parametrize("level", [0.0, 100.0, 1e3])
def test_exposures_without_noise(level):
    scene = scene_of([np.full(100, level)] * 3, Noise(1e9, 0.0))
    pixels = CleanPixels.of(scene)
    limits = pixels.limits(scene.min2d_adu, 2.0, MM())
    assert limits.xmin < limits.xmax
    assert limits.ymax > 0
    assert np.isfinite(pixels.diagram(limits).counts).all()


def test_a_single_pixel():
    scene = scene_of([np.array([50.0])] * 3, Noise(1.0, 3.0))
    pixels = CleanPixels.of(scene)
    limits = pixels.limits(scene.min2d_adu, 2.0, MM())
    assert limits.xmin <= limits.xmax
    assert pixels.diagram(limits).counts.sum() <= 1 + 1e-6


# ---------------------------------------------------------------------------------------------
# How many are above a boundary


@pytest.mark.parametrize("case", CASES)
def test_all_pixels_are_above_zero(case):
    signals, noise, c, factors = CASES[case]
    pixels = CleanPixels.of(scene_of(signals, noise, c, factors))
    assert pixels.number_above(np.zeros_like) == pytest.approx(N, rel=1e-3)
    assert pixels.number_above(lambda x: np.full_like(x, 1e6)) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("height", [0.3, 1.0, 3.0, 5.0])
def test_number_above_a_constant_against_an_integral(height):
    n, sigma = 1000, 2.0
    pixels = CleanPixels.of(scene_of([np.zeros(n)] * 3, Noise(1.0, sigma)))
    share, _ = quad(lambda a: 3 * norm.pdf(a) * norm.sf(a + height) ** 2, -9, 9)
    found = pixels.number_above(lambda x: np.full_like(x, height * sigma))
    assert found == pytest.approx(n * share, rel=0.01)


def curve_of(noise, k):
    """A boundary that follows the noise."""
    gain, rnoise = float(np.mean(noise.gain)), float(np.mean(noise.rnoise_adu))
    return lambda x: k * np.sqrt(rnoise**2 + np.clip(x, 0, None) / gain)


@pytest.mark.parametrize("case", ["three", "five", "negative binomial", "maps", "few photons"])
@pytest.mark.parametrize("k", [2.0, 4.0])
def test_number_above_a_curve_against_exposures_of_known_truth(case, k):
    signals, noise, _, _ = CASES[case]
    curve = curve_of(noise, k)
    number = CleanPixels.of(scene_of(signals, noise)).number_above(curve)
    rng = np.random.default_rng(12)
    drawn = []
    for _ in range(30):
        ordered = np.sort([noise.draw_adu(signal, rng) for signal in signals], axis=0)
        height = ordered[len(signals) // 2] - ordered[0]
        drawn.append(np.count_nonzero(height > curve(ordered[0])))
    assert np.mean(drawn) == pytest.approx(
        number, abs=4.5 * np.sqrt(number / len(drawn)) + 2e-3 * number
    )


@pytest.mark.parametrize("noise", [Noise(1.0, 3.4), Noise(2.0, 2.0), Noise(1.0, 3.4, 300.0)])
def test_number_above_of_measured_signals(noise):
    """The median's noise makes 3 % of error, which deconvolution takes away."""
    rng = np.random.default_rng(7)
    true = make_scene_e((300, 400), np.random.default_rng(5)).ravel() / noise.gain
    ordered = np.sort([noise.draw_adu(true, rng) for _ in range(3)], axis=0)
    measured = CleanPixels.of(
        scene_of([np.maximum(ordered[1], 0)] * 3, noise, min2d_adu=ordered[0])
    )
    freed = measured.deconvolved()
    known = CleanPixels.of(scene_of([true] * 3, noise))
    for k in (3.0, 4.0, 5.0):
        curve = curve_of(noise, k)
        expected = known.number_above(curve)
        assert freed.number_above(curve) == pytest.approx(expected, rel=0.006)
    curve = curve_of(noise, 3.0)
    assert abs(measured.number_above(curve) / known.number_above(curve) - 1) > 0.015


# ---------------------------------------------------------------------------------------------
# What is available


@pytest.mark.parametrize(("n", "c"), [(3, 2), (5, 4), (7, 6), (9, 8)])
def test_available(n, c):
    check_available(n, c)


@pytest.mark.parametrize(("n", "c"), [(4, 2), (4, 3), (5, 2), (5, 3), (6, 5), (9, 2)])
def test_not_available_says_what_is(n, c):
    with pytest.raises(InputError, match="accepted: montecarlo") as caught:
        check_available(n, c)
    assert str(caught.value).startswith("mm_simulation: analytic")
    assert f"not {n} and {c}" in str(caught.value)
