"""Differences between real exposures: local fits of flux, sky, shift and width.

Exposures of one target are never quite equivalent: the sky fades, the object varies, traces move,
the seeing changes. The fit follows the idea of difference imaging (Alard & Lupton 1998): in a
window, the difference between an exposure and the common template T is a linear combination,

    d = c₀ (T − C) + c₁ C + c₂ ∂T/∂x + c₃ ∂T/∂y + c₄ ∂²T/∂x² + c₅ ∂²T/∂y²,

where C is T smoothed along the spectra, so that lines and continuum may vary independently.
A background that is added everywhere (moonlight, scattered light, a residual of the bias) is
subtracted first, and fitted together with the other terms in the widest windows. Windows are long
and thin, along rows or along columns, because spectra and images of slits are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import cv2
import numpy as np

from crdetect.equality import by_value
from crdetect.resources import ALL_PROCESSORS, Resources
from crdetect.stack import for_row_blocks, sort_planes

# Constants without another source were chosen by hand. Changing one of them by a factor of about
# 1.5 changes the share of double hits found by less than 0.001, and the false pixels of MEDIANCR by
# less than 1 per Mpx, unless its comment says more (page "Constants"; python -m
# benchmarks.sensitivity).

# Indices of the coefficients of the continuum's flux, and of the shifts in x and y.
_FLUX, _SHIFTS = (1,), (2, 3)

# Height above the mean of the lower values, in units of σ (with tolerated differences), from which
# a value is an outlier: it is left out of the template, and its pixel has no weight in the fit.
_CLIP = 4.0
# Absolute residual, in the same σ, to which larger ones are reduced in the fit.
_WINSOR = 3.0
# Gaussian σ in pixels by which the lowest values are smoothed before their gradients widen
# tolerances.
_SMOOTH_MINIMUM_PX = 0.8
# Gaussian σ in pixels by which the template is smoothed before its first and second derivatives are
# taken: more would widen the feet of bright profiles.
_SLOPE_PX, _CURVATURE_PX = 0.4, 0.6
# Length of the running mean along the spectra that separates the continuum from lines, pixels.
_CONTINUUM_PX = 41
# Ridge of the fit from which variances of the priors are estimated, relative to the mean
# information of a window: it makes all windows solvable.
_WEAK = 1e-3
# Ridge of windows without any light, which would be singular; no effect on results.
_LEAST_INFORMATION = 1e-12
# Number of iterations of the variances of the priors.
_ROUNDS = 5
# Minimum excess scatter of a coefficient over the windows, in units of its standard error, for its
# term to be fitted.
_SIGNIFICANT = 3.0
# Maximum number of pixels per strip of windows: it limits memory and has no effect on results.
_WIDEST_TILE = 1 << 18
# Side of the windows in which the background is measured, in pixels of an image of which every
# second row and column is used: 64 pixels.
_BACKGROUND_PX, _THINNING = 32, 2
# Gaussian σ, in windows, by which the background is smoothed.
_BACKGROUND_REACH = 2.0
# Relative difference of flux that may look like a background: windows of brighter faint pixels have
# less weight.
_FLUX_MAY_DIFFER = 0.2
# Minimum rms difference of the background, in units of the noise of a pixel, for it to be
# subtracted.
_LEAST_BACKGROUND = 0.2


class Pass(NamedTuple):
    """One of the successive fits: its windows, and its tolerance of remaining differences.

    Attributes
    ----------
    rows, columns : int
        Size of the window, pixels.
    flux, gradient : float
        Differences that do not count as cosmic rays: relative difference of flux, and shift in
        pixels. They widen the noise by which outliers are recognised.
    """

    rows: int
    columns: int
    flux: float
    gradient: float


PASSES = (
    Pass(64, 64, 0.3, 0.4),  # large common differences first, so that narrow windows converge
    Pass(64, 2, 0.1, 0.2),  # narrow columns: lines of sky and object lie side by side
    Pass(2, 64, 0.3, 0.1),  # narrow rows: fibres and objects vary by more than lines do
    Pass(64, 4, 0.04, 0.05),
)
"""Successive fits. Windows and tolerances were chosen by hand: windows as narrow as lines and
fibres are, and tolerances that decrease as the exposures are brought together. Without the second
fit, or with windows 4 instead of 2 pixels wide, there are 4 instead of 2.4 false pixels per Mpx of
MEDIANCR, and 37 instead of 21 in CRMASKs. The last fit changes none of these figures by more than
0.2."""

_LAST = Pass(0, 0, 0.03, 0.05)
"""Tolerances of the template after the last fit; there is no window, because nothing is fitted."""


@by_value
@dataclass(frozen=True)
class Matched:
    """Template of the exposures, and the fitted differences from it.

    Attributes
    ----------
    template_e : (rows, columns) array of float32
        Mean of the values of each pixel without its high outliers, electrons.
    differences_e : (N, rows, columns) array of float32, or None
        Fitted difference exposure − template, electrons; None if no significant difference was
        found.
    fluxes : (N,) array
        Mean flux of the continuum of each exposure, relative to the template.
    shifts_px : (N, 2) array
        Mean shift of each exposure in x and y.
    """

    template_e: np.ndarray
    differences_e: np.ndarray | None
    fluxes: np.ndarray
    shifts_px: np.ndarray

    def level(self, exposures_e: np.ndarray) -> np.ndarray:
        """Subtract the fitted differences, so that clean values have one expectation per pixel.

        Parameters
        ----------
        exposures_e : (N, rows, columns) array of float32
            The exposures, electrons.
        """
        if self.differences_e is None:
            return exposures_e
        return exposures_e - self.differences_e


def match(
    exposures_e: np.ndarray,
    rnoise2_e2: float | np.ndarray,
    resources: Resources = ALL_PROCESSORS,
    passes: Sequence[Pass] = PASSES,
) -> Matched:
    """Fit the differences of the exposures from their common template.

    Parameters
    ----------
    exposures_e : (N, rows, columns) array of float32
        The exposures, electrons; finite. Missing values are replaced by the lowest of the others.
    rnoise2_e2 : float or (rows, columns) array
        Read noise squared, electrons².
    resources : Resources, optional
        What may be used; the result does not depend on it.
    passes : sequence of Pass, optional
        The fits, one after the other. Without any the exposures are taken as equivalent, and only
        the template is made.

    Returns
    -------
    Matched

    Notes
    -----
    Each coefficient has a zero-mean Gaussian prior, whose variance is estimated from the scatter of
    the coefficient over all windows in excess of the formal errors (empirical Bayes). Terms without
    significant excess scatter are dropped; if none is left, the exposures count as equivalent. For
    robustness against cosmic rays, pixels with a high outlier have no weight, and all other
    residuals are winsorised.

    References
    ----------
    Alard & Lupton 1998, ApJ 503, 325. Efron & Morris 1973, J. Am. Stat. Assoc. 68, 117.
    """
    rnoise2 = np.broadcast_to(np.float32(rnoise2_e2), exposures_e.shape[1:])
    differences = background_differences(exposures_e, rnoise2_e2) if passes else None
    level = exposures_e if differences is None else exposures_e - differences
    lowest = np.minimum.reduce(level)
    steepness2 = np.add(*map(np.square, gradients(np.maximum(lowest, 0), _SMOOTH_MINIMUM_PX)))
    template = _mean_from_below(level, rnoise2, steepness2, (*passes, _LAST)[0], resources)
    fluxes, shifts = np.ones(len(exposures_e)), np.zeros((len(exposures_e), 2))
    axes = (1, 0)
    for now, then in pairwise((*passes, _LAST)):
        fits = [_fit(level, template, rnoise2, steepness2, now, axis, resources) for axis in axes]
        found = max(fits, key=lambda fit: fit.explained)
        axes = (found.axis,)  # along which spectra run: that which explains more
        if not found.explained:
            continue
        found.coefficients -= found.coefficients.mean(axis=0)
        fluxes += found.mean_of(_FLUX)[:, 0]
        shifts -= found.mean_of(_SHIFTS)
        more = _combine(found, resources)
        differences = more if differences is None else np.add(differences, more, out=differences)
        level = exposures_e - differences
        template = _mean_from_below(level, rnoise2, steepness2, then, resources)
    return Matched(template, differences, fluxes, shifts)


def background_differences(
    exposures_e: np.ndarray, rnoise2_e2: float | np.ndarray
) -> np.ndarray | None:
    """Measure the smooth differences of background between the exposures in their faint pixels.

    Parameters
    ----------
    exposures_e : (N, rows, columns) array of float32
        The exposures, electrons; finite.
    rnoise2_e2 : float or (rows, columns) array
        Read noise squared, electrons².

    Returns
    -------
    (N, rows, columns) array of float32, or None
        Background of each exposure less the mean background of all, electrons; None if the
        differences are below a fraction of the noise.
    """
    thinned = exposures_e[:, ::_THINNING, ::_THINNING]
    n, rows, columns = thinned.shape
    height, width = min(_BACKGROUND_PX, rows), min(_BACKGROUND_PX, columns)
    n_y, n_x = rows // height, columns // width
    cut = thinned[:, : n_y * height, : n_x * width].reshape(n, n_y, height, n_x, width)
    cut = cut.swapaxes(2, 3).reshape(n, n_y, n_x, height * width)
    rank = height * width // 10  # the tenth percentile has little light of the object
    levels = np.partition(cut, rank, axis=-1)[..., rank]
    mean = np.maximum(levels.mean(axis=0), 0)
    noise2 = mean + np.float32(np.mean(rnoise2_e2))
    weight = 1 / (noise2 + np.square(np.float32(_FLUX_MAY_DIFFER) * mean))
    levels -= levels.mean(axis=0)
    total = _blurred(weight)
    levels = [_blurred(level * weight) / total for level in levels]
    if all(np.mean(np.square(level) / noise2) < _LEAST_BACKGROUND**2 for level in levels):
        return None
    size = exposures_e.shape[:0:-1]
    return np.array([cv2.resize(each, size, interpolation=cv2.INTER_LINEAR) for each in levels])


def _blurred(windows: np.ndarray) -> np.ndarray:
    return cv2.GaussianBlur(windows, (0, 0), _BACKGROUND_REACH)


def gradients(image: np.ndarray, smoothing_px: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the derivatives of a smoothed image in x and y, per pixel."""
    smooth = cv2.GaussianBlur(image, (0, 0), smoothing_px)
    slope, one = np.array([-0.5, 0, 0.5], np.float32), np.ones(1, np.float32)
    return (
        cv2.sepFilter2D(smooth, -1, slope, one, borderType=cv2.BORDER_REPLICATE),
        cv2.sepFilter2D(smooth, -1, one, slope, borderType=cv2.BORDER_REPLICATE),
    )


def _variance(signal, rnoise2, steepness2, tolerance: Pass) -> np.ndarray:
    """Return the variance of photons and read noise, with that of tolerated differences added."""
    signal = np.maximum(signal, 0)
    variance = np.square(signal * np.float32(tolerance.flux))
    variance += signal
    variance += rnoise2
    variance += steepness2 * np.float32(tolerance.gradient**2)
    return variance


def _mean_from_below(exposures, rnoise2, steepness2, tolerance: Pass, resources) -> np.ndarray:
    """Return the mean of the values of each pixel below the first high outlier."""
    mean = np.empty(exposures.shape[1:], np.float32)

    def mean_rows(rows: slice) -> None:
        ordered = sort_planes(list(exposures[:, rows]))
        variance = _variance(ordered[0], rnoise2[rows], steepness2[rows], tolerance)
        value = ordered[0].copy()
        agree = np.ones(value.shape, bool)
        for number, plane in enumerate(ordered[1:], start=1):
            limit = np.sqrt(variance * np.float32(_CLIP**2 * (1 + 1 / number)))
            agree &= plane - value < limit
            np.copyto(value, (value * number + plane) / (number + 1), where=agree)
        mean[rows] = value

    for_row_blocks(mean_rows, mean.shape, resources)
    return mean


def _bases(template: np.ndarray, window: Pass, axis: int) -> list[np.ndarray]:
    """Return the basis images of the fit; spectra run along the axis."""
    along = (_CONTINUUM_PX, 1) if axis else (1, _CONTINUUM_PX)
    continuum = cv2.blur(template, along)
    smooth = cv2.GaussianBlur(template, (0, 0), _CURVATURE_PX)
    one, bend = np.ones(1, np.float32), np.array([1, -2, 1], np.float32)
    bases = [
        template - continuum,
        continuum,
        *gradients(template, _SLOPE_PX),
        cv2.sepFilter2D(smooth, -1, bend, one, borderType=cv2.BORDER_REPLICATE),
        cv2.sepFilter2D(smooth, -1, one, bend, borderType=cv2.BORDER_REPLICATE),
    ]
    # a constant is fitted in square windows only: in a long and thin one it would fit a track
    return [*bases, np.ones_like(template)] if window.rows == window.columns else bases


@by_value
@dataclass
class _Found:
    """Coefficients of the differences in all windows.

    Attributes
    ----------
    axis : int
        Axis along which spectra run.
    bases : list of K (rows, columns) arrays
        Basis images.
    coefficients : (N, K, windows in y, windows in x) array
        Coefficients of each exposure in each window; 0 for terms that are not significant.
    information : (K, windows in y, windows in x) array
        Diagonal of the information matrix: 1/error² of each coefficient if it were fitted alone.
    explained : float
        Decrease of χ² due to the fit; 0 if no term is significant.
    """

    axis: int
    bases: list[np.ndarray]
    coefficients: np.ndarray
    information: np.ndarray
    explained: float

    def mean_of(self, which: Sequence[int]) -> np.ndarray:
        """Return means of coefficients over the windows, weighted by 1/error²: (N, len(which))."""
        weight = self.information[list(which)]
        total = np.maximum(weight.sum(axis=(-2, -1)), np.finfo(float).tiny)
        return (self.coefficients[:, list(which)] * weight).sum(axis=(-2, -1)) / total


def _fit(level, template, rnoise2, steepness2, window: Pass, axis: int, resources) -> _Found:
    """Fit the differences of all exposures from the template, window by window."""
    bases = _bases(template, window, axis)
    sums = _smooth(_sum_products(level, template, bases, rnoise2, steepness2, window, resources))
    information, projections = np.split(sums, [len(bases)], axis=-1)
    variances = _prior_variances(information, projections)
    ridge = 1 / np.maximum(variances, np.finfo(np.float32).tiny)
    solved = np.linalg.solve(information + np.diag(ridge), projections)
    solved[..., variances == 0, :] = 0
    return _Found(
        axis,
        bases,
        np.ascontiguousarray(np.moveaxis(solved, (-1, -2), (0, 1)), dtype=np.float32),
        np.moveaxis(np.diagonal(information, axis1=-2, axis2=-1), -1, 0),
        float(np.sum(projections * solved)),
    )


def _sum_products(level, template, bases, rnoise2, steepness2, window: Pass, resources):
    """Accumulate the normal equations of the weighted fit in each window.

    A has the basis images as columns, d the differences of an exposure from the template, and W the
    weights 1/variance: AᵀWA and, for each exposure, AᵀWd, together an array of shape (windows in y,
    windows in x, K, K + N).
    """
    rows, columns = template.shape
    height, width = min(window.rows, rows), min(window.columns, columns)
    n_y, n_x = rows // height, columns // width
    k, number = len(bases), len(bases) + len(level)
    sums = np.empty((n_y, n_x, k, number))
    strip = max(1, _WIDEST_TILE // (columns * height))

    def sum_strip(first: int) -> None:
        last = min(first + strip, n_y)
        place = slice(first * height, last * height), slice(0, n_x * width)
        here, read = template[place], rnoise2[place]
        more = level[:, *place] - here
        limit = np.sqrt(_variance(here, read, steepness2[place], window))
        variance = np.maximum(here, 0) + read
        root = np.where(np.maximum.reduce(more) < _CLIP * limit, 1 / np.sqrt(variance), 0)
        planes = np.empty((number, *root.shape), np.float32)
        for plane, base in zip(planes, bases, strict=False):
            np.multiply(base[place], root, out=plane)
        limit *= np.float32(_WINSOR)
        np.multiply(np.clip(more, -limit, limit), root, out=planes[k:])
        cut = planes.reshape(number, last - first, height, n_x, width)
        cut = cut.transpose(1, 3, 0, 2, 4).reshape(last - first, n_x, number, height * width)
        sums[first:last] = cut[:, :, :k] @ cut.swapaxes(-1, -2)

    resources.map(sum_strip, range(0, n_y, strip))
    return sums


def _smooth(sums: np.ndarray) -> np.ndarray:
    """Average the sums of neighbouring windows with weights ¼, ½, ¼ in both directions."""
    for axis in (0, 1):
        here = sums.swapaxes(0, axis)
        smooth = 0.5 * here
        smooth[1:] += 0.25 * here[:-1]
        smooth[:-1] += 0.25 * here[1:]
        smooth[0] += 0.25 * here[0]
        smooth[-1] += 0.25 * here[-1]
        sums = smooth.swapaxes(0, axis)
    return sums


def _prior_variances(information: np.ndarray, projections: np.ndarray) -> np.ndarray:
    """Estimate the variance of each coefficient's prior; 0 where it is not significant.

    It is the variance of the coefficient over windows and exposures in excess of its squared error.
    """
    k = information.shape[-1]
    scale = np.trace(information, axis1=-2, axis2=-1)[..., np.newaxis, np.newaxis] / k
    inverse = np.linalg.inv(information + np.eye(k) * (_WEAK * scale + _LEAST_INFORMATION))
    found = inverse @ projections
    errors = np.diagonal(inverse, axis1=-2, axis2=-1)
    variances = np.zeros(k)
    for j in range(k):
        square, error = np.square(found[..., j, :]), errors[..., j, np.newaxis]
        for _ in range(_ROUNDS):
            weight = 1 / np.square(error + variances[j])
            total = np.sum(weight) * square.shape[-1]
            variances[j] = max(np.sum(weight * (square - error)) / total, 0)
        noise = np.sqrt(2 / np.sum(1 / np.square(error)) / square.shape[-1])
        if variances[j] < _SIGNIFICANT * noise:
            variances[j] = 0
    return variances


def _combine(found: _Found, resources: Resources) -> np.ndarray:
    """Add up the basis images times their coefficients, interpolated between windows."""
    shape = found.bases[0].shape

    def combine_one(own: np.ndarray) -> np.ndarray:
        total = np.zeros(shape, np.float32)
        for coefficient, base in zip(own, found.bases, strict=True):
            if coefficient.any():
                wide = cv2.resize(coefficient, shape[::-1], interpolation=cv2.INTER_LINEAR)
                cv2.accumulateProduct(wide, base, total)
        return total

    return np.array(resources.map(combine_one, found.coefficients))
