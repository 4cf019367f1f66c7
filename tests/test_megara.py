"""MEGARA's mode MegaraCrDetection by our pipeline, end to end on a synthetic set of raw frames.

megaradrp runs in processes of its own: its imports warn.
"""

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

pytestmark = [pytest.mark.subprocess, pytest.mark.slow]

PROFILE = "9f3fecbf-376c-47ae-a188-313b7d829104"
IN_ALL = (slice(1000, 1002), slice(2000, 2004))  # hit in all exposures
TWICE = (slice(3000, 3002), slice(1000, 1004))  # hit in exposures 1 and 2
FRAMES = ["m1.fits", "m2.fits", "m3.fits"]
LCB = {
    "mode": "MegaraLcbImage",
    "master_apertures": "master_traces.json",
    "master_wlcalib": "master_wlcalib.json",
    "master_fiberflat": "master_fiberflat.fits",
}


def numina(folder, *arguments):
    command = [Path(sys.executable).with_name("numina"), *map(str, arguments)]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, timeout=3600
    )


def python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


@pytest.fixture(scope="session")
def megara(shared, filled_once):
    """The set, with masks made in one block and used in the next by ``--db``."""

    def run(folder):
        make = shared / "megara/make_megara_set.py"
        subprocess.run([sys.executable, make, folder], check=True, capture_output=True)
        shutil.copy(shared / "megara/seq.yaml", folder)
        done = numina(folder, "run", "seq.yaml", "--db", "products.json")
        assert done.returncode == 0, done.stderr
        (folder / "log").write_text(done.stdout + done.stderr)

    return filled_once("megara", run)[0]


@pytest.fixture
def work(megara, tmp_path):
    """A folder with the same data."""
    (tmp_path / "data").symlink_to(megara / "data")
    return tmp_path


def block(mode="MegaraCrDetection", pipeline="crdetect", **requirements):
    content = {"id": "a", "instrument": "MEGARA", "mode": mode, "frames": FRAMES}
    if pipeline:
        content["pipeline"] = pipeline
    return content | {"requirements": {"master_bias": "master_bias.fits"} | requirements}


def lcb(method, **requirements):
    kwargs = {"apply_flux_factor": False, "use_auxmedian": method == "mediancr"}
    content = {name: value for name, value in LCB.items() if name != "mode"}
    return block(LCB["mode"], None, method=method, method_kwargs=kwargs, **content, **requirements)


def write(folder, *blocks):
    path = folder / "obs.yaml"
    path.write_text("---\n".join(yaml.safe_dump(content) for content in blocks))
    return path


# ---------------------------------------------------------------------------------------------
# The sequence


def test_masks_of_the_sequence(megara):
    results = megara / "obsid8_crmasks_1_results"
    summary = json.loads((results / "result.json").read_text())["values"]["summary"]
    assert "electrons" in summary["gain"]["from"]
    assert summary["rnoise"] == {"value": 3.4, "from": "keys RDNOISE1 and RDNOISE2, electrons"}
    with fits.open(results / "crmasks.fits") as hdul:
        assert hdul[0].header["INSTRUME"] == "MEGARA"
        assert hdul[0].header["DATE-OBS"] == "2026-01-01T01:00:00.0"
        assert hdul[0].header["QUALITY"] == summary["quality"]["verdict"] == "GOOD"
        frames = [megara / "data" / name for name in FRAMES]
        assert [hdul[0].header[f"UUID{i}"] for i in (1, 2, 3)] == list(map(uuid_of, frames))
        masks = {hdu.name: hdu.data for hdu in hdul if "NPMASKED" in hdu.header}
    assert {mask.shape for mask in masks.values()} == {(4112, 4096)}
    assert masks["MEDIANCR"][TWICE].all()
    assert masks["CRMASK1"][TWICE].all()
    assert masks["CRMASK2"][TWICE].all()
    assert not masks["CRMASK3"][TWICE].any()
    # 400 bars of 12 pixels and a block in each exposure, one more in two of them
    for i in (1, 2, 3):
        assert masks[f"CRMASK{i}"].sum() > 4800
    assert masks["MEDIANCR"].sum() < 500


def test_products_in_results_and_the_rest_in_the_work_folder(megara):
    names = {path.name for path in (megara / "obsid8_crmasks_1_results").iterdir()}
    assert names == {"crmasks.fits", "processing.log", "result.json", "task.json"}
    work = {path.name for path in (megara / "obsid8_crmasks_1_work").iterdir()}
    assert {"diagnostic_histogram2d.png", "diagnostic_crmask3.png", "report.html"} <= work
    assert not any(name.startswith(".crdetect") for name in work)
    here = {path.name for path in megara.iterdir()} - {"data", "seq.yaml", "log"}
    assert here == {
        "products.json",
        *(f"obsid8_{name}_{i}_{kind}" for i, name in ((1, "crmasks"), (2, "lcb"))
          for kind in ("results", "work")),
    }  # fmt: skip


def uuid_of(masks):
    return fits.getheader(masks)["UUID"]


def test_science_image_takes_the_masks_by_db(megara):
    uuid = uuid_of(megara / "obsid8_crmasks_1_results/crmasks.fits")
    log = (megara / "log").read_text()
    assert f"using crmasks in {uuid}" in log
    assert "applying combination method: meancr" in log
    check_image(megara / "obsid8_lcb_2_results/reduced_image.fits")


def check_image(path):
    """The pixels hit twice look like those around; a median would have 4000 e there."""
    data = fits.getdata(path)
    assert np.isfinite(data).all()
    assert np.abs(data[TWICE]).max() < 200


# ---------------------------------------------------------------------------------------------
# The other ways to the masks, with the other methods


def by_path(_work, masks):
    return {"crmasks": str(masks)}, []


def by_control_file(work, masks):
    entry = {"id": 1, "type": "CRMasks", "tags": {}, "content": str(masks)}
    control = {"version": 1, "products": {"MEGARA": {PROFILE: [entry]}}, "requirements": {}}
    (work / "control.yaml").write_text(yaml.safe_dump(control))
    return {}, ["-r", "control.yaml"]


def by_calibration_tree(work, masks):
    folder = work / "calibrations/MEGARA" / PROFILE / "CRMasks"
    folder.mkdir(parents=True)
    shutil.copy(masks, folder / "crmasks.fits")
    return {}, ["--calibsdir", str(work / "calibrations")]


@pytest.mark.parametrize(
    ("method", "way"),
    [("mediancr", by_path), ("meancrt", by_control_file), ("meancr2", by_calibration_tree)],
)
def test_science_image_takes_the_masks(megara, work, method, way):
    masks = megara / "obsid8_crmasks_1_results/crmasks.fits"
    requirements, arguments = way(work, masks)
    done = numina(work, "run", write(work, lcb(method, **requirements)), *arguments)
    text = done.stdout + done.stderr
    assert done.returncode == 0, text
    assert f"applying combination method: {method}" in text
    assert f"using crmasks in {uuid_of(masks)}" in text
    check_image(work / "obsida_results/reduced_image.fits")


# ---------------------------------------------------------------------------------------------
# Its requirements


DEFAULTS = """
import json, sys, warnings
warnings.simplefilter("ignore")
from megaradrp.recipes.calibration.crdetect import CRMasksRecipe
print(json.dumps({name: entry.default for name, entry in CRMasksRecipe.requirements().items()}))
"""


@pytest.fixture(scope="module")
def cookbook(megara, filled_once):
    """A block with every requirement of megaradrp's own recipe, and bad pixels.

    As the cookbook has it: what has no value is left empty, interactive is false.
    """
    work, (code, text) = filled_once("cookbook", lambda work: run_the_cookbook(megara, work))
    return work, code, text


def run_the_cookbook(megara, work):
    done = python(DEFAULTS)
    assert done.returncode == 0, done.stderr
    defaults = json.loads(done.stdout)
    requirements = {
        name: None if value == "none" else value
        for name, value in defaults.items()
        if name not in ("obresult", "master_bias", "master_dark")
    }
    assert len(requirements) > 60
    assert sum(value is None for value in requirements.values()) >= 8
    (work / "data").symlink_to(megara / "data")
    bad = np.zeros((4112, 4096), np.uint8)
    bad[IN_ALL] = 1
    header = fits.getheader(megara / "data/master_bias.fits")
    fits.writeto(work / "bpm.fits", bad, header)
    requirements |= {
        "interactive": False,
        "maxplots": 0,
        "crmethod": "pycosmic",
        "master_bpm": str(work / "bpm.fits"),
        "save_preprocessed": True,
        "save_postprocessed": True,
    }
    done = numina(work, "run", write(work, block(**requirements)))
    return done.returncode, done.stdout + done.stderr


def test_block_of_the_cookbook_runs_as_it_is(cookbook):
    work, code, text = cookbook
    assert code == 0, text
    assert "rnoise = 3.4 (from requirement rnoise)" in text
    log = (work / "obsida_results/processing.log").read_text()
    assert 'dc_mask = "ACS_WFC" (from the block)' in log
    saved = work / "obsida_work"
    before, after = (
        fits.getdata(saved / f"{name}_1.fits") for name in ("preprocessed", "postprocessed")
    )
    mask = fits.getdata(work / "obsida_results/crmasks.fits", "CRMASK1") > 0
    assert before.shape == after.shape == (4112, 4096)
    np.testing.assert_array_equal(before[~mask], after[~mask])
    # 400 bars of 12 pixels, and what the block's dilation adds to them
    assert (before[mask] > 1000).sum() > 4700
    assert not (before[~mask] > 1000).any()
    assert np.abs(after[mask]).mean() < 100
    # electrons, without overscan and bias: read noise and, in ADU, rounding to integers
    dark = before[50:130][~mask[50:130]]
    assert np.median(dark) == pytest.approx(0, abs=1)
    assert dark.std() == pytest.approx(np.hypot(3.4, 1.73 / np.sqrt(12)), rel=0.02)


def test_bad_pixels_are_missing_and_no_cosmic_rays(cookbook):
    work, code, text = cookbook
    assert code == 0, text
    assert np.isnan(fits.getdata(work / "obsida_work/preprocessed_1.fits")[IN_ALL]).all()
    with fits.open(work / "obsida_results/crmasks.fits") as hdul:
        for hdu in hdul:
            if "NPMASKED" in hdu.header:
                assert not hdu.data[IN_ALL].any(), hdu.name


@pytest.mark.parametrize(
    ("requirements", "says"),
    [
        ({"mm_knot_splfit": 5, "la_niter": -1}, ["did you mean mm_knots_splfit", "la_niter must"]),
        ({"save_preprocessed": "perhaps", "gain": 1.7}, ["save_preprocessed must", "gain is not"]),
        ({"crmethod": "mm_pycosmos"}, ["crmethod must be one of"]),
    ],
)
def test_faults_are_one_line(work, requirements, says):
    done = numina(work, "run", write(work, block(**requirements)))
    text = done.stdout + done.stderr
    assert done.returncode == 1
    assert "Traceback" not in text
    (line,) = re.findall(r"^.*ERROR.*$", text, re.MULTILINE)
    assert all(part in line for part in says)


NOISE = """
from pathlib import Path
from astropy.io import fits
import numpy as np
from crdetect.errors import InputError
from crdetect.megara import MegaraInputs, _known_of, _take_out_bad_pixels

here = Path()
def rnoise(*values, **given):
    header = fits.Header(dict(zip(("RDNOISE1", "RDNOISE2"), values)))
    return _known_of(MegaraInputs(**given), header, (6, 4), here)["rnoise"].value

assert rnoise(3.4, 3.4) == 3.4
assert rnoise(3.0, 4.0)[:, 0].tolist() == [3.0, 3.0, 3.0, 4.0, 4.0, 4.0]
assert rnoise(3.0, 4.0, rnoise=2.5) == 2.5
for values in ((), (3.0,), (3.0, -1.0), (3.0, "x")):
    try:
        rnoise(*values)
    except InputError as error:
        assert "give rnoise, in electrons" in str(error)
    else:
        raise AssertionError(values)

image, bad = np.ones((6, 4), np.float32), np.zeros((6, 4))
bad[2, 3] = 1
_take_out_bad_pixels([image], bad)
assert np.argwhere(np.isnan(image)).tolist() == [[2, 3]]
try:
    _take_out_bad_pixels([image], bad[1:])
except InputError as error:
    assert "master_bpm has shape (5, 4)" in str(error)
else:
    raise AssertionError
"""


def test_read_noise_of_the_amplifiers_and_bad_pixels():
    done = python(NOISE)
    assert done.returncode == 0, done.stderr


# ---------------------------------------------------------------------------------------------
# Discovery

ORDER = """
import sys
import warnings
from importlib import metadata
import numina.drps
import numina.drps.drpsystem as drpsystem
from numina.user.cli import main
import megaradrp.loader

entries = {entry.name: entry for entry in metadata.entry_points(group="numina.pipeline.1")}
assert {"CRDETECT", "MEGARA"} <= set(entries)
assert entries["MEGARA"].value == "megaradrp.loader:load_drp"
order = [entries[name] for name in sys.argv[1:]]
drpsystem.entry_points = lambda group: order
filters, original = list(warnings.filters), megaradrp.loader.load_drp
main(["show-instruments"])
assert warnings.filters == filters
assert megaradrp.loader.load_drp is original
drp = drpsystem.DrpSystem().load().query_all()["MEGARA"]
assert list(drp.pipelines) == ["default"], "other instances are as megaradrp makes them"

drp = numina.drps.get_system_drps().query_all()["MEGARA"]
assert list(drp.pipelines) == ["default", "crdetect"], list(drp.pipelines)
recipe = drp.get_recipe_object("MegaraCrDetection", pipeline_name="crdetect")
assert type(recipe).__module__ == "crdetect.megara"
assert recipe.pipeline == "crdetect"
assert recipe.drp_version == drp.version
other = drp.get_recipe_object("MegaraCrDetection")
assert type(other).__module__.startswith("megaradrp"), type(other)
assert other.pipeline == "default"
assert drp.get_recipe_object("MegaraLcbImage", pipeline_name="crdetect").pipeline == "crdetect"
assert drp.query_provides("MasterBias", "crdetect") is drp.query_provides("MasterBias")
for defaults in drp.default_requirements()["requirements"]["MEGARA"].values():
    assert defaults["crdetect"] == defaults["default"]
"""


@pytest.mark.parametrize("order", [("MEGARA", "CRDETECT"), ("CRDETECT", "MEGARA")])
def test_pipeline_is_there_in_any_order_of_discovery(order):
    done = subprocess.run(
        [sys.executable, "-c", ORDER, *order], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


WITHOUT = """
import sys
from importlib import metadata
import numina.drps
import numina.drps.drpsystem as drpsystem
from numina.user.cli import main

sys.modules["megaradrp"] = None
entries = [
    entry for entry in metadata.entry_points(group="numina.pipeline.1")
    if "megaradrp" not in entry.value
]
assert {entry.name for entry in entries} == {"CRDETECT"}
drpsystem.entry_points = lambda group: entries
main(["show-instruments"])
print(sorted(numina.drps.get_system_drps().query_all()))
"""


def test_nothing_is_said_without_megaradrp():
    done = subprocess.run(
        [sys.executable, "-W", "always", "-c", WITHOUT], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "['CRDETECT']"
    assert "Instrument: MEGARA" not in done.stdout
    assert re.fullmatch(r"INFO: Numina simple recipe runner version \S+\n", done.stderr)
