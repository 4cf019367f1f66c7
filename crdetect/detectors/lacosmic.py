"""L.A.Cosmic: cosmic rays in one image (van Dokkum 2001, PASP 113, 1420), by ccdproc."""

from __future__ import annotations

import logging
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import field_validator

from crdetect.detectors.base import Cleaned, Detector
from crdetect.noise import Noise
from crdetect.schema.block import Block, parameter
from crdetect.schema.kinds import Accepts, Flag, Growth, PairOfPositive, Positive, Rounds, Size

_logger = logging.getLogger(__name__)

_FWHM_PER_SIGMA = 2 * np.sqrt(2 * np.log(2))


class LACosmic(Block):
    """L.A.Cosmic (van Dokkum 2001), as in ccdproc and astroscrappy."""

    prefix: ClassVar[str] = "la"
    title: ClassVar[str] = "L.A.Cosmic"

    la_gain_apply: Flag = parameter(
        True, "accepted for compatibility, without effect: images stay in ADU"
    )
    la_sigclip: PairOfPositive = parameter((5.0, 3.0), "Laplacian to noise limit", "sigma")
    la_sigfrac: PairOfPositive = parameter(
        (0.3, 0.3), "limit for neighbours, fraction of la_sigclip"
    )
    la_objlim: PairOfPositive = parameter((5.0, 5.0), "contrast of CR and object")
    la_satlevel: Positive = parameter(65535.0, "saturation level, above the bias", "ADU")
    la_niter: Rounds = parameter(4, "iterations")
    la_sepmed: Flag = parameter(True, "separable median filter")
    la_cleantype: Literal["median", "medmask", "meanmask", "idw"] = parameter(
        "meanmask", "how flagged pixels are replaced"
    )
    la_fsmode: Literal["median", "convolve"] = parameter("convolve", "fine structure image by")
    la_psfmodel: Literal["gauss", "moffat", "gaussx", "gaussy", "gaussxy"] = parameter(
        "gaussxy", "PSF (with la_fsmode: convolve)"
    )
    la_psffwhm_x: Positive = parameter(2.5, "FWHM of the PSF in x", "pixel")
    la_psffwhm_y: Positive = parameter(2.5, "FWHM of the PSF in y", "pixel")
    la_psfsize: Annotated[Size, Accepts("an odd integer from 1 to 301")] = parameter(
        11, "size of the PSF kernel", "pixel"
    )
    la_psfbeta: Positive = parameter(4.765, "beta of the Moffat PSF")
    la_verbose: Flag = parameter(True, "log what the detector does")
    la_padwidth: Growth = parameter(10, "padding by reflection before detection", "pixel")

    @field_validator("la_psfsize")
    @classmethod
    def _odd(cls, value: int) -> int:
        if value % 2 == 0:
            raise ValueError("even")
        return value


class LACosmicDetector(Detector):
    """The detector with its parameters; see `crdetect.detectors.base.Detector`.

    Notes
    -----
    ccdproc takes the read noise and the saturation level in electrons, whatever the gain: the
    image is converted here, so that gain may be a map. A map of the read noise is reduced to its
    median, since L.A.Cosmic knows one value.
    """

    block = LACosmic
    limits = ("la_sigclip", "la_sigfrac", "la_objlim")

    def detect(self, image_adu: np.ndarray, noise: Noise) -> Cleaned:
        """Find and clean the cosmic rays of one image; see `Detector.detect`."""
        from ccdproc import cosmicray_lacosmic  # heavy: half of the time of a small run

        p = self.parameters
        pad = p.la_padwidth
        gain = np.float32(noise.gain)
        padded_e = np.pad(image_adu * gain, pad, mode="reflect")
        cleaned, mask = cosmicray_lacosmic(
            padded_e,
            gain=1.0,
            gain_apply=False,
            readnoise=float(np.median(noise.rnoise_e)),
            satlevel=p.la_satlevel * float(np.median(gain)),
            sigclip=p.la_sigclip,
            sigfrac=p.la_sigfrac,
            objlim=p.la_objlim,
            niter=p.la_niter,
            sepmed=p.la_sepmed,
            cleantype=p.la_cleantype,
            fsmode=p.la_fsmode,
            verbose=False,
            **self._psf(),
        )
        inner = (slice(pad, pad + image_adu.shape[0]), slice(pad, pad + image_adu.shape[1]))
        mask = np.ascontiguousarray(mask[inner])
        if p.la_verbose:
            _logger.debug("sigclip %g: %d pixels", p.la_sigclip, np.count_nonzero(mask))
        return Cleaned(mask, np.asarray(cleaned[inner], np.float32) / gain)

    def _psf(self) -> dict:
        p = self.parameters
        keywords = {"psfsize": p.la_psfsize, "psfbeta": p.la_psfbeta}
        if p.la_psfmodel == "gaussxy":
            kernel = elliptical_gaussian(p.la_psffwhm_x, p.la_psffwhm_y, p.la_psfsize)
            return keywords | {"psfk": kernel}
        fwhm = {"gaussx": p.la_psffwhm_x, "gaussy": p.la_psffwhm_y}.get(
            p.la_psfmodel, 0.5 * (p.la_psffwhm_x + p.la_psffwhm_y)
        )
        return keywords | {"psfmodel": p.la_psfmodel, "psffwhm": fwhm}


def elliptical_gaussian(fwhm_x: float, fwhm_y: float, size: int) -> np.ndarray:
    """Normalised elliptical Gaussian kernel, (size, size) float32; FWHM in pixels."""
    offset = np.arange(size) - size // 2
    profile_x, profile_y = (
        np.exp(-0.5 * (offset * _FWHM_PER_SIGMA / fwhm) ** 2) for fwhm in (fwhm_x, fwhm_y)
    )
    kernel = np.outer(profile_y, profile_x)
    return (kernel / kernel.sum()).astype(np.float32)
