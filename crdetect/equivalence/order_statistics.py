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

_CELL = 0.1  # of an integral over the minimum, times the noise: at most
_REACH = 8.0  # how far the tails go, times the noise
_REACH_MIN = 6.5  # how far the minimum goes from the signals, times the noise
_TABLE = np.linspace(-_REACH, _REACH, 321)
_LOG_ZERO = -700.0
LEAST_SIGMA_E = 1e-3  # exposures without any noise have distributions too


@dataclass(frozen=True, eq=False)
class Tails:
    """Distribution of one exposure at some levels of the signal, ADU.

    Attributes
    ----------
    mean, sigma : (L,) arrays
        Of each level.
    log_survival : (L, T) array
        Logarithm of the probability to exceed the mean by a multiple of sigma.
    """

    mean: np.ndarray
    sigma: np.ndarray
    log_survival: np.ndarray

    @classmethod
    def of(cls, signal_adu: np.ndarray, factor: float, noise: Noise, rounding: float) -> Tails:
        """Compute the distribution of one exposure at some levels of the signal.

        Parameters
        ----------
        signal_adu : (L,) array
            Expected signal before the factor, ADU.
        factor : float
            Flux of the exposure; it multiplies the signal.
        noise : Noise
            Gain and read noise, numbers.
        rounding : float
            Step to which the signals were rounded, in units of the noise.
        """
        mean = signal_adu * factor
        sigma = np.sqrt(noise.variance_adu2(mean).astype(float) + (LEAST_SIGMA_E / noise.gain) ** 2)
        x = mean[:, np.newaxis] + sigma[:, np.newaxis] * _TABLE
        rnoise_e = float(noise.rnoise_e)
        share = survival(x * noise.gain, mean * noise.gain, rnoise_e, noise.nbinom_shape)
        # rounded signals scatter more than they did (Sheppard's correction): less is left for noise
        narrowed = sigma * np.sqrt(1 - rounding**2 / 12)
        return cls(mean, narrowed, np.log(np.maximum(share, np.exp(_LOG_ZERO))))

    def survival(self, level: int, x_adu: np.ndarray) -> np.ndarray:
        """Probability to exceed x at a level."""
        t = (x_adu - self.mean[level]) / self.sigma[level]
        return np.exp(np.interp(t, _TABLE, self.log_survival[level], right=_LOG_ZERO))


@dataclass(frozen=True)
class Group:
    """Pixels of the same expected signals.

    Attributes
    ----------
    pixels : float
        How many.
    exposures : tuple of N (Tails, int)
        The distribution of each exposure: tails, and the level in them.
    """

    pixels: float
    exposures: tuple[tuple[Tails, int], ...]

    @cached_property
    def means(self) -> np.ndarray:
        """Expected value in each exposure, ADU."""
        return np.array([tails.mean[level] for tails, level in self.exposures])

    @cached_property
    def sigmas(self) -> np.ndarray:
        """Noise of each exposure, ADU."""
        return np.array([tails.sigma[level] for tails, level in self.exposures])

    @property
    def span(self) -> tuple[float, float]:
        """Where the minimum may be, ADU."""
        reach = _REACH_MIN * self.sigmas
        return float((self.means - reach).min()), float((self.means + reach).min())

    @property
    def reach(self) -> float:
        """How far above the minimum the median may be, ADU."""
        return float((self.means + _REACH * self.sigmas).max()) - self.span[0]

    @property
    def step(self) -> float:
        """Size of the cells for an integral over the minimum, ADU: at most."""
        return _CELL * float(self.sigmas.min())

    def cells(self) -> np.ndarray:
        """Edges of cells where the minimum may be, ADU."""
        low, high = self.span
        return np.linspace(low, high, int((high - low) / self.step) + 2)

    def lowest_above(self, x_adu: np.ndarray) -> np.ndarray:
        """Probability that the minimum exceeds x."""
        return np.prod([tails.survival(level, x_adu) for tails, level in self.exposures], axis=0)

    def above(self, edges: np.ndarray, heights: np.ndarray) -> np.ndarray:
        """Count pixels by their minimum and by median − minimum; for an odd number N.

        Parameters
        ----------
        edges : (m + 1,) array
            Of cells of the minimum, ADU.
        heights : (k,) or (m, 1) array
            Above the minimum, ADU: the same in all cells, or one for each.

        Returns
        -------
        (m, k) array
            Expected number of pixels with the minimum in a cell and the median above a height.
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
    """Probability that at most so many exposures are within, and the others beyond."""
    if most == 0:
        return np.prod(beyond, axis=0)
    number = [np.ones_like(beyond[0])] + [np.zeros_like(beyond[0])] * most
    for p, q in zip(within, beyond, strict=True):
        number = [number[0] * q] + [number[k] * q + number[k - 1] * p for k in range(1, most + 1)]
    return np.sum(number, axis=0)


def standard_normal(n: int) -> Group:
    """One pixel of n exposures, each normal with mean 0 and variance 1."""
    tails = Tails(np.zeros(1), np.ones(1), np.log(scipy.special.ndtr(-_TABLE))[np.newaxis])
    return Group(1.0, ((tails, 0),) * n)
