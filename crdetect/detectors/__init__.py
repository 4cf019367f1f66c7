"""Detectors of cosmic rays in one image, by name."""

from __future__ import annotations

from crdetect.detectors.base import Cleaned, Detector, NoDetector, PeaksAndTails
from crdetect.detectors.lacosmic import LACosmicDetector
from crdetect.detectors.pycosmic import PyCosmicDetector
from crdetect.parameters import DETECTOR_BLOCKS, Parameters

REGISTRY: dict[str, type[Detector]] = {
    "lacosmic": LACosmicDetector,
    "pycosmic": PyCosmicDetector,
}
"""The detectors by the name that ``crmethod`` gives them."""

__all__ = ["REGISTRY", "Cleaned", "Detector", "NoDetector", "PeaksAndTails", "make_detector"]


def make_detector(parameters: Parameters) -> PeaksAndTails | NoDetector:
    """Make the detector that ``crmethod`` asks for."""
    name = parameters.general.detector
    if name is None:
        return NoDetector()
    return PeaksAndTails(REGISTRY[name], getattr(parameters, DETECTOR_BLOCKS[name]))
