import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from crdetect import Noise
from crdetect.detectors.pycosmic import (
    PyCosmic,
    PyCosmicDetector,
    binned_laplacian,
    gaussian_kernel,
    median_filter,
    positive_laplacian,
)
from crdetect.simulate import simulate_exposures

QUICK = settings(max_examples=25, deadline=None, derandomize=True)
LAPLACIAN = np.array([[0, -1, 0], [-1, 4, -1], [0, -1, 0]]) / 4

images = hnp.arrays(
    np.float32, (6, 9), elements=st.integers(-999, 999), fill=st.nothing()
)  # whole numbers: their sums are exact


# ---------------------------------------------------------------------------------------------
# The method word by word: doubled images, scipy, float64


def doubled_laplacian(image, clip):
    """Replicate each pixel, convolve, set negatives to 0 if asked, and bin by sum."""
    doubled = np.repeat(np.repeat(image, 2, axis=0), 2, axis=1)
    convolved = ndimage.convolve(doubled, LAPLACIAN, mode="nearest")
    if clip:
        convolved = np.maximum(convolved, 0)
    rows, columns = image.shape
    return convolved.reshape(rows, 2, columns, 2).sum(axis=(1, 3))


def replaced(image, mask, half_y, half_x):
    """The masked median with the reference's windows, which leave out the last row and column."""
    good = np.where(mask, np.nan, image)
    good[-1], good[:, -1] = np.nan, np.nan
    filled = image.copy()
    for y, x in np.argwhere(mask):
        around = good[max(y - half_y, 0) : y + half_y + 1, max(x - half_x, 0) : x + half_x + 1]
        if np.isfinite(around).any():
            filled[y, x] = np.nanmedian(around)
    return filled


def smoothed(image, fwhm_x, fwhm_y):
    sigmas = fwhm_y / 2.354, fwhm_x / 2.354
    return ndimage.gaussian_filter(image, sigmas, mode="nearest", truncate=4.0)


def pycosmic(image_e, rnoise_e, p):
    image_e = image_e.astype(float)
    box = p.pc_replace_box_y, p.pc_replace_box_x
    half_y, half_x = (math.ceil(side / 2) for side in box)
    out, mask = image_e, np.zeros(image_e.shape, bool)
    for turn in range(p.pc_iterations):
        noise = np.sqrt(
            np.maximum(ndimage.median_filter(out, box, mode="nearest"), 0) + rnoise_e**2
        )
        s = doubled_laplacian(out, clip=True) / (2 * noise)
        s -= ndimage.median_filter(s, 5, mode="nearest")
        weights = smoothed((~mask).astype(float), p.pc_fwhm_gauss_x, p.pc_fwhm_gauss_y)
        fine = smoothed(np.where(mask, 0, out), p.pc_fwhm_gauss_x, p.pc_fwhm_gauss_y) / weights
        sharpness = doubled_laplacian(np.maximum(out / fine, 0), clip=False)
        mask = mask | ((sharpness > p.pc_rlim) & (s > p.pc_sigma_det))
        last = turn == p.pc_iterations - 1
        if last and p.pc_increase_radius:
            size = 2 * p.pc_increase_radius + 1
            mask = ndimage.binary_dilation(mask, np.ones((size, size)))
        out = replaced(image_e if last else out, mask, half_y, half_x)
    return mask, out


@pytest.fixture(scope="module")
def exposure():
    simulation = simulate_exposures(
        (50, 64), hit_fraction=0.03, rnoise_adu=3.0, gain=2.0, double_hits=2
    )
    return simulation.exposures_adu[0]


@pytest.mark.parametrize(
    "given_parameters",
    [
        {},
        {"pc_iterations": 1},
        {"pc_sigma_det": 3.0, "pc_rlim": 0.8},
        {"pc_fwhm_gauss_x": 1.2, "pc_fwhm_gauss_y": 4.0},
        {"pc_replace_box_x": 7, "pc_replace_box_y": 3},
        {"pc_replace_box_x": 4, "pc_replace_box_y": 4},
        {"pc_replace_box_x": 3, "pc_replace_box_y": 3, "pc_increase_radius": 1},
        {"pc_increase_radius": 2, "pc_iterations": 2},
    ],
)
def test_detector_does_what_the_method_says(exposure, given_parameters):
    parameters = PyCosmic(**({"pc_sigma_det": 5.0, "pc_rlim": 1.2} | given_parameters))
    result = PyCosmicDetector(parameters).detect(exposure, Noise(2.0, 3.0))
    mask, cleaned_e = pycosmic(exposure * np.float32(2), 6.0, parameters)
    assert mask.sum() > 20
    np.testing.assert_array_equal(result.mask, mask)
    np.testing.assert_allclose(result.image_adu, cleaned_e / 2, rtol=1e-6, atol=1e-5)


def test_maps_are_used_pixel_by_pixel(exposure):
    gain = np.linspace(1, 3, exposure.size, dtype=np.float32).reshape(exposure.shape)
    rnoise = np.linspace(2, 6, exposure.size, dtype=np.float32).reshape(exposure.shape)
    parameters = PyCosmic(pc_sigma_det=5.0, pc_rlim=1.2)
    result = PyCosmicDetector(parameters).detect(exposure, Noise(gain, rnoise))
    mask, cleaned_e = pycosmic(exposure * gain, rnoise * gain, parameters)
    np.testing.assert_array_equal(result.mask, mask)
    np.testing.assert_allclose(result.image_adu, cleaned_e / gain, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize(
    "given_parameters",
    [{}, {"pc_fwhm_gauss_y": 6.0, "pc_replace_box_y": 9}, {"pc_replace_box_y": 4}],
)
def test_tall_images_are_the_same_in_strips(given_parameters):
    simulation = simulate_exposures((300, 40), hit_fraction=0.05, double_hits=2)
    image = simulation.exposures_adu[0]
    parameters = PyCosmic(**({"pc_sigma_det": 5.0, "pc_rlim": 1.2} | given_parameters))
    result = PyCosmicDetector(parameters).detect(image, Noise(1.0, 3.4))
    mask, cleaned = pycosmic(image, 3.4, parameters)
    np.testing.assert_array_equal(result.mask, mask)
    np.testing.assert_allclose(result.image_adu, cleaned, rtol=1e-6, atol=1e-5)


def test_wide_hits_have_no_fine_structure():
    """Where all is masked around a pixel nothing is divided by nothing."""
    image = np.random.default_rng(3).normal(50, 5, (60, 60)).astype(np.float32)
    image[20:40, 20:40] += np.random.default_rng(4).choice([5e3, 5e4], (20, 20))
    parameters = PyCosmic(pc_sigma_det=3.0, pc_rlim=0.05, pc_iterations=8)
    result = PyCosmicDetector(parameters).detect(image, Noise(1.0, 3.0))
    assert result.mask[20:40, 20:40].mean() > 0.5
    assert np.isfinite(result.image_adu).all()


# ---------------------------------------------------------------------------------------------
# Its steps


@QUICK
@given(images)
def test_laplacians_without_doubling(image):
    np.testing.assert_array_equal(positive_laplacian(image), doubled_laplacian(image, clip=True))
    np.testing.assert_array_equal(binned_laplacian(image), doubled_laplacian(image, clip=False))


@QUICK
@given(images, st.integers(1, 7), st.integers(1, 7))
def test_median_filter_repeats_the_edge(image, box_y, box_x):
    expected = ndimage.median_filter(image, (box_y, box_x), mode="nearest")
    np.testing.assert_array_equal(median_filter(image, box_y, box_x), expected)


@pytest.mark.parametrize("box", [1, 3, 5, 7])
def test_square_median_filters(box):
    image = np.random.default_rng(box).normal(0, 1, (30, 40)).astype(np.float32)
    expected = ndimage.median_filter(image, box, mode="nearest")
    np.testing.assert_array_equal(median_filter(image, box, box), expected)


@pytest.mark.parametrize("sigma", [0.05, 0.5, 1.0, 2.5 / 2.354, 4.0])
def test_gaussian_kernel(sigma):
    kernel = gaussian_kernel(sigma)
    impulse = np.zeros(2 * 40 + 1)
    impulse[40] = 1
    expected = ndimage.gaussian_filter1d(impulse, sigma, truncate=4.0, mode="constant")
    half = kernel.size // 2
    np.testing.assert_allclose(kernel, expected[40 - half : 41 + half], atol=1e-7)
    assert kernel.sum() == pytest.approx(1.0)
    assert kernel.dtype == np.float32
