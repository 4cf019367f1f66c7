"""Model of the exposures: the fitted differences between them, and their noise."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import numpy as np

from crdetect.equality import by_value
from crdetect.equivalence.matching import Matched, background_differences, gradients, match
from crdetect.equivalence.noise_model import NoiseModel, fit_noise_model
from crdetect.noise import Noise
from crdetect.parameters import Joint
from crdetect.resources import ALL_PROCESSORS, Resources
from crdetect.stack import Stack

_logger = logging.getLogger(__name__)

TERMS = ("excess", "flux2", "shift_x2", "shift_y2")
"""Names of the terms of the noise model: n, a, b, c."""

# These constants were chosen by hand. Changing one of them by a factor of 1.5 changes the share of
# double hits found by less than 0.0003, and the false pixels of MEDIANCR by less than 0.2 per Mpx
# (page "Constants"; python -m benchmarks.sensitivity).

# Gaussian σ in pixels by which the template is smoothed before its gradients enter the noise model.
_SMOOTHING_PX = 0.6
# Minimum read noise, electrons: a noiseless detector has a finite noise model, too.
_LEAST_RNOISE_E = 0.1
# Differences of flux and shifts in pixels that are tolerated where outliers are recognised as
# cosmic rays: as much as the first fit of the matching tolerates, and less once exposures are
# matched.
_BEFORE_MATCHING = NoiseModel(0.0, 0.3**2, 0.4**2, 0.4**2)
_AFTER_MATCHING = NoiseModel(0.0, 0.05**2, 0.1**2, 0.1**2)


@by_value
@dataclass(frozen=True)
class ExposureModel:
    """Differences between the exposures and their noise model, fitted to the exposures.

    Attributes
    ----------
    matched : Matched
        Common template and differences from it, electrons.
    noise_model : NoiseModel
        Variance beyond photon noise and stated read noise.
    inflation : (rows, columns) array of float32
        Variance of a value relative to Poisson and read noise, at least 1.
    """

    matched: Matched
    noise_model: NoiseModel
    inflation: np.ndarray

    @property
    def model(self) -> NoiseModel:
        """The noise model under the name that it had in earlier versions."""
        return self.noise_model

    @property
    def equivalent(self) -> bool:
        """Whether no significant difference beyond noise was found between the exposures."""
        return self.matched.differences_e is None and not any(self.noise_model.terms)

    def table(self) -> list[tuple[str, float, float, str]]:
        """Return rows of name, value, standard error (NaN if it is unknown) and unit."""
        model, unknown = self.noise_model, float("nan")
        units = ("e2", "", "pixel2", "pixel2")
        rows = list(zip(TERMS, model.terms, model.errors, units, strict=True))
        rows += [("measured_rnoise", *model.measured_rnoise_e, "e")]
        rows += [("photon_slope", *model.photon_slope, "")]
        rows += [
            (f"flux_{i}", float(flux), unknown, "")
            for i, flux in enumerate(self.matched.fluxes, start=1)
        ]
        return rows + [
            (f"{name}_of_{i}", float(shift), unknown, "pixel")
            for i, shifts in enumerate(self.matched.shifts_px, start=1)
            for name, shift in zip(("shift_x", "shift_y"), shifts, strict=True)
        ]

    def summary(self) -> list[str]:
        """Describe the differences between the exposures in a few lines."""
        model = self.noise_model
        lines = [f"exposures are {'' if self.equivalent else 'not '}equivalent"]
        if self.matched.differences_e is not None:
            fluxes, shifts = self.matched.fluxes.round(3), self.matched.shifts_px.round(3)
            lines += [f"matched: fluxes {fluxes.tolist()}, shifts {shifts.tolist()} pixels"]
        if any(model.terms):
            terms = zip(TERMS, model.terms, model.errors, strict=True)
            told = [f"{name} {term:.3g} ± {error:.1g}" for name, term, error in terms if term]
            lines += ["noise beyond photons and read noise: " + ", ".join(told)]
        lines += ["read noise as measured: {:.3g} ± {:.1g} e".format(*model.measured_rnoise_e)]
        return lines

    def noise(self, noise: Noise) -> Noise:
        """Return noise whose map of read noise holds all variance beyond photon noise."""
        read2 = np.square(noise.rnoise_adu)
        signal = np.maximum(self.matched.template_e, 0) / np.square(noise.gain)
        # (signal + read2) · inflation − signal, without the difference of large numbers
        total = read2 + (signal + read2) * (self.inflation - 1)
        return Noise(noise.gain, np.sqrt(total), noise.nbinom_shape)

    def signals_adu(self, noise: Noise) -> list[np.ndarray]:
        """Return the expected signal of each exposure, ADU, not negative.

        If the exposures are equivalent, a single one that is common to all.
        """
        template = self.matched.template_e / np.float32(noise.gain)
        if self.matched.differences_e is None:
            return [np.maximum(template, 0)]
        gain = np.float32(noise.gain)
        return [np.maximum(template + own / gain, 0) for own in self.matched.differences_e]


def fit_exposure_model(
    stack: Stack, noise: Noise, parameters: Joint, resources: Resources = ALL_PROCESSORS
) -> ExposureModel:
    """Fit the differences between the exposures, and then the noise model.

    Parameters
    ----------
    stack : Stack
        The exposures.
    noise : Noise
        Gain and read noise.
    parameters : Joint
        jt_matching and jt_noise_terms, which choose what is fitted.
    resources : Resources, optional
        What may be used; the result does not depend on it.
    """
    exposures = electrons(stack, noise)
    rnoise2 = read_variance_e2(noise)
    usable = None if stack.complete else ~np.isnan(stack.exposures).any(axis=0)
    matched = match(exposures, rnoise2, resources, passes=())
    slopes = gradients(matched.template_e, _SMOOTHING_PX)
    model = fit_noise_model(
        exposures, matched.template_e, slopes, rnoise2, _BEFORE_MATCHING, usable, resources
    )
    differ = any(model.terms[1:]) or background_differences(exposures, rnoise2) is not None
    if parameters.jt_matching and differ:
        matched = match(exposures, rnoise2, resources)
        slopes = gradients(matched.template_e, _SMOOTHING_PX)
        level = matched.level(exposures)
        model = fit_noise_model(
            level, matched.template_e, slopes, rnoise2, _AFTER_MATCHING, usable, resources
        )
    if parameters.jt_noise_terms != "auto":
        flux, shift_x, shift_y = parameters.jt_noise_terms or (0.0, 0.0, 0.0)
        given = NoiseModel(0.0, flux, shift_x, shift_y)
        model = replace(
            given, measured_rnoise_e=model.measured_rnoise_e, photon_slope=model.photon_slope
        )
    known = np.maximum(matched.template_e, 0) + rnoise2
    extra = model.extra_variance_e2(matched.template_e, slopes)
    inflation = 1 + extra / np.maximum(known, np.float32(1e-3))
    exposure_model = ExposureModel(matched, model, inflation.astype(np.float32))
    for line in exposure_model.summary():
        _logger.info("%s", line)
    return exposure_model


def read_variance_e2(noise: Noise) -> float | np.ndarray:
    """Return the square of the read noise, electrons², which is never 0."""
    return np.square(np.maximum(np.float32(noise.rnoise_e), np.float32(_LEAST_RNOISE_E)))


def electrons(stack: Stack, noise: Noise) -> np.ndarray:
    """Return the exposures in electrons; the lowest of the others stands for a missing value.

    A missing value is then never a high outlier. Where all values are missing it is 0.
    """
    exposures = stack.exposures * np.float32(noise.gain)
    if stack.complete:
        return exposures
    missing = np.isnan(exposures)
    lowest = np.where(missing, np.float32(np.inf), exposures).min(axis=0)
    lowest[np.isinf(lowest)] = 0
    return np.where(missing, lowest, exposures)
