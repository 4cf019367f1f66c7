import numpy as np
import pytest

from crdetect import Noise, Parameters, Stack
from crdetect.equivalence.matching import Matched
from crdetect.equivalence.model import ExposureModel, fit_exposure_model
from crdetect.equivalence.noise_model import NoiseModel
from crdetect.simulate import simulate_exposures

SHAPE = (200, 300)
NOISE = Noise(1.0, 3.4)


@pytest.fixture(scope="module")
def different():
    offsets = ((-0.1, 0.1), (0.0, 0.0), (0.1, -0.1))
    return simulate_exposures(SHAPE, seed=2, flux=(0.85, 1.0, 1.15), offsets_px=offsets)


@pytest.mark.parametrize("levels", [(0, 20, 40), (-3, 0, 3)])
def test_backgrounds_that_differ(levels):
    simulation = simulate_exposures(SHAPE, seed=4)
    photons = np.random.default_rng(1).poisson(np.maximum(levels, 0), (*SHAPE, 3))
    added = np.moveaxis(photons, -1, 0) + np.minimum(levels, 0)[:, np.newaxis, np.newaxis]
    exposures = simulation.exposures_adu + added.astype(np.float32)
    exposure_model = fit_exposure_model(Stack(exposures), NOISE, Parameters().jt, 2)
    assert not exposure_model.equivalent
    differences = np.median(exposure_model.matched.differences_e, axis=(1, 2))
    assert np.abs(differences - (np.array(levels) - np.mean(levels))).max() < 1
    assert exposure_model.noise_model.excess_e2 < 0.3 * 3.4**2


def test_summary_and_table(different):
    exposure_model = fit_exposure_model(Stack(different.exposures_adu), NOISE, Parameters().jt, 2)
    assert not exposure_model.equivalent
    assert exposure_model.summary()[0] == "exposures are not equivalent"
    rows = {name: value for name, value, _, _ in exposure_model.table()}
    assert rows["flux2"] == exposure_model.noise_model.flux
    assert rows["flux_3"] / rows["flux_1"] == pytest.approx(1.15 / 0.85, abs=0.03)
    assert rows["shift_x_of_3"] - rows["shift_x_of_1"] == pytest.approx(0.2, abs=0.04)


def test_noise_map_has_all_the_variance(different):
    parameters = Parameters.from_mapping({"jt_matching": "none"})
    exposure_model = fit_exposure_model(Stack(different.exposures_adu), NOISE, parameters.jt, 2)
    noise = exposure_model.noise(NOISE)
    signal = np.maximum(exposure_model.matched.template_e, 0)
    expected = (signal + 3.4**2) * exposure_model.inflation
    assert np.allclose(noise.variance_adu2(signal), expected, rtol=1e-3)


@pytest.mark.parametrize("maps", [False, True])
@pytest.mark.parametrize("inflated", [0.0, 1e-3, 2.0])
def test_noise_map_of_bright_pixels_is_exact(maps, inflated):
    """Read noise is far below photon noise: float32 must not lose it in a difference."""
    rng = np.random.default_rng(3)
    signal_e = rng.uniform(1e4, 1e5, SHAPE).astype(np.float32)
    inflation = (1 + inflated * rng.uniform(0, 1, SHAPE)).astype(np.float32)
    matched = Matched(signal_e, None, np.ones(3), np.zeros((3, 2)))
    gain, rnoise = 1.7, 0.02
    noise = Noise(np.full(SHAPE, gain), np.full(SHAPE, rnoise)) if maps else Noise(gain, rnoise)
    found = ExposureModel(matched, NoiseModel(), inflation).noise(noise)
    gain, read2 = (np.float64(value) for value in (noise.gain, np.square(noise.rnoise_adu)))
    photons = signal_e.astype(float) / np.square(gain)
    expected = (photons + read2) * inflation.astype(float) - photons
    np.testing.assert_allclose(np.square(found.rnoise_adu.astype(float)), expected, rtol=3e-6)
