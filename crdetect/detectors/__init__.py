"""Detectors of cosmic rays in one image, by name."""

from __future__ import annotations

from dataclasses import replace

from crdetect.detectors.base import Cleaned, Detector, NoDetector, PeaksAndTails
from crdetect.detectors.conn import ConnDetector
from crdetect.detectors.deepcr import DeepCRDetector
from crdetect.detectors.lacosmic import LACosmicDetector
from crdetect.detectors.pycosmic import PyCosmicDetector
from crdetect.parameters import DETECTOR_BLOCKS, Parameters
from crdetect.resources import ALL_PROCESSORS, Resources

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


def make_detector(
    parameters: Parameters, resources: Resources = ALL_PROCESSORS
) -> PeaksAndTails | NoDetector:
    """Make the detector that ``crmethod`` asks for.

    Parameters
    ----------
    parameters : Parameters
        Method, its thresholds, and the device.
    resources : Resources, optional
        How many processors the detector may keep busy.
    """
    name = parameters.general.detector
    if name is None:
        return NoDetector()
    resources = replace(resources, device=parameters.general.device)
    return PeaksAndTails(REGISTRY[name], getattr(parameters, DETECTOR_BLOCKS[name]), resources)
