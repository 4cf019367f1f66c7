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
    gain : float or (rows, columns) array
        In e/ADU, positive.
    rnoise_adu : float or (rows, columns) array
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
            if value.ndim not in (0, 2):
                raise InputError(f"{name} must be a number or a 2-D map, not {value.ndim}-D")
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

    def select(self, pixels: np.ndarray) -> Noise:
        """Return the noise of some pixels, as 1 × n maps (numbers stay numbers)."""
        gain, rnoise = (
            value[pixels][np.newaxis] if np.ndim(value) else value
            for value in (self.gain, self.rnoise_adu)
        )
        return Noise(gain, rnoise)

    def rows(self, rows: slice) -> Noise:
        """Return the noise of some rows."""
        gain, rnoise = (
            value[rows] if np.ndim(value) else value for value in (self.gain, self.rnoise_adu)
        )
        return Noise(gain, rnoise)

    def draw_adu(self, signal_adu: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Draw an exposure of this expected signal.

        Parameters
        ----------
        signal_adu : (rows, columns) array
            Expected signal, not negative.
        rng : numpy.random.Generator
            Source of random numbers.

        Returns
        -------
        (rows, columns) array of float32
            Poisson(signal · gain) / gain plus Gaussian read noise, ADU.
        """
        photons = rng.poisson(signal_adu * self.gain) / self.gain
        read = rng.standard_normal(signal_adu.shape, dtype=np.float32) * self.rnoise_adu
        return (photons + read).astype(np.float32)
