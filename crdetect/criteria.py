"""Criteria: what compares the exposures of a pixel with each other.

There are two, the Median-Minimum diagram and joint detection; ``crmethod`` names one of them or
none. To add another, write a class that satisfies `Criterion` and put it into `CRITERIA`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from crdetect.detectors import Resources
from crdetect.detectors.each_image import DetectorHits
from crdetect.equivalence.observation import Observation
from crdetect.joint.detection import find_jointly
from crdetect.mm.boundary import Boundary
from crdetect.mm.method import check_diagram, make_diagram
from crdetect.parameters import Parameters
from crdetect.stack import Stack


class Criterion(Protocol):
    """What compares the exposures of a pixel with each other, and flags outliers.

    Attributes
    ----------
    dilation : int
        How many times the flagged pixels are dilated by their 8 neighbours.
    """

    @property
    def dilation(self) -> int:
        """Dilation of what is flagged, in pixels."""

    def beyond_threshold(self, which: str | int) -> np.ndarray:
        """Pixels of an image that exceed the lowest exposure by more than the threshold.

        A feature of the detector of one image is dropped unless it holds such a pixel.

        Parameters
        ----------
        which : str or int
            ``median2d``, ``mean2d``, or the index of an exposure.

        Returns
        -------
        (rows, columns) array of bool
        """

    def flag(self, which: str | int) -> np.ndarray:
        """Pixels of an image that are outliers, before any dilation.

        Parameters
        ----------
        which : str or int
            ``median2d``, ``mean2d``, or the index of an exposure.

        Returns
        -------
        (rows, columns) array of bool
        """


@dataclass(frozen=True)
class Kind:
    """How a criterion is made.

    Attributes
    ----------
    step : str
        What is done, shown as progress.
    check : callable
        Takes the stack and the parameters; raises InputError where they do not go together.
    compare : callable
        Makes the criterion from the observation, the detector's hits, the parameters, the
        resources, and the boundary of an earlier run or None.
    """

    step: str
    check: Callable[[Stack, Parameters], None]
    compare: Callable[
        [Observation, DetectorHits, Parameters, Resources, Boundary | None], Criterion
    ]


def _diagram(observation, hits, parameters, resources, boundary) -> Criterion:
    return make_diagram(observation, hits, parameters.mm, resources.workers, boundary)


def _jointly(observation, _hits, parameters, _resources, _boundary) -> Criterion:
    return find_jointly(observation, parameters.jt)


CRITERIA: dict[str, Kind] = {
    "mm": Kind("making the Median-Minimum diagram", check_diagram, _diagram),
    "joint": Kind("joint detection", lambda _stack, _parameters: None, _jointly),
}
"""The criteria by the names that `Parameters.general.criterion` has for them."""
