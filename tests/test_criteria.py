"""The criteria that compare exposures: what each flags, and that the protocol is all they need."""

from dataclasses import dataclass

import numpy as np
import pytest
from scipy import ndimage

from crdetect import Noise, Parameters, Stack
from crdetect.criteria import CRITERIA
from crdetect.masks import ACROSS_ONLY, CLASSES
from crdetect.methods import CRITERIA as NAMES
from crdetect.pipeline import prepare

SHAPE = (40, 48)
NOISE = Noise(2.0, 3.0)
SIGNAL_ADU = 50.0
METHODS = {"mm": "mmcosmic", "joint": "joint"}
POINTS = [[0.0, 4.0], [40.0, 8.0], [48.0, 20.0], [400.0, 120.0]]
GIVEN = {
    "mm": {
        "mm_boundary_fit": "piecewise",
        "mm_fixed_points_in_boundary": POINTS,
        "mm_threshold": 12.0,
        "mm_minimum_max2d_rnoise": 20.0,
        "mm_nsimulations": 1,
        "mm_dilation": 2,
    },
    "joint": {"jt_matching": None, "jt_noise_terms": None, "jt_strong": 6.0, "jt_weak": 6.0},
}
HIT = {(5, 5): (0,), (9, 30): (1,), (15, 12): (2,), (22, 40): (0, 1), (30, 8): (1, 2)}
"""Exposures in which a pixel is hit."""
IMAGES = ["median2d", "mean2d", 0, 1, 2]


@pytest.fixture(scope="module")
def cube():
    """A flat field with hits far above all thresholds, at known pixels."""
    rng = np.random.default_rng(2)
    cube = np.array([NOISE.draw_adu(np.full(SHAPE, SIGNAL_ADU), rng) for _ in range(3)])
    for pixel, exposures in HIT.items():
        for i in exposures:
            cube[(i, *pixel)] += 800.0
    return cube


def parameters_of(name, **more):
    return Parameters.from_mapping({"crmethod": METHODS[name]} | GIVEN[name] | more)


@pytest.fixture(scope="module")
def criteria(cube):
    made = {}
    for name in METHODS:
        parameters = parameters_of(name)
        steps = []
        prepared = prepare(Stack(cube), NOISE, parameters, progress=steps.append)
        made[name] = prepared.compare(parameters)
        assert steps[-1] == CRITERIA[name].step
    return made


def image_of(cube, which):
    """The image of a name, by numpy alone."""
    if which == "median2d":
        return np.median(cube, axis=0)
    return cube.mean(axis=0) if which == "mean2d" else cube[which]


def test_each_criterion_that_crmethod_names_can_be_made():
    assert CRITERIA.keys() == NAMES.keys() == METHODS.keys()


@pytest.mark.parametrize("name", METHODS)
def test_protocol(criteria, name):
    criterion = criteria[name]
    assert criterion.dilation == {"mm": 2, "joint": 0}[name]
    for which in IMAGES:
        for answer in (criterion.beyond_threshold(which), criterion.flag(which)):
            assert answer.shape == SHAPE
            assert answer.dtype == bool


@pytest.mark.parametrize("which", IMAGES)
def test_diagram_flags_what_is_above_all_limits(cube, criteria, which):
    image, minimum = image_of(cube, which), cube.min(axis=0)
    beyond = image - minimum > 12.0
    np.testing.assert_array_equal(criteria["mm"].beyond_threshold(which), beyond)
    bright = cube.max(axis=0) > 20.0 * 3.0
    above = image - minimum > np.interp(minimum, *np.transpose(POINTS))
    flagged = criteria["mm"].flag(which)
    np.testing.assert_array_equal(flagged, beyond & bright & above)
    assert flagged.sum() >= sum(len(exposures) > 1 for exposures in HIT.values()) > 0
    if which not in ("median2d", "mean2d"):  # each limit matters
        for some, others in ((beyond, bright & above), (bright, beyond & above), (above, beyond)):
            assert (others & ~some).any()


@pytest.mark.parametrize("which", IMAGES)
def test_joint_detection_flags_what_was_hit(criteria, which):
    expected = np.zeros(SHAPE, bool)
    for pixel, exposures in HIT.items():
        hit = {"median2d": len(exposures) >= 2, "mean2d": True}
        expected[pixel] = hit[which] if isinstance(which, str) else which in exposures
    np.testing.assert_array_equal(criteria["joint"].flag(which), expected)


@pytest.mark.parametrize("which", IMAGES)
def test_threshold_of_joint_detection(cube, criteria, which):
    """An isolated hit stands ``jt_strong`` sigma of a difference of two values above the lowest."""
    lowest_e = NOISE.gain * cube.min(axis=0)
    sigma_adu = np.sqrt(np.maximum(lowest_e, 0) + (NOISE.gain * 3.0) ** 2) / NOISE.gain
    height = image_of(cube, which) - cube.min(axis=0)
    beyond = criteria["joint"].beyond_threshold(which)
    np.testing.assert_array_equal(beyond, height > np.sqrt(2) * 6.0 * sigma_adu)
    assert 0 < beyond.sum() <= len(HIT)


def test_noise_of_fluxes_raises_the_threshold_of_joint_detection(cube):
    """Fluxes that differ by 10 % add a hundredth of the squared signal to the variance."""
    plain, raised = (
        prepare(Stack(cube), NOISE, parameters).compare(parameters).limit_adu
        for parameters in (
            parameters_of("joint", jt_noise_terms=[0.0, 0.0, 0.0]),
            parameters_of("joint", jt_noise_terms=[0.01, 0.0, 0.0]),
        )
    )
    signal_e = NOISE.gain * SIGNAL_ADU
    known_e2 = signal_e + (NOISE.gain * 3.0) ** 2
    ratio = np.sqrt(1 + 0.01 * signal_e**2 / known_e2)
    assert np.median(raised / plain) == pytest.approx(ratio, rel=0.02)


@pytest.mark.parametrize("name", METHODS)
def test_missing_values_are_not_flagged(cube, name):
    holed = cube.copy()
    holed[1, 9, 30] = holed[0, 22, 40] = np.nan  # where they were hit
    holed[:, 0, 0] = np.nan
    parameters = parameters_of(name)
    detection = prepare(Stack(holed), NOISE, parameters).flag(
        prepare(Stack(holed), NOISE, parameters).compare(parameters), parameters
    )
    assert not detection.masks.crmasks[np.isnan(holed)].any()


# ---------------------------------------------------------------------------------------------
# Another criterion


@dataclass(frozen=True)
class Bright:
    """Flags what exceeds a level: a criterion of no use, but with all that one needs."""

    images: dict
    level_adu: float
    dilation: int = 1
    threshold_adu: float = 100.0

    def beyond_threshold(self, which):
        return self.images[which] - self.images["min"] > self.threshold_adu

    def flag(self, which):
        return self.images[which] > self.level_adu


def bright(cube, **more):
    images = {"min": cube.min(axis=0)} | {which: image_of(cube, which) for which in IMAGES}
    return Bright(images, 600.0, **more)


@pytest.mark.parametrize("dilation", [0, 1, 3])
def test_another_criterion_flags_and_is_dilated(cube, dilation):
    parameters = Parameters.from_mapping({"crmethod": "mmcosmic"})
    criterion = bright(cube, dilation=dilation)
    detection = prepare(Stack(cube), NOISE, parameters).flag(criterion, parameters)
    box = np.ones((2 * dilation + 1,) * 2, bool)
    planted = np.zeros(SHAPE, bool)
    for pixel, exposures in HIT.items():
        planted[pixel] = len(exposures) == 2
    expected = ndimage.binary_dilation(planted, box)
    np.testing.assert_array_equal(detection.masks.mediancr, expected)
    np.testing.assert_array_equal(detection.codes, np.where(expected, ACROSS_ONLY, 0))
    for i in range(3):
        hit = ndimage.binary_dilation(cube[i] > 600.0, box)
        # a pixel of an exposure is masked where the mean or the median is
        np.testing.assert_array_equal(detection.masks.crmasks[i], hit & detection.masks.meancrt)
        assert detection.masks.crmasks[i][planted & (cube[i] > 600.0)].all()


def test_run_with_another_criterion_is_whole(cube):
    """Features, quality, codes and combined images ask for nothing beyond the protocol."""
    parameters = Parameters.from_mapping({"crmethod": "mmcosmic"})
    detection = prepare(Stack(cube), NOISE, parameters).flag(bright(cube), parameters)
    assert detection.features.counts() == dict(zip(CLASSES, (0, 0, 2, 0), strict=True))
    assert detection.diagram is None
    assert detection.used() == {}
    assert detection.findings() == {}
    assert detection.quality.verdict.name in ("GOOD", "PARTIAL", "BAD")
    combined = detection.combine()
    for pixel, exposures in HIT.items():
        if len(exposures) == 2:
            assert combined["mediancr"].value[pixel] == cube[(slice(None), *pixel)].min()


def test_features_of_the_detector_must_exceed_the_threshold(cube):
    """Two features of the detector: the criterion's threshold lets one of them through."""
    scene = cube.copy()
    scene[:2, 35, 20] += 300.0
    scene[:2, 35, 40] += 1200.0
    parameters = Parameters.from_mapping({"crmethod": "mm_pycosmic"})
    prepared = prepare(Stack(scene), NOISE, parameters)
    assert prepared.detector_hits.median[35, 20]
    assert prepared.detector_hits.median[35, 40]
    criterion = bright(scene, threshold_adu=700.0, dilation=0)
    masks = prepared.flag(criterion, parameters).masks
    assert masks.mediancr[35, 40]
    assert not masks.mediancr[35, 20]
    everything = prepared.flag(bright(scene, threshold_adu=100.0, dilation=0), parameters).masks
    assert everything.mediancr[35, 20]
