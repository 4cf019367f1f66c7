import numpy as np
import pytest

import crdetect
from crdetect import Noise, Parameters, Stack
from crdetect.simulate import simulate_exposures

SHAPE = (200, 300)
NOISE = Noise(1.0, 3.4)


def run(simulation, noise=NOISE, **values):
    parameters = Parameters.from_mapping({"crmethod": "joint"} | values)
    return crdetect.detect(Stack(simulation.exposures_adu), noise, parameters)


def score(simulation, masks):
    """Shares found of pixels hit above 5 σ in two exposures and in each; false MEDIANCR pixels."""
    sigma = np.sqrt(simulation.signal_e + 3.4**2)
    hit = simulation.charge_e > 5 * sigma
    double, anywhere = hit.sum(axis=0) >= 2, (simulation.charge_e > sigma).sum(axis=0) >= 2
    false = masks.mediancr & ~crdetect.masks.dilate(anywhere, 1)
    return (
        (masks.mediancr & double).sum() / double.sum(),
        (masks.crmasks & hit).sum() / hit.sum(),
        int(false.sum()),
    )


@pytest.fixture(scope="module")
def equivalent():
    return simulate_exposures(SHAPE, seed=1)


@pytest.fixture(scope="module")
def different():
    offsets = ((-0.1, 0.1), (0.0, 0.0), (0.1, -0.1))
    return simulate_exposures(SHAPE, seed=2, flux=(0.85, 1.0, 1.15), offsets_px=offsets)


def test_equivalent_exposures(equivalent):
    double, single, false = score(equivalent, run(equivalent).masks)
    assert double > 0.97
    assert single > 0.98
    assert false <= 1


def test_different_exposures(different):
    double, single, false = score(different, run(different).masks)
    assert double > 0.95
    assert single > 0.97
    assert false <= 2


def test_without_matching_differences_are_taken_for_hits_or_for_noise(different):
    plain = run(different, jt_matching="none", jt_noise_terms=None)
    assert score(different, plain.masks)[2] > 50
    noisy = run(different, jt_matching="none")
    assert noisy.exposure_model.noise_model.flux > 0.01**2
    matched = run(different)
    assert matched.exposure_model.noise_model.flux < 0.1 * noisy.exposure_model.noise_model.flux


def test_noise_terms_that_are_given(equivalent):
    terms = [0.01, 0.02, 0.03]
    model = run(equivalent, jt_noise_terms=terms).exposure_model.noise_model
    assert model.terms == (0.0, *terms)


def test_false_alarms_and_strong_threshold(equivalent):
    few = run(equivalent, jt_false_alarms=0.1).masks.crmasks.sum()
    many = run(equivalent, jt_false_alarms=10000).masks.crmasks.sum()
    assert few < run(equivalent).masks.crmasks.sum() < many
    same = run(equivalent, jt_strong=4.264891, jt_false_alarms=5000)  # sigma: 1e-5
    assert np.array_equal(same.masks.crmasks, run(equivalent).masks.crmasks)


def test_coincidences_are_high_enough(equivalent):
    detection = run(equivalent, jt_coincidence=20)
    s = detection.statistics
    y, x = np.nonzero(detection.masks.mediancr)
    height = (s.median2d - s.min2d)[y, x]
    assert (height > 19 * np.sqrt(s.min2d[y, x].clip(0) + 3.4**2)).all()
    assert 0 < y.size < run(equivalent).masks.mediancr.sum()


@pytest.mark.parametrize("gain", [0.5, 4.0])
def test_units_do_not_matter(equivalent, gain):
    scaled = Stack(equivalent.exposures_adu / np.float32(gain))
    parameters = Parameters.from_mapping({"crmethod": "joint"})
    masks = crdetect.detect(scaled, Noise(gain, 3.4 / gain), parameters).masks
    assert np.array_equal(masks.crmasks, run(equivalent).masks.crmasks)
    assert np.array_equal(masks.mediancr, run(equivalent).masks.mediancr)


def test_maps_of_one_number_are_that_number(equivalent):
    maps = Noise(np.full(SHAPE, 1.0), np.full(SHAPE, 3.4))
    assert np.array_equal(run(equivalent, maps).masks.crmasks, run(equivalent).masks.crmasks)


def test_workers_change_nothing(different):
    parameters = Parameters.from_mapping({"crmethod": "joint"})
    stack = Stack(different.exposures_adu)
    one, four = (crdetect.detect(stack, NOISE, parameters, workers=n).masks for n in (1, 4))
    assert np.array_equal(one.crmasks, four.crmasks)


def test_missing_data(equivalent):
    exposures = equivalent.exposures_adu.copy()
    exposures[0, :50, :50] = np.nan
    exposures[:, 60:70, 60:70] = np.nan
    parameters = Parameters.from_mapping({"crmethod": "joint"})
    masks = crdetect.detect(Stack(exposures), NOISE, parameters).masks
    assert not masks.crmasks[:, :50, :50].any()  # two values are left, three are needed
    assert not masks.crmasks[:, 60:70, 60:70].any()
    whole = run(equivalent).masks.crmasks
    far = (slice(None), slice(80, None), slice(80, None))
    assert (masks.crmasks[far] != whole[far]).mean() < 1e-4


def test_read_noise_that_is_too_low_is_noticed():
    simulation = simulate_exposures(SHAPE, seed=3, hit_fraction=0.0, double_hits=0)
    told = Noise(1.0, 1.7)
    detection = run(simulation, told)
    assert 3.0 < detection.exposure_model.noise_model.measured_rnoise_e[0] < 4.1
    # a tenth too much, as measured: the template is made with the read noise that was told
    assert detection.exposure_model.noise_model.excess_e2 == pytest.approx(
        3.4**2 - 1.7**2, rel=0.12
    )
    assert detection.masks.crmasks.mean() < 1e-4


@pytest.mark.slow
def test_adaptive_diagram_flags_fewer_differences(different):
    values = {"crmethod": "mm_lacosmic", "mm_simulation": "analytic"}
    plain = run(different, **values)
    adaptive = run(different, **values, mm_synthetic="adaptive")
    assert score(different, adaptive.masks)[2] < 0.5 * score(different, plain.masks)[2]
    assert score(different, adaptive.masks)[0] > 0.7


def test_fluxes_are_not_divided_out_as_well(equivalent):
    with pytest.raises(crdetect.InputError, match="apply_flux_factor_to: simulated"):
        run(equivalent, flux_factor=1.0, apply_flux_factor_to="original")


def test_two_exposures(equivalent):
    stack = Stack(equivalent.exposures_adu[:2])
    parameters = Parameters.from_mapping({"crmethod": "joint"})
    detection = crdetect.detect(stack, NOISE, parameters)
    sigma = np.sqrt(equivalent.signal_e + 3.4**2)
    hit = equivalent.charge_e[:2] > 5 * sigma
    once = hit.sum(axis=0) == 1
    assert (detection.masks.crmasks & hit)[:, once].sum() > 0.93 * once.sum()
    assert (detection.masks.mediancr & once).sum() > 0.93 * once.sum()
    combined = detection.combine(stack, NOISE)
    other = np.where(hit[0], stack.exposures[1], stack.exposures[0])
    found = once & detection.masks.mediancr
    for name in ("mediancr", "meancr"):
        assert np.array_equal(combined[name].value[found], other[found])


@pytest.mark.parametrize("crmethod", ["mm_lacosmic", "lacosmic", "mmcosmic"])
def test_two_exposures_are_for_joint_detection_only(equivalent, crmethod):
    parameters = Parameters.from_mapping({"crmethod": crmethod})
    with pytest.raises(crdetect.InputError, match="at least 3 exposures, not 2; accepted for two"):
        crdetect.detect(Stack(equivalent.exposures_adu[:2]), NOISE, parameters)


def test_variance_of_single_values_is_that_of_the_noise_model(different):
    detection = run(different, jt_noise_terms=[0.01, 0.0, 0.0])
    combined = detection.combine(Stack(different.exposures_adu), NOISE)["min"]
    plain = np.maximum(combined.value, 0) + 3.4**2
    assert (combined.variance >= 0.999 * plain).all()
    signal = different.signal_e
    more = (combined.variance - plain) / (0.01 * np.square(signal))
    np.testing.assert_allclose(np.median(more[signal > 100]), 1, rtol=0.03)


@pytest.mark.parametrize("shape", [(5, 5), (5, 40), (33, 33), (3, 300)])
@pytest.mark.parametrize("rnoise", [0.0, 3.4])
@pytest.mark.parametrize("n", [2, 3, 9])
def test_whatever_comes_there_is_an_answer(shape, rnoise, n):
    rng = np.random.default_rng(1)
    noise, parameters = Noise(1.0, rnoise), Parameters.from_mapping({"crmethod": "joint"})
    level = noise.draw_adu(np.full((n, *shape), 50.0), rng)
    level[0, 2, 2] += 2000
    for exposures in (np.zeros_like(level), np.full_like(level, 6e4), level - 1e4):
        masks = crdetect.detect(Stack(exposures), noise, parameters).masks
        assert not masks.crmasks.any()
        assert not masks.mediancr.any()
    masks = crdetect.detect(Stack(level), noise, parameters).masks
    assert masks.crmasks[0, 2, 2]
    assert masks.crmasks.sum() <= 2  # one of thousands of pixels may be a false alarm
    assert masks.mediancr.sum() == (n == 2)  # of two exposures, one is half
    holes = level.copy()
    holes[0], holes[1, :, 0], holes[:, 1] = np.nan, np.nan, np.nan
    holes[0, 2, 2] = 50.0
    masks = crdetect.detect(Stack(holes), noise, parameters).masks
    assert not (masks.crmasks & np.isnan(holes)).any()
