"""Tail probabilities of photon and read noise, computed instead of simulated."""

from __future__ import annotations

import numpy as np
import scipy

# These constants limit the accuracy of the probabilities; they were chosen by hand.

# Signal, electrons, below which photons are summed one by one.
_EXACT_BELOW_E = 20.0
# Minimum read noise, electrons: without any the distribution would be a step function.
_LEAST_RNOISE_E = 0.01
# Probability of more photons at which their sum ends.
_LEAST_TAIL = 1e-20
# Maximum number of iterations of Newton's method, which converges from one side in 4 to 8.
_ROUNDS = 30
# Distance from the mean, in units of σ, below which the limit replaces the formula, which is 0/0.
_NEAR_MEAN = 1e-4


def survival(
    x_e: np.ndarray, signal_e: np.ndarray, rnoise_e: float, nbinom_shape: float = np.inf
) -> np.ndarray:
    """Return the probability that a value, of photons and Gaussian read noise, exceeds x.

    Parameters
    ----------
    x_e : (n, m) array
        Values, electrons.
    signal_e : (n,) array
        Expected signals, one for each row of x, electrons, not negative.
    rnoise_e : float
        Read noise, electrons.
    nbinom_shape : float
        Shape κ of the negative binomial distribution of photons, whose variance is λ + λ²/κ. If it
        is infinite, the distribution is that of Poisson.

    Returns
    -------
    (n, m) array

    Notes
    -----
    Below 20 e the photons are summed one by one. Above, the saddlepoint approximation of Lugannani
    and Rice is within 0.02 % of that sum as far as 7 σ out, for a read noise of 1 e or more.

    References
    ----------
    Lugannani & Rice 1980, Adv. Appl. Prob. 12, 475. Butler 2007, *Saddlepoint Approximations*,
    section 1.2.
    """
    rnoise_e = max(rnoise_e, _LEAST_RNOISE_E)
    few = signal_e < _EXACT_BELOW_E
    result = np.empty(np.shape(x_e))
    result[few] = _sum_of_photons(x_e[few], signal_e[few], rnoise_e, nbinom_shape)
    result[~few] = _saddlepoint(x_e[~few], signal_e[~few][:, np.newaxis], rnoise_e, nbinom_shape)
    return result


def _sum_of_photons(
    x_e: np.ndarray, signal_e: np.ndarray, rnoise_e: float, shape: float
) -> np.ndarray:
    if not signal_e.size:
        return np.empty(x_e.shape)
    if np.isfinite(shape):
        photons = scipy.stats.nbinom(shape, shape / (shape + signal_e[:, np.newaxis]))
    else:
        photons = scipy.stats.poisson(signal_e[:, np.newaxis])
    most = 16
    while photons.sf(most).max() > _LEAST_TAIL:
        most *= 2
    share = photons.pmf(np.arange(most + 1))
    total = np.zeros(x_e.shape)
    for number in range(most + 1):
        total += share[:, number, np.newaxis] * scipy.special.ndtr((number - x_e) / rnoise_e)
    return total


def _saddlepoint(x: np.ndarray, signal: np.ndarray, rnoise: float, shape: float) -> np.ndarray:
    s = _solve(x, signal, rnoise, shape)
    k, _, k2, k3 = _cumulants(s, signal, rnoise, shape)
    r = np.sign(s) * np.sqrt(np.maximum(2 * (s * x - k), 0.0))
    u = s * np.sqrt(k2)
    near = np.abs(r) < _NEAR_MEAN
    with np.errstate(divide="ignore", invalid="ignore"):
        correction = np.where(near, -k3 / (6 * k2**1.5), 1 / u - 1 / r)
    density = np.exp(-0.5 * r**2) / np.sqrt(2 * np.pi)
    return np.clip(scipy.special.ndtr(-r) + density * correction, 0.0, 1.0)


def _cumulants(
    s: np.ndarray, signal: np.ndarray, rnoise: float, shape: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the cumulant generating function of a value and its first three derivatives."""
    e = np.expm1(s)
    if np.isfinite(shape):
        log_rest = np.log1p(-signal / shape * e)
        k, mean = -shape * log_rest, signal * (1 + e) * np.exp(-log_rest)
        variance = mean * (1 + mean / shape)
        third = variance * (1 + 2 * mean / shape)
    else:
        k, mean = signal * e, signal * (1 + e)
        variance = third = mean
    square = rnoise**2
    return k + 0.5 * square * s**2, mean + square * s, variance + square, third


def _solve(x: np.ndarray, signal: np.ndarray, rnoise: float, shape: float) -> np.ndarray:
    """Find the tilt s whose distribution has its mean at x.

    The mean is a convex rising function of s: Newton's method falls monotonically to the root from
    any start above it, such as the root for photons alone.
    """
    start = np.maximum(x, signal)
    s = np.log(start * (1 + signal / shape) / (signal * (1 + start / shape)))
    for _ in range(_ROUNDS):
        _, mean, variance, _ = _cumulants(s, signal, rnoise, shape)
        step = (mean - x) / variance
        s = s - step
        if np.abs(step * np.sqrt(variance)).max(initial=0.0) < 1e-9:
            break
    return s
