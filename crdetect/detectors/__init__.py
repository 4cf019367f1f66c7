"""Detectors of cosmic rays in one image, by name."""

from __future__ import annotations

from crdetect.detectors.base import Cleaned, Detector, NoDetector, PeaksAndTails, Resources
from crdetect.detectors.conn import ConnDetector
from crdetect.detectors.deepcr import DeepCRDetector
from crdetect.detectors.lacosmic import LACosmicDetector
from crdetect.detectors.pycosmic import PyCosmicDetector
from crdetect.parameters import DETECTOR_BLOCKS, Parameters

REGISTRY: dict[str, type[Detector]] = {
    "lacosmic": LACosmicDetector,
    "pycosmic": PyCosmicDetector,
    "deepcr": DeepCRDetector,
    "conn": ConnDetector,
}
"""The detectors by the name that ``crmethod`` gives them."""

__all__ = [
    "REGISTRY",
    "Cleaned",
    "Detector",
    "NoDetector",
    "PeaksAndTails",
    "Resources",
    "make_detector",
]


def make_detector(parameters: Parameters, workers: int = 1) -> PeaksAndTails | NoDetector:
    """Make the detector that ``crmethod`` asks for; it may use so many threads."""
    name = parameters.general.detector
    if name is None:
        return NoDetector()
    resources = Resources(workers, parameters.general.device)
    return PeaksAndTails(REGISTRY[name], getattr(parameters, DETECTOR_BLOCKS[name]), resources)
