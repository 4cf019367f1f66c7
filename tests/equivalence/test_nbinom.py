import numpy as np
import pytest

from crdetect import InputError, Noise
from crdetect.equivalence.nbinom import NbinomShape, measure_nbinom_shape
from crdetect.simulate import make_scene_e, make_tracks_e

SHAPE = (120, 160)


def measure(seed, kappa, n=3, gain=1.0, rnoise=3.4, factors=None, hit_fraction=0.0, spread=0.0):
    """Measure κ in simulated exposures; ``spread`` is that of maps of gain and read noise."""
    rng = np.random.default_rng(seed)
    signal = make_scene_e(SHAPE, np.random.default_rng(50 + seed)).ravel() / gain
    if spread:
        gain = gain * rng.uniform(1 - spread, 1 + spread, signal.size)
        rnoise = rnoise * rng.uniform(1 - 3 * spread, 1 + 3 * spread, signal.size)
    factors = factors or [1.0] * n
    noise = Noise(gain, rnoise, kappa)
    values = np.array([noise.draw_adu(factor * signal, rng) for factor in factors])
    values += [make_tracks_e(SHAPE, hit_fraction, rng).ravel() / gain for _ in factors]
    noises = [Noise(gain, rnoise).divided(factor) for factor in factors]
    return measure_nbinom_shape(values / np.reshape(factors, (n, 1)), noises)


@pytest.mark.parametrize("kappa", [1000.0, 100.0])
@pytest.mark.parametrize(
    "case",
    [
        {},
        {"n": 4},
        {"n": 5},
        {"hit_fraction": 0.01},
        {"n": 5, "hit_fraction": 0.01},
        {"gain": 4.0, "rnoise": 2.0},
        {"gain": 0.5, "rnoise": 5.0},
        {"spread": 0.03},
        {"factors": [0.8, 1.0, 1.2]},
        {"n": 4, "factors": [0.8, 1.0, 1.2, 0.9]},
    ],
)
def test_shape_of_simulated_exposures(case, kappa):
    shape = measure(7, kappa, **case)
    assert abs(shape.excess - 1 / kappa) < 4 * shape.error
    assert shape.value == 1 / shape.excess
    # it tells something: 1000 is not 10000, and 100 is not 150
    assert shape.error * kappa < (0.35 if kappa == 1000 else 0.1)


@pytest.mark.parametrize(
    "case",
    [
        {},
        {"n": 4},
        {"n": 5, "hit_fraction": 0.01},
        {"gain": 4.0, "rnoise": 2.0},
        {"factors": [0.8, 1.0, 1.2]},
    ],
)
def test_poisson_photons_have_an_infinite_shape(case):
    shape = measure(3, np.inf, **case)
    assert np.isinf(shape.value)
    assert abs(shape.excess) <= 4 * shape.error
    assert shape.error < 5e-4


@pytest.mark.slow
def test_error_is_honest():
    """Deviations in units of the error: mean 0, scatter 1."""
    shapes = [measure(seed, 300.0, hit_fraction=0.005) for seed in range(20)]
    pulls = np.array([(shape.excess - 1 / 300) / shape.error for shape in shapes])
    assert abs(pulls.mean()) < 4 / np.sqrt(pulls.size)
    assert 0.4 < np.sqrt(np.mean(pulls**2)) < 1.6
    assert all(np.isfinite(shape.value) for shape in shapes)


def test_order_of_the_exposures_and_unit_do_not_matter():
    rng = np.random.default_rng(1)
    signal = make_scene_e(SHAPE, rng).ravel()
    values = np.array([Noise(1.0, 3.4, 80.0).draw_adu(signal, rng) for _ in range(4)])
    one = measure_nbinom_shape(values, [Noise(1.0, 3.4)] * 4)
    other = measure_nbinom_shape(values[[2, 0, 3, 1]], [Noise(1.0, 3.4)] * 4)
    assert other.value == pytest.approx(one.value, rel=1e-6)
    in_adu = measure_nbinom_shape(values / np.float32(4), [Noise(4.0, 3.4 / 4)] * 4)
    assert in_adu.value == pytest.approx(one.value, rel=1e-3)


@pytest.mark.parametrize("level", [0.0, 2.0])
def test_read_noise_alone_tells_nothing(level):
    rng = np.random.default_rng(2)
    values = Noise(1.0, 3.4).draw_adu(np.full((3, 5000), level), rng)
    with pytest.raises(
        InputError, match=r"mm_nbinom_shape: auto needs 200 pixels .* give a number"
    ):
        measure_nbinom_shape(values, [Noise(1.0, 3.4)] * 3)


@pytest.mark.parametrize(("pixels", "enough"), [(150, False), (400, True)])
def test_enough_pixels(pixels, enough):
    rng = np.random.default_rng(2)
    values = Noise(1.0, 3.4, 50.0).draw_adu(np.full((3, pixels), 300.0), rng)
    if enough:
        found = measure_nbinom_shape(values, [Noise(1.0, 3.4)] * 3)
        assert found.value == pytest.approx(50, rel=0.2)
        assert found.excess == pytest.approx(1 / 50, abs=2 * found.error)
    else:
        with pytest.raises(InputError, match="mm_nbinom_shape: auto needs 200 pixels"):
            measure_nbinom_shape(values, [Noise(1.0, 3.4)] * 3)


def test_what_is_told():
    assert str(NbinomShape(250.0, 0.004, 0.0004)) == "250 ± 25"
    assert str(NbinomShape(np.inf, 1e-4, 2e-4)) == "infinite (Poisson; above 2e+03 at 2 sigma)"
