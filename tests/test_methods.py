import pytest

from crdetect.detectors import REGISTRY
from crdetect.methods import CRITERIA, Method, all_methods

MEANING = {
    "lacosmic": ("lacosmic", None, 3),
    "pycosmic": ("pycosmic", None, 3),
    "deepcr": ("deepcr", None, 3),
    "conn": ("conn", None, 3),
    "mmcosmic": (None, "mm", 3),
    "mm_lacosmic": ("lacosmic", "mm", 3),
    "mm_pycosmic": ("pycosmic", "mm", 3),
    "mm_deepcr": ("deepcr", "mm", 3),
    "mm_conn": ("conn", "mm", 3),
    "joint": (None, "joint", 2),
    "joint_lacosmic": ("lacosmic", "joint", 2),
    "joint_pycosmic": ("pycosmic", "joint", 2),
    "joint_deepcr": ("deepcr", "joint", 2),
    "joint_conn": ("conn", "joint", 2),
    "joint_of_two_words": ("of_two_words", "joint", 2),
}


@pytest.mark.parametrize("crmethod", MEANING)
def test_detector_criterion_and_exposures(crmethod):
    method = Method.parse(crmethod)
    assert (method.detector, method.criterion, method.fewest_exposures) == MEANING[crmethod]
    assert str(method) == crmethod


@pytest.mark.parametrize(
    ("crmethod", "label"),
    [
        ("conn", None),
        *(("mm_conn", "M.M.Cosmic"), ("mmcosmic", "M.M.Cosmic")),
        *(("joint_conn", "joint detection"), ("joint", "joint detection")),
    ],
)
def test_what_people_call_the_criterion(crmethod, label):
    assert Method.parse(crmethod).label == label


def test_every_method_is_there_once():
    names = [name for name in MEANING if name != "joint_of_two_words"]
    assert [name for name in all_methods(REGISTRY) if name in MEANING] == names
    assert len(all_methods(REGISTRY)) == len(REGISTRY) * 3 + len(CRITERIA)
    assert len(set(all_methods(REGISTRY))) == len(all_methods(REGISTRY))
