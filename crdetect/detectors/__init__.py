"""Detectors of cosmic rays in one image, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crdetect.detectors.base import Cleaned, Detector, NoDetector, PeaksAndTails, Resources
from crdetect.detectors.registry import REGISTRY

if TYPE_CHECKING:  # the parameters know the detectors
    from crdetect.parameters import Parameters

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
    kind = REGISTRY[name]
    resources = Resources(workers, parameters.general.device)
    return PeaksAndTails(kind, parameters.block(kind.block.prefix), resources)
