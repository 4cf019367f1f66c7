"""Figures of the documentation, from simulated exposures."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from astropy.io import fits
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

import crdetect
import crdetect.run
from crdetect.catalogue import Shelf
from crdetect.exposures import make_exposures
from crdetect.masks import dilate, label_features
from crdetect.mm.boundary import computed_points, simulated_points
from crdetect.plots import (
    crosscorrelation,
    feature_figures,
    flux_factor,
    histogram2d,
    noise,
    number_at_median,
)
from crdetect.plots.plane import draw_density, name_axes, sample
from crdetect.plots.style import GREEN, ORANGE, PURPLE, VERMILLION, count_norm, grey_density_map
from crdetect.run import DetectionRun
from crdetect.simulate import Simulation, simulate_exposures

_SIDE_PX = 31  # of the images in the example
_GREYS_FROM, _GREYS_TO = -10.0, 150.0  # ADU
_NOISE = crdetect.Noise(gain=1.0, rnoise_adu=3.4)
_COLORS = (VERMILLION, GREEN, ORANGE, PURPLE)
_REGION = [1, 400, 1, 300]
_ANALYTIC = {"mm_simulation": "analytic"}
_TUTORIAL_DPI = 90
_FIXED = [[0, 60], [300, 140], [700, 190]]


def make_figures(folder: Path) -> None:
    """Write all figures."""
    folder.joinpath("extra").mkdir(parents=True, exist_ok=True)
    _make_example(folder)
    _make_simulation(folder)
    _make_photons(folder)
    _make_flux(folder)
    _make_offsets(folder)
    _make_false_pixels(folder)
    _make_boundary(folder)
    _make_coincidences(folder)
    _make_conditions(folder)
    _make_tutorial(folder)
    _make_noise(folder)
    draw_data_flow().savefig(folder / "data_flow.png")


def _exposures(**differences) -> Simulation:
    return simulate_exposures((300, 400), seed=3, **differences)


def _detect(simulation: Simulation, **values) -> crdetect.Detection:
    stack = crdetect.Stack(simulation.exposures_adu)
    return crdetect.detect(stack, _NOISE, crdetect.Parameters.from_mapping(values))


def _count(run: crdetect.Detection, simulation: Simulation) -> str:
    """Count what is flagged, and what of it is further than a pixel from a hit of two exposures."""
    hit = np.sort(simulation.charge_e, axis=0)[-2] > _NOISE.rnoise_adu
    flagged = run.masks.mediancr
    false = np.count_nonzero(flagged & ~dilate(hit, 1))
    return f"{np.count_nonzero(flagged)} pixels in MEDIANCR, {false} false"


def _new_figure(width_in: float, height_in: float) -> Figure:
    figure = Figure(figsize=(width_in, height_in), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


# ---------------------------------------------------------------------------------------------
# What it is about


def _make_example(folder: Path) -> None:
    """Simulate three exposures, run them, and draw what came out."""
    simulation = simulate_exposures()
    made = _run_with_products(simulation)
    made.write(folder, {Shelf.FIGURES, Shelf.REPORT})
    folder.joinpath("report.html").replace(folder / "extra/report.html")
    longest = max(made.detection.features, key=lambda feature: feature.x.size)
    for number, page in enumerate(feature_figures(made.sheet, longest), start=1):
        page.savefig(folder / f"page{number}.png", dpi=110)
    draw_example(simulation, made).savefig(folder / "example.png")


def _run_with_products(simulation: Simulation) -> DetectionRun:
    names = [f"exposure_{i + 1}.fits" for i in range(len(simulation.exposures_adu))]
    exposures = make_exposures(
        simulation.exposures_adu,
        [fits.Header() for _ in names],
        names,
        _NOISE.gain,
        _NOISE.rnoise_adu,
        simulation.bias_adu,
    )
    history = ["exposures of crdetect simulate"]
    return crdetect.run.run(exposures, crdetect.Parameters(), history=history)


def draw_example(simulation: Simulation, made: DetectionRun) -> Figure:
    """Draw the surroundings of the longest track planted in two of the exposures."""
    stack, detection, combined = made.exposures.stack, made.detection, made.combined
    _, labels = label_features(simulation.planted)
    y, x = np.nonzero(labels == np.bincount(labels[labels > 0]).argmax())
    rows, columns = map(_around, (y, x), stack.shape)
    images = {f"exposure {i}": image for i, image in enumerate(stack.exposures, start=1)}
    images |= {
        "median": combined["median"].value,
        "MEDIANCR": detection.masks.mediancr,
        "mediancr": combined["mediancr"].value,
    }
    figure = _new_figure(8.0, 5.6)
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


# ---------------------------------------------------------------------------------------------
# M.M.Cosmic, a figure for each group of parameters


def _make_simulation(folder: Path) -> None:
    """Boundary points of simulations with three seeds, and of the computed diagram."""
    exposures = _exposures()
    computed = _detect(exposures, **_ANALYTIC).diagram.clean
    figure = _new_figure(7.0, 4.6)
    ax = figure.subplots()
    for seed, color in zip((1, 2, 3), _COLORS, strict=False):
        x, y = simulated_points(_detect(exposures, mm_seed=seed).diagram.clean)
        ax.plot(x, y, "+", color=color, label=f"10 simulated sets, mm_seed: {seed}")
    ax.plot(*computed_points(computed, 1 / 10), color="k", label="computed")
    name_axes(ax, "Boundary points: one pixel above in ten sets")
    ax.legend(frameon=False)
    figure.savefig(folder / "mm_simulation.png")


def _make_photons(folder: Path) -> None:
    exposures = _exposures(nbinom_shape=300.0)
    runs = {
        "poisson": _detect(exposures, **_ANALYTIC),
        "nbinom, mm_nbinom_shape: auto": _detect(
            exposures, mm_photon_distribution="nbinom", mm_nbinom_shape="auto", **_ANALYTIC
        ),
    }
    _compare(folder / "mm_photons.png", exposures, runs, "Exposures with κ = 300")


def _make_flux(folder: Path) -> None:
    exposures = _exposures(flux=(0.8, 1.0, 1.2))
    with_flux = _detect(exposures, flux_factor="auto", **_ANALYTIC)
    runs = {"without flux factors": _detect(exposures, **_ANALYTIC), "flux_factor: auto": with_flux}
    _compare(folder / "mm_flux.png", exposures, runs, "Exposures of flux 0.8, 1.0 and 1.2")
    flux_factor(with_flux.flux, 1).savefig(folder / "flux_factor1.png")
    name = "image_number_at_median_position.png"
    number_at_median(with_flux.flux).savefig(folder / name)


def _make_offsets(folder: Path) -> None:
    exposures = _exposures(offsets_px=((-0.5, 0.5), (0.0, 0.0), (0.5, -0.25)))
    measured = _detect(exposures, mm_crosscorr_region=_REGION, **_ANALYTIC)
    runs = {
        "without offsets": _detect(exposures, **_ANALYTIC),
        "mm_crosscorr_region": measured,
        "mm_synthetic: single": _detect(exposures, mm_synthetic="single"),
    }
    _compare(folder / "mm_offsets.png", exposures, runs, "Exposures moved by up to half a pixel")
    figure = crosscorrelation(measured.diagram.offsets, 3)
    figure.savefig(folder / "xyoffset_crosscorr_3.png")


def _make_false_pixels(folder: Path) -> None:
    """Exposures without cosmic rays: whatever is flagged is false."""
    exposures = _exposures(hit_fraction=0.0, double_hits=0)
    runs = {
        f"mm_false_pixels: {number}": _detect(
            exposures, crmethod="mmcosmic", mm_false_pixels=number, mm_dilation=0, **_ANALYTIC
        )
        for number in (0.5, 5, 50)
    }
    _compare(folder / "mm_false_pixels.png", exposures, runs, "Exposures without cosmic rays")


def _make_boundary(folder: Path) -> None:
    exposures = _exposures()
    fixed = {"mm_fixed_points_in_boundary": _FIXED}
    runs = {
        "spline, 5 knots": _detect(exposures),
        "spline, 2 knots, no refit": _detect(
            exposures, mm_knots_splfit=2, mm_niter_boundary_extension=0
        ),
        "spline with fixed points": _detect(exposures, **fixed),
        "piecewise": _detect(exposures, mm_boundary_fit="piecewise", **fixed),
    }
    path = folder / "mm_boundary.png"
    _compare(path, exposures, runs, "One set of exposures, four boundaries", np.array(_FIXED))


def _make_coincidences(folder: Path) -> None:
    """Five exposures, and what is found of the pixels hit in one and in three of them."""
    exposures = simulate_exposures((300, 400), 5, seed=3, hit_fraction=0.02, double_hits=60)
    sigma = np.sqrt(exposures.signal_e + _NOISE.rnoise_adu**2)
    hits = (exposures.charge_e > 5 * sigma).sum(axis=0)
    figure = _new_figure(7.0, 4.6)
    ax = figure.subplots()
    for c, color in zip((2, 3, 4), _COLORS, strict=False):
        run = _detect(exposures, crmethod="mmcosmic", mm_cr_coincidences=c, mm_dilation=0)
        real = run.diagram.real
        if c == 2:
            _draw_grey(ax, real.limits, real.counts)
        found = [
            f"{np.count_nonzero(mask & hit)} of {np.count_nonzero(hit)} {what}"
            for mask, hit, what in (
                (run.masks.meancrt, hits == 1, "hit once in MEANCRT"),
                (run.masks.mediancr, hits >= 3, "hit in three in MEDIANCR"),
            )
        ]
        curve = run.diagram.criterion.boundary.curve
        label = f"{c}: {', '.join(found)}"
        ax.plot(*sample(curve, real.limits), color=color, linewidth=2, label=label)
    name_axes(ax, "Five exposures, mm_cr_coincidences")
    ax.set_ylim(0, 130)
    ax.legend(frameon=False, loc="upper left")
    figure.savefig(folder / "mm_coincidences.png")


def _make_noise(folder: Path) -> None:
    moved = ((-0.1, 0.1), (0.0, 0.0), (0.1, -0.1))
    run = _detect(_exposures(flux=(0.85, 1.0, 1.15), offsets_px=moved), crmethod="joint")
    noise(run.exposure_model).savefig(folder / "diagnostic_noise.png")


def _make_conditions(folder: Path) -> None:
    """Bins that lack neighbours, and the threshold."""
    detection = _detect(_exposures())
    clean, criterion = detection.diagram.clean, detection.diagram.criterion
    figure = _new_figure(10.0, 4.6)
    left, right = figure.subplots(1, 2)
    _draw_grey(left, clean.limits, clean.counts)
    emptied = clean.counts - clean.without_isolated(4).counts
    rows, columns = np.nonzero(emptied)
    left.plot(
        clean.limits.x_edges[columns] + np.diff(clean.limits.x_edges)[0] / 2,
        clean.limits.y_edges[rows] + np.diff(clean.limits.y_edges)[0] / 2,
        "s",
        color=VERMILLION,
        markersize=2.5,
        label="emptied by mm_hist2d_min_neighbors: 4",
    )
    name_axes(left, "Simulated diagram")
    real = detection.diagram.real
    _draw_grey(right, real.limits, real.counts)
    right.plot(*sample(criterion.boundary.curve, real.limits), color=VERMILLION, label="boundary")
    right.axhline(
        criterion.threshold_adu, color=GREEN, linestyle="--", label="mm_threshold_rnoise: 3"
    )
    name_axes(right, "Real diagram: flagged is what is above both")
    right.set(xlim=(real.limits.xmin, 200), ylim=(0, 100))
    for ax in (left, right):
        ax.legend(frameon=False, loc="upper left")
    figure.savefig(folder / "mm_conditions.png")


def _compare(
    path: Path,
    exposures: Simulation,
    runs: Mapping[str, crdetect.Detection],
    title: str,
    fixed: np.ndarray | None = None,
) -> None:
    """Draw the pixels of the exposures, and the boundary of each run with what it flags."""
    figure = _new_figure(7.0, 4.6)
    ax = figure.subplots()
    highest = max(runs.values(), key=lambda run: run.diagram.real.limits.ymax)
    real = highest.diagram.real
    _draw_grey(ax, real.limits, real.counts)
    for (name, run), color in zip(runs.items(), _COLORS, strict=False):
        curve = run.diagram.criterion.boundary.curve
        label = f"{name}: {_count(run, exposures)}"
        ax.plot(*sample(curve, real.limits), color=color, linewidth=2, label=label)
    if fixed is not None:
        ax.plot(*fixed.T, "kD", label="fixed points")
    name_axes(ax, title)
    ax.set_ylim(0, real.limits.ymax)
    ax.legend(frameon=False, loc="upper left")
    figure.savefig(path)


def _draw_grey(ax: Axes, limits, counts: np.ndarray) -> None:
    norm = count_norm(min(1.0, counts[counts > 0].min()), counts)
    draw_density(ax, limits, counts, norm, grey_density_map())


# ---------------------------------------------------------------------------------------------
# The tutorial

_SPLINE = [[300, 100], [800, 125], [1500, 140]]
_PIECEWISE = [[0, 45], [150, 80], [600, 110], [1500, 130]]
_MOVED = ((-0.4, 0.3), (0.0, 0.0), (0.4, -0.2))


def _make_tutorial(folder: Path) -> None:
    """The diagrams of six situations."""
    simple, moved = simulate_exposures(), simulate_exposures(offsets_px=_MOVED)
    fixed = {"mm_fixed_points_in_boundary": _PIECEWISE, "mm_boundary_fit": "piecewise"}
    flux = _detect(simulate_exposures(flux=(0.8, 1.0, 1.2)), flux_factor="auto")
    offsets = _detect(moved, mm_crosscorr_region=[1, 500, 1, 400])
    runs = {
        "simple": _detect(simple),
        "spline": _detect(simple, mm_fixed_points_in_boundary=_SPLINE),
        "piecewise": _detect(simple, **fixed),
        "median": _detect(moved),
        "single": _detect(moved, mm_synthetic="single"),
        "flux": flux,
        "offsets": offsets,
    }
    for name, run in runs.items():
        histogram2d(run).savefig(folder / f"tutorial_{name}.png", dpi=_TUTORIAL_DPI)
    flux_factor(flux.flux, 1).savefig(folder / "tutorial_flux_factor.png", dpi=_TUTORIAL_DPI)
    figure = crosscorrelation(offsets.diagram.offsets, 3)
    figure.savefig(folder / "tutorial_crosscorr.png", dpi=_TUTORIAL_DPI)


# ---------------------------------------------------------------------------------------------
# For developers

_BOXES = {
    "files": (24, 94, "Input\nFITS files, parameters", "runfile, parameters, profiles"),
    "exposures": (24, 78, "Exposures\nStack, Noise, headers", "exposures, stack, noise"),
    "observation": (24, 58, "Observation\nflux, differences, noise of each", "equivalence"),
    "hits": (77, 58, "DetectorHits\nwhat is found in each image alone", "detectors"),
    "criterion": (24, 41, "Criterion\nthe diagram or joint detection", "criteria, mm, joint"),
    "detection": (24, 24, "Detection\nmasks, codes, cleaned median", "pipeline, masks"),
    "run": (24, 5, "Run\ncombined images, quality", "run, combine, quality"),
    "products": (77, 5, "Products\nfiles in a folder", "catalogue, products, plots, output"),
}
"""Middle (x, y) of each box in percent of the figure, what it is, and the modules that make it."""

_ARROWS = (
    ("files", "exposures", "read"),
    ("exposures", "observation", "observe"),
    ("observation", "hits", "run the detector"),
    ("observation", "criterion", "compare"),
    ("criterion", "detection", "flag"),
    ("hits", "criterion", ""),
    ("hits", "detection", ""),
    ("detection", "run", "combine, assess"),
    ("run", "products", "write"),
)
"""From which box to which, and the step that is done."""

_FRAMES = (
    ((1, -3), 97, 88.5, "run.run: the same for the command, numina and MEGARA", "#eef3f8"),
    ((3, 16.5), 93, 52.5, "pipeline.detect", "#d6e4f0"),
)
_BOX_WIDTH, _BOX_HEIGHT = 37, 10.5


def draw_data_flow() -> Figure:
    """Draw what is made of what, and by which modules."""
    figure = _new_figure(8.6, 8.2)
    ax = figure.subplots()
    ax.set(xlim=(0, 100), ylim=(-4, 100))
    ax.axis("off")
    for corner, width, height, title, color in _FRAMES:
        frame = FancyBboxPatch(corner, width, height, "round,pad=0", fc=color, ec="none")
        ax.add_patch(frame)
        top = corner[1] + height
        ax.text(95, top - 1, title, ha="right", va="top", style="italic")
    for start, end, step in _ARROWS:
        _draw_arrow(ax, _BOXES[start][:2], _BOXES[end][:2], step)
    for x, y, what, modules in _BOXES.values():
        _draw_box(ax, x, y, what, modules)
    return figure


def _draw_box(ax: Axes, x: float, y: float, what: str, modules: str) -> None:
    corner = (x - _BOX_WIDTH / 2, y - _BOX_HEIGHT / 2)
    style = "round,pad=0,rounding_size=1.2"
    ax.add_patch(FancyBboxPatch(corner, _BOX_WIDTH, _BOX_HEIGHT, style, fc="w", ec="k", lw=1.2))
    name, _, rest = what.partition("\n")
    top = y + _BOX_HEIGHT / 2 - 0.9
    ax.text(x, top, name, ha="center", va="top", weight="bold")
    ax.text(x, top - 3.2, rest, ha="center", va="top", size="small")
    bottom = y - _BOX_HEIGHT / 2 + 0.9
    ax.text(x, bottom, modules, ha="center", va="bottom", size="small", color="#005a9c")


def _draw_arrow(ax: Axes, start: tuple[float, float], end: tuple[float, float], step: str) -> None:
    """Draw an arrow between the edges of two boxes, and write the step beside it."""
    (x0, y0), (x1, y1) = start, end
    if x0 == x1:  # downwards
        tail, head = (x0, y0 - _BOX_HEIGHT / 2), (x1, y1 + _BOX_HEIGHT / 2)
        text = {"x": x0 + 1.5, "y": (tail[1] + head[1]) / 2, "va": "center", "ha": "left"}
    else:
        side = np.sign(x1 - x0) * _BOX_WIDTH / 2
        tail, head = (x0 + side, y0), (x1 - side, y1)
        text = {"x": (x0 + x1) / 2, "y": y0 + 1, "va": "bottom", "ha": "center"}
    ax.annotate("", head, tail, arrowprops={"arrowstyle": "-|>", "lw": 1.5, "color": "k"})
    ax.text(**text, s=step, size="small")
