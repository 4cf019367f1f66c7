"""Images in grey for display, reduced to what a screen or a page can show."""

from __future__ import annotations

import cv2
import matplotlib as mpl
import numpy as np
from astropy.visualization import ZScaleInterval
from matplotlib.axes import Axes
from matplotlib.image import AxesImage

from crdetect.plots.style import YELLOW

MISSING_COLOR = YELLOW  # where no exposure has a value
_LARGEST_SIDE_PX = 1000
_MOST_ELONGATED = 2.0  # beyond, pixels are drawn oblong to fill the panel


def reduced(image: np.ndarray) -> np.ndarray:
    """Reduce a large image to at most 1000 pixels a side, by the mean of the pixels covered.

    Missing values take no part in the mean. A small image is returned as it is.
    """
    scale = _LARGEST_SIDE_PX / max(image.shape)
    if scale >= 1:
        return image
    size = tuple(max(1, round(side * scale)) for side in image.shape[::-1])
    missing = np.isnan(image)
    if not missing.any():
        return cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    total = cv2.resize(np.where(missing, np.float32(0), image), size, interpolation=cv2.INTER_AREA)
    weight = cv2.resize((~missing).astype(np.float32), size, interpolation=cv2.INTER_AREA)
    empty = weight < np.finfo(np.float32).eps
    return np.where(empty, np.float32(np.nan), total / np.where(empty, 1, weight))


def grey_limits(image: np.ndarray, color_scale: str) -> tuple[float, float]:
    """Values drawn in the first and the last grey: by ``zscale`` or ``minmax``."""
    finite = image[np.isfinite(image)]
    if not finite.size:
        return 0.0, 1.0
    if color_scale == "minmax":
        low, high = float(finite.min()), float(finite.max())
    else:
        low, high = map(float, ZScaleInterval().get_limits(finite))
    return (low, high) if high > low else (low, low + 1.0)


def images_height_in(shape: tuple[int, int], width_in: float) -> float:
    """Height of a row of images of this shape, with labels, for panels of this width."""
    rows, columns = shape
    shape_of_panel = 0.75 if _is_oblong(shape) else min(rows / columns, 1)
    return 0.82 * width_in * shape_of_panel + 0.9


def _is_oblong(shape: tuple[int, int]) -> bool:
    return max(shape) > _MOST_ELONGATED * min(shape)


def draw_image(ax: Axes, image: np.ndarray, color_scale: str, title: str) -> AxesImage:
    """Draw an image in grey, with its scale beside it; the first pixel of the axes is 1."""
    rows, columns = image.shape
    shown = reduced(image)
    low, high = grey_limits(shown, color_scale)
    drawn = ax.imshow(
        shown,
        cmap=mpl.colormaps["gray"].with_extremes(bad=MISSING_COLOR),
        vmin=low,
        vmax=high,
        origin="lower",
        extent=(0.5, columns + 0.5, 0.5, rows + 0.5),
        interpolation="nearest",
        aspect="auto" if _is_oblong(image.shape) else "equal",
    )
    # an inset is as high as the image, whatever the shape of that
    bar = ax.figure.colorbar(drawn, cax=ax.inset_axes([1.015, 0, 0.025, 1]))
    bar.set_label(f"ADU ({color_scale})")
    ax.set(xlabel="x (FITS pixel)", ylabel="y (FITS pixel)")
    ax.set_title(title, fontsize="medium")
    return drawn
