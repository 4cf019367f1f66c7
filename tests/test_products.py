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

from crdetect import COMBINATIONS, Detection, Features, InputError, Masks, Noise, Parameters, Stack
from crdetect.combine import combine
from crdetect.equivalence.flux import FluxFactors
from crdetect.masks import CLASSES, Hits
from crdetect.pipeline import Evidence
from crdetect.products import (
    PATTERNS,
    apply_masks,
    combined_hdul,
    crmasks_hdul,
    features_csv,
    printable,
    read_crmasks,
    read_masks_file,
    write_combined,
    write_problematic,
    write_tables,
)
from crdetect.tables import read_parameters

QUICK = settings(max_examples=25, deadline=None, derandomize=True)
SHAPE = (6, 8)
CODES = np.array(
    [
        [4, 3, 0, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 3, 3, 0, 0],
        [0, 0, 0, 0, 0, 1, 0, 0],
        [0, 2, 0, 0, 0, 0, 0, 0],
        [0, 2, 1, 0, 0, 0, 2, 0],
        [0, 0, 0, 0, 0, 0, 3, 1],
    ],
    np.uint8,
)
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


def make_stack(n=3):
    return Stack(np.random.default_rng(n).normal(100, 5, (n, *SHAPE)).astype(np.float32))


def make_evidence(n=3):
    nothing = Hits(np.zeros(SHAPE, bool), np.zeros(SHAPE, bool))
    return Evidence(make_stack(n), nothing, (nothing,) * n)


def make_detection(parameters=None, n=3, factors=None):
    """What a run may give, without a run."""
    rng = np.random.default_rng(5)
    crmasks = rng.random((n, *SHAPE)) < 0.2
    meancr = rng.random(SHAPE) < 0.1
    masks = Masks(CODES > 0, crmasks.any(axis=0) | (CODES > 0), crmasks, meancr)
    statistics = make_stack(n).statistics()
    auxclean = statistics.median2d - 1
    flux = FluxFactors(factors or (1.0,) * n)
    return Detection(
        parameters or Parameters(),
        statistics,
        masks,
        CODES,
        auxclean,
        None,
        flux,
        make_evidence(n),
    )


@pytest.fixture
def header():
    header = fits.Header()
    header["OBJECT"] = "NGC 1"
    header["INSTRUME"] = "MEGARA"
    header["DATE-OBS"] = "2026-01-02T03:04:05"
    header["CTYPE1"], header["CRVAL1"], header["CDELT1"] = "WAVE", 5000.0, 0.25
    header["HIERARCH ESO DET GAIN"] = 1.5
    header["LONG"] = "x" * 200
    header.add_history("flat fielded")
    header.add_comment("a comment")
    return header


def through_a_file(hdul):
    content = io.BytesIO()
    hdul.writeto(content)
    content.seek(0)
    return fits.open(content)


def names_of(hdul):
    return [hdu.name for hdu in hdul]


# ---------------------------------------------------------------------------------------------
# crmasks.fits


@pytest.mark.parametrize("n", [3, 5])
def test_layout_of_crmasks(header, n):
    detection = make_detection(n=n)
    hdul = through_a_file(crmasks_hdul(detection, header, ["crdetect 1.0"]))
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
    primary = through_a_file(crmasks_hdul(make_detection(n=n), header, ["crdetect 1.0"]))[0].header
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
    primary = through_a_file(crmasks_hdul(make_detection(factors=factors), header, []))[0].header
    assert tuple(primary[f"FLUXF{i}"] for i in (1, 2, 3)) == factors


@pytest.mark.parametrize("applied_to", ["original", "simulated"])
def test_masks_with_flux_factors_divide_what_the_run_divided(header, applied_to):
    values = {"flux_factor": [0.5, 1.0, 2.0], "apply_flux_factor_to": applied_to}
    parameters = Parameters.from_mapping(values)
    detection = make_detection(parameters, factors=(0.5, 1.0, 2.0))
    stored = read_crmasks(through_a_file(crmasks_hdul(detection, header, [])))
    stack = make_stack()
    divisors = [0.5, 1.0, 2.0] if applied_to == "original" else [1.0, 1.0, 1.0]
    expected = stack.exposures / np.reshape(divisors, (3, 1, 1))
    combined = apply_masks(stored, stack, Noise(1.0, 2.0), use_auxmedian=False)
    np.testing.assert_allclose(combined["mean"].value, expected.mean(axis=0), rtol=1e-6)


@pytest.mark.parametrize("value", ["text", 0.0, -1.0, True])
def test_flux_factors_that_make_no_sense(header, value):
    hdul = crmasks_hdul(make_detection(), header, [])
    hdul[0].header["FLUXF2"] = value
    with pytest.raises(InputError, match="FLUXF1 to FLUXF3 must be numbers > 0"):
        read_crmasks(hdul)


def test_flux_factors_of_unknown_use_are_refused(header):
    hdul = crmasks_hdul(make_detection(factors=(0.8, 1.0, 1.2)), header, [])
    del hdul["PARAMS"]
    with pytest.raises(InputError, match="no table PARAMS to tell what was divided"):
        read_crmasks(hdul)


def test_each_file_has_its_own_identifier(header):
    detection = make_detection()
    one, other = (crmasks_hdul(detection, header, [])[0].header["UUID"] for _ in range(2))
    assert one != other


def test_date_of_exposures_without_one():
    primary = crmasks_hdul(make_detection(), fits.Header(), [])[0].header
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", primary["DATE-OBS"])
    assert "INSTRUME" not in primary


@QUICK
@given(parameter_sets)
def test_parameters_come_back_exactly(parameters):
    hdul = through_a_file(crmasks_hdul(make_detection(parameters), fits.Header(), []))
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
    hdul = through_a_file(crmasks_hdul(make_detection(parameters), header, []))
    assert names_of(hdul)[-3:] == ["AUXCLEAN", "RPMEDIAN", "PARAMS"]
    assert hdul["RPMEDIAN"].columns.names == ["X_pixel", "Y_pixel", "X_width", "Y_width"]
    assert [[int(value) for value in row] for row in hdul["RPMEDIAN"].data] == asked


@QUICK
@given(st.integers(3, 5), st.integers(0, 2**32))
def test_masks_come_back(n, seed):
    rng = np.random.default_rng(seed)
    masks = Masks(*(rng.random(shape) < 0.3 for shape in (SHAPE, SHAPE, (n, *SHAPE), SHAPE)))
    made = make_detection(n=n)
    detection = replace(made, masks=masks)
    hdul = crmasks_hdul(detection, fits.Header(), [])
    stored = read_crmasks(through_a_file(hdul))
    for name in ("mediancr", "meancrt", "crmasks", "meancr"):
        read = getattr(stored.masks, name)
        assert read.dtype == bool
        np.testing.assert_array_equal(read, getattr(masks, name))
    np.testing.assert_array_equal(stored.auxclean, detection.auxclean)
    assert stored.auxclean.dtype == np.float32
    assert stored.uuid == hdul[0].header["UUID"]


def test_masks_of_another_program(tmp_path):
    """Any non-zero pixel is masked; there may be no AUXCLEAN, no PARAMS, no UUID."""
    path = tmp_path / "masks.fits"
    mask = (CODES > 0) * 2
    names = ["MEDIANCR", "MEANCRT", "CRMASK1", "CRMASK2", "CRMASK3", "MEANCR"]
    images = [fits.ImageHDU(mask.astype(np.int16), name=name) for name in names]
    fits.HDUList([fits.PrimaryHDU(), *images]).writeto(path)
    stored = read_masks_file(path)
    read = stored.masks
    for found in (read.mediancr, read.meancrt, read.meancr, *read.crmasks):
        np.testing.assert_array_equal(found, CODES > 0)
    assert stored.auxclean is None
    assert stored.parameters == Parameters()
    assert (stored.local_medians, stored.uuid) == ((), "unknown")


@pytest.mark.parametrize("missing", ["MEDIANCR", "MEANCRT", "MEANCR", "CRMASK1"])
def test_file_without_a_mask(tmp_path, missing):
    hdul = crmasks_hdul(make_detection(), fits.Header(), [])
    del hdul[missing]
    hdul.writeto(tmp_path / "masks.fits")
    with pytest.raises(InputError, match=rf"masks.fits is not a crmasks file.*{missing}"):
        read_masks_file(tmp_path / "masks.fits")


@pytest.mark.parametrize("content", [None, b"", b"text" * 1000])
def test_file_that_is_no_fits(tmp_path, content):
    path = tmp_path / "masks.fits"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"masks\.fits"):
        read_masks_file(path)


@pytest.mark.parametrize("use_auxmedian", [False, True])
@pytest.mark.parametrize("coincidences", [2, 3])
def test_stored_masks_combine_as_the_detection_does(use_auxmedian, coincidences):
    parameters = Parameters.from_mapping(
        {
            "use_auxmedian": use_auxmedian,
            "mm_cr_coincidences": coincidences,
            "pixels_to_be_replaced_by_local_median": [[3, 4, 3, 3]],
        }
    )
    stack, noise, made = make_stack(5), Noise(1.5, 2.0), make_detection(parameters, 5)
    detection = replace(made, statistics=stack.statistics(coincidences))
    stored = read_crmasks(through_a_file(crmasks_hdul(detection, fits.Header(), [])))
    combined = apply_masks(stored, stack, noise, use_auxmedian)
    for name, expected in detection.combine(stack, noise).items():
        np.testing.assert_array_equal(combined[name].value, expected.value)
        np.testing.assert_array_equal(combined[name].variance, expected.variance)
        np.testing.assert_array_equal(combined[name].count, expected.count)


def test_files_share_no_array_with_the_run():
    stack, noise, detection = make_stack(3), Noise(1.5, 2.0), make_detection(Parameters(), 3)
    combined = detection.combine(stack, noise)
    hduls = [combined_hdul(c, fits.Header(), []) for c in combined.values()]
    hduls.append(crmasks_hdul(detection, fits.Header(), []))
    images = [hdu.data for hdul in hduls for hdu in hdul if hdu.is_image and hdu.data is not None]
    several = [image for image in images if image.itemsize > 1]  # astropy turns bytes in place
    held = [plane for c in combined.values() for plane in c.planes]
    held += [detection.auxclean, stack.exposures]
    assert len(several) == 3 * len(combined) + 1
    assert not any(np.shares_memory(a, b) for a in several for b in held)


def test_masks_for_other_exposures(tmp_path):
    path = tmp_path / "masks.fits"
    crmasks_hdul(make_detection(n=3), fits.Header(), []).writeto(path)
    with pytest.raises(InputError, match="masks are for 3 exposures"):
        apply_masks(read_masks_file(path), make_stack(4), Noise(1.0, 1.0), use_auxmedian=False)


def test_auxmedian_of_masks_without_one(tmp_path):
    hdul = crmasks_hdul(make_detection(), fits.Header(), [])
    del hdul["AUXCLEAN"]
    hdul.writeto(tmp_path / "masks.fits")
    stored = read_masks_file(tmp_path / "masks.fits")
    with pytest.raises(InputError, match="AUXCLEAN"):
        apply_masks(stored, make_stack(), Noise(1.0, 1.0), use_auxmedian=True)


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


def test_files_of_combined_images(combined, header, tmp_path):
    write_combined(combined, header, [], tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        f"combined_{name}.fits" for name in COMBINATIONS
    }
    for name in COMBINATIONS:
        data = fits.getdata(tmp_path / f"combined_{name}.fits")
        np.testing.assert_array_equal(data, combined[name].value)


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


def test_tables_share_the_numbers_of_features(tmp_path):
    write_tables(Features.of(CODES), tmp_path)
    numbers = set()
    for name in CLASSES:
        text = (tmp_path / f"mediancr_identified_{name}.csv").read_text()
        found = {int(row["CR_number"]) for row in csv.DictReader(io.StringIO(text))}
        assert not numbers & found
        numbers |= found
    assert numbers == {1, 2, 3, 4}


def test_table_of_pixels_masked_in_all_exposures(tmp_path):
    made = make_detection()
    crmasks = np.random.default_rng(3).random((3, *SHAPE)) < 0.8
    made = replace(made, masks=replace(made.masks, crmasks=crmasks))
    write_problematic(made.problematic, tmp_path)
    text = (tmp_path / "problematic_pixels.csv").read_text()
    rows = [[int(value) for value in row.values()] for row in csv.DictReader(io.StringIO(text))]
    y, x = np.nonzero(crmasks.all(axis=0))
    expected = sorted(zip(x + 1, y + 1, CODES[y, x], strict=True))
    assert len(expected) > 10
    assert sorted(tuple(row[1:]) for row in rows) == expected
    assert rows == sorted(rows, key=lambda row: row[0])


def test_tables_without_features(tmp_path):
    write_tables(Features.of(np.zeros(SHAPE, np.uint8)), tmp_path)
    files = sorted(tmp_path.iterdir())
    assert len(files) == len(CLASSES)
    assert {file.read_text() for file in files} == {"CR_number,X_pixel,Y_pixel,Mask_value\n"}


def test_patterns_hold_every_product():
    names = [f"combined_{name}.fits" for name in COMBINATIONS]
    names += [f"mediancr_identified_{name}.csv" for name in CLASSES]
    assert {"crmasks.fits", *names} <= set(PATTERNS)
