"""95 % intervals of what was measured over several seeds.

Pixels of one cosmic ray are found or missed together, so counting statistics are too narrow; where
few seeds see the event at all, resampling the seeds is. The wider limit of the two is taken.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from scipy import stats

from benchmarks.quality.metrics import Score, total

LEVEL = 0.95
_RESAMPLED = 1000


def interval(scores: Sequence[Score], measure: str) -> tuple[float, float]:
    """Interval of a measure (`metrics.MEASURES`); NaN where there is no way to know."""
    low, high = _counting(total(scores), measure)
    lowest, highest = bootstrap(scores, measure)
    return _extreme(np.nanmin, low, lowest), _extreme(np.nanmax, high, highest)


def wilson(found: float, among: float) -> tuple[float, float]:
    """Wilson's interval of a share."""
    if not among:
        return math.nan, math.nan
    z2 = stats.norm.ppf(0.5 + LEVEL / 2) ** 2
    share = found / among
    middle = (share + z2 / (2 * among)) / (1 + z2 / among)
    half = math.sqrt(z2 * (share * (1 - share) + z2 / (4 * among)) / among) / (1 + z2 / among)
    return max(middle - half, 0.0), min(middle + half, 1.0)


def garwood(count: float) -> tuple[float, float]:
    """Exact interval of the mean of a Poisson distribution."""
    tail = (1 - LEVEL) / 2
    low = stats.chi2.ppf(tail, 2 * count) / 2 if count else 0.0
    return float(low), float(stats.chi2.ppf(1 - tail, 2 * count + 2) / 2)


def bootstrap(scores: Sequence[Score], measure: str) -> tuple[float, float]:
    """Interval from the seeds drawn with replacement; NaN for fewer than three."""
    if len(scores) < 3:
        return math.nan, math.nan
    values = np.array([score.values() for score in scores])
    rng = np.random.default_rng(1)
    drawn = values[rng.integers(len(values), size=(_RESAMPLED, len(values)))].sum(axis=1)
    measured = [Score(*row).measures()[measure] for row in drawn.tolist()]
    low, high = np.nanquantile(measured, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _counting(score: Score, measure: str) -> tuple[float, float]:
    if measure in ("double", "single"):
        return wilson(getattr(score, f"{measure}_found"), getattr(score, f"{measure}_px"))
    areas = {
        "false_px": score.px / 1e6,
        "false_features": 1,
        "false_crmask": score.exposure_px / 1e6,
    }
    counts = {"false_crmask": score.false_crmask_px}
    count = counts.get(measure, getattr(score, measure, math.nan))
    if measure not in areas or math.isnan(count):
        return math.nan, math.nan
    return tuple(limit / areas[measure] for limit in garwood(count))


def _extreme(pick: Callable, *values: float) -> float:
    return math.nan if all(map(math.isnan, values)) else float(pick(values))
