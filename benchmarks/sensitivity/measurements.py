"""How well flux factors, offsets and κ are measured in simulated exposures of known truth."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import ndimage

from crdetect import Noise, Stack
from crdetect.equivalence.flux import measure_flux
from crdetect.equivalence.nbinom import measure_nbinom_shape
from crdetect.equivalence.offsets import measure_offsets
from crdetect.simulate import make_scene_e, make_tracks_e, simulate_exposures

FLUXES = (0.8, 1.0, 1.2)
OFFSETS_PX = ((-0.5, 0.5), (0.0, 0.0), (0.5, -0.25))
SHAPE_OF_PHOTONS = 300.0  # κ
_SHAPE = (200, 260)
_HIT_FRACTION = 0.01
_MARGIN_PX = 20
_NOISE = Noise(1.0, 3.4)


def flux_error(seed: int) -> float:
    """Rms relative error of the flux factors of one set of exposures."""
    simulation = simulate_exposures(_SHAPE, flux=FLUXES, seed=seed, hit_fraction=_HIT_FRACTION)
    stack = Stack(simulation.exposures_adu)
    everywhere = np.ones(_SHAPE, bool)
    found = measure_flux(stack, _NOISE, stack.statistics().median2d, everywhere).factors
    return _rms(np.array(found) / FLUXES - 1)


def offset_error(seed: int) -> float:
    """Rms error of the offsets of one set of exposures, pixels."""
    rng = np.random.default_rng(seed)
    signal = make_scene_e(tuple(size + 2 * _MARGIN_PX for size in _SHAPE), rng)
    inner = (slice(_MARGIN_PX, -_MARGIN_PX),) * 2
    images = [
        _NOISE.draw_adu(np.maximum(ndimage.shift(signal, (y, x), order=5)[inner], 0), rng)
        + make_tracks_e(_SHAPE, _HIT_FRACTION, rng)
        for x, y in OFFSETS_PX
    ]
    found = measure_offsets(images, [_NOISE] * len(images), (slice(None), slice(None))).xy_px
    return _rms(found - (OFFSETS_PX - np.median(OFFSETS_PX, axis=0)))


def excess_error(seed: int) -> float:
    """Relative error of 1/κ of one set of exposures."""
    simulation = simulate_exposures(
        _SHAPE, nbinom_shape=SHAPE_OF_PHOTONS, seed=seed, hit_fraction=_HIT_FRACTION
    )
    values = simulation.exposures_adu.reshape(len(simulation.exposures_adu), -1)
    found = measure_nbinom_shape(values, [_NOISE] * len(values))
    return found.excess * SHAPE_OF_PHOTONS - 1


MEASUREMENTS: dict[str, tuple[str, Callable[[int], float]]] = {
    "flux": ("rms error of flux factors", flux_error),
    "offsets": ("rms error of offsets, px", offset_error),
    "nbinom": ("rms relative error of 1/κ", excess_error),
}
"""By module of the constants: what is measured, and its error for a seed."""


def rms_error(module: str, seeds: range) -> float:
    """Rms error of what a module measures, over sets of exposures of several seeds."""
    return _rms(np.array([MEASUREMENTS[module][1](seed) for seed in seeds]))


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values))))
