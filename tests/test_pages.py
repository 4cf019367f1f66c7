"""Pages of features."""

import logging
from itertools import combinations

import numpy as np
import pytest
from made import write
from matplotlib.text import Text
from numpy.testing import assert_allclose, assert_array_equal

from crdetect import Noise, Parameters, Stack, detect
from crdetect.catalogue import Shelf
from crdetect.masks import BOTH, CLASSES, Feature, label_features
from crdetect.plots.images import grey_limits, rows_and_columns
from crdetect.plots.pages import Sheet, _DiagramPage, _ImagesPage, describe, write_pages
from crdetect.plots.surroundings import Surroundings, outline
from crdetect.simulate import simulate_exposures

SHAPE = (120, 150)
NOISE = Noise(1.0, 3.4)


def run(exposures, **parameters):
    values = {"mm_seed": 1, "mm_nsimulations": 3} | parameters
    found = detect(Stack(exposures), NOISE, Parameters.from_mapping(values))
    return Sheet.of(found, found.combine(Stack(exposures), NOISE))


@pytest.fixture(scope="module")
def exposures():
    return simulate_exposures(SHAPE, seed=4, double_hits=10).exposures_adu


@pytest.fixture(scope="module")
def sheet(exposures):
    return run(exposures)


@pytest.fixture(scope="module")
def features(sheet):
    return list(sheet.detection.features)


def feature_at(x, y):
    x, y = np.array(x), np.array(y)
    return Feature(1, "any4", y, x, np.full(x.shape, BOTH, np.uint8))


# ---------------------------------------------------------------------------------------------
# Windows


@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [
        ([50], [40], (slice(35, 46), slice(45, 56))),
        ([50, 53], [40, 40], (slice(35, 46), slice(46, 57))),
        ([0], [99], (slice(89, 100), slice(0, 11))),
        ([99], [1], (slice(0, 11), slice(89, 100))),
    ],
)
def test_window_has_its_size_and_stays_inside(x, y, expected):
    around = Surroundings.around(feature_at(x, y), 5, (100, 100))
    assert (around.rows, around.columns) == expected
    assert around.shape == (11, 11)


def test_window_holds_a_large_feature_and_is_no_larger_than_the_image():
    feature = feature_at([10, 60], [40, 41])
    around = Surroundings.around(feature, 5, (100, 200))
    assert around.columns.start <= 10 - 2
    assert around.columns.stop >= 60 + 3
    assert Surroundings.around(feature, 500, (100, 200)) == Surroundings(
        slice(0, 100), slice(0, 200)
    )


def test_extent_is_in_fits_pixels():
    assert Surroundings(slice(10, 20), slice(0, 5)).extent == (0.5, 5.5, 10.5, 20.5)


def test_outline_is_closed_and_between_inside_and_outside():
    mask = np.random.default_rng(2).random((9, 12)) < 0.4
    segments = outline(mask)
    padded = np.pad(mask, 1)
    for (x0, y0), (x1, y1) in segments:
        assert abs(x1 - x0) + abs(y1 - y0) == 1
        x, y = (x0 + x1) / 2, (y0 + y1) / 2
        shift = (0, 0.5) if y0 == y1 else (0.5, 0)
        sides = [padded[round(y + s * shift[1]) + 1, round(x + s * shift[0]) + 1] for s in (1, -1)]
        assert sides[0] != sides[1]
    edges = np.count_nonzero(np.diff(padded, axis=0)) + np.count_nonzero(np.diff(padded, axis=1))
    assert len(segments) == edges
    ends = np.unique(segments.reshape(-1, 2), axis=0, return_counts=True)[1]
    assert not (ends % 2).any()
    assert outline(np.zeros((3, 3), bool)).shape == (0, 2, 2)


def test_pixels_of_a_feature_in_its_surroundings():
    feature = feature_at([3, 4, 4], [7, 7, 8])
    around = Surroundings.around(feature, 3, (20, 30))
    y, x = np.nonzero(around.holds(feature))
    pixels = zip(x + around.first[0], y + around.first[1], strict=True)
    assert set(pixels) == {(4, 8), (5, 8), (5, 9)}  # FITS


def test_outline_in_the_surroundings_is_one_line_with_gaps():
    feature = feature_at([3], [7])
    around = Surroundings.around(feature, 3, (20, 30))
    x, y = around.outline(around.holds(feature))
    assert np.isnan(x).sum() == np.isnan(y).sum() == 4  # after each of the four sides
    corners = set(zip(x[~np.isnan(x)], y[~np.isnan(y)], strict=True))
    assert corners == {(3.5, 7.5), (4.5, 7.5), (3.5, 8.5), (4.5, 8.5)}


@pytest.mark.parametrize("n", range(1, 20))
def test_grid_has_room_for_all_panels_and_no_empty_row(n):
    rows, columns = rows_and_columns(n)
    assert (rows - 1) * columns < n <= rows * columns


# ---------------------------------------------------------------------------------------------
# Pages


def test_images_page_shows_what_is_around_the_feature(sheet, features):
    page = _ImagesPage(sheet)
    found = sheet.detection
    for feature in (features[0], features[-1], features[0]):
        page.show(feature)
        around = sheet.around(feature)
        panels = page.figure.axes[:6]
        images = [*found.observation.stack.exposures, found.statistics.median2d]
        for ax, image in zip((*panels[:4], panels[5]), [*images, sheet.corrected_adu], strict=True):
            assert_array_equal(ax.images[0].get_array(), around.cut(image))
            assert tuple(ax.images[0].get_extent()) == around.extent
        limits = {ax.images[0].get_clim() for ax in (*panels[:4], panels[5])}
        cuts = np.stack([around.cut(image) for image in [*images, sheet.corrected_adu]])
        assert limits == {grey_limits(cuts, "zscale")}
        painted = panels[4].images[0].get_array()
        assert_array_equal(painted[..., 3] > 0, around.cut(found.codes) > 0)
        own = painted[feature.y - around.rows.start, feature.x - around.columns.start]
        assert_array_equal(own[:, 3], 1.0)
        assert (painted[..., 3] == 1).sum() == feature.x.size
        for i in range(3):
            hit = np.count_nonzero(found.masks.crmasks[i, feature.y, feature.x])
            assert panels[i].get_title() == f"exposure {i + 1}: {hit} of {feature.x.size} masked"
        assert page.figure.get_suptitle() == describe(sheet, feature)


def test_line_on_a_feature_says_what_its_class_means(exposures):
    for method, words in (
        ("mm_pycosmic", "with pixels found by both methods (any4)"),
        ("joint", "found by joint detection only (only2)"),
        ("pycosmic", "found by PyCosmic only (only3)"),
    ):
        sheet = run(exposures, crmethod=method)
        highest = max(sheet.detection.features, key=lambda f: sheet.heights(f)[1].max())
        assert describe(sheet, highest).startswith(f"CR {highest.number}, {words}: ")


def test_legend_of_a_page_is_not_over_itself(sheet, features):
    for page in (_ImagesPage(sheet), _DiagramPage(sheet)):
        page.show(features[0])
        page.figure.canvas.draw()
        legend = [text for text in page.figure.texts if text.get_position()[1] < 0.05]
        assert sum("(code " in text.get_text() for text in legend) == 4
        boxes = [text.get_window_extent() for text in legend]
        assert all(box.x1 < page.figure.bbox.x1 for box in boxes)
        assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))


def test_corrected_median_is_the_combination(sheet, exposures):
    combined = sheet.detection.combine(Stack(exposures), NOISE)["mediancr"].value
    assert_array_equal(sheet.corrected_adu, combined)


def test_outline_in_an_exposure_is_that_of_its_mask(sheet, features):
    page = _ImagesPage(sheet)
    page.show(features[2])
    around = sheet.around(features[2])
    corner = (around.columns.start + 1, around.rows.start + 1)  # FITS pixels
    for ax, crmask in zip(page.figure.axes[:3], sheet.detection.masks.crmasks, strict=False):
        (line,) = ax.lines
        expected = outline(around.cut(crmask)) + corner
        assert_array_equal(line.get_xydata().reshape(-1, 3, 2)[:, :2], expected)


def test_diagram_page_shows_the_pixels_of_the_feature(sheet, features):
    page = _DiagramPage(sheet)
    for feature in (features[0], features[-1]):
        page.show(feature)
        statistics = sheet.detection.statistics
        x = statistics.min2d[feature.y, feature.x]
        y = statistics.median2d[feature.y, feature.x] - x
        whole, part = page.figure.axes
        for ax in (whole, part):
            points = [line for line in ax.lines if "code" in line.get_label()]
            drawn = np.concatenate([line.get_xydata() for line in points])
            assert_allclose(sorted(drawn.tolist()), sorted(np.column_stack([x, y]).tolist()))
            (xmin, xmax), (ymin, ymax) = ax.get_xlim(), ax.get_ylim()
            assert ((drawn >= [xmin, ymin]) & (drawn <= [xmax, ymax])).all()
        pixels = set(zip(feature.x + 1, feature.y + 1, strict=True))
        labels = [tuple(map(int, text.get_text().split(", "))) for text in part.texts]
        assert labels
        assert set(labels) <= pixels
        highest = np.nan_to_num(y).argmax()
        assert (feature.x[highest] + 1, feature.y[highest] + 1) in labels


def test_table_of_a_page_has_the_values(sheet, features):
    page = _DiagramPage(sheet)
    feature = max(features, key=lambda feature: feature.x.size)
    page.show(feature)
    head, _, *rows = page._table.get_text().splitlines()
    assert head.split()[:3] == ["x", "y", "code"]
    values = {tuple(map(int, row.split()[:2])): row.split()[2:] for row in rows if "…" not in row}
    assert len(values) == min(feature.x.size, 30)
    for i, (x, y) in enumerate(zip(feature.x, feature.y, strict=True)):
        if (x + 1, y + 1) not in values:
            continue
        code, *numbers = map(float, values[x + 1, y + 1])
        assert code == feature.code[i]
        stack = sheet.detection.observation.stack.exposures[:, y, x]
        expected = [np.min(stack), np.median(stack) - np.min(stack), *stack]
        assert_allclose(numbers, expected, atol=0.0051)


@pytest.mark.parametrize("scale", ["zscale", "minmax"])
def test_semiwindow_and_color_scale_count(exposures, scale):
    sheet = run(exposures, semiwindow=6, color_scale=scale)
    page = _ImagesPage(sheet)
    small = [f for f in sheet.detection.features if max(np.ptp(f.x), np.ptp(f.y)) < 6]
    page.show(max(small, key=lambda feature: sheet.heights(feature)[1].max()))
    panels = page.figure.axes
    shown = [panels[i].images[0].get_array() for i in (0, 1, 2, 3, 5)]
    assert shown[0].shape == (13, 13)
    low, high = panels[0].images[0].get_clim()
    whole = (np.min(shown), np.max(shown))
    assert ((low, high) == pytest.approx(whole)) == (scale == "minmax")
    assert f"ADU ({scale})" in [ax.get_ylabel() for ax in panels]


def pages_in(path):
    return path.read_bytes().count(b"/Type /Page ")


@pytest.mark.slow
@pytest.mark.parametrize("maxplots", [-1, 0, 2])
def test_files_of_pages(exposures, maxplots, tmp_path):
    sheet = run(exposures, maxplots=maxplots, dilation=1)
    messages = []
    paths = write(sheet.detection, tmp_path, Shelf.PAGES, progress=messages.append)
    counts = sheet.detection.features.counts()
    available = {f"mediancr_identified_{name}.pdf": counts[name] for name in CLASSES}
    available["problematic_pixels.pdf"] = len(sheet.detection.problematic)
    assert available["problematic_pixels.pdf"] > 0
    expected = {name: n if maxplots < 0 else min(n, maxplots) for name, n in available.items() if n}
    if maxplots == 0:
        assert not paths
        assert not messages
        return
    assert {path.name for path in paths} == set(expected) == {f.name for f in tmp_path.iterdir()}
    for path in paths:
        assert pages_in(path) == 2 * expected[path.name]
        assert any(path.name in message for message in messages)


def test_problematic_pixels_are_masked_in_all_exposures(sheet):
    everywhere = sheet.detection.masks.crmasks.all(axis=0)
    groups = list(sheet.detection.problematic)
    assert len(groups) == label_features(everywhere)[0]
    again = np.zeros(SHAPE, bool)
    for group in groups:
        again[group.y, group.x] = True
    assert_array_equal(again, everywhere)


def test_no_font_is_missed(sheet, features, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        write_pages(tmp_path / "pages.pdf", sheet, features[:1], lambda _: None)
    assert not caplog.records


def test_a_page_is_drawn_once(sheet, features, tmp_path, monkeypatch):
    """Drawing is what takes the time."""
    drawn = []
    for kind in (_ImagesPage, _DiagramPage):
        original = kind.__init__

        def counted(page, sheet, original=original):
            original(page, sheet)
            draw = page.figure.draw
            monkeypatch.setattr(
                page.figure, "draw", lambda renderer: (drawn.append(1), draw(renderer))
            )

        monkeypatch.setattr(kind, "__init__", counted)
    write_pages(tmp_path / "pages.pdf", sheet, features[:3], lambda _: None)
    assert len(drawn) == 2 * 3


def test_texts_can_be_written_with_the_fonts_of_viewers(sheet, features):
    """These fonts have the characters of Windows 1252 only."""
    for page in (_ImagesPage(sheet), _DiagramPage(sheet)):
        page.show(features[0])
        page.figure.canvas.draw()
        for text in page.figure.findobj(Text):
            text.get_text().encode("cp1252")


def with_missing(exposures):
    exposures = exposures.copy()
    exposures[0, 40:60, 40:60] = np.nan
    exposures[:, 80:90, 20:30] = np.nan
    exposures[:2, 50, 100] += 500
    return exposures


@pytest.mark.slow
@pytest.mark.parametrize(
    "case",
    [
        {"crmethod": "pycosmic"},
        {"dilation": 3},
        {"change": with_missing, "dilation": 1},
        {"change": lambda exposures: exposures[:, :20, :]},
        {"pixels_to_be_flagged_as_cr": [[1, 1], [150, 120]], "semiwindow": 400},
        {"change": lambda exposures: np.concatenate([exposures, exposures[::-1]])},
    ],
)
def test_unusual_pages(exposures, case, tmp_path):
    case = dict(case)
    change = case.pop("change", lambda exposures: exposures)
    sheet = run(change(exposures), **case)
    some = list(sheet.detection.features)[:3]
    assert some
    page = _ImagesPage(sheet)
    for feature in some:
        page.show(feature)
        around = sheet.around(feature)
        shown = [
            np.ma.filled(ax.images[0].get_array(), np.nan) for ax in page.figure.axes if ax.images
        ]
        for image in (*sheet.detection.observation.stack.exposures[:3], sheet.corrected_adu):
            assert any(np.array_equal(around.cut(image), other, equal_nan=True) for other in shown)
        assert page.figure.get_suptitle() == describe(sheet, feature)
    write_pages(tmp_path / "pages.pdf", sheet, some, lambda _: None)
    assert pages_in(tmp_path / "pages.pdf") == 2 * len(some)
