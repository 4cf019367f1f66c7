"""Is the result to be trusted? Checks of the masks, of the boundary, and of the exposures.

Exposures are compared with what the parameters say of them: flux factors, offsets, photon
statistics and read noise. What is measured here changes no mask.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from enum import IntEnum
from itertools import combinations
from typing import Any

import cv2
import numpy as np

from crdetect.equivalence.flux import measure_flux
from crdetect.equivalence.nbinom import measure_nbinom_shape
from crdetect.equivalence.observation import Observation
from crdetect.equivalence.offsets import LEAST_SIDE_PX, measure_offsets
from crdetect.errors import InputError
from crdetect.masks import Masks
from crdetect.mm.diagram import BINS
from crdetect.mm.method import MedianMinimum
from crdetect.noise import Noise
from crdetect.parameters import Parameters

_TILE_PX = 384  # side of the part of the image where offsets are measured
_NEAR_PX, _PEAK_SIGMA = 5, 5.0  # what exceeds the median of so many pixels around is a peak
_LEAST_PIXELS = 3000  # fewer do not tell the noise
_MOST_PIXELS = 400_000  # more make medians and fits no better
_FAINT_PERCENT, _BRIGHT_PERCENT = 30.0, 99.9
_MATCHED_PERCENT = 99.0
_TELLING = 0.1  # relative error of a read noise that tells something
_NORMAL_MAD = 0.6745  # median absolute deviation of a normal distribution


class Verdict(IntEnum):
    """How good a result is; the names are numina's."""

    GOOD = 0
    PARTIAL = 1
    BAD = 2


@dataclass(frozen=True)
class Check:
    """One thing looked at.

    Attributes
    ----------
    name : str
        What it is.
    value : float
        What was found.
    accepted : str
        What is good, and what is bad.
    verdict : Verdict
        The judgement.
    advice : str
        What to do if it is not good.
    """

    name: str
    value: float
    accepted: str
    verdict: Verdict
    advice: str

    def __str__(self):
        return f"{self.verdict.name}: {self.name} is {self.value:.3g}; {self.accepted}"

    def to_mapping(self) -> dict[str, Any]:
        """Plain values, for a file."""
        return asdict(self) | {"value": float(f"{self.value:.4g}"), "verdict": self.verdict.name}


@dataclass(frozen=True)
class Quality:
    """All checks of a run."""

    checks: tuple[Check, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """That of the worst check."""
        return max((check.verdict for check in self.checks), default=Verdict.GOOD)

    @property
    def reasons(self) -> list[str]:
        """What is not good, the worst first, and what to do about it."""
        wrong = [check for check in self.checks if check.verdict > Verdict.GOOD]
        wrong.sort(key=lambda check: -check.verdict)
        return [f"{check}. {check.advice}" for check in wrong]

    def to_mapping(self) -> dict[str, Any]:
        """Plain values, for a file."""
        checks = [check.to_mapping() for check in self.checks]
        return {"verdict": self.verdict.name, "reasons": self.reasons, "checks": checks}


def assess(
    observation: Observation,
    detected: np.ndarray,
    masks: Masks,
    diagram: MedianMinimum | None,
    parameters: Parameters,
) -> Quality:
    """Judge a result.

    Parameters
    ----------
    observation : Observation
        The exposures, and what the parameters say of them.
    detected : (rows, columns) array of bool
        Pixels that the detector of one image flagged in the median or in any exposure.
    masks : Masks
        The masks.
    diagram : MedianMinimum or None
        The diagram with its boundary, where there is one.
    parameters : Parameters
        Those of the run.

    Returns
    -------
    Quality
        The checks. What cannot be measured (flux, without bright pixels) is not among them.
    """
    checks = [*_of_masks(masks)]
    checks += [] if diagram is None else _of_boundary(diagram, parameters)
    return Quality((*checks, *_of_equivalence(observation, detected, masks, diagram, parameters)))


def assess_stored(masks: Masks, made: Verdict | None, forced: str | None) -> Quality:
    """Judge masks that were made before.

    Parameters
    ----------
    masks : Masks
        The masks.
    made : Verdict or None
        That of the run that made them, where it is known.
    forced : str or None
        How the exposures differ from those of that run, where they do.
    """
    checks = [*_of_masks(masks)]
    if made is not None:
        checks.append(
            Check(
                "verdict of the run that made the masks",
                float(made),
                "0 is GOOD, 1 PARTIAL, 2 BAD",
                made,
                "Its reasons are in the HISTORY of the masks",
            )
        )
    if forced is not None:
        checks.append(
            Check(
                "masks of other exposures",
                1.0,
                "good at 0",
                Verdict.PARTIAL,
                f"It was forced: {forced}",
            )
        )
    return Quality(tuple(checks))


def _judge(value: float, good: float, bad: float) -> Verdict:
    """Judge a value that should be small."""
    return Verdict(int(value > good) + int(value > bad))


# ---------------------------------------------------------------------------------------------
# Masks and boundary


def _of_masks(masks: Masks) -> Iterator[Check]:
    size = masks.mediancr.size
    share = np.count_nonzero(masks.mediancr) / size
    yield Check(
        "share of the pixels in MEDIANCR",
        share,
        "good up to 0.01, bad above 0.1",
        _judge(share, 0.01, 0.1),
        "So many pixels are seldom hit twice: look at diagnostic_mediancr.png and raise the "
        "thresholds, or let the method allow for exposures that differ",
    )
    shares = [np.count_nonzero(crmask) / size for crmask in masks.crmasks]
    worst = int(np.argmax(shares))
    yield Check(
        f"share of the pixels in CRMASK{worst + 1}, the fullest",
        shares[worst],
        "good up to 0.1, bad above 0.3",
        _judge(shares[worst], 0.1, 0.3),
        f"Look at diagnostic_crmask{worst + 1}.png; raise the thresholds of the detector",
    )
    share = np.count_nonzero(masks.crmasks.all(axis=0)) / size
    yield Check(
        "share of the pixels masked in all exposures",
        share,
        "good up to 0.0005, bad above 0.01",
        _judge(share, 5e-4, 1e-2),
        "No exposure is left there: the combinations take the minimum or AUXCLEAN; see MAP",
    )


def _of_boundary(diagram: MedianMinimum, parameters: Parameters) -> Iterator[Check]:
    mm, curve = parameters.mm, diagram.criterion.boundary.curve
    above = _number_above(diagram)
    # a boundary through its points leaves one pixel of all sets in each column above it
    through_points = BINS / mm.mm_nsimulations
    good = 2 * max(through_points, mm.mm_false_pixels or 0)
    yield Check(
        "number of clean pixels expected above the boundary",
        above,
        f"good up to {good:.3g}, bad above {10 * good:.3g}",
        _judge(above, good, 10 * good),
        "The boundary does not follow its points: look at diagnostic_histogram2d.png and change "
        "mm_knots_splfit, mm_ydiag_max or the fixed points",
    )
    points = diagram.criterion.boundary.points
    used = points.y > 0
    if used.any():
        ratio = float(np.median(curve(points.x[used]) / points.y[used]))
        yield Check(
            "height of the boundary relative to its points",
            ratio,
            "good up to 2, bad above 4",
            _judge(ratio, 2.0, 4.0),
            "The boundary lies far above clean pixels: look at diagnostic_histogram2d.png and "
            "change mm_weight_boundary_extension or the fixed points",
        )


def _number_above(diagram: MedianMinimum) -> float:
    """Clean pixels above the boundary: as computed, or else as simulated."""
    if diagram.expected_above is not None:
        return diagram.expected_above
    clean = diagram.clean
    x, y = (
        0.5 * (edges[1:] + edges[:-1]) for edges in (clean.limits.x_edges, clean.limits.y_edges)
    )
    return float(clean.counts[y[:, np.newaxis] > diagram.criterion.boundary(x)].sum())


# ---------------------------------------------------------------------------------------------
# Equivalence


def _of_equivalence(
    observation: Observation,
    detected: np.ndarray,
    masks: Masks,
    diagram: MedianMinimum | None,
    parameters: Parameters,
) -> Iterator[Check]:
    """Compare the exposures with each other, as far as the parameters do not allow for that."""
    if observation.exposure_model is not None:  # the differences were measured, and allowed for
        yield from _of_exposure_model(observation)
        return
    usable = ~masks.meancrt & ~detected & np.isfinite(observation.stack.exposures).all(axis=0)
    advice = _Advice(parameters)
    yield from _of_flux(observation, usable, advice)
    yield from _of_offsets(observation, diagram, advice)
    yield from _of_spread(observation, usable, diagram, advice)
    yield from _of_faint_pixels(observation, usable)


def _of_exposure_model(observation: Observation) -> Iterator[Check]:
    """Judge what is left of the differences, and the read noise as measured."""
    exposure_model = observation.exposure_model
    ratio = float(np.sqrt(np.percentile(exposure_model.inflation[::4, ::4], _MATCHED_PERCENT)))
    yield Check(
        f"noise used relative to photons and read noise, in {_MATCHED_PERCENT:g} % of the pixels",
        ratio,
        "good up to 2, bad above 5",
        _judge(ratio, 2.0, 5.0),
        "The exposures differ in ways that could not be matched: look at diagnostic_noise.png; "
        "weak hits are lost there",
    )
    measured, error = exposure_model.noise_model.measured_rnoise_e
    told = float(np.sqrt(np.mean(np.square(observation.noises[0].rnoise_e))))
    if told == 0 or not error < _TELLING * max(measured, told):
        return
    ratio = measured / told
    yield Check(
        "read noise, from differences of exposures, relative to rnoise",
        ratio,
        "good from 0.7 to 1.4, bad below 0.4 or above 2.5",
        _judge(abs(np.log(max(ratio, 1e-9))), np.log(1.4), np.log(2.5)),
        f"Check gain and rnoise: it would be {measured:.3g} e",
    )


@dataclass(frozen=True)
class _Advice:
    """What the parameters allow for already, and what else they could."""

    parameters: Parameters

    @property
    def wide(self) -> bool:
        """Whether the photon statistics allow for any difference."""
        general, mm = self.parameters.general, self.parameters.mm
        return general.uses_mm and mm.mm_photon_distribution == "nbinom"

    @property
    def single(self) -> bool:
        """Whether each exposure is compared with what is expected of itself."""
        return self.parameters.general.uses_mm and self.parameters.mm.mm_synthetic == "single"

    @property
    def worst(self) -> Verdict:
        """The worst that differences of flux or position can do."""
        harmless = self.wide or self.single or not self.parameters.general.uses_mm
        return Verdict.PARTIAL if harmless else Verdict.BAD

    def __call__(self, first: str = "", kappa: float | None = None) -> str:
        """Tell what to use, as far as it is not used."""
        uses = [first] if first else []
        if self.parameters.general.uses_mm and not self.wide:
            measured = "" if kappa is None else f" (here {kappa:.3g})"
            uses.append(f"mm_photon_distribution: nbinom with mm_nbinom_shape: auto{measured}")
        text = "The exposures are not equivalent"
        if uses:
            return f"{text}: use {', and '.join(uses)}; or crmethod: joint, which matches them"
        return f"{text}; look at diagnostic_mediancr.png for what is flagged because of that"


def _of_flux(observation: Observation, usable: np.ndarray, advice: _Advice) -> Iterator[Check]:
    statistics = observation.statistics
    try:
        flux = measure_flux(observation.stack, observation.noises[0], statistics.median2d, usable)
    except InputError:  # too few bright pixels to tell
        return
    ratios = np.array(flux.factors) / observation.factors * np.median(observation.factors)
    worst = int(np.argmax(np.abs(ratios - 1)))
    ratio = float(ratios[worst])
    general = advice.parameters.general
    known = general.flux_factor is not None
    factor = "flux_factor: auto"
    factor += "" if general.uses_mm else " with apply_flux_factor_to: original"
    yield Check(
        f"flux of exposure {worst + 1}, the most different one, relative to the "
        + ("median and to its flux_factor" if known else "median"),
        ratio,
        "good within 3 % of 1, bad beyond 10 %",
        min(_judge(abs(ratio - 1), 0.03, 0.1), advice.worst),
        advice("" if known else factor),
    )


def _of_offsets(
    observation: Observation, diagram: MedianMinimum | None, advice: _Advice
) -> Iterator[Check]:
    median = observation.statistics.median2d
    if min(median.shape) < LEAST_SIDE_PX:
        return
    region = _most_structured(np.nan_to_num(median))
    images = _without_peaks(observation, region)
    whole = (slice(None), slice(None))
    noises = [noise.select(region) for noise in observation.noises]
    found = measure_offsets(images, noises, whole)
    expected = np.zeros_like(found.xy_px)
    if diagram is not None and diagram.offsets is not None:
        expected = diagram.offsets.xy_px - np.median(diagram.offsets.xy_px, axis=0)
    distances = np.hypot(*(found.xy_px - expected).T)
    worst = int(np.argmax(distances))
    general, mm = advice.parameters.general, advice.parameters.mm
    used = advice.single or mm.has_offsets or not general.uses_mm
    y, x = (
        f"{part.start + 1}, {part.start + size}"
        for part, size in zip(region, images[0].shape, strict=True)
    )
    yield Check(
        f"offset in pixels of exposure {worst + 1}, the most different one, from the median"
        + (" and from its offset allowed for" if expected.any() else ""),
        float(distances[worst]),
        "good up to 0.1, bad above 0.5",
        min(_judge(distances[worst], 0.1, 0.5), advice.worst),
        advice("" if used else f"mm_crosscorr_region: [{x}, {y}]"),
    )


def _without_peaks(observation: Observation, region: tuple[slice, slice]) -> list[np.ndarray]:
    """Cut the exposures, with cosmic rays cut off above the highest median around.

    The masks are of no use here: where exposures differ, they hold the differences too.
    """
    median = np.nan_to_num(observation.statistics.median2d[region])
    highest = cv2.dilate(median, np.ones((_NEAR_PX, _NEAR_PX), np.uint8))
    images = []
    for exposure, noise in zip(observation.stack.exposures, observation.noises, strict=True):
        image = np.where(np.isnan(exposure[region]), median, exposure[region])
        variance = noise.select(region).variance_adu2(highest)
        images.append(np.minimum(image, highest + _PEAK_SIGMA * np.sqrt(variance)))
    return images


def _most_structured(image: np.ndarray) -> tuple[slice, slice]:
    """Choose the part of an image with the most structure in both directions."""
    energies = []
    for axis in (0, 1):
        gradient = np.square(np.diff(image, axis=axis, append=0.0)[:-1, :-1])
        # cosmic rays and hot pixels have steep gradients too, but few
        energies.append(np.minimum(gradient, np.percentile(gradient[::7, ::7], 99)))
    starts = [_starts(size) for size in image.shape]
    tiles = [(slice(y, y + _TILE_PX), slice(x, x + _TILE_PX)) for y in starts[0] for x in starts[1]]
    return max(tiles, key=lambda tile: float(np.prod([each[tile].sum() for each in energies])))


def _starts(size: int) -> list[int]:
    return list(range(0, max(size - _TILE_PX, 0) + 1, _TILE_PX // 2))


def _of_spread(
    observation: Observation, usable: np.ndarray, diagram: MedianMinimum | None, advice: _Advice
) -> Iterator[Check]:
    """Compare the spread of bright pixels with the photon statistics."""
    values, noises = _values(observation, _some(usable))
    try:
        kappa = measure_nbinom_shape(values, noises).value
    except InputError:  # too few bright pixels to tell
        return
    expected = np.inf
    if advice.wide:
        measured = diagram is not None and diagram.nbinom_shape is not None
        expected = diagram.nbinom_shape.value if measured else advice.parameters.mm.mm_nbinom_shape
    bright = max(float(np.percentile(np.mean(values, axis=0), _BRIGHT_PERCENT)), 0.0)
    photons = float(np.mean([np.mean(noise.variance_adu2(bright)) for noise in noises]))
    variances = [photons + bright**2 / shape for shape in (kappa, expected)]
    ratio = float(np.sqrt(variances[0] / variances[1]))
    harmless = advice.single or not advice.parameters.general.uses_mm
    yield Check(
        "spread of bright pixels among exposures, relative to the noise expected,",
        ratio,
        "good up to 1.3, bad above 2",
        min(_judge(ratio, 1.3, 2.0), Verdict.PARTIAL if harmless else Verdict.BAD),
        advice(kappa=kappa),
    )


def _of_faint_pixels(observation: Observation, usable: np.ndarray) -> Iterator[Check]:
    """Compare the noise of faint pixels with read noise and gain."""
    median = observation.statistics.median2d
    if np.count_nonzero(usable) < _LEAST_PIXELS:
        return
    faint = usable & (median <= np.percentile(median[_some(usable)], _FAINT_PERCENT))
    values, noises = _values(observation, _some(faint))
    signal = np.maximum(np.mean(values, axis=0), 0)
    variances = [np.broadcast_to(noise.variance_adu2(signal), signal.shape) for noise in noises]
    if not np.min(variances) > 0:  # without any noise nothing can be told of it
        return
    ratios = []
    for i, j in combinations(range(len(values)), 2):
        deviation = (values[i] - values[j]) / np.sqrt(variances[i] + variances[j])
        ratios.append(np.median(np.abs(deviation - np.median(deviation))) / _NORMAL_MAD)
    ratio, all_noise = float(np.mean(ratios)), np.mean(variances)
    read = np.mean([np.mean(np.square(noise.rnoise_adu)) for noise in noises])
    rnoise = np.sqrt(max(ratio**2 * all_noise - (all_noise - read), 0))
    yield Check(
        "noise of faint pixels in differences of exposures, relative to that of gain and rnoise,",
        ratio,
        "good from 0.8 to 1.25, bad below 0.5 or above 2",
        _judge(abs(np.log(max(ratio, 1e-9))), np.log(1.25), np.log(2.0)),
        f"Check gain, rnoise (it would be {rnoise:.3g} ADU if gain is right) and bias",
    )


def _some(selected: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Take some of the selected pixels: rows and columns."""
    places = np.flatnonzero(selected)
    places = places[:: places.size // _MOST_PIXELS + 1]
    return np.unravel_index(places, selected.shape)


def _values(
    observation: Observation, pixels: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, Sequence[Noise]]:
    """Values of some pixels, divided by the flux factors, and their Poisson noise."""
    factors = np.array(observation.factors, np.float32)
    values = np.array([exposure[pixels] for exposure in observation.stack.exposures])
    noises = [
        noise.select(pixels).divided(factor)
        for noise, factor in zip(observation.noises, observation.factors, strict=True)
    ]
    return values / factors[:, np.newaxis], noises
