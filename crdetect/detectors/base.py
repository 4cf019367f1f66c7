"""What a detector of cosmic rays in one image is, and the rule of peaks and tails."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from crdetect.detectors.fill import fill_missing
from crdetect.masks import features_touching
from crdetect.noise import Noise
from crdetect.parameters import Block

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Cleaned:
    """What a detector gives for one image.

    Attributes
    ----------
    mask : (rows, columns) array of bool
        True where a cosmic ray is.
    image_adu : (rows, columns) array of float32
        The image with cosmic rays replaced.
    """

    mask: np.ndarray
    image_adu: np.ndarray


class Detector(Protocol):
    """A detector of cosmic rays in one image.

    Attributes
    ----------
    limits : tuple of str
        Parameters that take one value or two, for peaks and tails.
    parameters : Block
        The block of parameters, with one value for each limit.
    """

    limits: tuple[str, ...]
    parameters: Block

    def __init__(self, parameters: Block): ...

    def detect(self, image_adu: np.ndarray, noise: Noise) -> Cleaned:
        """Find and clean the cosmic rays of one image.

        Parameters
        ----------
        image_adu : (rows, columns) array of float32
            Bias removed, finite everywhere.
        noise : Noise
            Gain and read noise.

        Returns
        -------
        Cleaned
            Mask, and image in ADU with the masked pixels replaced.
        """
        ...


class PeaksAndTails:
    """A detector that runs twice where its limits are pairs.

    The second run goes deeper; a feature of it is kept where it holds a pixel of the first. The
    cleaned image is the second run's.

    Parameters
    ----------
    kind : type of Detector
        The detector.
    parameters : Block
        Its block of parameters.
    """

    def __init__(self, kind: type[Detector], parameters: Block):
        runs = [{}, {}]
        for name in kind.limits:
            value = getattr(parameters, name)
            pair = value if isinstance(value, tuple) else (value, value)
            for run, limit in zip(runs, pair, strict=True):
                run[name] = limit
        if runs[0] == runs[1]:
            runs.pop()
        self.runs = [kind(parameters.model_copy(update=run)) for run in runs]

    def detect(self, image_adu: np.ndarray, noise: Noise) -> Cleaned:
        """Find and clean the cosmic rays of one image.

        Parameters
        ----------
        image_adu : (rows, columns) array of float32
            Bias removed. Missing values (NaN) are filled for the detector and never flagged.
        noise : Noise
            Gain and read noise.
        """
        finite = fill_missing(image_adu)
        results = [run.detect(finite, noise) for run in self.runs]
        mask = results[-1].mask
        if len(results) == 2:
            mask = features_touching(mask, results[0].mask)
        return Cleaned(mask & ~np.isnan(image_adu), results[-1].image_adu)


class NoDetector:
    """The detector of ``mmcosmic`` alone: finds nothing, changes nothing."""

    def detect(self, image_adu: np.ndarray, noise: Noise) -> Cleaned:  # noqa: ARG002
        """Return an empty mask and the image with missing values filled."""
        return Cleaned(np.zeros(image_adu.shape, bool), fill_missing(image_adu))
