"""PyCosmic (Husemann et al. 2012, A&A 545, A137): cosmic rays in one image.

The steps follow section 3 of the paper. Where the paper does not say how a step is done, the
observed results of the reference implementation decide (`docs/method`): on the reference cases
masks and cleaned images are equal to its results, bit for bit. All arrays are float32. At the
borders the pixels of the edge are repeated.
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

# Full width at half maximum of a Gaussian, in units of its standard deviation; rounded as in the
# reference implementation.
_FWHM_PER_SIGMA = 2.354
# Kernel of the negative Laplacian, the sum of the second differences along both axes.
_LAPLACIAN = np.array([[0, -1, 0], [-1, 4, -1], [0, -1, 0]], np.float32)
# Half width of the Gaussian kernel, in units of its standard deviation.
_KERNEL_SIGMAS = 4.0
# Side of the box, in pixels, whose median is subtracted from the significance.
_SIGNIFICANCE_BOX = 5
# Number of rows of a strip: the temporary arrays of a strip fit into the cache of a processor.
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
    """Detector PyCosmic; see `crdetect.detectors.base.Detector`."""

    block = PyCosmic
    limits = ("pc_sigma_det", "pc_rlim")

    def detect(self, image_adu: np.ndarray, noise: Noise) -> Cleaned:
        """Mask the cosmic rays of one image; see `Detector.detect`."""
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
                break  # the image does not change any more
        if p.pc_increase_radius:
            size = 2 * p.pc_increase_radius + 1
            mask = cv2.dilate(mask.view(np.uint8), np.ones((size, size), np.uint8)).view(bool)
        # the final replacement starts from the original image
        return mask, masked_median(image, mask, half_y, half_x, True)

    def _new_hits(self, image: np.ndarray, mask: np.ndarray, rnoise2: np.ndarray) -> np.ndarray:
        """Find the hits of one round, in strips of rows."""
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
        """Return how many rows away a pixel still affects significance or sharpness."""
        p = self.parameters
        significance = p.pc_replace_box_y // 2 + 1 + _SIGNIFICANCE_BOX // 2
        sharpness = kernel_radius(p.pc_fwhm_gauss_y / _FWHM_PER_SIGMA) + 1
        return max(significance, sharpness)

    def _new_hits_in_strip(
        self, image: np.ndarray, mask: np.ndarray, rnoise2: np.ndarray
    ) -> np.ndarray:
        """Find the pixels whose significance and sharpness exceed their thresholds."""
        p = self.parameters
        smooth = median_filter(image, p.pc_replace_box_y, p.pc_replace_box_x)
        noise = np.sqrt(np.maximum(smooth, 0) + rnoise2)
        significance = positive_laplacian(image)
        with np.errstate(divide="ignore", invalid="ignore"):  # 0 / 0
            significance /= 2 * noise
            ratio = image / self._fine_structure(image, mask)
        np.nan_to_num(ratio, copy=False, nan=0.0)
        if not noise.all():
            np.nan_to_num(significance, copy=False, nan=0.0)
        significance -= cv2.medianBlur(significance, _SIGNIFICANCE_BOX)
        sharpness = binned_laplacian(np.maximum(ratio, 0))
        return (sharpness > np.float32(p.pc_rlim)) & (significance > np.float32(p.pc_sigma_det))

    def _fine_structure(self, image: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """Smooth the image by a Gaussian, with weight 0 for masked pixels."""
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
    """Filter an image by the median in a box; the pixels of the edge are repeated."""
    if box_y == box_x and box_y in (1, 3, 5):
        return cv2.medianBlur(image, box_y)
    # OpenCV supports no other sizes for float32
    return scipy.ndimage.median_filter(image, size=(box_y, box_x), mode="nearest")


def gaussian_kernel(sigma: float) -> np.ndarray:
    """Make a normalised Gaussian kernel of standard deviation sigma (pixels), cut at 4 sigma."""
    radius = kernel_radius(sigma)
    x = np.arange(-radius, radius + 1)
    kernel = np.exp(-0.5 * (x / sigma) ** 2)
    return (kernel / kernel.sum()).astype(np.float32)


def kernel_radius(sigma: float) -> int:
    """Return the half width, in pixels, of the Gaussian kernel of standard deviation sigma."""
    return int(_KERNEL_SIGMAS * sigma + 0.5)


def positive_laplacian(image: np.ndarray) -> np.ndarray:
    """Compute the Laplacian of the image subsampled 2 × 2, clipped at 0, and binned again by sum.

    A subpixel has two neighbours in its own pixel, which have the same value v, and two neighbours
    in adjacent pixels, of values a and b: its Laplacian is (2 v − a − b) / 4. So the four subpixels
    are summed without making the larger image.
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
    """Compute the Laplacian of the image subsampled 2 × 2, binned again by sum.

    Without clipping it is half the Laplacian of the image.
    """
    laplacian = cv2.filter2D(image, -1, _LAPLACIAN, borderType=cv2.BORDER_REPLICATE)
    laplacian *= np.float32(0.5)
    return laplacian
