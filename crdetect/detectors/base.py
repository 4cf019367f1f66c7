"""Base class of the detectors of cosmic rays in one image, and hysteresis thresholds for them."""

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
    """Result of a detector for one image: the mask of cosmic rays, and the cleaned image.

    Attributes
    ----------
    mask : (rows, columns) array of bool
        True at pixels that a cosmic ray hit.
    image_adu : (rows, columns) array of float32
        The image with the masked pixels replaced, ADU.
    """

    mask: np.ndarray
    image_adu: np.ndarray


class Detector(ABC):
    """A detector of cosmic rays in one image.

    Parameters
    ----------
    parameters : Block
        Parameters of the detector, with a single value for each threshold in `limits`.
    resources : Resources
        Processors that may be used; the result does not depend on them.

    Attributes
    ----------
    block : type of Block
        Class of the parameters: their prefix, names, kinds, defaults and descriptions.
    limits : tuple of str
        Names of the thresholds that may be given as a pair, for peaks and for tails
        (`PeaksAndTails`).
    least_size_px : int
        Minimum number of rows and of columns of an image.
    divides_images : bool
        Whether the detector works on pieces of one image in several threads. The images are then
        given to it one after the other; otherwise each thread works on an image.
    """

    block: ClassVar[type[Block]]
    limits: ClassVar[tuple[str, ...]] = ()
    # the filters need 5 × 5 pixels; astroscrappy crashes on smaller images
    least_size_px: ClassVar[int] = 5
    divides_images: ClassVar[bool] = False

    def __init__(self, parameters: Block, resources: Resources = ALL_PROCESSORS):
        self.parameters = parameters
        self.resources = resources

    def check(self, shape: tuple[int, int]) -> None:
        """Check that the detector can run on images of this shape.

        Parameters
        ----------
        shape : tuple of int
            Rows and columns.

        Raises
        ------
        InputError
            If the images are too small, or the detector is not installed.
        """
        least = self.least_size_px
        if min(shape) < least:
            raise InputError(
                f"exposures of {shape[0]} × {shape[1]} pixels are too small for "
                f"{self.parameters.title}: at least {least} × {least}"
            )

    @abstractmethod
    def detect(self, image_adu: np.ndarray, noise: Noise) -> Cleaned:
        """Mask the cosmic rays of one image, and replace the masked pixels.

        Parameters
        ----------
        image_adu : (rows, columns) array of float32
            The image, ADU, bias subtracted, without missing values.
        noise : Noise
            Gain (e/ADU) and read noise (ADU).

        Returns
        -------
        Cleaned
            The mask, and the cleaned image in ADU.
        """

    @classmethod
    def detect_in_runs(
        cls, runs: Sequence[Self], image_adu: np.ndarray, noise: Noise
    ) -> list[Cleaned]:
        """Run detectors that differ in their thresholds only on the same image.

        A detector whose main work does not depend on the thresholds overrides this method, in order
        to do that work only once.

        Parameters
        ----------
        runs : sequence of Detector
            The detectors.
        image_adu : (rows, columns) array of float32
            The image; see `detect`.
        noise : Noise
            Gain (e/ADU) and read noise (ADU).

        Returns
        -------
        list of Cleaned
            The result of each detector.
        """
        return [run.detect(image_adu, noise) for run in runs]


class PeaksAndTails:
    """Detector with hysteresis: high thresholds find the peaks of cosmic rays, low ones the tails.

    The detector runs twice if a threshold is given as a pair. A feature of the second run, with the
    low thresholds, is kept if at least one of its pixels was flagged in the first run. The cleaned
    image is that of the second run.

    Parameters
    ----------
    kind : type of Detector
        Class of the detector.
    parameters : Block
        Its parameters.
    resources : Resources
        Processors that may be used; the result does not depend on them.
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
        """Whether the detector works on pieces of one image in several threads; see `Detector`."""
        return self.kind.divides_images

    def check(self, shape: tuple[int, int]) -> None:
        """Check that the detector can run on images of this shape; see `Detector.check`."""
        self.runs[0].check(shape)

    def detect(self, image_adu: np.ndarray, noise: Noise) -> Cleaned:
        """Mask the cosmic rays of one image, and replace the masked pixels.

        Parameters
        ----------
        image_adu : (rows, columns) array of float32
            The image, ADU, bias subtracted. Missing values (NaN) are filled for the detector and
            never flagged.
        noise : Noise
            Gain (e/ADU) and read noise (ADU).

        Returns
        -------
        Cleaned
            The mask, and the cleaned image in ADU.
        """
        finite = fill_missing(image_adu)
        with self.resources.bounded():
            results = self.kind.detect_in_runs(self.runs, finite, noise)
        mask = results[-1].mask
        if len(results) == 2:
            mask = features_touching(mask, results[0].mask)
        return Cleaned(mask & ~np.isnan(image_adu), results[-1].image_adu)


class NoDetector:
    """Detector that flags no pixel, for a ``crmethod`` that names a criterion alone."""

    divides_images = False

    def check(self, shape: tuple[int, int]) -> None:
        """Accept images of any shape."""

    def detect(self, image_adu: np.ndarray, noise: Noise) -> Cleaned:  # noqa: ARG002
        """Return an empty mask, and the image with its missing values filled."""
        return Cleaned(np.zeros(image_adu.shape, bool), fill_missing(image_adu))
