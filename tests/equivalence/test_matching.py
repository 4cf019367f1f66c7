import numpy as np
import pytest

from crdetect.equivalence.matching import gradients, match
from crdetect.resources import Resources
from crdetect.simulate import simulate_exposures

SHAPE = (256, 384)
RNOISE_E = 3.4


def matched(simulation):
    return match(simulation.exposures_adu, np.float32(RNOISE_E**2), Resources(2))


def residual_spread(simulation, found):
    """Robust spread of bright pixels about their template, in units of the noise."""
    level = found.level(simulation.exposures_adu)
    bright = found.template_e > 50
    noise = np.sqrt((found.template_e + RNOISE_E**2) * (2 / 3))
    return np.median(np.abs(level - found.template_e)[:, bright] / noise[bright]) / 0.6745


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_equivalent_exposures_stay_nearly_as_they_are(seed):
    simulation = simulate_exposures(SHAPE, seed=seed)
    found = matched(simulation)
    if found.differences_e is not None:  # some term looked significant: it must be small
        noise = np.sqrt(found.template_e.clip(0) + RNOISE_E**2)
        assert np.percentile(np.abs(found.differences_e) / noise, 99) < 0.5
    assert np.abs(found.fluxes - 1).max() < 0.005
    assert np.abs(found.shifts_px).max() < 0.02
    error = found.template_e - simulation.signal_e
    clean = (simulation.charge_e > 0).sum(axis=0) == 0
    noise = np.sqrt((simulation.signal_e + RNOISE_E**2) / 3)
    assert np.std((error / noise)[clean]) == pytest.approx(1.0, abs=0.03)


def test_fluxes():
    simulation = simulate_exposures(SHAPE, seed=4, flux=(0.8, 1.0, 1.2))
    found = matched(simulation)
    assert np.abs(found.fluxes - [0.8, 1.0, 1.2]).max() < 0.02
    assert residual_spread(simulation, found) < 1.05
    assert (
        residual_spread(simulation, match(simulation.exposures_adu, 11.56, Resources(2), ())) > 1.5
    )


def test_shifts():
    offsets = ((-0.15, 0.1), (0.0, 0.0), (0.15, -0.1))
    simulation = simulate_exposures(SHAPE, seed=5, offsets_px=offsets)
    found = matched(simulation)
    assert np.abs(found.shifts_px - offsets).max() < 0.04
    assert residual_spread(simulation, found) < 1.15


def test_five_exposures():
    flux = (0.9, 1.0, 1.1, 0.95, 1.05)
    found = matched(simulate_exposures(SHAPE, 5, seed=6, flux=flux))
    assert np.abs(found.fluxes - flux).max() < 0.02


@pytest.mark.parametrize("along", ["rows", "columns"])
def test_long_tracks_are_not_taken_for_differences(along):
    simulation = simulate_exposures(SHAPE, seed=7, flux=(0.9, 1.0, 1.1), hit_fraction=0.0)
    exposures = simulation.exposures_adu.copy()
    place = (100, slice(50, 200)) if along == "rows" else (slice(50, 200), 100)
    exposures[1][place] += 100.0
    clean = matched(simulation)
    found = match(exposures, np.float32(RNOISE_E**2), Resources(2))
    taken = (found.differences_e - clean.differences_e)[1][place]
    assert np.abs(np.median(taken)) < 20  # of 100 e, where the noise is 13 e


def test_differences_of_all_exposures_add_up_to_nothing():
    found = matched(simulate_exposures(SHAPE, seed=8, flux=(0.8, 1.0, 1.2)))
    assert np.abs(found.differences_e.sum(axis=0)).max() < 0.1


def test_small_images():
    simulation = simulate_exposures((32, 40), seed=9, flux=(0.8, 1.0, 1.2), double_hits=0)
    found = matched(simulation)
    assert np.abs(found.fluxes - [0.8, 1.0, 1.2]).max() < 0.03
    assert np.abs(found.shifts_px).max() < 0.05
    clean = (simulation.charge_e > 0).sum(axis=0) == 0
    noise = np.sqrt((simulation.signal_e + RNOISE_E**2) / 3)
    deviation = ((found.template_e - simulation.signal_e) / noise)[clean]
    assert np.std(deviation) == pytest.approx(1.0, abs=0.06)  # of 1268 pixels: ± 0.02
    assert np.mean(deviation) == pytest.approx(0.0, abs=0.1)


def test_gradients_of_a_plane():
    rows, columns = np.mgrid[:50, :60].astype(np.float32)
    x, y = gradients(3 * columns - 2 * rows, 0.6)
    inner = (slice(5, -5), slice(5, -5))
    assert np.allclose(x[inner], 3, atol=1e-4)
    assert np.allclose(y[inner], -2, atol=1e-4)
