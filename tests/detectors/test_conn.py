"""Cosmic-CoNN: against the package called directly, and against itself."""

import numpy as np
import pytest
from astropy.io import fits

from crdetect import Noise
from crdetect.detectors import Resources, conn
from crdetect.detectors.conn import Conn, ConnDetector, Span, stamps_along
from crdetect.simulate import simulate_exposures

torch = pytest.importorskip("torch", reason="pip install '.[deep]' gives the networks")
pytestmark = pytest.mark.networks

MODELS = ("ground_imaging", "NRES", "HST_ACS_WFC")
ROUNDING = 2e-5  # of a probability: another order of sums
NOISE = Noise(1.0, 3.4)


def detector_of(nn_model="ground_imaging", workers=2, **parameters):
    return ConnDetector(Conn(nn_model=nn_model, **parameters), Resources(workers, "cpu"))


def package(nn_model, image):
    from cosmic_conn import init_model

    return init_model(nn_model).detect_cr(image.copy())


@pytest.fixture(scope="module")
def simulated():
    """A multiple of 16 pixels, of which the package leaves none out."""
    return simulate_exposures((144, 208), hit_fraction=0.01, double_hits=2).exposures_adu[0]


@pytest.fixture(scope="module")
def real(shared):
    """Real traces and cosmic rays: 1024 × 666 pixels."""
    data = fits.getdata(shared / "data/isis_red_injected/exposure_1.fits.gz")
    return data.astype(np.float32)


@pytest.fixture(scope="module")
def part(real):
    """Of odd sizes, and large enough for many cosmic rays."""
    return np.ascontiguousarray(real[251:760, 200:533])


@pytest.mark.parametrize("nn_model", MODELS)
@pytest.mark.parametrize("image", ["simulated", "part"])
def test_masks_are_those_of_the_package(nn_model, image, request):
    image = request.getfixturevalue(image)
    evaluated = tuple(slice(size // 16 * 16) for size in image.shape)
    probability = package(nn_model, image)[evaluated]
    result = detector_of(nn_model).probability(image)[evaluated]
    np.testing.assert_allclose(result, probability, rtol=0, atol=ROUNDING)
    for threshold in (0.1, 0.5, 0.9):
        mask = detector_of(nn_model, nn_threshold=threshold).detect(image, NOISE).mask
        assert mask.any()
        np.testing.assert_array_equal(mask[evaluated], probability > threshold)


def test_stamps_are_those_of_the_package(real, monkeypatch):
    """Small ones, so that there are many; the package leaves out 26 columns of 666."""
    from cosmic_conn import init_model
    from cosmic_conn.dl_framework.utils_ml import clean_large

    monkeypatch.setattr(conn, "STAMP_PX", 320)
    monkeypatch.setattr(conn, "_LEAST_STAMP_PX", 64)
    model = init_model("ground_imaging")
    with torch.inference_mode():
        probability = clean_large(real.copy(), model.network, patch=320, ret_numpy=True)
    result = detector_of().probability(real)
    np.testing.assert_allclose(result[:, :640], probability[:, :640], rtol=0, atol=ROUNDING)
    assert ((result > 0.5) == (probability > 0.5))[:, :640].all()
    assert (result[:, 640:] > 0.5).any()
    assert not (probability[:, 656:] > 0).any()


@pytest.mark.parametrize("nn_model", MODELS)
@pytest.mark.parametrize("rows", [4, 7, 50])
def test_strips_give_the_mask_of_one_piece(nn_model, rows, simulated, monkeypatch):
    monkeypatch.setattr(conn, "_STRIP_PX", 10**6)
    one_piece = detector_of(nn_model).probability(simulated)
    monkeypatch.setattr(conn, "_STRIP_PX", rows)
    in_strips = detector_of(nn_model).probability(simulated)
    np.testing.assert_allclose(in_strips, one_piece, rtol=0, atol=ROUNDING)
    np.testing.assert_array_equal(in_strips > 0.5, one_piece > 0.5)


def test_any_pixel_matters_for_all_of_a_stamp(simulated):
    """This is why the result is defined by stamps. Batch normalisation knows no such thing."""
    changed = simulated.copy()
    corner = changed[:20, :20]
    corner[corner > np.median(simulated)] += 1e5  # the median stays
    for nn_model, matters in (("ground_imaging", True), ("HST_ACS_WFC", False)):
        one, other = (detector_of(nn_model).probability(each) for each in (simulated, changed))
        assert (one != other)[100:, 100:].any() == matters


@pytest.mark.parametrize(
    ("length", "spans"),
    [
        (16, [Span(0, 16, 16, 0)]),
        (30, [Span(0, 30, 16, 0), Span(14, 30, 16, 16)]),
        (666, [Span(0, 666, 656, 0), Span(394, 666, 272, 656)]),
        (1024, [Span(0, 1024, 1024, 0)]),
        (1040, [Span(0, 1024, 1024, 0), Span(768, 1040, 272, 1024)]),
        (1279, [Span(0, 1024, 1024, 0), Span(767, 1279, 512, 1024)]),
        (1280, [Span(0, 1024, 1024, 0), Span(1024, 1280, 256, 1024)]),
        (1596, [*stamps_along(1024), Span(1024, 1596, 560, 1024), Span(1324, 1596, 272, 1584)]),
        (2048, [Span(0, 1024, 1024, 0), Span(1024, 2048, 1024, 1024)]),
    ],
)
def test_stamps_along_an_axis(length, spans):
    assert list(stamps_along(length)) == spans


@pytest.mark.parametrize("length", [*range(16, 48), *range(1000, 1320, 7), 4096, 4112])
def test_every_pixel_is_kept_once(length):
    count = np.zeros(length, int)
    for span in stamps_along(length):
        count[span.kept] += 1
        assert span.start >= 0
        assert span.size % 16 == 0
        assert 16 <= span.size <= 1024
        assert span.inner.stop - span.inner.start == span.kept.stop - span.kept.start
        assert span.stop <= length
    assert (count == 1).all()


def test_arrays_are_those_of_one_stamp(monkeypatch):
    """Whatever the size of the image: memory is bounded."""
    held = []
    original = conn._InStrips.probability

    def probability(network, *arguments):
        result = original(network, *arguments)
        held.append(sum(array.numel() for array in network._arrays.values()))
        return result

    monkeypatch.setattr(conn._InStrips, "probability", probability)
    monkeypatch.setattr(conn, "STAMP_PX", 64)
    monkeypatch.setattr(conn, "_LEAST_STAMP_PX", 32)
    detector_of().probability(np.random.default_rng(1).normal(0, 5, (200, 250)).astype(np.float32))
    assert len(held) == 4 * 5
    # two arrays of 32 channels, two of 64 at half, two of 128 at a quarter of the resolution
    assert set(held) == {2 * 64 * 64 * (32 + 64 // 4 + 128 // 16)}


def test_a_constant_level_does_not_matter(simulated):
    expected = detector_of().detect(simulated, NOISE)
    result = detector_of().detect(simulated + 512, NOISE)
    np.testing.assert_array_equal(result.mask, expected.mask)


def test_what_it_tells(simulated, caplog):
    with caplog.at_level("DEBUG", "crdetect"):
        detector_of(nn_verbose=False).detect(simulated, NOISE)
        assert not caplog.records
        detector_of().detect(simulated, NOISE)
    assert "probability" in caplog.text
