"""Labels beside points of a panel that do not overlap each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.patheffects import withStroke
from matplotlib.text import Text

# All sizes are in points and were chosen by eye.
_SIZE_PT = 6.0  # font size of the labels
_DIGIT_WIDTH = 0.66  # width of a digit with the gap after it, in units of the font size
# Distances between a point and its label, in the order in which they are tried.
_DISTANCES_PT = (3.0, 6.0, 10.0, 15.0, 21.0, 28.0, 36.0, 45.0, 55.0, 66.0)
_DIRECTIONS = 24  # number of directions from a point that are tried at each distance
_LEADER_FROM_PT = 4.5  # distance from which a label needs a line to its point
_MARKER_PT = 2.2  # half of the size of a marker
_EDGE_PT = 1.5  # gap that is left free along the frame
_LEADER_PARTS = 12  # number of places along a line where it is compared with other labels


def number_points(ax: Axes, x: np.ndarray, y: np.ndarray, numbers: np.ndarray, most: int) -> int:
    """Write the number of each point beside it, as many as there is room for.

    Parameters
    ----------
    ax : Axes
        The panel; its limits and scales are final. The figure is laid out here, once and for all,
        since the room for numbers is known only then.
    x, y : arrays
        Points, the most important first.
    numbers : array of int
        Number of each point.
    most : int
        Largest number of points that get a number. The markers of the others are left free, too.

    Returns
    -------
    int
        Number of points that got a number.
    """
    if not len(x):
        return 0
    root = ax.figure.canvas.figure  # the whole figure: ax.figure may be a part of it
    engine = root.get_layout_engine()
    if engine is not None:
        engine.execute(root)
        root.set_layout_engine("none")  # otherwise the panels would move under the numbers
    texts, _ = write_labels(ax, x, y, [str(number) for number in numbers[:most]])
    for text in texts:
        text.set_path_effects([withStroke(linewidth=1.2, foreground="w")])
    return len(texts)


def write_labels(
    ax: Axes, x: np.ndarray, y: np.ndarray, labels: Sequence[str]
) -> tuple[list[Text], LineCollection]:
    """Write labels beside the first of some points, as many as there is room for.

    Parameters
    ----------
    ax : Axes
        The panel; its place, limits and scales are final.
    x, y : arrays
        Points, the most important first.
    labels : sequence of str
        Labels of the first points.

    Returns
    -------
    texts : list of Text
        The labels that were written.
    lines : LineCollection
        Lines from points to labels that are far from them.
    """
    pixel = ax.figure.get_dpi() / 72
    points = ax.transData.transform(np.column_stack([x, y]))
    room = _Room(ax.bbox.extents, points, pixel)
    to_data = ax.transData.inverted()
    leaders, texts = [], []
    for i, label in enumerate(labels):
        place = room.take(points[i], len(label))
        if place is None:
            continue
        where = to_data.transform(place.centre)
        text = ax.text(*where, label, fontsize=_SIZE_PT, ha="center", va="center", zorder=8)
        texts.append(text)
        if place.leader:
            leaders.append([(x[i], y[i]), where])
    lines = LineCollection(leaders, colors="0.45", linewidths=0.4, zorder=4)
    ax.add_collection(lines, autolim=False)
    return texts, lines


class _Place(NamedTuple):
    """Place of a label: the centre of its box in pixels of the figure, and if it needs a line."""

    centre: np.ndarray
    leader: bool


class _Room:
    """Free room of a panel: the places without labels, their lines, and markers."""

    def __init__(self, panel: np.ndarray, points: np.ndarray, pixel: float):
        self._low, self._high = panel[:2] + _EDGE_PT * pixel, panel[2:] - _EDGE_PT * pixel
        self._points = points
        self._pixel = pixel
        self._centres = np.empty((0, 2))
        self._halves = np.empty((0, 2))
        self._leaders = np.empty((0, _LEADER_PARTS, 2))  # places along each line

    def take(self, point: np.ndarray, digits: int) -> _Place | None:
        """Take the nearest free place beside a point; None if there is none."""
        half = 0.5 * _SIZE_PT * self._pixel * np.array([_DIGIT_WIDTH * digits, 1.0])
        offsets, far = _rings(half, self._pixel)
        boxes = point + offsets
        inside = ((boxes - half >= self._low) & (boxes + half <= self._high)).all(axis=1)
        boxes, far = boxes[inside], far[inside]
        lines = _along(point, boxes, half)
        free = ~_overlap(boxes, half, self._centres, self._halves)
        free &= ~_overlap(boxes, half, self._near(point, self._points), _MARKER_PT * self._pixel)
        free &= ~_overlap(boxes, half, self._near(point, self._leaders.reshape(-1, 2)), 0)
        through = _overlap(lines.reshape(-1, 2), 0, self._centres, self._halves)
        through = through.reshape(len(boxes), -1).any(axis=1)
        free &= ~(far & through)
        if not free.any():
            return None
        # Lines that cross are hard to follow, and are drawn only where the alternative is no label.
        clear = free & ~(far & _crossing(lines, self._leaders))
        chosen = np.flatnonzero(clear if clear.any() else free)[0]
        self._centres = np.vstack([self._centres, boxes[chosen]])
        self._halves = np.vstack([self._halves, half])
        if far[chosen]:
            self._leaders = np.concatenate([self._leaders, lines[chosen : chosen + 1]])
        return _Place(boxes[chosen], bool(far[chosen]))

    def _near(self, point: np.ndarray, places: np.ndarray) -> np.ndarray:
        """Select the places that are close enough to a point to matter for its label."""
        return places[(np.abs(places - point) < 2 * _DISTANCES_PT[-1] * self._pixel).all(axis=1)]


def _rings(half: np.ndarray, pixel: float) -> tuple[np.ndarray, np.ndarray]:
    """Offsets of a label from its point, the nearest first, and which of them need a line."""
    angle = 2 * np.pi * np.arange(_DIRECTIONS) / _DIRECTIONS
    direction = np.column_stack([np.cos(angle), np.sin(angle)])
    rings = [direction * (half + distance * pixel) for distance in _DISTANCES_PT]
    far = np.repeat(np.array(_DISTANCES_PT) > _LEADER_FROM_PT, _DIRECTIONS)
    return np.concatenate(rings), far


def _along(point: np.ndarray, boxes: np.ndarray, half: np.ndarray) -> np.ndarray:
    """Places along the lines from a point to the boxes of labels: (boxes, places, 2)."""
    way = boxes - point
    length = np.abs(way).max(axis=1, keepdims=True)
    shown = np.clip(1 - half.min() / np.maximum(length, half.min()), 0, 1)
    parts = np.linspace(0, 1, _LEADER_PARTS)[:, np.newaxis]
    return point + parts * (shown * way)[:, np.newaxis]


def _overlap(
    places: np.ndarray, half: np.ndarray | float, centres: np.ndarray, halves: np.ndarray | float
) -> np.ndarray:
    """Mask of the boxes around places that overlap any of the boxes around centres."""
    reach_x, reach_y = np.broadcast_to(half + halves, centres.shape).T
    beside = np.abs(places[:, :1] - centres[:, 0]) < reach_x
    beside &= np.abs(places[:, 1:] - centres[:, 1]) < reach_y
    return beside.any(axis=1)


def _crossing(lines: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Mask of the straight lines, given by places along them, that cross any of the others."""
    start, end = lines[:, np.newaxis, 0], lines[:, np.newaxis, -1]
    first, last = others[:, 0], others[:, -1]
    apart = _side(start, end, first) * _side(start, end, last) < 0
    return (apart & (_side(first, last, start) * _side(first, last, end) < 0)).any(axis=1)


def _side(start: np.ndarray, end: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Sign of the side of a line that a place is on."""
    along, towards = end - start, place - start
    return np.sign(along[..., 0] * towards[..., 1] - along[..., 1] * towards[..., 0])
