"""Surroundings of a feature: the part of the images that is shown with it, and its outline."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crdetect.masks import Feature

# Pixels shown on each side of a feature that is larger than the surroundings asked for.
_MARGIN_PX = 2


@dataclass(frozen=True)
class Surroundings:
    """Part of an image around a feature.

    Attributes
    ----------
    rows, columns : slice
        Rows and columns of the part, from 0.
    """

    rows: slice
    columns: slice

    @classmethod
    def around(cls, feature: Feature, semiwindow_px: int, shape: tuple[int, int]) -> Surroundings:
        """Take the pixels around the middle of a feature, and at least the whole feature.

        At the edge of the image the part is moved inside, so that its size stays the same; it is
        smaller only where the image itself is smaller.

        Parameters
        ----------
        feature : Feature
            The feature.
        semiwindow_px : int
            Pixels to each side of its middle.
        shape : tuple of int
            Rows and columns of the image.
        """
        size = max(int(np.ptp(places)) for places in (feature.y, feature.x))
        half = max(semiwindow_px, (size + 1) // 2 + _MARGIN_PX)
        return cls(_around(feature.y, half, shape[0]), _around(feature.x, half, shape[1]))

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows and columns."""
        return self.rows.stop - self.rows.start, self.columns.stop - self.columns.start

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """Left, right, lower and upper edge, FITS pixels."""
        rows, columns = self.rows, self.columns
        return columns.start + 0.5, columns.stop + 0.5, rows.start + 0.5, rows.stop + 0.5

    @property
    def first(self) -> np.ndarray:
        """First pixel: x, y (FITS)."""
        return np.array([self.columns.start + 1, self.rows.start + 1])

    def holds(self, feature: Feature) -> np.ndarray:
        """Mask of the pixels of a feature in this part of the image."""
        inside = np.zeros(self.shape, bool)
        inside[feature.y - self.rows.start, feature.x - self.columns.start] = True
        return inside

    def outline(self, mask: np.ndarray) -> np.ndarray:
        """Outline of a mask of this part, as one line with gaps: x and y (FITS), (2, n).

        One line with gaps (NaN) is drawn in a fraction of the time of many segments.
        """
        segments = outline(mask) + self.first
        corners = np.pad(segments, ((0, 0), (0, 1), (0, 0)), constant_values=np.nan)
        return corners.reshape(-1, 2).T

    def cut(self, image: np.ndarray) -> np.ndarray:
        """Take this part out of an image."""
        return image[self.rows, self.columns]


def _around(places: np.ndarray, half: int, length: int) -> slice:
    size = min(2 * half + 1, length)
    middle = (int(places.min()) + int(places.max())) // 2
    start = min(max(middle - half, 0), length - size)
    return slice(start, start + size)


def outline(mask: np.ndarray) -> np.ndarray:
    """Find the edges between the pixels of a mask and others, as segments (n, 2, 2) of x, y.

    Pixel (0, 0) reaches from −0.5 to 0.5.
    """
    padded = np.pad(mask, 1)
    y, x = np.nonzero(padded[:, 1:] != padded[:, :-1])  # edges to the left of column x
    upright = np.stack([np.stack([x, y - 1], 1), np.stack([x, y], 1)], 1)
    y, x = np.nonzero(padded[1:] != padded[:-1])  # edges below row y
    level = np.stack([np.stack([x - 1, y], 1), np.stack([x, y], 1)], 1)
    return np.concatenate([upright, level]) - 0.5
