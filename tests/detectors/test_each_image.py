"""The detector of one image works on median2d, mean2d and every exposure."""

from typing import ClassVar

import numpy as np
import pytest
from scipy import ndimage

from crdetect import Noise, Parameters, Stack
from crdetect.detectors import REGISTRY, Cleaned, Detector, each_image
from crdetect.detectors.each_image import DetectorHits, detect_in_each_image
from crdetect.equivalence.observation import observe
from crdetect.parameters import BLOCKS
from crdetect.resources import Resources
from crdetect.schema.block import Block, parameter
from crdetect.schema.kinds import Positive

SHAPE = (20, 24)
NOISE = Noise(1.5, 2.0)


class Toy(Block):
    """Parameters of a toy."""

    prefix: ClassVar[str] = "ty"
    title: ClassVar[str] = "the toy"
    ty_threshold: Positive = parameter(5.0, "height above the level", "sigma")


class ToyDetector(Detector):
    """Flags what is far above 100 ADU in units of its noise, and puts 100 ADU there."""

    block = Toy
    noises: ClassVar[list] = []

    def detect(self, image_adu, noise):
        self.noises.append(noise)
        sigma = np.sqrt(noise.variance_adu2(np.float32(100.0)))
        mask = image_adu > 100.0 + self.parameters.ty_threshold * sigma
        return Cleaned(mask, np.where(mask, np.float32(100.0), image_adu))


@pytest.fixture
def toy(monkeypatch):
    """``crmethod`` knows the toy."""
    len(REGISTRY), len(BLOCKS)  # both are filled when they are first asked
    monkeypatch.setitem(REGISTRY._detectors, "toy", ToyDetector)
    monkeypatch.setitem(BLOCKS._blocks, "ty", Toy)
    monkeypatch.setattr(ToyDetector, "noises", [])


@pytest.fixture
def cube():
    """A flat field with hits."""
    rng = np.random.default_rng(3)
    cube = np.array([NOISE.draw_adu(np.full(SHAPE, 100.0), rng) for _ in range(3)])
    cube[0, 3, 4] += 500.0
    cube[1:, 10, 12] += 700.0
    return cube


def found_in(cube, workers=1, progress=lambda _step: None, noise=NOISE, **given):
    parameters = Parameters.from_mapping(given)
    observation = observe(Stack(cube), noise, parameters)
    return detect_in_each_image(observation, parameters, Resources(workers), progress)


def above(image, threshold=5.0, noise=NOISE):
    return image > 100.0 + threshold * np.sqrt(100.0 / noise.gain + noise.rnoise_adu**2)


@pytest.mark.parametrize("crmethod", ["mmcosmic", "joint"])
def test_without_a_detector_nothing_is_found(cube, crmethod):
    steps = []
    holed = cube.copy()
    holed[0, 5, 5] = np.nan
    hits = found_in(holed, progress=steps.append, crmethod=crmethod)
    assert not any(mask.any() for mask in (hits.median, hits.mean, *hits.exposures))
    assert not hits.anywhere.any()
    np.testing.assert_array_equal(hits.auxclean, np.nanmedian(holed, axis=0).astype(np.float32))
    assert steps == []


@pytest.mark.parametrize("crmethod", ["toy", "mm_toy", "joint_toy"])
@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.usefixtures("toy")
def test_masks_of_each_image(cube, crmethod, workers):
    hits = found_in(cube, workers, crmethod=crmethod)
    median = np.median(cube, axis=0)
    np.testing.assert_array_equal(hits.median, above(median))
    np.testing.assert_array_equal(hits.mean, above(cube.mean(axis=0)))
    assert len(hits.exposures) == 3
    for mask, image in zip(hits.exposures, cube, strict=True):
        np.testing.assert_array_equal(mask, above(image))
    np.testing.assert_array_equal(hits.auxclean, np.where(above(median), 100.0, median))
    assert [mask.sum() for mask in (hits.median, hits.mean, *hits.exposures)] == [1, 2, 1, 1, 1]


@pytest.mark.usefixtures("toy")
def test_parameters_reach_the_detector(cube):
    for threshold in (3.0, 60.0):
        hits = found_in(cube, crmethod="toy", ty_threshold=threshold)
        np.testing.assert_array_equal(hits.exposures[1], above(cube[1], threshold))


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({"crmethod": "toy"}, False),
        ({"crmethod": "joint_toy"}, False),
        ({"crmethod": "mm_toy"}, False),
        ({"crmethod": "toy", "mm_synthetic": "single"}, False),
        ({"crmethod": "mm_toy", "mm_synthetic": "single"}, True),
        ({"crmethod": "mm_toy", "mm_crosscorr_region": [1, 24, 1, 20]}, True),
        ({"crmethod": "mm_toy", "mm_xy_offsets": [[0, 0], [0, 0.5], [0, 0]]}, False),
        ({"crmethod": "mmcosmic", "mm_synthetic": "single"}, True),
    ],
)
@pytest.mark.usefixtures("toy")
def test_clean_exposures_are_kept_where_they_are_needed(cube, given, kept):
    hits = found_in(cube, **given)
    assert len(hits.clean_exposures) == 3
    for clean, mask, image in zip(hits.clean_exposures, hits.exposures, cube, strict=True):
        if kept:
            np.testing.assert_array_equal(clean, np.where(mask, np.float32(100.0), image))
        else:
            assert clean is None


@pytest.mark.parametrize("crmethod", ["toy", "mm_toy"])
@pytest.mark.usefixtures("toy")
def test_progress_names_the_detector_and_the_image(cube, crmethod):
    steps = []
    found_in(cube, progress=steps.append, crmethod=crmethod)
    images = ["median2d", "mean2d", "exposure 1", "exposure 2", "exposure 3"]
    assert steps == [f"toy in {name}" for name in images]


@pytest.mark.usefixtures("toy")
def test_each_image_has_its_own_noise(cube):
    """Each divided exposure has its own noise; median2d and mean2d have a typical one."""
    factors = [0.25, 1.0, 1.0]
    scaled = cube * np.reshape(factors, (3, 1, 1)).astype(np.float32)
    given = {"flux_factor": factors, "apply_flux_factor_to": "original", "crmethod": "toy"}
    hits = found_in(scaled, **given)
    faint = Noise(NOISE.gain * 0.25, NOISE.rnoise_adu / 0.25)
    assert ToyDetector.noises == [NOISE, NOISE, faint, NOISE, NOISE]
    np.testing.assert_array_equal(hits.exposures[0], above(cube[0], noise=faint))


def test_images_come_one_after_the_other_where_the_detector_divides_them(cube, monkeypatch):
    """Otherwise each thread of a pool would start a pool of its own."""
    workers = []

    class Watched(Resources):
        def map(self, function, items):
            workers.append(self.workers)
            return super().map(function, items)

    monkeypatch.setattr(each_image, "make_detector", lambda *_: ToyDetector(Toy()))
    monkeypatch.setattr(each_image, "Resources", Watched)
    parameters = Parameters.from_mapping({"crmethod": "pycosmic"})
    observation = observe(Stack(cube), NOISE, parameters)
    for divides in (True, False):
        monkeypatch.setattr(ToyDetector, "divides_images", divides)
        detect_in_each_image(observation, parameters, Watched(3), lambda _step: None)
    assert workers == [1, 3]


@pytest.mark.parametrize("crmethod", ["pycosmic", "lacosmic"])
def test_detectors_of_the_package_find_the_hits(cube, crmethod):
    hits = found_in(cube, crmethod=crmethod)
    expected = np.zeros((3, *SHAPE), bool)
    expected[0, 3, 4] = expected[1:, 10, 12] = True
    for mask, hit in zip(hits.exposures, expected, strict=True):
        assert mask[hit].all()
        assert not (mask & ~ndimage.binary_dilation(hit, np.ones((3, 3)))).any()
    assert hits.median[10, 12]
    assert not hits.median[3, 4]


def test_anywhere_is_the_median_and_the_exposures():
    """Pixels flagged in the mean alone do not count."""
    masks = np.random.default_rng(1).random((5, *SHAPE)) < 0.2
    median, mean, *exposures = masks
    hits = DetectorHits(median, mean, exposures, np.zeros(SHAPE, np.float32), [None] * 3)
    expected = median | exposures[0] | exposures[1] | exposures[2]
    np.testing.assert_array_equal(hits.anywhere, expected)
    assert (mean & ~expected).any()
    np.testing.assert_array_equal(median, masks[0])
