"""Distributions of the minimum and the median of a pixel in several clean exposures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy

from crdetect.equivalence.tails import survival
from crdetect.noise import Noise

# These constants limit the accuracy of numerical integrals; they were chosen by hand.

# Maximum size of the cells of an integral over the minimum, in units of the noise.
_CELL = 0.1
# Extent of the tabulated tails, in units of the noise.
_REACH = 8.0
# Distance of the minimum from the lowest expectation that is integrated over, in units of the
# noise.
_REACH_MIN = 6.5
# Grid of the tabulated tails, in units of the noise.
_TABLE = np.linspace(-_REACH, _REACH, 321)
# Logarithm that stands for a probability of 0: a double holds no smaller numbers than e^−708.
_LOG_ZERO = -700.0
# Minimum noise, electrons: exposures without any noise have distributions, too.
LEAST_SIGMA_E = 1e-3


@dataclass(frozen=True, eq=False)
class Tails:
    """Distributions of the values of one exposure at several levels of the signal.

    Attributes
    ----------
    mean, sigma : (L,) arrays
        Mean and standard deviation at each level, ADU.
    log_survival : (L, T) array
        Logarithm of the probability that a value exceeds the mean by a multiple of sigma.
    """

    mean: np.ndarray
    sigma: np.ndarray
    log_survival: np.ndarray

    @classmethod
    def of(cls, signal_adu: np.ndarray, factor: float, noise: Noise, rounding: float) -> Tails:
        """Compute the distributions of one exposure at several levels of the signal.

        Parameters
        ----------
        signal_adu : (L,) array
            Expected signal of an exposure of flux 1, ADU.
        factor : float
            Flux factor of the exposure, which multiplies the signal.
        noise : Noise
            Gain and read noise; both are numbers.
        rounding : float
            Step to which the signals were rounded, in units of the noise.
        """
        mean = signal_adu * factor
        sigma = np.sqrt(noise.variance_adu2(mean).astype(float) + (LEAST_SIGMA_E / noise.gain) ** 2)
        x = mean[:, np.newaxis] + sigma[:, np.newaxis] * _TABLE
        rnoise_e = float(noise.rnoise_e)
        share = survival(x * noise.gain, mean * noise.gain, rnoise_e, noise.nbinom_shape)
        # rounding to the grid adds a variance of step²/12 (Sheppard): it is subtracted from noise
        narrowed = sigma * np.sqrt(1 - rounding**2 / 12)
        return cls(mean, narrowed, np.log(np.maximum(share, np.exp(_LOG_ZERO))))

    def survival(self, level: int, x_adu: np.ndarray) -> np.ndarray:
        """Return the probability that a value exceeds x at a level."""
        t = (x_adu - self.mean[level]) / self.sigma[level]
        return np.exp(np.interp(t, _TABLE, self.log_survival[level], right=_LOG_ZERO))


@dataclass(frozen=True)
class Group:
    """Pixels with the same expected signal in each exposure.

    Attributes
    ----------
    pixels : float
        Number of pixels.
    exposures : tuple of N (Tails, int)
        Distribution of each exposure: the tails, and the index of the level in them.
    """

    pixels: float
    exposures: tuple[tuple[Tails, int], ...]

    @cached_property
    def means(self) -> np.ndarray:
        """Expected values of the exposures, ADU."""
        return np.array([tails.mean[level] for tails, level in self.exposures])

    @cached_property
    def sigmas(self) -> np.ndarray:
        """Standard deviations of the exposures, ADU."""
        return np.array([tails.sigma[level] for tails, level in self.exposures])

    @property
    def span(self) -> tuple[float, float]:
        """Range of the minimum, ADU."""
        reach = _REACH_MIN * self.sigmas
        return float((self.means - reach).min()), float((self.means + reach).min())

    @property
    def reach(self) -> float:
        """Largest difference between median and minimum, ADU."""
        return float((self.means + _REACH * self.sigmas).max()) - self.span[0]

    @property
    def step(self) -> float:
        """Maximum size of the cells of an integral over the minimum, ADU."""
        return _CELL * float(self.sigmas.min())

    def cells(self) -> np.ndarray:
        """Return the edges of cells that cover the range of the minimum, ADU."""
        low, high = self.span
        return np.linspace(low, high, int((high - low) / self.step) + 2)

    def lowest_above(self, x_adu: np.ndarray) -> np.ndarray:
        """Return the probability that the minimum exceeds x."""
        return np.prod([tails.survival(level, x_adu) for tails, level in self.exposures], axis=0)

    def above(self, edges: np.ndarray, heights: np.ndarray) -> np.ndarray:
        """Return expected numbers of pixels by their minimum and by median − minimum.

        Parameters
        ----------
        edges : (m + 1,) array
            Edges of the cells of the minimum, ADU.
        heights : (k,) or (m, 1) array
            Values of median − minimum, ADU: the same for all cells, or one for each.

        Returns
        -------
        (m, k) array
            Expected number of pixels with the minimum in a cell and median − minimum above a
            height. Of an even number of exposures it is the lower median.
        """
        middle = 0.5 * (edges[1:] + edges[:-1])[:, np.newaxis]
        kinds = Counter(self.exposures)
        here, within, beyond = {}, {}, {}
        for kind in kinds:
            tails, level = kind
            here[kind] = -np.diff(tails.survival(level, edges))[:, np.newaxis]
            beyond[kind] = tails.survival(level, middle + heights)
            within[kind] = tails.survival(level, middle) - beyond[kind]
        total = np.zeros(())
        for kind, number in kinds.items():
            others = list((kinds - Counter([kind])).elements())
            share = _at_most(
                len(others) // 2 - 1, [within[o] for o in others], [beyond[o] for o in others]
            )
            total = total + number * here[kind] * share
        return self.pixels * total


def _at_most(most: int, within: Sequence[np.ndarray], beyond: Sequence[np.ndarray]) -> np.ndarray:
    """Return the probability that at most so many exposures are within, the others beyond."""
    if most == 0:
        return np.prod(beyond, axis=0)
    number = [np.ones_like(beyond[0])] + [np.zeros_like(beyond[0])] * most
    for p, q in zip(within, beyond, strict=True):
        number = [number[0] * q] + [number[k] * q + number[k - 1] * p for k in range(1, most + 1)]
    return np.sum(number, axis=0)


def standard_normal(n: int) -> Group:
    """Return one pixel of n exposures, each standard normal."""
    tails = Tails(np.zeros(1), np.ones(1), np.log(scipy.special.ndtr(-_TABLE))[np.newaxis])
    return Group(1.0, ((tails, 0),) * n)
