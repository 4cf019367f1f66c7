"""What every detector must do, whatever it is."""

import numpy as np
import pytest
from scipy import ndimage

from crdetect import Noise, Parameters
from crdetect.detectors import REGISTRY, make_detector
from crdetect.simulate import simulate_exposures

SQUARE = np.ones((3, 3), bool)
SHAPE = (64, 72)
NOISE = Noise(1.0, 3.0)

pytestmark = pytest.mark.parametrize("name", REGISTRY)


def detector_of(name, **parameters):
    return make_detector(Parameters.from_mapping({"crmethod": name, **parameters}))


@pytest.fixture(scope="module")
def exposure():
    """Traces, lines, and cosmic rays."""
    simulation = simulate_exposures(SHAPE, rnoise_adu=3.0, hit_fraction=0.02, double_hits=2)
    return simulation.exposures_adu[0]


@pytest.fixture(scope="module")
def smooth():
    """A broad slope with photon and read noise."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    return NOISE.draw_adu(200.0 + 2.0 * x + y, np.random.default_rng(3))


def test_mask_and_cleaned_image(name, exposure):
    before = exposure.copy()
    result = detector_of(name).detect(exposure, NOISE)
    assert result.mask.dtype == bool
    assert result.mask.shape == result.image_adu.shape == SHAPE
    assert result.image_adu.dtype == np.float32
    assert np.isfinite(result.image_adu).all()
    assert result.mask.any()
    assert not result.mask.all()
    np.testing.assert_array_equal(exposure, before)


def test_same_image_same_result(name, exposure):
    one, other = (detector_of(name).detect(exposure, NOISE) for _ in range(2))
    np.testing.assert_array_equal(one.mask, other.mask)
    np.testing.assert_array_equal(one.image_adu, other.image_adu)


def test_cleaned_image_differs_only_at_cosmic_rays(name, exposure):
    """Of the deeper run: a superset of the mask."""
    detector = detector_of(name)
    deepest = detector.runs[-1].detect(exposure, NOISE).mask
    result = detector.detect(exposure, NOISE)
    assert (result.mask <= deepest).all()
    np.testing.assert_allclose(result.image_adu[~deepest], exposure[~deepest], rtol=1e-5)


@pytest.mark.parametrize("share", [0.001, 0.1, 0.5])
def test_missing_values_are_never_flagged(name, exposure, share):
    missing = np.random.default_rng(4).random(SHAPE) < share
    missing[20:40, 20:40] = True  # wider than any window
    image = np.where(missing, np.float32(np.nan), exposure)
    result = detector_of(name).detect(image, NOISE)
    assert not result.mask[missing].any()
    assert np.isfinite(result.image_adu).all()
    np.testing.assert_array_equal(np.isnan(image), missing)


@pytest.mark.parametrize("scale", [0.125, 0.5, 4.0])
def test_electrons_matter_not_their_units(name, exposure, scale):
    expected = detector_of(name).detect(exposure, NOISE)
    scaled = Noise(NOISE.gain / scale, NOISE.rnoise_adu * scale)
    result = detector_of(name).detect(exposure * np.float32(scale), scaled)
    np.testing.assert_array_equal(result.mask, expected.mask)
    np.testing.assert_allclose(result.image_adu, expected.image_adu * scale, rtol=1e-5)


@pytest.mark.parametrize("place", [(32, 36), (10, 60), (0, 30), (60, 30), (30, 0), (30, 68)])
@pytest.mark.parametrize("height", [1000.0, 3000.0])
def test_track_is_found_and_removed(name, smooth, place, height):
    """At the borders too, and across what a network's package leaves out there."""
    image = smooth.copy()
    step = np.arange(4)
    track = place[0] + step, place[1] + step
    image[track] += height
    result = detector_of(name).detect(image, NOISE)
    assert result.mask[track].all()
    assert result.mask.sum() < 20
    assert np.abs(result.image_adu[track] - smooth[track]).max() < 200.0


def test_smooth_field_is_left_alone(name, smooth):
    result = detector_of(name).detect(smooth, NOISE)
    assert result.mask.sum() <= 2


@pytest.mark.parametrize("rnoise_adu", [0.0, 3.0])
@pytest.mark.parametrize("level", [-5.0, 0.0, 100.0, 60000.0])
def test_nothing_in_a_constant_image(name, level, rnoise_adu):
    image = np.full(SHAPE, level, np.float32)
    result = detector_of(name).detect(image, Noise(1.0, rnoise_adu))
    assert not result.mask.any()
    np.testing.assert_allclose(result.image_adu, image)


@pytest.mark.parametrize("band", [0.0, -2.0])
def test_columns_without_signal_do_no_harm(name, exposure, band):
    """Trimmed images have them; without read noise their noise is none."""
    image = exposure.copy()
    image[:, :12] = band
    for rnoise_adu in (0.0, 3.0):
        result = detector_of(name).detect(image, Noise(1.0, rnoise_adu))
        assert not result.mask[:, :9].any()
        assert result.mask[:, 14:].any()
        assert np.isfinite(result.image_adu).all()


def test_two_runs_where_limits_are_pairs(name, exposure):
    pairs = {limit: _pair(name, limit) for limit in REGISTRY[name].limits}
    detector = detector_of(name, **pairs)
    assert len(detector.runs) == 2
    peaks, tails = (run.detect(exposure, NOISE) for run in detector.runs)
    result = detector.detect(exposure, NOISE)
    labels, n = ndimage.label(tails.mask, SQUARE)
    holds_a_peak = [k for k in range(1, n + 1) if peaks.mask[labels == k].any()]
    np.testing.assert_array_equal(result.mask, np.isin(labels, holds_a_peak))
    np.testing.assert_array_equal(result.image_adu, tails.image_adu)
    assert peaks.mask.sum() < result.mask.sum()


def test_one_run_where_they_are_not(name, exposure):
    single = {limit: _pair(name, limit)[0] for limit in REGISTRY[name].limits}
    detector = detector_of(name, **single)
    assert len(detector.runs) == 1
    alone = detector.runs[0].detect(exposure, NOISE)
    np.testing.assert_array_equal(detector.detect(exposure, NOISE).mask, alone.mask)


def _pair(name, limit):
    """The default, or with the deeper value lower, as numbers of the block's type."""
    parameters = Parameters.from_mapping({"crmethod": name})
    block = next(b for b in parameters.active_blocks() if limit in type(b).model_fields)
    value = getattr(block, limit)
    peak = value[0] if isinstance(value, tuple) else value
    first = limit == REGISTRY[name].limits[0]
    return [peak, 0.6 * peak if first else peak]


def test_maps_are_accepted(name, exposure):
    """Constant maps do as numbers do."""
    maps = Noise(np.ones(SHAPE), np.full(SHAPE, 3.0))
    expected = detector_of(name).detect(exposure, NOISE)
    np.testing.assert_array_equal(detector_of(name).detect(exposure, maps).mask, expected.mask)
