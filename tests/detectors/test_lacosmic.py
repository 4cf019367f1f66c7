import astroscrappy
import numpy as np
import pytest

from crdetect import Noise
from crdetect.detectors.lacosmic import LACosmic, LACosmicDetector, elliptical_gaussian
from crdetect.simulate import simulate_exposures

GAIN, RNOISE_ADU = 2.0, 3.0
SINGLE = {"la_sigclip": 5.0, "la_sigfrac": 0.3, "la_objlim": 5.0}


@pytest.fixture(scope="module")
def exposure():
    simulation = simulate_exposures(
        (70, 80), hit_fraction=0.03, rnoise_adu=RNOISE_ADU, gain=GAIN, double_hits=2
    )
    return simulation.exposures_adu[0]


def astroscrappy_adu(image_adu, pad, **kwargs):
    """The library itself, which turns ADU to electrons and back."""
    settings = {
        "gain": GAIN,
        "readnoise": RNOISE_ADU * GAIN,
        "satlevel": 65535.0 * GAIN,
        "sigclip": 5.0,
        "sigfrac": 0.3,
        "objlim": 5.0,
        "niter": 4,
        "sepmed": True,
        "cleantype": "meanmask",
        "fsmode": "convolve",
        "psfmodel": "gauss",
        "psffwhm": 2.5,
        "psfsize": 11,
    }
    padded = np.pad(image_adu, pad, mode="reflect")
    mask, cleaned = astroscrappy.detect_cosmics(padded, **(settings | kwargs))
    inner = (slice(pad, pad + image_adu.shape[0]), slice(pad, pad + image_adu.shape[1]))
    return mask[inner], cleaned[inner]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({"la_psfmodel": "gauss"}, {}),
        ({"la_psfmodel": "gauss", "la_psffwhm_x": 2.0, "la_psffwhm_y": 4.0}, {"psffwhm": 3.0}),
        (
            {"la_psfmodel": "moffat", "la_psffwhm_x": 2.0, "la_psffwhm_y": 4.0, "la_psfbeta": 3.0},
            {"psfmodel": "moffat", "psffwhm": 3.0, "psfbeta": 3.0},
        ),
        (
            {"la_psfmodel": "gaussx", "la_psffwhm_x": 2.0, "la_psffwhm_y": 4.0},
            {"psfmodel": "gaussx", "psffwhm": 2.0},
        ),
        (
            {"la_psfmodel": "gaussy", "la_psffwhm_x": 2.0, "la_psffwhm_y": 4.0},
            {"psfmodel": "gaussy", "psffwhm": 4.0},
        ),
        ({"la_fsmode": "median"}, {"fsmode": "median"}),
        ({"la_psfmodel": "gauss", "la_sigclip": 3.0, "la_niter": 1}, {"sigclip": 3.0, "niter": 1}),
        (
            {"la_fsmode": "median", "la_cleantype": "idw", "la_sepmed": False, "la_objlim": 2.0},
            {"fsmode": "median", "cleantype": "idw", "sepmed": False, "objlim": 2.0},
        ),
        ({"la_fsmode": "median", "la_satlevel": 100.0}, {"fsmode": "median", "satlevel": 200.0}),
    ],
)
@pytest.mark.parametrize("pad", [0, 10])
def test_same_as_the_library_in_electrons(exposure, ours, theirs, pad):
    parameters = LACosmic(**(SINGLE | ours), la_padwidth=pad)
    result = LACosmicDetector(parameters).detect(exposure, Noise(GAIN, RNOISE_ADU))
    mask, cleaned = astroscrappy_adu(exposure, pad, **theirs)
    assert mask.sum() > 5
    np.testing.assert_array_equal(result.mask, mask)
    np.testing.assert_allclose(result.image_adu, cleaned, rtol=1e-6)


def test_round_psf_is_the_same_by_either_name(exposure):
    masks = [
        LACosmicDetector(LACosmic(**SINGLE, la_psfmodel=name)).detect(
            exposure, Noise(GAIN, RNOISE_ADU)
        )
        for name in ("gauss", "gaussxy")
    ]
    np.testing.assert_array_equal(masks[0].mask, masks[1].mask)


def test_elongated_psf_matters(exposure):
    masks = [
        LACosmicDetector(LACosmic(**SINGLE, la_psffwhm_x=x, la_psffwhm_y=y))
        .detect(exposure, Noise(GAIN, RNOISE_ADU))
        .mask
        for x, y in ((1.5, 5.0), (5.0, 1.5))
    ]
    assert (masks[0] != masks[1]).any()


@pytest.mark.parametrize("pad", [0, 3, 500])
def test_padding_leaves_no_trace_in_the_shape(exposure, pad):
    small = exposure[:24, :20]
    result = LACosmicDetector(LACosmic(**SINGLE, la_padwidth=pad)).detect(small, Noise(GAIN, 3.0))
    assert result.mask.shape == result.image_adu.shape == small.shape


def test_constant_maps_are_as_numbers(exposure):
    detector = LACosmicDetector(LACosmic(**SINGLE))
    maps = Noise(np.full(exposure.shape, GAIN), np.full(exposure.shape, RNOISE_ADU))
    one, other = (detector.detect(exposure, noise) for noise in (maps, Noise(GAIN, RNOISE_ADU)))
    np.testing.assert_array_equal(one.mask, other.mask)
    np.testing.assert_allclose(one.image_adu, other.image_adu, rtol=1e-6)


# ---------------------------------------------------------------------------------------------
# The kernel


@pytest.mark.parametrize(("fwhm_x", "fwhm_y", "size"), [(2.0, 2.0, 11), (2.0, 6.0, 21), (4, 1, 9)])
def test_elliptical_gaussian(fwhm_x, fwhm_y, size):
    kernel = elliptical_gaussian(fwhm_x, fwhm_y, size)
    assert kernel.shape == (size, size)
    assert kernel.dtype == np.float32
    assert kernel.sum() == pytest.approx(1.0, rel=1e-5)
    np.testing.assert_allclose(kernel, kernel[::-1, ::-1])
    middle = size // 2
    for profile, fwhm in ((kernel[middle], fwhm_x), (kernel[:, middle], fwhm_y)):
        half_widths = 2 * np.abs(np.arange(size) - middle) / fwhm
        np.testing.assert_allclose(profile / profile[middle], 0.5 ** (half_widths**2), rtol=1e-4)
