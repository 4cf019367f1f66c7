"""Detection of cosmic rays in single images: median2d, mean2d and each exposure."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from crdetect.detectors import make_detector
from crdetect.equality import by_value
from crdetect.equivalence.observation import Observation, Progress
from crdetect.noise import Noise
from crdetect.parameters import Parameters
from crdetect.resources import Resources

_logger = logging.getLogger(__name__)


@by_value
@dataclass(frozen=True)
class DetectorHits:
    """Pixels that the detector of one image flagged in each image, and the cleaned images.

    Attributes
    ----------
    median, mean : (rows, columns) arrays of bool
        Pixels flagged in median2d and mean2d.
    exposures : list of N (rows, columns) arrays of bool
        Pixels flagged in each exposure.
    auxclean : (rows, columns) array of float32
        The median with its flagged pixels replaced, ADU.
    clean_exposures : list of N (rows, columns) arrays of float32 or None
        The exposures with their flagged pixels replaced, ADU; None if they are not needed.
    """

    median: np.ndarray
    mean: np.ndarray
    exposures: list[np.ndarray]
    auxclean: np.ndarray
    clean_exposures: list[np.ndarray | None]

    @cached_property
    def anywhere(self) -> np.ndarray:
        """Return the pixels flagged in the median or in any exposure, (rows, columns) of bool."""
        return np.logical_or.reduce([self.median, *self.exposures])


def detect_in_each_image(
    observation: Observation,
    parameters: Parameters,
    resources: Resources,
    progress: Progress,
) -> DetectorHits:
    """Run the detector that ``crmethod`` names on median2d, mean2d and every exposure.

    If it names no detector, no pixel is flagged.

    Parameters
    ----------
    observation : Observation
        The exposures.
    parameters : Parameters
        The parameters of the run.
    resources : Resources
        Processors that may be used; the result does not depend on them.
    progress : callable
        Called with the name of each step as it begins.
    """
    detector = make_detector(parameters, resources)
    statistics = observation.statistics
    keep_clean = parameters.general.criterion == "mm" and parameters.mm.uses_clean_exposures
    images = {"median2d": statistics.median2d, "mean2d": statistics.mean2d}
    images |= {f"exposure {i}": image for i, image in enumerate(observation.stack.exposures, 1)}
    noises = [observation.typical_noise, observation.typical_noise, *observation.noises]

    def run(item: tuple[str, np.ndarray, Noise]) -> tuple[np.ndarray, np.ndarray | None]:
        name, image, noise = item
        if parameters.general.detector:
            progress(f"{parameters.general.detector} in {name}")
        result = detector.detect(image, noise)
        _logger.info("%s: the detector flags %d pixels", name, np.count_nonzero(result.mask))
        kept = name == "median2d" or (keep_clean and name != "mean2d")
        return result.mask, result.image_adu if kept else None

    across_images = Resources(1) if detector.divides_images else resources
    items = zip(images, images.values(), noises, strict=True)
    (median, auxclean), (mean, _), *rest = across_images.map(run, items)
    masks, cleaned = zip(*rest, strict=True)
    return DetectorHits(median, mean, list(masks), auxclean, list(cleaned))
