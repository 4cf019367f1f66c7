"""Words for what the figures show: the masks, the codes of pixels and the classes of features."""

from __future__ import annotations

from crdetect.masks import Features, class_meanings
from crdetect.pipeline import Detection
from crdetect.plots.style import LOOKS

MEDIANCR = "hit in so many exposures that the median is wrong"
MEANCRT = "hit in at least one exposure, so that the mean is wrong"
MEANCR = "found by the detector of one image in the combined image meancr"
"""What it means that a pixel belongs to each mask."""


def crmask_meaning(number: int) -> str:
    """Say what it means that a pixel belongs to the mask of one exposure, counted from 1."""
    return f"hit in exposure {number}"


def code_labels(detection: Detection) -> dict[int, str]:
    """Label of each code for people, in the order of drawing: what it means, and its number.

    Codes of a method that takes no part in the run are left out.
    """
    meanings = detection.code_meanings
    return {code: f"{meanings[code]} (code {code})" for code in LOOKS if code in meanings}


def class_labels(detection: Detection) -> dict[str, str]:
    """Label of each class of features for people: what it means, and its name in file names.

    Classes of a method that takes no part in the run are left out.
    """
    meanings = class_meanings(detection.code_meanings)
    return {name: f"{words} ({name})" for name, words in meanings.items()}


def class_counts(detection: Detection, features: Features) -> str:
    """Say how many features there are of each class that may occur in the run."""
    counts = features.counts()
    return ", ".join(f"{label}: {counts[name]}" for name, label in class_labels(detection).items())
