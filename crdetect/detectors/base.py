"""What a detector of cosmic rays in one image is, and the rule of peaks and tails."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from crdetect.equality import by_value
from crdetect.errors import InputError
from crdetect.fill import fill_missing
from crdetect.masks import features_touching
from crdetect.noise import Noise
from crdetect.resources import ALL_PROCESSORS, Resources
from crdetect.schema.block import Block

_logger = logging.getLogger(__name__)


@by_value
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


class Detector(ABC):
    """A detector of cosmic rays in one image.

    Parameters
    ----------
    parameters : Block
        The block of parameters, with one value for each limit.
    resources : Resources
        What it may use.

    Attributes
    ----------
    block : type of Block
        The block of its parameters: their prefix, names, kinds, defaults and descriptions.
    limits : tuple of str
        Parameters that take one value or two, for peaks and tails.
    least_size_px : int
        Rows and columns that an image must have.
    divides_images : bool
        Whether it works on pieces of one image in threads of its own. Images then come one after
        the other; else each thread works on an image.
    """

    block: ClassVar[type[Block]]
    limits: ClassVar[tuple[str, ...]] = ()
    least_size_px: ClassVar[int] = 5  # the filters; astroscrappy crashes below
    divides_images: ClassVar[bool] = False

    def __init__(self, parameters: Block, resources: Resources = ALL_PROCESSORS):
        self.parameters = parameters
        self.resources = resources

    def check(self, shape: tuple[int, int]) -> None:
        """Raise InputError if the detector cannot work on images of this shape, or not here."""
        least = self.least_size_px
        if min(shape) < least:
            raise InputError(
                f"exposures of {shape[0]} × {shape[1]} pixels are too small for "
                f"{self.parameters.title}: at least {least} × {least}"
            )

    @abstractmethod
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

    @classmethod
    def detect_in_runs(
        cls, runs: Sequence[Self], image_adu: np.ndarray, noise: Noise
    ) -> list[Cleaned]:
        """Let several detectors, which differ in their limits only, work on the same image.

        Where most of the work does not depend on the limits, a detector does it once, here.
        """
        return [run.detect(image_adu, noise) for run in runs]


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
    resources : Resources
        What it may use.
    """

    def __init__(
        self,
        kind: type[Detector],
        parameters: Block,
        resources: Resources = ALL_PROCESSORS,
    ):
        runs: list[dict[str, Any]] = [{}, {}]
        for name in kind.limits:
            value = getattr(parameters, name)
            pair = value if isinstance(value, tuple) else (value, value)
            for run, limit in zip(runs, pair, strict=True):
                run[name] = limit
        if runs[0] == runs[1]:
            runs.pop()
        self.kind = kind
        self.resources = resources
        self.runs = [kind(parameters.model_copy(update=run), resources) for run in runs]

    @property
    def divides_images(self) -> bool:
        """Whether it works on pieces of one image in threads of its own; see `Detector`."""
        return self.kind.divides_images

    def check(self, shape: tuple[int, int]) -> None:
        """Raise InputError if the detector cannot work on images of this shape, or not here."""
        self.runs[0].check(shape)

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
        with self.resources.bounded():
            results = self.kind.detect_in_runs(self.runs, finite, noise)
        mask = results[-1].mask
        if len(results) == 2:
            mask = features_touching(mask, results[0].mask)
        return Cleaned(mask & ~np.isnan(image_adu), results[-1].image_adu)


class NoDetector:
    """The detector of ``mmcosmic`` alone: finds nothing, changes nothing."""

    divides_images = False

    def check(self, shape: tuple[int, int]) -> None:
        """Accept any shape."""

    def detect(self, image_adu: np.ndarray, noise: Noise) -> Cleaned:  # noqa: ARG002
        """Return an empty mask and the image with missing values filled."""
        return Cleaned(np.zeros(image_adu.shape, bool), fill_missing(image_adu))
