"""What clean exposures are expected to be: the signal of each pixel and its noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from crdetect.errors import InputError
from crdetect.noise import Noise
from crdetect.stack import Stack

_LARGEST_SIGNAL_E = 1e15  # far beyond any detector, and within the reach of random integers


@dataclass(frozen=True)
class Exposure:
    """What is expected of one exposure.

    Attributes
    ----------
    signal_adu : array
        Expected signal before the factor, not negative; one array for all exposures where it is
        common to them.
    factor : float
        Flux of the exposure: multiplies the signal.
    noise : Noise
        Numbers, or maps of the shape of the signal.
    """

    signal_adu: np.ndarray
    factor: float
    noise: Noise

    def draw_adu(self, pixels: slice, rng: np.random.Generator) -> np.ndarray:
        """Draw the values of some pixels, ADU."""
        signal = self.signal_adu[pixels] * np.float32(self.factor)
        return self.noise.select(pixels).draw_adu(signal, rng)


@dataclass(frozen=True)
class Scene:
    """The clean pixels of the exposures, in one dimension.

    Attributes
    ----------
    exposures : tuple of N Exposure
        What is expected of the n pixels in each.
    coincidences : int
        The number c of hits to be found.
    min2d_adu : (n,) array
        What was observed: min2d of the pixels.
    """

    exposures: tuple[Exposure, ...]
    coincidences: int
    min2d_adu: np.ndarray

    @property
    def size(self) -> int:
        """Number of pixels."""
        return self.min2d_adu.size

    def select(self, index) -> Scene:
        """Return some of the pixels."""
        return Scene(_select(self.exposures, index), self.coincidences, self.min2d_adu[index])


def make_scene(
    stack: Stack,
    expected: Sequence[Exposure],
    coincidences: int,
    min2d_adu: np.ndarray,
    excluded: np.ndarray,
) -> Scene:
    """Gather the pixels that are clean and have a value in every exposure.

    Parameters
    ----------
    stack : Stack
        The exposures.
    expected : sequence of N Exposure
        What is expected of each, (rows, columns).
    coincidences : int
        The number c of hits to be found.
    min2d_adu : (rows, columns) array
        Of the exposures.
    excluded : (rows, columns) array of bool
        Pixels with a cosmic ray.

    Raises
    ------
    InputError
        If no pixel is left, or a signal is more than a detector gives.
    """
    clean = ~excluded
    if not stack.complete:
        clean &= ~np.isnan(stack.exposures).any(axis=0)
    if not clean.any():
        raise InputError(
            "no pixel without a cosmic ray has a value in every exposure: "
            "the Median-Minimum diagram cannot be simulated"
        )
    exposures = _select(expected, clean)
    largest_e = max(float(np.max(e.signal_adu * e.noise.gain)) * e.factor for e in exposures)
    if largest_e > _LARGEST_SIGNAL_E:
        raise InputError(f"signals up to {largest_e:.3g} e are more than a detector gives")
    return Scene(exposures, coincidences, min2d_adu[clean])


def _select(exposures: Sequence[Exposure], index) -> tuple[Exposure, ...]:
    """Select pixels; what is common to the exposures stays so, and is gathered once."""
    signals = {id(e.signal_adu): e.signal_adu for e in exposures}
    noises = {id(e.noise): e.noise for e in exposures}
    signals = {key: signal[index] for key, signal in signals.items()}
    noises = {key: noise.select(index) for key, noise in noises.items()}
    return tuple(
        Exposure(signals[id(e.signal_adu)], e.factor, noises[id(e.noise)]) for e in exposures
    )
