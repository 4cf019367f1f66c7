"""The steps of M.M.Cosmic: the diagram of clean pixels, its boundary, and the criterion."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy

from crdetect.detectors.each_image import DetectorHits
from crdetect.equality import by_value
from crdetect.equivalence.nbinom import NbinomShape, measure_nbinom_shape
from crdetect.equivalence.observation import Observation
from crdetect.equivalence.offsets import Offsets, check_region, find_offsets, move
from crdetect.errors import InputError
from crdetect.masks import region_mask
from crdetect.mm.analytic import CleanPixels, check_available
from crdetect.mm.boundary import (
    Boundary,
    boundary_of_simulated,
    computed_points,
    fit_boundary,
)
from crdetect.mm.checks import boundary_checks
from crdetect.mm.criterion import DiagramCriterion
from crdetect.mm.diagram import Diagram
from crdetect.mm.parameters import MM
from crdetect.mm.scene import Expected, make_scene
from crdetect.mm.simulation import simulate
from crdetect.noise import distinct
from crdetect.parameters import Parameters
from crdetect.resources import ALL_PROCESSORS, Resources
from crdetect.stack import Stack, Statistics
from crdetect.verdict import Check

_logger = logging.getLogger(__name__)

# Height of the diagram, in units of the largest height of the clean pixels of the first simulated
# set (or of the height above which one clean pixel is expected, where the diagram is computed): the
# other sets need room above it, and more of it where offsets raise the edges of sources. Both were
# chosen by hand.
_ROOM, _ROOM_WITH_OFFSETS = 2.0, 4.0
# Range of the factor by which the boundary may be scaled in order that `mm_false_pixels` clean
# pixels are expected above it. Both ends were chosen by hand.
_LEAST_SCALE, _LARGEST_SCALE = 0.01, 10.0


@by_value
@dataclass(frozen=True)
class MedianMinimum:
    """The Median-Minimum method for given exposures: its diagram, boundary and thresholds.

    It is a criterion that compares exposures (`crdetect.criteria.Criterion`). `make_diagram` makes
    it, and `Detection.diagram` is one. The histograms of the diagram are ``clean`` and ``real``.

    Attributes
    ----------
    observation : Observation
        The exposures.
    criterion : DiagramCriterion
        Boundary and thresholds that flag pixels.
    dilation : int
        Number of times that the flagged pixels are dilated by their 8 neighbours.
    clean, real : Diagram
        Histogram of the clean pixels, as simulated or computed, and histogram of the pixels of the
        exposures.
    seed : int or None
        Seed of the simulation; None if the diagram was computed.
    nbinom_shape : NbinomShape or None
        Measured shape κ of the negative binomial distribution of photons; None if it was not
        measured.
    offsets : Offsets or None
        Offsets of the exposures; None if they were neither given nor measured.
    expected_above : float or None
        Number of clean pixels expected above the boundary; None if the diagram was simulated.
    clean_pixels : CleanPixels or None
        The clean pixels and their distributions; None if the diagram was simulated.
    """

    observation: Observation
    criterion: DiagramCriterion
    dilation: int
    clean: Diagram
    real: Diagram
    seed: int | None
    nbinom_shape: NbinomShape | None
    offsets: Offsets | None
    expected_above: float | None
    clean_pixels: CleanPixels | None = None

    def beyond_threshold(self, which: str | int) -> np.ndarray:
        """Return the pixels of an image that exceed min2d by more than the threshold."""
        image, statistics = self.observation.image(which), self.observation.statistics
        return self.criterion.beyond_threshold(image, statistics)

    def flag(self, which: str | int) -> np.ndarray:
        """Flag the pixels of an image that are above the boundary and exceed all thresholds."""
        return self.criterion.flag(self.observation.image(which), self.observation.statistics)

    def checks(self, mm: MM) -> list[Check]:
        """Check that the boundary follows its points and lets few clean pixels through."""
        return list(boundary_checks(self, mm))

    def refitted(self, mm: MM) -> MedianMinimum:
        """Fit another boundary to the same clean pixels.

        The result equals that of a new diagram if only parameters of the boundary and the dilation
        differ, and if the limits of the diagram hold the fixed points: see `Limits.hold`.

        Raises
        ------
        InputError
            If there are too few points for a spline, or no scaling of the boundary has
            ``mm_false_pixels`` clean pixels above it.
        """
        boundary = _fit_boundary(self.clean, self.clean_pixels, mm)
        expected_above = _expected_above(boundary, self.clean_pixels)
        criterion = replace(self.criterion, boundary=boundary)
        return replace(
            self, criterion=criterion, dilation=mm.mm_dilation, expected_above=expected_above
        )

    def used(self) -> dict[str, Any]:
        """Return the parameters that the run measured or drew at random, by their names."""
        used: dict[str, Any] = {}
        if self.seed is not None:
            used["mm_seed"] = self.seed
        if self.nbinom_shape is not None:
            used["mm_nbinom_shape"] = self.nbinom_shape.value
        if self.offsets is not None:
            used["mm_xy_offsets"] = self.offsets.xy_px.tolist()
        return used


def check_diagram(stack: Stack, parameters: Parameters) -> None:
    """Check that the parameters of the diagram fit the exposures.

    Raises
    ------
    InputError
        If the number of offsets is not that of the exposures, the region in which offsets are
        measured is too small or not inside the image, or the diagram cannot be computed for this
        number of exposures.
    """
    mm, n = parameters.mm, len(stack)
    if mm.mm_xy_offsets is not None and len(mm.mm_xy_offsets) != n:
        raise InputError(
            f"mm_xy_offsets has {len(mm.mm_xy_offsets)} values for {n} exposures: each "
            "exposure needs one"
        )
    if mm.mm_crosscorr_region is not None:
        region_mask([mm.mm_crosscorr_region], stack.shape, "mm_crosscorr_region")
        check_region(*mm.mm_crosscorr_region)
    if mm.mm_simulation == "analytic":
        check_available(n, parameters.general.mm_cr_coincidences)


def make_diagram(
    observation: Observation,
    hits: DetectorHits,
    mm: MM,
    resources: Resources = ALL_PROCESSORS,
    boundary: Boundary | None = None,
) -> MedianMinimum:
    """Make the diagram of clean pixels and fit the boundary above them.

    The histograms of the diagram are part of the `MedianMinimum` that is returned.

    Parameters
    ----------
    observation : Observation
        The exposures.
    hits : DetectorHits
        Pixels that the detector of one image flagged; they are not clean.
    mm : MM
        Parameters of M.M.Cosmic.
    resources : Resources
        Computing resources; the result does not depend on them.
    boundary : Boundary, optional
        Boundary that is used instead of a newly fitted one.

    Returns
    -------
    MedianMinimum
        The diagram with its boundary and thresholds, a criterion.

    Raises
    ------
    InputError
        If the parameters do not fit the exposures, or there are no clean pixels.
    """
    hit = hits.anywhere
    nbinom_shape = _measure_shape(observation, hit, mm)
    offsets = _find_offsets(observation, hits, mm)
    scene = make_scene(
        observation.stack,
        _expected(observation, hits, mm, nbinom_shape, offsets),
        observation.statistics.coincidences,
        observation.statistics.min2d,
        hit,
    )
    room = _ROOM if offsets is None else _ROOM_WITH_OFFSETS
    seed = pixels = None
    if mm.mm_simulation == "analytic":
        pixels = CleanPixels.of(scene)
        pixels = pixels if mm.mm_false_pixels is None else pixels.deconvolved()
        clean = pixels.diagram(pixels.limits(scene.min2d_adu, room, mm))
    else:
        seed = np.random.SeedSequence(mm.mm_seed).entropy  # a random seed, where none is given
        clean = simulate(scene, room, mm.model_copy(update={"mm_seed": seed}), resources)
    boundary = boundary or _fit_boundary(clean, pixels, mm)
    expected_above = _expected_above(boundary, pixels)
    criterion = DiagramCriterion.make(boundary, observation.typical_noise, mm)
    real = _real_diagram(observation.statistics, clean)
    return MedianMinimum(
        observation,
        criterion,
        mm.mm_dilation,
        clean,
        real,
        seed,
        nbinom_shape,
        offsets,
        expected_above,
        pixels,
    )


def _real_diagram(statistics: Statistics, clean: Diagram) -> Diagram:
    seen = statistics.detectable
    x = statistics.min2d[seen]
    return Diagram(clean.limits, clean.limits.count(x, statistics.median2d[seen] - x), 1)


def _measure_shape(observation: Observation, hit: np.ndarray, mm: MM) -> NbinomShape | None:
    if mm.mm_photon_distribution != "nbinom" or mm.mm_nbinom_shape != "auto":
        return None
    stack = observation.stack
    clean = ~hit & (observation.statistics.count2d == len(stack))
    values = [
        exposure[clean] / np.float32(factor)
        for exposure, factor in zip(stack.exposures, observation.factors, strict=True)
    ]
    noises = [
        noise.select(clean).divided(factor)
        for noise, factor in zip(observation.noises, observation.factors, strict=True)
    ]
    nbinom_shape = measure_nbinom_shape(np.array(values), noises)
    _logger.info("mm_nbinom_shape: %s", nbinom_shape)
    if mm.has_offsets:
        _logger.warning(
            "mm_nbinom_shape: auto takes offsets for excess noise: the measured κ is too low"
        )
    return nbinom_shape


def _find_offsets(observation: Observation, hits: DetectorHits, mm: MM) -> Offsets | None:
    offsets = find_offsets(hits.clean_exposures, observation.noises, mm)
    if offsets is not None and offsets.measured:
        _logger.info("mm_xy_offsets: %s", offsets.xy_px.round(3).tolist())
    return offsets


def _expected(
    observation: Observation,
    hits: DetectorHits,
    mm: MM,
    nbinom_shape: NbinomShape | None,
    offsets: Offsets | None,
) -> Expected:
    """Estimate the expected signals, flux factors and noises of the exposures."""
    kappa = np.inf
    if mm.mm_photon_distribution == "nbinom":
        kappa = mm.mm_nbinom_shape if nbinom_shape is None else nbinom_shape.value
    noises = [replace(noise, nbinom_shape=kappa) for noise in distinct(observation.noises)]
    factors = [1.0] * len(observation.noises)
    if mm.mm_synthetic == "adaptive":
        signals = observation.exposure_model.signals_adu(noises[0])
        noises = [observation.exposure_model.noise(noises[0])]
    elif mm.mm_synthetic == "single":  # each exposure includes its flux and its offset
        signals = [np.maximum(image, 0) for image in hits.clean_exposures]
    else:
        s = observation.statistics
        median = np.maximum(np.where(hits.median, s.min2d, s.median2d), 0)
        signals, factors = [median], observation.factors
        if offsets is not None:
            signals = [np.maximum(move(_filled(median), xy), 0) for xy in offsets.xy_px]
    return Expected(tuple(signals), tuple(factors), tuple(noises))


def _filled(signal_adu: np.ndarray) -> np.ndarray:
    """Replace NaN by 0 where all exposures are missing; such pixels are never simulated."""
    return np.nan_to_num(signal_adu, nan=0.0)


def _fit_boundary(clean: Diagram, pixels: CleanPixels | None, mm: MM) -> Boundary:
    if pixels is None:
        return boundary_of_simulated(clean, mm)
    return _boundary_of_computed(pixels, clean, mm)


def _expected_above(boundary: Boundary, pixels: CleanPixels | None) -> float | None:
    if pixels is None:
        return None
    number = pixels.number_above(boundary)
    _logger.info("clean pixels expected above the boundary: %.3g", number)
    return number


def _boundary_of_computed(pixels: CleanPixels, clean: Diagram, mm: MM) -> Boundary:
    if mm.mm_false_pixels is None:
        return fit_boundary(*computed_points(clean, 1 / mm.mm_nsimulations), mm)
    # Equal numbers of pixels above each point give the boundary its form, which is then scaled.
    columns = np.count_nonzero(clean.counts.sum(axis=0) > 1)
    x, y = computed_points(clean, mm.mm_false_pixels / max(columns, 1))
    if x.size < 2:
        raise InputError(
            f"mm_false_pixels: {mm.mm_false_pixels:g} clean pixels cannot be above the boundary: "
            f"there are {clean.counts.sum():.0f} in all; accepted: a much smaller number"
        )

    def surplus(log_scale: float) -> float:
        number = pixels.number_above(fit_boundary(x, np.exp(log_scale) * y, mm))
        return np.log(max(number, np.finfo(float).tiny) / mm.mm_false_pixels)

    low, high = np.log(_LEAST_SCALE), np.log(_LARGEST_SCALE)
    if surplus(low) < 0 or surplus(high) > 0:
        most, least = (mm.mm_false_pixels * np.exp(surplus(place)) for place in (low, high))
        raise InputError(
            f"mm_false_pixels: {mm.mm_false_pixels:g} clean pixels above the boundary are out of "
            f"reach with the points of this diagram and mm_fixed_points_in_boundary; "
            f"accepted: {least:.2g} to {most:.2g}"
        )
    return fit_boundary(x, np.exp(scipy.optimize.brentq(surplus, low, high, rtol=1e-3)) * y, mm)
