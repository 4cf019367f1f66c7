"""The seven combinations of the exposures, with their variance and the number of values used."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from crdetect.equality import by_value
from crdetect.errors import InputError
from crdetect.fill import median_around
from crdetect.masks import Masks, pixel_mask
from crdetect.noise import Noise
from crdetect.resources import ALL_PROCESSORS, Resources
from crdetect.stack import Stack, Statistics, for_row_blocks

COMBINATIONS = ("mean", "median", "min", "mediancr", "meancrt", "meancr", "meancr2")
"""Names of the combinations of the exposures."""

MASKED = ("mediancr", "meancrt", "meancr", "meancr2")
"""Names of the combinations that depend on masks."""

LocalMedian = tuple[int, int, int, int]
"""A pixel that is replaced by a local median: x, y (FITS) and the widths of the box in x and y."""


@by_value
@dataclass(frozen=True)
class Combination:
    """A combined image with its variance; all arrays are (rows, columns).

    Attributes
    ----------
    value : array of float32
        Combined value, ADU; NaN where no exposure has a value.
    variance : array of float32
        Sample variance (ddof 1) of the values that were combined, ADU². Where there is one value
        only, or the value was interpolated, it is max(value, 0)/gain + rnoise².
    count : array of int16
        Number of exposures that were combined: 1 for an interpolated value, 0 for a missing one.
    """

    value: np.ndarray
    variance: np.ndarray
    count: np.ndarray

    def replaced(self, mask: np.ndarray, other: Combination) -> Combination:
        """Return a copy with the pixels of a mask taken from another combination."""
        return self.with_pixels(mask, Combination(*(plane[mask] for plane in other.planes)))

    def with_pixels(self, mask: np.ndarray, pixels: Combination) -> Combination:
        """Return a copy in which the pixels of a mask are replaced.

        The new pixels are in the order of the image, rows first.
        """
        planes = [plane.copy() for plane in self.planes]
        for plane, values in zip(planes, pixels.planes, strict=True):
            plane[mask] = values
        return Combination(*planes)

    @property
    def planes(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Value, variance and count."""
        return self.value, self.variance, self.count


def combine(
    stack: Stack,
    statistics: Statistics,
    masks: Masks,
    noise: Noise | Sequence[Noise],
    auxclean: np.ndarray | None = None,
    local_medians: Sequence[LocalMedian] | None = None,
    resources: Resources = ALL_PROCESSORS,
) -> dict[str, Combination]:
    """Combine the exposures in seven ways.

    Parameters
    ----------
    stack : Stack
        The exposures.
    statistics : Statistics
        Statistics of the same exposures.
    masks : Masks
        Pixels with cosmic rays.
    noise : Noise or sequence of N Noise
        Gain and read noise: one for all exposures, or one for each if they were divided by flux
        factors.
    auxclean : (rows, columns) array of float32, optional
        Image that replaces min2d as the filling of masked pixels (``use_auxmedian``), ADU.
    local_medians : sequence of (x, y, width in x, width in y), optional
        Pixels that are replaced, in the combinations that depend on masks, by the median of the
        box around them.
    resources : Resources, optional
        Computing resources; the result does not depend on them.

    Returns
    -------
    dict of Combination
        The combinations by their names in `COMBINATIONS`.

    Raises
    ------
    InputError
        If the masks do not fit the stack.
    """
    check_masks(stack, masks)
    combiner = Combiner(stack, statistics, noise, resources)
    mean, median, minimum = combiner.mean, combiner.median, combiner.minimum
    filling = minimum if auxclean is None else combiner.interpolated(auxclean)
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
    if local_medians:
        for name in MASKED:
            combined[name] = combiner.with_local_medians(combined[name], local_medians)
    return combined


def check_masks(stack: Stack, masks: Masks) -> None:
    """Raise InputError unless the masks have the stack's number of exposures and shape."""
    if masks.crmasks.shape != stack.exposures.shape:
        n, *shape = masks.crmasks.shape
        raise InputError(
            f"the masks are for {n} exposures of shape {tuple(shape)}, "
            f"but there are {len(stack)} exposures of shape {stack.shape}"
        )


@by_value
@dataclass(frozen=True)
class Combiner:
    """The combinations of one stack, each computed when it is first asked for."""

    stack: Stack
    statistics: Statistics
    noise: Noise | Sequence[Noise]
    resources: Resources = ALL_PROCESSORS

    @cached_property
    def mean(self) -> Combination:
        """Mean of all values of each pixel."""
        planes = self.stack.exposures
        mean = self._mean_by_rows(planes, lambda rows: ~np.isnan(planes[:, rows]))
        return replace(mean, value=self.statistics.mean2d)

    @cached_property
    def median(self) -> Combination:
        """Median of all values of each pixel; its variance and count are those of the mean."""
        return replace(self.mean, value=self.statistics.median2d)

    @cached_property
    def minimum(self) -> Combination:
        """Mean of the N − c lowest values of each pixel."""
        s = self.statistics
        count = np.minimum(np.maximum(s.count2d - s.coincidences, 1), s.count2d)
        if (count <= 1).all():
            variance = _variance_of_one(self.noise, s.min2d, self._lowest)
            return Combination(s.min2d, variance, count)
        ordered = np.sort(self.stack.exposures, axis=0)
        rank = np.arange(len(ordered))[:, np.newaxis, np.newaxis]
        # Values are selected by their rank, since only some of several equal values may be used.
        lowest = self._mean_by_rows(ordered, lambda rows: rank < count[rows])
        one = count == 1
        # The noise of a single value is that of its exposure, which the sorted values do not have.
        if not isinstance(self.noise, Noise) and one.any():
            variance = _variance_of_one(self.noise, s.min2d, self._lowest)
            lowest = replace(lowest, variance=np.where(one, variance, lowest.variance))
        return replace(lowest, value=s.min2d)

    def _lowest(self) -> np.ndarray:
        """Find the index of the exposure with the lowest value of each pixel.

        Of equal values it is the one with the lowest variance, so that the order of the exposures
        does not matter.
        """
        min2d = self.statistics.min2d
        noises = [self.noise] if isinstance(self.noise, Noise) else self.noise
        variances = np.array([noise.variance_adu2(min2d) for noise in noises])
        return np.where(self.stack.exposures == min2d, variances, np.float32(np.inf)).argmin(axis=0)

    def interpolated(self, image_adu: np.ndarray) -> Combination:
        """Make a combination of interpolated values, where any exposure has a value.

        Parameters
        ----------
        image_adu : (rows, columns) array
            Values interpolated from the pixels around, ADU.
        """
        present = self.statistics.count2d > 0
        value = np.where(present, image_adu, np.float32(np.nan))
        variance = _variance_of_one(self.noise, value)
        return Combination(value, variance, present.astype(np.int16))

    def masked_mean(self, crmasks: np.ndarray, filling: Combination) -> Combination:
        """Compute the mean of the unmasked values, with the filling where all are masked.

        Parameters
        ----------
        crmasks : (N, rows, columns) array of bool
            True where an exposure has a cosmic ray.
        filling : Combination
            Values of pixels that have a cosmic ray in all exposures.
        """
        hit = np.logical_or.reduce(crmasks)
        planes = self.stack.exposures[:, hit]
        used = ~crmasks[:, hit] & ~np.isnan(planes)
        mean = self.mean.with_pixels(hit, _mean_of(planes, used, _select(self.noise, hit)))
        return mean.replaced((mean.count == 0) & (self.statistics.count2d > 0), filling)

    def _mean_by_rows(self, planes: np.ndarray, used: Callable[[slice], np.ndarray]) -> Combination:
        """Compute the mean of the values selected by ``used``, in blocks of rows."""
        pieces = for_row_blocks(
            lambda rows: _mean_of(planes[:, rows], used(rows), _select(self.noise, rows)),
            self.stack.shape,
            self.resources,
        )
        parts = zip(*(piece.planes for piece in pieces), strict=True)
        return Combination(*map(np.concatenate, parts))

    def with_local_medians(self, image: Combination, boxes: Sequence[LocalMedian]) -> Combination:
        """Replace pixels by the median of the other pixels in the box around each."""
        chosen = pixel_mask(
            [box[:2] for box in boxes], image.value.shape, "pixels_to_be_replaced_by_local_median"
        )
        x, y, width_x, width_y = np.array(boxes).T
        value = image.value.copy()
        for half_x, half_y in set(zip(width_x // 2, width_y // 2, strict=True)):
            same = (width_x // 2 == half_x) & (width_y // 2 == half_y)
            rows, columns = y[same] - 1, x[same] - 1
            value[rows, columns] = median_around(image.value, rows, columns, half_y, half_x)
        # A pixel stays as it is where no other pixel of its box has a value.
        return image.replaced(chosen & ~np.isnan(value), self.interpolated(value))


def _select(noise: Noise | Sequence[Noise], index) -> Noise | list[Noise]:
    """Return the noise of some pixels: one for all exposures, or one for each."""
    if isinstance(noise, Noise):
        return noise.select(index)
    return [own.select(index) for own in noise]


def _variance_of_one(
    noise: Noise | Sequence[Noise],
    value_adu: np.ndarray,
    source: Callable[[], np.ndarray] | None = None,
) -> np.ndarray:
    """Return the variance of pixels whose value is that of one exposure, ADU².

    Parameters
    ----------
    noise : Noise or sequence of N Noise
        Noise of all exposures, or of each one.
    value_adu : array
        Values of the pixels, ADU.
    source : callable, optional
        Returns the index of the exposure from which each value comes. Without it the values are
        interpolated, and their variance is the mean over the exposures.
    """
    if isinstance(noise, Noise):
        return noise.variance_adu2(value_adu)
    variances = np.array([own.variance_adu2(value_adu) for own in noise])
    if source is None:
        return variances.mean(axis=0)
    return np.take_along_axis(variances, source()[np.newaxis], axis=0)[0]


def _mean_of(values: np.ndarray, used: np.ndarray, noise: Noise | Sequence[Noise]) -> Combination:
    """Compute the mean of the values of each pixel that are used, with their variance.

    Parameters
    ----------
    values : (N, …) array
        Values of the exposures, ADU.
    used : (N, …) array of bool
        True where a value is used.
    noise : Noise or sequence of N Noise
        Noise of all exposures, or of each one.
    """
    count = used.sum(axis=0, dtype=np.int16)
    where = True if used.all() else used  # a sum without a mask is many times faster
    with np.errstate(invalid="ignore"):
        mean = np.sum(values, axis=0, dtype=np.float64, where=where) / count
    square = np.square(values - mean)
    sample = np.sum(square, axis=0, where=where) / np.maximum(count - 1, 1)
    value = mean.astype(np.float32)
    one = _variance_of_one(noise, value, lambda: used.argmax(axis=0))
    variance = np.where(count > 1, sample, one)
    return Combination(value, variance.astype(np.float32), count)
