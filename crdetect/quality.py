"""Quality of a result: checks of the masks, of the boundary, and of how far the exposures differ.

The differences between the exposures are compared with those for which the parameters allow: flux
factors, offsets, photon statistics and read noise. The checks change no mask.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import cv2
import numpy as np

from crdetect.equivalence.flux import measure_flux_if_bright
from crdetect.equivalence.model import ExposureModel
from crdetect.equivalence.nbinom import measure_nbinom_shape_if_bright
from crdetect.equivalence.observation import Observation
from crdetect.equivalence.offsets import LEAST_SIDE_PX, measure_offsets
from crdetect.masks import Masks
from crdetect.noise import Noise
from crdetect.parameters import Parameters
from crdetect.verdict import AtMost, Check, NearOne, Quality, Verdict, WithinFactor

if TYPE_CHECKING:
    from crdetect.mm.method import MedianMinimum

# Limits of the checks. They were chosen by hand: equivalent exposures, simulated, are GOOD, and the
# differences in tests/test_quality.py are found. They change no mask.

# Fraction of the pixels that is masked.
_FRACTION_IN_MEDIANCR = AtMost(good=0.01, bad=0.1)
_FRACTION_IN_CRMASK = AtMost(good=0.1, bad=0.3)
_FRACTION_IN_ALL_CRMASKS = AtMost(good=5e-4, bad=0.01)
# Standard deviation of the fitted noise model divided by that of photon and read noise.
_FITTED_NOISE = AtMost(good=2.0, bad=5.0)
# Read noise measured in differences of exposures, divided by rnoise.
_READ_NOISE = WithinFactor(good=1.4, bad=2.5)
# Flux of an exposure relative to the median flux, divided by its flux factor.
_FLUX = NearOne(good=0.03, bad=0.1)
# Offset of an exposure from the median, in pixels.
_OFFSET_PX = AtMost(good=0.1, bad=0.5)
# Scatter of bright pixels among the exposures, divided by the expected noise.
_SCATTER = AtMost(good=1.3, bad=2.0)
# Scatter of faint pixels in differences of exposures, divided by the noise of gain and rnoise.
_FAINT_NOISE = WithinFactor(good=1.25, bad=2.0)

# Constants of the measurements, chosen by hand as well.

# Side of the part of the image in which offsets are measured, in pixels: it limits the time.
_TILE_PX = 384
# Side of the box, in pixels, around a pixel whose highest median limits the pixel's value; and the
# height above that median, in units of the noise, at which values are clipped.
_PEAK_BOX_PX, _PEAK_SIGMA = 5, 5.0
# Minimum number of usable pixels for the check of faint ones: 30 % of them give the scatter of a
# difference of two exposures to 4 %.
_LEAST_PIXELS = 3000
# Maximum number of pixels: it limits the time.
_MOST_PIXELS = 400_000
# Percentile of the median image below which a pixel counts as faint.
_FAINT_PERCENT = 30.0
# Percentile of the signal at which the scatter of bright pixels is judged.
_BRIGHT_PERCENT = 99.9
# Percentile of the pixels at which the fitted noise model is judged.
_FITTED_PERCENT = 99.0
# Maximum relative error of a measured read noise that is judged.
_LARGEST_ERROR = 0.1
# Median absolute deviation of a normal distribution, in units of its standard deviation.
_NORMAL_MAD = 0.6745


def assess(
    observation: Observation,
    detected: np.ndarray,
    masks: Masks,
    diagram: MedianMinimum | None,
    parameters: Parameters,
) -> Quality:
    """Check the result of a detection.

    Parameters
    ----------
    observation : Observation
        The exposures, and how they differ according to the parameters.
    detected : (rows, columns) array of bool
        Pixels that the detector of one image flagged in the median or in any exposure.
    masks : Masks
        The masks.
    diagram : MedianMinimum or None
        The diagram with its boundary; None if M.M.Cosmic took no part.
    parameters : Parameters
        The parameters of the run.

    Returns
    -------
    Quality
        The checks. A quantity that cannot be measured, such as the flux without bright pixels, is
        not among them.
    """
    checks = [*_mask_checks(masks)]
    checks += [] if diagram is None else diagram.checks(parameters.mm)
    checks += _exposure_checks(observation, detected, masks, diagram, parameters)
    return Quality(tuple(checks))


def assess_stored(masks: Masks, made: Verdict | None, forced: str | None) -> Quality:
    """Check masks that were made in an earlier run.

    Parameters
    ----------
    masks : Masks
        The masks.
    made : Verdict or None
        The verdict of the run that made them; None if it is unknown.
    forced : str or None
        How the exposures differ from those of that run; None if they do not.

    Returns
    -------
    Quality
        The checks of the masks, and the verdict of the earlier run.
    """
    checks = [*_mask_checks(masks)]
    if made is not None:
        checks.append(
            Check(
                "verdict of the run that made the masks",
                float(made),
                "0 means GOOD, 1 PARTIAL, 2 BAD",
                made,
                "The reasons are in the HISTORY of the masks",
            )
        )
    if forced is not None:
        checks.append(
            Check(
                "use of masks that were made from other exposures (0: no, 1: yes)",
                1.0,
                "good at 0",
                Verdict.PARTIAL,
                f"The masks were applied because this was forced: {forced}",
            )
        )
    return Quality(tuple(checks))


# ---------------------------------------------------------------------------------------------
# Masks


def _mask_checks(masks: Masks) -> Iterator[Check]:
    """Check the fractions of the pixels that are masked."""
    size = masks.mediancr.size
    yield Check.of(
        "fraction of pixels masked in MEDIANCR",
        np.count_nonzero(masks.mediancr) / size,
        _FRACTION_IN_MEDIANCR,
        "More pixels are masked than are likely to be hit in several exposures: look at "
        "diagnostic_mediancr.png and raise the thresholds, or use a method that allows for "
        "differences between the exposures",
    )
    fractions = [np.count_nonzero(crmask) / size for crmask in masks.crmasks]
    worst = int(np.argmax(fractions))
    yield Check.of(
        f"largest fraction of pixels masked in one exposure (CRMASK{worst + 1})",
        fractions[worst],
        _FRACTION_IN_CRMASK,
        f"Look at diagnostic_crmask{worst + 1}.png and raise the thresholds of the detector",
    )
    yield Check.of(
        "fraction of pixels masked in all exposures",
        np.count_nonzero(masks.crmasks.all(axis=0)) / size,
        _FRACTION_IN_ALL_CRMASKS,
        "No unmasked exposure is left at these pixels: the combined images hold the minimum or "
        "AUXCLEAN there",
    )


# ---------------------------------------------------------------------------------------------
# Differences between the exposures


def _exposure_checks(
    observation: Observation,
    detected: np.ndarray,
    masks: Masks,
    diagram: MedianMinimum | None,
    parameters: Parameters,
) -> Iterator[Check]:
    """Check the differences between the exposures for which the parameters do not allow."""
    if observation.exposure_model is not None:  # the differences were fitted and allowed for
        yield from _model_checks(observation, observation.exposure_model)
        return
    usable = ~masks.meancrt & ~detected & np.isfinite(observation.stack.exposures).all(axis=0)
    advice = _Advice(parameters)
    yield from _flux_check(observation, usable, advice)
    yield from _offset_check(observation, diagram, advice)
    yield from _scatter_check(observation, usable, diagram, advice)
    yield from _faint_noise_check(observation, usable)


def _model_checks(observation: Observation, model: ExposureModel) -> Iterator[Check]:
    """Check the noise that the fitted model adds, and the read noise that it measures."""
    yield Check.of(
        "fitted noise relative to photon and read noise "
        f"({_FITTED_PERCENT:g}th percentile of the pixels)",
        float(np.sqrt(np.percentile(model.inflation[::4, ::4], _FITTED_PERCENT))),
        _FITTED_NOISE,
        "The exposures differ in ways that could not be matched: look at diagnostic_noise.png; "
        "weak hits are missed where the fitted noise is high",
    )
    measured, error = model.noise_model.measured_rnoise_e
    given = float(np.sqrt(np.mean(np.square(observation.noises[0].rnoise_e))))
    if given == 0 or not error < _LARGEST_ERROR * max(measured, given):
        return
    yield Check.of(
        "read noise measured in differences of exposures, relative to rnoise",
        measured / given,
        _READ_NOISE,
        f"Check gain and rnoise: from the exposures rnoise would be {measured:.3g} e",
    )


@dataclass(frozen=True)
class _Advice:
    """Advice to the user about exposures that differ, apart from parameters that are used already.

    Attributes
    ----------
    parameters : Parameters
        The parameters of the run.
    """

    parameters: Parameters

    @property
    def wide(self) -> bool:
        """Whether the photon statistics allow for differences of any kind."""
        general, mm = self.parameters.general, self.parameters.mm
        return general.criterion == "mm" and mm.mm_photon_distribution == "nbinom"

    @property
    def single(self) -> bool:
        """Whether the expected signal of each exposure comes from that exposure alone."""
        return (
            self.parameters.general.criterion == "mm"
            and self.parameters.mm.mm_synthetic == "single"
        )

    @property
    def worst(self) -> Verdict:
        """The worst verdict on differences of flux or position."""
        harmless = self.wide or self.single or self.parameters.general.criterion != "mm"
        return Verdict.PARTIAL if harmless else Verdict.BAD

    def __call__(self, first: str = "", kappa: float | None = None) -> str:
        """Advise parameters that are not used yet.

        Parameters
        ----------
        first : str
            Parameter that allows for the difference that was found; empty if it is used already.
        kappa : float, optional
            Measured shape κ of the negative binomial distribution.
        """
        uses = [first] if first else []
        if self.parameters.general.criterion == "mm" and not self.wide:
            measured = "" if kappa is None else f" (here {kappa:.3g})"
            uses.append(f"mm_photon_distribution: nbinom with mm_nbinom_shape: auto{measured}")
        text = "The exposures are not equivalent"
        if uses:
            return f"{text}: use {', and '.join(uses)}; or crmethod: joint, which matches them"
        return f"{text}: look at diagnostic_mediancr.png for pixels that are flagged because of it"


def _flux_check(observation: Observation, usable: np.ndarray, advice: _Advice) -> Iterator[Check]:
    """Check the flux of the exposure that differs most from its flux factor."""
    flux = measure_flux_if_bright(
        observation.stack, observation.noises[0], observation.statistics.median2d, usable
    )
    if flux is None:
        return
    ratios = np.array(flux.factors) / observation.factors * np.median(observation.factors)
    worst = int(np.argmax(np.abs(ratios - 1)))
    general = advice.parameters.general
    known = general.flux_factor is not None
    factor = "flux_factor: auto"
    factor += "" if general.criterion == "mm" else " with apply_flux_factor_to: original"
    yield Check.of(
        f"flux of exposure {worst + 1} (which differs most) relative to the "
        + ("median and to its flux_factor" if known else "median"),
        float(ratios[worst]),
        _FLUX,
        advice("" if known else factor),
        advice.worst,
    )


def _offset_check(
    observation: Observation, diagram: MedianMinimum | None, advice: _Advice
) -> Iterator[Check]:
    """Check the offset of the exposure that differs most from the offset allowed for."""
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
    used = advice.single or mm.has_offsets or general.criterion != "mm"
    y, x = (
        f"{part.start + 1}, {part.start + size}"
        for part, size in zip(region, images[0].shape, strict=True)
    )
    yield Check.of(
        f"offset of exposure {worst + 1} (which differs most) from the median"
        + (" and from the offset allowed for, in pixels" if expected.any() else ", in pixels"),
        float(distances[worst]),
        _OFFSET_PX,
        advice("" if used else f"mm_crosscorr_region: [{x}, {y}]"),
        advice.worst,
    )


def _without_peaks(observation: Observation, region: tuple[slice, slice]) -> list[np.ndarray]:
    """Cut a region out of the exposures, and clip cosmic rays there.

    A value is clipped at 5 σ above the highest median around. The masks do not serve here: if
    exposures differ, pixels are also masked because of the differences that are to be measured.
    """
    median = np.nan_to_num(observation.statistics.median2d[region])
    highest = cv2.dilate(median, np.ones((_PEAK_BOX_PX, _PEAK_BOX_PX), np.uint8))
    images = []
    for exposure, noise in zip(observation.stack.exposures, observation.noises, strict=True):
        image = np.where(np.isnan(exposure[region]), median, exposure[region])
        variance = noise.select(region).variance_adu2(highest)
        images.append(np.minimum(image, highest + _PEAK_SIGMA * np.sqrt(variance)))
    return images


def _most_structured(image: np.ndarray) -> tuple[slice, slice]:
    """Choose the tile of an image that has the steepest gradients along both axes."""
    energies = []
    for axis in (0, 1):
        gradient = np.square(np.diff(image, axis=axis, append=0.0)[:-1, :-1])
        # the gradients of cosmic rays and hot pixels are steep too, but they are few: they are
        # clipped at the 99th percentile
        energies.append(np.minimum(gradient, np.percentile(gradient[::7, ::7], 99)))
    starts = [_starts(size) for size in image.shape]
    tiles = [(slice(y, y + _TILE_PX), slice(x, x + _TILE_PX)) for y in starts[0] for x in starts[1]]
    return max(tiles, key=lambda tile: float(np.prod([each[tile].sum() for each in energies])))


def _starts(size: int) -> list[int]:
    return list(range(0, max(size - _TILE_PX, 0) + 1, _TILE_PX // 2))


def _scatter_check(
    observation: Observation, usable: np.ndarray, diagram: MedianMinimum | None, advice: _Advice
) -> Iterator[Check]:
    """Check the scatter of bright pixels among the exposures against the photon statistics."""
    values, noises = _values(observation, _some(usable))
    measured = measure_nbinom_shape_if_bright(values, noises)
    if measured is None:
        return
    expected = np.inf
    if advice.wide:
        used = {} if diagram is None else diagram.used()
        expected = used.get("mm_nbinom_shape", advice.parameters.mm.mm_nbinom_shape)
    bright = max(float(np.percentile(np.mean(values, axis=0), _BRIGHT_PERCENT)), 0.0)
    photons = float(np.mean([np.mean(noise.variance_adu2(bright)) for noise in noises]))
    variances = [photons + bright**2 / shape for shape in (measured.value, expected)]
    harmless = advice.single or advice.parameters.general.criterion != "mm"
    yield Check.of(
        "scatter of bright pixels among the exposures relative to the expected noise",
        float(np.sqrt(variances[0] / variances[1])),
        _SCATTER,
        advice(kappa=measured.value),
        Verdict.PARTIAL if harmless else Verdict.BAD,
    )


def _faint_noise_check(observation: Observation, usable: np.ndarray) -> Iterator[Check]:
    """Check the scatter of faint pixels in differences of exposures against gain and rnoise."""
    median = observation.statistics.median2d
    if np.count_nonzero(usable) < _LEAST_PIXELS:
        return
    faint = usable & (median <= np.percentile(median[_some(usable)], _FAINT_PERCENT))
    values, noises = _values(observation, _some(faint))
    signal = np.maximum(np.mean(values, axis=0), 0)
    variances = [np.broadcast_to(noise.variance_adu2(signal), signal.shape) for noise in noises]
    if not np.min(variances) > 0:  # gain and rnoise leave no noise to compare with
        return
    ratios = []
    for i, j in combinations(range(len(values)), 2):
        deviation = (values[i] - values[j]) / np.sqrt(variances[i] + variances[j])
        ratios.append(np.median(np.abs(deviation - np.median(deviation))) / _NORMAL_MAD)
    ratio, all_noise = float(np.mean(ratios)), np.mean(variances)
    read = np.mean([np.mean(np.square(noise.rnoise_adu)) for noise in noises])
    rnoise = np.sqrt(max(ratio**2 * all_noise - (all_noise - read), 0))
    yield Check.of(
        "noise of faint pixels in differences of exposures, relative to that of gain and rnoise",
        ratio,
        _FAINT_NOISE,
        f"Check gain, bias and rnoise: rnoise would be {rnoise:.3g} ADU if gain and bias are right",
    )


def _some(selected: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Take at most 400 000 of the selected pixels, evenly: their rows and columns."""
    places = np.flatnonzero(selected)
    places = places[:: places.size // _MOST_PIXELS + 1]
    return np.unravel_index(places, selected.shape)


def _values(
    observation: Observation, pixels: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, Sequence[Noise]]:
    """Take the values of some pixels, divided by the flux factors, and their noise."""
    factors = np.array(observation.factors, np.float32)
    values = np.array([exposure[pixels] for exposure in observation.stack.exposures])
    noises = [
        noise.select(pixels).divided(factor)
        for noise, factor in zip(observation.noises, observation.factors, strict=True)
    ]
    return values / factors[:, np.newaxis], noises
