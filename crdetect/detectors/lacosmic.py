"""L.A.Cosmic: cosmic rays in one image (van Dokkum 2001, PASP 113, 1420), by ccdproc."""

from __future__ import annotations

import logging

import numpy as np

from crdetect.detectors.base import Cleaned, Detector
from crdetect.noise import Noise

_logger = logging.getLogger(__name__)

_FWHM_PER_SIGMA = 2 * np.sqrt(2 * np.log(2))


class LACosmicDetector(Detector):
    """The detector with its parameters; see `crdetect.detectors.base.Detector`.

    Notes
    -----
    ccdproc takes the read noise and the saturation level in electrons, whatever the gain: the
    image is converted here, so that gain may be a map. A map of the read noise is reduced to its
    median, since L.A.Cosmic knows one value.
    """

    limits = ("la_sigclip", "la_sigfrac", "la_objlim")

    def detect(self, image_adu: np.ndarray, noise: Noise) -> Cleaned:
        """Find and clean the cosmic rays of one image; see `Detector.detect`."""
        from ccdproc import cosmicray_lacosmic  # heavy: half of the time of a small run

        p = self.parameters
        pad = p.la_padwidth
        gain = np.float32(noise.gain)
        padded_e = np.pad(image_adu * gain, pad, mode="reflect")
        with self.resources.bounded():  # again: the import may have loaded OpenMP just now
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
