"""The parameters that a run writes down give the same masks and images again, byte by byte."""

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from crdetect import InputError, Noise, Parameters, Stack, detect
from crdetect.detectors import REGISTRY
from crdetect.detectors.networks import NetworkDetector
from crdetect.methods import Method, all_methods
from crdetect.runfile import read_params, requirements_text
from crdetect.simulate import simulate_exposures

SHAPE = (32, 40)
NOISE = Noise(1.0, 3.4)
METHODS = all_methods(REGISTRY)

x_px, y_px = st.integers(1, SHAPE[1]), st.integers(1, SHAPE[0])
factors = st.floats(0.5, 2.0)


def some(elements, size=3):
    return st.none() | st.lists(elements, min_size=1, max_size=size)


def pair(elements):
    return elements | st.tuples(elements, elements)


def limits(coordinate):
    return st.tuples(coordinate, coordinate).map(sorted)


regions = st.tuples(limits(x_px), limits(y_px)).map(lambda ranges: [*ranges[0], *ranges[1]])


def general(n):
    return {
        "mm_cr_coincidences": st.integers(2, n - 1),
        "use_auxmedian": st.booleans(),
        "flux_factor": st.none() | st.just("auto") | st.lists(factors, min_size=n, max_size=n),
        "apply_flux_factor_to": st.sampled_from(["original", "simulated"]),
        "dilation": st.integers(0, 2),
        "regions_to_be_skipped": some(regions),
        "pixels_to_be_flagged_as_cr": some(st.tuples(x_px, st.just(1))),
        "pixels_to_be_ignored_as_cr": some(st.tuples(x_px, st.just(2))),
        "pixels_to_be_ignored_in_mediancr": some(st.tuples(x_px, st.just(3))),
        "pixels_to_be_replaced_by_local_median": some(
            st.tuples(x_px, y_px, st.integers(1, 5), st.integers(1, 5))
        ),
    }


OF_BLOCKS = {
    "la": {
        "la_sigclip": pair(st.floats(3, 10)),
        "la_objlim": pair(st.floats(0.5, 5)),
        "la_niter": st.integers(1, 4),
        "la_psfmodel": st.sampled_from(["gauss", "moffat", "gaussx", "gaussxy"]),
    },
    "pc": {
        "pc_sigma_det": pair(st.floats(3, 10)),
        "pc_rlim": pair(st.floats(0.8, 2)),
        "pc_iterations": st.integers(1, 4),
        "pc_increase_radius": st.integers(0, 1),
    },
    "dc": {"dc_threshold": pair(st.floats(0.1, 0.9))},
    "nn": {"nn_threshold": pair(st.floats(0.1, 0.9))},
    "jt": {
        "jt_false_alarms": st.floats(1, 1000),
        "jt_strong": st.none() | st.floats(3, 8),
        "jt_weak": st.floats(0, 3),
        "jt_coincidence": st.floats(0, 3),
        "jt_matching": st.sampled_from(["auto", None]),
        "jt_noise_terms": st.sampled_from(["auto", None, [1e-4, 1e-3, 0.0]]),
    },
}


def diagram(n):
    offsets = st.lists(st.tuples(st.floats(-1, 1), st.floats(-1, 1)), min_size=n, max_size=n)
    points = st.lists(
        st.tuples(st.integers(0, 300), st.floats(5, 100)),
        min_size=2,
        max_size=4,
        unique_by=lambda point: point[0],
    )
    return {
        "mm_photon_distribution": st.sampled_from(["poisson", "nbinom"]),
        "mm_nbinom_shape": st.just("auto") | st.floats(50, 2000),
        "mm_synthetic": st.sampled_from(["median", "single", "adaptive"]),
        "mm_simulation": st.sampled_from(["montecarlo", "analytic"]),
        "mm_hist2d_min_neighbors": st.integers(0, 4),
        "mm_dilation": st.integers(0, 2),
        "mm_xy_offsets": st.none() | offsets,
        "mm_boundary_fit": st.sampled_from(["spline", "piecewise"]),
        "mm_fixed_points_in_boundary": st.none() | points,
        "mm_knots_splfit": st.integers(2, 6),
        "mm_nsimulations": st.integers(1, 5),
        "mm_niter_boundary_extension": st.integers(0, 5),
        "mm_threshold": st.none() | st.floats(0, 30),
        "mm_minimum_max2d_rnoise": st.floats(0, 8),
        "mm_seed": st.none() | st.integers(0, 2**40),
    }


@st.composite
def runs(draw, crmethod):
    """Draw the number of exposures and parameters that a run may have."""
    n = draw(st.integers(3, 5))
    method = Method.parse(crmethod)
    strategies = general(n)
    if method.detector:
        strategies |= OF_BLOCKS.get(REGISTRY[method.detector].block.prefix, {})
    if method.criterion == "joint":
        strategies |= OF_BLOCKS["jt"]
    if method.criterion == "mm":
        strategies |= diagram(n)
    values = draw(st.fixed_dictionaries({}, optional=strategies))
    parameters, faults = Parameters.parse({"crmethod": crmethod} | values)
    assume(not faults)
    return n, parameters


@pytest.fixture(scope="module")
def stacks():
    """Exposures with hits of one pixel in two and in more of them, by their number."""
    exposures = {
        n: simulate_exposures(
            SHAPE, n, rnoise_adu=3.4, hit_fraction=0.03, double_hits=2, seed=n
        ).exposures_adu
        for n in (3, 4, 5)
    }
    for n, cube in exposures.items():
        for k in range(2, n):
            cube[:k, 5 * k, 8:11] += 800.0
    return {n: Stack(cube) for n, cube in exposures.items()}


def check_repeated(stack, parameters, folder):
    try:
        first = detect(stack, NOISE, parameters, workers=1)
    except InputError:
        assume(False)
    names = ", ".join(f"exposure_{i}.fits" for i in range(len(stack)))
    text = f"images: [{names}]\ngain: 1.0\nrnoise: 3.4\n{requirements_text(first.repeating())}"
    path = folder / "params_used.yaml"
    path.write_text(text, encoding="utf-8")
    again = detect(stack, NOISE, read_params(path).parameters, workers=1)
    for name in ("mediancr", "meancrt", "crmasks", "meancr"):
        one, other = (getattr(detection.masks, name) for detection in (first, again))
        np.testing.assert_array_equal(one, other, err_msg=f"{name}\n{text}")
    one, other = (detection.combine(stack, NOISE) for detection in (first, again))
    for name in one:
        assert one[name].value.tobytes() == other[name].value.tobytes(), f"{name}\n{text}"


@pytest.mark.parametrize("crmethod", METHODS)
def test_params_used_give_the_same_masks(crmethod, stacks, tmp_path_factory):
    folder = tmp_path_factory.mktemp("repeat")
    detector = REGISTRY.get(Method.parse(crmethod).detector)
    slow = detector is not None and issubclass(detector, NetworkDetector)

    @settings(
        max_examples=2 if slow else 8,
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )
    @given(runs(crmethod))
    def check(run):
        n, parameters = run
        check_repeated(stacks[n], parameters, folder)

    check()


@pytest.mark.parametrize("crmethod", ["pycosmic", "joint", "joint_pycosmic"])
def test_number_of_coincidences_counts_without_the_diagram(crmethod, stacks, tmp_path):
    masks = {}
    for c in (2, 3, 4):
        parameters = Parameters.from_mapping({"crmethod": crmethod, "mm_cr_coincidences": c})
        check_repeated(stacks[5], parameters, tmp_path)
        masks[c] = detect(stacks[5], NOISE, parameters).combine(stacks[5], NOISE)["min"].value
        assert f"- mm_cr_coincidences = {c}" in parameters.history()
    assert (masks[2] != masks[3]).any()
    assert (masks[3] != masks[4]).any()
