import numpy as np
import pytest
from scipy.optimize import nnls

from crdetect.equivalence.matching import gradients
from crdetect.equivalence.noise_model import NoiseModel, fit_noise_model, non_negative
from crdetect.simulate import make_scene_e, make_tracks_e

SHAPE = (400, 500)
TOLERANCE = NoiseModel(0.0, 0.3**2, 0.4**2, 0.4**2)
RNOISE_E = 3.0


def fit(seed, n=3, hit_fraction=0.0, rnoise_e=RNOISE_E, photon_factor=1.0, **terms):
    """Fit exposures whose variance has these terms; the model is told a read noise of 3 e."""
    rng = np.random.default_rng(seed)
    signal = make_scene_e(SHAPE, np.random.default_rng(100 + seed))
    slopes = gradients(signal, 0.6)
    extra = NoiseModel(**terms).extra_variance_e2(signal, slopes)
    photons = photon_factor * rng.poisson(signal / photon_factor, (n, *SHAPE))
    level = photons + rng.standard_normal((n, *SHAPE)) * np.sqrt(extra + rnoise_e**2)
    level += [make_tracks_e(SHAPE, hit_fraction, rng) for _ in range(n)]
    level = level.astype(np.float32)
    return fit_noise_model(level, signal, slopes, np.float32(RNOISE_E**2), TOLERANCE)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("hit_fraction", [0.0, 0.01])
def test_photons_and_read_noise_leave_nothing(seed, hit_fraction):
    model = fit(seed, hit_fraction=hit_fraction)
    assert model.excess_e2 == 0
    assert model.flux < 1e-4
    assert model.shift_x < 2e-3
    assert model.shift_y < 5e-4
    rnoise, error = model.measured_rnoise_e
    assert abs(rnoise - 3) < 4 * error + 0.05
    slope, error = model.photon_slope
    assert abs(slope - 1) < 4 * error + 0.02


@pytest.mark.parametrize("n", [3, 5])
def test_terms_are_found(n):
    wanted = {"flux": 0.02**2, "shift_x": 0.05**2 * 4, "shift_y": 0.05**2}
    found = [fit(seed, n, **wanted) for seed in range(4)]
    for number, (name, value) in enumerate(wanted.items(), start=1):
        values = [getattr(model, name) for model in found]
        error = np.mean([model.errors[number] for model in found])
        assert np.mean(values) == pytest.approx(value, abs=4 * error / 2 + 0.1 * value)


def test_errors_are_those_of_many_fits():
    found = [fit(seed, flux=0.03**2) for seed in range(12)]
    scatter = np.std([model.flux for model in found], ddof=1)
    error = np.mean([model.errors[1] for model in found])
    assert 0.4 < error / scatter < 2.5


def test_read_noise_that_was_not_told():
    model = fit(1, rnoise_e=4.0)
    assert model.excess_e2 == pytest.approx(16 - 9, rel=0.1)
    assert model.measured_rnoise_e[0] == pytest.approx(4.0, abs=0.1)


def test_less_read_noise_than_told_is_measured_and_not_used():
    model = fit(1, rnoise_e=2.0)
    assert model.excess_e2 == 0
    assert model.measured_rnoise_e[0] == pytest.approx(2.0, abs=0.1)


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_photon_slope_tells_a_wrong_gain(factor):
    # of photons that count factor electrons each, the variance is factor times the signal
    slope, error = fit(2, photon_factor=factor).photon_slope
    assert slope == pytest.approx(factor, abs=0.05 * factor + 4 * error)


def test_spread_is_what_was_simulated():
    spread = fit(3, flux=0.03**2).spread
    assert np.allclose(spread.measured / spread.modelled, 1, atol=0.1)
    bright = spread.signal_e > 300
    assert (spread.modelled / spread.known)[bright].min() > 1.2


def test_too_few_pixels_give_no_model():
    level = np.ones((3, 8, 8), np.float32)
    slopes = (np.zeros((8, 8)), np.zeros((8, 8)))
    assert fit_noise_model(level, level[0], slopes, 1.0, TOLERANCE) == NoiseModel()


@pytest.mark.parametrize("seed", range(20))
def test_non_negative_least_squares(seed):
    rng = np.random.default_rng(seed)
    design, measured = rng.normal(size=(9, 5)), rng.normal(size=9)
    found = non_negative(design.T @ design, design.T @ measured)
    np.testing.assert_allclose(found, nnls(design, measured)[0], atol=1e-9)
