"""The command, as a user runs it."""

import argparse
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from astropy.io import fits

from crdetect import interactive
from crdetect.cli import _parser, main
from crdetect.combine import COMBINATIONS
from crdetect.detectors import networks
from crdetect.masks import CLASSES
from crdetect.parameters import BLOCKS, Parameters
from crdetect.stored import read_crmasks

PRODUCTS = {
    "crmasks.fits",
    *(f"combined_{name}.fits" for name in COMBINATIONS),
    *(f"mediancr_identified_{name}.csv" for name in CLASSES),
    "params_used.yaml",
    "problematic_pixels.csv",
}
DRAWN = {
    "diagnostic_histogram2d.png",
    "diagnostic_mediancr.png",
    "diagnostic_meancr.png",
    *(f"diagnostic_crmask{i}.png" for i in (1, 2, 3)),
    "report.html",
}


@pytest.fixture(scope="session")
def simulated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("simulated")
    assert main(["simulate", str(folder), "--shape", "96", "128", "--double-hits", "6"]) == 0
    return folder


@pytest.fixture
def work(simulated, tmp_path):
    """A copy of the simulated set that a test may spoil."""
    return Path(shutil.copytree(simulated, tmp_path / "work"))


@pytest.fixture(scope="session")
def done(simulated, tmp_path_factory):
    output = tmp_path_factory.mktemp("done")
    assert main(["run", str(simulated / "params.yaml"), "--output-dir", str(output)]) == 0
    return output


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def edit(path: Path, **changes) -> Path:
    content = yaml.safe_load(path.read_text())
    for key, value in changes.items():
        (content if key in content else content["requirements"])[key] = value
    path.write_text(yaml.safe_dump(content))
    return path


def test_run_writes_all_products(done):
    assert names_in(done) == PRODUCTS | DRAWN
    with fits.open(done / "crmasks.fits") as hdul:
        names = [hdu.name for hdu in hdul]
        assert names == [
            "PRIMARY", "MEDIANCR", "MEANCRT", "CRMASK1", "CRMASK2", "CRMASK3", "MEANCR",
            "AUXCLEAN", "MMBOUND", "EXPOSURES", "PARAMS",
        ]  # fmt: skip
        stored = read_crmasks(hdul)
        assert stored.parameters == Parameters()
        names = [f"exposure_{i}.fits" for i in (1, 2, 3)]
        assert [Path(identity.name).name for identity in stored.exposures] == names
        identifiers = [identity.identifier for identity in stored.exposures]
        assert [hdul[0].header[f"UUID{i}"] for i in (1, 2, 3)] == identifiers
        assert hdul[0].header["QUALITY"] == stored.verdict.name
        history = list(hdul[0].header["HISTORY"])
    assert any(line.startswith("- mm_nsimulations = 10") for line in history)
    assert any("exposure_1.fits" in line for line in history)
    with fits.open(done / "combined_meancr2.fits") as hdul:
        assert [hdu.name for hdu in hdul] == ["PRIMARY", "VARIANCE", "MAP"]
        assert hdul[0].header["OBJECT"] == "crdetect simulation"
        assert hdul[0].data.dtype == np.dtype(">f4")
        assert hdul["MAP"].data.dtype == np.dtype(">i2")


@pytest.mark.subprocess
def test_command_prints_what_it_did(work):
    result = crdetect("run", work / "params.yaml", "--output_dir", work / "out", "--no-plots")
    assert result.returncode == 0, result.stderr
    assert "MEDIANCR" in result.stdout
    assert "quality: GOOD" in result.stdout
    assert str(work / "out") in result.stdout
    assert names_in(work / "out") == PRODUCTS
    score = crdetect("score", work / "out/crmasks.fits", work / "truth.fits")
    found, planted = (int(word) for word in score.stdout.split("found: ")[1].split()[:3:2])
    assert 0 < found <= planted


def crdetect(*arguments) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "crdetect.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.slow
@pytest.mark.parametrize("maxplots", [-1, 1])
def test_pages_of_features_and_whole_tables(work, maxplots):
    output = work / "out"
    arguments = ["run", str(work / "params.yaml"), "--output-dir", str(output)]
    seed = ["--set", "mm_seed=1", "--set", f"maxplots={maxplots}"]
    assert main([*arguments, *seed]) == 0
    counted = 0
    for name in CLASSES:
        rows = (output / f"mediancr_identified_{name}.csv").read_text().splitlines()[1:]
        features = len({row.split(",")[0] for row in rows})
        counted += features
        pages = output / f"mediancr_identified_{name}.pdf"
        assert pages.exists() == (features > 0)
        if features:
            drawn = features if maxplots < 0 else 1
            assert pages.read_bytes().count(b"/Type /Page ") == 2 * drawn
    assert counted > 3


def test_masks_are_applied_without_detecting(work, done):
    before = (done / "crmasks.fits").read_bytes()
    output = work / "again"
    arguments = ["run", str(work / "params.yaml"), "--output-dir", str(output)]
    assert main([*arguments, "--crmasks", str(done / "crmasks.fits")]) == 0
    assert names_in(output) == {f"combined_{name}.fits" for name in COMBINATIONS}
    for name in COMBINATIONS:
        ours, theirs = (folder / f"combined_{name}.fits" for folder in (output, done))
        with fits.open(ours) as one, fits.open(theirs) as other:
            for a, b in zip(one, other, strict=True):
                np.testing.assert_array_equal(a.data, b.data, err_msg=name)
    # in the folder of the masks themselves: they stay
    assert main(["run", str(work / "params.yaml"), "--output-dir", str(done), "--crmasks",
                 str(done / "crmasks.fits")]) == 0  # fmt: skip
    assert (done / "crmasks.fits").read_bytes() == before


def test_set_takes_the_place_of_the_file(work):
    arguments = ["--set", "crmethod=lacosmic", "--set", "la_sigclip=[6, 4]", "--set", "gain=2.0"]
    output = work / "out"
    code = main(
        ["run", str(work / "params.yaml"), *arguments, "--output-dir", str(output), "--no-plots"]
    )
    assert code == 0
    with fits.open(output / "crmasks.fits") as hdul:
        parameters = read_crmasks(hdul).parameters
        assert "- gain = 2.0" in list(hdul[0].header["HISTORY"])
    assert parameters.general.crmethod == "lacosmic"
    assert parameters.la.la_sigclip == (6.0, 4.0)


def test_stale_products_go_and_other_files_stay(work):
    output = work / "out"
    output.mkdir()
    for name in ("diagnostic_histogram2d.png", "diagnostic_crmask7.png", "notes.txt"):
        (output / name).write_text("old")
    arguments = ["run", str(work / "params.yaml"), "--output-dir", str(output), "--no-plots"]
    assert main([*arguments, "--set", "crmethod=pycosmic"]) == 0
    assert "diagnostic_histogram2d.png" not in names_in(output)
    assert "diagnostic_crmask7.png" not in names_in(output)
    assert (output / "notes.txt").read_text() == "old"


def test_same_run_same_masks(work, done):
    output = work / "out"
    assert main(["run", str(work / "params.yaml"), "--output-dir", str(output), "--workers", "1",
                 "--no-plots"]) == 0  # fmt: skip
    with fits.open(output / "crmasks.fits") as one, fits.open(done / "crmasks.fits") as other:
        for name in ("MEDIANCR", "MEANCRT", "CRMASK2", "MEANCR", "AUXCLEAN"):
            np.testing.assert_array_equal(one[name].data, other[name].data)


def test_peers_params_file_runs_unchanged(shared, tmp_path):
    params = shared / "peer/params/pw_mm_pycosmic.yaml"
    assert main(["run", str(params), "--output-dir", str(tmp_path), "--no-plots"]) == 0
    reference = shared / "peer/crmasks/crmasks_pw_mm_pycosmic.fits.gz"
    with fits.open(tmp_path / "crmasks.fits") as ours, fits.open(reference) as theirs:
        np.testing.assert_array_equal(ours["MEDIANCR"].data, theirs["MEDIANCR"].data)


def test_check_tells_and_writes_nothing(work, capsys):
    before = names_in(work)
    assert main(["check", str(work / "params.yaml")]) == 0
    assert "3 exposures of 96 × 128" in capsys.readouterr().out
    assert names_in(work) == before


@pytest.mark.parametrize("block", ["all", *BLOCKS])
def test_template_is_a_params_file(capsys, block):
    assert main(["template", "--block", block]) == 0
    content = yaml.safe_load(capsys.readouterr().out)
    assert Parameters.from_mapping(content["requirements"]) == Parameters()
    assert set(content) == {"images", "extnum", "gain", "rnoise", "bias", "requirements"}


# ---------------------------------------------------------------------------------------------
# Bad input: exit 2, one line that names what is wrong, nothing left behind


def write_image(path, data):
    fits.PrimaryHDU(data).writeto(path, overwrite=True)


def three_dimensional(work):
    write_image(work / "data/exposure_2.fits", np.zeros((2, 96, 128), np.float32))


def other_shape(work):
    write_image(work / "data/exposure_2.fits", np.zeros((96, 100), np.float32))


def all_nan(work):
    write_image(work / "data/exposure_2.fits", np.full((96, 128), np.nan, np.float32))


def no_fits(work):
    (work / "data/exposure_2.fits").write_text("this is not FITS")


def truncated(work):
    content = (work / "data/exposure_2.fits").read_bytes()
    (work / "data/exposure_2.fits").write_bytes(content[:9000])


def missing(work):
    (work / "data/exposure_2.fits").unlink()


def two_exposures(work):
    edit(work / "params.yaml", images=["data/exposure_1.fits", "data/exposure_2.fits"])


def same_file(work):
    edit(
        work / "params.yaml",
        images=["data/exposure_1.fits", "data/exposure_2.fits", "data/exposure_1.fits"],
    )


def misspelt(work):
    edit(work / "params.yaml", mm_dilatation=2)


def unknown_at_the_top(work):
    text = (work / "params.yaml").read_text()
    (work / "params.yaml").write_text("rnoize: 3\n" + text)


def out_of_range(work):
    edit(work / "params.yaml", mm_dilation=-1)


def no_extension(work):
    edit(work / "params.yaml", extnum=4)


def no_named_extension(work):
    edit(work / "params.yaml", extnum="SCI")


def empty(work):
    (work / "params.yaml").write_text("")


def a_list(work):
    (work / "params.yaml").write_text("- exposure_1.fits\n- exposure_2.fits\n")


def no_yaml(work):
    (work / "params.yaml").write_text("images: [exposure_1.fits\nextnum: 0\n")


def no_params(work):
    (work / "params.yaml").unlink()


def twice_a_key(work):
    with (work / "params.yaml").open("a") as file:
        file.write("  dilation: 1\n  dilation: 2\n")


def region_outside(work):
    edit(work / "params.yaml", regions_to_be_skipped=[[1, 200, 1, 20]])


def too_large(work):
    edit(work / "params.yaml", pixels_to_be_flagged_as_cr=[[10**30, 5]], mm_knots_splfit=5000)


def long_name(work):
    edit(work / "params.yaml", bias="x" * 3000)


def missing_map(work):
    edit(work / "params.yaml", gain="gain_map.fits")


BAD_INPUTS = {
    three_dimensional: ("exposure_2.fits", "3 dimensions"),
    other_shape: ("exposure_2.fits", "(96, 100)", "(96, 128)"),
    all_nan: ("exposure_2.fits", "no finite value"),
    no_fits: ("exposure_2.fits", "cannot be read as FITS"),
    truncated: ("exposure_2.fits", "cannot be read as FITS"),
    missing: ("exposure_2.fits", "no file"),
    two_exposures: ("at least 3 exposures, not 2", "joint"),
    same_file: ("exposure_1.fits", "twice"),
    misspelt: ("mm_dilatation", "did you mean mm_dilation"),
    unknown_at_the_top: ("rnoize", "did you mean rnoise"),
    out_of_range: ("mm_dilation", "an integer from 0 to 1000", "-1"),
    no_extension: ("exposure_1.fits", "no extension 4", "0 PRIMARY"),
    no_named_extension: ("exposure_1.fits", "no extension SCI"),
    empty: ("params.yaml", "empty"),
    a_list: ("params.yaml", "list"),
    no_yaml: ("params.yaml", "line"),
    no_params: ("params.yaml", "No such file"),
    twice_a_key: ("params.yaml", "dilation", "twice"),
    region_outside: ("regions_to_be_skipped", "not inside the image"),
    too_large: ("pixels_to_be_flagged_as_cr", "mm_knots_splfit"),
    long_name: ("bias", "no file"),
    missing_map: ("gain", "gain_map.fits"),
}


@pytest.mark.parametrize("spoil", BAD_INPUTS, ids=lambda spoil: spoil.__name__)
@pytest.mark.parametrize("command", ["run", "check"])
def test_bad_input_is_one_line(work, spoil, command, capfd):
    spoil(work)
    output = work / "out"
    arguments = [command, str(work / "params.yaml")]
    if command == "run":
        arguments += ["--output-dir", str(output)]
    assert main(arguments) == 2
    captured = capfd.readouterr()
    lines = captured.err.splitlines()
    assert len(lines) == 1, captured.err
    assert all(word in lines[0] for word in BAD_INPUTS[spoil]), lines[0]
    assert captured.out == ""
    assert not output.exists()


@pytest.mark.parametrize("command", ["run", "check"])
@pytest.mark.parametrize("crmethod", ["deepcr", "mm_conn"])
def test_a_network_that_is_not_installed(work, command, crmethod, capfd, monkeypatch):
    monkeypatch.setattr(networks, "find_spec", lambda _: None)
    edit(work / "params.yaml", crmethod=crmethod)
    output = ["--output-dir", str(work / "out")] if command == "run" else []
    assert main([command, str(work / "params.yaml"), *output]) == 2
    captured = capfd.readouterr()
    (line,) = captured.err.splitlines()
    assert 'pip install "crdetect[deep]"' in line
    assert captured.out == ""
    assert not (work / "out").exists()


def test_all_faults_in_one_line(work, capfd):
    edit(work / "params.yaml", rnoise=-1.0, mm_dilation=-1, crmethod="median", la_sigclp=3)
    assert main(["check", str(work / "params.yaml")]) == 2
    line = capfd.readouterr().err
    assert line.count("\n") == 1
    for word in ("rnoise", "mm_dilation", "crmethod", "la_sigclip"):
        assert word in line


def test_unwritable_output(work, capfd):
    (work / "file").write_text("not a folder")
    for output in (work / "file", work / "file" / "below"):
        assert main(["run", str(work / "params.yaml"), "--output-dir", str(output)]) == 2
        captured = capfd.readouterr()
        assert captured.err.count("\n") == 1
        assert "cannot write in" in captured.err
    assert (work / "file").read_text() == "not a folder"


def test_failed_run_leaves_earlier_products(work, done):
    output = Path(shutil.copytree(done, work / "out"))
    before = {path.name: path.read_bytes() for path in output.iterdir()}
    all_nan(work)
    assert main(["run", str(work / "params.yaml"), "--output-dir", str(output)]) == 2
    assert {path.name: path.read_bytes() for path in output.iterdir()} == before


@pytest.mark.parametrize(
    "arguments",
    [
        ["run"],
        ["go", "params.yaml"],
        ["run", "params.yaml", "--workers", "0"],
        ["run", "params.yaml", "--set", "dilation"],
        ["run", "params.yaml", "--log-level", "loud"],
        ["template", "--block", "xx"],
        ["simulate"],
        ["simulate", "folder", "--exposures", "2"],
        ["score", "no.fits", "truth.fits"],
    ],
    ids=" ".join,
)
def test_bad_arguments(work, arguments, capfd, monkeypatch):
    monkeypatch.chdir(work)
    assert main(arguments) == 2
    assert capfd.readouterr().err.count("\n") == 1


def test_every_argument_is_explained():
    (commands,) = (a for a in _parser()._actions if isinstance(a, argparse._SubParsersAction))
    for command in commands.choices.values():
        for argument in command._actions:
            assert argument.help, (command.prog, argument.dest)
    for argument in commands.choices["simulate"]._actions:
        if argument.option_strings and argument.dest != "help":
            assert "(default: " in argument.help, argument.dest


def text_for_masks(masks, _):
    masks.write_text("no masks")


def other_product(masks, done):
    shutil.copy(done / "combined_mean.fits", masks)


def masks_of_other_exposures(masks, done):
    shutil.copy(done / "crmasks.fits", masks)
    for i in (1, 2, 3):
        write_image(masks.parent / f"data/exposure_{i}.fits", np.ones((64, 64), np.float32))


def tampered(extension, change):
    def spoil(masks, done):
        with fits.open(done / "crmasks.fits") as hdul:
            change(hdul[extension] if extension else hdul)
            hdul.writeto(masks)

    return spoil


def with_data(data):
    def change(hdu):
        hdu.data = data

    return change


def with_flux_factor(hdu):
    hdu.header["FLUXF1"] = -0.5


def with_replaced(row):
    def change(hdul):
        columns = [
            fits.Column(name, "J", array=np.array([value]))
            for name, value in zip(("X_pixel", "Y_pixel", "X_width", "Y_width"), row, strict=True)
        ]
        hdul.append(fits.BinTableHDU.from_columns(columns, name="RPMEDIAN"))

    return change


def with_broken_params(hdu):
    hdu.data["VALUE"][3] = "{"


def without_params(hdul):
    hdul[0].header["FLUXF1"] = 0.5
    del hdul["PARAMS"]


BAD_MASKS = {
    "missing": (lambda *_: None, "No such file"),
    "text": (text_for_masks, "cannot be read as FITS"),
    "other": (other_product, "no extension"),
    "shape": (masks_of_other_exposures, "but there are 3 exposures of shape (64, 64)"),
    "broadcast": (tampered("MEDIANCR", with_data(np.ones((1, 128), np.uint8))), "different shapes"),
    "small auxclean": (tampered("AUXCLEAN", with_data(np.ones((3, 3)))), "different shapes"),
    "small crmask": (tampered("CRMASK2", with_data(np.ones((3, 3), "u1"))), "different shapes"),
    "no data": (tampered("MEDIANCR", with_data(None)), "holds no 2-D image"),
    "flux factors": (tampered("PRIMARY", with_flux_factor), "must be numbers > 0"),
    "flux factors, no params": (tampered(None, without_params), "flux factors"),
    "pixel 0": (tampered(None, with_replaced((0, 5, 3, 3))), "RPMEDIAN"),
    "pixel outside": (tampered(None, with_replaced((500, 5, 3, 3))), "not inside the image"),
    "params": (tampered("PARAMS", with_broken_params), "PARAMS is damaged"),
}


@pytest.mark.parametrize("spoilt", BAD_MASKS)
def test_bad_masks(work, done, spoilt, capfd):
    masks = work / "masks.fits"
    spoil, says = BAD_MASKS[spoilt]
    spoil(masks, done)
    output = work / "out"
    arguments = ["run", str(work / "params.yaml"), "--output-dir", str(output)]
    assert main([*arguments, "--crmasks", str(masks)]) == 2
    line = capfd.readouterr().err
    assert line.count("\n") == 1
    assert says in line
    assert not output.exists()


def test_masks_tell_how_to_fill_unless_the_file_does(work):
    params, output = str(work / "params.yaml"), work / "out"
    run = ["run", params, "--output-dir", str(output), "--no-plots"]
    assert main([*run, "--set", "use_auxmedian=true"]) == 0
    masks = str(shutil.copy(output / "crmasks.fits", work / "masks.fits"))
    filled = fits.getdata(output / "combined_mediancr.fits").copy()
    assert main([*run, "--crmasks", masks]) == 0
    np.testing.assert_array_equal(fits.getdata(output / "combined_mediancr.fits"), filled)
    assert main([*run, "--crmasks", masks, "--set", "use_auxmedian=false"]) == 0
    assert (fits.getdata(output / "combined_mediancr.fits") != filled).any()


@pytest.mark.parametrize("which", ["exposure", "map", "masks"])
def test_run_never_takes_the_place_of_its_input(work, done, which, capfd):
    output, arguments = work / "data", []
    if which == "exposure":
        (output / "exposure_1.fits").rename(output / "combined_mean.fits")
        images = ["data/combined_mean.fits", "data/exposure_2.fits", "data/exposure_3.fits"]
        edit(work / "params.yaml", images=images)
    elif which == "map":
        write_image(output / "combined_mean.fits", np.ones((96, 128), np.float32))
        edit(work / "params.yaml", gain="data/combined_mean.fits")
    else:
        shutil.copy(done / "crmasks.fits", output / "combined_mean.fits")
        arguments = ["--crmasks", str(output / "combined_mean.fits")]
    before = (output / "combined_mean.fits").read_bytes()
    run = ["run", str(work / "params.yaml"), "--output-dir", str(output)]
    assert main([*run, *arguments]) == 2
    assert "combined_mean.fits is an input" in capfd.readouterr().err
    assert (output / "combined_mean.fits").read_bytes() == before


def test_simulate_never_takes_the_place_of_exposures(work, capfd):
    (work / "truth.fits").unlink()
    before = (work / "data/exposure_1.fits").read_bytes()
    assert main(["simulate", str(work), "--seed", "9"]) == 2
    assert "truth.fits" in capfd.readouterr().err
    assert (work / "data/exposure_1.fits").read_bytes() == before


STOPS_AT_THE_FIRST_FILE = """
import sys
from astropy.io import fits
from crdetect.cli import main

write = fits.HDUList.writeto
def write_and_wait(hdul, name, *more, **options):
    write(hdul, name, *more, **options)
    print(name, flush=True)
    sys.stdin.read()
fits.HDUList.writeto = write_and_wait
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.subprocess
def test_terminated_run_leaves_nothing(work):
    """It is terminated when its first file is written, and waits there for that."""
    output = work / "out"
    command = [sys.executable, "-c", STOPS_AT_THE_FIRST_FILE, "run", str(work / "params.yaml")]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    process = subprocess.Popen([*command, "--output-dir", str(output)], text=True, **pipes)
    try:
        written = Path(process.stdout.readline().strip())
        assert written.is_file()
        assert written.is_relative_to(output)
        process.terminate()
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert errors.count("\n") == 1
    assert not output.exists()


def test_unexpected_failure_is_one_line_and_exit_1(work, capfd, monkeypatch):
    def explode(*_, **__):
        raise MemoryError("no memory left")

    monkeypatch.setattr("crdetect.pipeline.detect", explode)
    output = work / "out"
    assert main(["run", str(work / "params.yaml"), "--output-dir", str(output)]) == 1
    assert capfd.readouterr().err.count("\n") == 1
    assert not output.exists()


# ---------------------------------------------------------------------------------------------
# The boundary of an earlier run, and exposures that differ


def test_boundary_of_an_earlier_run(work, done, tmp_path):
    """Other random numbers, the same boundary: the same masks."""
    again = ["run", str(work / "params.yaml"), "--no-plots", "--set", "mm_seed=7"]
    again += ["--output-dir", str(tmp_path / "again"), "--boundary", str(done / "crmasks.fits")]
    assert main(again) == 0
    with fits.open(done / "crmasks.fits") as one, fits.open(tmp_path / "again/crmasks.fits") as two:
        assert two["PARAMS"].data["VALUE"][list(two["PARAMS"].data["NAME"]).index("mm_seed")] == "7"
        for name in ("MEDIANCR", "CRMASK1", "CRMASK3"):
            np.testing.assert_array_equal(one[name].data, two[name].data)
        np.testing.assert_array_equal(one["MMBOUND"].data, two["MMBOUND"].data)


def test_masks_are_for_their_exposures_unless_forced(work, done, capfd):
    names = [str(work / f"data/exposure_{i}.fits") for i in (2, 1, 3)]
    output = work / "forced"
    line = ["run", str(work / "params.yaml"), "--output-dir", str(output)]
    line += ["--set", f"images={json.dumps(names)}"]
    assert main([*line, "--force"]) == 2
    assert "--force needs --crmasks" in capfd.readouterr().err
    line += ["--crmasks", str(done / "crmasks.fits")]
    assert main(line) == 2
    complaint = capfd.readouterr().err
    assert "the exposures are in another order than the masks" in complaint
    assert "--force on the command line" in complaint
    assert complaint.count("\n") == 1
    assert not output.exists()
    assert main([*line, "--force"]) == 0
    assert "forced: the exposures are in another order" in capfd.readouterr().out
    with fits.open(output / "combined_mean.fits") as hdul:
        assert "forced: the exposures are in another order" in str(hdul[0].header["HISTORY"])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--boundary", "{masks}", "--crmasks", "{masks}"], "exclude each other"),
        (["--boundary", "{masks}", "--set", "crmethod=pycosmic"], "needs a crmethod with M.M."),
        (["--boundary", "nothing.fits"], "No such file"),
        (["--boundary", "{exposure}"], "has no table MMBOUND"),
    ],
)
def test_boundaries_that_cannot_be_taken(work, done, arguments, says, capfd):
    names = {"masks": done / "crmasks.fits", "exposure": work / "data/exposure_1.fits"}
    output = work / "out"
    line = ["run", str(work / "params.yaml"), "--output-dir", str(output)]
    assert main([*line, *(argument.format(**names) for argument in arguments)]) == 2
    complaint = capfd.readouterr().err
    assert says in complaint
    assert complaint.count("\n") == 1
    assert not output.exists()


@pytest.mark.slow
def test_exposures_made_to_differ_and_what_is_measured(tmp_path, capfd):
    folder = tmp_path / "simulated"
    line = ["simulate", str(folder), "--shape", "160", "200", "--flux", "0.8", "1", "1.2"]
    assert main(line) == 0
    run = ["run", str(folder / "params.yaml"), "--output-dir", str(tmp_path / "results")]
    run += ["--set", "flux_factor=auto", "--set", "mm_crosscorr_region=[1, 200, 1, 160]"]
    run += ["--set", "mm_simulation=analytic"]
    run += ["--set", "mm_photon_distribution=nbinom", "--set", "mm_nbinom_shape=auto"]
    assert main(run) == 0
    told = capfd.readouterr().out
    assert re.search(
        r"^mm_nbinom_shape: (infinite \(Poisson; above |[\d.e+]+ ± )", told, re.MULTILINE
    )
    assert "flux_factor: [0." in told
    assert "mm_xy_offsets: [[" in told
    assert "clean pixels expected above the boundary: " in told
    expected = {"image_number_at_median_position.png"}
    expected |= {
        f"{name}{i}.png" for i in (1, 2, 3) for name in ("flux_factor", "xyoffset_crosscorr_")
    }
    assert names_in(tmp_path / "results") == PRODUCTS | DRAWN | expected
    with fits.open(tmp_path / "results/crmasks.fits") as hdul:
        factors = [hdul[0].header[f"FLUXF{i}"] for i in (1, 2, 3)]
    assert factors == pytest.approx([0.8, 1.0, 1.2], rel=0.02)


@pytest.mark.parametrize(
    "wrong",
    [
        ["--flux", "1", "2"],
        ["--flux", "1", "0", "1"],
        ["--offset", "1", "2"],
        ["--offset", "1", "nan", "--offset", "0", "0", "--offset", "0", "0"],
        ["--nbinom-shape", "0"],
    ],
)
def test_differences_that_cannot_be_simulated(wrong, tmp_path, capfd):
    assert main(["simulate", str(tmp_path / "out"), *wrong]) == 2
    assert "simulate needs" in capfd.readouterr().err
    assert not (tmp_path / "out").exists()


# ---------------------------------------------------------------------------------------------
# Inputs that are moved during a run


def rename(path):
    path.rename(path.with_name("elsewhere.fits"))


@pytest.mark.parametrize("move", [rename, Path.unlink], ids=["renamed", "removed"])
@pytest.mark.parametrize("which", ["data/exposure_2.fits", "params.yaml", "gain.fits"])
def test_inputs_may_go_once_they_are_read(work, monkeypatch, move, which):
    """Nothing is looked for again when the work is done, and the run is not lost."""
    write_image(work / "gain.fits", np.full((96, 128), 1.5, np.float32))
    edit(work / "params.yaml", gain="gain.fits", crmethod="pycosmic")
    detect = interactive.detect_with_person
    moved = []

    def detect_and_move(*arguments, **more):
        move(work / which)
        moved.append(which)
        return detect(*arguments, **more)

    monkeypatch.setattr(interactive, "detect_with_person", detect_and_move)
    output = work / "out"
    arguments = ["run", str(work / "params.yaml"), "--output-dir", str(output), "--no-plots"]
    assert main(arguments) == 0
    assert moved == [which]
    assert names_in(output) == PRODUCTS
    used = yaml.safe_load((output / "params_used.yaml").read_text())
    assert used["images"] == [str(work / f"data/exposure_{i}.fits") for i in (1, 2, 3)]
    assert used["gain"] == str(work / "gain.fits")
    with fits.open(output / "crmasks.fits") as hdul:
        assert len(hdul["EXPOSURES"].data) == 3
        assert hdul["MEDIANCR"].data.any()
    assert not (work / which).exists()
