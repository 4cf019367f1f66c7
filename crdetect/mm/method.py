"""M.M.Cosmic step by step: what clean pixels would look like, and the boundary around them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy

from crdetect.equivalence.model import ExposureModel
from crdetect.equivalence.nbinom import NbinomShape, measure_nbinom_shape
from crdetect.equivalence.offsets import Offsets, find_offsets, move
from crdetect.errors import InputError
from crdetect.mm.analytic import CleanPixels
from crdetect.mm.boundary import (
    Boundary,
    boundary_of_simulated,
    computed_points,
    fit_boundary,
)
from crdetect.mm.criterion import Criterion
from crdetect.mm.diagram import Diagram
from crdetect.mm.scene import Exposure, make_scene
from crdetect.mm.simulation import simulate
from crdetect.noise import Noise
from crdetect.parameters import MM
from crdetect.resources import ALL_PROCESSORS, Resources
from crdetect.stack import Stack, Statistics

_logger = logging.getLogger(__name__)

_ROOM, _ROOM_WITH_OFFSETS = 2.0, 4.0  # height of the diagram, times the largest clean value
_LEAST_SCALE, _LARGEST_SCALE = 0.01, 10.0  # of the boundary, to let so many pixels through


@dataclass(frozen=True)
class Observed:
    """What is known of the exposures when the diagram is made; all in ADU.

    Attributes
    ----------
    stack : Stack
        The exposures.
    statistics : Statistics
        Of that stack.
    noises : sequence of N Noise
        Noise of each exposure.
    factors : sequence of N float
        Flux of each exposure, where the expected signal is to be multiplied by it.
    median_hits : (rows, columns) array of bool
        What a detector of one image found in the median.
    hits : (rows, columns) array of bool
        What it found in the median or any exposure.
    clean_exposures : sequence of N arrays
        The exposures as it cleaned them; only needed for ``mm_synthetic: single`` and to measure
        offsets.
    exposure_model : ExposureModel, optional
        How the exposures differ; only needed for ``mm_synthetic: adaptive``.
    """

    stack: Stack
    statistics: Statistics
    noises: Sequence[Noise]
    factors: Sequence[float]
    median_hits: np.ndarray
    hits: np.ndarray
    clean_exposures: Sequence[np.ndarray]
    exposure_model: ExposureModel | None = None


@dataclass(frozen=True)
class MedianMinimum:
    """What the Median-Minimum diagram gave.

    Attributes
    ----------
    criterion : Criterion
        Boundary and thresholds that flag pixels.
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

    criterion: Criterion
    clean: Diagram
    real: Diagram
    seed: int | None
    shape: NbinomShape | None
    offsets: Offsets | None
    expected_above: float | None
    pixels: CleanPixels | None = None

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
        return replace(self, criterion=criterion, expected_above=expected_above)

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


def make_diagram(
    observed: Observed,
    mm: MM,
    resources: Resources = ALL_PROCESSORS,
    boundary: Boundary | None = None,
) -> MedianMinimum:
    """Find where clean pixels are in the diagram, and the boundary around them.

    Parameters
    ----------
    observed : Observed
        What is known of the exposures.
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
    shape = _measure_shape(observed, mm)
    offsets = _find_offsets(observed, mm)
    scene = make_scene(
        observed.stack,
        _expected_exposures(observed, mm, shape, offsets),
        observed.statistics.coincidences,
        observed.statistics.min2d,
        observed.hits,
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
    criterion = Criterion.make(boundary, observed.noises[0], mm)
    real = _real_diagram(observed.statistics, clean)
    return MedianMinimum(criterion, clean, real, seed, shape, offsets, expected_above, pixels)


def _real_diagram(statistics: Statistics, clean: Diagram) -> Diagram:
    seen = statistics.detectable
    x = statistics.min2d[seen]
    return Diagram(clean.limits, clean.limits.count(x, statistics.median2d[seen] - x), 1)


def _measure_shape(observed: Observed, mm: MM) -> NbinomShape | None:
    if mm.mm_photon_distribution != "nbinom" or mm.mm_nbinom_shape != "auto":
        return None
    stack = observed.stack
    clean = ~observed.hits & (observed.statistics.count2d == len(stack))
    values = [
        exposure[clean] / np.float32(factor)
        for exposure, factor in zip(stack.exposures, observed.factors, strict=True)
    ]
    noises = [
        noise.select(clean).divided(factor)
        for noise, factor in zip(observed.noises, observed.factors, strict=True)
    ]
    shape = measure_nbinom_shape(np.array(values), noises)
    _logger.info("mm_nbinom_shape: %s", shape)
    if mm.has_offsets:
        _logger.warning("mm_nbinom_shape: auto also takes offsets for excess noise: κ is too low")
    return shape


def _find_offsets(observed: Observed, mm: MM) -> Offsets | None:
    offsets = find_offsets(observed.clean_exposures, observed.noises, mm)
    if offsets is not None and offsets.measured:
        _logger.info("mm_xy_offsets: %s", offsets.xy_px.round(3).tolist())
    return offsets


def _expected_exposures(
    observed: Observed, mm: MM, shape: NbinomShape | None, offsets: Offsets | None
) -> list[Exposure]:
    """Tell what is expected of each exposure: signal, flux, noise."""
    kappa = np.inf
    if mm.mm_photon_distribution == "nbinom":
        kappa = mm.mm_nbinom_shape if shape is None else shape.value
    noises = _with_shape(observed.noises, kappa)
    if mm.mm_synthetic == "adaptive":
        signals = observed.exposure_model.signals_adu(noises[0])
        noises = [observed.exposure_model.noise(noises[0])] * len(noises)
        factors = [1.0] * len(noises)
    elif mm.mm_synthetic == "single":  # each has its own flux, and is where it is
        signals = [np.maximum(image, 0) for image in observed.clean_exposures]
        factors = [1.0] * len(signals)
    else:
        s = observed.statistics
        median = np.maximum(np.where(observed.median_hits, s.min2d, s.median2d), 0)
        signals, factors = [median] * len(noises), observed.factors
        if offsets is not None:
            signals = [np.maximum(move(_filled(median), xy), 0) for xy in offsets.xy_px]
    return [Exposure(*each) for each in zip(signals, factors, noises, strict=True)]


def _with_shape(noises: Sequence[Noise], kappa: float) -> list[Noise]:
    """Give noises the shape of photon statistics; what is one object stays one."""
    new = {id(noise): replace(noise, nbinom_shape=kappa) for noise in noises}
    return [new[id(noise)] for noise in noises]


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
