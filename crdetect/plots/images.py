"""Images for display: reduced to the pixels of a screen or page, in grey, in FITS pixels."""

from __future__ import annotations

import cv2
import matplotlib as mpl
import numpy as np
from astropy.visualization import ZScaleInterval
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.image import AxesImage

from crdetect.plots.style import YELLOW

MISSING_COLOR = YELLOW
"""Colour of pixels without a value."""

LARGEST_SIDE_PX = 1000
"""Largest side of an image in a figure, pixels: about as many as a panel has on a screen."""

# Largest ratio of the sides of an image whose pixels are drawn square. The pixels of a more
# elongated image are drawn oblong, so that it fills its panel.
_MOST_ELONGATED = 2.0


def reduced(image: np.ndarray) -> np.ndarray:
    """Reduce an image to sides of at most `LARGEST_SIDE_PX`, by the mean of the pixels covered.

    Missing values take no part in the mean. A small image is returned as it is.
    """
    scale = LARGEST_SIDE_PX / max(image.shape)
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


def thinning_step(shape: tuple[int, int], largest_side_px: int = LARGEST_SIDE_PX) -> int:
    """Step n with which every n-th pixel gives an image whose sides are short enough.

    It is for images whose values have no mean, such as codes.
    """
    return -(-max(shape) // largest_side_px)


def grey_limits(image: np.ndarray, color_scale: str) -> tuple[float, float]:
    """Values that are drawn black and white, by ``zscale`` or ``minmax``."""
    finite = image[np.isfinite(image)]
    if not finite.size:
        return 0.0, 1.0
    if color_scale == "minmax":
        low, high = float(finite.min()), float(finite.max())
    else:
        low, high = map(float, ZScaleInterval().get_limits(finite))
    return (low, high) if high > low else (low, low + 1.0)


def images_height_in(shape: tuple[int, int], width_in: float) -> float:
    """Height of a row of panels with images of this shape, labels included, in inches."""
    rows, columns = shape
    shape_of_panel = 0.75 if _is_oblong(shape) else min(rows / columns, 1)
    return 0.82 * width_in * shape_of_panel + 0.9


def _is_oblong(shape: tuple[int, int]) -> bool:
    return max(shape) > _MOST_ELONGATED * min(shape)


def show_pixels(ax: Axes, shown: np.ndarray, shape: tuple[int, int], **style) -> AxesImage:
    """Draw an image in axes of FITS pixels: the middle of the first pixel is at 1.

    Parameters
    ----------
    ax : Axes
        The panel.
    shown : (rows, columns) array
        The image, reduced where it is large.
    shape : tuple of int
        Rows and columns of the image before it was reduced.
    **style
        Colours, as matplotlib's ``imshow`` takes them.
    """
    rows, columns = shape
    ax.set(xlabel="x (FITS pixel)", ylabel="y (FITS pixel)")
    return ax.imshow(
        shown,
        origin="lower",
        extent=(0.5, columns + 0.5, 0.5, rows + 0.5),
        interpolation="nearest",
        aspect="auto" if _is_oblong(shape) else "equal",
        **style,
    )


def grey_map() -> Colormap:
    """Colour map of images: greys, and a colour of its own where a value is missing."""
    return mpl.colormaps["gray"].with_extremes(bad=MISSING_COLOR)


def draw_image(ax: Axes, image: np.ndarray, color_scale: str, title: str) -> AxesImage:
    """Draw an image in grey, in FITS pixels, with a colour bar beside it."""
    shown = reduced(image)
    low, high = grey_limits(shown, color_scale)
    drawn = show_pixels(ax, shown, image.shape, cmap=grey_map(), vmin=low, vmax=high)
    # An inset is as high as the image, whatever the shape of the image is.
    bar = ax.figure.colorbar(drawn, cax=ax.inset_axes([1.015, 0, 0.025, 1]))
    bar.set_label(f"ADU ({color_scale})")
    ax.set_title(title, fontsize="medium")
    return drawn


def rows_and_columns(n: int) -> tuple[int, int]:
    """Rows and columns of a grid with room for n panels."""
    columns = 3 if n <= 6 else 4 if n <= 8 else 5
    return -(-n // columns), columns
