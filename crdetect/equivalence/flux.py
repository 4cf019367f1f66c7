"""Flux factors: how bright each exposure is, relative to the median of all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np
import scipy

from crdetect.errors import InputError
from crdetect.noise import Noise
from crdetect.stack import Stack, for_row_blocks

_LEAST_SIGNAL = 5.0  # times the noise: pixels with signal
_LEAST_PIXELS = 100
_MOST_PIXELS = 400_000  # more make the ratio no better
_LOG_RATIO = np.linspace(-2.0, 2.0, 8001)
_WIDTHS = 12  # classes of the error of a ratio


@dataclass(frozen=True)
class FluxFactors:
    """Flux of each exposure, and how it was measured.

    Attributes
    ----------
    factors : tuple of N float
        Relative to median2d.
    ratios : (k,) array or None
        Ratios of an exposure to the others; None where the factors were given.
    densities : (N, k) array or None
        How probable each ratio is, at most 1; its maximum is the factor.
    number_at_median : (rows, columns) array of uint8 or None
        Which exposure (from 1) is the median, or nearest to it; 0 where all are missing.
    """

    factors: tuple[float, ...]
    ratios: np.ndarray | None = None
    densities: np.ndarray | None = None
    number_at_median: np.ndarray | None = None

    @property
    def measured(self) -> bool:
        """Whether they were measured in the run."""
        return self.ratios is not None


def divided(stack: Stack, factors: Sequence[float]) -> Stack:
    """Divide each exposure by its flux factor."""
    return Stack(stack.exposures / np.array(factors, np.float32)[:, np.newaxis, np.newaxis])


def measure_flux(
    stack: Stack, noise: Noise, median2d_adu: np.ndarray, selected: np.ndarray
) -> FluxFactors:
    """Find the most probable ratio of each exposure to the median.

    Parameters
    ----------
    stack : Stack
        The exposures.
    noise : Noise
        Their noise.
    median2d_adu : (rows, columns) array
        Their median.
    selected : (rows, columns) array of bool
        Where to measure.

    Raises
    ------
    InputError
        If fewer than 100 pixels there have a signal.

    Notes
    -----
    Exposures are compared with each other: the median *is* one of the exposures at each pixel, so
    that 1 would be the most probable ratio to it, whatever the flux. The density of log(x_i/x_j)
    is the sum of the pixels' normal distributions, each as wide as its error; its maximum is
    not moved by cosmic rays. Factors are the least squares solution for all pairs, divided by
    their median.
    """
    usable = selected & np.isfinite(stack.exposures).all(axis=0)
    signal = np.where(usable, median2d_adu, 0)
    bright = np.flatnonzero(signal > _LEAST_SIGNAL * np.sqrt(noise.variance_adu2(signal)))
    if bright.size < _LEAST_PIXELS:
        raise InputError(
            f"flux_factor: auto finds {bright.size} pixels with a signal above {_LEAST_SIGNAL:g} "
            f"sigma, at least {_LEAST_PIXELS} are needed; give numbers, none, or other "
            "flux_factor_regions"
        )
    bright = bright[:: bright.size // _MOST_PIXELS + 1]
    values = stack.exposures.reshape(len(stack), -1)[:, bright]
    noise = Noise(_at(noise.gain, bright), _at(noise.rnoise_adu, bright))
    n = len(stack)
    density = {(i, j): _density(values[i], values[j], noise) for i, j in combinations(range(n), 2)}
    log_ratio = np.zeros((n, n))
    for (i, j), curve in density.items():
        log_ratio[i, j] = _maximum(curve)
        log_ratio[j, i] = -log_ratio[i, j]
    factors = np.exp(log_ratio.mean(axis=1))
    factors /= np.median(factors)
    return FluxFactors(
        tuple(factors.tolist()),
        np.exp(_LOG_RATIO),
        _relative_to_all(density, np.log(factors)),
        number_at_median(stack, median2d_adu),
    )


def _at(value: float | np.ndarray, pixels: np.ndarray) -> float | np.ndarray:
    return value.ravel()[pixels] if isinstance(value, np.ndarray) else value


def _density(first: np.ndarray, second: np.ndarray, noise: Noise) -> np.ndarray:
    """Density of log(first/second) at `_LOG_RATIO`."""
    variance = noise.variance_adu2(0.5 * (first + second))
    # the sum of both tells where there is signal: it prefers neither
    good = (first > 0) & (second > 0) & (first + second > 2 * _LEAST_SIGNAL * np.sqrt(variance))
    first, second, variance = first[good], second[good], variance[good]
    log_ratio = np.log(first / second)
    width = np.sqrt(variance * (1 / np.square(first) + 1 / np.square(second)))
    step = _LOG_RATIO[1] - _LOG_RATIO[0]
    edges = np.append(_LOG_RATIO - step / 2, _LOG_RATIO[-1] + step / 2)
    classes = np.geomspace(width.min() * 0.999, width.max() * 1.001, _WIDTHS + 1)
    frequency = 2 * np.pi * scipy.fft.rfftfreq(_LOG_RATIO.size, step)
    total = np.zeros(frequency.size, complex)
    for low, high in pairwise(classes):
        inside = (width > low) & (width <= high)
        number = np.histogram(log_ratio[inside], edges)[0]
        total += scipy.fft.rfft(number) * np.exp(-0.5 * low * high * np.square(frequency))
    return scipy.fft.irfft(total, _LOG_RATIO.size)


def _maximum(curve: np.ndarray) -> float:
    """Place of the maximum, by a parabola through the highest three points."""
    top = int(np.clip(curve.argmax(), 1, curve.size - 2))
    left, middle, right = curve[top - 1 : top + 2]
    bend = left - 2 * middle + right
    step = _LOG_RATIO[1] - _LOG_RATIO[0]
    return float(_LOG_RATIO[top] + (step * 0.5 * (left - right) / bend if bend else 0.0))


def _relative_to_all(
    density: dict[tuple[int, int], np.ndarray], log_factors: np.ndarray
) -> np.ndarray:
    """Densities of each exposure's ratio to all others, each brought to the same flux."""
    total = np.zeros((log_factors.size, _LOG_RATIO.size))
    for (i, j), curve in density.items():
        total[i] += np.interp(_LOG_RATIO - log_factors[j], _LOG_RATIO, curve)
        total[j] += np.interp(log_factors[i] - _LOG_RATIO, _LOG_RATIO, curve)
    return total / total.max(axis=1, keepdims=True)


def number_at_median(stack: Stack, median2d_adu: np.ndarray) -> np.ndarray:
    """Find the number (from 1) of the exposure that is the median, or nearest to it."""
    number = np.zeros(stack.shape, np.uint8)

    def find(rows: slice) -> None:
        distance = np.abs(stack.exposures[:, rows] - median2d_adu[rows])
        distance = np.where(np.isnan(distance), np.inf, distance)
        found = distance.argmin(axis=0) + 1
        number[rows] = np.where(np.isinf(distance).all(axis=0), 0, found)

    for_row_blocks(find, stack.shape)
    return number
