"""Flux factors: the brightness of each exposure relative to the median of all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np
import scipy

from crdetect.equality import by_value
from crdetect.errors import InputError
from crdetect.noise import Noise
from crdetect.resources import ALL_PROCESSORS, Resources
from crdetect.stack import Stack, for_row_blocks

# These constants were chosen by hand. Changing the minimum signal or the number of classes by a
# factor of 1.5 or 2 changes the error of the factors, 0.27 %, by an eighth at most (page
# "Constants"; python -m benchmarks.sensitivity).

# Minimum signal of a pixel that is used, in units of its noise.
_LEAST_SIGNAL = 5.0
# Minimum number of such pixels.
_LEAST_PIXELS = 100
# Maximum number of pixels: it limits the time.
_MOST_PIXELS = 400_000
# Grid of log(x_i/x_j): flux ratios up to 7.4, in steps of 0.05 %.
_LOG_RATIO = np.linspace(-2.0, 2.0, 8001)
# Number of classes into which the errors of ratios are sorted; each has one width of its Gaussians.
_WIDTHS = 12


@by_value
@dataclass(frozen=True)
class FluxFactors:
    """Flux factors of the exposures, and the distributions of ratios they were measured from.

    Attributes
    ----------
    factors : tuple of N float
        Flux of each exposure relative to the median of the exposures.
    ratios : (k,) array or None
        Grid of flux ratios; None if the factors were given.
    densities : (N, k) array or None
        Probability density of each ratio, normalised to a maximum of 1; the factor is there.
    number_at_median : (rows, columns) array of uint8 or None
        Number (from 1) of the exposure that is the median, or nearest to it; 0 where all values
        are missing.
    """

    factors: tuple[float, ...]
    ratios: np.ndarray | None = None
    densities: np.ndarray | None = None
    number_at_median: np.ndarray | None = None

    @property
    def measured(self) -> bool:
        """Whether the factors were measured in the run."""
        return self.ratios is not None


def divided(stack: Stack, factors: Sequence[float]) -> Stack:
    """Divide each exposure by its flux factor."""
    return Stack(stack.exposures / np.array(factors, np.float32)[:, np.newaxis, np.newaxis])


def measure_flux(
    stack: Stack, noise: Noise, median2d_adu: np.ndarray, selected: np.ndarray
) -> FluxFactors:
    """Measure the flux factors as the most probable ratios of the exposures to each other.

    Parameters
    ----------
    stack : Stack
        The exposures.
    noise : Noise
        Their noise.
    median2d_adu : (rows, columns) array
        Their median, ADU.
    selected : (rows, columns) array of bool
        Pixels to be used.

    Raises
    ------
    InputError
        If fewer than 100 of the selected pixels have a signal above 5 σ.

    Notes
    -----
    The exposures are compared with each other and not with the median: the median *is* one of the
    exposures at each pixel, so that the most probable ratio to it would be 1, whatever the flux.
    The density of log(x_i/x_j) is the sum over pixels of Gaussians as wide as the error of the
    pixel's ratio; cosmic rays do not move its maximum. The factors are the least-squares solution
    for all pairs of exposures, divided by their median.
    """
    bright = _bright_pixels(stack, noise, median2d_adu, selected)
    if bright.size < _LEAST_PIXELS:
        raise InputError(
            f"flux_factor: auto finds {bright.size} pixels with a signal above {_LEAST_SIGNAL:g} "
            f"sigma, at least {_LEAST_PIXELS} are needed; give numbers, none, or other "
            "flux_factor_regions"
        )
    return _measure(stack, noise, median2d_adu, bright)


def measure_flux_if_bright(
    stack: Stack, noise: Noise, median2d_adu: np.ndarray, selected: np.ndarray
) -> FluxFactors | None:
    """Measure the flux factors as `measure_flux` does; return None if too few pixels are bright."""
    bright = _bright_pixels(stack, noise, median2d_adu, selected)
    return _measure(stack, noise, median2d_adu, bright) if bright.size >= _LEAST_PIXELS else None


def _bright_pixels(
    stack: Stack, noise: Noise, median2d_adu: np.ndarray, selected: np.ndarray
) -> np.ndarray:
    """Find the selected pixels with a signal above 5 σ, as flat indices."""
    usable = selected & np.isfinite(stack.exposures).all(axis=0)
    signal = np.where(usable, median2d_adu, 0)
    return np.flatnonzero(signal > _LEAST_SIGNAL * np.sqrt(noise.variance_adu2(signal)))


def _measure(
    stack: Stack, noise: Noise, median2d_adu: np.ndarray, bright: np.ndarray
) -> FluxFactors:
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
    """Return the density of log(first/second) at `_LOG_RATIO`."""
    variance = noise.variance_adu2(0.5 * (first + second))
    # pixels are chosen by the sum of both values, which favours neither exposure
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
    """Locate the maximum of a curve by a parabola through its highest three points."""
    top = int(np.clip(curve.argmax(), 1, curve.size - 2))
    left, middle, right = curve[top - 1 : top + 2]
    bend = left - 2 * middle + right
    step = _LOG_RATIO[1] - _LOG_RATIO[0]
    return float(_LOG_RATIO[top] + (step * 0.5 * (left - right) / bend if bend else 0.0))


def _relative_to_all(
    density: dict[tuple[int, int], np.ndarray], log_factors: np.ndarray
) -> np.ndarray:
    """Return the densities of each exposure's ratio to the others, scaled to a common flux."""
    total = np.zeros((log_factors.size, _LOG_RATIO.size))
    for (i, j), curve in density.items():
        total[i] += np.interp(_LOG_RATIO - log_factors[j], _LOG_RATIO, curve)
        total[j] += np.interp(log_factors[i] - _LOG_RATIO, _LOG_RATIO, curve)
    return total / total.max(axis=1, keepdims=True)


def number_at_median(
    stack: Stack, median2d_adu: np.ndarray, resources: Resources = ALL_PROCESSORS
) -> np.ndarray:
    """Find the number (from 1) of the exposure that is the median, or nearest to it."""
    number = np.zeros(stack.shape, np.uint8)

    def find(rows: slice) -> None:
        distance = np.abs(stack.exposures[:, rows] - median2d_adu[rows])
        distance = np.where(np.isnan(distance), np.inf, distance)
        found = distance.argmin(axis=0) + 1
        number[rows] = np.where(np.isinf(distance).all(axis=0), 0, found)

    for_row_blocks(find, stack.shape, resources)
    return number
