"""The metrics of benchmarks/quality, against truth made by hand and the peer's reference field."""

import json
from dataclasses import replace

import numpy as np
import pytest
from astropy.io import fits

from benchmarks.quality import metrics
from benchmarks.quality.fields import Case
from benchmarks.quality.methods import read_answer
from benchmarks.quality.metrics import Answer, Truth, score, total
from benchmarks.quality.sets import Library, read_peer_input

SIGNAL_E, RNOISE_E, GAIN = 84.0, 4.0, 2.0  # σ = 10 e


def made(charges, simulated=True):
    """Three exposures without noise; charges are (exposure, y, x): electrons."""
    charge = np.zeros((3, 12, 12), np.float32)
    for place, value in charges.items():
        charge[place] = value
    signal = np.full_like(charge, SIGNAL_E)
    planted = np.zeros((12, 12), bool)
    return Case(
        "made", (signal + charge) / GAIN, GAIN, RNOISE_E, signal, charge, planted, simulated
    )


def answer(mediancr=(), crmasks=(), meancr2_adu=SIGNAL_E / GAIN):
    flagged = np.zeros((12, 12), bool), np.zeros((3, 12, 12), bool)
    for mask, places in zip(flagged, (mediancr, crmasks), strict=True):
        for place in places:
            mask[place] = True
    return Answer(*flagged, np.broadcast_to(meancr2_adu, (12, 12)))


def test_sigma_is_that_of_signal_and_read_noise_in_electrons():
    truth = Truth.of(made({(0, 2, 2): 50.1, (0, 2, 4): 49.9, (1, 5, 5): 10.1, (1, 5, 7): 9.9}))
    assert np.argwhere(truth.strong).tolist() == [[0, 2, 2]]
    assert np.argwhere(truth.weak).tolist() == [[0, 2, 2], [0, 2, 4], [1, 5, 5]]


def test_double_hits_are_those_above_5_sigma_in_two_exposures():
    case = made(
        {
            **{(i, 2, 2): 60 for i in (0, 1)},
            **{(i, 2, 6): 60 for i in (0, 1, 2)},
            (0, 6, 6): 60,
            (1, 6, 6): 40,
        }
    )
    result = score(case, answer(mediancr=[(2, 2)]))
    assert (result.double_px, result.double_found) == (2, 1)
    assert result.measures()["double"] == 0.5


def test_mediancr_is_false_farther_than_a_pixel_from_hits_above_1_sigma_in_two_exposures():
    case = made({(0, 2, 2): 11, (1, 2, 2): 11, (0, 8, 8): 900, (1, 8, 8): 9})
    flagged = [(3, 3), (4, 4), (2, 5), (8, 8), (8, 9)]
    result = score(case, answer(mediancr=flagged))
    assert result.false_px == 4  # all but (3, 3)
    # (3, 3) and (4, 4) and (2, 5) touch by corners?  (2, 5) does not
    assert (result.features, result.false_features) == (3, 2)
    assert result.measures()["false_px"] == pytest.approx(4 / 144e-6)


def test_crmasks_are_judged_by_the_hits_of_their_own_exposure():
    case = made({(0, 2, 2): 60, (1, 2, 3): 60, (2, 8, 8): 30})
    flagged = [(0, 2, 2), (0, 2, 3), (0, 2, 4), (1, 8, 8), (2, 9, 9), (2, 8, 8)]
    result = score(case, answer(crmasks=flagged))
    assert (result.single_px, result.single_found) == (2, 1)
    assert result.false_crmask_px == 2  # (0, 2, 4) and (1, 8, 8)
    assert result.measures()["false_crmask"] == pytest.approx(2 / (3 * 144e-6))


def test_residuals_are_taken_at_pixels_hit_once():
    case = made({(0, 2, 2): 600, (1, 4, 4): 600, (0, 6, 6): 600, (1, 6, 6): 600, (2, 8, 8): 40})
    combined = np.full((12, 12), 1e6)
    combined[2, 2], combined[4, 4] = (SIGNAL_E + 3) / GAIN, (SIGNAL_E - 1) / GAIN
    result = score(case, answer(meancr2_adu=combined))
    assert result.once_px == 2
    measures = result.measures()
    assert measures["bias_e"] == pytest.approx(1.0)
    assert measures["rms_e"] == pytest.approx(np.sqrt(5))
    assert measures["ideal_rms_e"] == pytest.approx(0.0)


def test_ideal_is_the_mean_of_the_exposures_without_charge_above_1_sigma():
    case = made({(0, 2, 2): 600, (1, 2, 2): 9, (0, 4, 4): 600, (1, 4, 4): 12, (2, 4, 4): 3})
    ideal = metrics.ideal_mean_e(case, Truth.of(case))
    assert ideal[2, 2] == pytest.approx(SIGNAL_E + 4.5)
    assert ideal[4, 4] == pytest.approx(SIGNAL_E + 3)
    assert ideal[0, 0] == pytest.approx(SIGNAL_E)
    assert score(case, answer()).measures()["ideal_bias_e"] == pytest.approx(3.75)


def test_an_answer_that_is_the_truth_is_perfect():
    rng = np.random.default_rng(1)
    places = [tuple(place) for place in rng.integers((3, 12, 12), size=(60, 3))]
    case = made({place: rng.uniform(0, 300) for place in places})
    noisy = case.exposures_adu + rng.normal(0, 10 / GAIN, case.exposures_adu.shape)
    case = replace(case, exposures_adu=noisy)
    truth = Truth.of(case)
    ideal = metrics.ideal_mean_e(case, truth) / GAIN
    measures = score(case, Answer(truth.double, truth.weak, ideal)).measures()
    assert (measures["double"], measures["single"], measures["rms_ratio"]) == (1, 1, 1)
    assert measures["false_px"] == measures["false_features"] == measures["false_crmask"] == 0


def test_of_real_exposures_only_the_added_hits_are_judged():
    result = score(made({(0, 2, 2): 60}, simulated=False), answer(crmasks=[(0, 2, 2), (0, 9, 9)]))
    assert result.measures()["single"] == 1
    assert np.isnan([result.false_crmask_px, result.bias_sum, result.ideal_square_sum]).all()


def test_where_hits_were_planted_only_double_ones_and_false_ones_are_judged():
    case = made({(0, 2, 2): 60, (1, 2, 2): 60, (0, 6, 6): 60, (0, 9, 9): 60})
    case.planted[:8] = True
    result = score(case, answer(mediancr=[(2, 2)], crmasks=[(0, 2, 2), (2, 6, 6), (0, 9, 9)]))
    assert (result.double_px, result.double_found) == (1, 1)
    assert (result.single_px, result.single_found, result.once_px) == (1, 1, 1)
    assert result.false_crmask_px == 1


def test_scores_add_up_before_ratios_are_taken():
    one = score(made({(i, 2, 2): 60 for i in (0, 1)}), answer(mediancr=[(2, 2)]))
    many = score(made({(i, y, 2): 60 for i in (0, 1) for y in (1, 4, 7)}), answer())
    both = total([one, many])
    assert (both.double_px, both.double_found, both.px) == (4, 1, 288)
    assert both.measures()["double"] == 0.25


def test_scores_survive_json():
    result = score(made({(0, 2, 2): 60}, simulated=False), answer())
    text = json.dumps(metrics.as_dict(result), allow_nan=False)
    again = metrics.from_dict(json.loads(text))
    np.testing.assert_equal(again.values(), result.values())


@pytest.fixture
def reference(shared):
    return read_peer_input(shared / "peer" / "input")


def test_truth_of_the_reference_field_is_what_its_maker_wrote(shared, reference):
    truth = Truth.of(reference)
    said = json.loads((shared / "peer/input/sim.json").read_text())
    assert truth.double.sum() == said["px_hit5_in_2"]
    assert abs(truth.once.sum() - said["px_hit5_in_1"]) <= 2  # the charge was compressed
    np.testing.assert_allclose(truth.strong.mean(axis=(1, 2)), said["frac_5sigma"], rtol=2e-3)
    np.testing.assert_allclose(truth.weak.mean(axis=(1, 2)), said["frac_1sigma"], rtol=5e-3)


@pytest.mark.parametrize(
    ("run", "double", "single", "false_px"),
    # the ranges of the peer's own table, of a larger field of the same kind
    [("mm_pycosmic", 24, (0.94, 0.95), 36), ("mm_pycosmic_md0", 22, (0.61, 0.68), 4)],
)
def test_masks_of_the_peer_on_the_reference_field(
    shared, reference, tmp_path, run, double, single, false_px
):
    source = shared / "peer"
    with fits.open(source / f"crmasks/crmasks_{run}.fits.gz") as hdul:
        hdul.writeto(tmp_path / "crmasks.fits")
    with fits.open(source / "combined/combined_meancr2.fits.gz") as hdul:
        hdul.writeto(tmp_path / "combined_meancr2.fits")
    result = score(reference, read_answer(tmp_path))
    assert (result.double_px, result.double_found) == (25, double)
    assert single[0] < result.measures()["single"] < single[1]
    assert result.false_px == false_px
    assert result.measures()["ideal_bias_e"] == pytest.approx(0.04, abs=0.005)


def test_real_sets_are_read_with_their_noise(shared):
    library = Library.at(shared / "data")
    ((_, case),) = library.cases("isis_red_injected", range(5))
    assert (case.gain, case.rnoise_e, case.simulated) == (0.98, 4.1, False)
    assert Truth.of(case).double.sum() == 232
    ((_, case),) = library.cases("kast_blue_3x1200", range(5))
    assert not Truth.of(case).weak.any()
