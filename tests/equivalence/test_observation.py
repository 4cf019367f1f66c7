"""The exposures as they are compared, above all those divided by flux factors far from 1."""

from dataclasses import replace

import numpy as np
import pytest
from astropy.io import fits
from made import make_detection, through_a_file

from crdetect import InputError, Masks, Noise, Parameters, Stack, detect
from crdetect.equivalence.observation import observe
from crdetect.pipeline import check
from crdetect.products import crmasks_hdul
from crdetect.simulate import simulate_exposures
from crdetect.stored import apply_masks, read_crmasks
from crdetect.verdict import Quality

SHAPE = (24, 30)
NOISE = Noise(1.5, 3.0)
FACTORS = [(0.25, 1.0, 1.0), (1.0, 0.25, 4.0), (0.3, 1.0, 2.5)]
SIGNAL_ADU = 300.0
PIECEWISE = {
    "mm_boundary_fit": "piecewise",
    "mm_fixed_points_in_boundary": [[0, 60], [300, 250], [2000, 600]],
    "mm_nsimulations": 1,
    "mm_dilation": 0,
}
HIT_BUT_FOR = {(5, 5): 0, (10, 12): 1, (18, 25): 2, (20, 3): 0}
"""Pixels hit in all exposures but the one of this index."""
METHODS = ["mmcosmic", "mm_pycosmic", "pycosmic"]


def divided_by(factors, **more):
    given = {"flux_factor": list(factors), "apply_flux_factor_to": "original"}
    return Parameters.from_mapping(given | more)


def flat_field(factors, seed=1):
    """Exposures of a constant field with hits of two exposures at known pixels, ADU."""
    rng = np.random.default_rng(seed)
    cube = np.array([NOISE.draw_adu(np.full(SHAPE, SIGNAL_ADU * f), rng) for f in factors])
    for pixel, spared in HIT_BUT_FOR.items():
        for i, factor in enumerate(factors):
            if i != spared:
                cube[(i, *pixel)] += 3000.0 * factor
    return cube


def variance_of_one(value_adu, factor, gain=NOISE.gain, rnoise_adu=NOISE.rnoise_adu):
    """Variance of a divided value, from that of the value as it was read."""
    as_read = value_adu * factor
    return (np.maximum(as_read, 0) / gain + rnoise_adu**2) / factor**2


# ---------------------------------------------------------------------------------------------
# VARIANCE of divided exposures


@pytest.mark.parametrize("factors", FACTORS)
def test_variance_of_one_value_is_that_of_the_exposure_it_comes_from(factors):
    cube = flat_field(factors)
    parameters = divided_by(factors, crmethod="mmcosmic", **PIECEWISE)
    detection = detect(Stack(cube), NOISE, parameters)
    combined = detection.combine()
    divided = cube / np.reshape(factors, (3, 1, 1))
    for pixel, spared in HIT_BUT_FOR.items():
        assert detection.masks.mediancr[pixel]
        hit = [i != spared for i in range(3)]
        assert detection.masks.crmasks[(slice(None), *pixel)].tolist() == hit
        value = divided[(spared, *pixel)]
        expected = variance_of_one(value, factors[spared])
        for name in ("min", "mediancr", "meancrt", "meancr", "meancr2"):
            image = combined[name]
            np.testing.assert_allclose(image.value[pixel], value, rtol=1e-5, err_msg=name)
            np.testing.assert_allclose(image.variance[pixel], expected, rtol=1e-5, err_msg=name)
            assert image.count[pixel] == 1


@pytest.mark.parametrize("factors", FACTORS)
def test_variance_of_the_minimum_everywhere(factors):
    cube = flat_field(factors)
    cube[0, 3:5] = np.nan
    cube[:2, 7, 7] = np.nan
    detection = detect(Stack(cube), NOISE, divided_by(factors, crmethod="mmcosmic", **PIECEWISE))
    divided = cube / np.reshape(factors, (3, 1, 1))
    source = np.nanargmin(divided, axis=0)
    value = np.nanmin(divided, axis=0)
    image = detection.combine()["min"]
    expected = variance_of_one(value, np.array(factors)[source])
    assert set(source.ravel()) == {0, 1, 2}
    np.testing.assert_allclose(image.value, value, rtol=1e-5)
    np.testing.assert_allclose(image.variance, expected, rtol=1e-5)


def test_variance_with_maps_of_gain_and_read_noise():
    factors = (0.25, 1.0, 4.0)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    gain, rnoise = 1.0 + 0.02 * x, 2.0 + 0.1 * y
    cube = flat_field(factors)
    detection = detect(
        Stack(cube), Noise(gain, rnoise), divided_by(factors, crmethod="mmcosmic", **PIECEWISE)
    )
    combined = detection.combine()
    for pixel, spared in HIT_BUT_FOR.items():
        value = cube[(spared, *pixel)] / factors[spared]
        expected = variance_of_one(value, factors[spared], gain[pixel], rnoise[pixel])
        for name in ("min", "mediancr", "meancr", "meancr2"):
            np.testing.assert_allclose(combined[name].variance[pixel], expected, rtol=1e-5)


@pytest.mark.parametrize("factors", FACTORS)
@pytest.mark.parametrize("use_auxmedian", [False, True])
@pytest.mark.parametrize("crmethod", METHODS)
def test_stored_masks_give_the_same_variance(crmethod, use_auxmedian, factors):
    cube = flat_field(factors)
    parameters = divided_by(factors, crmethod=crmethod, use_auxmedian=use_auxmedian, **PIECEWISE)
    detection = detect(Stack(cube), NOISE, parameters)
    written = crmasks_hdul(detection, Quality(), fits.Header(), [])
    stored = read_crmasks(through_a_file(written))
    assert stored.flux_factors == factors
    again = apply_masks(stored, Stack(cube), NOISE, use_auxmedian)
    for name, image in detection.combine().items():
        assert again[name] == image, name
    if crmethod == "mmcosmic" and not use_auxmedian:
        for pixel, spared in HIT_BUT_FOR.items():
            value = cube[(spared, *pixel)] / factors[spared]
            for name in ("mediancr", "meancr", "meancr2"):
                np.testing.assert_allclose(
                    again[name].variance[pixel], variance_of_one(value, factors[spared]), rtol=1e-5
                )


@pytest.mark.parametrize("factors", FACTORS)
@pytest.mark.parametrize("source", [0, 1, 2])
def test_variance_is_that_of_many_realisations(factors, source):
    """A constant field of 4000 pixels holds 4000 realisations of the noise."""
    shape = (50, 80)
    rng = np.random.default_rng([7, source])
    cube = np.array([NOISE.draw_adu(np.full(shape, SIGNAL_ADU * f), rng) for f in factors])
    parameters = divided_by(factors, crmethod="mmcosmic")
    observation = observe(Stack(cube), NOISE, parameters)
    crmasks = np.ones((3, *shape), bool)
    crmasks[source] = False
    everywhere = np.ones(shape, bool)
    masks = Masks(everywhere, everywhere, crmasks, np.zeros(shape, bool))
    detection = replace(make_detection(parameters), observation=observation, masks=masks)
    image = detection.combine()["meancr"]
    assert (image.count == 1).all()
    sampled = np.var(cube[source] / factors[source], ddof=1)
    error = sampled * np.sqrt(2 / (cube[source].size - 1))
    assert abs(image.variance.mean(dtype=float) - sampled) < 4 * error
    # the error is small enough to tell it from what the given noise would have said
    assert abs(factors[source] - 1) < 0.1 or (
        abs(SIGNAL_ADU / NOISE.gain + NOISE.rnoise_adu**2 - sampled) > 20 * error
    )


# ---------------------------------------------------------------------------------------------
# The order of the exposures


def scene():
    simulation = simulate_exposures((48, 64), hit_fraction=0.03, double_hits=4, seed=9)
    return np.rint(simulation.exposures_adu)  # whole ADU: a division by powers of two is exact


@pytest.mark.parametrize("order", [(1, 0, 2), (2, 0, 1)])
@pytest.mark.parametrize("factors", [(0.25, 1.0, 1.0), (0.25, 1.0, 4.0)])
@pytest.mark.parametrize("crmethod", METHODS)
def test_order_of_divided_exposures_permutes_their_masks_only(crmethod, factors, order):
    order = list(order)
    cube = scene() * np.reshape(factors, (3, 1, 1))
    more = {"mm_threshold_rnoise": 5.0, "mm_minimum_max2d_rnoise": 6.0} | PIECEWISE
    one, other = (
        detect(
            Stack(cube[places]),
            NOISE,
            divided_by(np.array(factors)[places].tolist(), crmethod=crmethod, **more),
        )
        for places in ([0, 1, 2], order)
    )
    assert one.masks.mediancr.any()
    np.testing.assert_array_equal(one.masks.crmasks[order], other.masks.crmasks)
    for name in ("mediancr", "meancrt", "meancr"):
        np.testing.assert_array_equal(getattr(one.masks, name), getattr(other.masks, name))
    np.testing.assert_array_equal(one.auxclean, other.auxclean)
    assert one.statistics == other.statistics
    assert one.observation.typical_noise == other.observation.typical_noise
    if one.diagram is not None:
        thresholds = [
            (made.diagram.criterion.threshold_adu, made.diagram.criterion.minimum_max2d_adu)
            for made in (one, other)
        ]
        read_noise = np.median(NOISE.rnoise_adu / np.array(factors))
        assert thresholds[0] == thresholds[1] == (5.0 * read_noise, 6.0 * read_noise)
    ours, theirs = one.combine(), other.combine()
    for name, image in ours.items():
        np.testing.assert_array_equal(image.count, theirs[name].count, err_msg=name)
        for plane in ("value", "variance"):  # sums over exposures are rounded in their order
            np.testing.assert_allclose(
                getattr(image, plane), getattr(theirs[name], plane), rtol=1e-6, err_msg=name
            )


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (2, 1, 0), (1, 2, 0)])
def test_of_equal_divided_values_the_surest_is_the_minimum(order):
    """8 ADU divided by 4 is 2 ADU as half an ADU divided by a quarter, with less noise."""
    factors = np.array([0.25, 4.0, 1.0])[list(order)]
    values = np.array([0.5, 8.0, 100.0])[list(order)]
    cube = np.tile(np.reshape(values, (3, 1, 1)), SHAPE)
    parameters = divided_by(factors.tolist())
    observation = observe(Stack(cube), NOISE, parameters)
    nowhere = np.zeros(SHAPE, bool)
    masks = Masks(nowhere, nowhere, np.zeros(cube.shape, bool), nowhere)
    made = replace(make_detection(parameters), observation=observation, masks=masks)
    minimum = made.combine()["min"]
    assert (minimum.value == 2.0).all()
    np.testing.assert_allclose(minimum.variance, variance_of_one(2.0, 4.0), rtol=1e-6)


# ---------------------------------------------------------------------------------------------
# What is observed


def test_exposures_as_given_and_as_compared():
    cube, factors = flat_field((0.25, 1.0, 1.0)), (0.25, 1.0, 1.0)
    steps = []
    made = observe(Stack(cube), NOISE, divided_by(factors), progress=steps.append)
    assert made.given == Stack(cube)
    assert made.noise == NOISE
    assert made.flux.factors == factors
    assert not made.flux.measured
    divided = cube / np.reshape(factors, (3, 1, 1))
    np.testing.assert_allclose(made.stack.exposures, divided, rtol=1e-6)
    np.testing.assert_allclose(made.image("median2d"), np.median(divided, axis=0), rtol=1e-6)
    np.testing.assert_allclose(made.image("mean2d"), divided.mean(axis=0), rtol=1e-6)
    for i in range(3):
        np.testing.assert_array_equal(made.image(i), made.stack.exposures[i])
    assert made.factors == (1.0, 1.0, 1.0)
    assert steps == ["statistics of the stack"]


def test_noise_of_each_divided_exposure():
    """In electrons the read noise stays, and so does the number of photons of a signal."""
    factors = (0.25, 1.0, 4.0)
    made = observe(Stack(flat_field(factors)), NOISE, divided_by(factors))
    for own, factor in zip(made.noises, factors, strict=True):
        assert own.rnoise_e == pytest.approx(NOISE.rnoise_e)
        assert own.gain * (SIGNAL_ADU / factor) == pytest.approx(NOISE.gain * SIGNAL_ADU)
    assert made.combining_noise == made.noises


def test_factors_of_simulated_exposures_are_kept():
    factors = [0.25, 1.0, 1.0]
    parameters = Parameters.from_mapping({"flux_factor": factors})
    cube = flat_field(factors)
    made = observe(Stack(cube), NOISE, parameters)
    assert made.stack == made.given
    assert made.factors == tuple(factors)
    assert made.noises == (NOISE,) * 3
    assert made.combining_noise == made.typical_noise == NOISE


def test_one_number_is_the_factor_of_all():
    cube = flat_field((1.0, 1.0, 1.0))
    parameters = Parameters.from_mapping({"flux_factor": 0.5, "apply_flux_factor_to": "original"})
    made = observe(Stack(cube), NOISE, parameters)
    assert made.flux.factors == (0.5, 0.5, 0.5)
    expected = Noise(0.75, 6.0)  # twice the values, half the electrons for each
    assert made.combining_noise == made.typical_noise == expected


@pytest.mark.parametrize(
    ("factors", "gain", "rnoise"),
    [
        ((0.25, 1.0, 1.0), 1.5, 3.0),
        ((1.0, 1.0, 0.25), 1.5, 3.0),
        ((0.25, 0.5, 4.0), 0.75, 6.0),
        ((0.25, 1.0), 0.9375, 7.5),
    ],
)
def test_typical_noise_is_the_median_of_gain_and_of_read_noise(factors, gain, rnoise):
    cube = flat_field((1.0,) * len(factors))[: len(factors)]
    made = observe(Stack(cube), NOISE, divided_by(factors))
    assert made.typical_noise == Noise(gain, rnoise)


def test_typical_noise_of_maps():
    gain = np.linspace(1.0, 2.0, SHAPE[0] * SHAPE[1]).reshape(SHAPE)
    factors = (0.25, 0.5, 4.0)
    made = observe(Stack(flat_field(factors)), Noise(gain, 3.0), divided_by(factors))
    np.testing.assert_allclose(made.typical_noise.gain, 0.5 * gain, rtol=1e-6)
    assert made.typical_noise.rnoise_adu == 6.0


def test_matched_exposures_are_combined_with_the_noise_of_the_model():
    """A read noise told too low is found, and the variance of single values is the true one."""
    rng = np.random.default_rng(4)
    told, true = Noise(1.5, 1.0), Noise(1.5, 6.0)
    cube = np.array([true.draw_adu(np.full((64, 64), 40.0), rng) for _ in range(3)])
    steps = []
    parameters = Parameters.from_mapping({"crmethod": "joint"})
    made = observe(Stack(cube), told, parameters, progress=steps.append)
    assert steps == ["statistics of the stack", "matching the exposures"]
    assert made.typical_noise == told
    variance = made.combining_noise.variance_adu2(np.full((64, 64), 40.0)).mean()
    assert variance == pytest.approx(cube.var(axis=0, ddof=1).mean(), rel=0.1)


@pytest.mark.parametrize(
    "given",
    [
        {"crmethod": "joint"},
        {"crmethod": "joint_pycosmic"},
        {"crmethod": "mmcosmic", "mm_synthetic": "adaptive"},
    ],
)
@pytest.mark.parametrize("factor", ["auto", 0.25, [0.25, 1.0, 1.0]])
def test_exposures_that_are_matched_are_not_divided(given, factor):
    stack = Stack(flat_field((0.25, 1.0, 1.0)))
    parameters = Parameters.from_mapping(
        {"flux_factor": factor, "apply_flux_factor_to": "original"} | given
    )
    for start in (check, detect):
        with pytest.raises(InputError, match="set apply_flux_factor_to: simulated, or"):
            start(stack, NOISE, parameters)
    simulated = Parameters.from_mapping({"flux_factor": [0.25, 1.0, 1.0]} | given)
    check(stack, NOISE, simulated)
