"""Joint detection: the hits of all exposures, and what they make of the median."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crdetect.equivalence.model import ExposureModel, electrons, read_variance_e2
from crdetect.joint.hits import Thresholds, find_hits
from crdetect.noise import Noise
from crdetect.parameters import Joint
from crdetect.resources import ALL_PROCESSORS, Resources
from crdetect.stack import Stack, Statistics


@dataclass(frozen=True)
class JointHits:
    """What joint detection found.

    Attributes
    ----------
    crmasks : (N, rows, columns) array of bool
        Hits of each exposure.
    mediancr : (rows, columns) array of bool
        Pixels hit at least c times.
    limit_adu : (rows, columns) array of float32
        How far above the lowest value an isolated hit is.
    """

    crmasks: np.ndarray
    mediancr: np.ndarray
    limit_adu: np.ndarray


def find_jointly(
    stack: Stack,
    statistics: Statistics,
    noise: Noise,
    exposure_model: ExposureModel,
    parameters: Joint,
    resources: Resources = ALL_PROCESSORS,
) -> JointHits:
    """Find the hits of all exposures.

    Parameters
    ----------
    stack, statistics : Stack, Statistics
        The exposures.
    noise : Noise
        Gain and read noise.
    exposure_model : ExposureModel
        What makes the exposures differ.
    parameters : Joint
        Thresholds.
    resources : Resources, optional
        What may be used; the result does not depend on it.
    """
    level = exposure_model.matched.level(electrons(stack, noise))
    rnoise2 = read_variance_e2(noise)
    if parameters.jt_strong is None:
        thresholds = Thresholds.for_false_alarms(parameters.jt_false_alarms, parameters.jt_weak)
    else:
        thresholds = Thresholds(parameters.jt_strong, parameters.jt_weak)
    present = None if stack.complete else ~np.isnan(stack.exposures)
    crmasks = find_hits(level, present, rnoise2, exposure_model.inflation, thresholds, resources)
    lowest = np.minimum.reduce(level)
    sigma = np.sqrt((np.maximum(lowest, 0) + rnoise2) * exposure_model.inflation)
    often = crmasks.sum(axis=0, dtype=np.uint8) >= statistics.coincidences
    often[often] = _height(level[:, often], crmasks[:, often], statistics.coincidences) > (
        np.float32(parameters.jt_coincidence) * sigma[often]
    )
    limit = np.float32(np.sqrt(2) * thresholds.strong) * sigma / np.float32(noise.gain)
    return JointHits(crmasks, often, limit)


def _height(level: np.ndarray, hit: np.ndarray, coincidences: int) -> np.ndarray:
    """How far the c-th highest hit of each pixel is above the highest clean value."""
    hits = np.sort(np.where(hit, level, -np.inf), axis=0)[-coincidences]
    return hits - np.where(hit, -np.inf, level).max(axis=0)
