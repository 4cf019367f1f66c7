"""Scenes of simulated pixels, and how two diagrams compare."""

import numpy as np

from crdetect import Noise
from crdetect.mm.scene import Expected, Scene
from crdetect.noise import distinct


def scene_of(signals_adu, noise, coincidences=2, factors=None, min2d_adu=None):
    """Make a scene; equal signals are a common one, and so are noises.

    Observed minima that are not given are all the same, inside what is expected.
    """
    signals = [np.asarray(s, np.float32) for s in signals_adu]
    factors = tuple(factors or [1.0] * len(signals))
    if all(np.array_equal(s, signals[0]) for s in signals):
        signals = signals[:1]
    noises = (noise,) if isinstance(noise, Noise) else distinct(noise)
    expected = Expected(tuple(signals), factors, noises)
    if min2d_adu is None:
        min2d_adu = np.full(signals[0].shape, np.median(signals[0]))
    return Scene(expected, coincidences, np.asarray(min2d_adu, np.float32))


def chi_square_per_bin(found, expected, variance, least=5):
    """Chi-square per populated bin, and the standard deviation that it should have."""
    used = expected > least
    assert used.sum() > 50
    chi_square = np.sum((found - expected)[used] ** 2 / variance[used]) / used.sum()
    # of a Poisson distribution the fourth moment adds 1 / expected
    return chi_square, np.sqrt(np.mean(2 + 1 / expected[used]) / used.sum())
