"""From methods to tables in benchmarks/quality: evaluation, JSON, verdicts, the peer's stand-in."""

import argparse
import io
import operator
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from benchmarks.quality import __main__ as command
from benchmarks.quality import pycosmic_stand_in, results
from benchmarks.quality.fields import Settings, make_case
from benchmarks.quality.methods import Ours, PeerError
from benchmarks.quality.metrics import Answer, Truth, score
from benchmarks.quality.report import Target, cell, set_table, target_table, verdict
from benchmarks.quality.roc import Curve, draw
from benchmarks.quality.stamps import straight_tracks
from crdetect import Noise, Parameters
from crdetect.detectors import make_detector

SMALL = Settings(shape=(96, 128))


class Library:
    """Small fields under the names of large ones."""

    names = ("equivalent", "mild")

    def cases(self, name, seeds):
        for seed in seeds:
            yield seed, make_case(name, SMALL, straight_tracks(), seed)


def oracle(case):
    truth = Truth.of(case)
    return Answer(truth.double, truth.weak, np.median(case.exposures_adu, axis=0))


def fails(_):
    raise PeerError("exit 1: no luck")


@pytest.fixture
def judged():
    return results.evaluate("oracle", oracle, Library(), ["equivalent"], range(1, 4))


def test_every_seed_is_judged_and_survives_json(judged, tmp_path):
    assert list(judged.scores["equivalent"]) == [1, 2, 3]
    results.write(tmp_path / "x.json", [judged])
    (again,) = results.read(tmp_path / "x.json")
    assert again == judged


def test_sets_finished_are_told_at_once():
    told = []
    results.evaluate(
        "oracle",
        oracle,
        Library(),
        ["equivalent", "mild"],
        range(1),
        after_set=lambda so_far: told.append(list(so_far.scores)),
    )
    assert told == [["equivalent"], ["equivalent", "mild"]]


def test_a_peer_that_fails_is_a_row_of_its_own():
    judged = results.evaluate("peer", fails, Library(), ["equivalent"], range(2))
    assert judged.of("equivalent") == []
    assert judged.failed["equivalent"] == "seed 1: exit 1: no luck"
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(set_table(judged))
    console.print(target_table([judged]))
    assert "no luck" in console.export_text()


def test_verdicts(judged):
    reached = Target("equivalent", "double", 0.99, operator.ge)
    assert verdict(judged, reached) == "✓"
    nobody = Target("equivalent", "rms_ratio", 0.5, operator.le)
    assert verdict(judged, nobody) == "✗"
    assert verdict(judged, Target("mild", "double", 0.99, operator.ge)) == ""
    px = sum(score_.px for score_ in judged.of("equivalent"))
    almost = replace(judged.scores["equivalent"][1], false_px=1e-4 * px)
    judged.scores["equivalent"][1] = almost
    assert verdict(judged, Target("equivalent", "false_px", 50, operator.le)) == "~"


def test_cells_have_intervals_only_where_there_are(judged):
    assert cell(judged, "equivalent", "double").startswith("1.0000 [0.9")
    assert cell(judged, "mild", "double") == "–"


def test_the_library_is_judged():
    case = make_case("x", SMALL, straight_tracks(), 1)
    judged = score(case, Ours("mmcosmic", {"mm_nsimulations": 3}, workers=1)(case))
    assert judged.measures()["double"] > 0.8
    assert judged.measures()["single"] > 0.8
    assert judged.measures()["ideal_rms_e"] < judged.measures()["rms_e"]


def test_the_stand_in_is_our_pycosmic():
    case = make_case("x", SMALL, straight_tracks(), 1)
    image = case.exposures_adu[0]
    chosen = {"pc_sigma_det": 3.0, "pc_fwhm_gauss_x": 2.0, "pc_fwhm_gauss_y": 3.0}
    expected = make_detector(
        Parameters.from_mapping({"crmethod": "pycosmic", "pc_rlim": 1.2, **chosen}), 1
    ).detect(image, Noise(2.0, 1.7))
    found = pycosmic_stand_in.det_cosmics(
        data=image + 5,
        sigma_det=3.0,
        rlim=1.2,
        iterations=5,
        fwhm_gauss=[2.0, 3.0],
        replace_box=[5, 5],
        replace_error=1e6,
        increase_radius=0,
        gain=2.0,
        rdnoise=3.4,
        bias=5.0,
        verbose=True,
    )
    assert expected.mask.sum() > 50
    np.testing.assert_array_equal(found.mask, expected.mask)
    np.testing.assert_allclose(found.data, 2 * expected.image_adu, rtol=1e-4, atol=1e-2)


def test_options():
    options = command.read_options(
        ["--method", "mmcosmic", "--set", "mm_dilation=0", "--set", "pc_sigma_det=[5, 3]"]
    )
    assert options.set == [("mm_dilation", 0), ("pc_sigma_det", [5, 3])]
    label, method = command.make_method("mmcosmic", options)
    assert label == "mmcosmic mm_dilation=0 pc_sigma_det=[5, 3]"
    assert method == Ours("mmcosmic", {"mm_dilation": 0, "pc_sigma_det": [5, 3]})


def test_each_kind_of_tracks_is_judged_and_named():
    options = command.read_options(
        ["--method", "joint", "--fields", "equivalent", "--seeds", "1", "--tracks", "lsst", "drawn"]
    )
    libraries = {"lsst": Library(), "drawn": Library()}
    judged = command.run(options, libraries)
    assert [entry.label for entry in judged] == ["joint, lsst tracks", "joint, drawn tracks"]
    options.tracks = ["lsst"]
    (alone,) = command.run(options, {"lsst": Library()})
    assert alone.label == "joint"
    assert alone.scores == judged[0].scores


@pytest.mark.parametrize(
    "wrong",
    [["--set", "novalue"], ["--fields", "mars"], ["--seeds", "0"], ["--tracks", "venus"]],
)
def test_wrong_options(wrong, capsys):
    with pytest.raises(SystemExit):
        command.read_options(wrong)
    assert wrong[0] in capsys.readouterr().err


def test_curves():
    curve = Curve.of("mmcosmic mm_simulation=analytic mm_false_pixels=1|2.5")
    assert curve == Curve("mmcosmic", {"mm_simulation": "analytic"}, "mm_false_pixels", [1, 2.5])
    assert curve.label == "mmcosmic mm_simulation=analytic, mm_false_pixels 1…2.5"
    for wrong in ("mmcosmic", "mmcosmic a=1", "mmcosmic a=1|2 b=1|2", "mmcosmic a=1|2 b"):
        with pytest.raises(argparse.ArgumentTypeError):
            Curve.of(wrong)


def test_figure_draws_what_is_missed(judged):
    figure = draw({"curve": [judged, judged]}, [judged], ["equivalent", "mild"])
    double = figure.axes[0]
    (drawn, *_) = double.lines
    np.testing.assert_allclose(
        drawn.get_xdata(orig=False), 0.5
    )  # no false pixel: at the lowest drawn
    np.testing.assert_allclose(drawn.get_ydata(orig=False), 1e-3)
    assert figure.legends
