"""The order of steps: from a stack to masks, from masks to combined images.

`prepare` takes statistics, finds how the exposures differ and runs the detector of one image;
`Prepared.compare` makes the criterion that compares the exposures; `Prepared.flag` makes the
masks. `detect` does all three.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from crdetect.combine import Combination, Combiner, combine
from crdetect.criteria import CRITERIA, Criterion
from crdetect.detectors import REGISTRY, make_detector
from crdetect.detectors.each_image import DetectorHits, detect_in_each_image
from crdetect.equality import by_value
from crdetect.equivalence.flux import FluxFactors
from crdetect.equivalence.model import ExposureModel
from crdetect.equivalence.observation import Observation, Progress, observe
from crdetect.errors import InputError
from crdetect.fill import masked_median
from crdetect.masks import (
    Features,
    Hits,
    ImageHits,
    Masks,
    Selection,
    code_meanings,
    dilate,
    features_touching,
    pixel_mask,
    region_mask,
)
from crdetect.mm.boundary import Boundary
from crdetect.mm.method import MedianMinimum
from crdetect.noise import Noise
from crdetect.parameters import Parameters
from crdetect.quality import assess
from crdetect.resources import ALL_PROCESSORS, Resources
from crdetect.stack import Stack, Statistics
from crdetect.verdict import Quality

_logger = logging.getLogger(__name__)


@by_value
@dataclass(frozen=True)
class Detection:
    """Masks, and all that a run found on the way to them.

    Attributes
    ----------
    parameters : Parameters
        What was asked for.
    observation : Observation
        The exposures as they were compared, and how they differ.
    detector_hits : DetectorHits
        What the detector of one image found in each image.
    criterion : Criterion or None
        What compared the exposures; None where ``crmethod`` names a detector alone.
    masks : Masks
        The masks.
    codes : (rows, columns) array of uint8
        Which method flagged each pixel of MEDIANCR (`crdetect.masks`).
    hits : ImageHits
        Pixels that each method flagged in each image.
    auxclean : (rows, columns) array of float32
        The median with its cosmic rays replaced, ADU.
    """

    parameters: Parameters
    observation: Observation
    detector_hits: DetectorHits
    criterion: Criterion | None
    masks: Masks
    codes: np.ndarray
    hits: ImageHits
    auxclean: np.ndarray

    @property
    def statistics(self) -> Statistics:
        """min2d, median2d, mean2d and max2d of the exposures as they were compared."""
        return self.observation.statistics

    @property
    def flux(self) -> FluxFactors:
        """Flux of each exposure."""
        return self.observation.flux

    @property
    def exposure_model(self) -> ExposureModel | None:
        """Differences and noise model fitted to the exposures; None where they were not fitted."""
        return self.observation.exposure_model

    @property
    def diagram(self) -> MedianMinimum | None:
        """The Median-Minimum diagram; None where M.M.Cosmic did not take part."""
        return self.criterion if isinstance(self.criterion, MedianMinimum) else None

    @cached_property
    def quality(self) -> Quality:
        """Checks of the result. They take a while, and are made when they are first asked for."""
        return assess(
            self.observation,
            self.detector_hits.anywhere(),
            self.masks,
            self.diagram,
            self.parameters,
        )

    @cached_property
    def features(self) -> Features:
        """The features of MEDIANCR."""
        return Features.of(self.codes)

    @cached_property
    def problematic(self) -> Features:
        """Groups of pixels masked in all exposures; codes are those of MEDIANCR, 0 outside it."""
        return Features.where(self.masks.crmasks.all(axis=0), self.codes)

    @property
    def code_meanings(self) -> dict[int, str]:
        """What each code of a pixel means in this run, in words."""
        method = self.parameters.general.method
        title = REGISTRY[method.detector].block.title if method.detector else None
        return code_meanings(title, method.label)

    def used(self) -> dict[str, Any]:
        """Values of the parameters that the run measured or drew, by their names."""
        used = self.diagram.used() if self.diagram else {}
        return used | ({"flux_factor": list(self.flux.factors)} if self.flux.measured else {})

    def findings(self) -> dict[str, str]:
        """Values that the run measured or drew, rounded for people, by their names."""
        found = self.used()
        if self.parameters.mm.mm_seed is not None:
            found.pop("mm_seed", None)  # it was given
        texts = {
            name: str(value if isinstance(value, int) else np.round(value, 4).tolist())
            for name, value in found.items()
        }
        diagram = self.diagram
        if diagram is not None and diagram.nbinom_shape is not None:
            texts["mm_nbinom_shape"] = str(diagram.nbinom_shape)  # with its error
        if diagram is not None and diagram.expected_above is not None:
            texts["clean pixels expected above the boundary"] = f"{diagram.expected_above:.3g}"
        return texts

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
        self,
        stack: Stack | None = None,
        noise: Noise | None = None,
        resources: Resources = ALL_PROCESSORS,
    ) -> dict[str, Combination]:
        """Combine the exposures with these masks, as the parameters ask for.

        Where the exposures were matched, the noise that gives the variance of single values is
        that of the fitted model; where they were divided by flux factors, so is the noise.

        Parameters
        ----------
        stack, noise : Stack, Noise, optional
            Not needed, since the detection holds both. They are accepted from callers that
            still give what they gave to `detect`.
        resources : Resources, optional
            What may be used; the result does not depend on it.

        Raises
        ------
        InputError
            If the stack or the noise is not the one that was given to `detect`.
        """
        self._check_given(stack, noise)
        general, observation = self.parameters.general, self.observation
        return combine(
            observation.stack,
            observation.statistics,
            self.masks,
            observation.combining_noise,
            self.auxclean if general.use_auxmedian else None,
            general.pixels_to_be_replaced_by_local_median,
            resources,
        )

    def _check_given(self, stack: Stack | None, noise: Noise | None) -> None:
        given = self.observation.given
        if stack is not None and not np.array_equal(
            stack.exposures, given.exposures, equal_nan=True
        ):
            raise InputError(
                "combine: these are not the exposures that the masks were made of; leave the "
                "stack out, since the detection holds it"
            )
        if noise is not None and noise != self.observation.noise:
            raise InputError(
                "combine: this is not the noise that the masks were made with; leave it out, "
                "since the detection holds it"
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
        How many processors may be busy at a time; by default all that the process may use. The
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
        prepared = prepare(stack, noise, parameters, resources, progress)
        return prepared.flag(prepared.compare(parameters, boundary), parameters)


@by_value
@dataclass(frozen=True)
class Prepared:
    """What is known of the exposures before they are compared.

    Attributes
    ----------
    observation : Observation
        The exposures, and how they differ.
    detector_hits : DetectorHits
        What the detector of one image found.
    resources : Resources
        What may be used; the result does not depend on it.
    progress : callable
        Called with the name of each step as it begins.
    """

    observation: Observation
    detector_hits: DetectorHits
    resources: Resources
    progress: Progress

    def compare(self, parameters: Parameters, boundary: Boundary | None = None) -> Criterion | None:
        """Make the criterion that ``crmethod`` asks for; None where it names a detector alone.

        Parameters
        ----------
        parameters : Parameters
            Those of the criterion.
        boundary : Boundary, optional
            Boundary of an earlier run, taken instead of a new one.
        """
        kind = CRITERIA.get(parameters.general.criterion)
        if kind is None:
            return None
        self.progress(kind.step)
        return kind.compare(
            self.observation, self.detector_hits, parameters, self.resources, boundary
        )

    def flag(self, criterion: Criterion | None, parameters: Parameters) -> Detection:
        """Flag pixels and make the masks.

        Parameters
        ----------
        criterion : Criterion or None
            None where a detector works alone.
        parameters : Parameters
            Those that `prepare` was given, or others that differ in what the user decides about
            pixels, in dilations and in the diagram.
        """
        self.progress("flagging")
        observation, found = self.observation, self.detector_hits
        selection, selection_of_median = _selections(parameters, observation.stack.shape)
        flagging = _Flagging(observation, selection, criterion, parameters.general.dilation)
        in_median = replace(flagging, selection=selection_of_median)
        hits = ImageHits(
            in_median.hits("median2d", found.median),
            flagging.hits("mean2d", found.mean),
            tuple(flagging.hits(i, mask) for i, mask in enumerate(found.exposures)),
        )
        mediancr = in_median.complete(hits.median)
        meancrt = flagging.complete(hits.mean) | mediancr
        crmasks = np.empty(observation.stack.exposures.shape, bool)
        for crmask, own in zip(crmasks, hits.exposures, strict=True):
            np.logical_and(flagging.complete(own), meancrt, out=crmask)

        auxclean = _fill_what_aux_missed(found.auxclean, mediancr, hits.median.aux)
        self.progress("cleaning the combined mean")
        meancr = self._detect_in_meancr(parameters, crmasks, auxclean)
        meancr = selection.detectable(meancr) & observation.statistics.detectable
        return Detection(
            parameters,
            observation,
            found,
            criterion,
            Masks(mediancr, meancrt, crmasks, meancr),
            hits.median.codes(mediancr),
            hits,
            auxclean,
        )

    def _detect_in_meancr(
        self, parameters: Parameters, crmasks: np.ndarray, auxclean: np.ndarray
    ) -> np.ndarray:
        """Run the detector of one image on the mean of the unmasked exposures."""
        observation = self.observation
        if parameters.general.detector is None:
            return np.zeros(observation.stack.shape, bool)
        noise = observation.typical_noise
        combiner = Combiner(observation.stack, observation.statistics, noise, self.resources)
        use_aux = parameters.general.use_auxmedian
        filling = combiner.interpolated(auxclean) if use_aux else combiner.minimum
        meancr = combiner.masked_mean(crmasks, filling)
        return make_detector(parameters, self.resources).detect(meancr.value, noise).mask


def prepare(
    stack: Stack,
    noise: Noise,
    parameters: Parameters,
    resources: Resources = ALL_PROCESSORS,
    progress: Progress = _logger.debug,
) -> Prepared:
    """Do what comes before the exposures are compared: statistics, flux, detector of one image.

    `detect` goes on with `Prepared.compare` and `Prepared.flag`; its arguments are the same,
    but for the resources.
    """
    check(stack, noise, parameters)
    observation = observe(stack, noise, parameters, resources, progress)
    hits = detect_in_each_image(observation, parameters, resources, progress)
    return Prepared(observation, hits, resources, progress)


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
    stack.check_coincidences(parameters.general.mm_cr_coincidences)
    general, shape = parameters.general, stack.shape
    fewest = general.method.fewest_exposures
    if len(stack) < fewest:
        raise InputError(
            f"crmethod: {general.crmethod} needs at least {fewest} exposures, not {len(stack)}; "
            "accepted for two: joint, joint_lacosmic and its like"
        )
    factors = general.flux_factor
    if isinstance(factors, tuple) and len(factors) != len(stack):
        raise InputError(
            f"flux_factor has {len(factors)} values for {len(stack)} exposures: one each is needed"
        )
    region_mask(general.flux_factor_regions, shape, "flux_factor_regions")
    if general.criterion is not None:
        CRITERIA[general.criterion].check(stack, parameters)
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


@by_value
@dataclass(frozen=True)
class _Flagging:
    """The rule by which a pixel of an image is flagged, from what each method found."""

    observation: Observation
    selection: Selection
    criterion: Criterion | None
    dilation: int

    def hits(self, which: str | int, aux: np.ndarray) -> Hits:
        """Bring both methods together for one image: median2d, mean2d or an exposure's index."""
        detectable = self.observation.statistics.detectable
        aux = self.selection.detectable(aux & detectable)
        if self.criterion is None:
            return Hits(aux, np.zeros_like(aux))
        if aux.any():
            aux = features_touching(aux, self.criterion.beyond_threshold(which))
        found = self.selection.detectable(self.criterion.flag(which))
        grown = dilate(found, self.criterion.dilation)
        present = ~np.isnan(self.observation.image(which))
        return Hits(aux, self.selection.detectable(grown & detectable & present))

    def complete(self, hits: Hits) -> np.ndarray:
        """Apply the user's decisions and the global dilation."""
        complete = self.selection.complete(hits.union, self.dilation)
        return complete & self.observation.statistics.detectable


def _fill_what_aux_missed(
    auxclean: np.ndarray, mediancr: np.ndarray, aux: np.ndarray
) -> np.ndarray:
    """Replace the pixels of MEDIANCR that the detector did not find, hence did not clean."""
    missed = mediancr & ~aux
    return (
        np.where(missed, masked_median(auxclean, mediancr), auxclean) if missed.any() else auxclean
    )
