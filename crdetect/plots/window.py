"""The surroundings of a feature."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crdetect.masks import Feature

_MARGIN_PX = 2  # around a feature that is larger than the window asked for


@dataclass(frozen=True)
class Window:
    """A part of an image: rows and columns, from 0."""

    rows: slice
    columns: slice

    @classmethod
    def around(cls, feature: Feature, semiwindow_px: int, shape: tuple[int, int]) -> Window:
        """Take so many pixels to each side of a feature's middle, and at least all of it.

        At the edge of the image the window is moved inside, so that its size is the same; it is
        smaller only where the image is.
        """
        size = max(int(np.ptp(places)) for places in (feature.y, feature.x))
        half = max(semiwindow_px, (size + 1) // 2 + _MARGIN_PX)
        return cls(_around(feature.y, half, shape[0]), _around(feature.x, half, shape[1]))

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.rows.stop - self.rows.start, self.columns.stop - self.columns.start

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """Left, right, lower and upper edge in FITS pixels."""
        rows, columns = self.rows, self.columns
        return columns.start + 0.5, columns.stop + 0.5, rows.start + 0.5, rows.stop + 0.5

    @property
    def first(self) -> np.ndarray:
        """Its first pixel: x, y (FITS)."""
        return np.array([self.columns.start + 1, self.rows.start + 1])

    def cut(self, image: np.ndarray) -> np.ndarray:
        """Take the window out of an image."""
        return image[self.rows, self.columns]


def _around(places: np.ndarray, half: int, length: int) -> slice:
    size = min(2 * half + 1, length)
    middle = (int(places.min()) + int(places.max())) // 2
    start = min(max(middle - half, 0), length - size)
    return slice(start, start + size)


def outline(mask: np.ndarray) -> np.ndarray:
    """Edges between the pixels of a mask and others, as segments (n, 2, 2) of x, y.

    Pixel (0, 0) reaches from −0.5 to 0.5.
    """
    padded = np.pad(mask, 1)
    y, x = np.nonzero(padded[:, 1:] != padded[:, :-1])  # edges left of column x
    upright = np.stack([np.stack([x, y - 1], 1), np.stack([x, y], 1)], 1)
    y, x = np.nonzero(padded[1:] != padded[:-1])  # edges below row y
    level = np.stack([np.stack([x - 1, y], 1), np.stack([x, y], 1)], 1)
    return np.concatenate([upright, level]) - 0.5
