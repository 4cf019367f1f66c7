"""Detectors of cosmic rays in one image, by name."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from crdetect.detectors.base import Cleaned, Detector, NoDetector, PeaksAndTails
from crdetect.detectors.registry import REGISTRY
from crdetect.resources import ALL_PROCESSORS, Resources

if TYPE_CHECKING:  # crdetect.parameters imports the detectors
    from crdetect.parameters import Parameters

__all__ = [
    "REGISTRY",
    "Cleaned",
    "Detector",
    "NoDetector",
    "PeaksAndTails",
    "make_detector",
]


def make_detector(
    parameters: Parameters, resources: Resources = ALL_PROCESSORS
) -> PeaksAndTails | NoDetector:
    """Make the detector that ``crmethod`` names.

    Parameters
    ----------
    parameters : Parameters
        Method, thresholds of the detector, and the device of networks.
    resources : Resources, optional
        Processors that the detector may use.

    Returns
    -------
    PeaksAndTails or NoDetector
        The detector; `NoDetector` if ``crmethod`` names a criterion alone.
    """
    name = parameters.general.detector
    if name is None:
        return NoDetector()
    kind = REGISTRY[name]
    resources = replace(resources, device=parameters.general.device)
    return PeaksAndTails(kind, parameters.block(kind.block.prefix), resources)
