import numpy as np
import pytest
from scipy.stats import nbinom, norm, poisson

from crdetect.equivalence.tails import survival

SIGMAS = np.linspace(-7, 7, 141)


def photons(signal, kappa):
    if np.isinf(kappa):
        return poisson(signal)
    return nbinom(kappa, kappa / (kappa + signal))


def spread(signal, rnoise, kappa):
    return np.sqrt(signal + signal**2 / kappa + rnoise**2)


def summed(x, signal, rnoise, kappa):
    """Sum over all numbers of photons that may be, one by one."""
    sigma = np.sqrt(signal + signal**2 / kappa)
    number = np.arange(max(0, int(signal - 12 * sigma)), int(signal + 40 * sigma + 80))
    beyond = norm.sf((x - number[:, np.newaxis]) / rnoise)
    return photons(signal, kappa).pmf(number) @ beyond


@pytest.mark.parametrize("rnoise", [0.5, 1.0, 3.4, 20.0])
@pytest.mark.parametrize(
    ("signal", "kappa", "rtol"),
    [
        *((signal, kappa, 1e-9) for signal in (0.0, 0.3, 5.0, 19.99) for kappa in (np.inf, 5, 300)),
        *((signal, np.inf, 2e-4) for signal in (20.0, 50.0, 400.0, 3000.0)),
        *((signal, 300.0, 2e-4) for signal in (20.0, 50.0, 400.0, 3000.0)),
        *((signal, 5.0, 1e-2) for signal in (20.0, 300.0)),
    ],
)
def test_tails_against_a_sum_over_all_photons(signal, kappa, rtol, rnoise):
    if rnoise < 1 and rtol > 1e-9:
        rtol = max(rtol, 3e-3)  # single photons are steps then, which the smooth formula has not
    x = signal + spread(signal, rnoise, kappa) * SIGMAS
    expected = summed(x, signal, rnoise, kappa)
    found = survival(x[np.newaxis], np.array([signal]), rnoise, kappa)[0]
    assert expected.max() > 1 - 1e-7
    assert expected.min() < 1e-3
    tail = expected > 1e-13  # below, the sum itself is cut off
    np.testing.assert_allclose(found[tail], expected[tail], rtol=rtol, atol=1e-15)
    assert found.min() >= 0
    assert found.max() <= 1 + 1e-12


@pytest.mark.parametrize("kappa", [np.inf, 300.0])
@pytest.mark.parametrize("rnoise", [1.0, 3.4])
def test_both_sides_of_the_switch_agree(kappa, rnoise):
    """Where photons are no longer summed, nothing jumps."""
    signal = np.array([20 - 1e-9, 20 + 1e-9])
    x = 20 + spread(20.0, rnoise, kappa) * SIGMAS
    below, above = survival(np.stack([x, x]), signal, rnoise, kappa)
    np.testing.assert_allclose(above, below, rtol=2e-4)


@pytest.mark.parametrize("kappa", [np.inf, 20.0])
@pytest.mark.parametrize("rnoise", [0.0, 0.3, 3.4])
@pytest.mark.parametrize("signal", [0.0, 3.0, 30.0, 1e4, 1e7])
def test_falls_from_one_to_nothing(signal, rnoise, kappa):
    reach = 40 * spread(signal, rnoise, kappa) + 40
    x = signal + np.linspace(-reach, 3 * reach, 4001)
    found = survival(x[np.newaxis], np.array([signal]), rnoise, kappa)[0]
    assert np.diff(found).max() <= 1e-9
    assert found[0] == pytest.approx(1, abs=1e-9)
    assert found[-1] < 1e-9


@pytest.mark.parametrize("kappa", [np.inf, 50.0])
@pytest.mark.parametrize("signal", [0.7, 12.0, 200.0, 5e4])
def test_mean_and_variance(signal, kappa):
    """The area below a survival function is the mean, that of 2 x S(x) the mean square."""
    rnoise = 3.0
    sigma = spread(signal, rnoise, kappa)
    t, step = np.linspace(-12, 30, 8401, retstep=True)
    survived = survival((signal + sigma * t)[np.newaxis], np.array([signal]), rnoise, kappa)[0]
    below_zero = t < 0
    survived[below_zero] -= 1
    half = np.where(t == t[np.abs(t).argmin()], 0.5, 1)  # the step from S − 1 to S
    assert np.sum(survived * half) * step == pytest.approx(0, abs=0.01)
    assert 2 * np.sum(t * survived) * step == pytest.approx(1, abs=0.005)


def test_each_row_has_its_own_signal():
    signal = np.array([300.0, 0.0, 7.0, 25.0, 2.0])
    x = signal[:, np.newaxis] + np.linspace(-30, 60, 13)
    found = survival(x, signal, 3.4)
    assert found.shape == x.shape
    for row, one, values in zip(found, signal, x, strict=True):
        np.testing.assert_allclose(row, summed(values, one, 3.4, np.inf), rtol=2e-4)


def test_no_signals():
    assert survival(np.zeros((0, 5)), np.zeros(0), 3.4).shape == (0, 5)


def test_without_signal_it_is_read_noise():
    x = np.linspace(-20, 20, 81)
    found = survival(x[np.newaxis], np.zeros(1), 3.4)[0]
    np.testing.assert_allclose(found, norm.sf(x / 3.4), rtol=1e-12)


@pytest.mark.parametrize("kappa", [np.inf, 8.0])
@pytest.mark.parametrize("rnoise", [0.0, 0.005])
def test_without_read_noise_it_is_the_photons(rnoise, kappa):
    between = np.arange(-1, 40) + 0.5
    found = survival(between[np.newaxis], np.array([9.0]), rnoise, kappa)[0]
    np.testing.assert_allclose(found, photons(9.0, kappa).sf(np.floor(between)), rtol=1e-9)


def test_many_photons_are_nearly_normal():
    """The skewness of 1e8 photons is 1e-4; the first Edgeworth term takes it into account."""
    signal = 1e8
    t = np.linspace(-4, 4, 33)
    found = survival((signal + 1e4 * t)[np.newaxis], np.array([signal]), 3.0)[0]
    edgeworth = norm.sf(t) + norm.pdf(t) * (t**2 - 1) * 1e-4 / 6
    np.testing.assert_allclose(found, edgeworth, rtol=3e-6)


def test_a_large_shape_is_poisson():
    x = 100 + np.linspace(-60, 90, 31)
    near, poissonian = (survival(x[np.newaxis], np.array([100.0]), 3.4, k) for k in (1e12, np.inf))
    np.testing.assert_allclose(near, poissonian, rtol=1e-6)
