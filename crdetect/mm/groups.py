"""Clean pixels grouped by their expected signals, and the distributions of each group."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import scipy

from crdetect.mm.scene import Exposure, Scene
from crdetect.noise import Noise
from crdetect.tails import survival

_STEP_COMMON = 0.2  # of the grid of signals, times the noise, where all exposures share one signal
_STEP_EACH = 0.5  # where each exposure has its own
_CELL = 0.1  # of an integral over the minimum, times the noise: at most
_REACH = 8.0  # how far the tails go, times the noise
_REACH_MIN = 6.5  # how far the minimum goes from the signals, times the noise
_TABLE = np.linspace(-_REACH, _REACH, 321)
_LOG_ZERO = -700.0
_LEAST_SIGMA = 1e-3  # electrons: exposures without any noise have distributions too
_NOISE_STEP = 0.05  # maps of gain and read noise are grouped: relative
_MOST_CELLS = 2000  # of observed minima
_ROUNDS = 200  # of expectation and maximisation


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
    def of(cls, signal_adu: np.ndarray, exposure: Exposure, rounding: float) -> Tails:
        """Compute the distribution at some signals, rounded to a step in units of the noise."""
        noise, mean = exposure.noise, signal_adu * exposure.factor
        sigma = np.sqrt(noise.variance_adu2(mean).astype(float) + (_LEAST_SIGMA / noise.gain) ** 2)
        x = mean[:, np.newaxis] + sigma[:, np.newaxis] * _TABLE
        share = survival(x * noise.gain, mean * noise.gain, noise.rnoise_e, noise.nbinom_shape)
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
        total = 0.0
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


@dataclass(frozen=True)
class Population:
    """Clean pixels of one gain and one read noise.

    Attributes
    ----------
    tails : tuple of N Tails
        Distributions of the exposures.
    levels : (G, N) array of int
        For each group of pixels the level of the signal in each exposure.
    pixels : (G,) array
        Pixels of each group.
    min2d_adu : array
        The minima that were observed.
    """

    tails: tuple[Tails, ...]
    levels: np.ndarray
    pixels: np.ndarray
    min2d_adu: np.ndarray

    @classmethod
    def of(cls, scene: Scene) -> Population:
        """Group the pixels of a scene of one gain and one read noise."""
        signals = list({id(e.signal_adu): e.signal_adu for e in scene.exposures}.values())
        grid = _Grid(scene.exposures[0].noise, _STEP_COMMON if len(signals) == 1 else _STEP_EACH)
        levels, pixels = _count_alike([grid.nearest(signal) for signal in signals])
        used, position = np.unique(levels, return_inverse=True)
        # what is common to the exposures does not change the distance of median and minimum
        rounding = 0.0 if len(signals) == 1 else grid.step
        tails: dict[tuple, Tails] = {}
        for e in scene.exposures:
            if (e.factor, id(e.noise)) not in tails:
                tails[e.factor, id(e.noise)] = Tails.of(grid.signal_adu(used), e, rounding)
        return cls(
            tuple(tails[e.factor, id(e.noise)] for e in scene.exposures),
            np.broadcast_to(position.reshape(levels.shape), (len(pixels), len(scene.exposures))),
            pixels.astype(float),
            scene.min2d_adu,
        )

    @cached_property
    def groups(self) -> list[Group]:
        """The groups of pixels."""
        return [
            Group(pixels, tuple(zip(self.tails, levels, strict=True)))
            for pixels, levels in zip(self.pixels.tolist(), self.levels.tolist(), strict=True)
        ]

    def deconvolved(self) -> Population:
        """Find how many pixels each group has from the observed minima.

        Signals that were measured in noisy images scatter more than true ones do. The numbers
        that make the observed minima most probable are free of that scatter.

        References
        ----------
        Dempster, Laird & Rubin 1977, J. R. Stat. Soc. B 39, 1 (expectation and maximisation).
        """
        edges = np.unique(np.concatenate([group.cells() for group in self.groups]))
        edges = edges[:: edges.size // _MOST_CELLS + 1]
        inner = np.array([group.lowest_above(edges) for group in self.groups])
        share = -np.diff(inner, axis=1, prepend=1.0, append=0.0)
        observed = np.histogram(self.min2d_adu, np.concatenate([[-np.inf], edges, [np.inf]]))[0]
        pixels = self.pixels
        for _ in range(_ROUNDS):
            expected = np.maximum(pixels @ share, np.finfo(float).tiny)
            pixels = pixels * (share @ (observed / expected))
        return replace(self, pixels=pixels)


@dataclass(frozen=True)
class _Grid:
    """Levels of the signal, of which 2 √(λ + σ²) is equidistant: it changes by 1 with the noise.

    Attributes
    ----------
    noise : Noise
        Numbers.
    step : float
        Distance of levels, in units of the noise.
    """

    noise: Noise
    step: float

    def nearest(self, signal_adu: np.ndarray) -> np.ndarray:
        """Level of each signal."""
        rnoise = np.float32(self.noise.rnoise_e)
        root = np.sqrt(signal_adu * np.float32(self.noise.gain) + rnoise**2)
        root -= rnoise - np.float32(self.step / 4)  # the half that rounds
        root *= np.float32(2 / self.step)
        return root.astype(np.intp)

    def signal_adu(self, level: np.ndarray) -> np.ndarray:
        """Signal of each level."""
        rnoise = self.noise.rnoise_e
        return (np.square(0.5 * self.step * level + rnoise) - rnoise**2) / self.noise.gain


def _count_alike(levels: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Find the combinations of levels that pixels have, (G, M), and count their pixels, (G,).

    Which exposure has which level does not matter.
    """
    if len(levels) == 1:
        number = np.bincount(levels[0])
        used = np.flatnonzero(number)
        return used[:, np.newaxis], number[used]
    ordered = np.sort(levels, axis=0)
    shape = (int(ordered[-1].max()) + 1,) * len(ordered)
    codes, number = np.unique(np.ravel_multi_index(tuple(ordered), shape), return_counts=True)
    return np.stack(np.unravel_index(codes, shape), axis=1), number


def populations(scene: Scene) -> Iterator[Population]:
    """Divide the pixels of a scene by gain and read noise, and group them by signal."""
    noise = scene.exposures[0].noise
    if not (np.ndim(noise.gain) or np.ndim(noise.rnoise_adu)):
        yield Population.of(scene)
        return
    code = np.zeros(scene.size, np.int64)
    for value in (noise.gain, noise.rnoise_adu):
        steps = np.log(np.maximum(value, _LEAST_SIGMA)) / np.log1p(_NOISE_STEP)
        code = code * 100_000 + np.rint(steps).astype(np.int64)
    order = np.argsort(code, kind="stable")
    for pixels in np.split(order, np.flatnonzero(np.diff(code[order])) + 1):
        yield Population.of(_with_mean_noise(scene.select(pixels)))


def _with_mean_noise(scene: Scene) -> Scene:
    noises = {
        id(e.noise): replace(
            e.noise,
            gain=float(np.mean(e.noise.gain)),
            rnoise_adu=float(np.sqrt(np.mean(np.square(e.noise.rnoise_adu)))),
        )
        for e in scene.exposures
    }
    return replace(
        scene, exposures=tuple(replace(e, noise=noises[id(e.noise)]) for e in scene.exposures)
    )
