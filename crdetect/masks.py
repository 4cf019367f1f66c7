"""Masks: their features, dilation, regions, codes and classes.

A mask is a boolean (rows, columns) array, True where a cosmic ray is. A *feature* is a group of
pixels connected by sides or corners (8-connected). Properties of features are computed with tables
indexed by their labels, since loops over many features would be slow.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from crdetect.equality import by_value
from crdetect.errors import InputError

ACROSS_ONLY, AUX_ONLY, BOTH, ADDED = 2, 3, 4, 1
"""Codes of a flagged pixel: flagged only by the criterion that compares the exposures (M.M.Cosmic
or joint detection), flagged only by the detector of one image (Aux.Cosmic), flagged by both, or
flagged by neither and added by the global dilation or by ``pixels_to_be_flagged_as_cr``."""

CLASSES = ("any4", "only3", "only2", "other")
"""Classes of features by the codes of their pixels: at least one pixel is flagged by both methods
(any 4), all flagged pixels are of the detector (only 3), all are of the criterion (only 2), or
any other mixture. Added pixels do not count."""


def code_meanings(detector: str | None, criterion: str | None) -> dict[int, str]:
    """Return the meaning in words of each code that may occur.

    Parameters
    ----------
    detector, criterion : str or None
        Names, as people read them, of the detector of one image and of the criterion that compares
        the exposures; None for one that takes no part, whose codes are left out.
    """
    meanings = {ADDED: "added by dilation or by the user"}
    if criterion is not None:
        meanings[ACROSS_ONLY] = f"{criterion} only"
    if detector is not None:
        meanings[AUX_ONLY] = f"{detector} only"
    if detector is not None and criterion is not None:
        meanings[BOTH] = "both methods"
    return meanings


def class_meanings(codes: dict[int, str]) -> dict[str, str]:
    """Return the meaning in words of each class of features that may occur, from the codes."""
    beginnings = {BOTH: "with pixels found by", AUX_ONLY: "found by", ACROSS_ONLY: "found by"}
    meanings = {
        name: f"{beginnings[code]} {codes[code]}"
        for name, code in zip(CLASSES, (BOTH, AUX_ONLY, ACROSS_ONLY), strict=False)
        if code in codes
    }
    return meanings | {"other": "any other mixture"}


def label_features(mask: np.ndarray) -> tuple[int, np.ndarray]:
    """Label the 8-connected features of a mask.

    Returns
    -------
    n : int
        Number of features.
    labels : (rows, columns) array of int32
        Labels 1…n of the features, and 0 outside.
    """
    n, labels = cv2.connectedComponents(as_uint8(mask), connectivity=8, ltype=cv2.CV_32S)
    return n - 1, labels


def features_touching(mask: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    """Keep the features of a mask that contain at least one pixel of ``seeds``."""
    n, labels = label_features(mask)
    kept = np.zeros(n + 1, bool)
    kept[labels[seeds & mask]] = True
    return kept[labels]


def dilate(mask: np.ndarray, times: int) -> np.ndarray:
    """Dilate a mask by the 8 neighbours of its pixels, a given number of times."""
    times = min(times, max(mask.shape))
    if times == 0:
        return mask
    return cv2.dilate(as_uint8(mask), np.ones((3, 3), np.uint8), iterations=times).view(bool)


def as_uint8(mask: np.ndarray) -> np.ndarray:
    """View a mask as an array of 0 and 1, without a copy where possible."""
    return np.ascontiguousarray(mask, dtype=bool).view(np.uint8)


def region_mask(
    regions: Iterable[tuple[int, int, int, int]] | None, shape: tuple[int, int], name: str
) -> np.ndarray:
    """Make a mask of regions ``[xmin, xmax, ymin, ymax]`` (FITS pixels, inclusive).

    The name is that of the parameter that lists the regions; the error message contains it.

    Raises
    ------
    InputError
        If a region is not inside the image.
    """
    marked = np.zeros(shape, bool)
    for xmin, xmax, ymin, ymax in regions or ():
        if xmax > shape[1] or ymax > shape[0]:
            raise InputError(
                f"{name}: the region [{xmin}, {xmax}, {ymin}, {ymax}] is not inside the image "
                f"[1, {shape[1]}, 1, {shape[0]}] (xmin, xmax, ymin, ymax)"
            )
        marked[ymin - 1 : ymax, xmin - 1 : xmax] = True
    return marked


def pixel_mask(
    pixels: Iterable[tuple[int, int]] | None, shape: tuple[int, int], name: str
) -> np.ndarray:
    """Make a mask of pixels ``[x, y]`` (FITS).

    The name is that of the parameter that lists the pixels; the error message contains it.

    Raises
    ------
    InputError
        If a pixel is not inside the image.
    """
    x, y = np.array(list(pixels or ()), int).reshape(-1, 2).T
    outside = (x > shape[1]) | (y > shape[0])
    if outside.any():
        raise InputError(
            f"{name}: the pixel [{x[outside][0]}, {y[outside][0]}] is not inside the image "
            f"[1, {shape[1]}, 1, {shape[0]}] (xmin, xmax, ymin, ymax)"
        )
    marked = np.zeros(shape, bool)
    marked[y - 1, x - 1] = True
    return marked


@by_value
@dataclass(frozen=True)
class Selection:
    """Pixels that the user excludes from the masks or adds to them, whatever is detected.

    Attributes
    ----------
    skipped, flagged, ignored : (rows, columns) arrays of bool
        Pixels of regions where nothing is detected, pixels that are always flagged, and pixels that
        are never flagged. A pixel to be flagged is flagged in a skipped region, too.
    """

    skipped: np.ndarray
    flagged: np.ndarray
    ignored: np.ndarray

    def detectable(self, mask: np.ndarray) -> np.ndarray:
        """Remove skipped regions and ignored pixels from a mask."""
        return mask & ~self.skipped & ~self.ignored

    def complete(self, detected: np.ndarray, dilation: int) -> np.ndarray:
        """Add the pixels to be flagged, dilate, and remove skipped and ignored pixels."""
        grown = dilate(detected | self.flagged, dilation)
        return self.detectable(grown) | self.flagged


@by_value
@dataclass(frozen=True)
class Hits:
    """Pixels that each method flagged in one image, before the global dilation.

    Attributes
    ----------
    aux, across : (rows, columns) arrays of bool
        Pixels flagged by the detector of one image, and pixels flagged by the criterion that
        compares the exposures: the Median-Minimum diagram or joint detection.
    """

    aux: np.ndarray
    across: np.ndarray

    @property
    def union(self) -> np.ndarray:
        """Pixels flagged by either method."""
        return self.aux | self.across

    def codes(self, mask: np.ndarray) -> np.ndarray:
        """Return the codes (uint8) of the pixels of a final mask, 0 outside of it."""
        codes = np.where(mask, np.uint8(ADDED), np.uint8(0))
        codes[mask & self.across] = ACROSS_ONLY
        codes[mask & self.aux] = AUX_ONLY
        codes[mask & self.aux & self.across] = BOTH
        return codes


@by_value
@dataclass(frozen=True)
class ImageHits:
    """Pixels that each method flagged in each image, before the global dilation.

    Attributes
    ----------
    median, mean : Hits
        Pixels flagged in median2d and in mean2d.
    exposures : tuple of N Hits
        Pixels flagged in each exposure.
    """

    median: Hits
    mean: Hits
    exposures: tuple[Hits, ...]


@by_value
@dataclass(frozen=True)
class Feature:
    """One feature of a mask: its class, its pixels and their codes.

    Attributes
    ----------
    number : int
        Number of the feature, from 1.
    class_name : str
        Class of the feature, one of `CLASSES`.
    y, x : arrays of int
        Rows and columns of its pixels (from 0), sorted by row, then column.
    code : array of uint8
        Code of each pixel.
    """

    number: int
    class_name: str
    y: np.ndarray
    x: np.ndarray
    code: np.ndarray


@by_value
@dataclass(frozen=True)
class Features:
    """The features of a mask: their pixels, labels and codes.

    Attributes
    ----------
    y, x : arrays of int
        Rows and columns of the pixels of all features (from 0), sorted by feature, then row, then
        column.
    label : array of int
        Number of the feature of each pixel, from 1.
    code : array of uint8
        Code of each pixel.
    """

    y: np.ndarray
    x: np.ndarray
    label: np.ndarray
    code: np.ndarray

    @classmethod
    def of(cls, codes: np.ndarray) -> Features:
        """Group the pixels with a code above 0 into features."""
        return cls.where(codes > 0, codes)

    @classmethod
    def where(cls, mask: np.ndarray, codes: np.ndarray) -> Features:
        """Group the pixels of a mask into features, whatever their codes."""
        _, labels = label_features(mask)
        y, x = np.nonzero(mask)
        label = labels[y, x]
        order = np.argsort(label, kind="stable")
        y, x, label = y[order], x[order], label[order]
        return cls(y, x, label, codes[y, x])

    def __len__(self) -> int:
        return int(self.label[-1]) if self.label.size else 0

    def __iter__(self) -> Iterator[Feature]:
        ends = np.flatnonzero(np.diff(self.label, append=len(self) + 1)) + 1
        parts = (np.split(array, ends[:-1]) for array in (self.y, self.x, self.code))
        each = zip(self.classes, *parts, strict=False)  # an empty array splits into one empty part
        for number, (index, y, x, code) in enumerate(each, start=1):
            yield Feature(number, CLASSES[index], y, x, code)

    @cached_property
    def classes(self) -> np.ndarray:
        """Class of each feature 1…n, as an index into `CLASSES`.

        Added pixels do not count: a dilated feature of the detector alone is still *only3*.
        """
        holds = {
            code: np.bincount(self.label[self.code == code], minlength=len(self) + 1)[1:] > 0
            for code in (ACROSS_ONLY, AUX_ONLY, BOTH)
        }
        only3 = holds[AUX_ONLY] & ~holds[ACROSS_ONLY]
        only2 = holds[ACROSS_ONLY] & ~holds[AUX_ONLY]
        return np.select([holds[BOTH], only3, only2], [0, 1, 2], default=3)

    def counts(self) -> dict[str, int]:
        """Count the features of each class."""
        number = np.bincount(self.classes, minlength=len(CLASSES))
        return {name: int(n) for name, n in zip(CLASSES, number, strict=True)}

    def rows(self) -> np.ndarray:
        """Return a table of all pixels: number of the feature, x, y (FITS) and code."""
        return np.column_stack([self.label, self.x + 1, self.y + 1, self.code])

    def of_class(self, name: str) -> np.ndarray:
        """Return the rows of the table that belong to features of one class."""
        return self.rows()[(self.classes == CLASSES.index(name))[self.label - 1]]


@by_value
@dataclass(frozen=True)
class Masks:
    """The masks of a run.

    Attributes
    ----------
    mediancr : (rows, columns) array of bool
        Pixels at which cosmic rays affect the median: of three exposures, hit in two or three.
    meancrt : (rows, columns) array of bool
        Pixels at which cosmic rays affect the mean: hit in any exposure.
    crmasks : (N, rows, columns) array of bool
        Pixels hit in each exposure.
    meancr : (rows, columns) array of bool
        Pixels that the detector of one image flags in the mean of the unmasked exposures.
    """

    mediancr: np.ndarray
    meancrt: np.ndarray
    crmasks: np.ndarray
    meancr: np.ndarray
