"""Shape κ of the negative binomial distribution of photons, measured in the exposures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from crdetect.equivalence.order_statistics import Group, Tails
from crdetect.errors import InputError
from crdetect.noise import Noise
from crdetect.stack import sort_planes

# These constants were chosen by hand. Changing one of them by a factor of 1.5 leaves the relative
# error of 1/κ, 8 % for κ = 300, below 10 % (page "Constants"; python -m benchmarks.sensitivity).
# The significance is not varied: it decides when the distribution is Poisson's.

# Maximum number of bins of the signal.
_BINS = 40
# Minimum number of pixels of a bin.
_LEAST_PIXELS = 200
# Height of a value above the median, in units of the noise, above which the pixel is left out
# because a cosmic ray hit it.
_HIT = 6.0
# Maximum number of iterations.
_ROUNDS = 8
# Minimum of 1/κ in units of its standard error; the distribution is Poisson's below.
_SIGNIFICANT = 2.0
# Grid of median − minimum for its expected distribution, in units of the noise.
_HEIGHTS = np.linspace(0.0, 5.0, 251)


@dataclass(frozen=True)
class NbinomShape:
    """Shape κ of the negative binomial distribution of photons, of variance λ + λ²/κ.

    Attributes
    ----------
    value : float
        κ; infinite (a Poisson distribution) if the excess 1/κ is not significant.
    excess, error : float
        Measured 1/κ, and its standard error.
    """

    value: float
    excess: float
    error: float

    def __str__(self):
        if np.isinf(self.value):
            at_least = 1 / max(self.excess + _SIGNIFICANT * self.error, np.finfo(float).tiny)
            return f"infinite (Poisson; above {at_least:.3g} at 2 sigma)"
        return f"{self.value:.4g} ± {self.error / self.excess**2:.2g}"


def measure_nbinom_shape(values_adu: np.ndarray, noises: Sequence[Noise]) -> NbinomShape:
    """Measure κ from median − minimum as a function of the signal.

    Parameters
    ----------
    values_adu : (N, n) array
        Values of n pixels, divided by the flux factors, ADU; pixels with cosmic rays are clipped.
    noises : sequence of N Noise
        Poisson and read noise of each exposure, numbers or maps of shape (n,).

    Raises
    ------
    InputError
        If fewer than 200 pixels have a photon noise above the read noise.

    Notes
    -----
    Pixels are sorted by the mean of their values, which does not depend on the differences between
    them. In each of up to 40 bins the median over pixels of median − minimum (with the lower median
    of an even number of exposures), in units of Poisson and read noise, is compared with its exact
    expectation; the square of the ratio is 1 + λ²/(κ variance). A weighted least-squares fit to all
    bins gives 1/κ. If the bins scatter by more than their errors, the error of 1/κ is enlarged
    accordingly.
    """
    shape, used = _measure(values_adu, noises)
    if shape is None:
        raise InputError(
            f"mm_nbinom_shape: auto needs {_LEAST_PIXELS} pixels whose photon noise exceeds the "
            f"read noise, not {used}; give a number"
        )
    return shape


def measure_nbinom_shape_if_bright(
    values_adu: np.ndarray, noises: Sequence[Noise]
) -> NbinomShape | None:
    """Measure κ as `measure_nbinom_shape` does; return None if too few pixels are bright."""
    return _measure(values_adu, noises)[0]


def _measure(values_adu: np.ndarray, noises: Sequence[Noise]) -> tuple[NbinomShape | None, int]:
    """Measure κ; return it, or None if too few pixels are bright, and the number of such pixels."""
    ordered = sort_planes(list(values_adu))
    n = len(ordered)
    median = ordered[(n - 1) // 2]
    spread = median - ordered[0]
    above = ordered[-1] - 0.5 * (median + ordered[n // 2])
    signal = np.maximum(np.mean(ordered, axis=0), 0)
    variance = np.mean([noise.variance_adu2(signal) for noise in noises], axis=0)
    read = np.mean([np.square(noise.rnoise_adu) for noise in noises], axis=0)
    bright = variance > 2 * read
    excess, error = 0.0, np.inf
    for _ in range(_ROUNDS):
        total = variance + max(excess, 0.0) * np.square(signal)
        used = np.flatnonzero(bright & (above < _HIT * np.sqrt(total)))
        bins = _equal_bins(signal[used])
        if not bins:
            return None, used.size
        rows = [
            _compare(signal[used[i]], spread[used[i]], variance[used[i]], noises, excess)
            for i in bins
        ]
        last, (excess, error) = excess, _fit(*np.transpose(rows))
        if abs(excess - last) < 0.01 * error:
            break
    significant = excess > _SIGNIFICANT * error
    return NbinomShape(1 / excess if significant else np.inf, excess, error), used.size


def _equal_bins(signal: np.ndarray) -> list[np.ndarray]:
    """Divide pixels into bins of equal width in √signal; sparse ones are joined to the next."""
    if signal.size < _LEAST_PIXELS:
        return []
    order = np.argsort(signal)
    root = np.sqrt(signal[order])
    edges = np.searchsorted(root, np.linspace(root[0], root[-1], _BINS + 1)[1:-1])
    bins, start = [], 0
    for stop in [*edges, signal.size]:
        if stop - start >= _LEAST_PIXELS:
            bins.append(order[start:stop])
            start = stop
    return bins


def _compare(
    signal: np.ndarray,
    spread: np.ndarray,
    variance: np.ndarray,
    noises: Sequence[Noise],
    excess: float,
) -> tuple[float, float, float]:
    """Return the relative excess variance of one bin, its error, and the excess for 1/κ = 1."""
    typical = [
        Noise(float(np.median(noise.gain)), float(np.median(noise.rnoise_adu)), _inverse(excess))
        for noise in noises
    ]
    middle, width = _expected_median(float(np.median(signal)), typical)
    observed = float(np.median(spread / np.sqrt(variance)))
    lever = float(np.mean(np.square(signal) / variance))
    scale = 1 + max(excess, 0.0) * lever
    found = observed**2 / middle**2 - 1
    return found, 2 * scale * width / middle / np.sqrt(signal.size), lever


def _inverse(excess: float) -> float:
    return 1 / excess if excess > 0 else np.inf


def _expected_median(signal_adu: float, noises: Sequence[Noise]) -> tuple[float, float]:
    """Return the expected median of median − minimum over the noise, and its error per pixel."""
    tails = [Tails.of(np.array([signal_adu]), 1.0, noise, 0.0) for noise in noises]
    group = Group(1.0, tuple((tail, 0) for tail in tails))
    sigma = float(np.sqrt(np.mean(np.square(group.sigmas))))
    share = group.above(group.cells(), sigma * _HEIGHTS).sum(axis=0)
    share /= share[0]
    middle = float(np.interp(-0.5, -share, _HEIGHTS))
    density = -float(np.interp(middle, _HEIGHTS, np.gradient(share, _HEIGHTS)))
    return middle, 0.5 / density


def _fit(found: np.ndarray, error: np.ndarray, lever: np.ndarray) -> tuple[float, float]:
    weight = 1 / np.square(error)
    information = np.sum(weight * lever**2)
    excess = float(np.sum(weight * lever * found) / information)
    chi_square = np.sum(weight * np.square(found - excess * lever)) / max(found.size - 1, 1)
    return excess, float(np.sqrt(max(chi_square, 1.0) / information))
