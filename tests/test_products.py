import csv
import io
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st
from made import CODES, SHAPE, make_detection, make_stack, rich_header, through_a_file

from crdetect import Features, Noise, Parameters
from crdetect.combine import combine
from crdetect.masks import CLASSES
from crdetect.products import combined_hdul, crmasks_hdul, features_csv, printable, problematic_csv
from crdetect.stored import read_crmasks
from crdetect.tables import read_parameters
from crdetect.verdict import Quality

QUICK = settings(max_examples=25, deadline=None, derandomize=True)
IN_CLASSES = {"any4": 2, "only3": 3, "only2": 3, "other": 3}  # pixels


# ---------------------------------------------------------------------------------------------
# Parameters of every kind

positive = st.floats(1e-9, 1e9)
numbers = st.floats(-1e9, 1e9)
probability = st.floats(0, 1)
whole = st.integers(1, 301)
x_px, y_px = st.integers(1, SHAPE[1]), st.integers(1, SHAPE[0])


def pair(elements):
    return elements | st.tuples(elements, elements)


def some(elements):
    return st.none() | st.lists(elements, max_size=4)


def limits(coordinate):
    return st.tuples(coordinate, coordinate).map(sorted)


regions = st.tuples(limits(x_px), limits(y_px)).map(lambda ranges: [*ranges[0], *ranges[1]])
heights = st.floats(0, 1e9)
fixed_points = st.tuples(numbers, heights) | st.tuples(numbers, heights, positive)
STRATEGIES = {
    "crmethod": st.sampled_from(["lacosmic", "pycosmic", "mmcosmic", "mm_lacosmic", "mm_pycosmic"]),
    "use_auxmedian": st.booleans(),
    "dilation": st.integers(0, 9),
    "regions_to_be_skipped": some(regions),
    "pixels_to_be_flagged_as_cr": some(st.tuples(x_px, st.just(1))),
    "pixels_to_be_ignored_as_cr": some(st.tuples(x_px, st.just(2))),
    "pixels_to_be_replaced_by_local_median": some(st.tuples(x_px, y_px, whole, whole)),
    "color_scale": st.sampled_from(["zscale", "minmax"]),
    "la_sigclip": pair(positive),
    "la_sigfrac": pair(positive),
    "la_satlevel": positive,
    "la_psfsize": st.integers(0, 50).map(lambda half: 2 * half + 1),
    "la_fsmode": st.sampled_from(["median", "convolve"]),
    "pc_rlim": pair(positive),
    "pc_iterations": whole,
    "pc_replace_error": positive,
    "dc_threshold": pair(probability),
    "nn_threshold": pair(probability),
    "mm_hist2d_min_neighbors": st.integers(0, 8),
    "mm_ydiag_max": st.floats(0, 1e9),
    "mm_fixed_points_in_boundary": st.none()
    | st.lists(fixed_points, max_size=4, unique_by=lambda point: point[0]),
    "mm_minimum_max2d_rnoise": st.floats(0, 1e9),
    "mm_seed": st.none() | st.integers(0, 2**80),
}
thresholds = st.one_of(
    st.fixed_dictionaries({"mm_threshold": st.none() | st.floats(0, 1e9)}),
    st.fixed_dictionaries({"mm_threshold_rnoise": st.none() | st.floats(0, 1e9)}),
)
parameter_sets = st.builds(
    lambda some, threshold: Parameters.from_mapping(some | threshold),
    st.fixed_dictionaries({}, optional=STRATEGIES),
    thresholds,
)


# ---------------------------------------------------------------------------------------------
# Results to be written


@pytest.fixture
def header():
    return rich_header()


def names_of(hdul):
    return [hdu.name for hdu in hdul]


# ---------------------------------------------------------------------------------------------
# crmasks.fits


@pytest.mark.parametrize("n", [3, 5])
def test_layout_of_crmasks(header, n):
    detection = make_detection(n=n)
    hdul = through_a_file(crmasks_hdul(detection, Quality(), header, ["crdetect 1.0"]))
    crmasks = [f"CRMASK{i}" for i in range(1, n + 1)]
    masks = ["MEDIANCR", "MEANCRT", *crmasks, "MEANCR"]
    assert names_of(hdul) == ["PRIMARY", *masks, "AUXCLEAN", "PARAMS"]
    assert hdul[0].data is None
    expected = [detection.masks.mediancr, detection.masks.meancrt, *detection.masks.crmasks]
    for name, mask in zip(masks, [*expected, detection.masks.meancr], strict=True):
        assert hdul[name].header["BITPIX"] == 8
        assert "BZERO" not in hdul[name].header
        assert hdul[name].data.dtype == np.uint8
        np.testing.assert_array_equal(hdul[name].data, np.where(mask, 1, 0))
        assert hdul[name].header["NPMASKED"] == mask.sum()
    assert hdul["AUXCLEAN"].header["BITPIX"] == -32
    np.testing.assert_array_equal(hdul["AUXCLEAN"].data, detection.auxclean)


@pytest.mark.parametrize("n", [3, 4])
def test_primary_header_of_crmasks(header, n):
    primary = through_a_file(
        crmasks_hdul(make_detection(n=n), Quality(), header, ["crdetect 1.0"])
    )[0].header
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", primary["UUID"])
    assert [primary[f"FLUXF{i}"] for i in range(1, n + 1)] == [1.0] * n
    assert f"FLUXF{n + 1}" not in primary
    assert primary["DATE-OBS"] == "2026-01-02T03:04:05"
    assert (primary["INSTRUME"], primary["OBJECT"]) == ("MEGARA", "NGC 1")
    history = "".join(primary["HISTORY"])
    assert history.startswith("crdetect 1.0")
    for line in Parameters().history():
        assert line in history


def test_flux_factors_are_in_the_primary_header(header):
    factors = (0.8, 1.0, 1.25)
    primary = through_a_file(crmasks_hdul(make_detection(factors=factors), Quality(), header, []))[
        0
    ].header
    assert tuple(primary[f"FLUXF{i}"] for i in (1, 2, 3)) == factors


def test_each_file_has_its_own_identifier(header):
    detection = make_detection()
    one, other = (
        crmasks_hdul(detection, Quality(), header, [])[0].header["UUID"] for _ in range(2)
    )
    assert one != other


def test_date_of_exposures_without_one():
    primary = crmasks_hdul(make_detection(), Quality(), fits.Header(), [])[0].header
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", primary["DATE-OBS"])
    assert "INSTRUME" not in primary


@QUICK
@given(parameter_sets)
def test_parameters_come_back_exactly(parameters):
    hdul = through_a_file(crmasks_hdul(make_detection(parameters), Quality(), fits.Header(), []))
    assert read_parameters(hdul) == parameters
    assert names_of(hdul)[-1] == "PARAMS"
    table = hdul["PARAMS"].data
    rows = zip(table["NAME"], table["VALUE"], strict=True)
    assert {str(name): json.loads(str(text)) for name, text in rows} == parameters.to_mapping()
    replaced = parameters.general.pixels_to_be_replaced_by_local_median
    assert read_crmasks(hdul).local_medians == (replaced or ())
    assert ("RPMEDIAN" in hdul) == bool(replaced)


def test_table_of_local_medians(header):
    asked = [[3, 4, 5, 7], [1, 1, 3, 3]]
    parameters = Parameters.from_mapping({"pixels_to_be_replaced_by_local_median": asked})
    hdul = through_a_file(crmasks_hdul(make_detection(parameters), Quality(), header, []))
    assert names_of(hdul)[-3:] == ["AUXCLEAN", "RPMEDIAN", "PARAMS"]
    assert hdul["RPMEDIAN"].columns.names == ["X_pixel", "Y_pixel", "X_width", "Y_width"]
    assert [[int(value) for value in row] for row in hdul["RPMEDIAN"].data] == asked


def test_files_share_no_array_with_the_run():
    detection = make_detection(Parameters(), 3)
    stack, combined = detection.observation.stack, detection.combine()
    hduls = [combined_hdul(c, fits.Header(), []) for c in combined.values()]
    hduls.append(crmasks_hdul(detection, Quality(), fits.Header(), []))
    images = [hdu.data for hdul in hduls for hdu in hdul if hdu.is_image and hdu.data is not None]
    several = [image for image in images if image.itemsize > 1]  # astropy turns bytes in place
    held = [plane for c in combined.values() for plane in c.planes]
    held += [detection.auxclean, stack.exposures]
    assert len(several) == 3 * len(combined) + 1
    assert not any(np.shares_memory(a, b) for a in several for b in held)


# ---------------------------------------------------------------------------------------------
# Combined images


@pytest.fixture
def combined():
    stack, detection = make_stack(), make_detection()
    return combine(stack, detection.statistics, detection.masks, Noise(1.5, 2.0))


def test_layout_of_combined_images(combined, header):
    hdul = through_a_file(combined_hdul(combined["meancr"], header, ["crdetect 1.0"]))
    assert names_of(hdul) == ["PRIMARY", "VARIANCE", "MAP"]
    assert [hdu.header["BITPIX"] for hdu in hdul] == [-32, -32, 16]
    for hdu, name in zip(hdul, ("value", "variance", "count"), strict=True):
        np.testing.assert_array_equal(hdu.data, getattr(combined["meancr"], name))


def test_header_of_the_exposure_is_kept(combined, header):
    before = header.copy()
    history = ["crdetect 1.0", "a line much longer than a card " * 6]
    written = through_a_file(combined_hdul(combined["mean"], header, history))[0].header
    for key in header:
        if key not in ("HISTORY", "COMMENT"):
            assert written[key] == header[key]
    assert list(written["COMMENT"]) == ["a comment"]
    assert list(written["HISTORY"])[:2] == ["flat fielded", "crdetect 1.0"]
    assert "".join(list(written["HISTORY"])[2:]).replace(" ", "") == history[1].replace(" ", "")
    assert header == before


@pytest.mark.parametrize("line", ["M.M.–Cosmic ≥ 3 σ", "plain", "año_2026.fits"])
def test_lines_fit_for_a_header(line):
    text = printable(line)
    assert text.isascii()
    card = fits.Header()
    card.add_history(text)
    assert list(card["HISTORY"]) == [text]


# ---------------------------------------------------------------------------------------------
# Tables


@pytest.mark.parametrize("name", CLASSES)
def test_csv_of_a_class(name):
    rows = list(csv.reader(io.StringIO(features_csv(Features.of(CODES), name))))
    assert rows[0] == ["CR_number", "X_pixel", "Y_pixel", "Mask_value"]
    pixels = [tuple(map(int, row)) for row in rows[1:]]
    assert len(pixels) == IN_CLASSES[name]
    assert all(CODES[y - 1, x - 1] == code for _, x, y, code in pixels)
    assert len({number for number, *_ in pixels}) == 1


def test_tables_share_the_numbers_of_features():
    numbers = set()
    for name in CLASSES:
        text = features_csv(Features.of(CODES), name)
        found = {int(row["CR_number"]) for row in csv.DictReader(io.StringIO(text))}
        assert not numbers & found
        numbers |= found
    assert numbers == {1, 2, 3, 4}


def test_table_of_pixels_masked_in_all_exposures():
    made = make_detection()
    crmasks = np.random.default_rng(3).random((3, *SHAPE)) < 0.8
    made = replace(made, masks=replace(made.masks, crmasks=crmasks))
    text = problematic_csv(made.problematic)
    rows = [[int(value) for value in row.values()] for row in csv.DictReader(io.StringIO(text))]
    y, x = np.nonzero(crmasks.all(axis=0))
    expected = sorted(zip(x + 1, y + 1, CODES[y, x], strict=True))
    assert len(expected) > 10
    assert sorted(tuple(row[1:]) for row in rows) == expected
    assert rows == sorted(rows, key=lambda row: row[0])


def test_tables_without_features():
    nothing = Features.of(np.zeros(SHAPE, np.uint8))
    texts = {features_csv(nothing, name) for name in CLASSES} | {problematic_csv(nothing)}
    assert texts == {"CR_number,X_pixel,Y_pixel,Mask_value\n"}
