"""M.M.Cosmic step by step: what clean pixels would look like, and the boundary around them."""

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
from crdetect.mm.scene import Expected, distinct, make_scene
from crdetect.mm.simulation import simulate
from crdetect.parameters import Parameters
from crdetect.resources import Resources
from crdetect.stack import Stack, Statistics
from crdetect.verdict import Check

_logger = logging.getLogger(__name__)

_ROOM, _ROOM_WITH_OFFSETS = 2.0, 4.0  # height of the diagram, times the largest clean value
_LEAST_SCALE, _LARGEST_SCALE = 0.01, 10.0  # of the boundary, to let so many pixels through


@by_value
@dataclass(frozen=True)
class MedianMinimum:
    """The Median-Minimum diagram and its boundary: a criterion (`crdetect.criteria.Criterion`).

    Attributes
    ----------
    observation : Observation
        The exposures.
    criterion : DiagramCriterion
        Boundary and thresholds that flag pixels.
    dilation : int
        How many times the flagged pixels are dilated by their 8 neighbours.
    clean, real : Diagram
        Clean pixels as simulated or computed, and the pixels of the exposures.
    seed : int or None
        Seed of the simulation; None where the diagram was computed.
    shape : NbinomShape or None
        Shape of the negative binomial distribution, where it was measured.
    offsets : Offsets or None
        Offsets of the exposures, where they were given or measured.
    expected_above : float or None
        Clean pixels expected above the boundary, where the diagram was computed.
    pixels : CleanPixels or None
        The clean pixels, where the diagram was computed.
    """

    observation: Observation
    criterion: DiagramCriterion
    dilation: int
    clean: Diagram
    real: Diagram
    seed: int | None
    shape: NbinomShape | None
    offsets: Offsets | None
    expected_above: float | None
    pixels: CleanPixels | None = None

    def beyond_threshold(self, which: str | int) -> np.ndarray:
        """Pixels of an image that exceed the minimum by more than the threshold."""
        image, statistics = self.observation.image(which), self.observation.statistics
        return self.criterion.beyond_threshold(image, statistics)

    def flag(self, which: str | int) -> np.ndarray:
        """Pixels of an image above the boundary and all thresholds."""
        return self.criterion.flag(self.observation.image(which), self.observation.statistics)

    def checks(self, mm: MM) -> list[Check]:
        """Check that the boundary follows its points and lets few clean pixels through."""
        return list(boundary_checks(self, mm))

    def refitted(self, mm: MM) -> MedianMinimum:
        """Fit another boundary to the same clean pixels.

        It is that of a new diagram, if what else the parameters say is as it was and the limits
        are the same: see `Limits.hold`.

        Raises
        ------
        InputError
            If there are too few points for a spline, or the clean pixels asked for cannot be had.
        """
        boundary = _fit_boundary(self.clean, self.pixels, mm)
        expected_above = _expected_above(boundary, self.pixels)
        criterion = replace(self.criterion, boundary=boundary)
        return replace(
            self, criterion=criterion, dilation=mm.mm_dilation, expected_above=expected_above
        )

    def used(self) -> dict[str, Any]:
        """Values of the parameters that were found out in the run, by their names."""
        used: dict[str, Any] = {}
        if self.seed is not None:
            used["mm_seed"] = self.seed
        if self.shape is not None:
            used["mm_nbinom_shape"] = self.shape.value
        if self.offsets is not None:
            used["mm_xy_offsets"] = self.offsets.xy_px.tolist()
        return used


def check_diagram(stack: Stack, parameters: Parameters) -> None:
    """Check that the parameters of the diagram fit the exposures.

    Raises
    ------
    InputError
        If there is another number of offsets than of exposures, the region where offsets are
        measured leaves the image or is too small, or the diagram cannot be computed for so many
        exposures.
    """
    mm, n = parameters.mm, len(stack)
    if mm.mm_xy_offsets is not None and len(mm.mm_xy_offsets) != n:
        raise InputError(
            f"mm_xy_offsets has {len(mm.mm_xy_offsets)} values for {n} exposures: one each is "
            "needed"
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
    resources: Resources,
    boundary: Boundary | None = None,
) -> MedianMinimum:
    """Find where clean pixels are in the diagram, and the boundary around them.

    Parameters
    ----------
    observation : Observation
        The exposures.
    hits : DetectorHits
        What the detector of one image found; such pixels are not clean.
    mm : MM
        Parameters.
    resources : Resources, optional
        What may be used; the result does not depend on it.
    boundary : Boundary, optional
        Taken instead of a new one.

    Raises
    ------
    InputError
        If the parameters do not fit the exposures, or there are no clean pixels.
    """
    hit = hits.anywhere()
    shape = _measure_shape(observation, hit, mm)
    offsets = _find_offsets(observation, hits, mm)
    scene = make_scene(
        observation.stack,
        _expected(observation, hits, mm, shape, offsets),
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
        seed = np.random.SeedSequence(mm.mm_seed).entropy  # a new one, where none is given
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
        shape,
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
    shape = measure_nbinom_shape(np.array(values), noises)
    _logger.info("mm_nbinom_shape: %s", shape)
    if mm.has_offsets:
        _logger.warning("mm_nbinom_shape: auto also takes offsets for excess noise: κ is too low")
    return shape


def _find_offsets(observation: Observation, hits: DetectorHits, mm: MM) -> Offsets | None:
    offsets = find_offsets(hits.clean_exposures, observation.noises, mm)
    if offsets is not None and offsets.measured:
        _logger.info("mm_xy_offsets: %s", offsets.xy_px.round(3).tolist())
    return offsets


def _expected(
    observation: Observation,
    hits: DetectorHits,
    mm: MM,
    shape: NbinomShape | None,
    offsets: Offsets | None,
) -> Expected:
    """Find the expected signals, fluxes and noises of the exposures."""
    kappa = np.inf
    if mm.mm_photon_distribution == "nbinom":
        kappa = mm.mm_nbinom_shape if shape is None else shape.value
    noises = [replace(noise, nbinom_shape=kappa) for noise in distinct(observation.noises)]
    factors = [1.0] * len(observation.noises)
    if mm.mm_synthetic == "adaptive":
        signals = observation.exposure_model.signals_adu(noises[0])
        noises = [observation.exposure_model.noise(noises[0])]
    elif mm.mm_synthetic == "single":  # each has its own flux, and is where it is
        signals = [np.maximum(image, 0) for image in hits.clean_exposures]
    else:
        s = observation.statistics
        median = np.maximum(np.where(hits.median, s.min2d, s.median2d), 0)
        signals, factors = [median], observation.factors
        if offsets is not None:
            signals = [np.maximum(move(_filled(median), xy), 0) for xy in offsets.xy_px]
    return Expected(tuple(signals), tuple(factors), tuple(noises))


def _filled(signal_adu: np.ndarray) -> np.ndarray:
    """Put 0 where all exposures are missing: such pixels are never simulated."""
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
    # so many in each column gives the boundary its form; then it is raised or lowered
    columns = np.count_nonzero(clean.counts.sum(axis=0) > 1)
    x, y = computed_points(clean, mm.mm_false_pixels / max(columns, 1))
    if x.size < 2:
        raise InputError(
            f"mm_false_pixels: {mm.mm_false_pixels:g} clean pixels cannot be above the boundary: "
            f"there are {clean.counts.sum():.0f} in all; accepted: far fewer"
        )

    def surplus(log_scale: float) -> float:
        number = pixels.number_above(fit_boundary(x, np.exp(log_scale) * y, mm))
        return np.log(max(number, np.finfo(float).tiny) / mm.mm_false_pixels)

    low, high = np.log(_LEAST_SCALE), np.log(_LARGEST_SCALE)
    if surplus(low) < 0 or surplus(high) > 0:
        most, least = (mm.mm_false_pixels * np.exp(surplus(place)) for place in (low, high))
        raise InputError(
            f"mm_false_pixels: {mm.mm_false_pixels:g} clean pixels above the boundary cannot be "
            f"had with these points and fixed points; accepted: {least:.2g} to {most:.2g}"
        )
    return fit_boundary(x, np.exp(scipy.optimize.brentq(surplus, low, high, rtol=1e-3)) * y, mm)
