import numpy as np
import pytest
from scipy import ndimage

from crdetect import InputError, Noise
from crdetect.detectors import Cleaned, Detector, NoDetector, PeaksAndTails, Resources
from crdetect.schema.block import Block

NOISE = Noise(1.0, 1.0)


class Thresholds(Block):
    above: float | tuple[float, float] = (50.0, 10.0)
    below: float | tuple[float, float] = 1000.0


class Threshold(Detector):
    """A detector that flags values between two limits and cleans them to the upper of them."""

    limits = ("above", "below")

    def detect(self, image_adu, noise):
        assert noise is NOISE
        assert np.isfinite(image_adu).all()
        mask = (image_adu > self.parameters.above) & (image_adu < self.parameters.below)
        return Cleaned(mask, np.where(mask, np.float32(self.parameters.above), image_adu))


def image():
    """Tails of 20 with and without a peak of 100, and of 500."""
    plane = np.zeros((7, 9), np.float32)
    plane[1, 1:5] = 20, 100, 20, 20
    plane[2, 5] = 20  # touches by a corner
    plane[5, 1:4] = 20
    plane[5, 7] = 500
    return plane


@pytest.mark.parametrize(
    ("given", "runs"),
    [
        ({}, [(50, 1000), (10, 1000)]),
        ({"above": 50.0}, [(50, 1000)]),
        ({"above": (50.0, 50.0)}, [(50, 1000)]),
        ({"above": (50.0, 50.0), "below": (400.0, 1000.0)}, [(50, 400), (50, 1000)]),
        ({"above": 10.0, "below": (400.0, 1000.0)}, [(10, 400), (10, 1000)]),
    ],
)
def test_two_runs_where_any_pair_differs(given, runs):
    made = PeaksAndTails(Threshold, Thresholds(**given)).runs
    assert [(run.parameters.above, run.parameters.below) for run in made] == runs


@pytest.mark.parametrize(
    ("given", "features"),
    [
        ({}, [5, 1]),  # with its tail, also by the corner; a peak of its own; no tail without peak
        ({"above": 50.0}, [1, 1]),
        ({"above": 10.0}, [5, 3, 1]),
        ({"above": (50.0, 10.0), "below": (400.0, 1000.0)}, [5]),
    ],
)
def test_features_that_hold_a_peak(given, features):
    result = PeaksAndTails(Threshold, Thresholds(**given)).detect(image(), NOISE)
    labels, n = ndimage.label(result.mask, np.ones((3, 3)))
    assert [int((labels == k).sum()) for k in range(1, n + 1)] == features


def test_cleaned_image_is_of_the_last_run():
    result = PeaksAndTails(Threshold, Thresholds()).detect(image(), NOISE)
    np.testing.assert_array_equal(result.image_adu, np.minimum(image(), 10))


def test_work_that_no_limit_changes_may_be_done_once():
    calls = []

    class Once(Threshold):
        @classmethod
        def detect_in_runs(cls, runs, image_adu, noise):
            calls.append([run.parameters.above for run in runs])
            return super().detect_in_runs(runs, image_adu, noise)

    result = PeaksAndTails(Once, Thresholds()).detect(image(), NOISE)
    assert calls == [[50, 10]]
    np.testing.assert_array_equal(
        result.mask, PeaksAndTails(Threshold, Thresholds()).detect(image(), NOISE).mask
    )


def test_every_run_gets_the_resources():
    resources = Resources(workers=3, device="cpu")
    made = PeaksAndTails(Threshold, Thresholds(), resources)
    assert [run.resources for run in made.runs] == [resources] * 2


def test_small_images_are_refused():
    detector = PeaksAndTails(Threshold, Thresholds())
    detector.check((5, 5))
    with pytest.raises(InputError, match=r"4 × 9 pixels are too small for .*: at least 5 × 5"):
        detector.check((4, 9))
    NoDetector().check((1, 1))


def test_missing_pixels_are_filled_and_never_flagged():
    plane = image()
    plane[1, 2] = np.nan
    plane[5, 7] = np.nan
    result = PeaksAndTails(Threshold, Thresholds(above=10.0)).detect(plane, NOISE)
    assert not result.mask[np.isnan(plane)].any()
    assert np.isfinite(result.image_adu).all()
    assert np.isnan(plane).sum() == 2


def test_no_detector():
    plane = image()
    result = NoDetector().detect(plane, NOISE)
    assert not result.mask.any()
    assert result.mask.shape == plane.shape
    np.testing.assert_array_equal(result.image_adu, plane)
    plane[3, 3] = np.nan
    assert np.isfinite(NoDetector().detect(plane, NOISE).image_adu).all()
