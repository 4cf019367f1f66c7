"""Checks of a result: exposures that differ in a known way are found to differ."""

import numpy as np
import pytest

import crdetect
from crdetect.masks import Masks
from crdetect.quality import assess_stored
from crdetect.simulate import simulate_exposures
from crdetect.verdict import Verdict

GAIN, RNOISE = 1.5, 3.0
NBINOM = {"mm_photon_distribution": "nbinom", "mm_nbinom_shape": "auto"}


def quality(parameters=None, gain=GAIN, rnoise=RNOISE, shape=(200, 240), **differences):
    """Judge simulated exposures; gain and rnoise are what is said of them."""
    made = simulate_exposures(
        shape, gain=GAIN, rnoise_adu=RNOISE, double_hits=5, seed=5, **differences
    )
    parameters = crdetect.Parameters.from_mapping({"crmethod": "mmcosmic"} | (parameters or {}))
    noise = crdetect.Noise(gain, rnoise)
    return crdetect.detect(crdetect.Stack(made.exposures_adu), noise, parameters).quality


def find(judged, words):
    (check,) = (check for check in judged.checks if words in check.name)
    return check


# ---------------------------------------------------------------------------------------------
# Exposures


def test_equivalent_exposures_are_good():
    judged = quality()
    assert judged.verdict is Verdict.GOOD, judged.reasons
    assert judged.reasons == []


@pytest.mark.parametrize("nexposures", [3, 4])
def test_equivalent_exposures_do_not_differ(nexposures):
    judged = quality(nexposures=nexposures)
    assert find(judged, "flux").value == pytest.approx(1, abs=0.01)
    assert find(judged, "offset").value < 0.03
    assert find(judged, "bright").value == pytest.approx(1, abs=0.1)
    assert find(judged, "faint").value == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize(
    ("flux", "verdict"), [((1, 0.95, 1), Verdict.PARTIAL), ((1, 1, 0.8), Verdict.BAD)]
)
def test_flux_that_differs(flux, verdict):
    judged = quality(flux=flux)
    check = find(judged, "flux")
    assert check.value == pytest.approx(min(flux), abs=0.01)
    assert f"exposure {1 + int(np.argmin(flux))}" in check.name
    assert check.verdict is verdict
    assert "use flux_factor: auto, and mm_photon_distribution: nbinom" in check.advice
    assert judged.verdict >= verdict


def test_flux_that_is_told_is_no_difference():
    flux = (0.8, 1.0, 1.2)
    for parameters in (
        {"flux_factor": "auto"},
        {"flux_factor": list(flux)},
        {"flux_factor": "auto", "apply_flux_factor_to": "original"},
    ):
        judged = quality(parameters, flux=flux)
        assert find(judged, "flux").verdict is Verdict.GOOD
        assert find(judged, "bright").verdict is Verdict.GOOD
        assert find(judged, "faint").verdict is Verdict.GOOD


def test_differences_that_the_statistics_allow_for_are_partial_at_worst():
    judged = quality(NBINOM, flux=(1, 1, 0.8))
    assert find(judged, "flux").verdict is Verdict.PARTIAL
    assert "flux_factor: auto" in find(judged, "flux").advice
    assert "nbinom" not in find(judged, "flux").advice
    assert find(judged, "bright").verdict is Verdict.GOOD


@pytest.mark.parametrize(("offset", "verdict"), [(0.3, Verdict.PARTIAL), (1.0, Verdict.BAD)])
def test_offset_that_differs(offset, verdict):
    offsets = ((0, 0), (0, 0), (0, offset))
    judged = quality(offsets_px=offsets)
    check = find(judged, "offset")
    assert check.value == pytest.approx(offset, abs=0.05)
    assert "exposure 3" in check.name
    assert check.verdict is verdict
    assert "mm_crosscorr_region: [1, 240, 1, 200]" in check.advice
    told = quality({"mm_xy_offsets": [list(each) for each in offsets]}, offsets_px=offsets)
    assert find(told, "offset").verdict is Verdict.GOOD


def test_spread_that_differs():
    shape = 30.0
    check = find(quality(nbinom_shape=shape), "bright")
    assert check.verdict is Verdict.BAD
    measured = float(check.advice.split("(here ")[1].split(")")[0])
    assert measured == pytest.approx(shape, rel=0.25)
    assert find(quality(NBINOM, nbinom_shape=shape), "bright").verdict is Verdict.GOOD


@pytest.mark.parametrize(
    ("stated", "verdict"),
    [(0.98, Verdict.GOOD), (1.6, Verdict.PARTIAL), (0.4, Verdict.PARTIAL), (4.0, Verdict.BAD)],
)
def test_read_noise_far_from_the_stated_one(stated, verdict):
    check = find(quality(rnoise=stated * RNOISE), "faint")
    assert check.verdict is verdict
    measured = float(check.advice.split("rnoise would be ")[1].split(" ADU")[0])
    assert measured == pytest.approx(RNOISE, rel=0.1)


def test_methods_without_the_diagram_do_not_suffer_from_differences():
    judged = quality({"crmethod": "lacosmic"}, flux=(1, 1, 0.8))
    assert find(judged, "flux").verdict is Verdict.PARTIAL
    assert "apply_flux_factor_to: original" in find(judged, "flux").advice
    assert not any("boundary" in check.name for check in judged.checks)


def test_what_cannot_be_measured_is_not_judged():
    rng = np.random.default_rng(1)
    exposures = rng.normal(0, RNOISE, (3, 24, 24)).astype(np.float32)  # dark, and tiny
    parameters = crdetect.Parameters.from_mapping({"crmethod": "mmcosmic"})
    noise = crdetect.Noise(GAIN, RNOISE)
    judged = crdetect.detect(crdetect.Stack(exposures), noise, parameters).quality
    names = " ".join(check.name for check in judged.checks)
    assert not any(word in names for word in ("flux", "offset", "bright", "faint"))


@pytest.mark.parametrize("rnoise", [0.0, RNOISE])
def test_exposures_of_which_one_is_missing_everywhere(rnoise):
    made = simulate_exposures((80, 90), 4, rnoise_adu=rnoise, double_hits=0, seed=5)
    exposures = made.exposures_adu
    exposures[0, ::2] = exposures[1, 1::2] = np.nan
    parameters = crdetect.Parameters.from_mapping({"crmethod": "pycosmic"})
    noise = crdetect.Noise(1.0, rnoise)
    judged = crdetect.detect(crdetect.Stack(exposures), noise, parameters).quality
    assert not any("faint" in check.name for check in judged.checks)


def test_without_read_noise():
    made = simulate_exposures((80, 90), rnoise_adu=0.0, double_hits=0, seed=5)
    parameters = crdetect.Parameters.from_mapping({"crmethod": "mmcosmic"})
    noise = crdetect.Noise(1.0, 0.0)
    judged = crdetect.detect(crdetect.Stack(made.exposures_adu), noise, parameters).quality
    assert find(judged, "flux").verdict is Verdict.GOOD


# ---------------------------------------------------------------------------------------------
# Masks and boundary


def masks_of(mediancr=0.0, crmask=0.0, everywhere=0.0, size=10_000):
    """Masks with shares of pixels."""

    def some(share):
        return (np.arange(size) < share * size).reshape(100, -1)

    crmasks = np.stack([some(everywhere), some(everywhere), some(max(crmask, everywhere))])
    return Masks(some(mediancr), some(1.0), crmasks, some(0.0))


@pytest.mark.parametrize(
    ("shares", "words", "verdict"),
    [
        ({}, "MEDIANCR", Verdict.GOOD),
        ({"mediancr": 0.05}, "MEDIANCR", Verdict.PARTIAL),
        ({"mediancr": 0.2}, "MEDIANCR", Verdict.BAD),
        ({"crmask": 0.2}, "CRMASK3", Verdict.PARTIAL),
        ({"crmask": 0.5}, "CRMASK3", Verdict.BAD),
        ({"everywhere": 0.001}, "all exposures", Verdict.PARTIAL),
        ({"everywhere": 0.02}, "all exposures", Verdict.BAD),
    ],
)
def test_shares_of_masked_pixels(shares, words, verdict):
    judged = assess_stored(masks_of(**shares), None, None)
    assert judged.verdict is verdict
    assert verdict is Verdict.GOOD or words in judged.reasons[0]


def test_boundary_that_does_not_follow_its_points():
    piecewise = {"mm_boundary_fit": "piecewise", "mm_threshold": 0, "mm_minimum_max2d_rnoise": 0}
    low = quality(piecewise | {"mm_fixed_points_in_boundary": [[0, 3], [300, 3]]})
    check = find(low, "above the boundary")
    assert check.verdict is Verdict.BAD
    assert check.value > 200
    good = quality({"mm_simulation": "analytic", "mm_false_pixels": 5})
    assert find(good, "above the boundary").value == pytest.approx(5, rel=0.05)
    assert find(good, "relative to its points").verdict is Verdict.GOOD
    high = [[x, 2000.0] for x in (0, 100, 200, 300)]
    check = find(quality({"mm_fixed_points_in_boundary": high}), "relative to its points")
    assert check.verdict is Verdict.BAD


# ---------------------------------------------------------------------------------------------
# What is told


def test_masks_made_before_keep_their_verdict():
    for made in Verdict:
        assert assess_stored(masks_of(), made, None).verdict is made
    judged = assess_stored(masks_of(), Verdict.GOOD, "exposures in another order")
    assert judged.verdict is Verdict.PARTIAL
    assert "because this was forced: exposures in another order" in judged.reasons[0]
