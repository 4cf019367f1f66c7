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
    padded = np.pad(
        np.where(mask, np.float32(np.nan), image),
        ((half_y,) * 2, (half_x,) * 2),
        constant_values=np.nan,
    )
    if leave_out_last:
        padded[-half_y - 1 :] = np.nan
        padded[:, -half_x - 1 :] = np.nan
    windows = np.lib.stride_tricks.sliding_window_view(padded, (2 * half_y + 1, 2 * half_x + 1))
    for start in range(0, y.size, _PIXELS_PER_CHUNK):
        chunk = slice(start, start + _PIXELS_PER_CHUNK)
        ordered = windows[y[chunk], x[chunk]].reshape(len(y[chunk]), -1)
        ordered.sort(axis=1)  # NaN last
        good = np.count_nonzero(~np.isnan(ordered), axis=1)
        some = np.flatnonzero(good)
        upper = ordered[some, good[some] // 2]
        lower = ordered[some, (good[some] - 1) // 2]
        # as numpy.median: the mean of two float32 values in float32
        filled[y[chunk][some], x[chunk][some]] = (lower + upper) / np.float32(2)
    return filled


def fill_missing(image: np.ndarray) -> np.ndarray:
    """Replace NaN by the median of the good pixels around, or of the whole image in wide gaps.

    Detectors of one image need a value everywhere.
    """
    missing = np.isnan(image)
    if not missing.any():
        return image
    filled = masked_median(image, missing)
    return np.where(np.isnan(filled), np.nanmedian(image), filled)
