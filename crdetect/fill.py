"""Replacement of masked pixels by the median of the good pixels around them."""

from __future__ import annotations

import numpy as np

# Maximum number of pixels that are replaced at a time. It limits memory: the temporary array has so
# many times the pixels of a window. It was chosen by hand and changes no result.
_PIXELS_PER_CHUNK = 1 << 17


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
        The image, which is not changed.
    mask : (rows, columns) array of bool
        True where a pixel is to be replaced.
    half_y, half_x : int
        Half widths: the window has ``2 * half + 1`` pixels in each direction, less at the borders
        of the image.
    leave_out_last : bool
        Whether windows leave out the last row and column of the image, as those of PyCosmic do.

    Returns
    -------
    (rows, columns) array of float32
        The image with its masked pixels replaced; a pixel without any good pixel in its window
        keeps its value.
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
    """Return the median of the other pixels in the window around each given pixel.

    Parameters
    ----------
    image : (rows, columns) array of float32
        The image; pixels that are NaN are left out.
    y, x : (n,) arrays of int
        Rows and columns of the given pixels (from 0).
    half_y, half_x : int
        Half widths: the window has ``2 * half + 1`` pixels in each direction, less at the borders
        of the image.

    Returns
    -------
    (n,) array of float32
        The medians; NaN where the window has no other pixel with a value.
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
    """Return the median of each row without NaN; the rows are sorted in place.

    It is far faster than `numpy.nanmedian`.
    """
    rows.sort(axis=1)  # NaN comes last
    n = np.count_nonzero(~np.isnan(rows), axis=1)
    every = np.arange(len(rows))
    # As in numpy.median, the mean of two float32 values is float32; without any value it is NaN.
    return (rows[every, np.maximum(n - 1, 0) // 2] + rows[every, n // 2]) / np.float32(2)


def fill_missing(image: np.ndarray) -> np.ndarray:
    """Replace NaN by the median of the good pixels around, or of the whole image in wide gaps.

    Detectors of one image need a value at every pixel.
    """
    missing = np.isnan(image)
    if not missing.any():
        return image
    filled = masked_median(image, missing)
    return np.where(np.isnan(filled), np.nanmedian(image), filled)
