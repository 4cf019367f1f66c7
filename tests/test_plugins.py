"""A detector of another package: installed by pip, then used through the command and numina."""

import itertools
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import yaml
from astropy.io import fits
from runs import DOUBLE, GAIN, NUMINA, RDNOISE_E, block, numina, write_exposures

ROOT = Path(__file__).resolve().parents[1]
METHODS = ("toy", "mm_toy", "joint_toy")

pytestmark = pytest.mark.subprocess

PROJECT = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"

[project]
name = "{name}"
version = "1.0"

[project.entry-points."crdetect.detectors"]
{entry}

[tool.setuptools]
py-modules = ["{name}"]
"""

ENTRY = 'toy = "toy:ToyDetector"'
PARAMS = """
images: [data/exposure_1.fits, data/exposure_2.fits, data/exposure_3.fits]
gain: 1.5
rnoise: 2.0
requirements: {crmethod: mm_toy, ty_threshold: [9.0, 5.0]}
"""


def code_of_the_page():
    """The module ``toy`` as the documentation has it."""
    text = (ROOT / "docs/detectors.rst").read_text(encoding="utf-8")
    text = text.partition("defines the block of parameters and the detector::\n")[2]
    lines = itertools.takewhile(lambda line: not line or line[0] == " ", text.splitlines())
    return textwrap.dedent("\n".join(lines))


def install(folder, name, entry, code):
    """Install a project of one module into a folder of its own, as users do."""
    project, packages = folder / "project", folder / "packages"
    project.mkdir()
    (project / "pyproject.toml").write_text(PROJECT.format(name=name, entry=entry))
    (project / f"{name}.py").write_text(code)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    offline = ["--no-index", "--no-deps", "--no-build-isolation", "--target", str(packages)]
    done = subprocess.run(
        [*pip, *offline, str(project)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return packages


@pytest.fixture(scope="session")
def packages(tmp_path_factory):
    """Folder in which the toy is installed, and a package whose detector does not work."""
    toy = install(tmp_path_factory.mktemp("toy"), "toy", ENTRY, code_of_the_page())
    broken = install(
        tmp_path_factory.mktemp("broken"), "broken", 'broken = "broken:Gone"', "import not_there\n"
    )
    return os.pathsep.join(map(str, (toy, broken)))


@pytest.fixture(scope="session")
def run(packages, tmp_path_factory):
    """Runs Python with the packages installed, in a folder with exposures."""
    folder = tmp_path_factory.mktemp("run")
    write_exposures(folder / "data", GAIN=GAIN, RDNOISE=RDNOISE_E)
    (folder / "params.yaml").write_text(PARAMS)
    paths = [packages, *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}

    def run(*arguments):
        return subprocess.run(
            [sys.executable, *map(str, arguments)],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    run.folder = folder
    return run


@pytest.fixture(scope="session")
def command(run):
    start = "import sys; from crdetect.cli import main; sys.exit(main())"
    return lambda *arguments: run("-c", start, *arguments)


def has_found(hdul):
    return all(hdul["MEDIANCR"].data[pixel] == 1 for pixel in DOUBLE)


def parameters_of(hdul):
    return {row["NAME"]: yaml.safe_load(row["VALUE"]) for row in hdul["PARAMS"].data}


@pytest.fixture(scope="session")
def outputs(run, command):
    """Folders with the products of the command, by crmethod."""
    folders = {method: run.folder / method for method in METHODS}
    for method, folder in folders.items():
        done = command(
            *("run", "params.yaml", "--no-plots", "--set", f"crmethod={method}"),
            *("--output-dir", folder),
        )
        assert done.returncode == 0, done.stderr
    return folders


@pytest.mark.parametrize("method", METHODS)
def test_command_runs_the_toy(outputs, method):
    with fits.open(outputs[method] / "crmasks.fits") as hdul:
        assert has_found(hdul)
        assert hdul["CRMASK1"].data.sum() > len(DOUBLE)
        values, history = parameters_of(hdul), list(hdul[0].header["HISTORY"])
    assert values["crmethod"] == method
    assert (values["ty_threshold"], values["ty_box"]) == ([9.0, 5.0], 5)
    assert "- ty_threshold = [9.0, 5.0]" in history


@pytest.mark.parametrize("method", METHODS)
def test_params_used_hold_the_parameters_of_what_took_part(outputs, method):
    used = yaml.safe_load((outputs[method] / "params_used.yaml").read_text())["requirements"]
    assert used["ty_threshold"] == [9.0, 5.0]
    prefixes = {"toy": {"ty"}, "mm_toy": {"ty", "mm"}, "joint_toy": {"ty", "jt"}}[method]
    used.pop("mm_cr_coincidences")
    assert {name[:2] for name in used if name[2] == "_"} == prefixes


def test_params_used_give_the_same_masks(run, command, outputs):
    used = outputs["joint_toy"] / "params_used.yaml"
    done = command("run", used, "--no-plots", "--output-dir", "again")
    assert done.returncode == 0, done.stderr
    with (
        fits.open(outputs["joint_toy"] / "crmasks.fits") as first,
        fits.open(run.folder / "again/crmasks.fits") as again,
    ):
        for name in ("MEDIANCR", "MEANCRT", "CRMASK1", "CRMASK2", "CRMASK3", "MEANCR", "AUXCLEAN"):
            np.testing.assert_array_equal(first[name].data, again[name].data)


@pytest.mark.parametrize("block", ["ty", "all"])
def test_template_holds_the_parameters(command, block):
    done = command("template", "--block", block)
    assert done.returncode == 0, done.stderr
    assert "# ---- the toy ----" in done.stdout
    assert (
        "  # height above the median of the pixels around it\n"
        "  # accepted [sigma]: a number > 0, or two: [peaks, tails]\n"
        "  ty_threshold: [8.0, 4.0]\n"
    ) in done.stdout
    requirements = yaml.safe_load(done.stdout)["requirements"]
    assert (set(requirements) == {"ty_threshold", "ty_box"}) == (block == "ty")


def test_misspelt_parameter(command):
    done = command("run", "params.yaml", "--set", "ty_treshold=3", "--set", "crmethod=tyo")
    assert done.returncode == 2
    assert "ty_treshold is not a parameter; did you mean ty_threshold?" in done.stderr
    assert "crmethod must be one of lacosmic, pycosmic, deepcr, conn, toy, mmcosmic" in done.stderr
    assert "joint_toy" in done.stderr


def test_detector_that_does_not_work_is_left_out_with_one_line(command):
    done = command("template")
    (line,) = done.stderr.splitlines()
    assert line == (
        "detector broken of broken is left out: broken:Gone cannot be imported "
        "(ModuleNotFoundError: No module named 'not_there')"
    )


def test_package_may_be_imported_first(run):
    code = "import toy, crdetect.detectors as d; assert d.REGISTRY['toy'] is toy.ToyDetector"
    done = run("-c", code)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="session")
def blocks(packages, tmp_path_factory):
    folder = tmp_path_factory.mktemp("blocks")
    write_exposures(folder / "data", GAIN=GAIN, RDNOISE=RDNOISE_E)
    given = {"ty_threshold": [9.0, 5.0], "mm_nsimulations": 3}
    return numina(
        folder,
        *(block(number=str(i), crmethod=name, **given) for i, name in enumerate(METHODS)),
        packages=packages,
    )


@pytest.mark.parametrize("number", range(len(METHODS)))
def test_numina_runs_the_toy(blocks, number):
    assert blocks.code == 0, blocks.text
    assert blocks.errors == []
    with blocks.open("crmasks.fits", str(number)) as hdul:
        assert has_found(hdul)
        values, history = parameters_of(hdul), list(hdul[0].header["HISTORY"])
    assert values["crmethod"] == METHODS[number]
    assert values["ty_threshold"] == [9.0, 5.0]
    assert "- ty_threshold = [9.0, 5.0]" in history


def test_numina_shows_the_requirements(run):
    done = run(NUMINA, "show-recipes", "-i", "CRDETECT")
    assert done.returncode == 0, done.stderr
    assert "ty_threshold" in done.stdout


def test_toy_is_in_the_tests_that_every_detector_must_pass(run):
    done = run("-m", "pytest", "-q", "-x", ROOT / "tests/contract", "-c", ROOT / "pyproject.toml",
               "-k", "toy", "-p", "no:cacheprovider")  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert "passed" in done.stdout
