"""L.A.Cosmic (van Dokkum 2001, PASP 113, 1420): cosmic rays in one image, found by ccdproc."""

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

# Full width at half maximum of a Gaussian, in units of its standard deviation.
_FWHM_PER_SIGMA = 2 * np.sqrt(2 * np.log(2))


class LACosmic(Block):
    """L.A.Cosmic (van Dokkum 2001), as in ccdproc and astroscrappy."""

    prefix: ClassVar[str] = "la"
    title: ClassVar[str] = "L.A.Cosmic"

    la_gain_apply: Flag = parameter(
        True, "accepted for compatibility, without effect: images stay in ADU"
    )
    la_sigclip: PairOfPositive = parameter(
        (5.0, 3.0),
        "threshold for the Laplacian of the image divided by its noise; raise it to flag "
        "fewer pixels",
        "sigma",
    )
    la_sigfrac: PairOfPositive = parameter(
        (0.3, 0.3),
        "threshold for the neighbours of flagged pixels, as a fraction of la_sigclip; lower "
        "it to let the mask grow further",
    )
    la_objlim: PairOfPositive = parameter(
        (5.0, 5.0),
        "minimum contrast of the Laplacian to the fine structure image; raise it if stars or "
        "lines are flagged, lower it if cosmic rays on them are missed",
    )
    la_satlevel: Positive = parameter(
        65535.0,
        "saturation level above the bias; saturated stars are not searched for cosmic rays",
        "ADU",
    )
    la_niter: Rounds = parameter(
        4, "maximum number of rounds, each of which cleans the image and looks for more hits"
    )
    la_sepmed: Flag = parameter(
        True, "use a separable median filter, which is faster and nearly the same as the full one"
    )
    la_cleantype: Literal["median", "medmask", "meanmask", "idw"] = parameter(
        "meanmask",
        "replacement of flagged pixels, from the 5 × 5 pixels around: the median of all "
        "(median) or of the unmasked ones (medmask), their mean (meanmask), or an "
        "interpolation weighted by distance (idw)",
    )
    la_fsmode: Literal["median", "convolve"] = parameter(
        "convolve",
        "how the fine structure image is made: by median filters, or by convolution with the PSF",
    )
    la_psfmodel: Literal["gauss", "moffat", "gaussx", "gaussy", "gaussxy"] = parameter(
        "gaussxy",
        "shape of the PSF, with la_fsmode: convolve; gaussxy is an elliptical Gaussian, gauss "
        "and moffat are round, gaussx and gaussy smooth along one axis only",
    )
    la_psffwhm_x: Positive = parameter(
        2.5, "full width at half maximum of the PSF along x", "pixel"
    )
    la_psffwhm_y: Positive = parameter(
        2.5, "full width at half maximum of the PSF along y", "pixel"
    )
    la_psfsize: Annotated[Size, Accepts("an odd integer from 1 to 301")] = parameter(
        11, "side of the square on which the PSF is sampled", "pixel"
    )
    la_psfbeta: Positive = parameter(
        4.765, "exponent β of the Moffat profile, with la_psfmodel: moffat"
    )
    la_verbose: Flag = parameter(True, "write what the detector does to the log, at level debug")
    la_padwidth: Growth = parameter(
        10,
        "width of the margin that is added around the image by reflection, so that hits at "
        "the border are found",
        "pixel",
    )

    @field_validator("la_psfsize")
    @classmethod
    def _odd(cls, value: int) -> int:
        if value % 2 == 0:
            raise ValueError("even")
        return value


class LACosmicDetector(Detector):
    """Detector L.A.Cosmic; see `crdetect.detectors.base.Detector`.

    Notes
    -----
    ccdproc expects the read noise and the saturation level in electrons, whatever the gain. The
    image is converted to electrons here, so that the gain may be a map. If the read noise is a map,
    its median is used, since L.A.Cosmic takes a single value.
    """

    block = LACosmic
    limits = ("la_sigclip", "la_sigfrac", "la_objlim")

    def detect(self, image_adu: np.ndarray, noise: Noise) -> Cleaned:
        """Mask the cosmic rays of one image; see `Detector.detect`."""
        from ccdproc import cosmicray_lacosmic  # this import takes half of the time of a small run

        p = self.parameters
        pad = p.la_padwidth
        gain = np.float32(noise.gain)
        padded_e = np.pad(image_adu * gain, pad, mode="reflect")
        with self.resources.bounded():  # once more, since the import may have loaded OpenMP
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
    """Make a normalised elliptical Gaussian kernel.

    Parameters
    ----------
    fwhm_x, fwhm_y : float
        Full width at half maximum along x and y, in pixels.
    size : int
        Number of rows and columns.

    Returns
    -------
    (size, size) array of float32
        The kernel, whose sum is 1.
    """
    offset = np.arange(size) - size // 2
    profile_x, profile_y = (
        np.exp(-0.5 * (offset * _FWHM_PER_SIGMA / fwhm) ** 2) for fwhm in (fwhm_x, fwhm_y)
    )
    kernel = np.outer(profile_y, profile_x)
    return (kernel / kernel.sum()).astype(np.float32)
