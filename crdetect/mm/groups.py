"""Groups of clean pixels with equal expected signals, and the distributions of their values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from crdetect.equality import by_value
from crdetect.equivalence.order_statistics import LEAST_SIGMA_E, Group, Tails
from crdetect.mm.scene import ExpectedExposure, Scene
from crdetect.noise import Noise
from crdetect.stack import sort_planes

# Step of the grid to which expected signals are rounded, in units of the noise, where all exposures
# have one signal in common. It limits the accuracy and was chosen by hand.
_STEP_COMMON = 0.2
# The same where each exposure has its own signal. The step is wider, because the number of
# combinations of levels grows fast. The variance that rounding adds, step²/12, is subtracted from
# that of the noise (see `Tails.of`). The number was chosen by hand.
_STEP_EACH = 0.5
# Relative step by which maps of gain and read noise are divided into populations. It was chosen by
# hand.
_NOISE_STEP = 0.05
# Approximate maximum number of bins of the observed minima in the deconvolution. It limits memory
# and time, and was chosen by hand.
_MOST_CELLS = 2000
# Number of iterations of expectation and maximisation in the deconvolution. It was chosen by hand.
_ROUNDS = 200
# Largest integer that codes a combination of levels: it is that of the integers used.
_LARGEST_CODE = np.iinfo(np.int64).max


@by_value
@dataclass(frozen=True)
class Population:
    """Clean pixels of one gain and one read noise, grouped by expected signal.

    Attributes
    ----------
    tails : tuple of N Tails
        Distributions of the values of each exposure, at the levels of the signal.
    levels : (G, N) array of int
        Level of the expected signal of each group of pixels in each exposure: an index into the
        levels of ``tails``.
    npixels : (G,) array
        Number of pixels of each group.
    min2d_adu : array
        Observed min2d of the pixels, ADU.
    """

    tails: tuple[Tails, ...]
    levels: np.ndarray
    npixels: np.ndarray
    min2d_adu: np.ndarray

    @classmethod
    def of(cls, scene: Scene) -> Population:
        """Group the pixels of a scene that has one gain and one read noise."""
        expected = scene.expected
        grid = _Grid(expected.noises[0], _STEP_COMMON if expected.common_signal else _STEP_EACH)
        levels, npixels = _count_alike([grid.nearest(signal) for signal in expected.signals_adu])
        used, position = np.unique(levels, return_inverse=True)
        # An error of the signal that is common to the exposures does not change median − minimum:
        # the rounding of a common signal needs no correction.
        rounding = 0.0 if expected.common_signal else grid.step
        # Exposures of equal factors and noises share one object of tails: equal terms of the sum
        # are recognised by it and computed once.
        tails: dict[tuple[float, ...], Tails] = {}
        for e in scene.exposures:
            if _key(e) not in tails:
                tails[_key(e)] = Tails.of(grid.signal_adu(used), e.factor, e.noise, rounding)
        return cls(
            tuple(tails[_key(e)] for e in scene.exposures),
            np.broadcast_to(position.reshape(levels.shape), (len(npixels), len(scene.exposures))),
            npixels.astype(float),
            scene.min2d_adu,
        )

    @cached_property
    def groups(self) -> list[Group]:
        """The groups of pixels with equal expected signals."""
        return [
            Group(npixels, tuple(zip(self.tails, levels, strict=True)))
            for npixels, levels in zip(self.npixels.tolist(), self.levels.tolist(), strict=True)
        ]

    def deconvolved(self) -> Population:
        """Estimate the number of pixels of each group by maximum likelihood.

        Expected signals that were measured in noisy images scatter more than the true ones. The
        numbers of pixels that maximise the likelihood of the observed minima are free of that
        scatter.

        References
        ----------
        Dempster, Laird & Rubin 1977, J. R. Stat. Soc. B 39, 1 (expectation and maximisation).
        """
        edges = np.unique(np.concatenate([group.cells() for group in self.groups]))
        edges = edges[:: edges.size // _MOST_CELLS + 1]
        inner = np.array([group.lowest_above(edges) for group in self.groups])
        share = -np.diff(inner, axis=1, prepend=1.0, append=0.0)
        observed = np.histogram(self.min2d_adu, np.concatenate([[-np.inf], edges, [np.inf]]))[0]
        npixels = self.npixels
        for _ in range(_ROUNDS):
            expected = np.maximum(npixels @ share, np.finfo(float).tiny)
            npixels = npixels * (share @ (observed / expected))
        return replace(self, npixels=npixels)


@by_value
@dataclass(frozen=True)
class _Grid:
    """Levels of the expected signal, separated by a constant multiple of the noise.

    The levels are equidistant in 2 √(λ + σ²), with the signal λ and the read noise σ in electrons,
    because that quantity changes by 1 where the signal changes by its noise.

    Attributes
    ----------
    noise : Noise
        Gain and read noise; both are numbers.
    step : float
        Distance between levels, in units of the noise.
    """

    noise: Noise
    step: float

    def nearest(self, signal_adu: np.ndarray) -> np.ndarray:
        """Return the level nearest to each signal in ADU."""
        rnoise = np.float32(self.noise.rnoise_e)
        root = np.sqrt(signal_adu * np.float32(self.noise.gain) + rnoise**2)
        # half a level is added, so that truncation rounds to the nearest level
        root -= rnoise - np.float32(self.step / 4)
        root *= np.float32(2 / self.step)
        return root.astype(np.int32)  # signals up to 1e15 electrons have levels up to 3e8

    def signal_adu(self, level: np.ndarray) -> np.ndarray:
        """Return the signal of each level, ADU."""
        rnoise = self.noise.rnoise_e
        return (np.square(0.5 * self.step * level + rnoise) - rnoise**2) / self.noise.gain


def _key(exposure: ExpectedExposure) -> tuple[Any, ...]:
    """Return the numbers on which the distribution of an exposure at a given signal depends."""
    noise = exposure.noise
    return exposure.factor, noise.gain, noise.rnoise_adu, noise.nbinom_shape


def _count_alike(levels: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Count the pixels of each combination of levels.

    Combinations that differ in the order of the exposures only are one.

    Parameters
    ----------
    levels : sequence of M (n,) arrays of int
        Level of each pixel in each exposure, or in all exposures where M is 1.

    Returns
    -------
    combinations : (G, M) array of int
        The combinations that occur, in lexicographic order.
    npixels : (G,) array of int
        Number of pixels of each combination.
    """
    if len(levels) == 1:
        number = np.bincount(levels[0])
        used = np.flatnonzero(number)
        return used[:, np.newaxis], number[used]
    ordered = sort_planes(list(levels))
    base = int(ordered[-1].max()) + 1
    # A combination is coded as an integer, whose digits in the given base are the levels.
    codes, below, ranked = ordered[0].astype(np.int64), base, {}
    for position, level in enumerate(ordered[1:], start=1):
        if below * base > _LARGEST_CODE:  # their ranks replace the codes and need less room
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
    """Divide the pixels of a scene by gain and read noise, and group each part by signal."""
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
