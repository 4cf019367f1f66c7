"""What must hold of a whole detection, whatever the exposures."""

import numpy as np
import pytest

import crdetect
from crdetect.errors import InputError
from crdetect.exposures import make_exposures
from crdetect.masks import MM_ONLY
from crdetect.simulate import simulate_exposures

SHAPE = (96, 128)
PIECEWISE = {
    "mm_boundary_fit": "piecewise",
    "mm_fixed_points_in_boundary": [[0, 30], [50, 60], [300, 120]],
}
METHODS = ["lacosmic", "pycosmic", "mmcosmic", "mm_lacosmic", "mm_pycosmic"]


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
    strong = ((simulation.charge_e > 8 * sigma).sum(axis=0) >= 2) & simulation.planted
    found = detection.masks.mediancr[strong].mean()
    # detectors of one image take many for spectral features; the diagram does not
    assert found == 1.0 if crmethod.startswith("mm") else found > 0.1


@pytest.mark.parametrize("crmethod", METHODS)
def test_masks_are_nested(exposures, crmethod):
    masks = detect(exposures, crmethod=crmethod).masks
    assert masks.crmasks.any()
    assert not (masks.mediancr & ~masks.meancrt).any()
    assert not (masks.crmasks & ~masks.meancrt).any()


@pytest.mark.parametrize("crmethod", ["mm_pycosmic", "mm_lacosmic"])
def test_permuting_exposures_permutes_their_masks_only(exposures, crmethod):
    order = [2, 0, 1]
    one = detect(exposures, crmethod=crmethod, **PIECEWISE)
    other = detect(exposures[order], crmethod=crmethod, **PIECEWISE)
    np.testing.assert_array_equal(one.masks.crmasks[order], other.masks.crmasks)
    for name in ("mediancr", "meancrt", "meancr"):
        np.testing.assert_array_equal(getattr(one.masks, name), getattr(other.masks, name))
    np.testing.assert_array_equal(one.auxclean, other.auxclean)


def test_permuting_changes_nothing_in_a_simulated_boundary_either(exposures):
    one, other = detect(exposures), detect(exposures[[1, 2, 0]])
    np.testing.assert_array_equal(one.masks.mediancr, other.masks.mediancr)


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
        read = make_exposures(images, [None] * 3, list("abc"), 1.0, 3.4, level)
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
    assert (mm.codes[mm.masks.mediancr] == MM_ONLY).all()


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
    if crmethod == "mmcosmic":  # no filter, no least size
        assert detect(field, crmethod=crmethod).masks.mediancr.shape == (1, 100)
    else:
        with pytest.raises(InputError, match="too small"):
            detect(field, crmethod=crmethod)
        assert detect(field.reshape(3, 10, 10), crmethod=crmethod).masks.mediancr.shape == (10, 10)


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


def test_auxclean_is_clean_at_all_of_mediancr():
    simulation = simulated(seed=11)
    detection = detect(simulation.exposures_adu, use_auxmedian=True)
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
        ({"regions_to_be_skipped": [[1, 500, 1, 5]]}, "leaves the image"),
        ({"pixels_to_be_flagged_as_cr": [[129, 1]]}, "leaves the image"),
        ({"pixels_to_be_replaced_by_local_median": [[1, 97, 3, 3]]}, "leaves the image"),
    ],
)
def test_parameters_that_do_not_fit_the_exposures(exposures, parameters, says):
    with pytest.raises(InputError, match=says):
        detect(exposures, **parameters)


def test_map_of_another_shape(exposures):
    with pytest.raises(InputError, match="map of gain"):
        detect(exposures, np.ones((5, 5)))


def test_progress_tells_each_step(exposures):
    steps = []
    crdetect.detect(
        crdetect.Stack(exposures),
        crdetect.Noise(1.0, 3.4),
        crdetect.Parameters(),
        progress=steps.append,
    )
    assert [step for step in steps if "median2d" in step]
    assert len(steps) >= 8
