"""Cosmic rays in equivalent exposures: arrays in, masks and combined images out.

>>> import numpy as np
>>> import crdetect
>>> exposures = np.random.default_rng(1).normal(100.0, 3.0, (3, 64, 64))
>>> exposures[:2, 20, 30] += 500.0  # a pixel hit in two of three
>>> stack = crdetect.Stack(exposures)
>>> noise = crdetect.Noise(gain=20.0, rnoise_adu=2.0)
>>> parameters = crdetect.Parameters.from_mapping({"mm_dilation": 0})
>>> detection = crdetect.detect(stack, noise, parameters)
>>> detection.masks.mediancr[20, 30]
np.True_
>>> combined = detection.combine()
>>> bool(combined["mediancr"].value[20, 30] < 120)
True
"""

from crdetect.combine import COMBINATIONS, Combination, combine
from crdetect.errors import InputError
from crdetect.masks import Features, Masks
from crdetect.noise import Noise
from crdetect.parameters import Parameters
from crdetect.pipeline import Detection, detect
from crdetect.stack import Stack

__all__ = [
    "COMBINATIONS",
    "Combination",
    "Detection",
    "Features",
    "InputError",
    "Masks",
    "Noise",
    "Parameters",
    "Stack",
    "combine",
    "detect",
]
__version__ = "0.1.0"
