"""Which pixels the Median-Minimum diagram flags."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crdetect.equality import by_value
from crdetect.mm.boundary import Boundary
from crdetect.mm.parameters import MM
from crdetect.noise import Noise
from crdetect.stack import Statistics, for_row_blocks


@by_value
@dataclass(frozen=True)
class DiagramCriterion:
    """The conditions on a pixel.

    Attributes
    ----------
    boundary : Boundary
        Of y = image − min2d against x = min2d.
    threshold_adu : float or (rows, columns) array
        Least y.
    least_max_adu : float or (rows, columns) array
        Least max2d.
    """

    boundary: Boundary
    threshold_adu: float | np.ndarray
    least_max_adu: float | np.ndarray

    @classmethod
    def make(cls, boundary: Boundary, noise: Noise, parameters: MM) -> DiagramCriterion:
        """Put the parameters in ADU."""
        threshold = parameters.mm_threshold
        if threshold is None:
            threshold = (parameters.mm_threshold_rnoise or 0.0) * noise.rnoise_adu
        return cls(boundary, threshold, parameters.mm_minimum_max2d_rnoise * noise.rnoise_adu)

    def beyond_threshold(self, image_adu: np.ndarray, statistics: Statistics) -> np.ndarray:
        """Tell where an image exceeds the minimum by more than the threshold."""
        return image_adu - statistics.min2d > self.threshold_adu

    def candidates(self, image_adu: np.ndarray, statistics: Statistics) -> np.ndarray:
        """Tell where an image meets all conditions but that on the boundary."""
        bright = (statistics.max2d > self.least_max_adu) & statistics.detectable
        return self.beyond_threshold(image_adu, statistics) & bright

    def flag(self, image_adu: np.ndarray, statistics: Statistics) -> np.ndarray:
        """Flag the pixels of median2d, mean2d or one exposure that meet all conditions.

        Returns
        -------
        (rows, columns) array of bool
        """
        candidates = self.candidates(image_adu, statistics)

        def flag_rows(rows: slice) -> None:
            some = candidates[rows]  # a view
            x = statistics.min2d[rows][some]
            some[some] = image_adu[rows][some] - x > self.boundary(x)

        for_row_blocks(flag_rows, candidates.shape)
        return candidates
