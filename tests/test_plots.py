from __future__ import annotations

import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from made import write
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import QuadMesh
from matplotlib.image import imread
from numpy.testing import assert_allclose, assert_array_equal

from crdetect import Noise, Parameters, Stack, detect
from crdetect.catalogue import Shelf
from crdetect.masks import ACROSS_ONLY, ADDED, AUX_ONLY, BOTH
from crdetect.plots import (
    crmask,
    crosscorrelation,
    flux_factor,
    histogram2d,
    meancr,
    mediancr,
    number_at_median,
    style,
)
from crdetect.plots.images import grey_limits, images_height_in, reduced, thinning_step
from crdetect.plots.style import count_norm, two_part_map
from crdetect.simulate import simulate_exposures

NOISE = Noise(gain=1.5, rnoise_adu=3.0)
SHAPE = (60, 90)
HISTOGRAM, MEDIANCR = "diagnostic_histogram2d.png", "diagnostic_mediancr.png"
MEANCR = "diagnostic_meancr.png"
CRMASKS = tuple(f"diagnostic_crmask{i}.png" for i in (1, 2, 3))


def make_exposures(n=3, shape=SHAPE, hits=12, charge_adu=400.0, seed=5):
    """Exposures with a gradient and pixels hit in two of them."""
    rng = np.random.default_rng(seed)
    signal = np.broadcast_to(np.linspace(20, 300, shape[1]), shape)
    exposures = rng.poisson(signal * 1.5, (n, *shape)) / 1.5 + rng.normal(0, 3, (n, *shape))
    for _ in range(hits):
        y, x = rng.integers(2, shape[0] - 2), rng.integers(2, shape[1] - 2)
        exposures[:2, y, x : x + 2] += charge_adu * rng.uniform(0.5, 2)
    exposures[0, 5, 5:9] += 500  # a single hit
    return exposures


def run(exposures=None, noise=NOISE, **parameters):
    exposures = make_exposures() if exposures is None else exposures
    parameters = {"mm_nsimulations": 3, "crmethod": "mm_pycosmic"} | parameters
    return detect(Stack(exposures), noise, Parameters.from_mapping(parameters))


@pytest.fixture(scope="module")
def detection():
    return run(dilation=1)


@pytest.fixture(scope="module")
def diagrams(detection):
    """The figure of the diagrams, to look at only."""
    return histogram2d(detection)


@pytest.fixture(scope="module")
def figure(detection):
    """The figure of MEDIANCR, to look at only."""
    return mediancr(detection)


def labelled(ax, start):
    """Lines of a panel whose label starts so."""
    return [line for line in ax.lines if line.get_label().startswith(start)]


def mesh(ax):
    (found,) = (item for item in ax.collections if isinstance(item, QuadMesh))
    return found


def panels(figure):
    """The four panels of the figure of MEDIANCR."""
    return [ax for ax in figure.axes if ax.get_xlabel()][:4]


def by_title(figure, start):
    (found,) = (ax for ax in figure.axes if ax.get_title().startswith(start))
    return found


# ---------------------------------------------------------------------------------------------
# Files


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("mm_lacosmic", {HISTOGRAM, MEDIANCR, *CRMASKS, MEANCR}),
        ("mm_pycosmic", {HISTOGRAM, MEDIANCR, *CRMASKS, MEANCR}),
        ("mmcosmic", {HISTOGRAM, MEDIANCR, *CRMASKS, MEANCR}),
        ("lacosmic", {MEDIANCR, *CRMASKS, MEANCR}),
        ("pycosmic", {MEDIANCR, *CRMASKS, MEANCR}),
    ],
)
def test_writes_the_figures_that_apply(method, expected, tmp_path):
    paths = write(run(crmethod=method), tmp_path, Shelf.FIGURES)
    assert {path.name for path in paths} == expected == {f.name for f in tmp_path.iterdir()}
    for path in paths:
        image = imread(path)
        assert min(image.shape[:2]) > 800
        assert image[..., :3].std() > 0.05  # something is drawn


def with_missing():
    exposures = make_exposures()
    exposures[0, 10, 10:14] = np.nan
    exposures[1, 20] = np.inf
    exposures[:, 30, 40:60] = np.nan
    exposures[:2, :, 3] = np.nan
    return exposures


CONSTANT = np.full((3, 30, 40), 100.0)
FIXED = [[0, 60], [150, 90], [400, 150]]
UNUSUAL = {
    "piecewise": {"mm_boundary_fit": "piecewise", "mm_fixed_points_in_boundary": FIXED},
    "fixed points": {"mm_fixed_points_in_boundary": FIXED, "color_scale": "minmax"},
    "nothing flagged": {"exposures": make_exposures(hits=0), "mm_threshold": 1e5},
    "missing values": {"exposures": with_missing(), "dilation": 1},
    "missing values, without M.M.": {"exposures": with_missing(), "crmethod": "pycosmic"},
    "five exposures": {"exposures": make_exposures(5)},
    "four exposures, three hits": {"exposures": make_exposures(4), "mm_cr_coincidences": 3},
    "tall": {"exposures": make_exposures(shape=(200, 30))},
    "wide": {"exposures": make_exposures(shape=(25, 400))},
    "constant": {"exposures": CONSTANT},
    "constant, without M.M.": {
        "exposures": CONSTANT,
        "crmethod": "pycosmic",
        "color_scale": "minmax",
    },
    "no noise at all": {
        "exposures": CONSTANT * 0,
        "noise": Noise(1.0, 0.0),
        "crmethod": "mmcosmic",
        "mm_boundary_fit": "piecewise",
        "mm_fixed_points_in_boundary": FIXED,
    },
    "one simulation": {"mm_nsimulations": 1, "mm_niter_boundary_extension": 0},
    "one round more": {"mm_niter_boundary_extension": 1},
    "a map of the read noise": {"noise": Noise(1.5, np.full(SHAPE, 3.0))},
    "a low diagram": {"mm_ydiag_max": 20.0},
    "single": {"mm_synthetic": "single"},
}


@pytest.fixture
def figures(monkeypatch):
    """The figures that are saved, by the names of their files."""
    saved = {}
    print_png = FigureCanvasAgg.print_png

    def save(canvas, path, **options):
        saved[path.name] = canvas.figure
        print_png(canvas, path, **options)

    monkeypatch.setattr(FigureCanvasAgg, "print_png", save)
    return saved


@pytest.mark.slow
@pytest.mark.parametrize("case", UNUSUAL)
def test_unusual_runs(case, tmp_path, figures, monkeypatch):
    monkeypatch.setattr(style, "DPI", 50)  # nobody looks at them, and they take a third of the time
    # any warning would be an error
    found = run(**UNUSUAL[case])
    expected = [HISTOGRAM, MEDIANCR] if found.diagram else [MEDIANCR]
    drawn = [path.name for path in write(found, tmp_path, Shelf.FIGURES)]
    assert drawn[: len(expected)] == expected
    assert len(drawn) == len(expected) + len(found.masks.crmasks) + 1
    assert drawn[-1] == MEANCR
    # a marker for each flagged pixel, and as many as the legend says
    told, counts = 0, np.bincount(found.codes.ravel(), minlength=5)
    for line in panels(figures[MEDIANCR])[2].lines:
        if "(code " in line.get_label():
            code, number = re.search(r"\(code (\d)\): (\d+)", line.get_label()).groups()
            assert len(line.get_xdata()) == int(number) == counts[int(code)]
            told += int(number)
    assert told == np.count_nonzero(found.codes)


def test_everything_flagged(detection, tmp_path):
    codes = np.full(SHAPE, AUX_ONLY, np.uint8)
    write(replace(detection, codes=codes, criterion=None), tmp_path, Shelf.FIGURES)


def test_threads_do_not_disturb_each_other(detection):
    with ThreadPoolExecutor(3) as pool:
        figures = list(pool.map(mediancr, [detection] * 3))
        images = list(pool.map(_pixels, figures))
    assert_array_equal(images[0], images[1])
    assert_array_equal(images[0], images[2])


def _pixels(figure):
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())


@pytest.mark.subprocess
def test_pyplot_is_not_imported():
    code = "import crdetect.plots, sys; sys.exit('matplotlib.pyplot' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


# ---------------------------------------------------------------------------------------------
# The Median-Minimum diagram


def test_histogram2d_needs_a_diagram(detection):
    with pytest.raises(ValueError, match="no Median-Minimum diagram"):
        histogram2d(replace(detection, criterion=None))


def test_histogram2d_shows_both_diagrams_alike(detection, diagrams):
    diagram = detection.diagram
    limits = diagram.clean.limits
    left, right = by_title(diagrams, "Simulated"), by_title(diagrams, "Real")
    for ax, shown in ((left, diagram.clean), (right, diagram.real)):
        counts = mesh(ax).get_array()
        assert_array_equal(counts.filled(0), shown.counts)
        assert_array_equal(counts.mask, shown.counts == 0)
        assert ax.get_xlim() == pytest.approx((limits.xmin, limits.xmax))
        assert ax.get_ylim() == pytest.approx((0, limits.ymax))
        assert ax.get_xlabel() == "min2d (ADU)"
        assert ax.get_ylabel() == "median2d − min2d (ADU)"
    assert mesh(left).norm is mesh(right).norm
    assert mesh(left).norm.vmin == pytest.approx(1 / 3)
    assert mesh(left).norm.vmax == max(diagram.clean.counts.max(), diagram.real.counts.max())
    for text in ("3 sets", "median", "spline"):
        assert text in left.get_title()


def test_histogram2d_draws_the_boundary_that_flags(detection, diagrams):
    limits, boundary = detection.diagram.clean.limits, detection.diagram.criterion.boundary
    left, right = by_title(diagrams, "Simulated"), by_title(diagrams, "Real")
    (final,) = labelled(left, "fit, round 6")
    (again,) = labelled(right, "boundary")
    for line in (final, again):
        x, y = line.get_data()
        assert (x[0], x[-1]) == (limits.xmin, limits.xmax)
        assert_array_equal(y, boundary(x))
    (threshold,) = labelled(right, "threshold")
    assert set(threshold.get_ydata()) == {9.0}
    assert "9 ADU" in threshold.get_label()


def test_histogram2d_draws_points_rounds_and_knots(detection, diagrams):
    boundary = detection.diagram.criterion.boundary
    left = by_title(diagrams, "Simulated")
    (points,) = labelled(left, "points")
    assert_array_equal(points.get_xydata(), np.transpose([boundary.points.x, boundary.points.y]))
    (knots,) = labelled(left, "knots")
    assert len(knots.get_xdata()) == 5
    assert_array_equal(knots.get_ydata(), boundary(knots.get_xdata()))
    assert not labelled(left, "fixed")
    curves = [line for line in left.lines if line.get_linestyle() == "-"]
    assert len(curves) == len(boundary.rounds) == 6
    for curve, line in zip(boundary.rounds, curves, strict=True):
        assert_array_equal(line.get_ydata(), curve(line.get_xdata()))
    widths = [line.get_linewidth() for line in curves]
    assert widths[-1] > widths[0] > max(widths[1:-1])
    shown = [text.get_text() for text in left.get_legend().get_texts()]
    assert shown[1:4] == ["fit, round 1", "fit, rounds 2–5", "fit, round 6: the boundary"]


def test_histogram2d_of_a_piecewise_boundary():
    found = run(mm_boundary_fit="piecewise", mm_fixed_points_in_boundary=FIXED)
    figure = histogram2d(found)
    left = by_title(figure, "Simulated")
    assert "piecewise" in left.get_title()
    assert not labelled(left, "points")
    (fixed,) = labelled(left, "fixed points")
    assert_array_equal(fixed.get_xydata(), FIXED)
    (line,) = labelled(left, "the boundary")
    x, y = line.get_data()
    assert_allclose(y, np.interp(x, *np.transpose(FIXED)))
    assert 150 in x  # the corner is not cut


def test_histogram2d_of_a_threshold_map_draws_its_median():
    rnoise = np.full(SHAPE, 3.0)
    rnoise[:, :20] = 4.0
    right = by_title(histogram2d(run(noise=Noise(1.5, rnoise))), "Real")
    (line,) = labelled(right, "threshold (median of the map)")
    assert set(line.get_ydata()) == {9.0}


@pytest.mark.parametrize("nsets", [2, 3, 10, 100])
def test_colours_tell_counts_below_one(nsets):
    norm = count_norm(1 / nsets, np.array([12345.0]))
    cmap = two_part_map(norm)
    below = cmap(norm(np.array([1 / nsets, 0.5, 0.98])))
    above = cmap(norm(np.array([1.0, 2.0, 100.0, 12345.0])))
    assert_allclose(below[:, 0], below[:, 2], atol=0.01)  # greys
    assert (np.ptp(above[:, :3], axis=1) > 0.2).all()  # colours


# ---------------------------------------------------------------------------------------------
# MEDIANCR


def test_mediancr_draws_each_flagged_pixel_once(detection, figure):
    statistics, codes = detection.statistics, detection.codes
    height = statistics.median2d - statistics.min2d
    pixels, _, *images = panels(figure)
    for code, start in (
        (ADDED, "added"),
        (AUX_ONLY, "PyCosmic only"),
        (ACROSS_ONLY, "M.M.Cosmic only"),
        (BOTH, "both"),
    ):
        y, x = np.nonzero(codes == code)
        (line,) = labelled(pixels, start)
        expected = np.transpose([statistics.min2d[y, x], height[y, x]])
        assert_allclose(sorted(line.get_xydata().tolist()), sorted(expected.tolist()))
        assert line.get_label().endswith(f": {y.size}")
        for ax in images:
            (line,) = labelled(ax, start)
            fits_pixels = sorted(zip(x + 1, y + 1, strict=True))
            assert sorted(map(tuple, line.get_xydata())) == fits_pixels
    assert (np.bincount(codes.ravel(), minlength=5)[[ADDED, ACROSS_ONLY, BOTH]] > 0).all()


def test_mediancr_markers_and_colours_differ(figure):
    pixels = panels(figure)[0]
    lines = [line for line in pixels.lines if "code" in line.get_label()]
    assert len({line.get_marker() for line in lines}) == 4
    assert len({line.get_markerfacecolor() for line in lines}) == 4


def test_mediancr_density_is_what_is_not_flagged(detection, figure):
    real, statistics = detection.diagram.real, detection.statistics
    clean = detection.codes == 0
    x, y = statistics.min2d[clean], (statistics.median2d - statistics.min2d)[clean]
    for ax in panels(figure)[:2]:
        assert_array_equal(mesh(ax).get_array().filled(0), real.limits.count(x, y))


@pytest.mark.parametrize("method", ["lacosmic", "pycosmic"])
def test_mediancr_without_mm(method):
    found = run(crmethod=method)
    pixels, *_ = panels(mediancr(found))
    clean = found.codes == 0
    height = (found.statistics.median2d - found.statistics.min2d)[clean]
    beyond = [line for line in pixels.lines if line.get_marker() == "."]
    drawn = mesh(pixels).get_array().filled(0).sum() + beyond[0].get_xdata().size
    assert drawn == height.size
    assert not labelled(pixels, "boundary")
    assert not labelled(pixels, "threshold")


def test_mediancr_draws_boundary_and_threshold(detection, figure):
    criterion = detection.diagram.criterion
    for ax in panels(figure)[:2]:
        (line,) = labelled(ax, "boundary")
        assert_array_equal(line.get_ydata(), criterion.boundary(line.get_xdata()))
        (line,) = labelled(ax, "threshold")
        assert set(line.get_ydata()) == {9.0}
        assert ax.get_xlabel() == "min2d (ADU)"
        assert ax.get_ylabel() == "median2d − min2d (ADU)"


def numbers_of(ax):
    return {int(text.get_text()): text for text in ax.texts}


def test_mediancr_numbers_each_feature_at_its_highest_pixel(detection, figure):
    features, statistics = detection.features, detection.statistics
    height = statistics.median2d - statistics.min2d
    _, ax, *_ = panels(figure)
    peaks = []
    for number in range(1, features.label[-1] + 1):
        own = features.label == number
        y, x = features.y[own], features.x[own]
        top = np.argmax(height[y, x])
        peaks.append((statistics.min2d[y[top], x[top]], height[y[top], x[top]]))
    drawn = np.concatenate([line.get_xydata() for line in ax.lines[-4:]])
    assert_allclose(sorted(drawn.tolist()), sorted(map(list, peaks)))
    texts = numbers_of(ax)
    assert set(texts) == set(range(1, len(peaks) + 1))
    assert "CR_number" in ax.get_title()
    for number, text in texts.items():
        distance = ax.transData.transform([text.get_position(), peaks[number - 1]])
        assert np.hypot(*np.diff(distance, axis=0)[0]) < 170  # pixels of the figure


@pytest.fixture(scope="module")
def crowd():
    """More features than can be numbered."""
    found = run(make_exposures(shape=(150, 160), hits=260), mm_dilation=0)
    return found, mediancr(found)


def test_mediancr_numbers_only_the_highest_and_says_so(crowd):
    found, figure = crowd
    n = found.features.label[-1]
    assert n > 200
    _, ax, *_ = panels(figure)
    texts = numbers_of(ax)
    assert f"{len(texts)} of {n}" in ax.get_title()
    assert 20 < len(texts) <= 150
    features, statistics = found.features, found.statistics
    height = (statistics.median2d - statistics.min2d)[features.y, features.x]
    top = np.zeros(n + 1)
    np.maximum.at(top, features.label, height)
    assert {int(np.argmax(top))} <= set(texts) <= set(np.argsort(-top)[:150].tolist())


def test_mediancr_numbers_do_not_overlap(crowd):
    _, figure = crowd
    figure.canvas.draw()
    _, ax, *_ = panels(figure)
    boxes = [text.get_window_extent() for text in ax.texts]
    for one, other in combinations(boxes, 2):
        # the box of a text has room for letters that reach below the line; digits do not
        assert not one.shrunk(1, 0.7).overlaps(other.shrunk(1, 0.7))
    for box in boxes:
        assert ax.bbox.containsx(box.x0)
        assert ax.bbox.containsx(box.x1)


def test_mediancr_keeps_flagged_pixels_in_sight():
    """Beside the diagram they are drawn at its edge, far above it the scale is logarithmic."""
    exposures = make_exposures(charge_adu=1e4)
    exposures[:, 40, 50] += 5e4  # hit in all: its minimum is beyond that of the clean pixels
    found = run(exposures, pixels_to_be_flagged_as_cr=[[51, 41]])
    figure = mediancr(found)
    limits = found.diagram.real.limits
    for ax in panels(figure)[:2]:
        assert ax.get_yscale() == "symlog"
        (xmin, xmax), (ymin, ymax) = ax.get_xlim(), ax.get_ylim()
        points = np.concatenate([line.get_xydata() for line in ax.lines[-4:]])
        assert ((points >= [xmin, ymin]) & (points <= [xmax, ymax])).all()
        assert ax.transData.transform((0, limits.ymax))[1] > ax.bbox.y0 + 0.5 * ax.bbox.height
    legend = " ".join(legend_texts(figure))
    assert "y is logarithmic" in legend
    outside = np.count_nonzero(found.statistics.min2d[found.codes > 0] > limits.xmax)
    assert f"{outside} flagged beside the diagram" in legend


def legend_texts(figure):
    (legend,) = (legend for part in figure.subfigs for legend in part.legends)
    return [text.get_text() for text in legend.get_texts()]


def test_mediancr_shows_clean_pixels_above_the_diagram():
    exposures = make_exposures(charge_adu=3000)
    found = run(exposures, regions_to_be_skipped=[[1, 45, 1, 60]])
    height = found.statistics.median2d - found.statistics.min2d
    beyond = (found.codes == 0) & (height > found.diagram.real.limits.ymax)
    assert beyond.any()
    figure = mediancr(found)
    (dots,) = (line for line in panels(figure)[0].lines if line.get_marker() == ".")
    assert_array_equal(np.sort(dots.get_ydata()), np.sort(height[beyond]))
    text = f"not flagged, above the diagram: {np.count_nonzero(beyond)}"
    assert text in legend_texts(figure)


@pytest.mark.parametrize("scale", ["zscale", "minmax"])
def test_mediancr_images_are_in_fits_pixels(scale):
    found = run(color_scale=scale)
    *_, median, mean = panels(mediancr(found))
    for ax, image in ((median, found.statistics.median2d), (mean, found.statistics.mean2d)):
        (drawn,) = ax.images
        assert drawn.get_extent() == [0.5, 90.5, 0.5, 60.5]
        assert drawn.origin == "lower"
        assert_array_equal(drawn.get_array(), image)
        assert drawn.get_clim() == grey_limits(image, scale)
        assert ax.get_xlabel() == "x (FITS pixel)"
    assert (median.images[0].get_clim() == (image_range(found))) == (scale == "minmax")


def image_range(found):
    median = found.statistics.median2d
    return (float(median.min()), float(median.max()))


def test_mediancr_title_and_legend(detection, figure):
    title = figure.subfigs[0].get_suptitle()
    assert "mm_pycosmic" in title
    assert f"Flagged pixels: {np.count_nonzero(detection.masks.mediancr)}" in title
    for name, number in detection.features.counts().items():
        assert f" ({name}): {number}" in title
    assert "found by PyCosmic only (only3): " in title
    assert "found by M.M.Cosmic only (only2): " in title
    texts = legend_texts(figure)
    for code, words in (
        (ADDED, "added by dilation or by the user"),
        (AUX_ONLY, "PyCosmic only"),
        (ACROSS_ONLY, "M.M.Cosmic only"),
        (BOTH, "both methods"),
    ):
        assert f"{words} (code {code}): {np.count_nonzero(detection.codes == code)}" in texts
    assert f"not flagged: {np.count_nonzero(detection.codes == 0)}" in texts
    assert "no value" not in texts


@pytest.mark.parametrize(
    ("method", "codes", "classes"),
    [
        ("pycosmic", ["PyCosmic only (code 3)"], "found by PyCosmic only (only3): "),
        ("mmcosmic", ["M.M.Cosmic only (code 2)"], "found by M.M.Cosmic only (only2): "),
        ("joint", ["joint detection only (code 2)"], "found by joint detection only (only2): "),
        (
            "joint_pycosmic",
            [
                "PyCosmic only (code 3)",
                "joint detection only (code 2)",
                "both methods (code 4)",
            ],
            "with pixels found by both methods (any4): ",
        ),
    ],
)
def test_labels_are_of_the_methods_that_take_part(method, codes, classes):
    found = run(crmethod=method)
    added = "added by dilation or by the user (code 1)"
    for figure in (mediancr(found), crmask(found, 1)):
        texts = [text.split(": ")[0] for text in legend_texts(figure) if "(code " in text]
        assert texts == [added, *codes]
        assert title(figure).split("\n")[1].startswith(f"Features {classes}")


def test_figure_of_meancr_says_that_no_detector_takes_part():
    found = run(crmethod="joint")
    figure = meancr(found, found.combine()["meancr"].value)
    assert title(figure).startswith("MEANCRT by joint: pixels hit in at least one exposure")
    by_title(figure, "(d) meancr, where no detector looks for more: MEANCR is empty")


def test_mediancr_marks_missing_values():
    found = run(with_missing())
    figure = mediancr(found)
    assert "no value" in legend_texts(figure)
    (drawn,) = panels(figure)[2].images
    assert_array_equal(np.ma.getmaskarray(drawn.get_array()), found.statistics.count2d == 0)


def test_mediancr_without_flagged_pixels():
    found = run(make_exposures(hits=0), mm_threshold=1e5)
    assert not found.masks.mediancr.any()
    figure = mediancr(found)
    assert "Flagged pixels: 0; features: 0" in figure.subfigs[0].get_suptitle()
    assert not panels(figure)[1].texts


# ---------------------------------------------------------------------------------------------
# MEANCRT and the exposures


def drawn_codes(ax, shape):
    """Codes of the pixels marked on an image."""
    codes = np.zeros(shape, np.uint8)
    for code in (ADDED, AUX_ONLY, ACROSS_ONLY, BOTH):
        (line,) = (line for line in ax.lines if f"(code {code})" in line.get_label())
        x, y = line.get_data()
        codes[np.asarray(y, int) - 1, np.asarray(x, int) - 1] = code
    return codes


def test_meancr_draws_meancrt_and_what_is_left(detection):
    meancr_adu = detection.combine(detection.observation.stack, NOISE)["meancr"].value
    figure = meancr(detection, meancr_adu)
    pixels, _, mean, left = panels(figure)
    codes = drawn_codes(mean, SHAPE)
    assert_array_equal(codes > 0, detection.masks.meancrt)
    hits = detection.hits.mean
    assert_array_equal(codes[codes == BOTH], BOTH)
    assert_array_equal(
        codes == BOTH, detection.masks.meancrt & hits.aux & hits.across | both_in_median(detection)
    )
    assert_array_equal(drawn_codes(left, SHAPE) > 0, detection.masks.meancr)
    assert_array_equal(mean.images[0].get_array(), detection.statistics.mean2d)
    assert_array_equal(left.images[0].get_array(), meancr_adu)
    assert pixels.get_ylabel() == "mean2d − min2d (ADU)"
    assert title(figure).startswith("MEANCRT by mm_pycosmic: pixels hit in at least one exposure")
    assert f"Flagged pixels: {np.count_nonzero(codes)}; " in title(figure)
    assert f"(MEANCR): {np.count_nonzero(detection.masks.meancr)} px" in left.get_title()


def both_in_median(detection):
    """Pixels by both methods in the median and by none of them in the mean."""
    found = detection.hits.mean.union
    return (detection.codes == BOTH) & ~found


def title(figure):
    return figure.subfigs[0].get_suptitle()


@pytest.mark.parametrize("number", [1, 3])
def test_crmask_draws_one_exposure(detection, number):
    figure = crmask(detection, number)
    pixels, _, bare, marked = panels(figure)
    mask = detection.masks.crmasks[number - 1]
    exposure = detection.observation.stack.exposures[number - 1]
    hits = detection.hits.exposures[number - 1]
    assert_array_equal(drawn_codes(marked, SHAPE), hits.codes(mask))
    assert not drawn_codes(bare, SHAPE).any()
    for ax in (bare, marked):
        assert_array_equal(ax.images[0].get_array(), exposure)
    assert pixels.get_ylabel() == f"exposure {number} − min2d (ADU)"
    assert f"CRMASK{number}" in title(figure)
    y, x = np.nonzero((hits.codes(mask)) == ACROSS_ONLY)
    (line,) = labelled(pixels, "M.M.Cosmic only")
    height = exposure[y, x] - detection.statistics.min2d[y, x]
    assert_allclose(sorted(line.get_ydata()), sorted(height))


def test_masked_pixel_of_a_missing_exposure_is_drawn():
    exposures = make_exposures(5)
    exposures[4, 5, 5] = np.nan
    found = run(exposures, pixels_to_be_flagged_as_cr=[[6, 6]], mm_cr_coincidences=2)
    assert found.masks.crmasks[4, 5, 5]
    crmask(found, 5).canvas.draw()


# ---------------------------------------------------------------------------------------------
# Images


def test_small_images_are_not_reduced():
    image = np.ones((300, 1000), np.float32)
    assert reduced(image) is image


def test_large_images_are_reduced_by_the_mean():
    image = np.arange(2000 * 1500, dtype=np.float32).reshape(2000, 1500)
    small = reduced(image)
    assert small.shape == (1000, 750)
    assert small.dtype == np.float32
    assert_allclose(small[0, 0], image[:2, :2].mean())
    assert_allclose(small[-1, -1], image[-2:, -2:].mean())


def test_missing_values_take_no_part_in_the_mean():
    image = np.full((2000, 1600), 5, np.float32)
    image[::2, ::2] = np.nan
    image[100:110, 200:210] = np.nan
    small = reduced(image)
    missing = np.zeros(small.shape, bool)
    missing[50:55, 100:105] = True
    assert_array_equal(np.isnan(small), missing)
    assert_allclose(small[~missing], 5)


@pytest.mark.parametrize("shape", [(3000, 1), (1, 3000), (4112, 4096)])
def test_any_shape_can_be_reduced(shape):
    small = reduced(np.ones(shape, np.float32))
    assert max(small.shape) == 1000
    assert min(small.shape) >= 1
    assert 2 < images_height_in(shape, 7.5) < 8


@pytest.mark.parametrize("shape", [(1, 1), (1000, 7), (1001, 7), (2000, 5), (4112, 4096)])
def test_thinned_image_has_short_sides(shape):
    step = thinning_step(shape)
    assert max(np.zeros(shape)[::step, ::step].shape) <= 1000
    assert step == 1 or max(shape) / (step - 1) > 1000  # no more is left out than needed


@pytest.mark.parametrize("scale", ["zscale", "minmax"])
@pytest.mark.parametrize("value", [np.nan, 7.0])
def test_grey_limits_always_have_a_range(scale, value):
    low, high = grey_limits(np.full((20, 20), value, np.float32), scale)
    assert low < high


def test_minmax_leaves_missing_values_out():
    assert grey_limits(np.array([[1, np.nan, 9]], np.float32), "minmax") == (1, 9)


# ---------------------------------------------------------------------------------------------
# Flux factors and offsets


@pytest.fixture(scope="module")
def differing():
    simulation = simulate_exposures((150, 200), flux=(0.8, 1.0, 1.2), seed=2)
    return run(
        simulation.exposures_adu,
        Noise(1.0, 3.4),
        flux_factor="auto",
        mm_crosscorr_region=[1, 200, 1, 150],
    )


@pytest.mark.slow
def test_figures_of_what_was_measured(differing, tmp_path):
    names = {path.name for path in write(differing, tmp_path, Shelf.FIGURES)}
    measured = {
        f"{name}{i}.png" for i in (1, 2, 3) for name in ("flux_factor", "xyoffset_crosscorr_")
    }
    assert names == {
        HISTOGRAM,
        MEDIANCR,
        *CRMASKS,
        MEANCR,
        "image_number_at_median_position.png",
        *measured,
    }


@pytest.mark.slow
def test_nothing_is_drawn_of_what_was_given(tmp_path):
    found = run(flux_factor=[1, 1, 1], mm_xy_offsets=[[0, 0]] * 3)
    names = {path.name for path in write(found, tmp_path, Shelf.FIGURES)}
    assert names == {HISTOGRAM, MEDIANCR, *CRMASKS, MEANCR}


def test_flux_figure_marks_the_factor_at_the_maximum(differing):
    for i in (1, 2, 3):
        (ax,) = flux_factor(differing.flux, i).axes
        curve, factor, _ = ax.get_lines()
        ratio, density = curve.get_data()
        assert factor.get_xdata()[0] == differing.flux.factors[i - 1]
        assert ratio[density.argmax()] == pytest.approx(factor.get_xdata()[0], rel=0.01)
        assert ax.get_xlim()[0] < factor.get_xdata()[0] < ax.get_xlim()[1]
        assert f"{differing.flux.factors[i - 1]:.4f}" in factor.get_label()


def test_number_figure_shows_the_exposure_between(differing):
    """Of exposures of flux 0.8, 1 and 1.2 the second one is the median more often."""
    figure = number_at_median(differing.flux)
    image, shares = figure.axes[:2]
    shown = image.get_images()[0].get_array()
    assert_array_equal(shown, differing.flux.number_at_median)
    heights = [bar.get_height() for bar in shares.patches]
    assert heights == pytest.approx([(shown == i).mean() for i in (1, 2, 3)])
    assert heights[1] > 1.5 * max(heights[0], heights[2])


def test_crosscorrelation_figure_marks_the_offset(differing):
    offsets = differing.diagram.offsets
    ax = crosscorrelation(offsets, 3).axes[0]
    assert_array_equal(ax.get_images()[0].get_array(), offsets.correlation[2])
    mark = ax.get_lines()[-1]
    expected = offsets.xy_px[2] - offsets.xy_px[0]
    assert (mark.get_xdata()[0], mark.get_ydata()[0]) == pytest.approx(tuple(expected))


def test_histogram2d_of_a_computed_diagram():
    found = run(mm_simulation="analytic", mm_photon_distribution="nbinom", mm_nbinom_shape=500.0)
    figure = histogram2d(found)
    left = by_title(figure, "Computed")
    assert "κ = 500" in left.get_title()
    assert f"{found.diagram.expected_above:.3g} pixels expected" in left.get_title()
    counts = mesh(left).get_array()
    shown = ~counts.mask
    assert shown.any()
    assert_array_equal(counts[shown], found.diagram.clean.counts[shown])
    assert (found.diagram.clean.counts[counts.mask] < 1e-4).all()
