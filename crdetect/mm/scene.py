"""What clean exposures are expected to be: the signal of each pixel and its noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from crdetect.equality import by_value
from crdetect.errors import InputError
from crdetect.noise import Noise
from crdetect.stack import Stack

_LARGEST_SIGNAL_E = 1e15  # far beyond any detector, and within the reach of random integers


@by_value
@dataclass(frozen=True)
class Exposure:
    """Expected signal, flux and noise of one clean exposure.

    Attributes
    ----------
    signal_adu : array
        Expected signal before the factor, not negative.
    factor : float
        Flux of the exposure; it multiplies the signal.
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


@by_value
@dataclass(frozen=True)
class Expected:
    """Expected signals, fluxes and noises of N clean exposures.

    What the exposures have in common is given once. That is not only shorter: a common signal is
    divided more finely into levels where the diagram is computed, because it can be.

    Attributes
    ----------
    signals_adu : tuple of 1 or N arrays
        Expected signals before the factors, not negative; a single one is common to all exposures.
    factors : tuple of N float
        Fluxes of the exposures; they multiply the signals.
    noises : tuple of 1 or N Noise
        Numbers, or maps of the shape of the signals; a single one is common to all exposures.

    Raises
    ------
    ValueError
        If the numbers of signals, factors and noises do not fit.
    """

    signals_adu: tuple[np.ndarray, ...]
    factors: tuple[float, ...]
    noises: tuple[Noise, ...]

    def __post_init__(self):
        for name in ("signals_adu", "noises"):
            if len(getattr(self, name)) not in (1, len(self.factors)):
                number = len(getattr(self, name))
                raise ValueError(f"{name} must be 1 or {len(self.factors)}, not {number}")

    @property
    def common_signal(self) -> bool:
        """Whether all exposures have the same signal, apart from their fluxes."""
        return len(self.signals_adu) == 1

    @property
    def exposures(self) -> tuple[Exposure, ...]:
        """Expected signal, flux and noise, exposure by exposure."""
        n = len(self.factors)
        signals, noises = (
            each * n if len(each) == 1 else each for each in (self.signals_adu, self.noises)
        )
        return tuple(map(Exposure, signals, self.factors, noises))

    def select(self, index) -> Expected:
        """Return what is expected of some of the pixels."""
        return Expected(
            tuple(signal[index] for signal in self.signals_adu),
            self.factors,
            tuple(noise.select(index) for noise in self.noises),
        )


def distinct(noises: Sequence[Noise]) -> tuple[Noise, ...]:
    """Return the noise that exposures have in common, or else all noises, for `Expected`."""
    first, *others = noises
    return (first,) if all(noise == first for noise in others) else tuple(noises)


@by_value
@dataclass(frozen=True)
class Scene:
    """The clean pixels of the exposures, in one dimension.

    Attributes
    ----------
    expected : Expected
        Expected signals, fluxes and noises of the n pixels.
    coincidences : int
        The number c of hits to be found.
    min2d_adu : (n,) array
        Observed min2d of the pixels.
    """

    expected: Expected
    coincidences: int
    min2d_adu: np.ndarray

    @property
    def exposures(self) -> tuple[Exposure, ...]:
        """Expected signal, flux and noise, exposure by exposure."""
        return self.expected.exposures

    @property
    def size(self) -> int:
        """Number of pixels."""
        return self.min2d_adu.size

    def select(self, index) -> Scene:
        """Return some of the pixels."""
        return Scene(self.expected.select(index), self.coincidences, self.min2d_adu[index])


def make_scene(
    stack: Stack,
    expected: Expected,
    coincidences: int,
    min2d_adu: np.ndarray,
    excluded: np.ndarray,
) -> Scene:
    """Gather the pixels that are clean and have a value in every exposure.

    Parameters
    ----------
    stack : Stack
        The exposures.
    expected : Expected
        What is expected of them, (rows, columns).
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
    scene = Scene(expected.select(clean), coincidences, min2d_adu[clean])
    largest_e = max(float(np.max(e.signal_adu * e.noise.gain)) * e.factor for e in scene.exposures)
    if largest_e > _LARGEST_SIGNAL_E:
        raise InputError(f"signals up to {largest_e:.3g} e are more than a detector gives")
    return scene
