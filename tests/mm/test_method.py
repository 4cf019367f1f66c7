import logging
from itertools import permutations

import numpy as np
import pytest
from scenes import scene_of
from scipy import ndimage

import crdetect
from crdetect import InputError, Noise, Parameters, Stack
from crdetect.detectors.each_image import DetectorHits
from crdetect.equivalence.flux import FluxFactors
from crdetect.equivalence.model import fit_exposure_model
from crdetect.equivalence.observation import Observation
from crdetect.equivalence.offsets import measure_offsets
from crdetect.mm.analytic import CleanPixels, check_available
from crdetect.mm.boundary import boundary_of_simulated, computed_points, fit_boundary
from crdetect.mm.method import make_diagram
from crdetect.mm.parameters import MM
from crdetect.mm.simulation import simulate
from crdetect.resources import Resources
from crdetect.simulate import make_scene_e

SHAPE = (60, 80)
ONE = Resources(1)
NOISE = Noise(1.0, 3.4)
ANALYTIC = {"mm_simulation": "analytic"}


def field(seed=1, shape=SHAPE, noise=NOISE, n=3, level=0.2):
    """Equivalent exposures without cosmic rays."""
    rng = np.random.default_rng(seed)
    signal = level * make_scene_e(shape, np.random.default_rng(100 + seed))
    return np.array([noise.draw_adu(signal, rng) for _ in range(n)])


def observe(cube, noises=None, coincidences=2, factors=None, exposure_model=None, **found):
    """Observe exposures; what is not given is as without any cosmic ray or difference."""
    stack, n = Stack(cube), len(cube)
    nothing = np.zeros(stack.shape, bool)
    observation = Observation(
        stack,
        NOISE,
        FluxFactors((1.0,) * n),
        stack,
        stack.statistics(coincidences),
        tuple(noises or [NOISE] * n),
        tuple(factors or [1.0] * n),
        exposure_model,
    )
    hits = {
        "median": nothing,
        "mean": nothing,
        "exposures": [nothing] * n,
        "auxclean": observation.statistics.median2d,
        "clean_exposures": list(cube),
    }
    return observation, DetectorHits(**hits | found)


def assert_expects(made, signals, noise=NOISE, factors=None):
    """The diagram is the one of these signals (of the clean pixels, in one dimension)."""
    expected = CleanPixels.of(scene_of(signals, noise, len(signals) - 1, factors))
    counts = expected.diagram(made.clean.limits).counts
    np.testing.assert_allclose(made.clean.counts, counts, rtol=1e-6, atol=1e-9)
    assert counts.sum() > 0.95 * len(signals[0])


# ---------------------------------------------------------------------------------------------
# What is expected of the exposures


def test_signal_is_the_median_with_its_hits_replaced_and_nothing_negative():
    cube = field(level=0.02)
    rng = np.random.default_rng(1)
    median_hits, hits = rng.random(SHAPE) < 0.1, rng.random(SHAPE) < 0.1
    ordered = np.sort(cube, axis=0)
    assert ordered[1].min() < 0
    made = make_diagram(
        *observe(cube, median=median_hits, exposures=[hits] * 3), MM(**ANALYTIC), ONE
    )
    signal = np.maximum(np.where(median_hits, ordered[0], ordered[1]), 0)[~(hits | median_hits)]
    assert_expects(made, [signal] * 3)


def test_signals_of_single_exposures():
    cube = field(level=0.02)
    cleaned = cube - 1
    given = observe(cube, clean_exposures=list(cleaned), factors=[0.5, 1.0, 2.0])
    made = make_diagram(*given, MM(mm_synthetic="single", **ANALYTIC), ONE)
    # each has its own flux already
    assert_expects(made, [np.maximum(image, 0).ravel() for image in cleaned])


def test_flux_factors_and_noises_of_the_exposures():
    cube = field()
    noises, factors = [NOISE, Noise(2.0, 3.0), Noise(1.0, 5.0)], [0.8, 1.0, 1.2]
    made = make_diagram(*observe(cube, noises, factors=factors), MM(**ANALYTIC), ONE)
    signal = np.maximum(np.median(cube, axis=0), 0).ravel()
    assert_expects(made, [signal] * 3, noises, factors)


@pytest.mark.parametrize("given", [None, 30.0])
def test_shape_of_photon_statistics(given):
    cube = field()
    if given is None:
        made = make_diagram(*observe(cube), MM(mm_nbinom_shape=30.0, **ANALYTIC), ONE)
    else:
        parameters = MM(mm_photon_distribution="nbinom", mm_nbinom_shape=given, **ANALYTIC)
        made = make_diagram(*observe(cube), parameters, ONE)
    signal = np.maximum(np.median(cube, axis=0), 0).ravel()
    assert_expects(made, [signal] * 3, Noise(1.0, 3.4, given or np.inf))
    assert made.nbinom_shape is None


def test_measured_shape_is_used_and_told(caplog):
    cube = field(shape=(120, 160), noise=Noise(1.0, 3.4, 20.0))
    parameters = MM(mm_photon_distribution="nbinom", mm_nbinom_shape="auto", **ANALYTIC)
    with caplog.at_level(logging.INFO, "crdetect"):
        made = make_diagram(*observe(cube), parameters, ONE)
    kappa = made.nbinom_shape.value
    assert 14 < kappa < 30
    assert made.used()["mm_nbinom_shape"] == kappa
    assert f"mm_nbinom_shape: {made.nbinom_shape}" in caplog.text
    signal = np.maximum(np.median(cube, axis=0), 0).ravel()
    assert_expects(made, [signal] * 3, Noise(1.0, 3.4, kappa))


@pytest.mark.parametrize("synthetic", ["median", "single"])
def test_shape_is_measured_in_exposures_brought_to_the_same_flux(synthetic):
    """Different fluxes, or gains after a division, are no excess of variance."""
    rng = np.random.default_rng(3)
    signal = 0.5 * make_scene_e((120, 160), rng)
    factors = [0.7, 1.0, 1.4]
    cube = np.array([NOISE.draw_adu(f * signal, rng) for f in factors])
    parameters = MM(mm_photon_distribution="nbinom", mm_nbinom_shape="auto", mm_synthetic=synthetic)
    simulated = make_diagram(*observe(cube, factors=factors), parameters, ONE).nbinom_shape
    noises = [NOISE.divided(f) for f in factors]
    divided = cube / np.reshape(factors, (3, 1, 1))
    original = make_diagram(*observe(divided, noises), parameters, ONE).nbinom_shape
    for shape in (simulated, original):
        assert abs(shape.excess) < 4 * shape.error
        assert shape.error < 2e-3
    assert simulated.excess == pytest.approx(original.excess, abs=0.02 * original.error)


def moved(image, x, y):
    return ndimage.shift(image, (y, x), order=3, mode="nearest")


def test_given_offsets_move_the_signals():
    cube = field()
    offsets = [[-0.5, 0.5], [0.0, 0.0], [2.0, -1.0]]
    made = make_diagram(*observe(cube), MM(mm_xy_offsets=offsets, **ANALYTIC), ONE)
    signal = np.maximum(np.median(cube, axis=0), 0)
    assert_expects(made, [np.maximum(moved(signal, *xy), 0).ravel() for xy in offsets])
    assert made.used()["mm_xy_offsets"] == offsets
    assert not made.offsets.measured


def test_missing_pixels_do_not_spoil_moved_signals():
    cube = field()
    cube[:, 30, 40] = np.nan
    cube[0, 10, 10] = np.nan
    made = make_diagram(
        *observe(cube), MM(mm_xy_offsets=[[0.5, 0], [0, 0], [0, 0.5]], **ANALYTIC), ONE
    )
    assert np.isfinite(made.clean.counts).all()
    assert made.clean.counts.sum() == pytest.approx(cube[0].size - 2, rel=0.01)


def test_measured_offsets_are_used_and_told(caplog):
    rng = np.random.default_rng(2)
    signal = make_scene_e((90, 120), rng)
    offsets = np.array([[-0.5, 0.5], [0.0, 0.0], [0.5, -0.25]])
    cube = np.array([NOISE.draw_adu(np.maximum(moved(signal, *xy), 0), rng) for xy in offsets])
    spoilt = cube.copy()
    spoilt[1, 40:60, 30:90] += 3e4  # the exposures as cleaned count
    parameters = MM(mm_crosscorr_region=[11, 110, 6, 85], **ANALYTIC)
    with caplog.at_level(logging.INFO, "crdetect"):
        made = make_diagram(*observe(spoilt, clean_exposures=list(cube)), parameters, ONE)
    assert made.offsets.measured
    np.testing.assert_allclose(made.offsets.xy_px, offsets, atol=0.05)
    # FITS pixels, both ends included
    region = (slice(5, 85), slice(10, 110))
    expected = measure_offsets(list(cube), [NOISE] * 3, region)
    np.testing.assert_array_equal(made.offsets.xy_px, expected.xy_px)
    assert made.used()["mm_xy_offsets"] == made.offsets.xy_px.tolist()
    assert f"mm_xy_offsets: {made.offsets.xy_px.round(3).tolist()}" in caplog.text
    assert made.offsets.correlation.shape == (3, 21, 21)
    signal = np.maximum(np.median(spoilt, axis=0), 0)
    assert_expects(made, [np.maximum(moved(signal, *xy), 0).ravel() for xy in made.offsets.xy_px])


# ---------------------------------------------------------------------------------------------
# The diagram and its boundary


@pytest.mark.parametrize("simulation", ["montecarlo", "analytic"])
def test_room_for_offsets(simulation):
    """Twice the largest clean value; four times with offsets, be they 0."""
    still, offset = (
        make_diagram(*observe(field()), MM(mm_simulation=simulation, mm_xy_offsets=xy), ONE)
        for xy in (None, [[0, 0]] * 3)
    )
    # where signals may differ, pixels are grouped otherwise
    rel = 0.02 if simulation == "analytic" else 1e-6
    assert offset.clean.limits.ymax == pytest.approx(2 * still.clean.limits.ymax, rel=rel)


def test_monte_carlo_is_what_simulate_gives():
    cube = field()
    made = make_diagram(*observe(cube), MM(mm_seed=8, mm_nsimulations=3), Resources(2))
    ordered = np.sort(cube, axis=0)
    scene = scene_of([np.maximum(ordered[1], 0).ravel()] * 3, NOISE, min2d_adu=ordered[0].ravel())
    expected = simulate(scene, 2.0, MM(mm_seed=8, mm_nsimulations=3), ONE)
    assert made.clean.limits == expected.limits
    np.testing.assert_array_equal(made.clean.counts, expected.counts)
    assert made.clean.nsets == 3
    x = np.linspace(*expected.limits.x_edges[[0, -1]], 50)
    np.testing.assert_array_equal(
        made.criterion.boundary(x), boundary_of_simulated(expected, MM())(x)
    )
    assert made.used() == {"mm_seed": 8}
    assert made.expected_above is None


def test_a_new_seed_is_told():
    one, other = (make_diagram(*observe(field()), MM(mm_seed=None), ONE) for _ in range(2))
    assert one.seed != other.seed
    again = make_diagram(*observe(field()), MM(mm_seed=one.used()["mm_seed"]), ONE)
    np.testing.assert_array_equal(again.clean.counts, one.clean.counts)


@pytest.mark.parametrize("false_pixels", [None, 2.0])
def test_computed_diagrams_know_no_seed(false_pixels):
    parameters = [MM(mm_seed=s, mm_false_pixels=false_pixels, **ANALYTIC) for s in (1, 2, None)]
    one, *others = (
        make_diagram(*observe(field()), mm, Resources(n)) for n, mm in enumerate(parameters, 1)
    )
    assert one.seed is None
    assert one.used() == {}
    x = np.linspace(-20, 500, 200)
    for other in others:
        assert other.clean.limits == one.clean.limits
        np.testing.assert_array_equal(other.clean.counts, one.clean.counts)
        np.testing.assert_array_equal(other.criterion.boundary(x), one.criterion.boundary(x))


def test_boundary_of_a_computed_diagram():
    """One pixel above per simulated set that there would be: the more, the higher."""
    heights = []
    for nsets in (1, 10, 1000):
        mm = MM(mm_nsimulations=nsets, **ANALYTIC)
        made = make_diagram(*observe(field()), mm, ONE)
        points = computed_points(made.clean, 1 / nsets)
        np.testing.assert_array_equal(made.criterion.boundary.points.x, points[0])
        np.testing.assert_array_equal(made.criterion.boundary.points.y, points[1])
        x = np.linspace(0, 100, 50)
        np.testing.assert_array_equal(made.criterion.boundary(x), fit_boundary(*points, mm)(x))
        heights.append(made.criterion.boundary(x).mean())
    assert heights[0] < 0.9 * heights[1] < 0.81 * heights[2]


@pytest.mark.parametrize("false_pixels", [None, 3.0])
def test_number_above_is_told(false_pixels, caplog):
    cube = field()
    with caplog.at_level(logging.INFO, "crdetect"):
        made = make_diagram(*observe(cube), MM(mm_false_pixels=false_pixels, **ANALYTIC), ONE)
    assert f"clean pixels expected above the boundary: {made.expected_above:.3g}" in caplog.text
    ordered = np.sort(cube, axis=0)
    pixels = CleanPixels.of(
        scene_of([np.maximum(ordered[1], 0).ravel()] * 3, NOISE, min2d_adu=ordered[0].ravel())
    )
    if false_pixels:
        assert made.expected_above == pytest.approx(false_pixels, rel=0.01)
        pixels = pixels.deconvolved()
    assert pixels.number_above(made.criterion.boundary) == pytest.approx(made.expected_above)


@pytest.mark.parametrize(
    "values", [{}, ANALYTIC, ANALYTIC | {"mm_false_pixels": 3.0}], ids=lambda v: "-".join(v) or "mc"
)
def test_refitted_boundary_is_that_of_a_new_diagram(values):
    """As long as the height of the diagram is the same."""
    first = make_diagram(*observe(field()), MM(**values), ONE)
    edited = values | {
        "mm_knots_splfit": 4,
        "mm_niter_boundary_extension": 2,
        "mm_fixed_points_in_boundary": [[50.0, 0.5 * first.clean.limits.ymax]],
    }
    assert first.clean.limits.hold(edited["mm_fixed_points_in_boundary"])
    made = make_diagram(*observe(field()), MM(**edited), ONE)
    refitted = first.refitted(MM(**edited))
    assert refitted.clean is first.clean
    assert refitted.expected_above == made.expected_above
    for one, other in zip(
        refitted.criterion.boundary.rounds, made.criterion.boundary.rounds, strict=True
    ):
        np.testing.assert_array_equal(one.spline.t, other.spline.t)
        np.testing.assert_array_equal(one.spline.c, other.spline.c)


@pytest.mark.parametrize("simulation", ["montecarlo", "analytic"])
def test_a_given_boundary_is_taken(simulation):
    mm = MM(mm_simulation=simulation)
    boundary = make_diagram(*observe(field(1)), mm, ONE).criterion.boundary
    again = make_diagram(*observe(field(2)), mm, ONE, boundary)
    assert again.criterion.boundary is boundary
    own = make_diagram(*observe(field(2)), mm, ONE)
    np.testing.assert_array_equal(again.clean.counts, own.clean.counts)
    if simulation == "analytic":
        assert again.expected_above != own.expected_above


@pytest.mark.parametrize("simulation", ["montecarlo", "analytic"])
def test_real_diagram_counts_the_pixels_of_the_exposures(simulation):
    cube = field()
    cube[0, :7] = np.nan
    made = make_diagram(*observe(cube), MM(mm_simulation=simulation), ONE)
    ordered = np.sort(cube[:, 7:], axis=0)
    limits = made.clean.limits
    expected = np.histogram2d(
        (ordered[1] - ordered[0]).ravel(),
        ordered[0].ravel(),
        bins=100,
        range=[[0, limits.ymax], [limits.xmin, limits.xmax]],
    )[0]
    assert np.abs(made.real.counts - expected).sum() <= 20  # on the edge of a bin
    assert made.real.counts.sum() == ordered[0].size
    assert made.real.nsets == 1


@pytest.mark.parametrize("order", list(permutations([3.0, 4.0, 7.0])))
def test_thresholds_are_in_units_of_the_median_read_noise(order):
    noises = [Noise(1.0, rnoise) for rnoise in order]
    made = make_diagram(*observe(field(), noises), MM(mm_threshold_rnoise=4.0), ONE)
    assert made.criterion.threshold_adu == 16.0
    assert made.criterion.minimum_max2d_adu == 20.0


# ---------------------------------------------------------------------------------------------
# mm_false_pixels


@pytest.mark.slow
@pytest.mark.parametrize(("false_pixels", "seeds"), [(0.5, 40), (5.0, 20), (50.0, 20)])
def test_flagged_pixels_of_clean_exposures_are_as_many_as_asked_for(false_pixels, seeds):
    """Drawn by numpy alone; nothing but the boundary keeps pixels out."""
    parameters = Parameters.from_mapping(
        {
            "crmethod": "mmcosmic",
            "mm_simulation": "analytic",
            "mm_false_pixels": false_pixels,
            "mm_dilation": 0,
            "mm_threshold_rnoise": 0,
            "mm_minimum_max2d_rnoise": 0,
        }
    )
    flagged = 0
    for seed in range(seeds):
        rng = np.random.default_rng(2000 + seed)
        signal = 0.15 * make_scene_e((120, 160), rng)
        cube = rng.poisson(signal, (3, *signal.shape)) + rng.normal(0, 3.4, (3, *signal.shape))
        detection = crdetect.detect(Stack(cube), NOISE, parameters, 2)
        assert detection.diagram.expected_above == pytest.approx(false_pixels, rel=0.01)
        flagged += np.count_nonzero(detection.masks.mediancr)
    expected = seeds * false_pixels
    assert abs(flagged - expected) <= 4 * np.sqrt(expected)


def test_numbers_out_of_reach_are_refused_and_a_range_is_told():
    points = [[0.0, 100.0], [100.0, 200.0]]  # which hold the boundary far above the pixels
    mm = MM(mm_false_pixels=500.0, mm_fixed_points_in_boundary=points, **ANALYTIC)
    refused = r"mm_false_pixels: 500 clean pixels .* accepted: [\d.e+-]+ to [\d.e+-]+$"
    with pytest.raises(InputError, match=refused):
        make_diagram(*observe(field()), mm, ONE)


def test_more_false_pixels_than_pixels():
    with pytest.raises(InputError, match=r"mm_false_pixels: 1e\+07 .* there are 4\d\d\d in all"):
        make_diagram(*observe(field()), MM(mm_false_pixels=1e7, **ANALYTIC), ONE)


@pytest.mark.parametrize("given", [{}, {"mm_xy_offsets": [[0, 0]] * 3}])
def test_a_measured_shape_holds_offsets_and_says_so(given, caplog):
    cube = field(shape=(120, 160), noise=Noise(1.0, 3.4, 20.0))
    mm = MM(mm_photon_distribution="nbinom", mm_nbinom_shape="auto", **given, **ANALYTIC)
    with caplog.at_level(logging.WARNING, "crdetect"):
        make_diagram(*observe(cube), mm, ONE)
    assert ("takes offsets for excess noise" in caplog.text) == bool(given)


# ---------------------------------------------------------------------------------------------
# Every number of exposures, and copies of what is observed


def observed_of(n, maps=False, copies=False):
    """Observe a bright scene n times; what exposures share is one object, or several equal ones."""
    shape = (40, 60)
    rng = np.random.default_rng(5)
    signal = 20 + 0.3 * make_scene_e(shape, rng)
    signal[20, 30:34] = 6e4
    flux = np.linspace(0.95, 1.05, n)
    exposures = np.array([NOISE.draw_adu(signal * f, rng) for f in flux], np.float32)
    gain, rnoise = np.full(shape, NOISE.gain), np.full(shape, NOISE.rnoise_adu)
    noise = Noise(gain, rnoise) if maps else NOISE
    noises = [noise] * n
    if copies:
        exposures = exposures.copy()
        noises = [Noise(np.copy(noise.gain), np.copy(noise.rnoise_adu)) for _ in range(n)]
    model = fit_exposure_model(Stack(exposures), noise, Parameters().jt, ONE)
    return observe(exposures, noises, n - 1, exposure_model=model, factors=list(flux))


@pytest.mark.parametrize("n", range(3, 10))
@pytest.mark.parametrize("synthetic", ["median", "single", "adaptive"])
def test_diagram_is_computed_for_every_number_of_exposures(n, synthetic):
    if n % 2 == 0:
        with pytest.raises(InputError, match=f"needs an odd number N of exposures.*not {n} and"):
            check_available(n, n - 1)
        return
    observed = observed_of(n)
    mm = MM(mm_simulation="analytic", mm_synthetic=synthetic)
    diagram = make_diagram(*observed, mm, ONE)
    assert diagram.clean.counts.sum() == pytest.approx(observed[0].statistics.min2d.size, rel=2e-3)
    assert diagram.expected_above < 0.5
    statistics = observed[0].statistics
    minimum = statistics.min2d
    above = statistics.median2d - minimum > diagram.criterion.boundary(minimum)
    assert above.sum() <= 4  # the probability of more is below 2e-4


@pytest.mark.parametrize("maps", [False, True])
@pytest.mark.parametrize("synthetic", ["median", "single", "adaptive"])
@pytest.mark.parametrize("simulation", ["analytic", "montecarlo"])
def test_copies_make_the_same_diagram(simulation, synthetic, maps):
    mm = MM(mm_simulation=simulation, mm_synthetic=synthetic, mm_seed=4, mm_nsimulations=2)
    one, copied = (make_diagram(*observed_of(3, maps, copies), mm, ONE) for copies in (False, True))
    np.testing.assert_array_equal(one.clean.counts, copied.clean.counts)
    assert one.clean == copied.clean
    assert one.criterion == copied.criterion
    assert one.expected_above == copied.expected_above
