"""Joint detection: the hits of all exposures, and the pixels whose median they spoil."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crdetect.equality import by_value
from crdetect.equivalence.model import electrons, read_variance_e2
from crdetect.equivalence.observation import Observation
from crdetect.joint.hits import Thresholds, find_hits
from crdetect.joint.parameters import Joint
from crdetect.resources import ALL_PROCESSORS, Resources


@by_value
@dataclass(frozen=True)
class JointHits:
    """Hits found by joint detection: a criterion (`crdetect.criteria.Criterion`).

    Attributes
    ----------
    observation : Observation
        The exposures.
    crmasks : (N, rows, columns) array of bool
        Hits of each exposure.
    mediancr : (rows, columns) array of bool
        Pixels hit in at least c exposures, high enough above the values that are not hit.
    limit_adu : (rows, columns) array of float32
        Threshold of an isolated hit above the lowest value of the pixel, ADU.
    """

    observation: Observation
    crmasks: np.ndarray
    mediancr: np.ndarray
    limit_adu: np.ndarray

    @property
    def dilation(self) -> int:
        """0: a hit's neighbours were looked at already."""
        return 0

    def beyond_threshold(self, which: str | int) -> np.ndarray:
        """Pixels of an image so far above the minimum that an isolated hit would be found."""
        minimum = self.observation.statistics.min2d
        return self.observation.image(which) - minimum > self.limit_adu

    def flag(self, which: str | int) -> np.ndarray:
        """Pixels of an image that were hit: in the mean, in any exposure."""
        if which == "median2d":
            return self.mediancr
        if which == "mean2d":
            return np.logical_or.reduce(self.crmasks)
        return self.crmasks[int(which)]


def find_jointly(
    observation: Observation, parameters: Joint, resources: Resources = ALL_PROCESSORS
) -> JointHits:
    """Find the hits of all exposures and the pixels hit at least c times.

    Parameters
    ----------
    observation : Observation
        The exposures, with their exposure model.
    parameters : Joint
        Thresholds: jt_false_alarms or jt_strong, jt_weak, jt_coincidence.
    resources : Resources, optional
        What may be used; the result does not depend on it.
    """
    stack, noise, model = observation.stack, observation.noise, observation.exposure_model
    if model is None:
        raise ValueError("joint detection needs the exposure model of the observation")
    coincidences = observation.statistics.coincidences
    level = model.matched.level(electrons(stack, noise))
    rnoise2 = read_variance_e2(noise)
    if parameters.jt_strong is None:
        thresholds = Thresholds.for_false_alarms(parameters.jt_false_alarms, parameters.jt_weak)
    else:
        thresholds = Thresholds(parameters.jt_strong, parameters.jt_weak)
    present = None if stack.complete else ~np.isnan(stack.exposures)
    crmasks = find_hits(level, present, rnoise2, model.inflation, thresholds, resources)
    lowest = np.minimum.reduce(level)
    sigma = np.sqrt((np.maximum(lowest, 0) + rnoise2) * model.inflation)
    often = crmasks.sum(axis=0, dtype=np.uint8) >= coincidences
    often[often] = _height(level[:, often], crmasks[:, often], coincidences) > (
        np.float32(parameters.jt_coincidence) * sigma[often]
    )
    limit = np.float32(np.sqrt(2) * thresholds.strong) * sigma / np.float32(noise.gain)
    return JointHits(observation, crmasks, often, limit)


def _height(level: np.ndarray, hit: np.ndarray, coincidences: int) -> np.ndarray:
    """Return the excess of each pixel's c-th highest hit over its highest unaffected value."""
    hits = np.sort(np.where(hit, level, -np.inf), axis=0)[-coincidences]
    return hits - np.where(hit, -np.inf, level).max(axis=0)
