"""The instrument CRDETECT, as numina sees it."""

import argparse
import datetime as dt
import logging
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from astropy.io import fits
from numina.drps.drpbase import DrpGeneric
from numina.exceptions import ValidationError
from numina.types.dataframe import DataFrame

from crdetect.loader import AnyImage, StoppedByPerson, check_frames, load_drp, register
from crdetect.profiles import GENERIC


def test_entry_point_loads_the_instrument():
    (entry,) = entry_points(group="numina.pipeline.1", name="CRDETECT")
    drp = entry.load()()
    assert drp.name == "CRDETECT"
    assert list(drp.modes) == ["CrDetection", "CrCombination"]
    assert drp.query_provides("CrMasks").mode == "CrDetection"


def test_every_mode_has_a_recipe():
    drp = load_drp()
    for mode in drp.modes:
        assert type(drp.get_recipe_object(mode)).__name__ == f"{mode}Recipe"


@pytest.mark.subprocess
def test_numina_lists_the_instrument_without_complaint():
    command = [Path(sys.executable).with_name("numina"), "show-instruments"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "Instrument: CRDETECT" in done.stdout
    assert "Problem" not in done.stdout + done.stderr
    assert "Warning" not in done.stderr


def test_numina_run_enables_our_loggers(monkeypatch):
    monkeypatch.setattr("crdetect.loader.get_system_drps", DrpGeneric)
    ours, others = (logging.getLogger(f"{package}.of_a_test") for package in ("crdetect", "other"))
    ours.disabled = others.disabled = True  # as the logging configuration of numina leaves them
    subparsers = argparse.ArgumentParser().add_subparsers()
    run = subparsers.add_parser("run")
    run.set_defaults(command=lambda *_: (ours.disabled, others.disabled))
    register(subparsers, None)
    assert run.get_default("command")() == (False, True)


@pytest.mark.parametrize(
    ("error", "code"),
    [(None, 0), (StoppedByPerson("block 7: stopped"), 3), (ValidationError("bad"), None)],
)
def test_numina_run_exits_with_3_where_a_person_stopped_it(error, code, caplog, monkeypatch):
    monkeypatch.setattr("crdetect.loader.get_system_drps", DrpGeneric)  # the others stay unloaded

    def command(*arguments):
        assert arguments == ("options", "more", "configuration")
        if error is not None:
            raise error
        return 0

    subparsers = argparse.ArgumentParser().add_subparsers()
    run = subparsers.add_parser("run")
    run.set_defaults(command=command)
    register(subparsers, None)
    prepared = run.get_default("command")
    if code is None:
        with pytest.raises(ValidationError, match="bad"):
            prepared("options", "more", "configuration")
    else:
        assert prepared("options", "more", "configuration") == code
    assert [record.getMessage() for record in caplog.records] == ["block 7: stopped"] * (code == 3)


def test_numina_calls_register():
    (entry,) = entry_points(group="numina.plugins.1", name="crdetect")
    assert entry.load() is register


@pytest.mark.parametrize(
    ("value", "date"),
    [
        ("2026-03-01T10:20:30", dt.datetime(2026, 3, 1, 10, 20, 30)),  # noqa: DTZ001
        ("2026-03-01T10:20:30+00:00", dt.datetime(2026, 3, 1, 10, 20, 30)),  # noqa: DTZ001
        ("12/05/99", None),
        (2026.5, None),
        (None, None),
    ],
)
def test_any_date_and_instrument_will_do(value, date):
    header = fits.Header({"INSTRUME": "OTHER", "INSCONF": "something"})
    if value is not None:
        header["DATE-OBS"] = value
    hdul = fits.HDUList([fits.PrimaryHDU(header=header)])
    extract = AnyImage().extractor.extract
    assert extract("observation_date", hdul) == date
    assert extract("instrument", hdul) == "CRDETECT"
    assert extract("insconf", hdul) == GENERIC


def block_of(*names):
    return SimpleNamespace(id="7", frames=[DataFrame(filename=str(name)) for name in names])


def write(path: Path, **keys):
    path.parent.mkdir(exist_ok=True)
    fits.writeto(path, np.ones((3, 3)), fits.Header(keys))
    return path


def test_good_frames_pass(tmp_path):
    block = block_of(*[write(tmp_path / f"{i}.fits") for i in range(3)])
    assert check_frames(None, block, None) is block


def test_files_of_one_name_pass_with_uuid_only(tmp_path):
    with_uuid = [write(tmp_path / night / "a.fits", UUID=night) for night in "xy"]
    assert check_frames(None, block_of(*with_uuid), None).id == "7"
    without = [write(tmp_path / night / "b.fits") for night in "xy"]
    with pytest.raises(ValidationError, match="files of the same name without the key UUID"):
        check_frames(None, block_of(*without), None)


def test_links_to_one_file_are_one_exposure(tmp_path):
    first = write(tmp_path / "a.fits")
    (tmp_path / "b.fits").symlink_to(first)
    with pytest.raises(ValidationError, match=r"block 7: frames: a\.fits is given twice"):
        check_frames(None, block_of(first, tmp_path / "b.fits"), None)


def test_missing_and_broken_files_are_told(tmp_path):
    with pytest.raises(ValidationError, match=r"no file c\.fits in the data folder"):
        check_frames(None, block_of("c.fits"), None)
    (tmp_path / "d.fits").write_text("text")
    with pytest.raises(ValidationError, match=r"d\.fits cannot be read as FITS"):
        check_frames(None, block_of(tmp_path / "d.fits"), None)
