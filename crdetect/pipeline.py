"""The steps of a detection: from a stack to masks, and from masks to combined images.

`prepare` computes the order statistics, measures the differences between the exposures and runs the
detector of one image; `Prepared.compare` makes the criterion that compares the exposures;
`Prepared.flag` makes the masks. `detect` does all three.
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
    """The masks of a detection, and the intermediate results from which they were made.

    Attributes
    ----------
    parameters : Parameters
        Parameters of the detection.
    observation : Observation
        The exposures as they were compared, and the differences between them.
    detector_hits : DetectorHits
        Pixels that the detector of one image flagged in each image.
    criterion : Criterion or None
        Criterion that compared the exposures; None if ``crmethod`` names a detector alone.
    masks : Masks
        The masks.
    codes : (rows, columns) array of uint8
        Code of the method that flagged each pixel of MEDIANCR (see `crdetect.masks`).
    hits : ImageHits
        Pixels that each method flagged in each image.
    auxclean : (rows, columns) array of float32
        Median of the exposures with its cosmic rays replaced, ADU.
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
        """Order statistics of the exposures as they were compared."""
        return self.observation.statistics

    @property
    def flux(self) -> FluxFactors:
        """Flux factor of each exposure."""
        return self.observation.flux

    @property
    def exposure_model(self) -> ExposureModel | None:
        """Fitted differences and noise model of the exposures; None if they were not fitted."""
        return self.observation.exposure_model

    @property
    def calibration(self) -> ExposureModel | None:
        """The exposure model under the name that it had in earlier versions."""
        return self.exposure_model

    @property
    def diagram(self) -> MedianMinimum | None:
        """The Median-Minimum diagram with its boundary; None if M.M.Cosmic did not take part."""
        return self.criterion if isinstance(self.criterion, MedianMinimum) else None

    @cached_property
    def quality(self) -> Quality:
        """Checks of the result; they take a while and are made when they are first asked for."""
        return assess(
            self.observation,
            self.detector_hits.anywhere,
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
        """Features masked in all exposures, with the codes of MEDIANCR (0 outside of it)."""
        return Features.where(np.logical_and.reduce(self.masks.crmasks), self.codes)

    @property
    def code_meanings(self) -> dict[int, str]:
        """Meaning of each code of a pixel in this detection, in words."""
        method = self.parameters.general.method
        title = REGISTRY[method.detector].block.title if method.detector else None
        return code_meanings(title, method.label)

    def used(self) -> dict[str, Any]:
        """Return the parameters that the run measured or drew at random, by their names."""
        used = self.diagram.used() if self.diagram else {}
        return used | ({"flux_factor": list(self.flux.factors)} if self.flux.measured else {})

    def findings(self) -> dict[str, str]:
        """Return the measured or randomly drawn values as rounded text, by their names."""
        found = self.used()
        if self.parameters.mm.mm_seed is not None:
            found.pop("mm_seed", None)  # the user gave it: it is no result
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
        """Return the parameters that give the same masks again, without interaction."""
        used = self.used()
        if "mm_xy_offsets" in used:
            used["mm_crosscorr_region"] = None  # the measured offsets replace it
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
        """Combine the exposures with these masks, with the parameters of the detection.

        The variance of a single value is that of the fitted noise model, if there is one. If the
        exposures were divided by flux factors, so is the noise.

        Parameters
        ----------
        stack, noise : Stack, Noise, optional
            The stack and the noise that `detect` was given. They may be left out, since the
            detection holds both.
        resources : Resources, optional
            Computing resources; the result does not depend on them.

        Returns
        -------
        dict of Combination
            The combinations by their names in `crdetect.combine.COMBINATIONS`.

        Raises
        ------
        InputError
            If the stack or the noise is another one than `detect` was given.
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
                "combine: these are not the exposures from which the masks were made; leave the "
                "stack out, since the detection holds it"
            )
        if noise is not None and noise != self.observation.noise:
            raise InputError(
                "combine: this is not the noise with which the masks were made; leave it out, "
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
        Method, thresholds and selections of pixels.
    workers : int or Resources, optional
        Number of processors that may be busy at a time; by default all that the process may use.
        The result does not depend on it.
    progress : callable, optional
        Function that is called with the name of each step as it begins.
    boundary : Boundary, optional
        Boundary of an earlier run, which is used instead of a newly fitted one.

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
    """Exposures with their statistics, differences and single-image hits, ready to be compared.

    Attributes
    ----------
    observation : Observation
        The exposures, and the differences between them.
    detector_hits : DetectorHits
        Pixels that the detector of one image flagged in each image.
    resources : Resources
        Computing resources; the result does not depend on them.
    progress : callable
        Function that is called with the name of each step as it begins.
    """

    observation: Observation
    detector_hits: DetectorHits
    resources: Resources
    progress: Progress

    def compare(self, parameters: Parameters, boundary: Boundary | None = None) -> Criterion | None:
        """Make the criterion that ``crmethod`` names; None if it names a detector alone.

        Parameters
        ----------
        parameters : Parameters
            Parameters of the criterion.
        boundary : Boundary, optional
            Boundary of an earlier run, which is used instead of a newly fitted one.
        """
        name = parameters.general.criterion
        if name is None:
            return None
        kind = CRITERIA[name]
        self.progress(kind.step)
        return kind.compare(
            self.observation, self.detector_hits, parameters, self.resources, boundary
        )

    def flag(self, criterion: Criterion | None, parameters: Parameters) -> Detection:
        """Flag pixels and make the masks.

        Parameters
        ----------
        criterion : Criterion or None
            Criterion that compares the exposures; None if a detector works alone.
        parameters : Parameters
            Parameters that `prepare` was given. They may differ in the pixels and regions that the
            user selects, in dilations, and in the parameters of the diagram.
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
        """Flag pixels of the mean of the unmasked exposures with the detector of one image."""
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
    workers: int | Resources | None = None,
    progress: Progress = _logger.debug,
) -> Prepared:
    """Compute statistics, measure differences and run the detector of one image.

    `detect` does this first and continues with `Prepared.compare` and `Prepared.flag`. The
    arguments are those of `detect`.
    """
    resources = Resources.of(workers)
    check(stack, noise, parameters)
    observation = observe(stack, noise, parameters, resources, progress)
    hits = detect_in_each_image(observation, parameters, resources, progress)
    return Prepared(observation, hits, resources, progress)


def check(stack: Stack, noise: Noise, parameters: Parameters) -> None:
    """Check that the parameters fit the exposures, before any work is done.

    Raises
    ------
    InputError
        If there are too few exposures, they are too small, a map has another shape, a region or
        pixel is not inside the image, the number of flux factors or offsets is not that of the
        exposures, ``mm_cr_coincidences`` is too large, the diagram cannot be computed, parameters
        contradict each other, or the detector is not installed.
    """
    make_detector(parameters).check(stack.shape)
    noise.check_shape(stack.shape)
    stack.check_coincidences(parameters.general.mm_cr_coincidences)
    general, shape = parameters.general, stack.shape
    fewest = general.method.fewest_exposures
    if len(stack) < fewest:
        raise InputError(
            f"crmethod: {general.crmethod} needs at least {fewest} exposures, not {len(stack)}; "
            "accepted for two: joint, or joint with a detector, as joint_lacosmic"
        )
    factors = general.flux_factor
    if isinstance(factors, tuple) and len(factors) != len(stack):
        raise InputError(
            f"flux_factor has {len(factors)} values for {len(stack)} exposures: each "
            "exposure needs one"
        )
    region_mask(general.flux_factor_regions, shape, "flux_factor_regions")
    if general.criterion is not None:
        CRITERIA[general.criterion].check(stack, parameters)
    if parameters.models_exposures and general.divides_by_flux:
        raise InputError(
            "joint detection and mm_synthetic: adaptive fit the fluxes of the exposures: "
            "set apply_flux_factor_to: simulated, or flux_factor: none"
        )
    replaced = general.pixels_to_be_replaced_by_local_median or ()
    pixel_mask([pixel[:2] for pixel in replaced], shape, "pixels_to_be_replaced_by_local_median")
    _selections(parameters, shape)


def _selections(parameters: Parameters, shape: tuple[int, int]) -> tuple[Selection, Selection]:
    """Make the selection of the user for all masks but MEDIANCR, and that for MEDIANCR."""

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
    """The rule that joins the hits of both methods in the final mask of an image."""

    observation: Observation
    selection: Selection
    criterion: Criterion | None
    dilation: int

    def hits(self, which: str | int, aux: np.ndarray) -> Hits:
        """Return the pixels that each method flags in an image, without the excluded ones.

        A feature of the detector of one image is dropped unless it contains a pixel beyond the
        threshold of the criterion.

        Parameters
        ----------
        which : str or int
            The image: ``median2d``, ``mean2d``, or the index of an exposure.
        aux : (rows, columns) array of bool
            Pixels of the image that the detector of one image flags.
        """
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
        """Make the final mask with the selection of the user and the global dilation."""
        complete = self.selection.complete(hits.union, self.dilation)
        return complete & self.observation.statistics.detectable


def _fill_what_aux_missed(
    auxclean: np.ndarray, mediancr: np.ndarray, aux: np.ndarray
) -> np.ndarray:
    """Replace the pixels of MEDIANCR that the detector did not flag and therefore did not clean."""
    missed = mediancr & ~aux
    return (
        np.where(missed, masked_median(auxclean, mediancr), auxclean) if missed.any() else auxclean
    )
