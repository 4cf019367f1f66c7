"""Which exposures of a pixel were hit: hypotheses compared by their posterior odds.

The values of a pixel that no cosmic ray hit are draws of one expectation λ. The hypothesis "the k
highest values are hits" has a likelihood that is made of two parts: the deviance of the other
values from their mean, and a broad distribution of the charges of the hits. The prior probability
of a hit is small where no neighbour is hit, and large beside a track that was found.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import NormalDist
from typing import NamedTuple

import cv2
import numpy as np

from crdetect.equality import by_value
from crdetect.masks import dilate
from crdetect.resources import ALL_PROCESSORS, Resources
from crdetect.stack import for_row_blocks

# Constants without another source were chosen by hand. Changing one of them by a factor of about
# 1.5 changes the share of double hits found by less than 0.001, and the false pixels of MEDIANCR by
# less than 1 per Mpx, unless its comment says more (page "Constants"; python -m
# benchmarks.sensitivity).

# Logarithm of the normalisation of a Gaussian density.
_LOG_ROOT_2PI = 0.5 * np.log(2 * np.pi)
# Charges of hits have a density of 1/(charge · this) from 1 to 1000 σ: each factor of ten is as
# probable as any other. With a maximum of 100 σ, 0.001 more of the double hits are found, and the
# false pixels are 4.1 instead of 2.4 per Mpx; with 10 000 σ, 0.001 fewer, and 1.7 per Mpx.
_LOG_CHARGES = np.log(1000.0)
# Minimum charge, in units of σ, at which that density is evaluated: it would diverge at 0.
_LEAST_CHARGE = 1.2
# Minimum of value + read noise², electrons: its logarithm must be finite.
_LEAST_LEVEL_E = 1e-3

_PRIOR_BESIDE = np.array([-5.3, 0.9, 0.75], np.float32)
"""Prior log-odds that a neighbour of a detected track belongs to it: a + b·n + c·ln q, where n of
its 8 neighbours are hit, and q is their summed charge in σ (diagonal neighbours weigh ½). With q =
100 the probability is 0.28 for n = 1, 0.70 for n = 3 and 0.97 for n = 6. ``python -m
benchmarks.prior`` fits −5.07, 0.84 and 0.49 to LSST tracks with wings and drawn tracks without,
equally weighted; a was raised by hand, because more hits are found with it (page "How good is it").
With an a of −6.3 the share of double hits found is 0.991 instead of 0.996, and there are 0.8
instead of 2.4 false pixels per Mpx; with −4.3 the figures are 0.998 and 9.2.
"""

_NEIGHBOURS = tuple((y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if x or y)
# Weights of the charges of neighbours in q: 1 beside, ½ diagonally. With ¼ or 1 diagonally there
# are 1.7 or 3.6 instead of 2.4 false pixels per Mpx.
_NEAR = np.array([1.0 if 0 in place else 0.5 for place in _NEIGHBOURS], np.float32)[:, np.newaxis]

# Pre-selection: only pixels are examined whose highest value is 2.0 σ above the mean of the others,
# or 2.9 σ above the lowest. With 3.0 σ above the mean 0.0006 of the single hits are lost.
_LOO_CANDIDATE, _RANGE_CANDIDATE = 2.0, 2.9
# Change of a pixel's probability of a hit below which its neighbours are not examined again.
_LEAST_CHANGE = 0.02
# Minimum log-likelihood ratio for a pixel to be examined in the first iteration, before anything is
# known of its neighbours.
_LEAST_EVIDENCE = 3.5
# Side of the box in which the variance of the prediction from the neighbours is averaged, pixels.
_BOX_PX = 7
# Variance of the lowest of three standard normal values, 1 + √3/(2π) − 9/(4π) = 0.559. It is used
# for any number of exposures: of two it would be 0.68, of nine 0.36.
_VARIANCE_OF_LOWEST = 0.56
# Minimum variance of the prediction from the neighbours, in units of the variance of a value.
_LEAST_VARIANCE = 0.2
# Maximum log-likelihood ratio that the prediction from the neighbours contributes: an image may
# have a spot that nothing around announces.
_MOST_FROM_AROUND = 5.0
# Maximum number of iterations: growing a track stops there.
_ROUNDS = 40
# Number of candidates per call, so that their arrays stay in the processor's cache; no effect on
# results.
_AT_A_TIME = 1 << 15


@dataclass(frozen=True)
class Thresholds:
    """Thresholds above which a value is a hit.

    Attributes
    ----------
    strong : float
        Significance that an isolated hit needs, in units of sigma.
    weak : float
        Minimum charge of any hit, even next to a detected track, in units of sigma.
    """

    strong: float
    weak: float

    @classmethod
    def for_false_alarms(cls, per_megapixel: float, weak: float) -> Thresholds:
        """Return the thresholds for a maximum rate of false alarms, per exposure."""
        return cls(-NormalDist().inv_cdf(per_megapixel * 1e-6), weak)

    @property
    def log_odds(self) -> float:
        """Prior log-odds that an isolated pixel is hit, before its value is known."""
        return -(0.5 * self.strong**2 + float(_log_charge(np.float32(self.strong))))


def find_hits(
    level_e: np.ndarray,
    present: np.ndarray | None,
    rnoise2_e2: float | np.ndarray,
    inflation: np.ndarray,
    thresholds: Thresholds,
    resources: Resources = ALL_PROCESSORS,
) -> np.ndarray:
    """Find the hits of each exposure.

    Parameters
    ----------
    level_e : (N, rows, columns) array of float32
        Exposures less the fitted differences between them, electrons; finite. The clean values of
        a pixel have one expectation.
    present : (N, rows, columns) array of bool, or None
        True where there are data; None if there are data everywhere.
    rnoise2_e2 : float or (rows, columns) array
        Read noise squared, electrons².
    inflation : (rows, columns) array of float32
        Variance of a value relative to Poisson and read noise, at least 1.
    thresholds : Thresholds
        Thresholds of significance and charge.

    Returns
    -------
    (N, rows, columns) array of bool
        True where an exposure is hit. At least one value of each pixel is not.

    Notes
    -----
    The significance of a value is the signed square root of the likelihood-ratio statistic
    (deviance) for it and the mean of the lower values being Poisson draws of one unknown mean. To
    account for read noise, its square is added to both counts. The tail is Gaussian to a few per
    cent out to 5 σ even at a few electrons, where (x − mean)/σ is wrong by factors. The deviances
    of the values of a pixel, taken one by one from the lowest, add up to the deviance of all of
    them, so that hypotheses are compared by partial sums.

    The hits of one iteration are the neighbours of the next: tracks grow along probable pixels
    until no probability changes any more.

    References
    ----------
    Wilks 1938, Ann. Math. Stat. 9, 60. Snyder, Hammoud & White 1993, J. Opt. Soc. Am. A 10, 1014
    (read noise as photons). Besag 1986, J. R. Stat. Soc. B 48, 259 (iterated conditional modes).
    """
    candidates = _Candidates.among(level_e, present, rnoise2_e2, inflation, resources)
    changed = candidates.judge(thresholds, candidates.remarkable())
    for _ in range(_ROUNDS):
        if not changed.size:
            break
        changed = candidates.judge(thresholds, candidates.beside(changed))
    return candidates.mask()


def _log_charge(charge: np.ndarray) -> np.ndarray:
    """Logarithm of the probability density of a charge in units of σ, times √(2π)."""
    return _LOG_ROOT_2PI - np.log(np.maximum(charge, _LEAST_CHARGE) * np.float32(_LOG_CHARGES))


class Surroundings(NamedTuple):
    """Prediction of a pixel's expectation from the pixels around it.

    Attributes
    ----------
    mean_e : array
        Predicted expectation, electrons.
    variance_e2 : array
        Variance of the true expectation about the predicted one, electrons².
    """

    mean_e: np.ndarray
    variance_e2: np.ndarray


def look_around(
    level_e: np.ndarray, rnoise2_e2: float | np.ndarray, resources: Resources = ALL_PROCESSORS
) -> Surroundings:
    """Predict the expectation of each pixel from the eight around.

    Parameters
    ----------
    level_e : (N, rows, columns) array of float32
        Exposures less the fitted differences between them, electrons.
    rnoise2_e2 : float or (rows, columns) array
        Read noise squared, electrons².

    Returns
    -------
    Surroundings
        Means of the eight neighbours. The variance is the mean square of prediction − observation
        in the 7 × 7 pixels around, less the part of it that is noise.
    """
    # expected distance of the minimum of N normal draws from their mean (Blom 1958)
    rise = np.float32(-NormalDist().inv_cdf((1 - 0.375) / (len(level_e) + 0.25)))
    noise2, expected = np.empty((2, *level_e.shape[1:]), np.float32)
    read = np.broadcast_to(np.float32(rnoise2_e2), noise2.shape)

    def expect_rows(rows: slice) -> None:
        lowest = np.minimum.reduce(level_e[:, rows])
        noise2[rows] = np.maximum(lowest, 0) + read[rows]
        expected[rows] = lowest + rise * np.sqrt(noise2[rows])

    for_row_blocks(expect_rows, noise2.shape, resources)
    ring = np.full((3, 3), 1 / 8, np.float32)
    ring[1, 1] = 0
    mean = cv2.filter2D(expected, -1, ring, borderType=cv2.BORDER_REFLECT)
    structure = cv2.blur(np.square(expected - mean), (_BOX_PX, _BOX_PX))
    structure -= np.float32(_VARIANCE_OF_LOWEST * 9 / 8) * noise2
    variance = np.maximum(structure, 0) + np.float32(_LEAST_VARIANCE) * noise2
    return Surroundings(mean, variance)


def deviances(
    values: np.ndarray,
    rnoise2: float | np.ndarray,
    inflation: float | np.ndarray = 1.0,
    around: Surroundings | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the deviance of the m lowest values of each pixel from their mean, for each m.

    Parameters
    ----------
    values : (N, n) array
        Values of n pixels in ascending order, electrons; infinite where data are missing.
    rnoise2, inflation : float or (n,) array
        Read noise squared, electrons²; variance relative to Poisson and read noise.
    around : Surroundings, optional
        Prediction of the expectation, which counts as one more value. It adds a limited deviance.

    Returns
    -------
    deviances, means : (N, n) arrays
        Row m − 1 has the deviance of the m lowest values, and their mean in electrons.
    """
    # double precision: the sums of bright pixels are millions of times their differences
    photons = np.maximum(values + rnoise2, _LEAST_LEVEL_E).astype(np.float64)
    sums = np.cumsum(photons, axis=0)
    logs = np.cumsum(photons * np.log(photons), axis=0)
    number = np.arange(1.0, len(values) + 1)[:, np.newaxis]
    means = sums / number
    alone = 2 * np.maximum(logs - sums * np.log(means), 0) / inflation
    if around is None:
        return alone, means - rnoise2
    there = np.maximum(around.mean_e + rnoise2, _LEAST_LEVEL_E)
    own, other = number / (means * inflation), 1 / around.variance_e2
    both = (own * means + other * there) / (own + other)
    together = 2 * (logs - sums * np.log(both) - sums + number * both) / inflation
    together += np.square(both - there) * other
    return np.minimum(together, alone + 2 * _MOST_FROM_AROUND), means - rnoise2


@by_value
@dataclass
class _Candidates:
    """Pixels that may be hit, with the present probabilities of their hits.

    Attributes
    ----------
    shape : tuple of int
        Shape of the stack: N, rows, columns.
    place : (n,) array of int
        Flat index of each candidate in an image.
    values, order : (N, n) arrays
        Values in ascending order, electrons, and the index of the exposure of each.
    rank_of : (N, n) array
        Rank of the value of each exposure, from 0.
    counts : (n,) array of int
        Number of values of each candidate; missing values come last in the order.
    rnoise2, inflation : (n,) arrays
        Read noise squared, electrons²; variance relative to Poisson and read noise.
    evidence, means : (N, n) arrays
        Log-likelihood ratio (half the deviance) that each value adds, and the mean of this value
        and the lower ones, electrons.
    hit : (N, n + 1) array of bool
        Hits by exposure. The last column, never hit, stands for all pixels that are no candidates.
    chance, charge : (N, n + 1) arrays of float32
        Probability of a hit, and its charge in units of σ.
    index : (rows + 2, columns + 2) array of int
        Number of the candidate at each pixel, n where there is none; the image has a border of one
        pixel, so that each pixel has eight neighbours.
    """

    shape: tuple[int, int, int]
    resources: Resources
    place: np.ndarray
    values: np.ndarray
    order: np.ndarray
    rank_of: np.ndarray
    counts: np.ndarray
    rnoise2: np.ndarray
    inflation: np.ndarray
    evidence: np.ndarray
    means: np.ndarray
    hit: np.ndarray = field(init=False)
    chance: np.ndarray = field(init=False)
    charge: np.ndarray = field(init=False)
    index: np.ndarray = field(init=False)

    @classmethod
    def among(cls, level, present, rnoise2, inflation, resources) -> _Candidates:
        """Select the pixels whose highest value could be a hit with the most favourable prior."""
        n, columns = len(level), level.shape[2]
        surroundings = look_around(level, rnoise2, resources)
        read_noise = np.broadcast_to(np.float32(rnoise2), level.shape[1:])

        def select(rows: slice) -> tuple[np.ndarray, ...]:
            here, read, inflated = level[:, rows], read_noise[rows], inflation[rows]
            highest, lowest = np.maximum.reduce(here), np.minimum.reduce(here)
            sigma = np.sqrt((np.maximum(lowest, 0) + read) * inflated)
            others = (np.add.reduce(here) - highest) / np.float32(n - 1)
            possible = highest - others > _LOO_CANDIDATE * sigma
            possible |= highest - lowest > _RANGE_CANDIDATE * sigma
            place = np.flatnonzero(possible)
            values = here.reshape(n, -1).take(place, axis=1)
            counts = np.full(place.size, n)
            if present is not None:
                there = present[:, rows].reshape(n, -1).take(place, axis=1)
                values = np.where(there, values, np.float32(np.inf))
                counts = there.sum(axis=0)
            order = np.argsort(values, axis=0, kind="stable")
            values = np.take_along_axis(values, order, axis=0)
            read, inflated = read.ravel()[place], inflated.ravel()[place]
            around = Surroundings(*(image[rows].ravel()[place] for image in surroundings))
            with np.errstate(invalid="ignore"):  # missing values are infinite
                found, means = deviances(values, read, inflated, around)
                evidence = 0.5 * np.diff(found, axis=0, prepend=0)
            weighed = evidence.astype(np.float32), means.astype(np.float32)
            places = place + rows.start * columns, values, order, np.argsort(order, axis=0)
            return *places, counts, read, inflated, *weighed

        pieces = zip(*for_row_blocks(select, level.shape[1:], resources), strict=True)
        return cls(level.shape, resources, *(np.concatenate(piece, axis=-1) for piece in pieces))

    def __post_init__(self):
        n, size = self.values.shape
        self.hit = np.zeros((n, size + 1), bool)
        self.chance = np.zeros((n, size + 1), np.float32)
        self.charge = np.zeros((n, size + 1), np.float32)
        rows, columns = self.shape[1:]
        self.index = np.full((rows + 2, columns + 2), size, np.int32)
        self.index[1:-1, 1:-1].flat[self.place] = np.arange(size, dtype=np.int32)

    @property
    def size(self) -> int:
        """Number of candidates."""
        return self.place.size

    def mask(self) -> np.ndarray:
        """Return the masks of hits of all exposures."""
        mask = np.zeros(self.shape, bool)
        mask.reshape(len(mask), -1)[:, self.place] = self.hit[:, :-1]
        return mask

    def remarkable(self) -> np.ndarray:
        """Return the candidates whose values differ enough to be examined without neighbours."""
        finite = np.where(np.isfinite(self.evidence), self.evidence, 0)
        return np.flatnonzero(finite.sum(axis=0) > _LEAST_EVIDENCE)

    def beside(self, some: np.ndarray) -> np.ndarray:
        """Return the candidates that are neighbours of given ones, and those themselves."""
        mask = np.zeros(self.shape[1:], bool)
        mask.flat[self.place[some]] = True
        return np.flatnonzero(dilate(mask, 1).ravel()[self.place])

    def judge(self, thresholds: Thresholds, which: np.ndarray) -> np.ndarray:
        """Update the hits of some candidates; return those whose probabilities changed."""
        prior = np.empty((len(self.hit), which.size), np.float32)
        change = np.empty(which.size, np.float32)

        def look(part: slice) -> None:
            prior[:, part] = self._prior(thresholds, which[part])

        def weigh(part: slice) -> None:
            pixels = which[part]
            before = self.chance.take(pixels, axis=1)
            self._take(self._scores(thresholds, pixels, prior[:, part]), pixels)
            change[part] = np.abs(self.chance.take(pixels, axis=1) - before).max(axis=0)

        parts = [slice(i, i + _AT_A_TIME) for i in range(0, which.size, _AT_A_TIME)]
        with self.resources.pool(len(parts)) as in_threads:
            in_threads(look, parts)  # all priors come first, before a neighbour changes
            in_threads(weigh, parts)
        return which[change > _LEAST_CHANGE]

    def _scores(self, thresholds, pixels, prior) -> np.ndarray:
        """Return the posterior log-odds of 0, 1… hits against none: (N, n)."""
        scores = np.full((len(self.hit), pixels.size), -np.inf, np.float32)
        scores[0] = 0
        counts = self.counts[pixels]
        for count in np.unique(counts):
            same = np.flatnonzero(counts == count)
            for k in range(1, count):
                scores[k, same] = self._score(
                    k, count, pixels[same], prior.take(same, axis=1), thresholds
                )
        return scores

    def _score(self, k, count, pixels, prior, thresholds) -> np.ndarray:
        """Return the posterior log-odds of k hits against none."""
        base = self.means[count - k - 1].take(pixels)
        sigma = self._sigma(base, pixels)
        total = np.zeros(pixels.size, np.float32)
        for m in range(count - k, count):
            charge = (self.values[m].take(pixels) - base) / sigma
            own = np.take_along_axis(prior, self.order[m].take(pixels)[np.newaxis], axis=0)[0]
            total += self.evidence[m].take(pixels) + _log_charge(charge) + own
            total[charge < thresholds.weak] = -np.inf
        return total

    def _sigma(self, level: np.ndarray, pixels: np.ndarray) -> np.ndarray:
        variance = (np.maximum(level, 0) + self.rnoise2[pixels]) * self.inflation[pixels]
        return np.sqrt(variance)

    def _prior(self, thresholds: Thresholds, which: np.ndarray) -> np.ndarray:
        """Return the prior log-odds of a hit in each exposure, from its neighbours: (N, n)."""
        prior = np.full((len(self.hit), which.size), thresholds.log_odds, np.float32)
        if not self.chance.any():
            return prior
        y, x = np.divmod(self.place[which], self.shape[2])
        around = np.array([self.index[y + 1 + dy, x + 1 + dx] for dy, dx in _NEIGHBOURS])
        constant, per_neighbour, per_charge = _PRIOR_BESIDE
        for own, chance, charge in zip(prior, self.chance, self.charge, strict=True):
            here = chance.take(around)
            neighbours = here.sum(axis=0)
            share = np.clip(neighbours, np.finfo(np.float32).tiny, 1)  # P(there is one)
            total = (here * charge.take(around) * _NEAR).sum(axis=0) / share
            odds = constant + per_neighbour * np.maximum(neighbours, 1)
            odds += per_charge * np.log(np.maximum(total, 1))
            np.logaddexp(own, np.log(share) + odds, out=own)
        return prior

    def _take(self, scores: np.ndarray, which: np.ndarray) -> None:
        """Store the probabilities of hits, the most probable hypothesis, and the charges."""
        highest = scores.max(axis=0)
        weights = np.exp(scores - highest)
        at_least = np.cumsum(weights[::-1], axis=0)[::-1]  # probability of so many hits, or more
        at_least /= at_least[0]
        counts, ranks = self.counts[which], self.rank_of.take(which, axis=1)
        from_top = counts - ranks  # 1 for the highest value
        valid = from_top >= 1
        chance = np.take_along_axis(at_least, np.clip(from_top, 1, len(scores) - 1), axis=0)
        chance[~valid | (from_top >= counts)] = 0
        self.chance[:, which] = chance
        number = scores.argmax(axis=0)
        self.hit[:, which] = valid & (from_top <= number)
        clean = counts - np.maximum(number, 1)
        base = np.take_along_axis(self.means.take(which, axis=1), clean[np.newaxis] - 1, axis=0)[0]
        values = np.take_along_axis(self.values.take(which, axis=1), ranks, axis=0)
        above = np.where(valid, np.maximum(np.where(valid, values, 0) - base, 0), 0)
        self.charge[:, which] = above / self._sigma(base, which)
