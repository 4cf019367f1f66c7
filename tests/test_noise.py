import numpy as np
import pytest
from scipy.stats import nbinom

from crdetect import InputError, Noise

DRAWS = (400, 500)


def test_variance_is_photons_and_read_noise():
    signal = np.array([[-5.0, 0.0], [10.0, 1000.0]])
    variance = Noise(2.0, 3.0).variance_adu2(signal)
    assert variance.dtype == np.float32
    np.testing.assert_allclose(variance, [[9, 9], [14, 509]])


def test_variance_of_negative_binomial_photons():
    signal = np.array([[-5.0, 0.0], [10.0, 1000.0]])
    variance = Noise(2.0, 3.0, 50.0).variance_adu2(signal)
    assert variance.dtype == np.float32
    np.testing.assert_allclose(variance, [[9, 9], [14 + 2, 509 + 20000]])


def test_maps_hold_for_their_own_pixels():
    noise = Noise(np.array([[1.0, 2.0]]), np.array([[3.0, 0.0]]))
    np.testing.assert_allclose(noise.variance_adu2(np.array([[8.0, 8.0]])), [[17, 4]])
    np.testing.assert_allclose(noise.rnoise_e, [[3, 0]])


@pytest.mark.parametrize("gain", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("rnoise_adu", [0.0, 3.0])
@pytest.mark.parametrize("signal_adu", [0.0, 0.7, 30.0, 5000.0])
def test_mean_and_variance_of_draws(gain, rnoise_adu, signal_adu):
    drawn = Noise(gain, rnoise_adu).draw_adu(
        np.full(DRAWS, signal_adu, np.float32), np.random.default_rng(7)
    )
    assert drawn.dtype == np.float32
    variance = signal_adu / gain + rnoise_adu**2
    fourth_cumulant = signal_adu / gain**3  # of the photons; the Gaussian has none
    error_of_mean = np.sqrt(variance / drawn.size)
    error_of_variance = np.sqrt((fourth_cumulant + 2 * variance**2) / drawn.size)
    values = drawn.astype(float)
    assert abs(values.mean() - signal_adu) <= 4.5 * error_of_mean
    assert abs(values.var() - variance) <= 4.5 * error_of_variance


@pytest.mark.parametrize("gain", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("kappa", [2.0, 30.0, 1000.0])
@pytest.mark.parametrize("signal_adu", [0.0, 0.7, 30.0, 5000.0])
def test_mean_and_variance_of_negative_binomial_draws(gain, kappa, signal_adu):
    rnoise_adu = 3.0
    drawn = Noise(gain, rnoise_adu, kappa).draw_adu(
        np.full(DRAWS, signal_adu, np.float32), np.random.default_rng(8)
    )
    signal_e = signal_adu * gain
    variance_e2 = signal_e + signal_e**2 / kappa
    # fourth cumulant of the negative binomial, from its factorial cumulants λ, λ²/κ, 2λ³/κ², …
    fourth = variance_e2 * (1 + 6 * variance_e2 / kappa)
    variance = variance_e2 / gain**2 + rnoise_adu**2
    error_of_mean = np.sqrt(variance / drawn.size)
    error_of_variance = np.sqrt((fourth / gain**4 + 2 * variance**2) / drawn.size)
    values = drawn.astype(float)
    assert abs(values.mean() - signal_adu) <= 4.5 * error_of_mean
    assert abs(values.var() - variance) <= 4.5 * error_of_variance


@pytest.mark.parametrize("kappa", [4.0, 40.0])
def test_negative_binomial_draws_have_its_distribution(kappa):
    drawn = Noise(2.0, 0.0, kappa).draw_adu(np.full(DRAWS, 6.0), np.random.default_rng(3)) * 2
    number = np.bincount(np.rint(drawn).astype(int).ravel(), minlength=60)[:60]
    expected = drawn.size * nbinom(kappa, kappa / (kappa + 12)).pmf(np.arange(60))
    used = expected > 10
    chi_square = np.sum((number - expected)[used] ** 2 / expected[used])
    assert abs(chi_square - used.sum()) < 4.5 * np.sqrt(2 * used.sum())


def test_infinite_shape_draws_photons_and_read_noise_as_poisson():
    signal = np.linspace(0, 300, 2000, dtype=np.float32)
    drawn = Noise(2.0, 3.0, np.inf).draw_adu(signal, np.random.default_rng(4))
    rng = np.random.default_rng(4)
    photons = rng.poisson(signal * 2.0) / 2.0
    expected = photons + 3.0 * rng.standard_normal(signal.size, dtype=np.float32)
    np.testing.assert_allclose(drawn, expected, rtol=1e-6)
    np.testing.assert_array_equal(drawn, Noise(2.0, 3.0).draw_adu(signal, np.random.default_rng(4)))


@pytest.mark.parametrize("kappa", [np.inf, 80.0])
@pytest.mark.parametrize("factor", [0.5, 1.0, 1.7])
@pytest.mark.parametrize("signal_adu", [0.0, 40.0, 900.0])
def test_noise_of_a_divided_exposure(factor, signal_adu, kappa):
    """The statistics of x / f, for x drawn with the noise of the exposure."""
    noise = Noise(2.0, 5.0, kappa)
    drawn = noise.draw_adu(np.full(DRAWS, signal_adu), np.random.default_rng(9)) / factor
    variance = float(noise.divided(factor).variance_adu2(np.array(signal_adu / factor)))
    exact = (signal_adu / 2 + signal_adu**2 / kappa + 25) / factor**2
    assert variance == pytest.approx(exact, rel=1e-6)
    assert drawn.astype(float).var() == pytest.approx(
        exact, rel=4.5 * np.sqrt((2 + 6 / min(kappa, 1e9)) / drawn.size)
    )
    assert noise.divided(factor).nbinom_shape == kappa


def test_division_of_maps():
    gain, rnoise = np.array([[1.0, 4.0]]), np.array([[3.0, 6.0]])
    divided = Noise(gain, rnoise, 7.0).divided(2.0)
    np.testing.assert_allclose(divided.gain, [[2, 8]])
    np.testing.assert_allclose(divided.rnoise_adu, [[1.5, 3]])
    # read noise is the same in electrons, whatever the unit
    np.testing.assert_allclose(divided.rnoise_e, Noise(gain, rnoise).rnoise_e)


def test_photons_come_in_whole_numbers():
    drawn = Noise(4.0, 0.0).draw_adu(np.full((50, 50), 3.3), np.random.default_rng(1))
    np.testing.assert_array_equal(drawn * 4, np.rint(drawn * 4))
    assert drawn.min() >= 0


@pytest.mark.parametrize("as_map", ["gain", "rnoise", "both"])
def test_constant_maps_draw_as_numbers_do(as_map):
    signal = np.linspace(0, 100, 30, dtype=np.float32).reshape(5, 6)
    gain = np.full(signal.shape, 2.0) if as_map != "rnoise" else 2.0
    rnoise = np.full(signal.shape, 3.0) if as_map != "gain" else 3.0
    drawn = Noise(gain, rnoise).draw_adu(signal, np.random.default_rng(5))
    expected = Noise(2.0, 3.0).draw_adu(signal, np.random.default_rng(5))
    np.testing.assert_allclose(drawn, expected, rtol=1e-6)


def test_draws_follow_their_maps():
    gain = np.ones(DRAWS)
    gain[:, 250:] = 4.0
    rnoise = np.ones(DRAWS)
    rnoise[:200] = 5.0
    drawn = Noise(gain, rnoise).draw_adu(np.full(DRAWS, 100.0), np.random.default_rng(2))
    for rows, read in ((slice(0, 200), 25.0), (slice(200, None), 1.0)):
        for columns, photons in ((slice(0, 250), 100.0), (slice(250, None), 25.0)):
            assert drawn[rows, columns].var() == pytest.approx(read + photons, rel=0.03)


def test_same_generator_same_draw():
    signal = np.full((4, 4), 10.0)
    one, other, third = (
        Noise(1.0, 1.0).draw_adu(signal, np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, other)
    assert (one != third).any()


@pytest.mark.parametrize("index", [slice(1, 3), np.eye(3, 4, dtype=bool), (0, slice(2))])
def test_selection_of_pixels(index):
    gain = np.arange(1.0, 13.0).reshape(3, 4)
    selected = Noise(gain, 2.0).select(index)
    np.testing.assert_array_equal(selected.gain, gain[index])
    assert selected.rnoise_adu == 2.0
    assert Noise(np.float32(1.5), 2).select(index) == Noise(1.5, 2.0)
    assert Noise(gain, 2.0, 30.0).select(index).nbinom_shape == 30.0


@pytest.mark.parametrize(
    ("gain", "rnoise", "message"),
    [
        (0.0, 1.0, "gain must be finite and > 0"),
        (-1.0, 1.0, "gain must be finite and > 0"),
        (np.nan, 1.0, "gain must be finite"),
        (np.inf, 1.0, "gain must be finite"),
        (1.0, -0.1, "rnoise_adu must be finite and ≥ 0"),
        (1.0, np.nan, "rnoise_adu must be finite"),
        (np.array([[1.0, 0.0]]), 1.0, "gain must be finite and > 0 everywhere"),
        (1.0, np.array([[1.0, np.nan]]), "rnoise_adu must be finite"),
    ],
)
def test_what_is_refused(gain, rnoise, message):
    with pytest.raises(InputError, match=message):
        Noise(gain, rnoise)


@pytest.mark.parametrize("shape", [0.0, -3.0, np.nan])
def test_shapes_that_are_refused(shape):
    with pytest.raises(InputError, match="nbinom_shape must be > 0"):
        Noise(1.0, 1.0, shape)


@pytest.mark.parametrize("name", ["gain", "rnoise_adu"])
def test_maps_must_fit(name):
    noise = Noise(**{"gain": 1.0, "rnoise_adu": 1.0, name: np.ones((2, 3))})
    noise.check_shape((2, 3))
    with pytest.raises(InputError, match=rf"map of {name} has shape \(2, 3\).*\(3, 2\)"):
        noise.check_shape((3, 2))


def test_numbers_fit_everything():
    Noise(1.0, 0.0).check_shape((7, 9))
