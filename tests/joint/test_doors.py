"""Joint detection through every door: command, numina, products, figures, quality.

The truth is what was planted: fluxes, offsets, and the charge of the cosmic rays.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from astropy.io import fits
from runs import COMBINED, run_once
from runs import numina as run_numina

import crdetect
from crdetect.cli import main
from crdetect.masks import dilate
from crdetect.stored import read_crmasks

FLUX = (0.85, 1.0, 1.15)
OFFSETS = ((-0.1, 0.1), (0.0, 0.0), (0.1, -0.1))
SIMULATE = [
    *("--shape", "200", "300", "--seed", "2", "--flux", *map(str, FLUX)),
    *(word for xy in OFFSETS for word in ("--offset", *map(str, xy))),
]
MASKS = ["MEDIANCR", "MEANCRT", "CRMASK1", "CRMASK2", "CRMASK3", "MEANCR"]
DRAWN = {
    *("diagnostic_mediancr.png", "diagnostic_meancr.png", "diagnostic_noise.png", "report.html"),
    *(f"diagnostic_crmask{i}.png" for i in (1, 2, 3)),
}


def simulate(folder):
    assert main(["simulate", str(folder), *SIMULATE]) == 0


@pytest.fixture(scope="module")
def simulated(filled_once):
    return filled_once("exposures_that_differ", simulate)[0]


def run(simulated, output, *words):
    command = ["run", str(simulated / "params.yaml"), "--output-dir", str(output)]
    assert main([*command, "--set", "crmethod=joint", *words]) == 0


@pytest.fixture(scope="module")
def done(filled_once, simulated):
    return filled_once("joint", lambda folder: run(simulated, folder / "out"))[0] / "out"


@pytest.fixture(scope="module")
def detection(simulated):
    """What the library finds in the same exposures."""
    stack = crdetect.Stack([fits.getdata(file) for file in exposures_in(simulated)])
    values = yaml.safe_load((simulated / "params.yaml").read_text())
    noise = crdetect.Noise(values["gain"], values["rnoise"])
    parameters = crdetect.Parameters.from_mapping({"crmethod": "joint"})
    bias = np.float32(values.get("bias", 0.0))
    return crdetect.detect(crdetect.Stack(stack.exposures - bias), noise, parameters)


def exposures_in(folder):
    return sorted((folder / "data").glob("exposure_?.fits"))


def images_of(path):
    with fits.open(path) as hdul:
        return {
            hdu.name: hdu.data.tobytes() for hdu in hdul if hdu.is_image and hdu.data is not None
        }


def charges(simulated):
    """Charge of the cosmic rays in each exposure, and the noise without them, in electrons."""
    with fits.open(simulated / "truth.fits") as hdul:
        charge_e = np.stack([hdul[f"CHARGE{i}"].data for i in (1, 2, 3)])
        signal_e = hdul["SIGNAL"].data
    return charge_e, np.sqrt(signal_e + 3.4**2)


# ---------------------------------------------------------------------------------------------
# The command, and its products


def test_masks_hold_what_was_hit(done, simulated):
    charge_e, sigma_e = charges(simulated)
    with fits.open(done / "crmasks.fits") as hdul:
        masks = {name: hdul[name].data > 0 for name in MASKS}
    hit = charge_e > 6 * sigma_e
    for i, mask in enumerate(hit, start=1):
        assert masks[f"CRMASK{i}"][mask].mean() > 0.97
        near = dilate(charge_e[i - 1] > 0.5 * sigma_e, 1)
        assert np.count_nonzero(masks[f"CRMASK{i}"] & ~near) <= 3
    twice = (hit.sum(axis=0) == 2) & ((charge_e > 0).sum(axis=0) == 2)
    assert twice.sum() > 30
    assert masks["MEDIANCR"][twice].mean() > 0.95


def test_masks_are_those_of_the_library(done, detection):
    with fits.open(done / "crmasks.fits") as hdul:
        stored = read_crmasks(hdul)
    for name in ("mediancr", "meancrt", "crmasks", "meancr"):
        np.testing.assert_array_equal(getattr(stored.masks, name), getattr(detection.masks, name))
    assert stored.parameters.general.crmethod == "joint"


def test_no_diagram_and_a_table_of_the_differences(done):
    with fits.open(done / "crmasks.fits") as hdul:
        assert [hdu.name for hdu in hdul if hdu.name in ("MMBOUND", "NOISE")] == ["NOISE"]
        table = hdul["NOISE"]
        assert not table.header["EQUIV"]
        values = dict(zip(table.data["term"], table.data["value"], strict=True))
    fluxes = np.array([values[f"flux_{i}"] for i in (1, 2, 3)])
    np.testing.assert_allclose(fluxes / fluxes[1], FLUX, atol=0.03)
    shifts = [[values[f"shift_{axis}_of_{i}"] for axis in "xy"] for i in (1, 2, 3)]
    np.testing.assert_allclose(shifts, OFFSETS, atol=0.04)


def test_figures_and_report(done):
    drawn = {path.name for path in done.iterdir() if path.suffix in (".png", ".html")}
    assert drawn == DRAWN
    report = (done / "report.html").read_text(encoding="utf-8")
    assert all(f'alt="{name}"' in report for name in DRAWN - {"report.html"})


def test_combined_images_are_free_of_what_was_hit(done, simulated):
    charge_e, sigma_e = charges(simulated)
    once = (charge_e > 10 * sigma_e).sum(axis=0) == 1
    once &= (charge_e > 0).sum(axis=0) == 1
    with fits.open(simulated / "truth.fits") as hdul:
        signal_e = hdul["SIGNAL"].data
    deviation = {}
    for name in ("mean", "meancr"):
        image = fits.getdata(done / f"combined_{name}.fits")
        deviation[name] = np.median(np.abs(image - signal_e)[once] / sigma_e[once])
    # a third of the charge stays in the mean: more than 10 σ / 3; without it noise is left, and
    # what fluxes that differ by 15 % make of two exposures
    assert deviation["mean"] > 3.3
    assert deviation["meancr"] < 1.5


def test_stored_masks_combine_as_the_run_did(done, simulated, tmp_path):
    again = ["--crmasks", str(done / "crmasks.fits"), "--no-plots"]
    run(simulated, tmp_path / "again", *again)
    for name in COMBINED:
        one, other = images_of(done / name), images_of(tmp_path / "again" / name)
        assert one["PRIMARY"] == other["PRIMARY"], name
        assert one["MAP"] == other["MAP"], name


def test_run_can_be_repeated(done, tmp_path):
    command = ["run", str(done / "params_used.yaml"), "--output-dir", str(tmp_path), "--no-plots"]
    assert main([*command, "--workers", "1"]) == 0
    assert images_of(done / "crmasks.fits") == images_of(tmp_path / "crmasks.fits")


def test_command_tells_what_was_found_out(simulated, tmp_path, capfd):
    run(simulated, tmp_path / "out", "--no-plots")
    told = capfd.readouterr().out
    assert "exposures are not equivalent" in told
    assert "MEDIANCR" in told


def test_two_exposures_are_enough(simulated, tmp_path):
    images = json.dumps([str(file) for file in exposures_in(simulated)[:2]])
    run(simulated, tmp_path / "two", "--no-plots", "--set", f"images={images}")
    with fits.open(tmp_path / "two/crmasks.fits") as hdul:
        names = [hdu.name for hdu in hdul if hdu.name.startswith("CRMASK")]
        assert names == ["CRMASK1", "CRMASK2"]
        found = [hdul[name].data > 0 for name in names]
    charge_e, sigma_e = charges(simulated)
    for i in (0, 1):
        once = (charge_e[i] > 10 * sigma_e) & (charge_e[1 - i] == 0)
        assert found[i][once].mean() > 0.9


# ---------------------------------------------------------------------------------------------
# Quality


def test_differences_that_were_matched_do_no_harm(detection):
    checks = {check.name: check for check in detection.quality.checks}
    assert any("noise" in name for name in checks)
    assert not any(name.startswith(("flux of exposure", "offset of exposure")) for name in checks)
    assert detection.quality.verdict.name == "GOOD"


# ---------------------------------------------------------------------------------------------
# numina


@pytest.mark.subprocess
def test_numina_finds_the_same(filled_once, simulated, done):
    def both_modes(folder):
        (folder / "data").symlink_to(simulated / "data")
        described = next(yaml.safe_load_all((simulated / "obs.yaml").read_text()))
        detect = described | {"id": "1", "requirements": {"crmethod": "joint"}}
        masks = {"crmasks": "../obsid1_results/crmasks.fits"}
        combine = described | {"id": "2", "mode": "CrCombination", "requirements": masks}
        return run_numina(folder, detect, combine)

    made = run_once(filled_once, "joint_by_numina", both_modes)
    assert made.code == 0, made.text
    assert made.errors == []
    assert made.parameters()["crmethod"] == "joint"
    ours, theirs = (images_of(Path(folder) / "crmasks.fits") for folder in (done, made.results()))
    assert ours == theirs
    for name in COMBINED:
        one, two = (images_of(made.results(block) / name) for block in ("1", "2"))
        assert one["PRIMARY"] == two["PRIMARY"] == images_of(done / name)["PRIMARY"], name
    assert (made.folder / "obsid1_work/diagnostic_noise.png").is_file()
