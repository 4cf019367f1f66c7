"""Criteria, which compare the values of a pixel in all exposures and flag outliers.

There are two criteria, the Median-Minimum diagram and joint detection; ``crmethod`` names one of
them or none. To add another one, write a class that satisfies `Criterion` and add it to `CRITERIA`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from crdetect.detectors.each_image import DetectorHits
from crdetect.equivalence.observation import Observation
from crdetect.joint.detection import find_jointly
from crdetect.mm.boundary import Boundary
from crdetect.mm.method import check_diagram, make_diagram
from crdetect.parameters import Parameters
from crdetect.resources import Resources
from crdetect.stack import Stack


class Criterion(Protocol):
    """A criterion that compares the values of a pixel in all exposures and flags outliers.

    Attributes
    ----------
    dilation : int
        Number of times that the flagged pixels are dilated by their 8 neighbours.
    """

    @property
    def dilation(self) -> int:
        """Dilation of the flagged pixels, in pixels."""

    def beyond_threshold(self, which: str | int) -> np.ndarray:
        """Return the pixels of an image that exceed min2d by more than the threshold.

        A feature of the detector of one image is dropped unless it contains such a pixel.

        Parameters
        ----------
        which : str or int
            The image: ``median2d``, ``mean2d``, or the index of an exposure.

        Returns
        -------
        (rows, columns) array of bool
        """

    def flag(self, which: str | int) -> np.ndarray:
        """Return the pixels of an image that are outliers, before any dilation.

        Parameters
        ----------
        which : str or int
            The image: ``median2d``, ``mean2d``, or the index of an exposure.

        Returns
        -------
        (rows, columns) array of bool
        """


@dataclass(frozen=True)
class Kind:
    """The functions that check the input of a criterion and make it.

    Attributes
    ----------
    step : str
        Name of the step that makes the criterion, which is shown as progress.
    check : callable
        Function of the stack and the parameters that raises InputError if they do not fit.
    compare : callable
        Function that makes the criterion from the observation, the hits of the detector of one
        image, the parameters, the resources, and the boundary of an earlier run or None.
    """

    step: str
    check: Callable[[Stack, Parameters], None]
    compare: Callable[
        [Observation, DetectorHits, Parameters, Resources, Boundary | None], Criterion
    ]


def _diagram(observation, hits, parameters, resources, boundary) -> Criterion:
    return make_diagram(observation, hits, parameters.mm, resources, boundary)


def _jointly(observation, _hits, parameters, resources, _boundary) -> Criterion:
    return find_jointly(observation, parameters.jt, resources)


CRITERIA: dict[str, Kind] = {
    "mm": Kind("making the Median-Minimum diagram", check_diagram, _diagram),
    "joint": Kind("joint detection", lambda _stack, _parameters: None, _jointly),
}
"""The criteria by their names in `Parameters.general.criterion`."""
