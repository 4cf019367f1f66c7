"""The report, as a file and in a browser."""

import base64
import io
import json
import os
import re
import shutil
import time
from dataclasses import dataclass, replace
from enum import IntEnum
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest
from made import write
from numpy.testing import assert_array_equal
from PIL import Image

from crdetect import Detection, Noise, Parameters, Stack, detect
from crdetect.catalogue import Shelf
from crdetect.masks import CLASSES, class_meanings
from crdetect.plots import report
from crdetect.plots.images import grey_limits
from crdetect.plots.pages import Sheet
from crdetect.plots.report import write_report
from crdetect.simulate import simulate_exposures

NOISE = Noise(1.0, 3.4)
HISTORY = ["crdetect & co", "- images = <script>alert(1)</script>.fits"]
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync"
)


def run(shape=(120, 150), double_hits=10, **parameters):
    exposures = Stack(simulate_exposures(shape, seed=4, double_hits=double_hits).exposures_adu)
    values = {"mm_seed": 1, "mm_nsimulations": 3} | parameters
    found = detect(exposures, NOISE, Parameters.from_mapping(values))
    return Sheet.of(found, found.combine(exposures, NOISE))


@pytest.fixture(scope="module")
def sheet():
    return run(mm_threshold=12.0, flux_factor="auto")


@pytest.fixture(scope="module")
def path(sheet, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    figures = write(sheet.detection, folder, Shelf.FIGURES)
    write_report(folder / "report.html", sheet, HISTORY, dict.fromkeys(figures, "what <it> shows"))
    return folder / "report.html"


class Page(HTMLParser):
    """What stands in a page."""

    def __init__(self, path):
        super().__init__()
        self.addresses, self.rows, self.alts, self._script, self.data = [], [], [], None, ""
        self._in_row = False
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.addresses += [values[name] for name in ("src", "href") if name in values]
        if tag == "img" and values.get("alt"):
            self.alts.append(values["alt"])
        if tag == "script":
            self._script = values.get("id")
        if tag == "tr":
            self._in_row = True
            self.rows.append([])

    def handle_endtag(self, tag):
        self._script = None if tag == "script" else self._script
        self._in_row = self._in_row and tag != "tr"

    def handle_data(self, data):
        if self._script == "data":
            self.data += data
        elif self._in_row and data.strip():
            self.rows[-1].append(data.strip())


@pytest.fixture(scope="module")
def page(path):
    return Page(path)


@pytest.fixture(scope="module")
def data(page):
    return json.loads(page.data)


# ---------------------------------------------------------------------------------------------
# The file


def test_nothing_is_loaded_from_elsewhere(page, path):
    assert all(address.startswith(("data:image/", "#")) for address in page.addresses)
    text = path.read_text(encoding="utf-8")
    assert "default-src 'none'" in text
    assert not re.findall(r"https?://", text)
    assert "$" not in re.sub(r"base64,[^\"]*", "", text.split("<script")[0])


def test_texts_are_escaped(path):
    text = path.read_text(encoding="utf-8")
    assert "<script>alert(1)" not in text
    assert "images = &lt;script&gt;alert(1)&lt;/script&gt;.fits" in text
    assert "crdetect &amp; co" in text


def test_counts_parameters_and_what_was_found_out(page, sheet):
    rows = {row[0]: row[1:] for row in page.rows if row}
    masks = sheet.detection.masks
    assert rows["MEDIANCR"][0] == str(masks.mediancr.sum())
    assert rows["CRMASK3"] == [str(masks.crmasks[2].sum()), "hit in exposure 3"]
    words = class_meanings(sheet.detection.code_meanings)
    for name, number in sheet.detection.features.counts().items():
        assert rows[f"{words[name]} ({name})"] == [str(number)]
    codes = np.bincount(sheet.detection.codes.ravel(), minlength=5)
    assert rows["PyCosmic only (code 3)"] == [str(codes[3])]
    assert rows["M.M.Cosmic only (code 2)"] == [str(codes[2])]
    assert rows["mm_threshold"][:2] == ["12.0", "null"]
    assert rows["pc_iterations"][:2] == ["5", "5"]
    assert "la_niter" not in rows  # L.A.Cosmic took no part
    assert any(row[:1] == ["flux_factor"] and row[1].startswith("[") for row in page.rows)


def test_changed_parameters_stand_out(path):
    changed = re.findall(r'<tr class="changed"><td>(\w+)', path.read_text(encoding="utf-8"))
    assert set(changed) == {"mm_seed", "mm_nsimulations", "mm_threshold", "flux_factor"} | (
        set(changed) & {"mm_threshold_rnoise"}
    )


def test_figures_are_inside(page, path):
    names = {figure.name for figure in path.parent.glob("*.png")}
    assert set(page.alts) == names
    text = path.read_text(encoding="utf-8")
    for name in names:
        assert f"<figcaption>what &lt;it&gt; shows <code>{name}</code>" in text
    images = [address for address in page.addresses if address.startswith("data:image")]
    assert len(images) == len(names)
    for address in images:
        with Image.open(io.BytesIO(base64.b64decode(address.split(",")[1]))) as image:
            assert image.width >= 900


@pytest.mark.slow
def test_captions_say_what_each_figure_shows(sheet, tmp_path):
    write(sheet.detection, tmp_path, Shelf.FIGURES, Shelf.REPORT)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    for name, caption in {
        "diagnostic_mediancr.png": "Pixels flagged in MEDIANCR",
        "diagnostic_crmask2.png": "Pixels flagged in exposure 2",
        "diagnostic_histogram2d.png": "The Median-Minimum diagram",
        "flux_factor3.png": "The flux of exposure 3",
    }.items():
        assert f"<figcaption>{caption} <code>{name}</code>" in text


class Verdict(IntEnum):
    GOOD = 0
    BAD = 2


@dataclass(frozen=True)
class WithQuality(Detection):
    quality: SimpleNamespace


def test_checks_are_shown(sheet, tmp_path):
    found = {name: getattr(sheet.detection, name) for name in Detection.__dataclass_fields__}
    numbers = {"name": "noise", "value": 1.0234, "accepted": "0.9 to 1.1"}
    good = SimpleNamespace(**numbers, verdict=Verdict.GOOD, advice="not needed")
    bad = SimpleNamespace(**numbers, verdict=Verdict.BAD, advice="try <b>")
    quality = SimpleNamespace(checks=(good, bad))
    with_checks = replace(sheet, detection=WithQuality(**found | {"quality": quality}))
    write_report(tmp_path / "report.html", with_checks, [], {})
    rows = Page(tmp_path / "report.html").rows
    assert ["noise", "1.023", "0.9 to 1.1", "✓ GOOD"] in rows
    assert ["noise", "1.023", "0.9 to 1.1", "✗ BAD", "try <b>"] in rows


def pixels_of(feature, data):
    """Places in the palette: (images and codes, rows, columns), the first row below."""
    with Image.open(io.BytesIO(base64.b64decode(feature["png"]))) as image:
        sprite = np.asarray(image)[::-1]
    return np.stack(np.split(sprite, len(data["images"]) + 1, axis=1))


def test_gallery_holds_every_feature(sheet, data):
    features = list(sheet.detection.features)
    assert {record["number"] for record in data["features"]} == {f.number for f in features}
    heights = [record["height"] for record in data["features"]]
    assert heights == sorted(heights, reverse=True)
    for record in data["features"]:
        feature = features[record["number"] - 1]
        assert (record["class"], record["size"]) == (feature.class_name, feature.x.size)
        crmasks = sheet.detection.masks.crmasks
        assert record["hits"] == [mask[feature.y, feature.x].sum() for mask in crmasks]
        assert f"CR {feature.number}, " in record["text"]


def test_sprites_hold_images_and_codes(sheet, data):
    found = sheet.detection
    record = data["features"][0]
    tiles = pixels_of(record, data)
    left, bottom = record["left"] - 1, record["bottom"] - 1
    rows = slice(bottom, bottom + record["rows"])
    columns = slice(left, left + record["columns"])
    assert_array_equal(tiles[-1] - 251, found.codes[rows, columns])
    images = [*found.observation.stack.exposures, found.statistics.median2d]
    images += [sheet.corrected_adu, found.auxclean]
    cuts = np.stack([image[rows, columns] for image in images])
    low, high = grey_limits(cuts[:-1], "zscale")
    expected = np.clip((cuts - low) / (high - low), 0, 1) * 249
    assert np.abs(tiles[:-1] - expected).max() <= 0.51
    assert data["images"][data["before"]] == "median2d"
    assert data["images"][data["after"]].startswith("mediancr")


def test_missing_values_have_a_colour_of_their_own(tmp_path):
    exposures = simulate_exposures((120, 150), seed=4, double_hits=10).exposures_adu.copy()
    exposures[1, 50:70, 50:70] = np.nan
    exposures[::2, 60, 71] += 400
    found = detect(Stack(exposures), NOISE, Parameters.from_mapping({"mm_seed": 1}))
    sheet = Sheet.of(found, found.combine(Stack(exposures), NOISE))
    write_report(tmp_path / "report.html", sheet, [], {})
    data = json.loads(Page(tmp_path / "report.html").data)
    label = next(f.number for f in found.features if 60 in f.y and 71 in f.x)
    record = next(record for record in data["features"] if record["number"] == label)
    tiles = pixels_of(record, data)
    rows, columns = record["bottom"] - 1, record["left"] - 1
    missing = np.isnan(exposures[1])[rows : rows + record["rows"]]
    missing = missing[:, columns : columns + record["columns"]]
    assert missing.any()
    assert_array_equal(tiles[1] == 250, missing)


def test_report_without_features(tmp_path):
    sheet = run(double_hits=0, mm_threshold=1e5)
    assert len(sheet.detection.features) == 0
    write_report(tmp_path / "report.html", sheet, [], {})
    assert json.loads(Page(tmp_path / "report.html").data)["features"] == []


def test_large_surroundings_are_thinned_out(tmp_path):
    write_report(tmp_path / "report.html", run(semiwindow=58), [], {})
    data = json.loads(Page(tmp_path / "report.html").data)
    assert {record["step"] for record in data["features"]} == {2}
    assert max(record["columns"] for record in data["features"]) <= 101


def test_there_is_a_largest_size_and_the_report_says_so(sheet, tmp_path, monkeypatch):
    whole, n = tmp_path / "whole.html", len(sheet.detection.features)
    write_report(whole, sheet, [], {})
    largest = max(len(record["png"]) for record in json.loads(Page(whole).data)["features"])
    monkeypatch.setattr(report, "_MOST_BYTES", 4 * largest)
    write_report(tmp_path / "report.html", sheet, [], {})
    shown = json.loads(Page(tmp_path / "report.html").data)["features"]
    assert 3 < len(shown) < n
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert f"The {len(shown)} highest of {n} features" in text


@pytest.mark.slow
def test_size_with_500_features(tmp_path):
    """Sprites of noise are as large as any: a feature takes less than a hundredth of the room."""
    sheet = run((500, 600), double_hits=150, mm_dilation=0)
    folder = tmp_path / "report"
    folder.mkdir()
    figures = dict.fromkeys(write(sheet.detection, folder, Shelf.FIGURES), "")
    write_report(folder / "report.html", sheet, [], figures)
    records = json.loads(Page(folder / "report.html").data)["features"]
    assert len(records) > 100
    features = sum(len(json.dumps(record)) for record in records)
    rest = (folder / "report.html").stat().st_size - features
    assert rest + features / len(records) * 500 < 15e6


# ---------------------------------------------------------------------------------------------
# In a browser


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """Headless Chromium."""
    programs = [shutil.which(name) for name in ("chromium", "chromedriver")]
    if not all(programs):
        if os.environ.get("CI"):
            pytest.fail("chromium or chromedriver is missing, and in CI nothing is skipped")
        pytest.skip("there is no chromium or no chromedriver: the report is not opened")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = programs[0]
    for flag in FLAGS.split():
        options.add_argument(flag)
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('profile')}")
    options.add_argument("--window-size=1300,1000")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(programs[1]))
    yield driver
    driver.quit()


@pytest.fixture
def opened(browser, path, data):
    from selenium.webdriver.support.wait import WebDriverWait

    browser.get("about:blank")
    browser.get(path.as_uri())
    n = len(data["features"])
    WebDriverWait(browser, 30).until(lambda browser: len(find(browser, ".card")) == n)
    return browser


def find(browser, selector):
    return browser.find_elements("css selector", selector)


def one(browser, selector):
    (found,) = find(browser, selector)
    return found


def canvas_of(browser):
    """Pixels of the viewer's canvas, one for each of the image's, red only."""
    url = browser.execute_script("return document.getElementById('canvas').toDataURL()")
    with Image.open(io.BytesIO(base64.b64decode(url.split(",")[1]))) as image:
        return np.asarray(image.convert("RGB"))


@pytest.mark.browser
def test_opens_from_a_file_without_complaints(opened, data):
    assert opened.get_log("browser") == []
    assert len(find(opened, ".card")) == len(data["features"])
    assert all(
        opened.execute_script("return [...document.images].map(i => !i.src || i.naturalWidth > 0)")
    )


@pytest.mark.browser
@pytest.mark.parametrize("key", ["number", "size", "height", "class"])
def test_gallery_is_sorted(opened, data, key):
    one(opened, f"#sort option[value={key}]").click()
    shown = [int(card.text.split()[1]) for card in find(opened, ".card")]
    by_number = sorted(data["features"], key=lambda record: record["number"])
    keys = {
        "number": lambda record: record["number"],
        "size": lambda record: -record["size"],
        "height": lambda record: -record["height"],
        "class": lambda record: CLASSES.index(record["class"]),
    }
    assert shown == [record["number"] for record in sorted(by_number, key=keys[key])]


@pytest.mark.browser
def test_classes_are_chosen(opened, data):
    one(opened, "#classes input[value=any4]").click()
    shown = [card.text for card in find(opened, ".card")]
    assert len(shown) == sum(record["class"] != "any4" for record in data["features"])
    assert not any("any4" in text for text in shown)
    boxes = [label.text for label in find(opened, "#classes label")]
    for name, text in zip(CLASSES, boxes, strict=True):
        number = sum(record["class"] == name for record in data["features"])
        assert text == f"{data['classes'][name]}: {number}"


def open_first(browser):
    find(browser, ".card")[0].click()
    assert one(browser, "#viewer").is_displayed()


@pytest.mark.browser
def test_viewer_shows_each_image(opened, data):
    open_first(opened)
    record = min(data["features"], key=lambda record: record["number"])
    assert one(opened, "#caption").text == record["text"]
    tiles = pixels_of(record, data)
    zoom = canvas_of(opened).shape[1] // record["columns"]
    for i, name in enumerate(data["images"]):
        find(opened, "#images button")[i].click()
        assert one(opened, "#shown").text.startswith(name)
        drawn = canvas_of(opened)[zoom // 2 :: zoom, zoom // 2 :: zoom, 0][::-1]
        expected = tiles[i] * (255 / 249)
        assert np.abs(drawn - expected).max() <= 1


@pytest.mark.browser
def test_viewer_shows_codes_over_the_image(opened, sheet, data):
    open_first(opened)
    plain = canvas_of(opened)
    one(opened, "#overlay").click()
    marked = canvas_of(opened)
    record = min(data["features"], key=lambda record: record["number"])
    zoom = plain.shape[1] // record["columns"]
    changed = (plain != marked).any(axis=2)[zoom // 2 :: zoom, zoom // 2 :: zoom][::-1]
    rows = slice(record["bottom"] - 1, record["bottom"] - 1 + record["rows"])
    columns = slice(record["left"] - 1, record["left"] - 1 + record["columns"])
    assert_array_equal(changed, sheet.detection.codes[rows, columns] > 0)


@pytest.mark.browser
def test_keys_and_slider_move_through_images_and_features(opened, data):
    from selenium.webdriver.common.keys import Keys

    open_first(opened)
    body = one(opened, "#viewer")
    names = data["images"]
    start = names.index(one(opened, "#shown").text.split(":")[0])
    body.send_keys(Keys.ARROW_RIGHT)
    assert one(opened, "#shown").text.split(":")[0] == names[(start + 1) % len(names)]
    slider = one(opened, "#image")
    slider.send_keys(Keys.HOME)
    assert one(opened, "#shown").text.startswith("exposure 1")
    numbers = sorted(record["number"] for record in data["features"])
    one(opened, "#next").click()
    assert one(opened, "#caption").text.startswith(f"CR {numbers[1]}, ")
    one(opened, "#previous").click()
    one(opened, "#previous").click()  # there is none before the first
    assert one(opened, "#caption").text.startswith(f"CR {numbers[0]}, ")


@pytest.mark.browser
def test_blinks_between_median_and_corrected(opened):
    open_first(opened)
    one(opened, "#pace option[value='250']").click()
    one(opened, "#blink").click()
    seen = []
    until = time.monotonic() + 10
    while len(set(seen)) < 2 and time.monotonic() < until:
        seen.append(one(opened, "#shown").text)
        time.sleep(0.05)
    assert set(seen) == {"median2d", "mediancr (corrected)"}
    one(opened, "#blink").click()
    shown = one(opened, "#shown").text
    time.sleep(0.6)
    assert one(opened, "#shown").text == shown


@pytest.mark.browser
def test_pixel_under_the_mouse_is_named(opened, data):
    from selenium.webdriver import ActionChains

    open_first(opened)
    canvas = one(opened, "#canvas")
    record = min(data["features"], key=lambda record: record["number"])
    zoom = canvas.size["width"] / record["columns"]
    # 3 pixels from the left, 2 from below; offsets are from the middle, y downwards
    dx = 3.5 * zoom - canvas.size["width"] / 2
    dy = canvas.size["height"] / 2 - 2.5 * zoom
    ActionChains(opened).move_to_element_with_offset(canvas, round(dx), round(dy)).perform()
    assert one(opened, "#pixel").text == f"x {record['left'] + 3}, y {record['bottom'] + 2}"


@pytest.mark.browser
def test_figures_are_enlarged(opened):
    find(opened, ".figures img")[0].click()
    image = one(opened, "#figure img")
    assert image.is_displayed()
    assert image.size["width"] < 1300
    image.click()  # once more, for all its pixels
    assert image.size["width"] == image.get_property("naturalWidth") > 1300
    one(opened, "#figure button").click()
    assert not one(opened, "#figure").is_displayed()


@pytest.mark.browser
def test_screenshot_of_the_viewer(opened, tmp_path):
    open_first(opened)
    assert opened.save_screenshot(str(tmp_path / "viewer.png"))
    with Image.open(tmp_path / "viewer.png") as image:
        values = np.asarray(image.convert("L"))
    left, top = 200, 150
    assert values[top : top + 400, left : left + 400].std() > 20  # an image is drawn there
