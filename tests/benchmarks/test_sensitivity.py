"""benchmarks/sensitivity: constants are varied, judged, and are afterwards what they were."""

import csv
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.quality.fields import Settings, make_case
from benchmarks.quality.stamps import straight_tracks
from benchmarks.sensitivity import __main__ as command
from benchmarks.sensitivity import measurements, variations
from crdetect.equivalence import matching, model, noise_model
from crdetect.joint import hits
from crdetect.resources import Resources

DOCS = Path(__file__).resolve().parents[2] / "docs"
ALL = [*variations.of_joint_detection(), *variations.of_measurements()]
CASE = make_case("x", Settings(shape=(96, 128)), straight_tracks(), 1)


@pytest.mark.parametrize("variation", ALL, ids=lambda v: f"{v.constant} {v.tried}")
def test_variations_change_something_and_put_it_back(variation):
    before = [getattr(module, name) for module, name, _ in variation.patches]
    with variation.applied():
        for (module, name, value), old in zip(variation.patches, before, strict=True):
            assert getattr(module, name) is value
            assert not np.array_equal(value, old)
    for (module, name, _), old in zip(variation.patches, before, strict=True):
        assert getattr(module, name) is old
    assert variation.patches or variation.parameters


def names_of_constants(module):
    """Names of the numbers that a module defines for itself."""
    return {
        f"{module.__name__.rsplit('.', 1)[-1]}.{name}"
        for name, value in vars(module).items()
        if name.startswith("_") and isinstance(value, int | float) and not name.startswith("__")
    }


@pytest.mark.parametrize("module", [hits, matching, model, noise_model])
def test_every_number_of_joint_detection_is_varied_or_needs_no_choice(module):
    needs_none = {
        "hits._LOG_ROOT_2PI",  # mathematics
        "hits._AT_A_TIME",  # memory
        "matching._LEAST_INFORMATION",  # rounding
        "matching._WIDEST_TILE",  # memory
        "noise_model._LEAST_SCALE",  # rounding
        "noise_model._LEVELS",  # figures only
        "noise_model._LEAST_VARIANCE_E2",  # rounding
        "noise_model._WINSORED",  # follow from others
        "noise_model._CUT_MEAN",
    }
    varied = {variation.constant for variation in ALL}
    assert names_of_constants(module) - needs_none <= varied


def test_factors_of_clipped_squares_follow_their_limits():
    drawn = np.square(np.random.default_rng(1).normal(size=400_000))
    (wide,) = [
        v for v in ALL if v.constant == "noise_model._WINSOR" and float(v.tried) > float(v.used)
    ]
    with wide.applied():
        limit = noise_model._WINSOR
        assert pytest.approx(np.minimum(drawn, limit).mean(), rel=0.01) == noise_model._WINSORED
    (narrow,) = [
        v for v in ALL if v.constant == "noise_model._CUT" and float(v.tried) < float(v.used)
    ]
    with narrow.applied():
        kept = drawn[drawn < noise_model._CUT]
        assert pytest.approx(kept.mean(), rel=0.01) == noise_model._CUT_MEAN


def test_passes_are_those_of_the_variation(monkeypatch):
    (left_out,) = [v for v in ALL if v.tried == "left out" and "fit 2" in v.constant]
    seen = []
    monkeypatch.setattr(matching, "_fit", lambda *args: seen.append(args[4]) or NOTHING)
    level = np.full((3, 64, 64), 100.0, np.float32)
    with left_out.applied():
        model.match(level, 10.0, Resources(1))
        model.match(level, 10.0, Resources(1), passes=())
    used = matching.PASSES
    assert seen == [used[0], used[0], used[2], used[3]]


NOTHING = matching._Found(0, [], np.zeros((3, 0, 0, 0)), np.zeros((0, 0, 0)), 0.0)


def test_judged_is_what_changes():
    (strict,) = [v for v in ALL if v.constant == "jt_coincidence" and v.tried == "2.25"]
    (rounds,) = [v for v in ALL if v.constant == "hits._ROUNDS" and v.tried == "80"]
    (prior,) = [v for v in ALL if "constant" in v.constant and v.tried == "-6.3"]
    rows = list(command.judge_joint([strict, rounds, prior], [CASE]))
    assert [len(row) for row in rows] == [len(command.OF_JOINT)] * 4
    used, *others = rows
    assert float(used[3]) > 0.85
    assert others[0][6:] == used[6:]  # coincidence touches MEDIANCR only
    assert others[1][3:] == used[3:]
    assert float(others[2][-1]) > 0
    assert float(others[2][3]) <= float(used[3])


@pytest.mark.parametrize("name", measurements.MEASUREMENTS)
def test_measurements_are_good_and_their_errors_real(name):
    what, error = measurements.MEASUREMENTS[name]
    limit = {"flux": 0.01, "offsets": 0.02, "nbinom": 0.4}[name]
    assert what.startswith("rms")
    assert 0 < abs(error(1)) < limit
    assert error(1) != error(2)
    assert measurements.rms_error(name, range(1, 3)) == pytest.approx(
        np.sqrt((error(1) ** 2 + error(2) ** 2) / 2)
    )


def test_command_writes_what_it_prints(monkeypatch, capsys, tmp_path):
    small = {"equivalent": Settings(shape=(96, 128))}
    monkeypatch.setattr(command, "FIELDS", small)
    words = ["--fields", "equivalent", "--tracks", "drawn", "--seeds", "1", "--only", "_WIDTHS"]
    monkeypatch.setattr(sys, "argv", ["x", *words, "--output", str(tmp_path / "table")])
    assert command.main() == 0
    assert "flux._WIDTHS" in capsys.readouterr().out
    with (tmp_path / "table_measurements.csv").open() as file:
        rows = list(csv.reader(file))
    assert rows[0] == list(command.OF_MEASUREMENTS)
    assert [row[:3] for row in rows[1:]] == [
        ["flux._WIDTHS", "12", "6"],
        ["flux._WIDTHS", "12", "24"],
    ]
    assert not (tmp_path / "table_joint.csv").exists()  # nothing of joint detection was asked for


def test_missing_tracks_are_an_error_of_one_line(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(sys, "argv", ["x", "--tracks", "stis", "--data", str(tmp_path)])
    assert command.main() == 2
    assert "stis_dark" in capsys.readouterr().out


def test_wrong_options(capsys):
    with pytest.raises(SystemExit):
        command.read_options(["--seeds", "0"])
    assert "--seeds" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("constants_joint.csv", variations.of_joint_detection()),
        ("constants_measurements.csv", variations.of_measurements()),
    ],
)
def test_tables_of_the_docs_are_of_the_constants_in_use(name, expected):
    with (DOCS / name).open() as file:
        rows = [tuple(row[:3]) for row in csv.reader(file)][1:]
    found = [row for row in rows if row[0] != "(as they are)"]
    assert found == [(v.constant, v.used, v.tried) for v in expected]
