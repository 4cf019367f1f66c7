import numpy as np
import pytest

from crdetect import InputError, Noise, Stack
from crdetect.equivalence.flux import FluxFactors, divided, measure_flux, number_at_median
from crdetect.simulate import simulate_exposures

SHAPE = (120, 160)
NOISE = Noise(1.0, 3.4)
FLUXES = [
    (0.8, 1.0, 1.2),
    (0.8, 1.0, 1.2, 1.0),
    (0.8, 0.9, 1.0, 1.1, 1.2),
]


def exposures(flux, seed=1, **more):
    """Traces with continuum and sky lines, and cosmic rays."""
    return simulate_exposures(SHAPE, len(flux), flux=tuple(flux), seed=seed, **more).exposures_adu


def measure(cube, noise=NOISE, selected=None):
    stack = Stack(cube)
    median = stack.statistics().median2d
    return measure_flux(
        stack, noise, median, np.ones(SHAPE, bool) if selected is None else selected
    )


def relative(flux):
    return np.array(flux) / np.median(flux)


@pytest.mark.parametrize("flux", [*FLUXES, (1.2, 0.8, 1.0), (0.99, 1.0, 1.01), (1.0, 1.0, 1.5)])
@pytest.mark.parametrize("gain", [1.0, 4.0])
@pytest.mark.parametrize("hit_fraction", [0.0, 0.03])
def test_fluxes_of_simulated_exposures(flux, gain, hit_fraction):
    cube = exposures(flux, gain=gain, rnoise_adu=3.4 / gain, hit_fraction=hit_fraction)
    found = measure(cube, Noise(gain, 3.4 / gain))
    assert found.measured
    np.testing.assert_allclose(found.factors, relative(flux), rtol=0.01)  # 2 % are asked for


@pytest.mark.parametrize("n", [3, 4, 5])
def test_equal_exposures(n):
    for seed in range(3):
        factors = measure(exposures((1.0,) * n, seed)).factors
        np.testing.assert_allclose(factors, 1, atol=0.006)
        assert np.median(factors) == pytest.approx(1)


@pytest.mark.parametrize("flux", FLUXES)
def test_order_of_the_exposures_does_not_matter(flux):
    cube = exposures(flux)
    order = np.roll(np.arange(len(flux)), 1)[::-1]
    one, other = measure(cube), measure(cube[order])
    np.testing.assert_allclose(np.array(one.factors)[order], other.factors, rtol=2e-4)
    np.testing.assert_allclose(one.densities[order], other.densities, atol=0.02)


def test_scale_of_all_exposures_does_not_matter():
    cube = exposures(FLUXES[0])
    one = measure(cube)
    other = measure(4 * cube, Noise(0.25, 4 * 3.4))
    np.testing.assert_allclose(one.factors, other.factors, rtol=1e-5)
    brighter = measure(exposures((1.6, 2.0, 2.4)))
    np.testing.assert_allclose(brighter.factors, relative(FLUXES[0]), rtol=0.01)


def test_maps_of_gain_and_noise():
    cube = exposures(FLUXES[0])
    gain = np.ones(SHAPE)
    gain[:, :80] = 2.0
    maps = measure(cube / gain, Noise(gain, 3.4 / gain))
    np.testing.assert_allclose(maps.factors, relative(FLUXES[0]), rtol=0.01)
    constant = measure(cube, Noise(np.ones(SHAPE), np.full(SHAPE, 3.4)))
    np.testing.assert_allclose(constant.factors, measure(cube).factors, rtol=1e-6)


def test_only_selected_pixels_are_measured():
    """Left and right half were taken with different fluxes; most pixels are on the right."""
    cube = exposures((1.0, 1.0, 1.0))
    left, right = np.zeros(SHAPE, bool), np.ones(SHAPE, bool)
    left[:, :50], right[:, :50] = True, False
    cube[:, :, :50] *= np.reshape([0.7, 1.0, 1.1], (3, 1, 1))
    cube[:, :, 50:] *= np.reshape([1.2, 1.0, 0.9], (3, 1, 1))
    np.testing.assert_allclose(measure(cube, selected=left).factors, [0.7, 1.0, 1.1], rtol=0.015)
    np.testing.assert_allclose(measure(cube, selected=right).factors, [1.2, 1.0, 0.9], rtol=0.015)
    np.testing.assert_allclose(measure(cube).factors, [1.2, 1.0, 0.9], rtol=0.04)


def test_missing_values_are_left_out():
    cube = exposures(FLUXES[0])
    cube[0, :40] = np.nan
    np.testing.assert_allclose(measure(cube).factors, relative(FLUXES[0]), rtol=0.01)


def test_densities_have_their_maximum_at_the_factor():
    found = measure(exposures(FLUXES[2]))
    assert found.densities.shape == (5, found.ratios.size)
    assert (np.diff(found.ratios) > 0).all()
    assert (found.ratios[0], found.ratios[-1]) == pytest.approx((np.exp(-2), np.exp(2)))
    np.testing.assert_allclose(found.densities.max(axis=1), 1)
    highest = found.ratios[found.densities.argmax(axis=1)]
    np.testing.assert_allclose(highest, found.factors, rtol=0.01)
    half = found.densities > 0.5
    width = found.ratios[-1 - half[:, ::-1].argmax(axis=1)] - found.ratios[half.argmax(axis=1)]
    assert (width < 0.5).all()


@pytest.mark.parametrize(("bright", "enough"), [(0, False), (60, False), (400, True)])
def test_too_few_pixels_with_signal(bright, enough):
    rng = np.random.default_rng(1)
    signal = np.zeros(SHAPE)
    signal.flat[:bright] = 500.0
    cube = [NOISE.draw_adu(factor * signal, rng) for factor in (0.8, 1.0, 1.2)]
    if enough:
        np.testing.assert_allclose(measure(cube).factors, (0.8, 1.0, 1.2), rtol=0.02)
    else:
        with pytest.raises(InputError, match=r"flux_factor: auto finds .* pixels .* give numbers"):
            measure(cube)


def test_given_factors_are_not_measured():
    given = FluxFactors((0.8, 1.0, 1.2))
    assert not given.measured
    assert given.densities is given.number_at_median is None


def test_division():
    cube = exposures(FLUXES[0])
    cube[1, 3, 3] = np.nan
    result = divided(Stack(cube), (0.5, 1.0, 2.0)).exposures
    np.testing.assert_allclose(result, cube / np.reshape([0.5, 1.0, 2.0], (3, 1, 1)), rtol=1e-6)
    assert result.dtype == np.float32


@pytest.mark.parametrize("n", [3, 4, 5])
def test_number_of_the_exposure_at_the_median(n):
    cube = np.random.default_rng(n).normal(100, 10, (n, 7, 9)).astype(np.float32)
    cube[:, 0, 0] = np.nan
    cube[1:, 0, 1] = np.nan
    stack = Stack(cube)
    median = stack.statistics(2).median2d
    number = number_at_median(stack, median)
    assert number[0, 0] == 0
    assert number[0, 1] == 1
    for y, x in np.ndindex(7, 9):
        if y or x > 1:
            nearest = np.argmin(np.abs(cube[:, y, x] - np.median(cube[:, y, x])))
            assert number[y, x] in {nearest + 1, *([] if n % 2 else tied(cube[:, y, x]))}


def tied(values):
    """Numbers of the two in the middle, which are as near to their mean."""
    return set(np.argsort(values)[values.size // 2 - 1 : values.size // 2 + 1] + 1)


@pytest.mark.parametrize("flux", FLUXES)
def test_number_at_median_is_measured_too(flux):
    cube = exposures(flux)
    found = measure(cube)
    expected = number_at_median(Stack(cube), Stack(cube).statistics().median2d)
    np.testing.assert_array_equal(found.number_at_median, expected)
    assert set(np.unique(expected)) == set(range(1, len(flux) + 1))
