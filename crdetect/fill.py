"""Replace masked pixels by the median of the good pixels around them."""

from __future__ import annotations

import numpy as np

_PIXELS_PER_CHUNK = 1 << 17  # times the window's size: the largest temporary


def masked_median(
    image: np.ndarray,
    mask: np.ndarray,
    half_y: int = 3,
    half_x: int = 3,
    leave_out_last: bool = False,
) -> np.ndarray:
    """Replace masked pixels by the median of the unmasked ones in the window around each.

    Parameters
    ----------
    image : (rows, columns) array of float32
        The image; not changed.
    mask : (rows, columns) array of bool
        True where a pixel is to be replaced.
    half_y, half_x : int
        The window is ``2 * half + 1`` pixels, cut at the image's borders.
    leave_out_last : bool
        Windows leave out the last row and column of the image, as PyCosmic's do.

    Returns
    -------
    (rows, columns) array of float32
        Pixels without any good neighbour in the window keep their value.
    """
    filled = image.copy()
    y, x = np.nonzero(mask)
    if y.size == 0:
        return filled
    good = np.where(mask, np.float32(np.nan), image)
    if leave_out_last:
        good[-1], good[:, -1] = np.nan, np.nan
    median = median_around(good, y, x, half_y, half_x)
    filled[y, x] = np.where(np.isnan(median), image[y, x], median)
    return filled


def median_around(
    image: np.ndarray, y: np.ndarray, x: np.ndarray, half_y: int, half_x: int
) -> np.ndarray:
    """Return the median of the other pixels in the window around each of some pixels.

    Parameters
    ----------
    image : (rows, columns) array of float32
        NaN pixels do not count.
    y, x : (n,) arrays of int
        The pixels (from 0).
    half_y, half_x : int
        The window is ``2 * half + 1`` pixels, cut at the image's borders.

    Returns
    -------
    (n,) array of float32
        NaN where there is no other pixel.
    """
    padded = np.pad(image, ((half_y,) * 2, (half_x,) * 2), constant_values=np.nan)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (2 * half_y + 1, 2 * half_x + 1))
    median = np.full(y.size, np.nan, np.float32)
    for start in range(0, y.size, _PIXELS_PER_CHUNK):
        chunk = slice(start, start + _PIXELS_PER_CHUNK)
        around = windows[y[chunk], x[chunk]]  # a copy
        around[:, half_y, half_x] = np.nan
        median[chunk] = _median_without_nan(around.reshape(len(around), -1))
    return median


def _median_without_nan(rows: np.ndarray) -> np.ndarray:
    """Median of each row, NaN left out; far faster than `numpy.nanmedian`. Sorts in place."""
    rows.sort(axis=1)  # NaN last
    n = np.count_nonzero(~np.isnan(rows), axis=1)
    every = np.arange(len(rows))
    # as numpy.median: the mean of two float32 values in float32; without any value, NaN
    return (rows[every, np.maximum(n - 1, 0) // 2] + rows[every, n // 2]) / np.float32(2)


def fill_missing(image: np.ndarray) -> np.ndarray:
    """Replace NaN by the median of the good pixels around, or of the whole image in wide gaps.

    Detectors of one image need a value everywhere.
    """
    missing = np.isnan(image)
    if not missing.any():
        return image
    filled = masked_median(image, missing)
    return np.where(np.isnan(filled), np.nanmedian(image), filled)
