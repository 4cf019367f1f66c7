"""How masks and the combined image of a case compare with the truth, as issue 7 defines it.

σ is sqrt(signal + read noise²) in electrons, of an exposure without its cosmic rays. Scores hold
counts and sums, so that those of several fields add up; ratios are taken at the end.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields

import numpy as np
from scipy import ndimage

from benchmarks.quality.fields import Case

STRONG, WEAK = 5.0, 1.0  # σ
DOUBLE = 2  # exposures
_NEIGHBOURS = np.ones((3, 3), bool)


@dataclass(frozen=True)
class Answer:
    """Masks and combined image that a method makes of a case.

    Attributes
    ----------
    mediancr : (rows, columns) array of bool
        Pixels hit in two exposures.
    crmasks : (N, rows, columns) array of bool
        Pixels hit in each exposure.
    meancr2_adu : (rows, columns) array
        The exposures combined without them.
    """

    mediancr: np.ndarray
    crmasks: np.ndarray
    meancr2_adu: np.ndarray


@dataclass(frozen=True)
class Score:
    """Counts and sums over one field or several; those that are not known are NaN.

    Attributes
    ----------
    px, exposure_px : float
        Pixels judged, and pixels × exposures.
    double_px, double_found : float
        Pixels hit above 5 σ in two exposures; those in MEDIANCR.
    false_px, false_features : float
        Pixels of MEDIANCR farther than one pixel from any hit above 1 σ in two exposures, and its
        features without a pixel nearer.
    features : float
        Features of MEDIANCR.
    single_px, single_found : float
        Pixels of exposures hit above 5 σ, none where hits were planted across others; those in
        that exposure's CRMASK.
    false_crmask_px : float
        Pixels of CRMASKs farther than one pixel from any hit above 1 σ in that exposure.
    once_px : float
        Pixels hit above 5 σ in one exposure exactly, with a value in the ideal combination, none
        where hits were planted across others.
    bias_sum, square_sum : float
        There: combined_meancr2 minus the noiseless field, electrons, summed, and its square.
    ideal_bias_sum, ideal_square_sum : float
        The same of the ideal: the mean of the exposures without charge above 1 σ.
    """

    px: float
    exposure_px: float
    double_px: float
    double_found: float
    false_px: float
    false_features: float
    features: float
    single_px: float
    single_found: float
    false_crmask_px: float
    once_px: float
    bias_sum: float
    square_sum: float
    ideal_bias_sum: float
    ideal_square_sum: float

    def __add__(self, other: Score) -> Score:
        return Score(*(a + b for a, b in zip(self.values(), other.values(), strict=True)))

    def values(self) -> tuple[float, ...]:
        """All counts and sums, in order."""
        return tuple(getattr(self, item.name) for item in fields(self))

    def measures(self) -> dict[str, float]:
        """Ratios, by the names in `MEASURES`; NaN where there is nothing to divide by."""
        mpx, exposure_mpx = self.px / 1e6, self.exposure_px / 1e6
        bias, square = _ratio(self.bias_sum, self.once_px), _ratio(self.square_sum, self.once_px)
        ideal_square = _ratio(self.ideal_square_sum, self.once_px)
        return {
            "double": _ratio(self.double_found, self.double_px),
            "false_px": _ratio(self.false_px, mpx),
            "false_features": self.false_features,
            "single": _ratio(self.single_found, self.single_px),
            "false_crmask": _ratio(self.false_crmask_px, exposure_mpx),
            "bias_e": bias,
            "ideal_bias_e": _ratio(self.ideal_bias_sum, self.once_px),
            "rms_e": math.sqrt(square),
            "ideal_rms_e": math.sqrt(ideal_square),
            "rms_ratio": math.sqrt(_ratio(square, ideal_square)),
        }


MEASURES = {
    "double": "double hits found",
    "false_px": "false MEDIANCR px per Mpx",
    "false_features": "false features",
    "single": "single hits found",
    "false_crmask": "false CRMASK px per Mpx and exposure",
    "bias_e": "bias of meancr2 at pixels hit once, e",
    "ideal_bias_e": "of the ideal mean",
    "rms_e": "rms of meancr2 there, e",
    "ideal_rms_e": "of the ideal mean",
    "rms_ratio": "rms over ideal",
}


@dataclass(frozen=True)
class Truth:
    """Where cosmic rays hit.

    Attributes
    ----------
    strong, weak : (N, rows, columns) arrays of bool
        Charge above 5 σ, above 1 σ.
    """

    strong: np.ndarray
    weak: np.ndarray

    @classmethod
    def of(cls, case: Case) -> Truth:
        """Compare the charge with the noise of each exposure."""
        sigma = np.sqrt(np.maximum(case.signal_e, 0) + case.rnoise_e**2)
        return cls(case.charge_e > STRONG * sigma, case.charge_e > WEAK * sigma)

    @property
    def double(self) -> np.ndarray:
        """Hit above 5 σ in two exposures."""
        return self.strong.sum(axis=0) >= DOUBLE

    @property
    def near_double(self) -> np.ndarray:
        """Within a pixel of one hit above 1 σ in two exposures."""
        return grown(self.weak.sum(axis=0) >= DOUBLE)

    @property
    def once(self) -> np.ndarray:
        """Hit above 5 σ in one exposure exactly."""
        return self.strong.sum(axis=0) == 1


def grown(mask: np.ndarray) -> np.ndarray:
    """Add the eight neighbours of each pixel."""
    return ndimage.binary_dilation(mask, _NEIGHBOURS)


def score(case: Case, answer: Answer) -> Score:
    """Judge an answer.

    Of real exposures, the masks of exposures and the combined image are judged by the added hits
    only: what is flagged besides may be a cosmic ray, and the noiseless field is not known.
    """
    truth = Truth.of(case)
    false = answer.mediancr & ~truth.near_double
    labels, n = ndimage.label(answer.mediancr, _NEIGHBOURS)
    true_features = np.unique(labels[answer.mediancr & truth.near_double]).size
    false_crmask = sum(
        np.count_nonzero(mask & ~grown(weak))
        for mask, weak in zip(answer.crmasks, truth.weak, strict=True)
    )
    residuals = _residuals(case, truth, answer) if case.simulated else [np.nan] * 5
    numbers = (
        false.size,
        truth.strong.size,
        truth.double.sum(),
        (truth.double & answer.mediancr).sum(),
        false.sum(),
        n - true_features,
        n,
        (truth.strong & ~case.planted).sum(),
        (truth.strong & ~case.planted & answer.crmasks).sum(),
        false_crmask if case.simulated else np.nan,
        *residuals,
    )
    return Score(*map(float, numbers))


def _residuals(case: Case, truth: Truth, answer: Answer) -> list[float]:
    """Give number, sum and sum of squares of the residuals at pixels hit once, and the ideal's."""
    ideal_e = ideal_mean_e(case, truth)
    judged = truth.once & ~case.planted & ~np.isnan(ideal_e)
    field_e = case.signal_e.mean(axis=0, dtype=np.float64)[judged]
    residual = answer.meancr2_adu[judged] * case.gain - field_e
    ideal = ideal_e[judged] - field_e
    sums = (residual.sum(), np.square(residual).sum(), ideal.sum(), np.square(ideal).sum())
    return [np.count_nonzero(judged), *sums]


def ideal_mean_e(case: Case, truth: Truth) -> np.ndarray:
    """Mean of the exposures with the true masks (charge above 1 σ); NaN where all are hit."""
    clean = ~truth.weak
    total = np.sum(case.exposures_adu, axis=0, dtype=np.float64, where=clean) * case.gain
    with np.errstate(invalid="ignore"):
        return total / clean.sum(axis=0)


def total(scores: Iterable[Score]) -> Score:
    """Add scores."""
    first, *rest = scores
    for other in rest:
        first = first + other
    return first


def as_dict(score_: Score) -> dict[str, float | None]:
    """Give counts and sums for JSON, which knows no NaN."""
    return {name: None if math.isnan(v) else v for name, v in asdict(score_).items()}


def from_dict(values: dict[str, float | None]) -> Score:
    """Read what `as_dict` made."""
    return Score(**{name: math.nan if v is None else v for name, v in values.items()})


def _ratio(number: float, by: float) -> float:
    return number / by if by else math.nan
