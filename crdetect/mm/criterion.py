"""The thresholds by which the Median-Minimum diagram flags pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crdetect.equality import by_value
from crdetect.mm.boundary import Boundary
from crdetect.mm.parameters import MM
from crdetect.noise import Noise
from crdetect.resources import ALL_PROCESSORS, Resources
from crdetect.stack import Statistics, for_row_blocks


@by_value
@dataclass(frozen=True)
class DiagramCriterion:
    """The boundary and the thresholds that a flagged pixel exceeds.

    Attributes
    ----------
    boundary : Boundary
        Threshold of y = image − min2d as a function of x = min2d, both in ADU.
    threshold_adu : float or (rows, columns) array
        Threshold of y, ADU.
    minimum_max2d_adu : float or (rows, columns) array
        Threshold of max2d, ADU.
    """

    boundary: Boundary
    threshold_adu: float | np.ndarray
    minimum_max2d_adu: float | np.ndarray

    @classmethod
    def make(cls, boundary: Boundary, noise: Noise, mm: MM) -> DiagramCriterion:
        """Convert the thresholds from units of the read noise to ADU."""
        threshold = mm.mm_threshold
        if threshold is None:
            threshold = (mm.mm_threshold_rnoise or 0.0) * noise.rnoise_adu
        return cls(boundary, threshold, mm.mm_minimum_max2d_rnoise * noise.rnoise_adu)

    def beyond_threshold(self, image_adu: np.ndarray, statistics: Statistics) -> np.ndarray:
        """Return the pixels at which an image exceeds min2d by more than the threshold."""
        return image_adu - statistics.min2d > self.threshold_adu

    def candidates(self, image_adu: np.ndarray, statistics: Statistics) -> np.ndarray:
        """Return the pixels that exceed all thresholds, whether above the boundary or not."""
        bright = (statistics.max2d > self.minimum_max2d_adu) & statistics.detectable
        return self.beyond_threshold(image_adu, statistics) & bright

    def flag(
        self,
        image_adu: np.ndarray,
        statistics: Statistics,
        resources: Resources = ALL_PROCESSORS,
    ) -> np.ndarray:
        """Flag the pixels of an image that are above the boundary and exceed all thresholds.

        Parameters
        ----------
        image_adu : (rows, columns) array
            The image: median2d, mean2d or one exposure, ADU.
        statistics : Statistics
            Statistics of the exposures.
        resources : Resources, optional
            Computing resources; the result does not depend on them.

        Returns
        -------
        (rows, columns) array of bool
            True where a pixel is flagged.
        """
        candidates = self.candidates(image_adu, statistics)

        def flag_rows(rows: slice) -> None:
            some = candidates[rows]  # a view: what is assigned below changes the candidates
            x = statistics.min2d[rows][some]
            some[some] = image_adu[rows][some] - x > self.boundary(x)

        for_row_blocks(flag_rows, candidates.shape, resources)
        return candidates
