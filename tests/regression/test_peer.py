"""Against the reference cases: masks and products of numina-crmasks and of PyCosmic.

The figures asserted here stand in `docs/differences.rst`.
"""

import contextlib
import functools
import io
from pathlib import Path

import numpy as np
import pytest
import yaml
from astropy.io import fits
from numina.array.crmasks.apply_crmasks import apply_crmasks
from scipy.interpolate import BSpline

import crdetect
from crdetect.combine import COMBINATIONS, MASKED
from crdetect.detectors import REGISTRY, PeaksAndTails, make_detector
from crdetect.detectors.conn import Conn, ConnDetector
from crdetect.detectors.deepcr import DeepCR, DeepCRDetector
from crdetect.detectors.lacosmic import LACosmic
from crdetect.detectors.pycosmic import PyCosmic
from crdetect.exposures import read_exposures
from crdetect.masks import dilate, features_touching
from crdetect.mm import boundary as boundary_module
from crdetect.mm.analytic import CleanPixels
from crdetect.mm.boundary import boundary_of_simulated, computed_points
from crdetect.mm.criterion import DiagramCriterion
from crdetect.mm.diagram import Diagram, Limits
from crdetect.mm.parameters import MM
from crdetect.mm.scene import Expected, Scene
from crdetect.parameters import Inputs, Parameters
from crdetect.products import crmasks_hdul

pytestmark = pytest.mark.slow

ON_A_THRESHOLD = 3  # pixels a mask may differ by, within float32 rounding
IMAGES = ("sim_1", "median2d", "mean2d")
SPLINE_RUNS = ("mm_pycosmic", "mm_lacosmic")
NETWORK_RUNS = ("mm_deepcr", "mm_conn")
LEFT_OUT = slice(288, None)  # rows that cosmic-conn does not look at: 300 is no multiple of 16


@functools.cache
def run(shared: Path, name: str, **overrides):
    """Run one of the peer's params files; return exposures and detection."""
    content = yaml.safe_load((shared / f"peer/params/{name}.yaml").read_text())
    requirements = content.pop("requirements") | overrides
    exposures = read_exposures(Inputs(**content), shared / "peer/params")
    parameters = Parameters.from_mapping(requirements)
    return exposures, crdetect.detect(exposures.stack, exposures.noise, parameters)


def masks_of(detection) -> dict[str, np.ndarray]:
    masks = detection.masks
    named = {"MEDIANCR": masks.mediancr, "MEANCRT": masks.meancrt, "MEANCR": masks.meancr}
    return named | {f"CRMASK{i}": mask for i, mask in enumerate(masks.crmasks, start=1)}


def peer_mask(shared: Path, name: str, extension: str = "MEDIANCR") -> np.ndarray:
    return fits.getdata(shared / f"peer/crmasks/crmasks_{name}.fits.gz", extension) > 0


def jaccard(one: np.ndarray, other: np.ndarray) -> float:
    return np.count_nonzero(one & other) / np.count_nonzero(one | other)


@pytest.fixture(scope="module")
def images(shared):
    exposures = [fits.getdata(shared / f"peer/input/sim_{i}.fits.gz") for i in (1, 2, 3)]
    statistics = crdetect.Stack(exposures).statistics()
    return {
        "sim_1": exposures[0],
        "median2d": statistics.median2d,
        "mean2d": statistics.mean2d,
        "statistics": statistics,
    }


NOISE = crdetect.Noise(gain=1.0, rnoise_adu=3.4)


def detect_in(image, block):
    kind = REGISTRY["pycosmic" if isinstance(block, PyCosmic) else "lacosmic"]
    return PeaksAndTails(kind, block).detect(image, NOISE)


@pytest.mark.parametrize("image", IMAGES)
@pytest.mark.parametrize(
    ("extension", "block"),
    [
        ("PC5_MASK", PyCosmic(pc_sigma_det=5.0)),
        ("PC3_MASK", PyCosmic(pc_sigma_det=3.0)),
        ("PC_MERGED", PyCosmic(pc_sigma_det=(5.0, 3.0))),
        ("LA5_MASK", LACosmic(la_sigclip=5.0)),
        ("LA3_MASK", LACosmic(la_sigclip=3.0)),
        ("LA_MERGED", LACosmic(la_sigclip=(5.0, 3.0))),
        ("LA5_NOPAD", LACosmic(la_sigclip=5.0, la_padwidth=0)),
        ("LA5_FSMEDIAN", LACosmic(la_sigclip=5.0, la_padwidth=0, la_fsmode="median")),
    ],
)
def test_detectors_give_the_reference_masks(shared, images, image, extension, block):
    with fits.open(shared / f"peer/aux/raw_{image}.fits") as hdul:
        reference = hdul[extension].data > 0
    assert reference.any()
    np.testing.assert_array_equal(detect_in(images[image], block).mask, reference)


@pytest.mark.parametrize("run_name", ["PC5", "PC3", "LA5", "LA3"])
def test_detectors_give_the_reference_cleaned_image_bit_for_bit(shared, images, run_name):
    limit = float(run_name[2])
    block = PyCosmic(pc_sigma_det=limit) if run_name[:2] == "PC" else LACosmic(la_sigclip=limit)
    with fits.open(shared / "peer/aux/raw_sim_1.fits") as hdul:
        reference = hdul[f"{run_name}_DATA"].data
    np.testing.assert_array_equal(detect_in(images["sim_1"], block).image_adu, reference)


@pytest.mark.parametrize(
    "name",
    ["pycosmic", "lacosmic", "pw_mm_pycosmic", "pw_mm_lacosmic", "pw_five_mm_pycosmic"],
)
def test_masks_without_random_numbers_equal_the_peers(shared, name):
    _, detection = run(shared, name)
    for extension, mask in masks_of(detection).items():
        different = np.count_nonzero(mask != peer_mask(shared, name, extension))
        assert different <= ON_A_THRESHOLD, f"{extension}: {different} pixels differ"


@pytest.mark.networks
def test_masks_and_cleaned_median_of_deepcr_equal_the_peers(shared):
    _, detection = run(shared, "deepcr")
    for extension, mask in masks_of(detection).items():
        np.testing.assert_array_equal(mask, peer_mask(shared, "deepcr", extension), extension)
    auxclean = fits.getdata(shared / "peer/crmasks/crmasks_deepcr.fits.gz", "AUXCLEAN")
    np.testing.assert_array_equal(detection.auxclean, auxclean)
    assert detection.masks.mediancr.any()


@pytest.mark.networks
def test_masks_of_conn_equal_the_peers_where_it_looks(shared):
    _, detection = run(shared, "conn")
    for extension, mask in masks_of(detection).items():
        reference = peer_mask(shared, "conn", extension)
        assert not reference[LEFT_OUT].any()
        if extension == "MEANCR":  # of an image that differs where CRMASKs do
            assert jaccard(mask[:288], reference[:288]) > 0.99
        else:
            np.testing.assert_array_equal(mask[:288], reference[:288], extension)
    assert detection.masks.crmasks[:, LEFT_OUT].any()


@pytest.mark.networks
def test_networks_give_the_reference_probabilities(shared, images):
    with fits.open(shared / "peer/aux/raw_sim_1.fits") as hdul:
        deepcr, conn, mask = (hdul[name].data for name in ("DEEPCR_P", "CONN_P", "DEEPCR"))
    image = images["sim_1"].astype(np.float32)
    ours = DeepCRDetector(DeepCR()).probability(image)
    np.testing.assert_allclose(ours, deepcr, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(ours > 0.5, mask > 0)
    ours = ConnDetector(Conn()).probability(image)[:288]
    np.testing.assert_allclose(ours, conn[:288], rtol=0, atol=1e-5)
    np.testing.assert_array_equal(ours > 0.5, conn[:288] > 0.5)


@pytest.mark.networks
@pytest.mark.parametrize("image", ["median2d", "mean2d"])
def test_deepcr_gives_the_reference_masks(shared, images, image):
    reference = fits.getdata(shared / f"peer/aux/raw_{image}.fits", "DEEPCR") > 0
    np.testing.assert_array_equal(
        PeaksAndTails(DeepCRDetector, DeepCR()).detect(images[image], NOISE).mask, reference
    )


def test_skipped_and_ignored_as_the_peer_and_flagged_as_asked_for(shared):
    name = "pw_mm_pycosmic_md0_skip"
    _, detection = run(shared, name)
    asked = np.zeros((300, 400), bool)
    asked[[9, 59], [9, 149]] = True  # the peer flags nothing there
    for extension, mask in masks_of(detection).items():
        reference = peer_mask(shared, name, extension)
        expected = reference if extension == "MEANCR" else reference | asked
        assert np.count_nonzero(mask != expected) <= ON_A_THRESHOLD, extension


@pytest.mark.parametrize("name", SPLINE_RUNS + NETWORK_RUNS)
@pytest.mark.parametrize("dilation", [0, 1])
def test_fit_through_the_peers_points_gives_the_peers_mask(
    shared, images, name, dilation, monkeypatch
):
    recorded = np.load(shared / f"peer/boundary/{name}.npz")
    points = recorded["fit0_x"], recorded["fit0_y"]
    monkeypatch.setattr(boundary_module, "simulated_points", lambda _: points)
    mask = mediancr_of(
        shared, images, name, boundary_of_simulated(recorded_diagram(recorded), MM())
    )
    assert jaccard(dilated(mask, dilation), peer_of(shared, name, dilation)) >= 0.95


@pytest.mark.parametrize("dilation", [0, 1])
def test_spline_from_the_peers_histogram_gives_its_mask(shared, images, dilation):
    recorded = np.load(shared / "peer/boundary/mm_pycosmic.npz")
    mask = mediancr_of(
        shared, images, "mm_pycosmic", boundary_of_simulated(recorded_diagram(recorded), MM())
    )
    assert jaccard(dilated(mask, dilation), peer_of(shared, "mm_pycosmic", dilation)) >= 0.95


@pytest.mark.parametrize("name", SPLINE_RUNS)
def test_spline_from_the_peers_histogram_loses_only_false_positives(shared, images, name):
    recorded = np.load(shared / f"peer/boundary/{name}.npz")
    mask = mediancr_of(
        shared, images, name, boundary_of_simulated(recorded_diagram(recorded), MM())
    )
    reference = peer_of(shared, name, 0)
    hits = hits_above_1_sigma(shared)
    assert not (mask.any_code & ~reference).any()
    assert hits[reference & ~mask.any_code].sum() == 0
    assert jaccard(mask.any_code, reference) > 0.9


@pytest.mark.parametrize("name", SPLINE_RUNS)
def test_our_fit_meets_the_recorded_spline(shared, name, monkeypatch):
    recorded = np.load(shared / f"peer/boundary/{name}.npz")
    points = recorded["fit0_x"], recorded["fit0_y"]
    monkeypatch.setattr(boundary_module, "simulated_points", lambda _: points)
    ours = boundary_of_simulated(recorded_diagram(recorded), MM())
    theirs = BSpline(recorded["t"], recorded["c"], 3)
    x = np.linspace(recorded["t"][0], recorded["t"][-1], 200)
    np.testing.assert_allclose(ours(x), theirs(x), atol=0.5)  # ADU; a bin is 5.5


@pytest.mark.parametrize("name", SPLINE_RUNS + NETWORK_RUNS)
def test_simulated_diagram_has_the_peers_distribution(shared, name):
    _, detection = run(shared, name, mm_nsimulations=30)
    recorded = np.load(shared / f"peer/boundary/{name}.npz")
    ours = detection.diagram.clean
    for axis, edges in ((0, recorded["bx"]), (1, recorded["by"])):
        limits = ours.limits
        own = limits.x_edges if axis == 0 else limits.y_edges
        # cumulative numbers of pixels at common heights, both per set
        at = edges[5:60:6]
        theirs = np.interp(at, edges[1:], recorded["hist"].sum(axis=axis).cumsum() / 10)
        here = np.interp(at, own[1:], ours.counts.sum(axis=axis).cumsum())
        # linear interpolation in the steep first bins leaves a percent
        np.testing.assert_allclose(here, theirs, rtol=0.02)


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("mm_pycosmic", {}),
        (
            "pw_five_mm_pycosmic",
            {
                "mm_cr_coincidences": 4,
                "mm_boundary_fit": "spline",
                "mm_fixed_points_in_boundary": None,
            },
        ),
    ],
)
def test_computed_diagram_is_what_simulations_converge_to(shared, name, given):
    """Of 100 sets: chi-square per bin 1, and points of one pixel per set within a bin."""
    exposures, simulation = run(shared, name, mm_nsimulations=100, **given)
    _, analytic = run(shared, name, mm_simulation="analytic", **given)
    simulated, limits = simulation.diagram.clean, simulation.diagram.clean.limits
    width = limits.xmax - limits.xmin
    own = analytic.diagram.clean.limits
    assert own.xmin == pytest.approx(limits.xmin, abs=0.02 * width)
    assert own.xmax == pytest.approx(limits.xmax, abs=0.02 * width)
    assert own.ymax == pytest.approx(limits.ymax, rel=0.3)
    computed = clean_pixels(exposures, simulation).diagram(limits)
    found, expected = simulated.counts * 100, computed.counts * 100
    used = expected > 5
    assert used.sum() > 1000
    chi_square = np.mean((found - expected)[used] ** 2 / expected[used])
    spread = np.sqrt(np.mean(2 + 1 / expected[used]) / used.sum())
    assert chi_square == pytest.approx(1.0, abs=4.5 * spread)

    edges, differences = limits.y_edges, []
    for x, y in zip(*computed_points(computed, 1.0), strict=True):
        pixels = simulated.counts[:, np.searchsorted(limits.x_edges, x) - 1]
        if pixels.sum() > 200:
            above = np.append(np.cumsum(pixels[::-1])[::-1], 0)
            row = np.flatnonzero(above >= 1).max()
            low, high = above[row], max(above[row + 1], 1e-3)
            differences.append(row + np.log(low) / np.log(low / high) - y / edges[1])
    assert len(differences) > 10
    assert np.abs(differences).max() < 1


def test_computed_boundary_flags_as_simulated_ones_do(shared):
    name = "mm_pycosmic"
    one = {"mm_simulation": "analytic", "mm_false_pixels": 1}
    analytic = run(shared, name, **one)[1].masks
    other_seed = run(shared, name, mm_seed=1, **one)[1].masks
    np.testing.assert_array_equal(analytic.mediancr, other_seed.mediancr)
    np.testing.assert_array_equal(analytic.crmasks, other_seed.crmasks)
    simulated = [run(shared, name, mm_seed=seed)[1].masks.mediancr for seed in (1, 2, 3)]
    between = [jaccard(simulated[i], simulated[j]) for i, j in ((0, 1), (0, 2), (1, 2))]
    assert min(jaccard(analytic.mediancr, mask) for mask in simulated) > min(between)
    # nothing false: all is near a pixel hit above 1 sigma in two exposures
    near = dilate(hits_above_1_sigma(shared) >= 2, 1)
    assert not (analytic.mediancr & ~near).any()


def clean_pixels(exposures, detection) -> CleanPixels:
    """Group the clean pixels: what no detector of one image flags, by the median."""
    statistics, detector = detection.statistics, make_detector(detection.parameters)
    images = (statistics.median2d, *exposures.stack.exposures)
    median_hits, *hits = (detector.detect(image, NOISE).mask for image in images)
    clean = ~np.any([median_hits, *hits], axis=0)
    n, c = len(exposures.stack), statistics.coincidences
    signal = np.maximum(statistics.median2d, 0)[clean]
    expected = Expected((signal,), (1.0,) * n, (NOISE,))
    return CleanPixels.of(Scene(expected, c, statistics.min2d[clean]))


def recorded_diagram(recorded) -> Diagram:
    limits = Limits(recorded["bx"][0], recorded["bx"][-1], recorded["by"][-1])
    return Diagram(limits, recorded["hist"] / 10, 10)


class MedianMask:
    """MEDIANCR in its two parts, before dilation."""

    def __init__(self, aux, mm):
        self.aux, self.mm, self.any_code = aux, mm, aux | mm


def mediancr_of(shared, images, name, boundary) -> MedianMask:
    statistics = images["statistics"]
    criterion = DiagramCriterion.make(boundary, NOISE, MM())
    aux = peer_mask(shared, name.removeprefix("mm_"))
    beyond = criterion.beyond_threshold(statistics.median2d, statistics)
    return MedianMask(
        features_touching(aux, beyond), criterion.flag(statistics.median2d, statistics)
    )


def dilated(mask: MedianMask, times: int) -> np.ndarray:
    return mask.aux | dilate(mask.mm, times)


def peer_of(shared, name, dilation) -> np.ndarray:
    return peer_mask(shared, name if dilation else f"{name}_md0")


def hits_above_1_sigma(shared) -> np.ndarray:
    with fits.open(shared / "peer/input/truth_cr.fits") as hdul:
        return sum((hdul[f"HIT{i}"].data > 0).astype(int) for i in (1, 2, 3))


# ---------------------------------------------------------------------------------------------
# The client of crmasks.fits that megaradrp calls


@pytest.mark.parametrize("use_auxmedian", [False, True])
@pytest.mark.parametrize("name", ["pw_mm_pycosmic", "pw_five_mm_pycosmic"])
def test_client_gives_our_combined_images(shared, name, use_auxmedian):
    replaced = ((20, 20, 5, 5), (50, 60, 4, 6), (1, 1, 5, 5), (400, 300, 3, 7))
    exposures, detection = run(
        shared,
        name,
        use_auxmedian=use_auxmedian,
        pixels_to_be_replaced_by_local_median=replaced,
    )
    hdul = crmasks_hdul(detection, detection.quality, exposures.headers[0], [])
    combined = detection.combine(exposures.stack, exposures.noise)
    for combination in COMBINATIONS:
        value, variance, count = client(hdul, exposures.stack, combination, use_auxmedian)
        ours = combined[combination]
        same = np.ones(value.shape, bool)
        if len(exposures.stack) > 3 and combination not in {"mean", "median"}:
            # by design min2d is the mean of the N - c lowest values, the client's is the lowest
            same = ~touched_by_minimum(combination, detection, use_auxmedian)
        np.testing.assert_allclose(ours.value[same], value[same], rtol=1e-5, atol=2e-3)
        sampled = same & (ours.count > 1) & (count > 1)
        if combination == "min":
            sampled[:] = False  # of one value, or of N - c: by design not that of all
        np.testing.assert_allclose(ours.variance[sampled], variance[sampled], rtol=1e-3, atol=1e-2)


def client(hdul, stack, combination, use_auxmedian):
    with contextlib.redirect_stdout(io.StringIO()):
        return apply_crmasks(
            list(stack.exposures), hdul, combination, use_auxmedian, np.float32, False, 0.0
        )


def touched_by_minimum(combination, detection, use_auxmedian) -> np.ndarray:
    masks = detection.masks
    if combination == "min":
        return np.ones(masks.mediancr.shape, bool)
    assert combination in MASKED
    if use_auxmedian:
        return np.zeros(masks.mediancr.shape, bool)
    return masks.mediancr | masks.crmasks.all(axis=0) | masks.meancr
