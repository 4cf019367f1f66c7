"""The order of steps: from a stack to masks, from masks to combined images."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from crdetect.combine import Combination, Combiner, combine
from crdetect.detectors import make_detector
from crdetect.equivalence.flux import FluxFactors, divided, measure_flux, number_at_median
from crdetect.equivalence.model import ExposureModel, fit_exposure_model
from crdetect.equivalence.offsets import aligned, check_region
from crdetect.errors import InputError
from crdetect.fill import masked_median
from crdetect.joint.detection import JointHits, find_jointly
from crdetect.masks import (
    Features,
    Hits,
    Masks,
    Selection,
    dilate,
    features_touching,
    pixel_mask,
    region_mask,
)
from crdetect.mm.analytic import check_available
from crdetect.mm.boundary import Boundary
from crdetect.mm.method import MedianMinimum, Observed, make_diagram
from crdetect.noise import Noise
from crdetect.parameters import MM, Parameters
from crdetect.quality import Quality, assess
from crdetect.resources import ALL_PROCESSORS, Resources
from crdetect.stack import Stack, Statistics

_logger = logging.getLogger(__name__)

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Evidence:
    """What was found in the images beside median2d.

    Attributes
    ----------
    stack : Stack
        The exposures as they were compared: divided by their flux where parameters ask for it.
    mean : Hits
        What each method found in mean2d.
    exposures : tuple of N Hits
        What each method found in each exposure.
    """

    stack: Stack
    mean: Hits
    exposures: tuple[Hits, ...]


@dataclass(frozen=True)
class Detection:
    """All that a run finds out.

    Attributes
    ----------
    parameters : Parameters
        What was asked for.
    statistics : Statistics
        min2d, median2d, mean2d, max2d of the stack.
    masks : Masks
        The masks.
    codes : (rows, columns) array of uint8
        Which method flagged each pixel of MEDIANCR (`crdetect.masks`).
    auxclean : (rows, columns) array of float32
        The median with its cosmic rays replaced, ADU.
    diagram : MedianMinimum or None
        None when M.M.Cosmic does not take part.
    flux : FluxFactors
        Flux of each exposure.
    evidence : Evidence
        What was found in the other images.
    observed : Observed or None
        What was known of the exposures when pixels were flagged.
    """

    parameters: Parameters
    statistics: Statistics
    masks: Masks
    codes: np.ndarray
    auxclean: np.ndarray
    diagram: MedianMinimum | None
    flux: FluxFactors
    evidence: Evidence
    observed: Observed | None = None

    @property
    def exposure_model(self) -> ExposureModel | None:
        """How the exposures differ; None where that was not asked for."""
        return None if self.observed is None else self.observed.exposure_model

    @cached_property
    def quality(self) -> Quality:
        """Checks of the result. They take a while, and are made when they are asked for."""
        if self.observed is None:
            return Quality()
        return assess(self.observed, self.masks, self.diagram, self.parameters)

    @property
    def features(self) -> Features:
        """The features of MEDIANCR."""
        return Features.of(self.codes)

    @property
    def problematic(self) -> Features:
        """Groups of pixels masked in all exposures; codes are those of MEDIANCR, 0 outside it."""
        return Features.where(self.masks.crmasks.all(axis=0), self.codes)

    def used(self) -> dict[str, Any]:
        """Values of the parameters that were found out in the run, by their names."""
        used = self.diagram.used() if self.diagram else {}
        return used | ({"flux_factor": list(self.flux.factors)} if self.flux.measured else {})

    def repeating(self) -> Parameters:
        """Make the parameters that give the same masks again, without a person."""
        used = self.used()
        if "mm_xy_offsets" in used:
            used["mm_crosscorr_region"] = None  # where they were measured
        if np.isinf(used.get("mm_nbinom_shape", 0)):
            del used["mm_nbinom_shape"]
            used["mm_photon_distribution"] = "poisson"
        alone = {"interactive": False, "verify_cr": False}
        return Parameters.from_mapping(self.parameters.to_mapping() | used | alone)

    def combine(
        self, stack: Stack, noise: Noise, resources: Resources = ALL_PROCESSORS
    ) -> dict[str, Combination]:
        """Combine the exposures with these masks, as the parameters ask for.

        Where they were matched, the noise that gives the variance of single values is that of the
        fitted model.
        """
        general = self.parameters.general
        if self.exposure_model is not None:
            noise = self.exposure_model.noise(noise)
        if general.divides_by_flux:
            stack = divided(stack, self.flux.factors)
        return combine(
            stack,
            self.statistics,
            self.masks,
            noise,
            self.auxclean if general.use_auxmedian else None,
            general.pixels_to_be_replaced_by_local_median,
            resources,
        )


def detect(
    stack: Stack,
    noise: Noise,
    parameters: Parameters,
    workers: int | Resources | None = None,
    progress: Progress = _logger.debug,
    boundary: Boundary | None = None,
) -> Detection:
    """Find the cosmic rays of equivalent exposures.

    Parameters
    ----------
    stack : Stack
        The exposures: ADU, bias removed.
    noise : Noise
        Gain (e/ADU) and read noise (ADU).
    parameters : Parameters
        Method and thresholds.
    workers : int or Resources, optional
        How many processors may be busy at a time; all that the process may use by default. The
        result does not depend on it.
    progress : callable, optional
        Called with the name of each step as it begins.
    boundary : Boundary, optional
        Boundary of an earlier run, taken instead of a new one.

    Returns
    -------
    Detection

    Raises
    ------
    InputError
        If the parameters do not fit the exposures.
    """
    resources = Resources.of(workers)
    with resources.bounded():
        examined = examine(stack, noise, parameters, resources, progress)
        diagram = examined.make_diagram(parameters.mm, boundary) if examined.uses_mm else None
        return examined.judge(diagram, parameters)


@dataclass(frozen=True)
class Examined:
    """What is known of the exposures before pixels are flagged.

    Attributes
    ----------
    stack : Stack
        The exposures, divided by their flux where the parameters ask for it.
    noise : Noise
        Of the exposures as they came.
    statistics : Statistics
        Of the stack.
    flux : FluxFactors
        Flux of each exposure.
    uses_mm : bool
        Whether the Median-Minimum diagram takes part.
    observed : Observed
        What the diagram is made of.
    aux : Aux
        What the detector of one image found.
    joint : JointHits or None
        What joint detection found; None where it does not take part.
    resources : Resources
        What may be used.
    progress : callable
        Called with the name of each step as it begins.
    """

    stack: Stack
    noise: Noise
    statistics: Statistics
    flux: FluxFactors
    uses_mm: bool
    observed: Observed
    aux: Aux
    joint: JointHits | None
    resources: Resources
    progress: Progress

    def make_diagram(self, mm: MM, boundary: Boundary | None = None) -> MedianMinimum:
        """Make the Median-Minimum diagram; see `crdetect.mm.method.make_diagram`."""
        self.progress("making the Median-Minimum diagram")
        return make_diagram(self.observed, mm, self.resources, boundary)

    def judge(self, diagram: MedianMinimum | None, parameters: Parameters) -> Detection:
        """Flag pixels and make the masks.

        Parameters
        ----------
        diagram : MedianMinimum or None
            None where M.M.Cosmic does not take part.
        parameters : Parameters
            Those the exposures were examined with, or others that differ in what the user decides
            about pixels, in dilations and in the diagram.
        """
        self.progress("flagging")
        statistics, aux = self.statistics, self.aux
        selection, selection_of_median = _selections(parameters, self.stack.shape)
        across = self.joint and _Jointly(self.joint, statistics)
        if diagram is not None:
            across = _ByDiagram(diagram, statistics, parameters.mm.mm_dilation)
        judge = _Judge(statistics, selection, across, parameters)
        judge_of_median = replace(judge, selection=selection_of_median)
        median_hits = judge_of_median.hits("median2d", aux.median, statistics.median2d)
        mediancr = judge_of_median.complete(median_hits)
        evidence = judge.evidence(aux, self.stack)
        meancrt = judge.complete(evidence.mean) | mediancr
        crmasks = np.empty(self.stack.exposures.shape, bool)
        for crmask, hits in zip(crmasks, evidence.exposures, strict=True):
            np.logical_and(judge.complete(hits), meancrt, out=crmask)

        auxclean = _fill_what_aux_missed(aux.auxclean, mediancr, median_hits.aux)
        self.progress("cleaning the combined mean")
        meancr = _detect_in_meancr(self, parameters, crmasks, auxclean)
        masks = Masks(
            mediancr, meancrt, crmasks, selection.detectable(meancr) & statistics.detectable
        )
        codes = median_hits.codes(mediancr)
        return Detection(
            parameters,
            statistics,
            masks,
            codes,
            auxclean,
            diagram,
            self.flux,
            evidence,
            self.observed,
        )


def examine(
    stack: Stack,
    noise: Noise,
    parameters: Parameters,
    resources: Resources = ALL_PROCESSORS,
    progress: Progress = _logger.debug,
) -> Examined:
    """Do what comes before the diagram: statistics, flux, and the detector of one image.

    `detect` goes on with `Examined.make_diagram` and `Examined.judge`; its arguments are the same,
    but for the resources.
    """
    check(stack, noise, parameters)
    progress("statistics of the stack")
    statistics = stack.statistics(parameters.mm.mm_cr_coincidences, resources)
    flux = _find_flux(stack, statistics, noise, parameters, progress)
    noises, factors = [noise] * len(stack), flux.factors
    if parameters.general.divides_by_flux:
        stack = divided(stack, flux.factors)
        statistics = stack.statistics(parameters.mm.mm_cr_coincidences, resources)
        noises = [noise.divided(factor) for factor in flux.factors]
        factors = [1.0] * len(stack)

    exposure_model = joint = None
    if parameters.models_exposures:
        progress("matching the exposures")
        exposure_model = fit_exposure_model(stack, noise, parameters.jt, resources)
    if parameters.general.uses_joint:
        progress("joint detection")
        joint = find_jointly(stack, statistics, noise, exposure_model, parameters.jt, resources)
    aux = _detect_in_each_image(
        stack, statistics, [noise, noise, *noises], parameters, resources, progress
    )
    hits = aux.median, aux.anywhere()
    observed = Observed(
        stack, statistics, noises, factors, *hits, aux.clean_exposures, exposure_model
    )
    uses_mm = parameters.general.uses_mm
    return Examined(
        stack, noise, statistics, flux, uses_mm, observed, aux, joint, resources, progress
    )


def _find_flux(
    stack: Stack,
    statistics: Statistics,
    noise: Noise,
    parameters: Parameters,
    progress: Progress,
) -> FluxFactors:
    general = parameters.general
    if general.flux_factor is None:
        return FluxFactors((1.0,) * len(stack))
    if general.flux_factor == "auto":
        progress("measuring flux factors")
        flux = _measure_flux(stack, statistics, noise, parameters)
        _logger.info("flux_factor: %s", [round(factor, 4) for factor in flux.factors])
        return flux
    factors = np.broadcast_to(general.flux_factor, len(stack))
    return FluxFactors(tuple(factors.tolist()))


def _measure_flux(
    stack: Stack, statistics: Statistics, noise: Noise, parameters: Parameters
) -> FluxFactors:
    regions = parameters.general.flux_factor_regions
    selected = region_mask(regions, stack.shape, "flux_factor_regions") | (regions is None)
    if not (parameters.general.uses_mm and parameters.mm.has_offsets):
        return measure_flux(stack, noise, statistics.median2d, selected)
    # at the edge of a trace the ratio of two pixels is one of places, not of fluxes
    there = aligned(stack, noise, parameters.mm)
    flux = measure_flux(there, noise, there.statistics().median2d, selected)
    return replace(flux, number_at_median=number_at_median(stack, statistics.median2d))


def check(stack: Stack, noise: Noise, parameters: Parameters) -> None:
    """Check that parameters fit the exposures, before any work is done.

    Raises
    ------
    InputError
        If the exposures are tiny, a map has another shape, a region or pixel lies outside the
        image, there is another number of flux factors or offsets than of exposures,
        ``mm_cr_coincidences`` is too large, the diagram cannot be computed, or the detector is not
        installed.
    """
    make_detector(parameters).check(stack.shape)
    noise.check_shape(stack.shape)
    stack.check_coincidences(parameters.mm.mm_cr_coincidences)
    general, mm, shape = parameters.general, parameters.mm, stack.shape
    if len(stack) < 3 and not general.uses_joint:
        raise InputError(
            f"crmethod: {general.crmethod} needs at least 3 exposures, not {len(stack)}; accepted "
            "for two: joint, joint_lacosmic and its like"
        )
    _check_one_per_exposure("flux_factor", general.flux_factor, len(stack))
    region_mask(general.flux_factor_regions, shape, "flux_factor_regions")
    if general.uses_mm:
        _check_one_per_exposure("mm_xy_offsets", mm.mm_xy_offsets, len(stack))
        if mm.mm_crosscorr_region is not None:
            region_mask([mm.mm_crosscorr_region], shape, "mm_crosscorr_region")
            check_region(*mm.mm_crosscorr_region)
        if mm.mm_simulation == "analytic":
            check_available(len(stack), mm.mm_cr_coincidences)
    if parameters.models_exposures and general.divides_by_flux:
        raise InputError(
            "joint detection and mm_synthetic: adaptive find out by themselves how fluxes differ: "
            "set apply_flux_factor_to: simulated, or flux_factor: none"
        )
    replaced = general.pixels_to_be_replaced_by_local_median or ()
    pixel_mask([pixel[:2] for pixel in replaced], shape, "pixels_to_be_replaced_by_local_median")
    _selections(parameters, shape)


def _selections(parameters: Parameters, shape: tuple[int, int]) -> tuple[Selection, Selection]:
    """Mark the pixels that the user decides about: in all masks, and in MEDIANCR."""

    def marked(name: str) -> np.ndarray:
        return pixel_mask(getattr(parameters.general, name), shape, name)

    skipped = region_mask(parameters.general.regions_to_be_skipped, shape, "regions_to_be_skipped")
    flagged = marked("pixels_to_be_flagged_as_cr")
    ignored = marked("pixels_to_be_ignored_as_cr")
    more = marked("pixels_to_be_ignored_in_mediancr")
    return Selection(skipped, flagged, ignored), Selection(skipped, flagged, ignored | more)


def _check_one_per_exposure(name: str, values: Any, n: int) -> None:
    if isinstance(values, tuple) and len(values) != n:
        raise InputError(f"{name} has {len(values)} values for {n} exposures: one each is needed")


@dataclass(frozen=True)
class Aux:
    """What the detector of one image found in each image, and the images it cleaned.

    Attributes
    ----------
    median, mean : (rows, columns) arrays of bool
        What it flagged in median2d and mean2d.
    exposures : list of N (rows, columns) arrays of bool
        What it flagged in each exposure.
    auxclean : (rows, columns) array of float32
        The median as it cleaned it, ADU.
    clean_exposures : list of N (rows, columns) arrays of float32 or None
        The exposures as it cleaned them, ADU; None where they are not needed.
    """

    median: np.ndarray
    mean: np.ndarray
    exposures: list[np.ndarray]
    auxclean: np.ndarray
    clean_exposures: list[np.ndarray]

    def anywhere(self) -> np.ndarray:
        """Where the median or any exposure is flagged."""
        return np.logical_or.reduce([self.median, *self.exposures])


def _detect_in_each_image(
    stack: Stack,
    statistics: Statistics,
    noises: Sequence[Noise],
    parameters: Parameters,
    resources: Resources,
    progress: Progress,
) -> Aux:
    """Run the detector; ``noises`` are those of median2d, mean2d and each exposure."""
    detector = make_detector(parameters, resources)
    keep_clean = parameters.general.uses_mm and parameters.mm.uses_clean_exposures
    images = {"median2d": statistics.median2d, "mean2d": statistics.mean2d}
    images |= {f"exposure {i}": image for i, image in enumerate(stack.exposures, start=1)}

    def run(job: tuple[str, np.ndarray, Noise]) -> tuple[np.ndarray, np.ndarray | None]:
        name, image, noise = job
        if parameters.general.detector:
            progress(f"{parameters.general.detector} in {name}")
        result = detector.detect(image, noise)
        _logger.info("%s: %d pixels by aux", name, np.count_nonzero(result.mask))
        kept = name == "median2d" or (keep_clean and name != "mean2d")
        return result.mask, result.image_adu if kept else None

    jobs = zip(images, images.values(), noises, strict=True)
    across_images = Resources(1) if detector.divides_images else resources
    (median, auxclean), (mean, _), *rest = across_images.map(run, jobs)
    masks, cleaned = zip(*rest, strict=True)
    return Aux(median, mean, list(masks), auxclean, list(cleaned))


@dataclass(frozen=True)
class _ByDiagram:
    """What the Median-Minimum diagram says of an image."""

    diagram: MedianMinimum
    statistics: Statistics
    dilation: int

    def exceeds(self, image_adu: np.ndarray) -> np.ndarray:
        """Tell where a hit may be: detections in one image need a pixel there."""
        return self.diagram.criterion.beyond_threshold(image_adu, self.statistics)

    def flag(self, _which: str | int, image_adu: np.ndarray) -> np.ndarray:
        """Flag the pixels of an image."""
        return self.diagram.criterion.flag(image_adu, self.statistics)


@dataclass(frozen=True)
class _Jointly:
    """What joint detection says of an image."""

    joint: JointHits
    statistics: Statistics
    dilation: int = 0

    def exceeds(self, image_adu: np.ndarray) -> np.ndarray:
        """Tell where a hit may be: detections in one image need a pixel there."""
        return image_adu - self.statistics.min2d > self.joint.limit_adu

    def flag(self, which: str | int, _image_adu: np.ndarray) -> np.ndarray:
        """Flag the pixels of median2d, mean2d or an exposure (its index)."""
        if which == "median2d":
            return self.joint.mediancr
        return self.joint.crmasks.any(axis=0) if which == "mean2d" else self.joint.crmasks[which]


@dataclass(frozen=True)
class _Judge:
    """Decides what is flagged in an image, from what each method says."""

    statistics: Statistics
    selection: Selection
    across: _ByDiagram | _Jointly | None
    parameters: Parameters

    def hits(self, which: str | int, aux: np.ndarray, image_adu: np.ndarray) -> Hits:
        """Bring both methods together for one image: median2d, mean2d or an exposure's index."""
        aux = self.selection.detectable(aux & self.statistics.detectable)
        if self.across is None:
            return Hits(aux, np.zeros_like(aux))
        if aux.any():
            aux = features_touching(aux, self.across.exceeds(image_adu))
        found = self.selection.detectable(self.across.flag(which, image_adu))
        return Hits(aux, self._grow(found, image_adu))

    def evidence(self, aux: Aux, stack: Stack) -> Evidence:
        """Bring both methods together for mean2d and each exposure."""
        images = enumerate(zip(aux.exposures, stack.exposures, strict=True))
        exposures = tuple(self.hits(i, mask, exposure) for i, (mask, exposure) in images)
        return Evidence(stack, self.hits("mean2d", aux.mean, self.statistics.mean2d), exposures)

    def _grow(self, found: np.ndarray, image_adu: np.ndarray) -> np.ndarray:
        grown = dilate(found, self.across.dilation)
        return self.selection.detectable(grown & self.statistics.detectable & ~np.isnan(image_adu))

    def complete(self, hits: Hits) -> np.ndarray:
        """Apply the user's decisions and the global dilation."""
        complete = self.selection.complete(hits.union, self.parameters.general.dilation)
        return complete & self.statistics.detectable


def _fill_what_aux_missed(
    auxclean: np.ndarray, mediancr: np.ndarray, aux: np.ndarray
) -> np.ndarray:
    """Replace the pixels of MEDIANCR that the detector did not find, hence did not clean."""
    missed = mediancr & ~aux
    return (
        np.where(missed, masked_median(auxclean, mediancr), auxclean) if missed.any() else auxclean
    )


def _detect_in_meancr(
    examined: Examined, parameters: Parameters, crmasks: np.ndarray, auxclean: np.ndarray
) -> np.ndarray:
    if parameters.general.detector is None:
        return np.zeros(examined.stack.shape, bool)
    noise = examined.noise
    combiner = Combiner(examined.stack, examined.statistics, noise, examined.resources)
    use_aux = parameters.general.use_auxmedian
    filling = combiner.interpolated(auxclean) if use_aux else combiner.minimum
    meancr = combiner.masked_mean(crmasks, filling)
    return make_detector(parameters, examined.resources).detect(meancr.value, noise).mask
