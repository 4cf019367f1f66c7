"""PyCosmic: cosmic rays in one image (Husemann et al. 2012, A&A 545, A137).

The steps follow section 3 of the paper and, where the paper is silent, what its reference
implementation was seen to do (`docs/method`): masks and cleaned images are equal to its own, bit
for bit, on the reference cases. Everything is float32; borders repeat the edge pixel.
"""

from __future__ import annotations

import logging
import math
from typing import ClassVar

import cv2
import numpy as np
import scipy

from crdetect.detectors.base import Cleaned, Detector
from crdetect.fill import masked_median
from crdetect.noise import Noise
from crdetect.schema.block import Block, parameter
from crdetect.schema.kinds import Flag, Growth, PairOfPositive, Positive, Rounds, Size

_logger = logging.getLogger(__name__)

_FWHM_PER_SIGMA = 2.354  # as the reference implementation rounds it
_LAPLACIAN = np.array([[0, -1, 0], [-1, 4, -1], [0, -1, 0]], np.float32)
_KERNEL_SIGMAS = 4.0  # where the Gaussian kernel is cut
_SIGNIFICANCE_BOX = 5  # of the median that is taken off the significance
_STRIP_ROWS = 128


class PyCosmic(Block):
    """PyCosmic (Husemann et al. 2012)."""

    prefix: ClassVar[str] = "pc"
    title: ClassVar[str] = "PyCosmic"

    pc_sigma_det: PairOfPositive = parameter(
        (5.0, 3.0),
        "threshold for the Laplacian of the image divided by its noise; raise it to flag "
        "fewer pixels",
        "sigma",
    )
    pc_rlim: PairOfPositive = parameter(
        (1.2, 1.2),
        "threshold for the sharpness, the Laplacian of the image divided by its Gaussian "
        "smoothing; raise it if sharp lines or traces are flagged",
    )
    pc_iterations: Rounds = parameter(
        5, "maximum number of rounds, each of which cleans the image and looks for more hits"
    )
    pc_fwhm_gauss_x: Positive = parameter(
        2.5,
        "full width at half maximum along x of the Gaussian that smooths the image; take "
        "about the width of an unresolved feature",
        "pixel",
    )
    pc_fwhm_gauss_y: Positive = parameter(
        2.5,
        "full width at half maximum along y of the Gaussian that smooths the image; take "
        "about the width of an unresolved feature",
        "pixel",
    )
    pc_replace_box_x: Size = parameter(
        5,
        "width along x of the box whose median gives the noise; the box whose median replaces "
        "flagged pixels is slightly wider",
        "pixel",
    )
    pc_replace_box_y: Size = parameter(
        5,
        "width along y of the box whose median gives the noise; the box whose median replaces "
        "flagged pixels is slightly wider",
        "pixel",
    )
    pc_replace_error: Positive = parameter(
        1.0e6, "accepted for compatibility, without effect: no error image is made"
    )
    pc_increase_radius: Growth = parameter(
        0,
        "radius r by which the mask grows at the end: each flagged pixel becomes a square of "
        "2 r + 1 pixels; raise it if faint borders of cosmic rays remain",
        "pixel",
    )
    pc_verbose: Flag = parameter(True, "write what the detector does to the log, at level debug")


class PyCosmicDetector(Detector):
    """The detector with its parameters; see `crdetect.detectors.base.Detector`."""

    block = PyCosmic
    limits = ("pc_sigma_det", "pc_rlim")

    def detect(self, image_adu: np.ndarray, noise: Noise) -> Cleaned:
        """Find and clean the cosmic rays of one image; see `Detector.detect`."""
        gain = np.float32(noise.gain)
        image = image_adu * gain
        mask, cleaned = self._detect_e(image, np.square(np.float32(noise.rnoise_e)))
        return Cleaned(mask, cleaned / gain)

    def _detect_e(self, image: np.ndarray, rnoise2: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        p = self.parameters
        half_y, half_x = (math.ceil(box / 2) for box in (p.pc_replace_box_y, p.pc_replace_box_x))
        mask, cleaned = np.zeros(image.shape, bool), image
        for turn in range(p.pc_iterations):
            if turn:
                cleaned = masked_median(cleaned, mask, half_y, half_x, True)
            found = self._new_hits(cleaned, mask, rnoise2) & ~mask
            mask |= found
            if p.pc_verbose:
                _logger.debug("round %d: %d new pixels", turn + 1, np.count_nonzero(found))
            if not found.any():
                break  # further rounds would see the same image
        if p.pc_increase_radius:
            size = 2 * p.pc_increase_radius + 1
            mask = cv2.dilate(mask.view(np.uint8), np.ones((size, size), np.uint8)).view(bool)
        # the last replacement starts from the image as it came
        return mask, masked_median(image, mask, half_y, half_x, True)

    def _new_hits(self, image: np.ndarray, mask: np.ndarray, rnoise2: np.ndarray) -> np.ndarray:
        """One round, in strips of rows whose temporaries stay in the processor's cache."""
        hits = np.empty(image.shape, bool)
        reach = self._reach()
        for start in range(0, len(image), _STRIP_ROWS):
            inner = slice(start, start + _STRIP_ROWS)
            outer = slice(max(start - reach, 0), start + _STRIP_ROWS + reach)
            level = rnoise2[outer] if np.ndim(rnoise2) else rnoise2
            found = self._new_hits_in_strip(image[outer], mask[outer], level)
            hits[inner] = found[start - outer.start :][:_STRIP_ROWS]
        return hits

    def _reach(self) -> int:
        """Rows around a pixel that its significance or sharpness depends on."""
        p = self.parameters
        significance = p.pc_replace_box_y // 2 + 1 + _SIGNIFICANCE_BOX // 2
        sharpness = kernel_radius(p.pc_fwhm_gauss_y / _FWHM_PER_SIGMA) + 1
        return max(significance, sharpness)

    def _new_hits_in_strip(
        self, image: np.ndarray, mask: np.ndarray, rnoise2: np.ndarray
    ) -> np.ndarray:
        """Where the Laplacian is significant and sharper than the PSF."""
        p = self.parameters
        smooth = median_filter(image, p.pc_replace_box_y, p.pc_replace_box_x)
        noise = np.sqrt(np.maximum(smooth, 0) + rnoise2)
        significance = positive_laplacian(image)
        with np.errstate(divide="ignore", invalid="ignore"):  # nothing over nothing
            significance /= 2 * noise
            ratio = image / self._fine_structure(image, mask)
        np.nan_to_num(ratio, copy=False, nan=0.0)
        if not noise.all():
            np.nan_to_num(significance, copy=False, nan=0.0)
        significance -= cv2.medianBlur(significance, _SIGNIFICANCE_BOX)
        sharpness = binned_laplacian(np.maximum(ratio, 0))
        return (sharpness > np.float32(p.pc_rlim)) & (significance > np.float32(p.pc_sigma_det))

    def _fine_structure(self, image: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """Gaussian smoothing in which masked pixels weigh nothing."""
        p = self.parameters
        kernels = [
            gaussian_kernel(fwhm / _FWHM_PER_SIGMA)
            for fwhm in (p.pc_fwhm_gauss_x, p.pc_fwhm_gauss_y)
        ]
        weight = (~mask).astype(np.float32)

        def smooth(plane: np.ndarray) -> np.ndarray:
            return cv2.sepFilter2D(plane, -1, *kernels, borderType=cv2.BORDER_REPLICATE)

        return smooth(image * weight) / smooth(weight)


def median_filter(image: np.ndarray, box_y: int, box_x: int) -> np.ndarray:
    """Median filter with the edge pixel repeated."""
    if box_y == box_x and box_y in (1, 3, 5):
        return cv2.medianBlur(image, box_y)
    # OpenCV has no other sizes in float32
    return scipy.ndimage.median_filter(image, size=(box_y, box_x), mode="nearest")


def gaussian_kernel(sigma: float) -> np.ndarray:
    """Normalised Gaussian of this sigma (pixels), cut at four sigmas."""
    radius = kernel_radius(sigma)
    x = np.arange(-radius, radius + 1)
    kernel = np.exp(-0.5 * (x / sigma) ** 2)
    return (kernel / kernel.sum()).astype(np.float32)


def kernel_radius(sigma: float) -> int:
    """Radius of the Gaussian kernel of this sigma, pixels."""
    return int(_KERNEL_SIGMAS * sigma + 0.5)


def positive_laplacian(image: np.ndarray) -> np.ndarray:
    """Laplacian of the image doubled by replication, negatives set to 0, binned 2 × 2 by sum.

    A pixel of the doubled image has two neighbours of its own value, so each of the four
    subpixels of a pixel v between a and b gives (2 v − a − b) / 4: no image need be doubled.
    """
    padded = cv2.copyMakeBorder(image, 1, 1, 1, 1, cv2.BORDER_REPLICATE)
    up, down = image - padded[:-2, 1:-1], image - padded[2:, 1:-1]
    left, right = image - padded[1:-1, :-2], image - padded[1:-1, 2:]
    total = np.maximum(up + left, 0)
    for vertical, horizontal in ((up, right), (down, left), (down, right)):
        total += np.maximum(vertical + horizontal, 0)
    total *= np.float32(0.25)
    return total


def binned_laplacian(image: np.ndarray) -> np.ndarray:
    """Laplacian of the doubled image, binned 2 × 2 by sum: half the Laplacian of the image."""
    laplacian = cv2.filter2D(image, -1, _LAPLACIAN, borderType=cv2.BORDER_REPLICATE)
    laplacian *= np.float32(0.5)
    return laplacian
