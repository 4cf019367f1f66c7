"""The exposures as they are compared: divided by their flux if asked for, each with its noise."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from crdetect.equality import by_value
from crdetect.equivalence.flux import FluxFactors, divided, measure_flux, number_at_median
from crdetect.equivalence.model import ExposureModel, fit_exposure_model
from crdetect.equivalence.offsets import aligned
from crdetect.masks import region_mask
from crdetect.noise import Noise, distinct
from crdetect.parameters import Parameters
from crdetect.resources import ALL_PROCESSORS, Resources
from crdetect.stack import Stack, Statistics

_logger = logging.getLogger(__name__)

Progress = Callable[[str], None]
"""Called with the name of each step as it begins."""


@by_value
@dataclass(frozen=True)
class Observation:
    """The exposures as they are compared, and what is known of their differences; all in ADU.

    Attributes
    ----------
    given : Stack
        The exposures as they were given.
    noise : Noise
        Gain and read noise of the exposures as they were given.
    flux : FluxFactors
        Flux of each exposure.
    stack : Stack
        The exposures as they are compared: divided by their flux factors where asked for
        (``apply_flux_factor_to: original``).
    statistics : Statistics
        Of `stack`.
    noises : tuple of N Noise
        Noise of each exposure of `stack`.
    factors : tuple of N float
        Flux factors that multiply the expected signal; 1 where the exposures were divided.
    exposure_model : ExposureModel or None
        Matched differences and noise model; None where they were not fitted.
    """

    given: Stack
    noise: Noise
    flux: FluxFactors
    stack: Stack
    statistics: Statistics
    noises: tuple[Noise, ...]
    factors: tuple[float, ...]
    exposure_model: ExposureModel | None = None

    @cached_property
    def typical_noise(self) -> Noise:
        """Noise of median2d, mean2d and meancr: that of a typical exposure.

        Medians over the exposures of gain and of read noise, so that the order of the exposures
        does not matter.
        """
        first, *others = distinct(self.noises)
        if not others:
            return first
        gains, rnoises = zip(*((own.gain, own.rnoise_adu) for own in self.noises), strict=True)
        return Noise(np.median(gains, axis=0), np.median(rnoises, axis=0), first.nbinom_shape)

    @cached_property
    def combining_noise(self) -> Noise | tuple[Noise, ...]:
        """Noise of a single value in the combinations: one for all exposures, or one each.

        Where the exposures were matched it is that of the fitted noise model.
        """
        if self.exposure_model is not None:
            return self.exposure_model.noise(self.noise)
        first, *others = distinct(self.noises)
        return self.noises if others else first

    def image(self, which: str | int) -> np.ndarray:
        """Image by its name, ``median2d`` or ``mean2d``, or by the index of an exposure; ADU."""
        if isinstance(which, str):
            return getattr(self.statistics, which)
        return self.stack.exposures[which]


def observe(
    stack: Stack,
    noise: Noise,
    parameters: Parameters,
    resources: Resources = ALL_PROCESSORS,
    progress: Progress = _logger.debug,
) -> Observation:
    """Take the statistics of the exposures, and find how they differ, as far as it is asked for.

    Parameters
    ----------
    stack : Stack
        The exposures: ADU, bias removed.
    noise : Noise
        Gain (e/ADU) and read noise (ADU).
    parameters : Parameters
        ``flux_factor`` and ``apply_flux_factor_to``, ``mm_cr_coincidences``, ``jt_``.
    resources : Resources, optional
        What may be used; the result does not depend on it.
    progress : callable, optional
        Called with the name of each step as it begins.

    Raises
    ------
    InputError
        If ``flux_factor: auto`` finds too few bright pixels.
    """
    coincidences = parameters.general.mm_cr_coincidences
    progress("statistics of the stack")
    statistics = stack.statistics(coincidences, resources)
    flux = _find_flux(stack, statistics, noise, parameters, progress)
    given, noises, factors = stack, (noise,) * len(stack), flux.factors
    if parameters.general.divides_by_flux:
        stack = divided(stack, flux.factors)
        statistics = stack.statistics(coincidences, resources)
        noises = tuple(noise.divided(factor) for factor in flux.factors)
        factors = (1.0,) * len(stack)
    model = None
    if parameters.models_exposures:
        progress("matching the exposures")
        model = fit_exposure_model(stack, noise, parameters.jt, resources)
    return Observation(given, noise, flux, stack, statistics, noises, factors, model)


def _find_flux(
    stack: Stack,
    statistics: Statistics,
    noise: Noise,
    parameters: Parameters,
    progress: Progress,
) -> FluxFactors:
    factor = parameters.general.flux_factor
    if factor is None:
        return FluxFactors((1.0,) * len(stack))
    if factor == "auto":
        progress("measuring flux factors")
        flux = _measure_flux(stack, statistics, noise, parameters)
        _logger.info("flux_factor: %s", [round(factor, 4) for factor in flux.factors])
        return flux
    return FluxFactors(tuple(np.broadcast_to(factor, len(stack)).tolist()))


def _measure_flux(
    stack: Stack, statistics: Statistics, noise: Noise, parameters: Parameters
) -> FluxFactors:
    regions = parameters.general.flux_factor_regions
    selected = region_mask(regions, stack.shape, "flux_factor_regions") | (regions is None)
    if parameters.general.criterion != "mm" or not parameters.mm.has_offsets:
        return measure_flux(stack, noise, statistics.median2d, selected)
    # At the edge of a trace the ratio of two pixels tells of their places, not of their fluxes.
    there = aligned(stack, noise, parameters.mm)
    flux = measure_flux(there, noise, there.statistics().median2d, selected)
    return replace(flux, number_at_median=number_at_median(stack, statistics.median2d))
