"""What makes the exposures differ: matched to each other, and their noise fitted."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import numpy as np

from crdetect.equivalence.matching import Matched, background_differences, gradients, match
from crdetect.equivalence.noise_model import NoiseModel, fit_noise_model
from crdetect.noise import Noise
from crdetect.parameters import Joint
from crdetect.resources import ALL_PROCESSORS, Resources
from crdetect.stack import Stack

_logger = logging.getLogger(__name__)

TERMS = ("excess", "flux2", "shift_x2", "shift_y2")
"""Names of the terms of the noise model: n, a, b, c."""

_SMOOTHING_PX = 0.6
_LEAST_RNOISE_E = 0.1
_BEFORE_MATCHING = NoiseModel(0.0, 0.3**2, 0.4**2, 0.4**2)
_AFTER_MATCHING = NoiseModel(0.0, 0.05**2, 0.1**2, 0.1**2)


@dataclass(frozen=True)
class ExposureModel:
    """What makes the exposures differ, found from themselves; electrons.

    Attributes
    ----------
    matched : Matched
        Their template and their differences.
    noise_model : NoiseModel
        Variance that Poisson and read noise do not explain.
    inflation : (rows, columns) array of float32
        Variance of a value relative to Poisson and read noise, at least 1.
    """

    matched: Matched
    noise_model: NoiseModel
    inflation: np.ndarray

    @property
    def equivalent(self) -> bool:
        """Whether the exposures differ by their noise only, as far as can be seen."""
        return self.matched.differences_e is None and not any(self.noise_model.terms)

    def table(self) -> list[tuple[str, float, float, str]]:
        """Rows of name, value, standard error (NaN: not known) and unit."""
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
        """Say in a few lines how the exposures differ."""
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
        """Give a map of read noise that has all the variance beyond Poisson's."""
        read2 = np.square(noise.rnoise_adu)
        signal = np.maximum(self.matched.template_e, 0) / np.square(noise.gain)
        total = (signal + read2) * self.inflation - signal
        return Noise(noise.gain, np.sqrt(np.maximum(total, 0)), noise.nbinom_shape)

    def signals_adu(self, noise: Noise) -> list[np.ndarray]:
        """Return the expected signal of each exposure, not negative; if common, one array."""
        template = self.matched.template_e / np.float32(noise.gain)
        if self.matched.differences_e is None:
            return [np.maximum(template, 0)] * len(self.matched.shifts_px)
        gain = np.float32(noise.gain)
        return [np.maximum(template + own / gain, 0) for own in self.matched.differences_e]


def fit_exposure_model(
    stack: Stack, noise: Noise, parameters: Joint, resources: Resources = ALL_PROCESSORS
) -> ExposureModel:
    """Match the exposures and fit their noise model.

    Parameters
    ----------
    stack : Stack
        The exposures.
    noise : Noise
        Gain and read noise.
    parameters : Joint
        What is fitted.
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
    """Return the square of the read noise, electrons²; of a noiseless detector a little."""
    return np.square(np.maximum(np.float32(noise.rnoise_e), np.float32(_LEAST_RNOISE_E)))


def electrons(stack: Stack, noise: Noise) -> np.ndarray:
    """Exposures in electrons; a missing value is the lowest of the others, which is harmless."""
    exposures = stack.exposures * np.float32(noise.gain)
    if stack.complete:
        return exposures
    missing = np.isnan(exposures)
    lowest = np.where(missing, np.float32(np.inf), exposures).min(axis=0)
    lowest[np.isinf(lowest)] = 0
    return np.where(missing, lowest, exposures)
