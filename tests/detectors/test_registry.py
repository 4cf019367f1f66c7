"""Which detectors there are; those of other packages are tried in test_plugins.py."""

import logging
from importlib.metadata import EntryPoint
from typing import ClassVar

import numpy as np
import pytest

from crdetect import Parameters
from crdetect.detectors import (
    REGISTRY,
    Cleaned,
    Detector,
    NoDetector,
    PeaksAndTails,
    Resources,
    make_detector,
)
from crdetect.detectors.registry import BUILT_IN, GROUP, find_detectors
from crdetect.parameters import BLOCKS
from crdetect.schema.block import Block, parameter
from crdetect.schema.kinds import Number, PairOfPositive


class Toy(Block):
    prefix: ClassVar[str] = "ty"
    ty_threshold: PairOfPositive = parameter((50.0, 30.0), "threshold")


class ToyDetector(Detector):
    block = Toy
    limits = ("ty_threshold",)

    def detect(self, image_adu, noise):  # noqa: ARG002
        return Cleaned(np.zeros(image_adu.shape, bool), image_adu)


class WithoutPrefix(Toy):
    prefix: ClassVar[str] = ""


class OtherNames(Toy):
    threshold: Number = parameter(1.0, "threshold")


class TakenPrefix(Block):
    prefix: ClassVar[str] = "la"
    la_threshold: Number = parameter(1.0, "threshold")


class TakenName(Block):
    prefix: ClassVar[str] = "pixels"
    pixels_to_be_ignored_as_cr: Number = parameter(1.0, "threshold")


class Undescribed(Toy):
    ty_level: Number = 1.0


class Required(Toy):
    ty_level: Number = parameter(..., "level")


class NoNumber(Toy):
    ty_level: Number = parameter("high", "level")


class ListForPair(Toy):
    ty_limit: PairOfPositive = parameter([5.0, 3.0], "limit")


class WithoutBlock(Detector):
    detect = ToyDetector.detect


class WithoutDetect(Detector):
    block = Toy


class OtherLimits(ToyDetector):
    limits = ("ty_threshold", "ty_contrast")


def with_block(kind):
    return type("SomeDetector", (ToyDetector,), {"block": kind, "limits": ()})


WITHOUT_PREFIX, OTHER_NAMES, TAKEN_PREFIX, TAKEN_NAME = map(
    with_block, (WithoutPrefix, OtherNames, TakenPrefix, TakenName)
)
UNDESCRIBED, REQUIRED, NO_NUMBER, LIST_FOR_PAIR = map(
    with_block, (Undescribed, Required, NoNumber, ListForPair)
)


def entry(name="toy", kind="ToyDetector", module=__name__):
    return EntryPoint(name, f"{module}:{kind}", GROUP)


def test_detectors_of_the_package_need_no_entry_point():
    assert find_detectors([]) == BUILT_IN
    assert list(REGISTRY)[:4] == list(BUILT_IN)


def test_detector_of_an_entry_point(caplog):
    assert find_detectors([entry(), entry()]) == {**BUILT_IN, "toy": ToyDetector}
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (entry(module="no_such_module"), "cannot be imported (ModuleNotFoundError: No module"),
        (entry(kind="Absent"), "cannot be imported (AttributeError"),
        (entry(kind="np"), "is not a subclass of crdetect.detectors.Detector"),
        (entry(kind="Toy"), "is not a subclass of crdetect.detectors.Detector"),
        (entry(kind="WithoutDetect"), "WithoutDetect does not define detect"),
        (entry(kind="WithoutBlock"), "WithoutBlock has no block of parameters"),
        (entry(kind="WITHOUT_PREFIX"), "WithoutPrefix has no prefix"),
        (entry(kind="OTHER_NAMES"), "names of parameters must begin with ty_: threshold"),
        (entry(kind="TAKEN_PREFIX"), "the prefix la is taken"),
        (entry(kind="TAKEN_NAME"), "are taken: pixels_to_be_ignored_as_cr"),
        (entry(kind="UNDESCRIBED"), "parameters must have a description: ty_level"),
        (entry(kind="REQUIRED"), "parameters must have a default: ty_level"),
        (entry(kind="NO_NUMBER"), 'ty_level must be a number, not "high"'),
        (entry(kind="LIST_FOR_PAIR"), "defaults become others when read from a file: ty_limit"),
        (entry(kind="OtherLimits"), "its limits ty_contrast are not parameters of its block"),
        *((entry(name), "cannot be the name") for name in ("mm_toy", "joint_toy", "joint")),
        *((entry(name), "cannot be the name") for name in ("mmcosmic", "a toy", "1toy", "")),
        (entry("pycosmic"), "another detector has the name pycosmic"),
    ],
)
def test_what_cannot_serve_is_left_out_with_one_warning(given, why, caplog):
    with caplog.at_level(logging.DEBUG):
        assert find_detectors([given]) == BUILT_IN
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.message.startswith(f"detector {given.name} of ")
    assert why in record.message
    assert "\n" not in record.message


def test_others_are_kept_where_one_cannot_serve():
    entries = [entry(kind="Absent"), entry(), entry("other", "TAKEN_PREFIX")]
    assert find_detectors(entries) == {**BUILT_IN, "toy": ToyDetector}


def test_second_detector_of_a_prefix_is_left_out(caplog):
    assert "second" not in find_detectors([entry(), entry("second")])
    assert "the prefix ty is taken" in caplog.text


@pytest.mark.parametrize("prefix", ["", "mm_", "joint_"])
@pytest.mark.parametrize("name", REGISTRY)
def test_crmethod_names_the_detector(name, prefix):
    (limit, *_) = REGISTRY[name].limits
    parameters = Parameters.from_mapping(
        {"crmethod": prefix + name, limit: [0.7, 0.4], "device": "cpu"}
    )
    detector = make_detector(parameters, Resources(3))
    assert isinstance(detector, PeaksAndTails)
    assert [type(run) for run in detector.runs] == [REGISTRY[name]] * 2
    assert [getattr(run.parameters, limit) for run in detector.runs] == [0.7, 0.4]
    assert [run.resources for run in detector.runs] == [Resources(3, "cpu")] * 2
    assert all(isinstance(run.parameters, REGISTRY[name].block) for run in detector.runs)


@pytest.mark.parametrize("crmethod", ["mmcosmic", "joint"])
def test_criterion_alone_has_none(crmethod):
    detector = make_detector(Parameters.from_mapping({"crmethod": crmethod}))
    assert isinstance(detector, NoDetector)


@pytest.mark.parametrize("name", REGISTRY)
def test_blocks_are_in_the_schema(name):
    block = REGISTRY[name].block
    assert BLOCKS[block.prefix] is block
    assert set(REGISTRY[name].limits) <= set(block.model_fields)
