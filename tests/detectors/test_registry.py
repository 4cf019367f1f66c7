import pytest

from crdetect import Parameters
from crdetect.detectors import REGISTRY, NoDetector, PeaksAndTails, Resources, make_detector
from crdetect.parameters import BLOCKS, DETECTOR_BLOCKS


def test_every_detector_of_the_schema_is_there():
    assert set(REGISTRY) == set(DETECTOR_BLOCKS)


@pytest.mark.parametrize("prefix", ["", "mm_"])
@pytest.mark.parametrize("name", REGISTRY)
def test_crmethod_names_the_detector(name, prefix):
    block = DETECTOR_BLOCKS[name]
    (limit, *_) = REGISTRY[name].limits
    parameters = Parameters.from_mapping(
        {"crmethod": prefix + name, limit: [0.7, 0.4], "device": "cpu"}
    )
    detector = make_detector(parameters, Resources(3))
    assert isinstance(detector, PeaksAndTails)
    assert [type(run) for run in detector.runs] == [REGISTRY[name]] * 2
    assert [getattr(run.parameters, limit) for run in detector.runs] == [0.7, 0.4]
    assert [run.resources for run in detector.runs] == [Resources(3, "cpu")] * 2
    assert all(isinstance(run.parameters, BLOCKS[block]) for run in detector.runs)


def test_mmcosmic_alone_has_none():
    detector = make_detector(Parameters.from_mapping({"crmethod": "mmcosmic"}))
    assert isinstance(detector, NoDetector)


@pytest.mark.parametrize("name", REGISTRY)
def test_limits_are_parameters_of_the_block(name):
    assert set(REGISTRY[name].limits) <= set(BLOCKS[DETECTOR_BLOCKS[name]].model_fields)
