"""What must hold of a whole detection, whatever the exposures."""

import itertools

import numpy as np
import pytest
from made import make_detection

import crdetect
from crdetect.equivalence.flux import number_at_median
from crdetect.errors import InputError
from crdetect.exposures import make_exposures
from crdetect.masks import ACROSS_ONLY
from crdetect.pipeline import check
from crdetect.simulate import simulate_exposures

SHAPE = (96, 128)
PIECEWISE = {
    "mm_boundary_fit": "piecewise",
    "mm_fixed_points_in_boundary": [[0, 30], [50, 60], [300, 120]],
}
ANALYTIC = {"mm_simulation": "analytic"}
NEW_PATHS = {
    "analytic": ANALYTIC,
    "false pixels": ANALYTIC | {"mm_false_pixels": 5},
    "nbinom auto": {"mm_photon_distribution": "nbinom", "mm_nbinom_shape": "auto"} | ANALYTIC,
    "flux auto": {"flux_factor": "auto"} | ANALYTIC,
    "flux auto, divided": {"flux_factor": "auto", "apply_flux_factor_to": "original"} | ANALYTIC,
}
METHODS = [
    *("lacosmic", "pycosmic", "deepcr", "conn", "mmcosmic"),
    *("mm_lacosmic", "mm_pycosmic", "mm_deepcr", "mm_conn"),
    *("joint", "joint_lacosmic", "joint_pycosmic", "joint_deepcr", "joint_conn"),
]
ALONE = {"lacosmic": (0.14, 0.54), "pycosmic": (1, 0.88), "deepcr": (1, 0.76), "conn": (0.73, 0.32)}
"""Least shares found, as measured: of pixels hit twice, in the median; of hits, in exposures."""
ACROSS = [name for name in METHODS if name.startswith(("mm", "joint"))]  # compare exposures


def simulated(seed=3, **more):
    return simulate_exposures(SHAPE, hit_fraction=0.02, double_hits=6, seed=seed, **more)


@pytest.fixture(scope="module")
def exposures():
    # whole electrons: exact in float32 under shifts and scaling by powers of two
    return np.rint(simulated().exposures_adu)


def detect(exposures, gain=1.0, rnoise=3.4, workers=2, **parameters):
    parameters = {"crmethod": "mm_pycosmic"} | parameters
    return crdetect.detect(
        crdetect.Stack(exposures),
        crdetect.Noise(gain, rnoise),
        crdetect.Parameters.from_mapping(parameters),
        workers,
    )


def assert_same_masks(one, other):
    for name in ("mediancr", "meancrt", "crmasks", "meancr"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


@pytest.mark.parametrize("crmethod", METHODS)
def test_planted_double_hits_are_found(crmethod):
    simulation = simulated(seed=11)
    detection = detect(simulation.exposures_adu, crmethod=crmethod)
    sigma = np.sqrt(simulation.signal_e + 3.4**2)
    hits = (simulation.charge_e > 8 * sigma).sum(axis=0)
    strong = (hits >= 2) & simulation.planted
    if crmethod.startswith("joint"):  # a pixel hit in every exposure looks like signal to it
        strong &= hits < len(simulation.charge_e)
    found = detection.masks.mediancr[strong].mean()
    # detectors of one image take many for spectral features; what compares exposures does not
    in_median, in_exposures = ALONE.get(crmethod, (1, 0))
    assert found >= in_median
    hit = simulation.charge_e > 8 * sigma
    assert detection.masks.crmasks[hit].mean() >= in_exposures


@pytest.mark.parametrize("crmethod", METHODS)
def test_masks_are_nested(exposures, crmethod):
    masks = detect(exposures, crmethod=crmethod).masks
    assert masks.crmasks.any()
    assert not (masks.mediancr & ~masks.meancrt).any()
    assert not (masks.crmasks & ~masks.meancrt).any()


@pytest.mark.parametrize("crmethod", ["mm_pycosmic", "mm_lacosmic", "joint", "joint_pycosmic"])
def test_permuting_exposures_permutes_their_masks_only(exposures, crmethod):
    order = [2, 0, 1]
    one = detect(exposures, crmethod=crmethod, **PIECEWISE)
    other = detect(exposures[order], crmethod=crmethod, **PIECEWISE)
    np.testing.assert_array_equal(one.masks.crmasks[order], other.masks.crmasks)
    for name in ("mediancr", "meancrt", "meancr"):
        np.testing.assert_array_equal(getattr(one.masks, name), getattr(other.masks, name))
    np.testing.assert_array_equal(one.auxclean, other.auxclean)


@pytest.mark.parametrize("crmethod", ["mm_pycosmic", "mmcosmic", "pycosmic", "lacosmic"])
def test_permuting_exposures_divided_by_factors_far_from_1(exposures, crmethod):
    """The exposures are equally bright once they are divided."""
    order, factors = [2, 0, 1], np.array([0.25, 1.0, 4.0])
    more = {"mm_threshold_rnoise": 5.0, "apply_flux_factor_to": "original"} | PIECEWISE
    one, other = (
        detect(
            exposures[places] * factors[places, np.newaxis, np.newaxis],
            crmethod=crmethod,
            flux_factor=factors[places].tolist(),
            **more,
        )
        for places in ([0, 1, 2], order)
    )
    assert one.masks.mediancr.any()
    np.testing.assert_array_equal(one.masks.crmasks[order], other.masks.crmasks)
    for name in ("mediancr", "meancrt", "meancr"):
        np.testing.assert_array_equal(getattr(one.masks, name), getattr(other.masks, name))
    np.testing.assert_array_equal(one.auxclean, other.auxclean)


def test_permuting_changes_nothing_in_a_simulated_boundary_either(exposures):
    one, other = detect(exposures), detect(exposures[[1, 2, 0]])
    np.testing.assert_array_equal(one.masks.mediancr, other.masks.mediancr)


@pytest.fixture(scope="module")
def of_paths(exposures):
    """Detections of the new paths: slow enough to be made once."""
    return {name: detect(exposures, **given) for name, given in NEW_PATHS.items()}


@pytest.mark.parametrize("path", NEW_PATHS)
def test_permuting_permutes_masks_of_each_path(exposures, of_paths, path):
    order = [2, 0, 1]
    one, other = of_paths[path], detect(exposures[order], **NEW_PATHS[path])
    np.testing.assert_allclose(np.array(one.flux.factors)[order], other.flux.factors, rtol=1e-4)
    # with factors, rounding may move a pixel on the boundary
    allowed = 2 if "flux" in path else 0
    assert np.count_nonzero(one.masks.crmasks[order] != other.masks.crmasks) <= 3 * allowed
    for name in ("mediancr", "meancrt", "meancr"):
        differ = getattr(one.masks, name) != getattr(other.masks, name)
        assert np.count_nonzero(differ) <= allowed, name
    assert one.masks.mediancr.any()


@pytest.mark.parametrize("path", NEW_PATHS)
def test_adu_with_gain_equals_electrons_in_each_path(exposures, of_paths, path):
    gain = 4.0
    in_e = of_paths[path]
    in_adu = detect(exposures / gain, gain, 3.4 / gain, **NEW_PATHS[path])
    assert_same_masks(in_e.masks, in_adu.masks)
    np.testing.assert_allclose(in_e.flux.factors, in_adu.flux.factors, rtol=1e-5)
    x = np.linspace(0, 300, 50)
    boundaries = [made.diagram.criterion.boundary for made in (in_e, in_adu)]
    np.testing.assert_allclose(boundaries[1](x / gain) * gain, boundaries[0](x), rtol=2e-3)


@pytest.mark.parametrize("path", NEW_PATHS)
def test_bias_changes_nothing_in_any_path(exposures, of_paths, path):
    read = make_exposures(exposures + 512.0, [{}] * 3, list("abc"), 1.0, 3.4, 512.0)
    other = detect(read.stack.exposures, **NEW_PATHS[path])
    assert_same_masks(of_paths[path].masks, other.masks)
    assert of_paths[path].used() == other.used()


@pytest.mark.parametrize("path", NEW_PATHS)
def test_seed_and_workers_change_nothing_in_computed_paths(exposures, of_paths, path):
    other = detect(exposures, workers=1, mm_seed=77, **NEW_PATHS[path])
    assert_same_masks(of_paths[path].masks, other.masks)
    assert "mm_seed" not in other.used()


@pytest.mark.parametrize("crmethod", METHODS)
def test_adu_with_gain_equals_electrons(exposures, crmethod):
    gain = 4.0
    points = [[x / gain, y / gain] for x, y in PIECEWISE["mm_fixed_points_in_boundary"]]
    in_e = detect(exposures, crmethod=crmethod, **PIECEWISE)
    in_adu = detect(
        exposures / gain,
        gain,
        3.4 / gain,
        crmethod=crmethod,
        la_satlevel=65535.0 / gain,
        **PIECEWISE | {"mm_fixed_points_in_boundary": points},
    )
    assert_same_masks(in_e.masks, in_adu.masks)
    np.testing.assert_allclose(in_adu.auxclean * gain, in_e.auxclean, rtol=1e-6)


def test_adu_with_gain_equals_electrons_when_simulated(exposures):
    gain = 2.0
    in_e, in_adu = detect(exposures), detect(exposures / gain, gain, 3.4 / gain)
    assert_same_masks(in_e.masks, in_adu.masks)


@pytest.mark.parametrize("crmethod", METHODS)
@pytest.mark.parametrize("bias", [1000.0, np.full(SHAPE, 300.0)], ids=["number", "map"])
def test_bias_in_data_and_parameter_changes_nothing(exposures, crmethod, bias):
    def masks(images, level):
        read = make_exposures(images, [{}] * 3, list("abc"), 1.0, 3.4, level)
        return detect(read.stack.exposures, crmethod=crmethod).masks

    assert_same_masks(masks(exposures, 0.0), masks(exposures + bias, bias))


def test_maps_of_constant_gain_and_noise_equal_numbers(exposures):
    numbers = detect(exposures, 2.0, 1.7)
    maps = detect(exposures, np.full(SHAPE, 2.0), np.full(SHAPE, 1.7))
    assert_same_masks(numbers.masks, maps.masks)


@pytest.mark.parametrize("synthetic", ["median", "single"])
def test_result_does_not_depend_on_workers_but_on_the_seed(exposures, synthetic):
    one = detect(exposures, workers=1, mm_synthetic=synthetic)
    other = detect(exposures, workers=3, mm_synthetic=synthetic)
    assert_same_masks(one.masks, other.masks)
    counts = one.diagram.clean.counts
    np.testing.assert_array_equal(counts, other.diagram.clean.counts)
    again = detect(exposures, mm_synthetic=synthetic, mm_seed=7).diagram.clean
    assert again.limits != one.diagram.clean.limits


def test_single_and_median_simulate_different_signals(exposures):
    median = detect(exposures, mm_synthetic="median").diagram.clean
    single = detect(exposures, mm_synthetic="single").diagram.clean
    assert not np.array_equal(median.counts, single.counts)


def test_mm_x_is_x_and_mm(exposures):
    aux, mm, both = (
        detect(exposures, crmethod=name, **PIECEWISE)
        for name in ("pycosmic", "mmcosmic", "mm_pycosmic")
    )
    expected = aux.masks.mediancr | mm.masks.mediancr
    # features of aux below the threshold go
    assert not (both.masks.mediancr & ~expected).any()
    assert not (mm.masks.mediancr & ~both.masks.mediancr).any()
    assert aux.diagram is None
    assert (mm.codes[mm.masks.mediancr] == ACROSS_ONLY).all()


def test_selected_pixels_and_regions(exposures):
    plain = detect(exposures, **PIECEWISE)
    y, x = np.argwhere(plain.masks.mediancr)[0] + 1
    clean_y, clean_x = np.argwhere(~plain.masks.meancrt)[40] + 1
    region = [1, 64, 1, 96]
    chosen = detect(
        exposures,
        regions_to_be_skipped=[region],
        pixels_to_be_flagged_as_cr=[[clean_x, clean_y]],
        dilation=2,
        **PIECEWISE,
    )
    skipped = np.zeros(SHAPE, bool)
    skipped[:, :64] = True
    flagged = np.zeros(SHAPE, bool)
    flagged[clean_y - 1, clean_x - 1] = True
    for mask in (chosen.masks.mediancr, chosen.masks.meancrt, *chosen.masks.crmasks):
        assert mask[flagged].all()
        assert not (mask & skipped & ~flagged).any()
    assert not (chosen.masks.meancr & skipped).any()
    ignored = detect(exposures, pixels_to_be_ignored_as_cr=[[x, y]], dilation=1, **PIECEWISE)
    for mask in (ignored.masks.mediancr, ignored.masks.meancrt, *ignored.masks.crmasks):
        assert not mask[y - 1, x - 1]
    once = detect(exposures, pixels_to_be_ignored_in_mediancr=[[x, y]], dilation=1, **PIECEWISE)
    plain = detect(exposures, dilation=1, **PIECEWISE)
    assert plain.masks.mediancr[y - 1, x - 1]
    assert not once.masks.mediancr[y - 1, x - 1]
    assert once.masks.meancrt[y - 1, x - 1]
    np.testing.assert_array_equal(once.masks.crmasks, plain.masks.crmasks)


def test_global_dilation_grows_all_masks_but_meancr(exposures):
    plain, grown = detect(exposures, **PIECEWISE), detect(exposures, dilation=1, **PIECEWISE)
    for name in ("mediancr", "meancrt"):
        one, other = getattr(plain.masks, name), getattr(grown.masks, name)
        assert not (one & ~other).any()
        assert other.sum() > one.sum()
    assert (grown.codes == 1).any()
    assert grown.features.counts().keys() == plain.features.counts().keys()


def test_missing_values_are_never_flagged_and_counted_in_map(exposures):
    holed = exposures.copy()
    holed[0, 10:20, 10:30] = np.nan
    holed[1, 15, 15] = np.inf
    holed[:, 40, 40] = np.nan
    stack, noise = crdetect.Stack(holed), crdetect.Noise(1.0, 3.4)
    detection = detect(holed)
    missing = ~np.isfinite(holed)
    assert not detection.masks.mediancr[missing.any(axis=0)].any()
    assert not detection.masks.crmasks[missing].any()
    combined = detection.combine(stack, noise)
    for name, image in combined.items():
        assert np.isnan(image.value[40, 40]), name
        assert image.count[40, 40] == 0
        assert np.isfinite(np.delete(image.value.ravel(), 40 * SHAPE[1] + 40)).all(), name
    assert combined["mean"].count[12, 12] == 2
    assert combined["mean"].count[15, 15] == 1
    assert combined["median"].value[15, 15] == exposures[2, 15, 15]
    # elsewhere as without holes
    far = np.ones(SHAPE, bool)
    far[:60, :60] = False
    whole = detect(exposures, **PIECEWISE)
    again = detect(holed, **PIECEWISE)
    np.testing.assert_array_equal(whole.masks.mediancr[far], again.masks.mediancr[far])


def test_too_few_values_are_not_flagged_in_meancr_either(exposures):
    holed = exposures.copy()
    holed[0, 20, 20] = np.nan
    holed[1, 20, 20] += 3000.0
    for crmethod in ("mm_pycosmic", "pycosmic", "lacosmic"):
        masks = detect(holed, crmethod=crmethod).masks
        for mask in (masks.mediancr, masks.meancrt, masks.meancr, *masks.crmasks):
            assert not mask[20, 20]


@pytest.mark.parametrize("crmethod", METHODS)
def test_tiny_exposures(crmethod):
    field = np.random.default_rng(1).poisson(100.0, (3, 1, 100)).astype(np.float32)
    if crmethod in ("mmcosmic", "joint"):  # no filter, no least size
        assert detect(field, crmethod=crmethod).masks.mediancr.shape == (1, 100)
    else:
        with pytest.raises(InputError, match="too small"):
            detect(field, crmethod=crmethod)
        small = (20, 20) if crmethod.endswith("conn") else (10, 10)
        field = np.resize(field, (3, *small))
        assert detect(field, crmethod=crmethod).masks.mediancr.shape == small


def test_signals_beyond_any_detector(exposures):
    with pytest.raises(InputError, match="more than a detector gives"):
        detect(exposures * 1e18)


def test_new_seed_each_time_is_told():
    field = np.random.default_rng(1).poisson(100.0, (3, 32, 32)).astype(np.float32)
    one, other = (detect(field, mm_seed=None).diagram for _ in range(2))
    assert one.seed != other.seed
    again = detect(field, mm_seed=one.seed).diagram
    np.testing.assert_array_equal(again.clean.counts, one.clean.counts)


def test_five_exposures_find_triple_hits():
    simulation = simulate_exposures(SHAPE, nexposures=5, hit_fraction=0.0, double_hits=0, seed=2)
    exposures = simulation.exposures_adu.copy()
    exposures[:3, 50, 60] += 3000.0
    exposures[:2, 20, 30] += 3000.0  # the median of five survives two hits
    found = detect(exposures, mm_cr_coincidences=3, mm_dilation=0, crmethod="mmcosmic").masks
    assert found.mediancr[50, 60]
    assert not found.mediancr[20, 30]
    assert found.crmasks[:, 50, 60].tolist() == [True] * 3 + [False] * 2
    assert found.crmasks[:, 20, 30].tolist() == [True] * 2 + [False] * 3


@pytest.mark.parametrize("crmethod", METHODS)
def test_auxclean_fills_the_combinations(exposures, crmethod):
    stack, noise = crdetect.Stack(exposures), crdetect.Noise(1.0, 3.4)
    by_minimum, by_auxclean = (
        detect(exposures, crmethod=crmethod, use_auxmedian=use) for use in (False, True)
    )
    assert np.isfinite(by_auxclean.auxclean).all()
    for detection, filling in (
        (by_minimum, by_minimum.statistics.min2d),
        (by_auxclean, by_auxclean.auxclean),
    ):
        combined, masks = detection.combine(stack, noise), detection.masks
        hit_in_all = masks.crmasks.all(axis=0)
        assert masks.mediancr.any()
        for name, mask in (("mediancr", masks.mediancr), ("meancr", hit_in_all)):
            np.testing.assert_array_equal(combined[name].value[mask], filling[mask])


@pytest.mark.parametrize("crmethod", ACROSS)
def test_auxclean_is_clean_at_all_of_mediancr(crmethod):
    simulation = simulated(seed=11)
    detection = detect(simulation.exposures_adu, crmethod=crmethod, use_auxmedian=True)
    mask = detection.masks.mediancr
    assert mask.any()
    # a local median knows no spectra, but the charge of cosmic rays is gone
    charge = np.sort(simulation.charge_e, axis=0)[-2]
    bright = mask & (charge > 500)
    excess = detection.auxclean[bright] - simulation.signal_e[bright]
    assert np.median(np.abs(excess)) < 0.2 * np.median(charge[bright])


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"mm_cr_coincidences": 3}, "mm_cr_coincidences"),
        ({"regions_to_be_skipped": [[1, 500, 1, 5]]}, "not inside the image"),
        ({"pixels_to_be_flagged_as_cr": [[129, 1]]}, "not inside the image"),
        ({"pixels_to_be_replaced_by_local_median": [[1, 97, 3, 3]]}, "not inside the image"),
        (
            {"flux_factor_regions": [[1, 129, 1, 5]]},
            "flux_factor_regions.* not inside the image",
        ),
        ({"mm_crosscorr_region": [1, 100, 1, 97]}, "mm_crosscorr_region.* not inside the image"),
        ({"flux_factor": [1.0, 1.0]}, "flux_factor has 2 values for 3 exposures"),
        ({"flux_factor": [1.0] * 4}, "flux_factor has 4 values for 3 exposures"),
        ({"mm_xy_offsets": [[0, 0]]}, "mm_xy_offsets has 1 values for 3 exposures"),
    ],
)
def test_parameters_that_do_not_fit_the_exposures(exposures, parameters, says):
    with pytest.raises(InputError, match=says):
        detect(exposures, **parameters)
    stack, noise = crdetect.Stack(exposures), crdetect.Noise(1.0, 3.4)
    with pytest.raises(InputError, match=says):
        check(stack, noise, crdetect.Parameters.from_mapping(parameters))


@pytest.mark.parametrize(("n", "c"), [(4, 3), (5, 2), (5, 3), (6, 5)])
def test_computed_diagram_is_refused_before_any_work(n, c):
    cube = np.ones((n, *SHAPE), np.float32)
    given = {"mm_cr_coincidences": c} | ANALYTIC
    with pytest.raises(InputError, match=r"mm_simulation: analytic .* accepted: montecarlo"):
        detect(cube, **given)
    with pytest.raises(InputError, match=f"not {n} and {c}; accepted: montecarlo"):
        check(
            crdetect.Stack(cube),
            crdetect.Noise(1.0, 3.4),
            crdetect.Parameters.from_mapping(given),
        )
    # without M.M.Cosmic it does not matter
    parameters = crdetect.Parameters.from_mapping({"crmethod": "pycosmic"} | given)
    check(crdetect.Stack(cube), crdetect.Noise(1.0, 3.4), parameters)


def test_map_of_another_shape(exposures):
    with pytest.raises(InputError, match="map of gain"):
        detect(exposures, np.ones((5, 5)))


def test_progress_tells_each_step(exposures):
    steps = []
    crdetect.detect(
        crdetect.Stack(exposures),
        crdetect.Noise(1.0, 3.4),
        crdetect.Parameters.from_mapping({"flux_factor": "auto"}),
        progress=steps.append,
    )
    assert "measuring flux factors" in steps
    assert [step for step in steps if "median2d" in step]
    assert len(steps) >= 8


# ---------------------------------------------------------------------------------------------
# Flux factors


FLUX = (0.8, 1.0, 1.2, 0.9, 1.1)


@pytest.mark.parametrize(
    ("n", "simulation"),
    [(3, "montecarlo"), (4, "montecarlo"), (5, "montecarlo"), (3, "analytic")],
)
def test_flux_factors_take_false_positives_away(n, simulation):
    flux = FLUX[:n]
    cube = simulate_exposures(
        (120, 160), n, flux=flux, hit_fraction=0.0, double_hits=0, seed=5
    ).exposures_adu
    given = {"crmethod": "mmcosmic", "mm_dilation": 0, "mm_simulation": simulation}
    plain = detect(cube, **given)
    assert plain.masks.mediancr.sum() > 500
    assert plain.flux.factors == (1.0,) * n
    assert "flux_factor" not in plain.used()
    for applied_to in ("simulated", "original"):
        auto = detect(cube, flux_factor="auto", apply_flux_factor_to=applied_to, **given)
        np.testing.assert_allclose(auto.flux.factors, flux / np.median(flux), rtol=0.02)
        assert auto.used()["flux_factor"] == list(auto.flux.factors)
        assert auto.masks.mediancr.sum() < 0.02 * plain.masks.mediancr.sum()
        assert auto.masks.meancrt.sum() < 0.02 * plain.masks.meancrt.sum()
        numbers = detect(
            cube,
            flux_factor=list(auto.flux.factors),
            apply_flux_factor_to=applied_to,
            **given,
        )
        assert_same_masks(numbers.masks, auto.masks)
        assert numbers.flux.factors == auto.flux.factors
        assert "flux_factor" not in numbers.used()


def pixels_by_height(diagram):
    """Pixels in the ten lowest of fifty slices."""
    return diagram.counts.reshape(50, 2, 100).sum(axis=(1, 2))[:10]


@pytest.mark.parametrize("simulation", ["montecarlo", "analytic"])
def test_simulated_exposures_are_multiplied_by_their_factors(simulation):
    """Were they divided, 0.6 : 1 : 1.1 would be 1.7 : 1 : 0.9, and median − minimum a fourth."""
    flux = (0.6, 1.0, 1.1)
    cube = simulate_exposures(
        (120, 160), flux=flux, hit_fraction=0.0, double_hits=0, seed=6
    ).exposures_adu
    given = {"crmethod": "mmcosmic", "mm_simulation": simulation, "mm_ydiag_max": 400.0}
    right, wrong = (
        detect(cube, flux_factor=list(factors), **given).diagram
        for factors in (flux, 1 / np.array(flux))
    )
    real = pixels_by_height(right.real)
    expected, other = pixels_by_height(right.clean), pixels_by_height(wrong.clean)
    assert (real[1:] > 50).all()
    # the median of three noisy exposures is not quite the signal
    np.testing.assert_allclose(expected, real, rtol=0.25)
    assert (other[6:] < 0.5 * real[6:]).all()


@pytest.mark.parametrize("given", [[0.5, 1.0, 2.0], 2.0])
def test_original_exposures_are_divided_by_their_factors(exposures, given):
    detection = detect(exposures, flux_factor=given, apply_flux_factor_to="original")
    factors = np.broadcast_to(given, 3)
    assert detection.flux.factors == tuple(factors)
    divided = exposures / np.reshape(factors, (3, 1, 1))
    np.testing.assert_allclose(detection.statistics.median2d, np.median(divided, axis=0), rtol=1e-6)
    combined = detection.combine(crdetect.Stack(exposures), crdetect.Noise(1.0, 3.4))
    np.testing.assert_allclose(combined["mean"].value, divided.mean(axis=0), rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(combined["min"].value, divided.min(axis=0), rtol=1e-6)
    clean = ~detection.masks.meancrt
    mean, spread = divided.mean(axis=0)[clean], divided.var(axis=0, ddof=1)[clean]
    np.testing.assert_allclose(combined["meancr"].value[clean], mean, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(combined["meancr"].variance[clean], spread, rtol=1e-3, atol=1e-3)
    # applied to the simulated ones, what is combined is what was given
    simulated = detect(exposures, flux_factor=given)
    combined = simulated.combine(crdetect.Stack(exposures), crdetect.Noise(1.0, 3.4))
    np.testing.assert_allclose(combined["mean"].value, exposures.mean(axis=0), rtol=1e-5, atol=1e-4)


def test_noise_of_divided_exposures_is_their_own(exposures):
    """Division by 1/4 is a multiplication by 4: as electrons with a gain of 1/4."""
    given = {"crmethod": "mmcosmic"} | PIECEWISE
    divided = detect(exposures, flux_factor=0.25, apply_flux_factor_to="original", **given)
    plain = detect(4 * exposures, 0.25, 4 * 3.4, **given)
    assert_same_masks(divided.masks, plain.masks)
    np.testing.assert_array_equal(divided.statistics.median2d, plain.statistics.median2d)
    np.testing.assert_array_equal(divided.diagram.clean.counts, plain.diagram.clean.counts)
    assert divided.diagram.clean.limits == plain.diagram.clean.limits


def test_flux_is_measured_in_its_regions():
    cube = simulate_exposures((120, 160), hit_fraction=0.0, double_hits=0, seed=4).exposures_adu
    cube[0, :, :80] *= 0.7
    cube[0, :, 80:] *= 1.2
    left, right = (
        detect(cube, crmethod="mmcosmic", flux_factor="auto", flux_factor_regions=regions)
        for regions in ([[1, 80, 1, 120]], [[81, 160, 1, 60], [81, 160, 61, 120]])
    )
    np.testing.assert_allclose(left.flux.factors, (0.7, 1, 1), rtol=0.02)
    np.testing.assert_allclose(right.flux.factors, (1.2, 1, 1), rtol=0.02)
    everywhere = detect(cube, crmethod="mmcosmic", flux_factor="auto")
    assert everywhere.flux.factors not in (left.flux.factors, right.flux.factors)
    with pytest.raises(InputError, match="flux_factor: auto finds"):
        detect(cube, flux_factor="auto", flux_factor_regions=[[1, 5, 1, 5]])


def test_flux_factors_without_mm(exposures):
    detection = detect(exposures, crmethod="pycosmic", flux_factor="auto")
    np.testing.assert_allclose(detection.flux.factors, 1, atol=0.01)
    assert detection.diagram is None
    assert list(detection.used()) == ["flux_factor"]


# ---------------------------------------------------------------------------------------------
# Offsets


OFFSETS = ((-0.5, 0.5), (0.0, 0.0), (0.5, -0.25))


@pytest.mark.parametrize("crmethod", ["mmcosmic", "mm_pycosmic"])
@pytest.mark.parametrize("flux", [(1.0, 1.0, 1.0), (0.8, 1.0, 1.2)])
def test_offsets_take_false_positives_away(crmethod, flux):
    cube = simulate_exposures(
        (120, 160), offsets_px=OFFSETS, flux=flux, hit_fraction=0.0, double_hits=0, seed=5
    ).exposures_adu
    given = {"crmethod": crmethod, "mm_dilation": 0, "flux_factor": list(flux)}
    plain = detect(cube, **given).masks.mediancr.sum()
    assert plain > 300
    told = detect(cube, mm_xy_offsets=[list(xy) for xy in OFFSETS], **given)
    assert told.masks.mediancr.sum() < 0.05 * plain
    measured = detect(cube, mm_crosscorr_region=[1, 160, 1, 120], **given)
    assert measured.masks.mediancr.sum() < 0.05 * plain
    np.testing.assert_allclose(measured.diagram.offsets.xy_px, OFFSETS, atol=0.05)
    np.testing.assert_allclose(measured.used()["mm_xy_offsets"], OFFSETS, atol=0.05)


@pytest.mark.parametrize("applied_to", ["simulated", "original"])
@pytest.mark.parametrize("n", [3, 5])
def test_flux_is_measured_where_the_image_is(n, applied_to):
    """At the edges of traces a pixel half a pixel away has any ratio."""
    flux = (0.8, 1.0, 1.2, 0.9, 1.1)[:n]
    offsets = ((-0.7, 0.9), (0.0, 0.0), (0.5, -0.8), (0.3, 0.2), (-0.2, -0.4))[:n]
    cube = simulate_exposures(
        (160, 200), n, flux=flux, offsets_px=offsets, hit_fraction=0.01, seed=6
    ).exposures_adu
    cube[0, 40:43, 50:53] = np.nan
    given = {"flux_factor": "auto", "apply_flux_factor_to": applied_to, "mm_nsimulations": 1}
    at_median = number_at_median(crdetect.Stack(cube), np.nanmedian(cube, axis=0))
    told = detect(cube, mm_xy_offsets=[list(xy) for xy in offsets], **given)
    found = detect(cube, mm_crosscorr_region=[1, 200, 1, 160], **given)
    for detection in (told, found):
        np.testing.assert_allclose(detection.flux.factors, flux / np.median(flux), rtol=0.02)
        np.testing.assert_array_equal(detection.flux.number_at_median, at_median)
    without = detect(cube, **given)
    assert np.abs(without.flux.factors / (flux / np.median(flux)) - 1).max() > 0.05
    np.testing.assert_allclose(
        found.diagram.offsets.xy_px, offsets - np.median(offsets, axis=0), atol=0.1
    )


@pytest.mark.slow
@pytest.mark.parametrize("crmethod", ["mmcosmic", "mm_lacosmic", "mm_pycosmic", "mm_conn"])
def test_offsets_among_cosmic_rays(crmethod):
    """Whatever the detector leaves of them: mmcosmic has none, and L.A.Cosmic misses a third."""
    simulation = simulate_exposures((300, 400), offsets_px=OFFSETS, seed=3)
    found = detect(
        simulation.exposures_adu,
        crmethod=crmethod,
        mm_crosscorr_region=[1, 400, 1, 300],
        mm_nsimulations=1,
    )
    np.testing.assert_allclose(found.diagram.offsets.xy_px, OFFSETS, atol=0.04)


def test_region_of_the_correlation_is_in_fits_pixels():
    """Outside of it the exposures have no likeness at all."""
    cube = simulate_exposures(
        (120, 160), offsets_px=OFFSETS, hit_fraction=0.0, double_hits=0, seed=5
    ).exposures_adu
    inside = (slice(None), slice(9, 110), slice(19, 160))
    other = np.random.default_rng(1).uniform(0, 1e4, cube.shape).astype(np.float32)
    other[inside] = cube[inside]
    region = [20, 160, 10, 110]
    found = detect(other, crmethod="mmcosmic", mm_crosscorr_region=region).diagram.offsets
    np.testing.assert_allclose(found.xy_px, OFFSETS, atol=0.05)
    alone = detect(cube, crmethod="mmcosmic", mm_crosscorr_region=region).diagram.offsets
    np.testing.assert_allclose(found.xy_px, alone.xy_px, atol=1e-6)


# ---------------------------------------------------------------------------------------------
# The effect of each parameter of M.M.Cosmic


@pytest.mark.parametrize("n", range(3, 10))
def test_coincidences_of_any_number_of_exposures(n):
    """In a flat field, the pixel in row k is hit in k exposures."""
    rng = np.random.default_rng(n)
    cube = rng.poisson(50.0, (n, 32, 48)) + rng.normal(0, 3.4, (n, 32, 48))
    for hits in range(1, n + 1):
        which = rng.choice(n, hits, replace=False)
        cube[which, 3 * hits, 20] += 4000
    given = {"crmethod": "mmcosmic", "mm_dilation": 0, "mm_nsimulations": 3}
    for c in range(2, n):
        detection = detect(cube, mm_cr_coincidences=c, **given)
        masks, min2d = detection.masks, detection.statistics.min2d
        lowest = np.sort(cube, axis=0)[: n - c].mean(axis=0)
        np.testing.assert_allclose(min2d, lowest, rtol=1e-5, atol=1e-4)
        for hits in range(1, c + 1):
            y = 3 * hits
            # the median shows it where half of the exposures are hit
            assert masks.mediancr[y, 20] == (2 * hits >= n), (c, hits)
            # the highest of many clean values may be above the boundary of the median
            height = cube[:, y, 20] - min2d[y, 20]
            above = height > detection.diagram.criterion.boundary(min2d[y, 20])
            np.testing.assert_array_equal(masks.crmasks[:, y, 20], above)
            assert above[cube[:, y, 20] > 2000].all()
        # what was hit everywhere looks like signal
        assert not masks.meancrt[3 * n, 20]


def flagged(cube, **given):
    masks = detect(cube, crmethod="mmcosmic", mm_dilation=0, **given).masks
    return masks.mediancr.astype(int).sum()


@pytest.fixture(scope="module")
def doubles():
    """Double hits of all charges on a flat field."""
    rng = np.random.default_rng(3)
    cube = rng.poisson(30.0, (3, 96, 128)) + rng.normal(0, 3.4, (3, 96, 128))
    charge = np.linspace(0, 200, 48)
    cube[:2, 4::8, 4::32] += charge.reshape(12, 4)
    return cube.astype(np.float32)


@pytest.mark.parametrize(
    ("given", "least"),
    [
        ({"mm_threshold": 60.0}, 60.0),
        ({"mm_threshold": 120.0}, 120.0),
        ({"mm_threshold_rnoise": 20.0}, 68.0),
        ({"mm_threshold_rnoise": 40.0}, 136.0),
    ],
)
def test_thresholds_are_least_heights(doubles, given, least):
    plain = detect(doubles, crmethod="mmcosmic", mm_dilation=0)
    assert flagged(doubles, mm_threshold_rnoise=0.0) == plain.masks.mediancr.sum()
    height = plain.statistics.median2d - plain.statistics.min2d
    found = detect(doubles, crmethod="mmcosmic", mm_dilation=0, **given).masks.mediancr
    np.testing.assert_array_equal(found, plain.masks.mediancr & (height > least))
    assert 0 < found.sum() < plain.masks.mediancr.sum()


def test_least_maximum(doubles):
    plain = detect(doubles, crmethod="mmcosmic", mm_dilation=0)
    found = detect(doubles, crmethod="mmcosmic", mm_dilation=0, mm_minimum_max2d_rnoise=40.0)
    expected = plain.masks.mediancr & (doubles.max(axis=0) > 40 * 3.4)
    np.testing.assert_array_equal(found.masks.mediancr, expected)
    assert 0 < expected.sum() < plain.masks.mediancr.sum()


def test_more_neighbours_lower_the_points(exposures):
    """Lonely bins are the extremes of the simulation."""
    points = []
    for least in (0, 3, 6):
        made = detect(exposures, crmethod="mmcosmic", mm_hist2d_min_neighbors=least).diagram
        found = made.criterion.boundary.points
        points.append(dict(zip(found.x.tolist(), found.y.tolist(), strict=True)))
    for more, fewer in itertools.pairwise(points):
        assert set(fewer) <= set(more)
        assert all(fewer[x] <= more[x] for x in fewer)
        assert sum(fewer[x] < more[x] for x in fewer) > 5


@pytest.mark.parametrize("simulation", ["montecarlo", "analytic"])
def test_top_of_the_diagram_is_as_given(doubles, simulation):
    given = {"crmethod": "mmcosmic", "mm_simulation": simulation}
    automatic = detect(doubles, **given).diagram
    for top in (90.0, 333.0):
        made = detect(doubles, mm_ydiag_max=top, **given).diagram
        assert made.clean.limits.ymax == made.real.limits.ymax == top
        assert made.clean.limits.xmin == automatic.clean.limits.xmin
    # finer bins tell the boundary better, and no more than that
    x = np.array([10.0, 20.0])
    close = detect(doubles, mm_ydiag_max=90.0, **given).diagram.criterion.boundary(x)
    np.testing.assert_allclose(close, automatic.criterion.boundary(x), rtol=0.15)


def test_another_seed_moves_the_boundary_a_little(doubles):
    one, other, same = (
        detect(doubles, crmethod="mmcosmic", mm_seed=seed).diagram for seed in (1, 2, 1)
    )
    x = np.linspace(5, 40, 30)
    heights = [made.criterion.boundary(x) for made in (one, other, same)]
    assert (heights[0] != heights[1]).any()
    np.testing.assert_array_equal(heights[0], heights[2])
    np.testing.assert_allclose(heights[1], heights[0], rtol=0.25)
    assert one.used() == {"mm_seed": 1}


def test_negative_binomial_photons_need_their_shape():
    """With κ = 20 a field taken for Poisson is full of false positives."""
    cube = simulate_exposures(
        (120, 160), nbinom_shape=20.0, hit_fraction=0.0, double_hits=0, seed=2
    ).exposures_adu
    poisson = flagged(cube)
    assert poisson > 300
    for shape in (20.0, "auto"):
        for simulation in ("montecarlo", "analytic"):
            given = {"mm_photon_distribution": "nbinom", "mm_nbinom_shape": shape}
            assert flagged(cube, mm_simulation=simulation, **given) < 0.05 * poisson
    # a number counts for nothing where photons are Poisson's
    assert flagged(cube, mm_nbinom_shape=20.0) == poisson


def test_a_boundary_of_before_is_taken(exposures):
    one = detect(exposures)
    again = crdetect.detect(
        crdetect.Stack(exposures),
        crdetect.Noise(1.0, 3.4),
        crdetect.Parameters.from_mapping({"mm_nsimulations": 1, "mm_seed": 5}),
        boundary=one.diagram.criterion.boundary,
    )
    assert_same_masks(one.masks, again.masks)
    assert again.diagram.criterion.boundary is one.diagram.criterion.boundary


# ---------------------------------------------------------------------------------------------
# Names of the methods in a detection, and how it is combined


@pytest.mark.parametrize(
    ("crmethod", "detector", "criterion"),
    [
        ("joint", None, "joint detection"),
        ("joint_pycosmic", "PyCosmic", "joint detection"),
        ("mm_lacosmic", "L.A.Cosmic", "M.M.Cosmic"),
        ("conn", "Cosmic-CoNN", None),
        ("mmcosmic", None, "M.M.Cosmic"),
    ],
)
def test_meanings_of_codes_name_the_methods(crmethod, detector, criterion):
    detection = make_detection(crdetect.Parameters.from_mapping({"crmethod": crmethod}))
    meanings = detection.code_meanings
    assert "dilation" in meanings.pop(1)
    expected = {2: criterion and f"{criterion} only", 3: detector and f"{detector} only"}
    expected[4] = detector and criterion and "both methods"
    assert meanings == {code: words for code, words in expected.items() if words is not None}


@pytest.mark.parametrize("crmethod", ["joint", "mm_pycosmic", "pycosmic"])
def test_combining_needs_nothing_that_the_detection_holds(exposures, crmethod):
    """The stack and the noise that `detect` got are accepted, and so are copies of them."""
    stack, noise = crdetect.Stack(exposures), crdetect.Noise(1.0, 3.4)
    detection = detect(exposures, crmethod=crmethod)
    combined = detection.combine()
    copies = crdetect.Stack(exposures.copy()), crdetect.Noise(np.float32(1.0), 3.4)
    for given in ((stack, noise), (stack,), copies):
        assert detection.combine(*given) == combined
    assert detection.combine(noise=noise) == combined
    holed = exposures.copy()
    holed[0, 5, 5] = np.nan
    detection = detect(holed, crmethod=crmethod)
    assert detection.combine(crdetect.Stack(holed), noise) == detection.combine()


def test_divided_exposures_are_combined_by_what_was_given(exposures):
    given = {"flux_factor": [0.25, 1.0, 4.0], "apply_flux_factor_to": "original"}
    detection = detect(exposures, crmethod="pycosmic", **given)
    stack, noise = crdetect.Stack(exposures), crdetect.Noise(1.0, 3.4)
    assert detection.combine(stack, noise) == detection.combine()
    with pytest.raises(InputError, match="combine"):
        detection.combine(detection.observation.stack, noise)


def test_maps_may_be_given_again_to_be_combined(exposures):
    gain, rnoise = np.full(SHAPE, 1.0), np.full(SHAPE, 3.4)
    detection = detect(exposures, gain, rnoise, crmethod="pycosmic")
    stack = crdetect.Stack(exposures)
    assert detection.combine(stack, crdetect.Noise(gain.copy(), rnoise)) == detection.combine()
    gain[3, 3] = 1.5
    with pytest.raises(InputError, match="noise"):
        detection.combine(stack, crdetect.Noise(gain, rnoise))


def test_other_exposures_or_noise_cannot_be_combined(exposures):
    detection = detect(exposures, crmethod="pycosmic")
    stack, noise = crdetect.Stack(exposures), crdetect.Noise(1.0, 3.4)
    other = exposures.copy()
    other[2, 50, 50] += 1.0
    for wrong in (other, exposures[:2], exposures[[1, 0, 2]], exposures[:, 1:]):
        with pytest.raises(InputError, match=r"combine: .*exposures"):
            detection.combine(crdetect.Stack(wrong), noise)
    for wrong in (crdetect.Noise(1.1, 3.4), crdetect.Noise(1.0, 3.5), crdetect.Noise(1.0, 3.4, 9)):
        with pytest.raises(InputError, match=r"combine: .*noise"):
            detection.combine(stack, wrong)
        with pytest.raises(InputError, match=r"combine: .*noise"):
            detection.combine(noise=wrong)
