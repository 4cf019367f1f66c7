"""Stands in for the package PyCosmic, which is not on PyPI: crdetect's own, of the same masks.

Copied as ``PyCosmic.py`` to a temporary folder from where the peer imports it, for judging masks
only: how long it takes says nothing about PyCosmic. It knows nothing of benchmarks.
"""

from types import SimpleNamespace
from typing import Any

import numpy as np

from crdetect import Noise, Parameters
from crdetect.detectors import make_detector
from crdetect.resources import Resources


def det_cosmics(data: np.ndarray, gain: float, rdnoise: float, **chosen: Any) -> SimpleNamespace:
    """Find and clean the cosmic rays of an image, as PyCosmic's function of this name does.

    Parameters
    ----------
    data : (rows, columns) array
        The image, ADU.
    gain, rdnoise : float
        e/ADU, electrons.
    **chosen : Any
        PyCosmic's other parameters.

    Returns
    -------
    SimpleNamespace
        ``mask``, and ``data``, cleaned: electrons.
    """
    same = ("sigma_det", "rlim", "iterations", "increase_radius")
    parameters = {f"pc_{name}": chosen[name] for name in same if name in chosen}
    for name in ("fwhm_gauss", "replace_box"):
        for axis, value in zip("xy", chosen.get(name, ()), strict=False):
            parameters[f"pc_{name}_{axis}"] = value
    detector = make_detector(
        Parameters.from_mapping({"crmethod": "pycosmic", **parameters}), Resources(1)
    )
    image = np.asarray(data - chosen.get("bias", 0.0), np.float32)
    found = detector.detect(image, Noise(gain, rdnoise / gain))
    return SimpleNamespace(mask=found.mask, data=found.image_adu * np.float32(gain))
