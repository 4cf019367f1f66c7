"""The seven combinations of the exposures, with their variance and the number of values used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from crdetect.detectors.fill import median_around
from crdetect.errors import InputError
from crdetect.masks import Masks, pixel_mask
from crdetect.noise import Noise
from crdetect.stack import Stack, Statistics, for_row_blocks

COMBINATIONS = ("mean", "median", "min", "mediancr", "meancrt", "meancr", "meancr2")
"""Names of the combinations."""

MASKED = ("mediancr", "meancrt", "meancr", "meancr2")
"""Those that make use of masks."""

LocalMedian = tuple[int, int, int, int]
"""A pixel to be replaced by a local median: x, y (FITS), width in x, width in y."""


@dataclass(frozen=True)
class Combination:
    """A combined image; all arrays are (rows, columns).

    Attributes
    ----------
    value : array of float32
        ADU; NaN where no exposure has a value.
    variance : array of float32
        ADU². Sample variance (ddof 1) of the values used; where one value is used, or put in
        from the pixels around, max(value, 0)/gain + rnoise².
    count : array of int16
        How many exposures the value comes from: 1 for a value put in, 0 for a missing one.
    """

    value: np.ndarray
    variance: np.ndarray
    count: np.ndarray

    def replaced(self, mask: np.ndarray, other: Combination) -> Combination:
        """Take the pixels of a mask from another combination."""
        return Combination(
            np.where(mask, other.value, self.value),
            np.where(mask, other.variance, self.variance),
            np.where(mask, other.count, self.count),
        )


def combine(
    stack: Stack,
    statistics: Statistics,
    masks: Masks,
    noise: Noise,
    auxclean: np.ndarray | None = None,
    local_medians: Sequence[LocalMedian] | None = None,
) -> dict[str, Combination]:
    """Combine the exposures in seven ways.

    Parameters
    ----------
    stack : Stack
        The exposures.
    statistics : Statistics
        Of that stack.
    masks : Masks
        What was detected.
    noise : Noise
        Gain and read noise.
    auxclean : (rows, columns) array of float32, optional
        Takes the place of min2d in masked pixels (``use_auxmedian``), ADU.
    local_medians : sequence of (x, y, width in x, width in y), optional
        Pixels replaced by the median of the box around them, in the combinations with masks.

    Returns
    -------
    dict of Combination
        By the names in `COMBINATIONS`.

    Raises
    ------
    InputError
        If the masks do not fit the stack.
    """
    check_masks(stack, masks)
    combiner = Combiner(stack, statistics, noise)
    minimum = combiner.minimum()
    filling = minimum if auxclean is None else combiner.interpolated(auxclean)
    mean, median = combiner.mean(), combiner.median()
    mediancr = median.replaced(masks.mediancr, filling)
    meancr = combiner.masked_mean(masks.crmasks, filling)
    combined = {
        "mean": mean,
        "median": median,
        "min": minimum,
        "mediancr": mediancr,
        "meancrt": mean.replaced(masks.meancrt, mediancr),
        "meancr": meancr,
        "meancr2": meancr.replaced(masks.meancr, filling),
    }
    for name in MASKED if local_medians else ():
        combined[name] = combiner.with_local_medians(combined[name], local_medians)
    return combined


def check_masks(stack: Stack, masks: Masks) -> None:
    """Raise InputError unless the masks have the stack's number of exposures and shape."""
    if masks.crmasks.shape != stack.exposures.shape:
        n, *shape = masks.crmasks.shape
        raise InputError(
            f"the masks are for {n} exposures of shape {tuple(shape)}, "
            f"the exposures are {len(stack)} of shape {stack.shape}"
        )


@dataclass(frozen=True)
class Combiner:
    """Makes combinations of one stack."""

    stack: Stack
    statistics: Statistics
    noise: Noise

    def mean(self) -> Combination:
        """Mean of all values."""
        s = self.statistics
        return self._with_sample_variance(s.mean2d, None)

    def median(self) -> Combination:
        """Median of all values."""
        return self._with_sample_variance(self.statistics.median2d, None)

    def minimum(self) -> Combination:
        """Mean of the N − c lowest values."""
        s = self.statistics
        count = np.minimum(np.maximum(s.count2d - s.coincidences, 1), s.count2d)
        if (count <= 1).all():
            return Combination(s.min2d, self.noise.variance_adu2(s.min2d), count.astype(np.int16))
        ordered = np.sort(self.stack.exposures, axis=0)
        # by rank, not by value: of equal values only some are used
        above = np.arange(len(ordered))[:, np.newaxis, np.newaxis] >= count
        return self._with_sample_variance(s.min2d, above, ordered)

    def interpolated(self, image_adu: np.ndarray) -> Combination:
        """Values put in from the pixels around, where there is any exposure."""
        present = self.statistics.count2d > 0
        value = np.where(present, image_adu, np.float32(np.nan))
        return Combination(value, self.noise.variance_adu2(value), present.astype(np.int16))

    def masked_mean(self, crmasks: np.ndarray, filling: Combination) -> Combination:
        """Mean of the exposures without a cosmic ray, and the filling where all have one."""
        value = np.empty(self.stack.shape, np.float32)

        def mean_rows(rows: slice) -> None:
            data = self.stack.exposures[:, rows]
            used = ~crmasks[:, rows] & ~np.isnan(data)
            total = np.sum(data, axis=0, dtype=np.float64, where=used)
            with np.errstate(invalid="ignore"):
                value[rows] = total / used.sum(axis=0)

        for_row_blocks(mean_rows, self.stack.shape)
        mean = self._with_sample_variance(value, crmasks)
        return mean.replaced((mean.count == 0) & (self.statistics.count2d > 0), filling)

    def _with_sample_variance(
        self, value: np.ndarray, left_out: np.ndarray | None, planes: np.ndarray | None = None
    ) -> Combination:
        """Add the sample variance of the values (the exposures') that are not left out."""
        planes = self.stack.exposures if planes is None else planes
        variance = np.empty(value.shape, np.float32)
        count = np.empty(value.shape, np.int16)

        def variance_of_rows(rows: slice) -> None:
            data = planes[:, rows]
            used = ~np.isnan(data)
            if left_out is not None:
                used &= ~left_out[:, rows]
            n = used.sum(axis=0)
            mean = np.sum(data, axis=0, dtype=np.float64, where=used) / np.maximum(n, 1)
            square = np.square(data - mean)
            sample = np.sum(square, axis=0, where=used) / np.maximum(n - 1, 1)
            model = self.noise.select(rows).variance_adu2(value[rows])
            variance[rows] = np.where(n > 1, sample, model)
            count[rows] = n

        for_row_blocks(variance_of_rows, value.shape)
        return Combination(value, variance, count)

    def with_local_medians(self, image: Combination, boxes: Sequence[LocalMedian]) -> Combination:
        """Replace pixels by the median of the others in the box around them."""
        chosen = pixel_mask(
            [box[:2] for box in boxes], image.value.shape, "pixels_to_be_replaced_by_local_median"
        )
        x, y, width_x, width_y = np.array(boxes).T
        value = image.value.copy()
        for half_x, half_y in set(zip(width_x // 2, width_y // 2, strict=True)):
            same = (width_x // 2 == half_x) & (width_y // 2 == half_y)
            rows, columns = y[same] - 1, x[same] - 1
            value[rows, columns] = median_around(image.value, rows, columns, half_y, half_x)
        # where the box holds nothing else, the pixel stays
        return image.replaced(chosen & ~np.isnan(value), self.interpolated(value))
