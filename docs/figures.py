"""Figures of the documentation, from simulated exposures."""

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

import crdetect
from crdetect.masks import label_features
from crdetect.plots import save_figures
from crdetect.simulate import Simulation, simulate_exposures

_SIDE_PX = 31  # of the images in the example
_GREYS_FROM, _GREYS_TO = -10.0, 150.0  # ADU


def make_figures(folder: Path) -> None:
    """Simulate three exposures, find their cosmic rays, and draw what came out."""
    folder.mkdir(exist_ok=True)
    simulation = simulate_exposures()
    stack = crdetect.Stack(simulation.exposures_adu - simulation.bias_adu)
    noise = crdetect.Noise(simulation.gain, simulation.rnoise_adu)
    detection = crdetect.detect(stack, noise, crdetect.Parameters())
    save_figures(detection, folder)
    figure = draw_example(simulation, stack, detection, detection.combine(stack, noise))
    figure.savefig(folder / "example.png")


def draw_example(
    simulation: Simulation,
    stack: crdetect.Stack,
    detection: crdetect.Detection,
    combined: dict[str, crdetect.Combination],
) -> Figure:
    """Draw the surroundings of the longest track planted in two of the exposures."""
    _, labels = label_features(simulation.planted)
    y, x = np.nonzero(labels == np.bincount(labels[labels > 0]).argmax())
    rows, columns = map(_around, (y, x), stack.shape)
    images = {f"exposure {i}": image for i, image in enumerate(stack.exposures, start=1)}
    images |= {
        "median": combined["median"].value,
        "MEDIANCR": detection.masks.mediancr,
        "mediancr": combined["mediancr"].value,
    }
    figure = Figure(figsize=(8.0, 5.6), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    extent = (columns.start + 0.5, columns.stop + 0.5, rows.start + 0.5, rows.stop + 0.5)
    for ax, (name, image) in zip(figure.subplots(2, 3).flat, images.items(), strict=True):
        low, high = (0, 1) if image.dtype == bool else (_GREYS_FROM, _GREYS_TO)
        ax.imshow(
            image[rows, columns], cmap="gray", vmin=low, vmax=high, origin="lower", extent=extent
        )
        ax.set_title(name, fontsize="medium")
        ax.tick_params(labelsize="small")
    figure.supxlabel("x (FITS pixel)", fontsize="medium")
    figure.supylabel("y (FITS pixel)", fontsize="medium")
    return figure


def _around(places: np.ndarray, size: int) -> slice:
    """Take the pixels around the middle of some, all of them within the image."""
    start = min(max(int(places.mean()) - _SIDE_PX // 2, 0), size - _SIDE_PX)
    return slice(start, start + _SIDE_PX)
