"""The noise of an exposure: gain, read noise and photon statistics."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crdetect.errors import InputError


@dataclass(frozen=True)
class Noise:
    """Gain and read noise of the detector.

    Parameters
    ----------
    gain : float or array
        In e/ADU, positive; an array is a map of the shape of the exposures.
    rnoise_adu : float or array
        Read noise in ADU, not negative.

    Raises
    ------
    InputError
        If a value is out of range or not finite.
    """

    gain: float | np.ndarray
    rnoise_adu: float | np.ndarray

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
        """Variance of one value with this expected signal: max(signal, 0)/gain + rnoise², ADU²."""
        return (np.maximum(signal_adu, 0) / self.gain + np.square(self.rnoise_adu)).astype(
            np.float32
        )

    def select(self, index) -> Noise:
        """Return the noise of some pixels: maps are indexed, numbers stay numbers."""
        gain, rnoise = (
            value[index] if np.ndim(value) else value for value in (self.gain, self.rnoise_adu)
        )
        return Noise(gain, rnoise)

    def draw_adu(self, signal_adu: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Draw an exposure of this expected signal.

        Parameters
        ----------
        signal_adu : array
            Expected signal, not negative; of the shape of the maps, where there are any.
        rng : numpy.random.Generator
            Source of random numbers.

        Returns
        -------
        array of float32
            Poisson(signal · gain) / gain plus Gaussian read noise, ADU.
        """
        photons = rng.poisson(signal_adu * self.gain) / self.gain
        read = rng.standard_normal(signal_adu.shape, dtype=np.float32) * self.rnoise_adu
        return (photons + read).astype(np.float32)
