"""Words for what the figures show: the masks, the codes of pixels and the classes of features."""

from __future__ import annotations

from collections.abc import Mapping

from crdetect.masks import class_meanings
from crdetect.plots.style import LOOKS

MEDIANCR = "hit in so many exposures that the median is wrong"
MEANCRT = "hit in at least one exposure, so that the mean is wrong"
MEANCR = "found by the detector of one image in the combined image meancr"
"""What it means that a pixel belongs to each mask."""


def crmask_meaning(number: int) -> str:
    """Say what it means that a pixel belongs to the mask of one exposure, counted from 1."""
    return f"hit in exposure {number}"


def code_labels(meanings: Mapping[int, str]) -> dict[int, str]:
    """Label of each code for people, in the order of drawing: what it means, and its number.

    Parameters
    ----------
    meanings : mapping of int to str
        What each code means in a run: `crdetect.pipeline.Detection.code_meanings`.
    """
    return {code: f"{meanings[code]} (code {code})" for code in LOOKS}


def class_labels(meanings: Mapping[int, str]) -> dict[str, str]:
    """Label of each class of features for people: what it means, and its name in file names.

    Parameters
    ----------
    meanings : mapping of int to str
        What each code means in a run.
    """
    return {name: f"{words} ({name})" for name, words in class_meanings(meanings).items()}


def class_counts(counts: Mapping[str, int], meanings: Mapping[int, str]) -> str:
    """Say how many features there are of each class.

    Parameters
    ----------
    counts : mapping of str to int
        Number of features of each class.
    meanings : mapping of int to str
        What each code means in a run.
    """
    labels = class_labels(meanings)
    return ", ".join(f"{labels[name]}: {number}" for name, number in counts.items())
