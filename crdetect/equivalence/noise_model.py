"""Noise model of real exposures, fitted to the scatter between them.

The variance of a value of expectation λ, in electrons, is

    s² = λ + rnoise² + n + a λ² + b (∂λ/∂x)² + c (∂λ/∂y)²,

where n is the square of the read noise in excess of the stated value, a λ² the variance due to
remaining differences of flux, and b and c the squares of remaining shifts and changes of width. No
term is negative.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product

import numpy as np

from crdetect.equality import by_value
from crdetect.masks import dilate
from crdetect.resources import ALL_PROCESSORS, Resources
from crdetect.stack import for_row_blocks

# Constants without another source were chosen by hand. Changing one of them by a factor of 1.5 or
# more changes the share of double hits found by less than 0.0003, and the false pixels of MEDIANCR
# by less than 0.2 per Mpx (page "Constants"; python -m benchmarks.sensitivity).

# Maximum number of pixels in the fit: it limits the time.
_MOST_PIXELS = 60_000
# Maximum number of iterations, and number of the first ones, in which squares are clipped.
_ROUNDS, _WINSORED_ROUNDS = 20, 6
# Limits of squared residuals in units of their variance: clipped at (2 σ)², rejected above (3 σ)².
_WINSOR, _CUT = 4.0, 9.0
# Minimum of a term in units of its standard error; smaller terms are set to 0.
_SIGNIFICANT = 2.0
# Ridge of the normalised information matrix, which is singular if two terms are proportional.
_RIDGE = 1e-9
# Scale of a term that is 0 everywhere, to avoid a division by 0; no effect on results.
_LEAST_SCALE = 1e-100
# Number of bins of the signal, in which variances are averaged for figures; no effect on masks.
_LEVELS = 30
# Minimum variance, electrons², to avoid a division by 0.
_LEAST_VARIANCE_E2 = 1e-6
# Height above the mean of the other values, in units of σ, from which a pixel may hold a cosmic
# ray, and distance in pixels around it that is left out of the fit as well.
_HIT, _AROUND_PX = 5.0, 2
# Minimum of the term n in units of the stated read noise squared: faint wings of cosmic rays, which
# are not left out, look like less.
_LEAST_EXCESS = 0.1


def _squares_below(limit: float) -> tuple[float, float]:
    """Return the share of squared Gaussian residuals below a limit, and their part of the mean."""
    share = math.erf(math.sqrt(limit / 2))
    return share, share - math.sqrt(2 * limit / math.pi) * math.exp(-limit / 2)


# Means of squared Gaussian residuals of variance 1, after clipping and after rejection (analytic).
_WINSORED = _squares_below(_WINSOR)[1] + _WINSOR * (1 - _squares_below(_WINSOR)[0])
_CUT_MEAN = _squares_below(_CUT)[1] / _squares_below(_CUT)[0]


@by_value
@dataclass(frozen=True)
class Spread:
    """Variance of the exposures in bins of the signal, for figures and checks of quality.

    Attributes
    ----------
    signal_e : (L,) array
        Mean signal of the pixels of a bin, electrons.
    measured : (L,) array
        Measured variance, electrons².
    known : (L,) array
        Variance of photons and stated read noise, electrons².
    modelled : (L,) array
        Variance of the fitted noise model, electrons².
    """

    signal_e: np.ndarray
    measured: np.ndarray
    known: np.ndarray
    modelled: np.ndarray


@by_value
@dataclass(frozen=True)
class NoiseModel:
    """Terms of the variance beyond photon noise and stated read noise.

    Attributes
    ----------
    excess_e2 : float
        n, the variance of unstated read noise, electrons².
    flux : float
        a, the square of a relative difference of flux.
    shift_x, shift_y : float
        b and c, the squares of shifts in x and y, pixel².
    errors : tuple of 4 floats
        Standard errors of n, a, b, c.
    measured_rnoise_e : tuple of 2 floats
        Read noise measured in the exposures, and its standard error, electrons.
    photon_slope : tuple of 2 floats
        Measured variance of photon noise relative to the signal, and its standard error. It is 1 if
        the stated gain is right; else the true gain is the stated one divided by this factor.
    spread : Spread or None
        Variance in bins of the signal; None if too few pixels were left for a fit.
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
        """Terms n, a, b and c."""
        return self.excess_e2, self.flux, self.shift_x, self.shift_y

    def extra_variance_e2(
        self, signal_e: np.ndarray, slopes_e: tuple[np.ndarray, np.ndarray]
    ) -> np.ndarray:
        """Return the variance beyond photon noise and stated read noise, electrons².

        Parameters
        ----------
        signal_e : array
            Expectation λ, electrons.
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
    resources: Resources = ALL_PROCESSORS,
) -> NoiseModel:
    """Fit the noise model to the squared differences between exposures.

    Parameters
    ----------
    level_e : (N, rows, columns) array
        Exposures less the fitted differences between them, electrons.
    template_e : (rows, columns) array
        Common expectation of the exposures, electrons.
    slopes_e : two (rows, columns) arrays
        Its derivatives in x and y, electrons per pixel.
    rnoise2_e2 : float or (rows, columns) array
        Read noise squared, electrons².
    tolerance : NoiseModel
        Assumed noise terms with which outliers are recognised as cosmic rays before the fit.
    usable : (rows, columns) array of bool, optional
        Pixels that have data in all exposures; all by default.

    Notes
    -----
    Half the squared difference between two exposures has the variance as its expectation. The terms
    are fitted to these squares by iterated, weighted, non-negative least squares. For robustness
    against cosmic rays the squares are clipped at 2 σ in the first iterations and rejected above
    3 σ afterwards, with the corresponding corrections for Gaussian noise. Terms below two standard
    errors are set to 0.
    """
    rnoise2 = np.broadcast_to(np.float32(rnoise2_e2), template_e.shape)
    clean = _far_from_hits(level_e, template_e, slopes_e, rnoise2, tolerance, resources)
    usable = clean if usable is None else clean & usable
    place = _sample(template_e, slopes_e, rnoise2, usable, resources)
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
    # the same fit with free photon and read noise, to measure gain and read noise
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
    """Iterate the fit until it converges; return coefficients and their standard errors."""
    coefficients = start
    for number in range(_ROUNDS):
        last = coefficients
        coefficients, errors = _improve(coefficients, squares, terms, known, number)
        if number > _WINSORED_ROUNDS and np.allclose(coefficients, last, rtol=0.02, atol=1e-7):
            break
    return coefficients, errors


def _spread(squares, signal, known, modelled) -> Spread:
    """Average the variances in bins of the signal with equal numbers of pixels."""
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


def _far_from_hits(
    level, template, slopes, rnoise2, tolerance: NoiseModel, resources
) -> np.ndarray:
    """Return the mask of pixels without a high outlier in them or within a few pixels."""
    far = np.empty(level.shape[1:], bool)

    def find_rows(rows: slice) -> None:
        highest = np.maximum.reduce(level[:, rows])
        others = (np.add.reduce(level[:, rows]) - highest) / np.float32(len(level) - 1)
        slopes_here = slopes[0][rows], slopes[1][rows]
        variance = rnoise2[rows] + tolerance.extra_variance_e2(template[rows], slopes_here)
        limit = np.float32(_HIT) * np.sqrt(np.maximum(others, 0) + variance)
        np.greater(highest - others, limit, out=far[rows])

    for_row_blocks(find_rows, far.shape, resources)
    return ~dilate(far, _AROUND_PX)


def _sample(template, slopes, rnoise2, usable, resources) -> np.ndarray:
    """Choose pixels for the fit: as many of the bright or steep half as of the other half."""
    informative = np.empty(template.shape, np.float32)

    def weigh_rows(rows: slice) -> None:
        steepness = sum(np.square(image[rows]) for image in (template, *slopes))
        variance = np.maximum(np.maximum(template[rows], 0) + rnoise2[rows], _LEAST_VARIANCE_E2)
        np.divide(steepness, variance, out=informative[rows])

    for_row_blocks(weigh_rows, template.shape, resources)
    informative = informative.ravel()
    bright = informative > np.quantile(informative[::37], 0.5)
    groups = []
    for chosen in (bright, ~bright):
        place = np.flatnonzero(chosen & usable.ravel())
        groups.append(place[:: place.size // (_MOST_PIXELS // 2) + 1])
    return np.concatenate(groups)


def _improve(coefficients, squares, terms, known, number) -> tuple[np.ndarray, np.ndarray]:
    """Do one iteration of the fit, weighted with the variances of the last one."""
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
    # the variance of a squared Gaussian residual is twice its mean squared; pairs share exposures
    n = 0.5 + np.sqrt(0.25 + 2 * len(squares))
    errors = np.sqrt(2 * len(squares) / (n - 1) * np.diag(np.linalg.inv(information))) / scale
    return solved / scale, errors


def non_negative(matrix: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """Minimise ½ xᵀAx − bᵀx for x ≥ 0, by trying all sets of unknowns that may be 0.

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
    # SciPy's nnls differs by rounding only, but importing scipy.optimize would cost a run 0.25 s,
    # and five unknowns, the most there are, have only 32 sets
    k = len(vector)
    free = np.array(list(product((False, True), repeat=k)))
    both = free[:, :, np.newaxis] & free[:, np.newaxis, :]
    right = np.where(free, vector, 0)[..., np.newaxis]
    solved = np.linalg.solve(np.where(both, matrix, np.eye(k)), right)[..., 0]
    gain = np.where((solved < 0).any(axis=1), -np.inf, solved @ vector)
    return solved[gain.argmax()]
