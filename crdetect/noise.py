"""The noise of an exposure: gain, read noise and photon statistics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from crdetect.equality import by_value
from crdetect.errors import InputError


@by_value
@dataclass(frozen=True)
class Noise:
    """Gain and read noise of the detector, and the distribution of photons.

    Parameters
    ----------
    gain : float or array
        Gain in e/ADU, positive; an array is a map of the shape of the exposures.
    rnoise_adu : float or array
        Read noise in ADU, not negative; an array is a map of the shape of the exposures.
    nbinom_shape : float
        Shape κ of the negative binomial distribution of photons, whose variance is λ + λ²/κ for λ
        electrons; infinite for the Poisson distribution.

    Raises
    ------
    InputError
        If a value is out of range or not finite.
    """

    gain: float | np.ndarray
    rnoise_adu: float | np.ndarray
    nbinom_shape: float = np.inf

    def __post_init__(self):
        for name, minimum_text, bad in (
            ("gain", "> 0", lambda value: value <= 0),
            ("rnoise_adu", "≥ 0", lambda value: value < 0),
        ):
            value = np.asarray(getattr(self, name), dtype=np.float32)
            if not np.isfinite(value).all() or bad(value).any():
                raise InputError(f"{name} must be finite and {minimum_text} everywhere")
            if value.ndim:
                object.__setattr__(self, name, value)
            else:
                object.__setattr__(self, name, float(getattr(self, name)))
        if not self.nbinom_shape > 0:
            raise InputError(f"nbinom_shape must be > 0, not {self.nbinom_shape}")

    @property
    def rnoise_e(self) -> float | np.ndarray:
        """Read noise in electrons."""
        return self.rnoise_adu * self.gain

    def check_shape(self, shape: tuple[int, int]) -> None:
        """Raise InputError unless the maps have the shape of the exposures."""
        for name in ("gain", "rnoise_adu"):
            value = getattr(self, name)
            if np.ndim(value) and value.shape != tuple(shape):
                raise InputError(
                    f"the map of {name} has shape {value.shape}, the exposures {tuple(shape)}"
                )

    def variance_adu2(self, signal_adu: np.ndarray) -> np.ndarray:
        """Return the variance at an expected signal s ≥ 0, ADU²: s/gain + s²/κ + rnoise²."""
        signal_adu = np.maximum(signal_adu, 0)
        photons = signal_adu / self.gain + np.square(signal_adu) / self.nbinom_shape
        return (photons + np.square(self.rnoise_adu)).astype(np.float32)

    def select(self, index) -> Noise:
        """Return the noise of some pixels: maps are indexed, numbers remain numbers."""
        gain, rnoise = (
            value[index] if isinstance(value, np.ndarray) else value
            for value in (self.gain, self.rnoise_adu)
        )
        return replace(self, gain=gain, rnoise_adu=rnoise)

    def divided(self, factor: float) -> Noise:
        """Return the noise of an exposure that was divided by a flux factor."""
        return replace(self, gain=self.gain * factor, rnoise_adu=self.rnoise_adu / factor)

    def draw_adu(self, signal_adu: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Draw an exposure of a given expected signal at random.

        Parameters
        ----------
        signal_adu : array
            Expected signal in ADU, not negative; it has the shape of the maps, if there are any.
        rng : numpy.random.Generator
            Generator of random numbers.

        Returns
        -------
        array of float32
            Random number of photons divided by the gain, plus Gaussian read noise, ADU.
        """
        expected_e = signal_adu * self.gain
        if np.isfinite(self.nbinom_shape):  # it is a gamma mixture of Poisson distributions
            expected_e = rng.gamma(self.nbinom_shape, expected_e / self.nbinom_shape)
        photons = rng.poisson(expected_e) / self.gain
        read = rng.standard_normal(signal_adu.shape, dtype=np.float32) * self.rnoise_adu
        return (photons + read).astype(np.float32)


def distinct(noises: Sequence[Noise]) -> tuple[Noise, ...]:
    """Return one noise if all are equal, otherwise all of them."""
    first, *others = noises
    return (first,) if all(noise == first for noise in others) else tuple(noises)
