"""The order of steps: from a stack to masks, from masks to combined images."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from crdetect.combine import Combination, Combiner, combine
from crdetect.detectors import make_detector
from crdetect.detectors.fill import masked_median
from crdetect.errors import InputError
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
from crdetect.mm.flux import FluxFactors, divided, measure_flux
from crdetect.mm.method import MedianMinimum, Observed, make_diagram
from crdetect.mm.offsets import check_region
from crdetect.noise import Noise
from crdetect.parameters import Parameters
from crdetect.quality import Quality, assess
from crdetect.stack import Stack, Statistics

_logger = logging.getLogger(__name__)

Progress = Callable[[str], None]


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
    quality : Quality
        Checks of the result.
    """

    parameters: Parameters
    statistics: Statistics
    masks: Masks
    codes: np.ndarray
    auxclean: np.ndarray
    diagram: MedianMinimum | None
    flux: FluxFactors
    quality: Quality = field(default_factory=Quality)

    @property
    def features(self) -> Features:
        """The features of MEDIANCR."""
        return Features.of(self.codes)

    def used(self) -> dict[str, Any]:
        """Values of the parameters that were found out in the run, by their names."""
        used = self.diagram.used() if self.diagram else {}
        return used | ({"flux_factor": list(self.flux.factors)} if self.flux.measured else {})

    def combine(self, stack: Stack, noise: Noise) -> dict[str, Combination]:
        """Combine the exposures with these masks, as the parameters ask for."""
        general = self.parameters.general
        if general.divides_by_flux:
            stack = divided(stack, self.flux.factors)
        return combine(
            stack,
            self.statistics,
            self.masks,
            noise,
            self.auxclean if general.use_auxmedian else None,
            general.pixels_to_be_replaced_by_local_median,
        )


def detect(
    stack: Stack,
    noise: Noise,
    parameters: Parameters,
    workers: int | None = None,
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
    workers : int, optional
        Threads; the number of processors by default. The result does not depend on it.
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
    workers = workers or os.cpu_count() or 1
    selection = check(stack, noise, parameters)
    progress("statistics of the stack")
    statistics = stack.statistics(parameters.mm.mm_cr_coincidences)
    flux = _find_flux(stack, statistics, noise, parameters)
    noises = [noise] * len(stack)
    if parameters.general.divides_by_flux:
        stack = divided(stack, flux.factors)
        statistics = stack.statistics(parameters.mm.mm_cr_coincidences)
        noises = [noise.divided(factor) for factor in flux.factors]

    aux = _detect_in_each_image(
        stack, statistics, [noise, noise, *noises], parameters, workers, progress
    )
    ones = [1.0] * len(stack)
    observed = Observed(
        stack,
        statistics,
        noises,
        ones if parameters.general.divides_by_flux else flux.factors,
        aux.median,
        aux.anywhere(),
        aux.clean_exposures,
    )
    diagram = None
    if parameters.general.uses_mm:
        progress("making the Median-Minimum diagram")
        diagram = make_diagram(observed, parameters.mm, workers, boundary)

    progress("flagging")
    judge = _Judge(statistics, selection, diagram, parameters)
    median_hits = judge.hits(aux.median, statistics.median2d)
    mediancr = judge.complete(median_hits)
    meancrt = judge.complete(judge.hits(aux.mean, statistics.mean2d)) | mediancr
    crmasks = np.empty(stack.exposures.shape, bool)
    for crmask, mask, exposure in zip(crmasks, aux.exposures, stack.exposures, strict=True):
        np.logical_and(judge.complete(judge.hits(mask, exposure)), meancrt, out=crmask)

    auxclean = _fill_what_aux_missed(aux.auxclean, mediancr, median_hits.aux)
    progress("cleaning the combined mean")
    meancr = _detect_in_meancr(stack, statistics, noise, parameters, crmasks, auxclean, workers)
    masks = Masks(mediancr, meancrt, crmasks, selection.detectable(meancr) & statistics.detectable)
    codes = median_hits.codes(mediancr)
    progress("judging the result")
    quality = assess(observed, masks, diagram, parameters)
    return Detection(parameters, statistics, masks, codes, auxclean, diagram, flux, quality)


def _find_flux(
    stack: Stack, statistics: Statistics, noise: Noise, parameters: Parameters
) -> FluxFactors:
    general = parameters.general
    if general.flux_factor is None:
        return FluxFactors((1.0,) * len(stack))
    if general.flux_factor == "auto":
        regions = general.flux_factor_regions
        selected = region_mask(regions, stack.shape, "flux_factor_regions") | (regions is None)
        flux = measure_flux(stack, noise, statistics.median2d, selected)
        _logger.info("flux_factor: %s", [round(factor, 4) for factor in flux.factors])
        return flux
    factors = np.broadcast_to(general.flux_factor, len(stack))
    return FluxFactors(tuple(factors.tolist()))


def check(stack: Stack, noise: Noise, parameters: Parameters) -> Selection:
    """Check that parameters fit the exposures, before any work is done.

    Returns
    -------
    Selection
        The pixels that the user decides about.

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
    _check_one_per_exposure("flux_factor", general.flux_factor, len(stack))
    region_mask(general.flux_factor_regions, shape, "flux_factor_regions")
    if general.uses_mm:
        _check_one_per_exposure("mm_xy_offsets", mm.mm_xy_offsets, len(stack))
        if mm.mm_crosscorr_region is not None:
            region_mask([mm.mm_crosscorr_region], shape, "mm_crosscorr_region")
            check_region(*mm.mm_crosscorr_region)
        if mm.mm_simulation == "analytic":
            check_available(len(stack), mm.mm_cr_coincidences)
    replaced = general.pixels_to_be_replaced_by_local_median or ()
    pixel_mask([pixel[:2] for pixel in replaced], shape, "pixels_to_be_replaced_by_local_median")
    return Selection(
        region_mask(general.regions_to_be_skipped, shape, "regions_to_be_skipped"),
        pixel_mask(general.pixels_to_be_flagged_as_cr, shape, "pixels_to_be_flagged_as_cr"),
        pixel_mask(general.pixels_to_be_ignored_as_cr, shape, "pixels_to_be_ignored_as_cr"),
    )


def _check_one_per_exposure(name: str, values: Any, n: int) -> None:
    if isinstance(values, tuple) and len(values) != n:
        raise InputError(f"{name} has {len(values)} values for {n} exposures: one each is needed")


@dataclass(frozen=True)
class _Aux:
    """What the detector of one image found in each image, and the images it cleaned."""

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
    workers: int,
    progress: Progress,
) -> _Aux:
    """Run the detector; ``noises`` are those of median2d, mean2d and each exposure."""
    detector = make_detector(parameters, workers)
    keep_clean = parameters.general.uses_mm and parameters.mm.uses_clean_exposures
    images = {"median2d": statistics.median2d, "mean2d": statistics.mean2d}
    images |= {f"exposure {i}": image for i, image in enumerate(stack.exposures, start=1)}

    def run(name: str, image: np.ndarray, noise: Noise) -> tuple[np.ndarray, np.ndarray | None]:
        if parameters.general.detector:
            progress(f"{parameters.general.detector} in {name}")
        result = detector.detect(image, noise)
        _logger.info("%s: %d pixels by aux", name, np.count_nonzero(result.mask))
        kept = name == "median2d" or (keep_clean and name != "mean2d")
        return result.mask, result.image_adu if kept else None

    with ThreadPoolExecutor(workers) as pool:
        (median, auxclean), (mean, _), *rest = pool.map(run, images, images.values(), noises)
    masks, cleaned = zip(*rest, strict=True)
    return _Aux(median, mean, list(masks), auxclean, list(cleaned))


@dataclass(frozen=True)
class _Judge:
    """Decides what is flagged in an image, from what each method says."""

    statistics: Statistics
    selection: Selection
    diagram: MedianMinimum | None
    parameters: Parameters

    def hits(self, aux: np.ndarray, image_adu: np.ndarray) -> Hits:
        """Bring both methods together for one image."""
        aux = self.selection.detectable(aux & self.statistics.detectable)
        if self.diagram is None:
            return Hits(aux, np.zeros_like(aux))
        criterion = self.diagram.criterion
        aux = features_touching(aux, criterion.beyond_threshold(image_adu, self.statistics))
        mm = self.selection.detectable(criterion.flag(image_adu, self.statistics))
        return Hits(aux, self._grow(mm, image_adu))

    def _grow(self, mm: np.ndarray, image_adu: np.ndarray) -> np.ndarray:
        grown = dilate(mm, self.parameters.mm.mm_dilation)
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
    stack: Stack,
    statistics: Statistics,
    noise: Noise,
    parameters: Parameters,
    crmasks: np.ndarray,
    auxclean: np.ndarray,
    workers: int,
) -> np.ndarray:
    combiner = Combiner(stack, statistics, noise)
    use_aux = parameters.general.use_auxmedian
    filling = combiner.interpolated(auxclean) if use_aux else combiner.minimum()
    meancr = combiner.masked_mean(crmasks, filling)
    return make_detector(parameters, workers).detect(meancr.value, noise).mask
