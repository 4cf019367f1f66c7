"""Blocks in a sequence, an instrument of the user, quality of results: as numina runs them."""

import json
import textwrap
import uuid
from pathlib import Path

import numpy as np
import pytest
from runs import (
    COMBINED,
    FRAMES,
    GAIN,
    RDNOISE_E,
    block,
    control_file,
    numina,
    run_once,
    write_exposures,
)

pytestmark = pytest.mark.subprocess

MINE = str(uuid.UUID(int=11))
KAST = "0b7a8c52-0d0c-4f0e-8f1c-5f0a7e1d2b22"
KAST_FRAMES = [f"exposure_{i}.fits.gz" for i in (1, 2, 3)]
PAGE = Path(__file__).resolve().parents[1] / "docs" / "instrument.rst"


def documented_profile():
    """Take the profile that the documentation shows, as it stands there."""
    _, after = PAGE.read_text(encoding="utf-8").split(".. code-block:: json", maxsplit=1)
    return textwrap.dedent(after.split("::\n", maxsplit=1)[0])


OTHER = {
    "other.dist-info/METADATA": "Metadata-Version: 2.1\nName: other\nVersion: 1.0\n",
    "other.dist-info/entry_points.txt": "[numina.pipeline.1]\nOTHER = other:load\n",
    "other/__init__.py": """
from numina.core import drp_load
from numina.core.recipes import BaseRecipe
from numina.core.requirements import ObservationResultRequirement
from numina.core.dataholders import Requirement, Result
from numina.types.frame import DataFrameType


class Count(BaseRecipe):
    obresult = ObservationResultRequirement()
    crmasks = Requirement(DataFrameType, "masks")
    masked = Result(int, "masked pixels")

    def run(self, rinput):
        with rinput.crmasks.open() as hdul:
            return self.create_result(masked=int(hdul["MEDIANCR"].data.sum()))


def load():
    return drp_load("other", "drp.yaml")
""",
    "other/drp.yaml": """
name: OTHER
configurations: {path: other, values: [00000000-0000-0000-0000-00000000000c]}
datamodel: crdetect.loader.AnyImage
modes: [{key: Count, name: Count}]
pipelines:
  default:
    version: 1
    recipes:
      Count:
        class: other.Count
        links: {crmasks: {result_of: {field: CrDetection.crmasks, node: prev}}}
""",
    "other/other.json": json.dumps(
        {
            "name": "OTHER",
            "description": "another",
            "uuid": "00000000-0000-0000-0000-00000000000c",
            "type": "instrument",
            "date_start": None,
            "date_end": None,
        }
    ),
}
"""A plugin of somebody else, with a recipe that takes masks of the block before."""


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    folder = tmp_path_factory.mktemp("packages")
    for name, text in OTHER.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.fixture(scope="module")
def sequence(filled_once, other):
    """Masks, and three blocks that use those of the block before; the instrument is the user's."""
    return run_once(filled_once, "sequence", lambda folder: run_sequence(folder, other))


def run_sequence(folder, other):
    write_exposures(
        folder / "data",
        INSTRUME="MYSPEC",
        EGAIN=GAIN,
        FULLWELL=5e4,
        BIASLEV=7.0,
        **{"DATE-OBS": [f"2026-01-02T0{i}:00:00" for i in (1, 2, 3)], "UUID": ["a", "b", "c"]},
    )
    (folder / "profiles").mkdir()
    (folder / "profiles" / "myspec.json").write_text(documented_profile())
    return numina(
        folder,
        block(number="1", bias=0.0),
        block("CrCombination", "2", crmasks=None),
        block("CrCombination", "3", frames=FRAMES[::-1], force=True),
        block("CrCombination", "4", crmasks="../obsid1_results/crmasks.fits", gain=2.0),
        block("Count", "5", frames=[]) | {"instrument": "OTHER"},
        options=("--profile-path", "profiles"),
        packages=other,
        control=control_file(MINE, crmethod="mmcosmic", mm_nsimulations=3),
    )


def test_sequence_succeeds(sequence):
    assert sequence.code == 0, sequence.text
    assert sequence.errors == []


def test_a_block_takes_the_masks_of_the_one_before(sequence):
    identifiers = {sequence.values(n)["summary"]["masks_uuid"] for n in "1234"}
    assert len(identifiers) == 1
    for name in COMBINED:
        with sequence.open(name, "2") as first, sequence.open(name, "4") as last:
            np.testing.assert_array_equal(first[0].data, last[0].data)


def test_a_recipe_of_another_instrument_takes_them_too(sequence):
    assert (
        sequence.values("5")["masked"]
        == (sequence.values("1")["summary"]["masked_pixels"]["MEDIANCR"])
    )


def test_instrument_of_the_user_is_recognised(sequence):
    summary = sequence.values()["summary"]
    assert summary["gain"]["value"] == GAIN
    assert summary["rnoise"]["value"] == RDNOISE_E / GAIN
    assert sequence.parameters()["la_satlevel"] == 5e4
    log = (sequence.results() / "processing.log").read_text()
    by = "the instrument profile 'my spectrograph'"
    assert f"gain = 1.5 (from key EGAIN of the header, by {by})" in log
    assert "rnoise = 2 (from instrument profile 'my spectrograph', divided by gain)" in log
    assert "bias = 0 (from requirement bias)" in log
    assert f"saturation = 50000 (from key FULLWELL of the header, by {by})" in log
    assert sequence.values("2")["summary"]["bias"]["value"] == 7.0
    assert sequence.values("4")["summary"]["gain"] == {"value": 2.0, "from": "requirement gain"}


def test_defaults_of_the_control_file_count_and_are_told(sequence):
    assert sequence.parameters()["crmethod"] == "mmcosmic"
    assert sequence.parameters()["mm_nsimulations"] == 3
    log = (sequence.results() / "processing.log").read_text()
    assert 'crmethod = "mmcosmic" (from the control file or configs.yaml)' in log


@pytest.mark.parametrize("name", ["crmasks.fits", *COMBINED])
def test_products_tell_the_exposures_they_came_from(sequence, name):
    with sequence.open(name) as hdul:
        header = hdul[0].header
        assert header["DATE-OBS"] == "2026-01-02T01:00:00"
        assert header["INSTRUME"] == "MYSPEC"
        assert [header[f"UUID{i}"] for i in (1, 2, 3)] == ["a", "b", "c"]
        assert uuid.UUID(header["UUID"])


def test_what_was_forced_is_told(sequence):
    assert sequence.values("2")["summary"]["forced"] is None
    summary = sequence.values("3")["summary"]
    assert "in another order" in summary["forced"]
    assert summary["quality"]["verdict"] == "PARTIAL"
    assert any("this was forced" in reason for reason in summary["quality"]["reasons"])
    with sequence.open("combined_mean.fits", "3") as hdul:
        history = "".join(hdul[0].header["HISTORY"])
    assert "forced: the exposures are in another order" in history


def test_quality_is_in_the_summary_the_result_and_the_masks(sequence):
    summary = sequence.values()["summary"]["quality"]
    result = json.loads((sequence.results() / "result.json").read_text())
    assert result["qc"] == summary["verdict"]
    assert len(summary["checks"]) >= 5
    with sequence.open("crmasks.fits") as hdul:
        assert hdul[0].header["QUALITY"] == summary["verdict"]
    log = (sequence.results() / "processing.log").read_text()
    assert f"quality of block 1: {summary['verdict']}" in log
    assert all(f"quality {reason}" in log for reason in summary["reasons"])


def test_nothing_is_left_elsewhere(sequence):
    blocks = {f"obsid{n}_{kind}" for n in "12345" for kind in ("work", "results")}
    given = {"data", "profiles", "obs.yaml", "control.yaml"}
    assert {path.name for path in sequence.folder.iterdir()} == blocks | given
    assert {path.name for path in (sequence.folder / "data").iterdir()} == set(FRAMES)
    products = {"result.json", "task.json", "processing.log", *COMBINED}
    assert {path.name for path in sequence.results("2").iterdir()} == products
    work = {path.name for path in (sequence.folder / "obsid2_work").iterdir()}
    assert work == {*FRAMES, "crmasks.fits"}


# ---------------------------------------------------------------------------------------------
# Real exposures that are not equivalent


@pytest.fixture(scope="module")
def kast(shared, filled_once):
    """The exposures of Kast: with defaults, and as the advice has it."""
    return run_once(filled_once, "kast", lambda folder: run_kast(folder, shared))


def run_kast(folder, shared):
    (folder / "data").symlink_to(shared / "data" / "kast_blue_3x1200")
    advised = {"flux_factor": "auto", "mm_photon_distribution": "nbinom", "mm_nbinom_shape": "auto"}
    return numina(
        folder,
        block(number="1", frames=KAST_FRAMES),
        block(number="2", frames=KAST_FRAMES, **advised),
        options=("--db", "products.db"),
    )


def quality_of(run, folder):
    result = json.loads((run.folder / folder / "result.json").read_text())
    return result["qc"], result["values"]["summary"]


def test_exposures_that_are_not_equivalent_are_noticed(kast):
    assert kast.code == 0, kast.text
    verdict, summary = quality_of(kast, "obsid1_1_results")
    assert verdict == "BAD"
    reasons = summary["quality"]["reasons"]
    assert any(reason.startswith("BAD: flux of exposure 1") for reason in reasons)
    warnings = [line for line in kast.text.splitlines() if line.startswith("WARNING: quality BAD")]
    assert any(
        "The exposures are not equivalent: use flux_factor: auto, and mm_photon_distribution: "
        "nbinom with mm_nbinom_shape: auto" in line
        for line in warnings
    )


def test_the_advice_helps(kast):
    before, after = (quality_of(kast, f"obsid{n}_{n}_results") for n in (1, 2))
    assert after[0] == "PARTIAL"
    assert after[1]["masked_pixels"]["MEDIANCR"] < before[1]["masked_pixels"]["MEDIANCR"] / 10


def test_defaults_of_the_package_for_an_instrument(shared, tmp_path):
    (tmp_path / "data").symlink_to(shared / "data" / "kast_blue_3x1200")
    run = numina(
        tmp_path,
        block(frames=KAST_FRAMES, crmethod="mmcosmic"),
        options=("--profile", KAST),
    )
    assert run.code == 0, run.text
    assert 'mm_photon_distribution = "nbinom" (from the control file or configs.yaml)' in run.text
    assert "WARNING: the control file" not in run.text
    assert "by the instrument profile 'Kast spectrograph at Shane, blue arm'" in run.text
    assert "saturation = 65535" in run.text


def test_masks_of_bad_quality_are_not_offered_by_db(kast):
    combination = block("CrCombination", "3", frames=KAST_FRAMES)
    run = numina(kast.folder, combination, options=("--db", "products.db"))
    assert run.code == 0, run.text
    _, used = quality_of(run, "obsid3_3_results")
    _, partial = quality_of(kast, "obsid2_2_results")
    assert used["masks_uuid"] == partial["masks_uuid"]
