"""The noise of real exposures, fitted to their own spread.

The variance of a value of expectation λ, in electrons, is

    s² = λ + rnoise² + n + a λ² + b (∂λ/∂x)² + c (∂λ/∂y)²,

where n is read noise that was not told, a stands for what is left of differences in flux, b and c
for what is left of shifts and of changes in width; none is negative.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product

import numpy as np

from crdetect.masks import dilate
from crdetect.stack import for_row_blocks

_MOST_PIXELS = 60_000
_ROUNDS, _WINSORED_ROUNDS = 20, 6
_WINSOR, _CUT = 4.0, 9.0  # squares of differences, in units of their variance
_SIGNIFICANT = 2.0  # error bars
_RIDGE = 1e-9
_LEAST_SCALE = 1e-100  # of a term that is 0 everywhere
_LEVELS = 30  # of the signal, with the same number of pixels each
_LEAST_VARIANCE_E2 = 1e-6
_HIT, _AROUND_PX = 5.0, 2  # σ above the others, and pixels: where a cosmic ray may be
_LEAST_EXCESS = 0.1  # of the read noise squared: faint wings of cosmic rays look like less


def _squares_below(limit: float) -> tuple[float, float]:
    """Share of the squares of normal deviations below a limit, and what they add to the mean."""
    share = math.erf(math.sqrt(limit / 2))
    return share, share - math.sqrt(2 * limit / math.pi) * math.exp(-limit / 2)


_WINSORED = _squares_below(_WINSOR)[1] + _WINSOR * (1 - _squares_below(_WINSOR)[0])
_CUT_MEAN = _squares_below(_CUT)[1] / _squares_below(_CUT)[0]


@dataclass(frozen=True)
class Spread:
    """Variance of the exposures at levels of the signal; arrays of one shape, electrons².

    Attributes
    ----------
    signal_e : array
        Mean signal of the pixels of a level, electrons.
    measured, known, modelled : arrays
        As seen, by photons and read noise, and with the fitted terms.
    """

    signal_e: np.ndarray
    measured: np.ndarray
    known: np.ndarray
    modelled: np.ndarray


@dataclass(frozen=True)
class NoiseModel:
    """Terms of the variance that Poisson and read noise do not explain.

    Attributes
    ----------
    excess_e2 : float
        n, electrons².
    flux : float
        a: square of a relative difference.
    shift_x, shift_y : float
        b, c: squares of shifts, pixel².
    errors : tuple of 4 floats
        Standard errors of n, a, b, c.
    measured_rnoise_e : tuple of 2 floats
        Read noise as the exposures show it, and its standard error, electrons.
    photon_slope : tuple of 2 floats
        Variance of photon noise relative to the signal, and its standard error: 1 if the gain is
        right, else the gain is smaller by this factor.
    spread : Spread or None
        What was fitted; None where nothing was.
    """

    excess_e2: float = 0.0
    flux: float = 0.0
    shift_x: float = 0.0
    shift_y: float = 0.0
    errors: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    measured_rnoise_e: tuple[float, float] = (np.nan, np.nan)
    photon_slope: tuple[float, float] = (np.nan, np.nan)
    spread: Spread | None = None

    @property
    def terms(self) -> tuple[float, float, float, float]:
        """The terms n, a, b, c."""
        return self.excess_e2, self.flux, self.shift_x, self.shift_y

    def extra_variance_e2(
        self, signal_e: np.ndarray, slopes_e: tuple[np.ndarray, np.ndarray]
    ) -> np.ndarray:
        """Variance beyond Poisson and read noise.

        Parameters
        ----------
        signal_e : array
            λ, electrons.
        slopes_e : two arrays
            Its derivatives in x and y, electrons per pixel.
        """
        extra = np.float32(self.flux) * np.square(np.maximum(signal_e, 0))
        extra += np.float32(self.excess_e2)
        for term, slope in zip((self.shift_x, self.shift_y), slopes_e, strict=True):
            if term:
                extra += np.float32(term) * np.square(slope)
        return extra


def fit_noise_model(
    level_e: np.ndarray,
    template_e: np.ndarray,
    slopes_e: tuple[np.ndarray, np.ndarray],
    rnoise2_e2: float | np.ndarray,
    tolerance: NoiseModel,
    usable: np.ndarray | None = None,
) -> NoiseModel:
    """Fit the noise model to the differences of exposures.

    Parameters
    ----------
    level_e : (N, rows, columns) array
        Exposures of one expectation, electrons.
    template_e : (rows, columns) array
        That expectation.
    slopes_e : two (rows, columns) arrays
        Its derivatives in x and y.
    rnoise2_e2 : float or (rows, columns) array
        Read noise squared.
    tolerance : NoiseModel
        How far values may differ that are no cosmic rays.
    usable : (rows, columns) array of bool, optional
        Pixels with all their values; all by default.

    Notes
    -----
    Half the squares of the differences between exposures have the variance as expectation.
    They are winsorised first and cut at 3 σ later, with the factors that normal noise needs: cosmic
    rays do not count. Non-negative least squares with weights, iterated. Terms below two standard
    errors are left out.
    """
    rnoise2 = np.broadcast_to(np.float32(rnoise2_e2), template_e.shape)
    clean = _far_from_hits(level_e, template_e, slopes_e, rnoise2, tolerance)
    place = _sample(template_e, slopes_e, rnoise2, clean if usable is None else clean & usable)
    if place.size < 100:
        return NoiseModel()
    values = level_e.reshape(len(level_e), -1)[:, place].astype(float)
    squares = np.array(
        [0.5 * np.square(values[i] - values[j]) for i in range(len(values)) for j in range(i)]
    )
    signal = np.maximum(template_e.ravel()[place], 0).astype(float)
    terms = np.array(
        [np.ones_like(signal), signal**2, *(slope.ravel()[place] ** 2 for slope in slopes_e)]
    )
    known = signal + rnoise2.ravel()[place]
    coefficients, errors = _iterate(squares, terms, known, np.zeros(len(terms)))
    significant = coefficients > _SIGNIFICANT * errors
    significant[0] &= coefficients[0] > _LEAST_EXCESS * rnoise2.mean()
    kept = np.where(significant, coefficients, 0)
    # the same with nothing known: what gain and read noise would be
    free = np.vstack([terms[:1], signal, terms[1:]])
    start = np.array([rnoise2.mean(), 1.0, *coefficients[1:]])
    measured, deviations = _iterate(squares, free, np.zeros_like(signal), start)
    rnoise = float(np.sqrt(measured[0]))
    excess, flux, shift_x, shift_y = kept.tolist()
    return NoiseModel(
        excess,
        flux,
        shift_x,
        shift_y,
        errors=tuple(errors.tolist()),
        measured_rnoise_e=(rnoise, float(deviations[0]) / max(2 * rnoise, 1e-9)),
        photon_slope=(float(measured[1]), float(deviations[1])),
        spread=_spread(squares, signal, known, known + kept @ terms),
    )


def _iterate(squares, terms, known, start) -> tuple[np.ndarray, np.ndarray]:
    """Fit until nothing changes; coefficients and their standard errors."""
    coefficients = start
    for number in range(_ROUNDS):
        last = coefficients
        coefficients, errors = _improve(coefficients, squares, terms, known, number)
        if number > _WINSORED_ROUNDS and np.allclose(coefficients, last, rtol=0.02, atol=1e-7):
            break
    return coefficients, errors


def _spread(squares, signal, known, modelled) -> Spread:
    """Average over levels of the signal."""
    ratio = squares / modelled
    used = ratio < _CUT
    seen = np.where(used, ratio, 0).sum(axis=0) * modelled / _CUT_MEAN
    edges = np.quantile(signal, np.linspace(0, 1, _LEVELS + 1))
    level = np.clip(np.searchsorted(edges, signal, side="right") - 1, 0, _LEVELS - 1)
    filled = np.bincount(level, used.sum(axis=0), _LEVELS) > 0

    def mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
        total = np.bincount(level, values, _LEVELS)[filled]
        return total / np.bincount(level, weights, _LEVELS)[filled]

    one = np.ones_like(signal)
    return Spread(
        mean(signal, one), mean(seen, used.sum(axis=0)), mean(known, one), mean(modelled, one)
    )


def _far_from_hits(level, template, slopes, rnoise2, tolerance: NoiseModel) -> np.ndarray:
    """Tell where no value is far above the others, nor around."""
    far = np.empty(level.shape[1:], bool)

    def find_rows(rows: slice) -> None:
        highest = np.maximum.reduce(level[:, rows])
        others = (np.add.reduce(level[:, rows]) - highest) / np.float32(len(level) - 1)
        slopes_here = slopes[0][rows], slopes[1][rows]
        variance = rnoise2[rows] + tolerance.extra_variance_e2(template[rows], slopes_here)
        limit = np.float32(_HIT) * np.sqrt(np.maximum(others, 0) + variance)
        np.greater(highest - others, limit, out=far[rows])

    for_row_blocks(find_rows, far.shape)
    return ~dilate(far, _AROUND_PX)


def _sample(template, slopes, rnoise2, usable) -> np.ndarray:
    """Take pixels of all levels of signal, the bright and steep half more than the rest."""
    informative = np.empty(template.shape, np.float32)

    def weigh_rows(rows: slice) -> None:
        steepness = sum(np.square(image[rows]) for image in (template, *slopes))
        variance = np.maximum(np.maximum(template[rows], 0) + rnoise2[rows], _LEAST_VARIANCE_E2)
        np.divide(steepness, variance, out=informative[rows])

    for_row_blocks(weigh_rows, template.shape)
    informative = informative.ravel()
    bright = informative > np.quantile(informative[::37], 0.5)
    groups = []
    for chosen in (bright, ~bright):
        place = np.flatnonzero(chosen & usable.ravel())
        groups.append(place[:: place.size // (_MOST_PIXELS // 2) + 1])
    return np.concatenate(groups)


def _improve(coefficients, squares, terms, known, number) -> tuple[np.ndarray, np.ndarray]:
    """Fit once more, with the variances of the last fit."""
    variance = np.maximum(known + coefficients @ terms, _LEAST_VARIANCE_E2)
    ratio = squares / variance
    if number < _WINSORED_ROUNDS:
        found = np.minimum(ratio, _WINSOR).mean(axis=0) / _WINSORED
        counts = np.full(variance.size, len(squares))
    else:
        kept = ratio < _CUT
        counts = kept.sum(axis=0)
        found = np.where(kept, ratio, 0).sum(axis=0) / np.maximum(counts, 1) / _CUT_MEAN
    root = np.sqrt(counts) / variance
    design = terms * root
    scale = np.sqrt(np.square(design).sum(axis=1)) + _LEAST_SCALE
    information = design @ design.T / scale / scale[:, np.newaxis] + _RIDGE * np.eye(len(terms))
    projection = design @ ((found * variance - known) * root) / scale
    solved = non_negative(information, projection)
    # squares of normal deviations have twice the square of the variance; pairs share exposures
    n = 0.5 + np.sqrt(0.25 + 2 * len(squares))
    errors = np.sqrt(2 * len(squares) / (n - 1) * np.diag(np.linalg.inv(information))) / scale
    return solved / scale, errors


def non_negative(matrix: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """Minimise ½ xᵀAx − bᵀx for x ≥ 0, by trying which of the few unknowns are 0.

    Parameters
    ----------
    matrix : (k, k) array
        A, positive definite.
    vector : (k,) array
        b.

    Returns
    -------
    (k,) array
    """
    k = len(vector)
    free = np.array(list(product((False, True), repeat=k)))
    both = free[:, :, np.newaxis] & free[:, np.newaxis, :]
    right = np.where(free, vector, 0)[..., np.newaxis]
    solved = np.linalg.solve(np.where(both, matrix, np.eye(k)), right)[..., 0]
    gain = np.where((solved < 0).any(axis=1), -np.inf, solved @ vector)
    return solved[gain.argmax()]
