"""deepCR: against the package called directly, and against itself."""

import warnings

import numpy as np
import pytest
from astropy.io import fits

from crdetect import Noise
from crdetect.detectors import Resources, deepcr
from crdetect.detectors.deepcr import REACH_PX, DeepCR, DeepCRDetector, standardised, tiles
from crdetect.simulate import simulate_exposures

pytest.importorskip("torch", reason="pip install '.[deep]' gives the networks")
pytestmark = pytest.mark.networks

MASKS = ("ACS-WFC", "WFC3-UVIS")
ROUNDING = 1e-5  # of a probability: another order of sums
NOISE = Noise(1.0, 3.4)


def detector_of(dc_mask="ACS-WFC", workers=2, **parameters):
    return DeepCRDetector(DeepCR(dc_mask=dc_mask, **parameters), Resources(workers, "cpu"))


def package(dc_mask):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from deepCR import deepCR

        return deepCR(mask=dc_mask)


@pytest.fixture(scope="module")
def simulated():
    return simulate_exposures((150, 203), hit_fraction=0.01, double_hits=2).exposures_adu[0]


@pytest.fixture(scope="module")
def real(shared):
    """Real traces and cosmic rays, of odd sizes."""
    data = fits.getdata(shared / "data/isis_red_injected/exposure_1.fits.gz")
    return np.ascontiguousarray(data[300:601, 200:503], dtype=np.float32)


@pytest.mark.parametrize("dc_mask", MASKS)
@pytest.mark.parametrize("image", ["simulated", "real"])
def test_masks_are_those_of_the_package(dc_mask, image, request):
    image = request.getfixturevalue(image)
    probability = package(dc_mask).clean(image, binary=False, segment=False)
    np.testing.assert_allclose(
        detector_of(dc_mask).probability(image), probability, rtol=0, atol=ROUNDING
    )
    for threshold in (0.1, 0.5, 0.9):
        result = detector_of(dc_mask, dc_threshold=threshold).detect(image, NOISE)
        mask = probability > threshold
        assert threshold == 0.9 or mask.any()
        np.testing.assert_array_equal(result.mask, mask)


@pytest.mark.parametrize("dc_mask", MASKS)
def test_cleaned_image_is_that_of_the_package(dc_mask, real):
    image = real + np.float32(0.25)  # the package takes no value of exactly 0 for the median
    _, cleaned = package(dc_mask).clean(image, threshold=0.3, inpaint=True, segment=False)
    result = detector_of(dc_mask, dc_threshold=0.3).detect(image, NOISE)
    assert (result.image_adu != image).any()
    # WFC3-UVIS: the package scales there and back
    np.testing.assert_allclose(result.image_adu, cleaned, rtol=1e-5 if dc_mask == MASKS[1] else 0)


@pytest.mark.parametrize("dc_mask", MASKS)
@pytest.mark.parametrize("size", [32, 64, 100])
def test_tiles_give_the_mask_of_one_piece(dc_mask, size, real, monkeypatch):
    whole = detector_of(dc_mask).probability(real)
    assert max(real.shape) > deepcr._TILE_PX
    monkeypatch.setattr(deepcr, "_TILE_PX", 10**6)
    one_piece = detector_of(dc_mask).probability(real)
    monkeypatch.setattr(deepcr, "_TILE_PX", size)
    in_tiles = detector_of(dc_mask).probability(real)
    for probability in (whole, in_tiles):
        np.testing.assert_allclose(probability, one_piece, rtol=0, atol=ROUNDING)
        np.testing.assert_array_equal(probability > 0.5, one_piece > 0.5)


def test_the_package_in_patches_differs_at_their_seams_only(real):
    """Its default, with patches of 1024; ours is the result without patches."""
    image = np.ascontiguousarray(real[:256, :256])
    probability = package("ACS-WFC").clean(image, binary=False, segment=True, patch=128)
    differs = np.abs(probability - detector_of().probability(image)) > ROUNDING
    near = np.abs(np.arange(256) - 127.5) < REACH_PX + 1
    near = near[:, None] | near
    assert differs[near].any()
    assert not differs[~near].any()


@pytest.mark.parametrize("place", [(40, 40), (41, 43)])
def test_how_far_a_pixel_matters(place):
    """The overlap of tiles rests on it; a network that is told random numbers shows it."""
    rng = np.random.default_rng(5)
    reached = 0
    for _ in range(5):
        image = rng.normal(100, 100, (80, 80)).astype(np.float32)
        changed = image.copy()
        changed[place] += 3000
        before, after = (detector_of().probability(each) for each in (image, changed))
        y, x = np.nonzero(before != after)
        reached = max(reached, *np.abs(y - place[0]), *np.abs(x - place[1]))
    assert reached == REACH_PX
    assert REACH_PX <= deepcr._OVERLAP_PX
    assert deepcr._TILE_PX % deepcr._MODULO_PX == deepcr._OVERLAP_PX % deepcr._MODULO_PX == 0


@pytest.mark.parametrize("shape", [(1, 1), (7, 300), (256, 512), (513, 30)])
def test_every_pixel_is_in_one_tile(shape):
    count = np.zeros(shape, int)
    for tile in tiles(shape, 256):
        count[tile] += 1
    assert (count == 1).all()


def test_one_network_takes_any_unit_and_level(simulated):
    """The one that standardises its image."""
    expected = detector_of("WFC3-UVIS").probability(simulated)
    result = detector_of("WFC3-UVIS").probability(3 * simulated + 1000)
    np.testing.assert_allclose(result, expected, atol=1e-3)
    different = detector_of("ACS-WFC").probability(3 * simulated + 1000)
    assert np.abs(different - detector_of("ACS-WFC").probability(simulated)).max() > 0.1


def test_standardised():
    image = np.float32([[1, 2], [3, 6]])
    np.testing.assert_allclose(standardised(image), (image - 3) / np.sqrt(3.5), rtol=1e-6)
    assert not standardised(np.full((4, 4), 7, np.float32)).any()


def test_what_it_tells(simulated, caplog):
    with caplog.at_level("DEBUG", "crdetect"):
        detector_of(dc_verbose=False).detect(simulated, NOISE)
        assert not caplog.records
        detector_of().detect(simulated, NOISE)
    assert "ACS-WFC" in caplog.text
