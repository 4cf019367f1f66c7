"""The expected signal and the noise of each pixel in clean exposures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crdetect.equality import by_value
from crdetect.errors import InputError
from crdetect.noise import Noise
from crdetect.stack import Stack

# Maximum expected signal, electrons. Random numbers of photons are 64-bit integers, of at most
# 9e18; the limit below was chosen by hand, far above the full well of any detector.
_LARGEST_SIGNAL_E = 1e15


@by_value
@dataclass(frozen=True)
class ExpectedExposure:
    """Expected signal, flux factor and noise of one clean exposure.

    Attributes
    ----------
    signal_adu : array
        Expected signal at a flux factor of 1, ADU; not negative.
    factor : float
        Flux factor of the exposure, which multiplies the signal.
    noise : Noise
        Gain and read noise: numbers, or maps of the shape of the signal.
    """

    signal_adu: np.ndarray
    factor: float
    noise: Noise

    def draw_adu(self, pixels: slice, rng: np.random.Generator) -> np.ndarray:
        """Draw random values of some pixels, ADU."""
        signal = self.signal_adu[pixels] * np.float32(self.factor)
        return self.noise.select(pixels).draw_adu(signal, rng)


@by_value
@dataclass(frozen=True)
class Expected:
    """Expected signals, flux factors and noises of N clean exposures.

    A signal or a noise that all exposures have in common is given once. Where the diagram is
    computed, a common signal is divided into finer levels than the signals of single exposures:
    there are no combinations of levels, whose number would grow too large.

    Attributes
    ----------
    signals_adu : tuple of 1 or N arrays
        Expected signals at a flux factor of 1, ADU; not negative. A single one is common to all
        exposures.
    factors : tuple of N float
        Flux factors of the exposures, which multiply the signals.
    noises : tuple of 1 or N Noise
        Gains and read noises: numbers, or maps of the shape of the signals. A single one is common
        to all exposures.

    Raises
    ------
    ValueError
        If there is another number of signals or noises than 1 or N.
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
        """Whether all exposures have the same expected signal, apart from their flux factors."""
        return len(self.signals_adu) == 1

    @property
    def exposures(self) -> tuple[ExpectedExposure, ...]:
        """Expected signal, flux factor and noise of each exposure."""
        n = len(self.factors)
        signals = self.signals_adu * n if self.common_signal else self.signals_adu
        noises = self.noises * n if len(self.noises) == 1 else self.noises
        return tuple(map(ExpectedExposure, signals, self.factors, noises))

    def select(self, index) -> Expected:
        """Return the expected signals and noises of some of the pixels."""
        return Expected(
            tuple(signal[index] for signal in self.signals_adu),
            self.factors,
            tuple(noise.select(index) for noise in self.noises),
        )


@by_value
@dataclass(frozen=True)
class Scene:
    """The clean pixels of the exposures, as one-dimensional arrays.

    Attributes
    ----------
    expected : Expected
        Expected signals, flux factors and noises of the n pixels.
    coincidences : int
        Number c of coincident hits that are to be found.
    min2d_adu : (n,) array
        Observed min2d of the pixels, ADU.
    """

    expected: Expected
    coincidences: int
    min2d_adu: np.ndarray

    @property
    def exposures(self) -> tuple[ExpectedExposure, ...]:
        """Expected signal, flux factor and noise of each exposure."""
        return self.expected.exposures

    @property
    def size(self) -> int:
        """Number of pixels."""
        return self.min2d_adu.size

    def select(self, index) -> Scene:
        """Return the scene of some of the pixels."""
        return Scene(self.expected.select(index), self.coincidences, self.min2d_adu[index])


def make_scene(
    stack: Stack,
    expected: Expected,
    coincidences: int,
    min2d_adu: np.ndarray,
    excluded: np.ndarray,
) -> Scene:
    """Select the pixels that are clean and have a value in every exposure.

    Parameters
    ----------
    stack : Stack
        The exposures.
    expected : Expected
        Expected signals and noises of the exposures; arrays are (rows, columns).
    coincidences : int
        Number c of coincident hits that are to be found.
    min2d_adu : (rows, columns) array
        min2d of the exposures, ADU.
    excluded : (rows, columns) array of bool
        True where a pixel has a cosmic ray.

    Raises
    ------
    InputError
        If no pixel is left, or an expected signal exceeds 1e15 electrons.
    """
    clean = ~excluded
    if not stack.complete:
        clean &= ~np.isnan(stack.exposures).any(axis=0)
    if not clean.any():
        raise InputError(
            "no pixel without a cosmic ray has a value in every exposure: "
            "there are no clean pixels for the Median-Minimum diagram"
        )
    scene = Scene(expected.select(clean), coincidences, min2d_adu[clean])
    largest_e = max(float(np.max(e.signal_adu * e.noise.gain)) * e.factor for e in scene.exposures)
    if largest_e > _LARGEST_SIGNAL_E:
        raise InputError(
            f"expected signals reach {largest_e:.3g} e, which is more than a detector gives: check "
            "the gain and the unit of the exposures (ADU)"
        )
    return scene
