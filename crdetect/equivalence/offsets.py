"""Offsets of the exposures, given or measured, and images moved by them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy

from crdetect.equality import by_value
from crdetect.errors import InputError
from crdetect.fill import fill_missing
from crdetect.noise import Noise
from crdetect.parameters import MM
from crdetect.stack import Stack

_logger = logging.getLogger(__name__)

LEAST_SIDE_PX = 32
"""Minimum side of the region where offsets are measured, pixels; chosen by hand. More than twice
the largest offset that is searched for is needed."""

# These constants were chosen by hand. Changing one of them by a factor of 1.5 leaves the error of
# offsets, 0.0036 pixels, below 0.0051 pixels (page "Constants"; python -m benchmarks.sensitivity).
# The largest offset and the largest error are not varied: they limit what is accepted.

# Largest offset that is searched for by cross-correlation, pixels.
_LARGEST_PX = 10
# Width of the edge that is left out of the fit, because shifted images have no data there, pixels.
_EDGE_PX = 12
# Gaussian σ by which images are smoothed, pixels.
_SMOOTHING_PX = 1.0
# Maximum number of iterations of the fit.
_ROUNDS = 20
# Maximum distance of the fitted offset from the maximum of the correlation, pixels.
_FURTHEST_PX = 2.0
# Residual, in units of the noise, at which the weight of a pixel has fallen to a half.
_OUTLIER = 3.0
# Standard error, pixels, above which an offset counts as unknown and is not applied.
_LARGEST_ERROR_PX = 0.25


@by_value
@dataclass(frozen=True)
class Offsets:
    """Offsets of the exposures.

    Attributes
    ----------
    xy_px : (N, 2) array
        Position (x, y) of the exposure's image relative to that of the median, pixels.
    errors_px : (N, 2) array or None
        Standard errors; None for offsets that were given.
    correlation : (N, 2 r + 1, 2 r + 1) array or None
        Cross-correlation of each exposure with the first one at offsets of whole pixels up to r;
        rows are y. Bright values are compressed before.
    """

    xy_px: np.ndarray
    errors_px: np.ndarray | None = None
    correlation: np.ndarray | None = None

    @property
    def measured(self) -> bool:
        """Whether the offsets were measured in the run."""
        return self.correlation is not None

    @property
    def unknown(self) -> list[tuple[int, str]]:
        """Exposures (from 1) and directions (x or y) whose offsets could not be measured."""
        errors = np.zeros_like(self.xy_px) if self.errors_px is None else self.errors_px
        return [(int(i) + 1, "xy"[axis]) for i, axis in np.argwhere(errors > _LARGEST_ERROR_PX)]


def check_region(xmin: int, xmax: int, ymin: int, ymax: int) -> None:
    """Raise InputError unless offsets can be measured in so small a region (FITS pixels)."""
    width, height = xmax - xmin + 1, ymax - ymin + 1
    if min(width, height) < LEAST_SIDE_PX:
        raise InputError(
            f"mm_crosscorr_region has {width} × {height} pixels (x × y); "
            f"at least {LEAST_SIDE_PX} × {LEAST_SIDE_PX} are needed"
        )


def find_offsets(
    images_adu: Sequence[np.ndarray], noises: Sequence[Noise], parameters: MM
) -> Offsets | None:
    """Return the offsets, given by the parameters or measured; None if they ask for neither.

    Parameters
    ----------
    images_adu : sequence of N (rows, columns) arrays
        The exposures, without missing values.
    noises : sequence of N Noise
        Their noise.
    parameters : MM
        ``mm_xy_offsets`` and ``mm_crosscorr_region``.
    """
    if parameters.mm_xy_offsets is not None:
        return Offsets(np.array(parameters.mm_xy_offsets, float))
    if parameters.mm_crosscorr_region is None:
        return None
    xmin, xmax, ymin, ymax = parameters.mm_crosscorr_region
    region = (slice(ymin - 1, ymax), slice(xmin - 1, xmax))
    offsets = measure_offsets(images_adu, noises, region)
    for number, direction in offsets.unknown:
        _logger.warning(
            "offset of exposure %d in %s is not known from mm_crosscorr_region: 0 is used",
            number,
            direction,
        )
    return offsets


def aligned(stack: Stack, noise: Noise, parameters: MM) -> Stack:
    """Move the exposures to the position of the median, as far as their offsets are known.

    Interpolation smooths noise: the result serves to compare signals and is not used as data.
    """
    images = [fill_missing(exposure) for exposure in stack.exposures]
    offsets = find_offsets(images, [noise] * len(images), parameters)
    if offsets is None:
        return stack
    moved = [move(image, -xy) for image, xy in zip(images, offsets.xy_px, strict=True)]
    return Stack(np.where(np.isnan(stack.exposures), np.float32(np.nan), moved))


def measure_offsets(
    images_adu: Sequence[np.ndarray], noises: Sequence[Noise], region: tuple[slice, slice]
) -> Offsets:
    """Measure the offsets of images relative to each other.

    Parameters
    ----------
    images_adu : sequence of N (rows, columns) arrays
        The exposures without cosmic rays, ADU.
    noises : sequence of N Noise
        Their noise.
    region : tuple of slice
        Rows and columns to be used, at least 32 of each.

    Returns
    -------
    Offsets
        The median of the offsets is 0 in x and in y. A component that cannot be measured, because
        the region has no structure in that direction, is 0.

    Notes
    -----
    Each exposure is compared with the first one and not with the median: an exposure and the median
    share noise, which biases the correlation towards an offset of 0. The maximum of the
    cross-correlation, with bright values compressed, gives the offset in whole pixels. A weighted
    least-squares fit of shift, scale and level (Lucas & Kanade 1981) starts there; the
    contribution of noise to the gradients is subtracted from its normal equations. Residuals
    larger than the noise get the weights of a Cauchy distribution, so that cosmic rays which no
    detector cleaned hardly matter.
    """
    cut = [np.asarray(image[region], float) for image in images_adu]
    maps = np.array([_cross_correlate(image, cut[0]) for image in cut])
    xy, errors = np.zeros((2, len(cut), 2))
    for i, image in enumerate(cut[1:], start=1):
        variance = noises[0].select(region).variance_adu2(cut[0])
        variance = 0.5 * (variance + noises[i].select(region).variance_adu2(image))
        xy[i], errors[i] = _fit_shift(image, cut[0], variance, _peak(maps[i]))
    xy = np.where(errors > _LARGEST_ERROR_PX, 0.0, xy)
    return Offsets(xy - np.median(xy, axis=0), errors, maps)


def _cross_correlate(image: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Return the normalised cross-correlation at offsets of whole pixels up to a largest one."""
    windows = [np.hanning(size + 2)[1:-1] for size in image.shape]
    spectra = []
    for data in (image, reference):
        windowed = _compressed(data) * np.outer(*windows)
        spectra.append(scipy.fft.rfft2(windowed / (np.linalg.norm(windowed) or 1.0)))
    whole = scipy.fft.fftshift(scipy.fft.irfft2(spectra[0] * np.conj(spectra[1]), image.shape))
    middle = [size // 2 for size in image.shape]
    return whole[tuple(slice(m - _LARGEST_PX, m + _LARGEST_PX + 1) for m in middle)]


def _compressed(image: np.ndarray) -> np.ndarray:
    """Return the smoothed difference from the median, with large values compressed.

    The compression is logarithmic, so that cosmic rays do not dominate the correlation; smoothing
    does the same for fixed patterns of single pixels of the detector.
    """
    difference = image - np.median(image)
    typical = 3 * np.median(np.abs(difference))
    return _smooth(np.arcsinh(difference / (typical or 1.0)))


def _peak(correlation: np.ndarray) -> np.ndarray:
    y, x = np.unravel_index(correlation.argmax(), correlation.shape)
    return np.array([x, y], float) - _LARGEST_PX


def _fit_shift(
    image: np.ndarray, reference: np.ndarray, variance: np.ndarray, start: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Fit the shift (x, y) of an image relative to a reference, and its errors, in pixels."""
    shift = start
    edge = min(_EDGE_PX, min(image.shape) // 4)
    inner = (slice(edge, -edge), slice(edge, -edge))
    least = 1 / _smooth(variance)[inner]
    gain = _noise_gain()
    trust = np.ones_like(least)
    for turn in range(_ROUNDS):
        moved, other = move(image, -shift / 2), move(reference, shift / 2)
        mean, difference = 0.5 * (moved + other), _smooth(moved - other)[inner]
        images = [-_smooth(mean, (0, 1)), -_smooth(mean, (1, 0)), _smooth(mean)]
        terms = np.stack([*(image[inner] for image in images), np.ones_like(difference)])
        weight = trust * least
        # expected contribution of noise to the squared gradients of the mean of both images
        noise = np.diag([*gain[1:] * trust.sum() / 2, 0.0, 0.0])
        normal = np.einsum("iyx,yx,jyx->ij", terms, weight, terms) - noise
        if min(normal[0, 0], normal[1, 1]) <= 0 or np.linalg.cond(normal) > 1e15:
            return shift, np.full(2, np.inf)
        fit = np.linalg.solve(normal, np.einsum("iyx,yx,yx->i", terms, weight, difference))
        step = np.clip(fit[:2], -1, 1)
        shift = np.clip(shift + step, start - _FURTHEST_PX, start + _FURTHEST_PX)
        if turn > 1 and np.abs(step).max() < 1e-3:
            break
        rest = difference - np.tensordot(fit, terms, 1)
        trust = 1 / (1 + np.square(rest) * least / (2 * gain[0] * _OUTLIER**2))
    error = np.sqrt(2 * np.abs(np.diag(np.linalg.inv(normal))[:2]))
    # a fit that ran away from the maximum of the correlation has failed: its error is infinite
    return shift, np.where(np.abs(shift - start) < _FURTHEST_PX, error, np.inf)


def _smooth(image: np.ndarray, order: tuple[int, int] = (0, 0)) -> np.ndarray:
    return scipy.ndimage.gaussian_filter(image, _SMOOTHING_PX, order=order, mode="nearest")


def _noise_gain() -> np.ndarray:
    """Return the variance of smoothed noise of variance 1, and of its gradients in x and y."""
    point = np.zeros((31, 31))
    point[15, 15] = 1.0
    return np.array([np.square(_smooth(point, order)).sum() for order in ((0, 0), (0, 1), (1, 0))])


def move(image_adu: np.ndarray, xy_px: Sequence[float] | np.ndarray) -> np.ndarray:
    """Move an image by (x, y) pixels with cubic splines; edge values are repeated outside."""
    if not np.any(xy_px):
        return image_adu
    x, y = xy_px
    return scipy.ndimage.shift(image_adu, (y, x), order=3, mode="nearest")
