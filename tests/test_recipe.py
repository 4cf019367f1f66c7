"""The recipes, as numina runs them."""

import json
import os
import subprocess

import numpy as np
import pytest
from astropy.io import fits
from runs import (
    COMBINED,
    DOUBLE,
    FRAMES,
    GAIN,
    NUMINA,
    PROFILE,
    RDNOISE_E,
    SINGLE,
    block,
    control_file,
    numina,
    run_once,
    write_exposures,
)

import crdetect
from crdetect.exposures import read_exposures
from crdetect.loader import load_drp
from crdetect.parameters import BLOCKS, Inputs
from crdetect.products import crmasks_hdul
from crdetect.profiles import ObservingBlockInputs
from crdetect.recipe import CrCombinationRecipe, CrDetectionRecipe, Default, described_inputs
from crdetect.schema.words import describe_block, yaml_value

pytestmark = pytest.mark.subprocess


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exposures") / "data"
    write_exposures(folder, GAIN=GAIN, RDNOISE=RDNOISE_E)
    return folder


@pytest.fixture
def folder(tmp_path, data):
    (tmp_path / "data").symlink_to(data)
    return tmp_path


@pytest.fixture(scope="session")
def sequence(filled_once, data):
    """Both modes: the second block takes the masks of the first by path."""
    return run_once(filled_once, "both_modes", lambda folder: run_both_modes(folder, data))


def run_both_modes(folder, data):
    (folder / "data").symlink_to(data)
    return numina(
        folder,
        block(number="1", pixels_to_be_replaced_by_local_median=[[50, 31, 5, 5]]),
        block("CrCombination", "2", crmasks="../obsid1_results/crmasks.fits"),
        block("CrCombination", "3", crmasks="../obsid1_results/crmasks.fits", use_auxmedian=True),
    )


# ---------------------------------------------------------------------------------------------
# Detection


def test_detection_succeeds(sequence):
    assert sequence.code == 0, sequence.text
    assert sequence.errors == []


def test_results_are_the_masks_and_the_combined_images(sequence):
    files = {path.name for path in sequence.results().iterdir()}
    assert files == {"crmasks.fits", *COMBINED, "result.json", "task.json", "processing.log"}
    values = sequence.values()
    assert values["crmasks"] == "crmasks.fits"
    assert {values[name.removesuffix(".fits")] for name in COMBINED} == set(COMBINED)


def test_double_hits_are_in_mediancr_and_single_ones_in_their_mask(sequence):
    with sequence.open("crmasks.fits") as hdul:
        mediancr, meancrt = hdul["MEDIANCR"].data, hdul["MEANCRT"].data
        assert all(mediancr[pixel] == 1 for pixel in DOUBLE)
        assert all(mediancr[pixel] == 0 for pixel in SINGLE)
        assert all(meancrt[pixel] == 1 for pixel in [*DOUBLE, *SINGLE])
        for i, pixel in enumerate(SINGLE, start=1):
            assert [hdul[f"CRMASK{k}"].data[pixel] for k in (1, 2, 3)] == [
                int(k == i) for k in (1, 2, 3)
            ]
        assert all(hdul["CRMASK3"].data[pixel] == 0 for pixel in DOUBLE)


def test_combined_images_are_clean(sequence):
    with sequence.open("combined_median.fits") as hdul:
        assert all(hdul[0].data[pixel] > 1500 for pixel in DOUBLE)
    with sequence.open("combined_meancr2.fits") as hdul:
        assert all(hdul[0].data[pixel] < 400 for pixel in [*DOUBLE, *SINGLE])
        assert hdul[0].header["OBJECT"] == "field"
        assert hdul[0].header["NUMRNAM"] == "CrDetectionRecipe"
        assert "VARIANCE" in hdul
        assert hdul["MAP"].data[SINGLE[0]] == 2


def test_summary_tells_what_the_masks_hold(sequence):
    summary = sequence.values()["summary"]
    with sequence.open("crmasks.fits") as hdul:
        assert summary["masks_uuid"] == hdul[0].header["UUID"]
        for name in ("MEDIANCR", "MEANCRT", "CRMASK1", "CRMASK2", "CRMASK3", "MEANCR"):
            assert summary["masked_pixels"][name] == hdul[name].data.sum()
    assert summary["masked_pixels"]["MEDIANCR"] >= len(DOUBLE)
    assert sum(summary["features"].values()) >= 2
    assert summary["used"] == {"mm_seed": "123456"}
    assert summary["gain"]["value"] == GAIN
    assert summary["rnoise"]["value"] == RDNOISE_E / GAIN
    assert summary["gain"]["from"].startswith("key GAIN of the header, by the instrument profile")
    assert summary["bias"] == {"value": 0.0, "from": "default"}
    assert [exposure["name"] for exposure in summary["exposures"]] == FRAMES


def test_tables_and_figures_are_in_the_work_folder(sequence):
    work = sequence.folder / "obsid1_work"
    names = {path.name for path in work.iterdir()}
    tables = {f"mediancr_identified_{name}.csv" for name in ("any4", "only3", "only2", "other")}
    figures = {"diagnostic_histogram2d.png", "diagnostic_mediancr.png", "diagnostic_meancr.png"}
    figures |= {f"diagnostic_crmask{i}.png" for i in (1, 2, 3)}
    figures |= {"problematic_pixels.csv", "report.html", "params_used.yaml"}
    assert names >= tables | figures | set(FRAMES)
    rows = [line for name in tables for line in (work / name).read_text().splitlines()[1:]]
    positions = {tuple(int(number) for number in row.split(",")[1:3]) for row in rows}
    assert {(column + 1, row + 1) for row, column in DOUBLE} <= positions


@pytest.mark.parametrize("crmethod", ["mm_deepcr", "conn"])
def test_detection_with_a_network(folder, crmethod):
    run = numina(folder, block(crmethod=crmethod, device="cpu"))
    assert run.code == 0, run.text
    assert run.errors == []
    assert run.parameters()["crmethod"] == crmethod
    assert run.parameters()["device"] == "cpu"
    with run.open("crmasks.fits") as hdul:
        assert hdul["MEANCRT"].data[DOUBLE[1]] == 1


def test_a_network_that_is_not_installed(folder, monkeypatch, tmp_path_factory):
    site = tmp_path_factory.mktemp("site")
    (site / "sitecustomize.py").write_text("import sys; sys.modules['deepCR'] = None")
    monkeypatch.setenv("PYTHONPATH", str(site))
    run = numina(folder, block(crmethod="mm_deepcr"))
    assert run.code == 1
    assert len(run.errors) == 1, run.text
    assert 'pip install "crdetect[deep]"' in run.errors[0]
    assert "Traceback" not in run.text


def test_nothing_is_left_elsewhere(sequence):
    expected = {f"obsid{n}_{kind}" for n in "123" for kind in ("work", "results")}
    assert {path.name for path in sequence.folder.iterdir()} == expected | {"data", "obs.yaml"}
    assert {path.name for path in (sequence.folder / "data").iterdir()} == set(FRAMES)


def test_log_holds_our_messages_and_the_console_no_debug(sequence):
    log = (sequence.results() / "processing.log").read_text()
    assert "crdetect.detectors.each_image - INFO" in log
    assert "numina.recipes.crdetect - INFO - gain = 1.5 (from key GAIN" in log
    assert " - DEBUG - " in log
    assert "DEBUG" not in sequence.text
    assert "INFO: median2d: " in sequence.text


def test_figures_of_an_earlier_run_do_not_stay(folder):
    work = folder / "obsid1_work"
    work.mkdir()
    for name in ("diagnostic_histogram2d.png", "diagnostic_mediancr.png", "notes.png"):
        (work / name).write_text("old")
    run = numina(folder, block(crmethod="pycosmic"))
    assert run.code == 0, run.text
    assert not (work / "diagnostic_histogram2d.png").exists()
    assert (work / "diagnostic_mediancr.png").read_bytes() != b"old"
    assert (work / "notes.png").read_text() == "old"


# ---------------------------------------------------------------------------------------------
# Combination


def test_masks_by_path_give_the_images_of_the_detection(sequence):
    for name in COMBINED:
        with sequence.open(name, "1") as first, sequence.open(name, "2") as second:
            for extension in (0, "VARIANCE", "MAP"):
                np.testing.assert_array_equal(first[extension].data, second[extension].data)
    assert (
        sequence.values("2")["summary"]["masks_uuid"] == sequence.values()["summary"]["masks_uuid"]
    )


def test_use_auxmedian_of_the_block_overrides_that_of_the_masks(sequence):
    assert sequence.values("2")["summary"]["use_auxmedian"] is False
    assert sequence.values("3")["summary"]["use_auxmedian"] is True
    with (
        sequence.open("crmasks.fits") as masks,
        sequence.open("combined_mediancr.fits", "3") as combined,
    ):
        hit = masks["MEDIANCR"].data == 1
        hit[30, 49] = False  # replaced by a local median
        np.testing.assert_array_equal(combined[0].data[hit], masks["AUXCLEAN"].data[hit])


def test_masks_are_found_by_type_with_db(folder):
    options = ("--db", "products.db")
    assert numina(folder, block(number="1", crmethod="mmcosmic"), options=options).code == 0
    run = numina(folder, block("CrCombination", "2"), options=options)
    assert run.code == 0, run.text
    with fits.open(folder / "obsid1_1_results" / "crmasks.fits") as hdul:
        identifier = hdul[0].header["UUID"]
    result = json.loads((folder / "obsid2_2_results" / "result.json").read_text())
    assert result["values"]["summary"]["masks_uuid"] == identifier
    for name in COMBINED:
        with (
            fits.open(folder / "obsid1_1_results" / name) as first,
            fits.open(folder / "obsid2_2_results" / name) as second,
        ):
            np.testing.assert_array_equal(first[0].data, second[0].data)


def test_masks_are_found_in_the_control_file(sequence, folder):
    masks = str(sequence.results() / "crmasks.fits")
    products = [{"id": 1, "type": "CrMasks", "tags": {}, "content": masks}]
    control = {"version": 1, "products": {"CRDETECT": {PROFILE: products}}}
    run = numina(folder, block("CrCombination"), control=control)
    assert run.code == 0, run.text
    assert run.values()["summary"]["masks_uuid"] == sequence.values()["summary"]["masks_uuid"]


# ---------------------------------------------------------------------------------------------
# Where values come from


def test_precedence_is_command_line_then_block_then_control_file(folder):
    run = numina(
        folder,
        block(
            mm_threshold=25,
            mm_nsimulations=3,
            gain="none",
            **{"pixels_to_be-flagged_as_cr": [3, 4]},
        ),
        control=control_file(
            crmethod="mmcosmic", mm_threshold=20, mm_nsimulations=2, mm_seed="none", rnoise=2.5
        ),
        options=("--parameter-mm_nsimulations=4",),
    )
    assert run.code == 0, run.text
    parameters = run.parameters()
    assert parameters["mm_nsimulations"] == 4
    assert parameters["mm_threshold"] == 25
    assert parameters["mm_threshold_rnoise"] is None
    assert parameters["crmethod"] == "mmcosmic"
    assert parameters["mm_seed"] is None
    assert parameters["pixels_to_be_flagged_as_cr"] == [[3, 4]]
    assert parameters["mm_dilation"] == 1
    assert run.values()["summary"]["rnoise"] == {"value": 2.5, "from": "requirement rnoise"}


def test_any_headers_will_do(tmp_path):
    keys = {"INSTRUME": "OTHER", "INSCONF": "x", "DATE-OBS": "12/05/99", "GAIN": "HIGH"}
    write_exposures(tmp_path / "data", primary=False, **keys)
    fits.writeto(tmp_path / "data" / "gain.fits", np.full((60, 80), GAIN, np.float32))
    requirements = {"extnum": "SCI", "gain": "gain.fits", "rnoise": 2.0}
    run = numina(tmp_path, block(**requirements, crmethod="lacosmic", la_fsmode="median"))
    assert run.code == 0, run.text
    assert run.values()["summary"]["gain"] == {"value": None, "from": "requirement gain"}
    with run.open("crmasks.fits") as hdul:
        assert all(hdul["MEDIANCR"].data[pixel] == 1 for pixel in DOUBLE)


# ---------------------------------------------------------------------------------------------
# Bad input: one line, exit 1, no product

BAD = {
    "unknown name": (
        [block(mm_treshold=20)],
        "mm_treshold is not a parameter; did you mean mm_threshold?",
    ),
    "unknown name of an input": ([block(gian=2)], "gian is not a parameter; did you mean gain?"),
    "wrong value": ([block(dilation=-1)], "dilation must be an integer from 0 to 1000, not -1"),
    "wrong gain": ([block(gain=-2)], "gain must be a number > 0 or the name of a FITS file"),
    "missing map": ([block(gain="map.fits")], "gain: no file map.fits"),
    "contradiction": (
        [block(mm_threshold=5, mm_threshold_rnoise=3)],
        "mm_threshold and mm_threshold_rnoise exclude each other",
    ),
    "too many coincidences": ([block(mm_cr_coincidences=3)], "mm_cr_coincidences must be"),
    "region outside": ([block(regions_to_be_skipped=[1, 500, 1, 9])], "not inside the image"),
    "no such extension": ([block(extnum="SCI")], "exposure_1.fits has no extension SCI"),
    "two frames": ([block(frames=FRAMES[:2])], "frames must be three or more equivalent expos"),
    "no frames": ([block(frames=[])], "frames must be three or more equivalent exposures, not 0"),
    "frame twice": ([block(frames=[*FRAMES[:2], FRAMES[0]])], "exposure_1.fits is given twice"),
    "missing file": ([block(frames=["nothing.fits", *FRAMES])], "no file nothing.fits"),
    "missing second file": ([block(frames=[FRAMES[0], "nothing.fits", FRAMES[1]])], "nothing.fits"),
    "not FITS": ([block(frames=["text.fits", *FRAMES])], "text.fits cannot be read as FITS"),
    "second not FITS": ([block(frames=[FRAMES[0], "text.fits", FRAMES[1]])], "text.fits cannot be"),
    "unequal shapes": ([block(frames=[*FRAMES[:2], "small.fits"])], "small.fits has shape (20, 3"),
    "no masks": ([block("CrCombination")], "crmasks is missing"),
    "missing masks": (
        [block("CrCombination", crmasks="nothing.fits")],
        "crmasks: no file nothing.f",
    ),
    "masks that are not masks": (
        [block("CrCombination", crmasks="exposure_1.fits")],
        "exposure_1.fits is not a crmasks file",
    ),
    "masks in another order": (
        [block("CrCombination", frames=FRAMES[::-1], crmasks="masks.fits")],
        "crmasks: the exposures are in another order than the masks, made of exposure_1.fits (ima",
    ),
    "masks of another exposure": (
        [block("CrCombination", frames=[*FRAMES[:2], "other.fits"], crmasks="masks.fits")],
        "crmasks: the masks were not made of other.fits (image",
    ),
    "wrong force": (
        [block("CrCombination", crmasks="masks.fits", force="perhaps")],
        'force must be true or false, not "perhaps"',
    ),
    "parameter of the other mode": (
        [block("CrCombination", crmasks="exposure_1.fits", dilation=1)],
        "dilation is not a parameter",
    ),
}


@pytest.fixture(scope="session")
def extras(tmp_path_factory, data):
    """Masks of the exposures, and files that do not go with them."""
    folder = tmp_path_factory.mktemp("extras")
    (folder / "text.fits").write_text("this is no image")
    fits.writeto(folder / "small.fits", np.ones((20, 30), np.float32))
    with fits.open(data / FRAMES[2]) as hdul:
        hdul[0].data += 1
        hdul.writeto(folder / "other.fits")
    exposures = read_exposures(Inputs(images=FRAMES, gain=GAIN, rnoise=RDNOISE_E / GAIN), data)
    parameters = crdetect.Parameters.from_mapping({"crmethod": "mmcosmic"})
    detection = crdetect.detect(exposures.stack, exposures.noise, parameters)
    masks = crmasks_hdul(detection, detection.quality, exposures.header, [], exposures.identities)
    masks.writeto(folder / "masks.fits")
    return folder


def with_data(folder, *sources):
    """Link all files of some folders into ``data`` in a folder."""
    (folder / "data").mkdir()
    for file in (file for source in sources for file in source.iterdir()):
        (folder / "data" / file.name).symlink_to(file)
    return folder


@pytest.fixture
def more_data(tmp_path, data, extras):
    return with_data(tmp_path, data, extras)


def assert_one_line(run, message):
    assert run.code == 1, run.text
    assert len(run.errors) == 1, run.text
    assert message in run.errors[0]
    assert run.errors[0].startswith("ERROR: block ")
    assert "Traceback" not in run.text
    assert list(run.folder.glob("*/crmasks.fits")) == []
    assert list(run.folder.glob("*/combined_*.fits")) == []


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line(case, more_data):
    blocks, message = BAD[case]
    assert_one_line(numina(more_data, *blocks), message)


def test_unknown_names_of_control_file_and_command_line_are_told(more_data):
    run = numina(
        more_data,
        block(),
        control=control_file(mm_sed=3),
        options=("--parameter-crmetod=mmcosmic",),
    )
    assert_one_line(run, "mm_sed is not a parameter; did you mean mm_seed?")
    assert "crmetod is not a parameter; did you mean crmethod?" in run.errors[0]


def test_control_file_for_another_profile_is_told(more_data):
    control = control_file(mm_sed=3)
    profiles = control["requirements"]["CRDETECT"]
    profiles["default"] = profiles.pop(PROFILE)
    run = numina(more_data, block(frames=FRAMES[:2]), control=control)
    assert (
        f"WARNING: the control file has requirements for profile default, not for that of the "
        f"frames, {PROFILE}" in run.text
    )
    assert_one_line(run, "not 2")
    assert "mm_sed" not in run.errors[0]


def test_misspelt_names_of_modes_in_a_control_file_are_told(more_data):
    run = numina(more_data, block(), control=control_file(mode="CrDetecton", mm_seed=3))
    assert_one_line(run, "the control file has values for CrDetecton; did you mean CrDetection?")


def test_all_faults_are_told_at_once(more_data):
    run = numina(more_data, block(frames=FRAMES[:2], gain="", bias=True, mm_seed=-3, dilatoin=2))
    assert_one_line(run, "not 2; dilatoin is not a parameter; did you mean dilation?; bias must be")
    assert "mm_seed must be an integer ≥ 0, or none, not -3" in run.errors[0]


def test_masks_that_do_not_fit(sequence, tmp_path):
    masks = str(sequence.results() / "crmasks.fits")
    write_exposures(tmp_path / "data", shape=(60, 81), GAIN=GAIN, RDNOISE=RDNOISE_E)
    run = numina(tmp_path, block("CrCombination", crmasks=masks))
    message = "the masks are for 3 exposures of shape (60, 80)"
    # the link to the masks is no product
    (tmp_path / "obsid1_work" / "crmasks.fits").unlink()
    assert_one_line(run, message)


def test_masks_of_other_exposures(sequence, more_data):
    with fits.open(more_data / "data" / FRAMES[0]) as hdul:
        hdul[0].data += 1
        hdul.writeto(more_data / "data" / "exposure_4.fits")
    masks = os.path.relpath(sequence.results() / "crmasks.fits", more_data / "data")
    run = numina(
        more_data, block("CrCombination", frames=[*FRAMES, "exposure_4.fits"], crmasks=masks)
    )
    (more_data / "obsid1_work" / "crmasks.fits").unlink()
    assert_one_line(run, "but there are 4 exposures of shape (60, 80)")


# ---------------------------------------------------------------------------------------------
# Requirements


def test_requirements_are_those_of_the_schema():
    names = [name for model in BLOCKS.values() for name in model.model_fields]
    requirements = CrDetectionRecipe.requirements()
    assert set(requirements) == {*names, "obresult", "extnum", "gain", "rnoise", "bias"}
    for name, requirement in requirements.items():
        if name != "obresult":
            assert requirement.optional
            assert isinstance(requirement.default, Default)
    assert set(CrCombinationRecipe.requirements()) == {
        "obresult", "crmasks", "extnum", "gain", "rnoise", "bias", "use_auxmedian", "force"
    }  # fmt: skip


def test_show_recipes_tells_default_accepted_values_unit_and_description():
    command = [NUMINA, "show-recipes", "-i", "CRDETECT"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    detection, combination = done.stdout.split("Recipe: ")[1:]
    items = [item for model in BLOCKS.values() for item in describe_block(model)]
    items += described_inputs(ObservingBlockInputs)
    for item in items:
        unit = f", in {item.unit}" if item.unit else ""
        default = yaml_value(item.default)
        line = (
            f"  {item.name}(optional)={default} type={item.accepted!r} [{item.description}{unit}]"
        )
        assert line in detection.splitlines()
    assert combination.startswith("crdetect.recipe.CrCombinationRecipe")
    assert "  force(optional)=false type='true or false' [apply the masks although" in combination


def test_values_pass_unchanged():
    recipe = load_drp().get_recipe_object("CrDetection")
    value = [[1, 2.5], "text", None]
    rinput = recipe.create_input(obresult=None, crmethod=value, mm_seed=None)
    assert rinput.crmethod is value
    assert recipe.given(rinput, ["crmethod", "mm_seed", "dilation"]) == {
        "crmethod": value,
        "mm_seed": None,
    }
