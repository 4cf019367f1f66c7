"""Clean pixels grouped by their expected signals, and the distributions of each group."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from crdetect.equality import by_value
from crdetect.equivalence.order_statistics import LEAST_SIGMA_E, Group, Tails
from crdetect.mm.scene import Exposure, Scene
from crdetect.noise import Noise
from crdetect.stack import sort_planes

_STEP_COMMON = 0.2  # of the grid of signals, times the noise, where all exposures share one signal
_STEP_EACH = 0.5  # where each exposure has its own
_NOISE_STEP = 0.05  # maps of gain and read noise are grouped: relative
_MOST_CELLS = 2000  # of observed minima
_LARGEST_CODE = np.iinfo(np.int64).max
_ROUNDS = 200  # of expectation and maximisation


@by_value
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
        expected = scene.expected
        grid = _Grid(expected.noises[0], _STEP_COMMON if expected.common_signal else _STEP_EACH)
        levels, pixels = _count_alike([grid.nearest(signal) for signal in expected.signals_adu])
        used, position = np.unique(levels, return_inverse=True)
        # what is common to the exposures does not change the distance of median and minimum
        rounding = 0.0 if expected.common_signal else grid.step
        # exposures of equal factors and noises share their tails, and so do equal terms later
        tails: dict[tuple[float, ...], Tails] = {}
        for e in scene.exposures:
            if _key(e) not in tails:
                tails[_key(e)] = Tails.of(grid.signal_adu(used), e.factor, e.noise, rounding)
        return cls(
            tuple(tails[_key(e)] for e in scene.exposures),
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


@by_value
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
        return root.astype(np.int32)  # signals up to 1e15 electrons have levels up to 3e8

    def signal_adu(self, level: np.ndarray) -> np.ndarray:
        """Signal of each level."""
        rnoise = self.noise.rnoise_e
        return (np.square(0.5 * self.step * level + rnoise) - rnoise**2) / self.noise.gain


def _key(exposure: Exposure) -> tuple[float, ...]:
    """Numbers that decide the distribution of an exposure at a given signal."""
    noise = exposure.noise
    return exposure.factor, noise.gain, noise.rnoise_adu, noise.nbinom_shape


def _count_alike(levels: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Find the combinations of levels that pixels have, (G, M), and count their pixels, (G,).

    Which exposure has which level does not matter. The combinations come in lexicographic order.
    """
    if len(levels) == 1:
        number = np.bincount(levels[0])
        used = np.flatnonzero(number)
        return used[:, np.newaxis], number[used]
    ordered = sort_planes(list(levels))
    base = int(ordered[-1].max()) + 1
    # a combination becomes an integer, whose digits are the levels
    codes, below, ranked = ordered[0].astype(np.int64), base, {}
    for position, level in enumerate(ordered[1:], start=1):
        if below * base > _LARGEST_CODE:  # codes are replaced by their ranks, to make room
            ranked[position], codes = np.unique(codes, return_inverse=True)
            below = ranked[position].size
        codes *= base
        codes += level
        below *= base
    codes, number = np.unique(codes, return_counts=True)
    combinations = np.empty((codes.size, len(ordered)), np.intp)
    for position in reversed(range(len(ordered))):
        codes, combinations[:, position] = np.divmod(codes, base)
        if position in ranked:
            codes = ranked[position][codes]
    return combinations, number


def populations(scene: Scene) -> Iterator[Population]:
    """Divide the pixels of a scene by gain and read noise, and group them by signal."""
    noise = scene.expected.noises[0]
    if not (np.ndim(noise.gain) or np.ndim(noise.rnoise_adu)):
        yield Population.of(scene)
        return
    code = np.zeros(scene.size, np.int64)
    for value in (noise.gain, noise.rnoise_adu):
        steps = np.log(np.maximum(value, LEAST_SIGMA_E)) / np.log1p(_NOISE_STEP)
        code = code * 100_000 + np.rint(steps).astype(np.int64)
    order = np.argsort(code, kind="stable")
    for pixels in np.split(order, np.flatnonzero(np.diff(code[order])) + 1):
        yield Population.of(_with_mean_noise(scene.select(pixels)))


def _with_mean_noise(scene: Scene) -> Scene:
    noises = tuple(
        replace(
            noise,
            gain=float(np.mean(noise.gain)),
            rnoise_adu=float(np.sqrt(np.mean(np.square(noise.rnoise_adu)))),
        )
        for noise in scene.expected.noises
    )
    return replace(scene, expected=replace(scene.expected, noises=noises))
