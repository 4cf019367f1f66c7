import numpy as np
import pytest
import yaml
from astropy.io import fits
from scipy import ndimage

from crdetect import InputError, Masks
from crdetect.exposures import read_exposures
from crdetect.runfile import read_params
from crdetect.simulate import (
    SIMULATED_PATTERNS,
    Score,
    make_scene_e,
    make_tracks_e,
    score,
    score_files,
    simulate_exposures,
    write_simulation,
)

SQUARE = np.ones((3, 3), bool)


@pytest.fixture(scope="module")
def simulation():
    return simulate_exposures((120, 150), gain=2.0, rnoise_adu=4.0, bias_adu=100.0, double_hits=8)


@pytest.fixture(scope="module")
def written(simulation, tmp_path_factory):
    folder = tmp_path_factory.mktemp("simulated")
    return folder, write_simulation(simulation, folder)


@pytest.mark.parametrize("n", [3, 5])
@pytest.mark.parametrize("shape", [(32, 32), (40, 70)])
def test_shapes_and_types(n, shape):
    simulation = simulate_exposures(shape, n, double_hits=1)
    assert simulation.exposures_adu.shape == simulation.charge_e.shape == (n, *shape)
    assert simulation.signal_e.shape == simulation.planted.shape == shape
    for array in (simulation.exposures_adu, simulation.charge_e, simulation.signal_e):
        assert array.dtype == np.float32
    assert simulation.planted.dtype == bool
    assert (simulation.signal_e > 0).all()
    assert (simulation.charge_e >= 0).all()


def test_exposures_follow_the_truth(simulation):
    """Residuals in units of the noise: mean 0, variance 1."""
    expected_e = simulation.signal_e + simulation.charge_e
    expected_adu = expected_e / simulation.gain + simulation.bias_adu
    sigma = np.sqrt(expected_e / simulation.gain**2 + simulation.rnoise_adu**2)
    residual = (simulation.exposures_adu - expected_adu) / sigma
    assert abs(residual.mean()) < 4.5 / np.sqrt(residual.size)
    assert residual.var() == pytest.approx(1.0, abs=4.5 * np.sqrt(2.2 / residual.size))


def test_flux_multiplies_the_signal():
    plain, scaled = (
        simulate_exposures((200, 200), flux=flux, hit_fraction=0.0, double_hits=0)
        for flux in (None, (0.5, 1.0, 2.0))
    )
    np.testing.assert_array_equal(plain.signal_e, scaled.signal_e)
    totals = scaled.exposures_adu.sum(axis=(1, 2), dtype=float)
    errors = np.sqrt(totals + 3.4**2 * plain.signal_e.size) / plain.signal_e.sum()
    ratio = totals / plain.signal_e.sum(dtype=float)
    assert (np.abs(ratio - [0.5, 1.0, 2.0]) < 4.5 * errors).all()


def test_offsets_move_the_signal():
    offsets = ((0.0, 0.0), (2.0, 0.0), (0.0, -3.0))
    moved = simulate_exposures(
        (100, 120), offsets_px=offsets, hit_fraction=0.0, double_hits=0, gain=1e6, rnoise_adu=0.0
    )
    signal = moved.signal_e / 1e6
    for exposure, (x, y) in zip(moved.exposures_adu, offsets, strict=True):
        expected = np.roll(signal, (int(y), int(x)), axis=(0, 1))
        inner = (slice(5, -5), slice(5, -5))
        # one electron per million ADU-electrons: noise is small beside the signal's structure
        difference = (exposure - expected)[inner] * 1e6
        assert np.abs(difference).max() < 6 * np.sqrt(moved.signal_e.max())


def test_negative_binomial_photons_scatter_more():
    simulation = simulate_exposures((200, 200), nbinom_shape=50.0, hit_fraction=0.0, double_hits=0)
    bright = simulation.signal_e > 200
    signal = simulation.signal_e[bright]
    residual = (simulation.exposures_adu[:, bright] - signal) / np.sqrt(
        signal + signal**2 / 50 + 3.4**2
    )
    assert residual.var() == pytest.approx(1.0, abs=5 * np.sqrt(2.5 / residual.size))


def test_planted_tracks_are_in_two_exposures(simulation):
    assert ndimage.label(simulation.planted, SQUARE)[1] == 8
    assert (simulation.charge_e[:2, simulation.planted] > 200).all()
    assert (simulation.charge_e[2, simulation.planted] == 0).mean() > 0.9


@pytest.mark.parametrize("fraction", [0.0, 0.006, 0.05])
def test_share_of_hit_pixels(fraction):
    charge = make_tracks_e((600, 600), fraction, np.random.default_rng(3))
    # tracks leave the image and cross each other
    assert (charge > 0).mean() == pytest.approx(fraction, rel=0.2)


def test_without_cosmic_rays():
    simulation = simulate_exposures((40, 40), hit_fraction=0.0, double_hits=0)
    assert not simulation.charge_e.any()
    assert not simulation.planted.any()


def test_same_seed_same_exposures():
    one, other, third = (
        simulate_exposures((40, 40), seed=seed, double_hits=1) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one.exposures_adu, other.exposures_adu)
    np.testing.assert_array_equal(one.planted, other.planted)
    assert (one.exposures_adu != third.exposures_adu).any()


def test_scene_has_horizontal_traces():
    scene = make_scene_e((60, 90), np.random.default_rng(1))
    along, across = (np.abs(np.diff(scene, axis=axis)).sum() for axis in (1, 0))
    assert along < 0.5 * across


@pytest.mark.parametrize(
    "wrong",
    [
        {"nexposures": 2},
        {"shape": (31, 100)},
        {"shape": (100, 31)},
        {"gain": 0.0},
        {"gain": float("nan")},
        {"gain": float("inf")},
        {"rnoise_adu": -1.0},
        {"rnoise_adu": float("nan")},
        {"bias_adu": float("nan")},
        {"hit_fraction": -0.1},
        {"hit_fraction": 0.5},
        {"hit_fraction": float("nan")},
        {"double_hits": -1},
        {"double_hits": 10**6},
        {"seed": -1},
        {"flux": (1.0, 1.0)},
        {"flux": (1.0, -1.0, 1.0)},
        {"flux": (1.0, float("inf"), 1.0)},
        {"offsets_px": ((0.0, 0.0),) * 4},
        {"offsets_px": ((0.0, 0.0), (float("nan"), 0.0), (0.0, 0.0))},
        {"nbinom_shape": 0.0},
    ],
)
def test_values_that_make_no_sense(wrong):
    with pytest.raises(InputError, match="simulate"):
        simulate_exposures(**wrong)


# ---------------------------------------------------------------------------------------------
# Files


def test_files(written):
    folder, paths = written
    names = [str(path.relative_to(folder)) for path in paths]
    exposures = [f"data/exposure_{i}.fits" for i in (1, 2, 3)]
    assert names == [*exposures, "truth.fits", "params.yaml", "obs.yaml", "control.yaml"]
    assert all(path.is_file() for path in paths)
    assert {path for pattern in SIMULATED_PATTERNS for path in folder.glob(pattern)} == set(paths)


def test_params_file_reads_the_exposures(written, simulation):
    folder, _ = written
    runfile = read_params(folder / "params.yaml")
    exposures = read_exposures(runfile.inputs, runfile.folder)
    np.testing.assert_array_equal(
        exposures.stack.exposures, simulation.exposures_adu - np.float32(simulation.bias_adu)
    )
    assert (exposures.noise.gain, exposures.noise.rnoise_adu) == (2.0, 4.0)


def test_headers(written):
    for i, path in enumerate(written[1][:3], start=1):
        header = fits.getheader(path)
        assert (header["GAIN"], header["RDNOISE"]) == (2.0, 8.0)  # e/ADU, e
        assert header["DATE-OBS"] == f"2026-01-01T0{i}:00:00"


def test_files_for_numina(written):
    folder, _ = written
    observation = yaml.safe_load((folder / "obs.yaml").read_text())
    assert (observation["instrument"], observation["mode"]) == ("CRDETECT", "CrDetection")
    assert observation["frames"] == [f"exposure_{i}.fits" for i in (1, 2, 3)]
    control = yaml.safe_load((folder / "control.yaml").read_text())
    (profile,) = control["requirements"]["CRDETECT"].values()
    given = {entry["name"]: entry["content"] for entry in profile["default"]["CrDetection"]}
    assert given == {"crmethod": "mm_pycosmic", "gain": 2.0, "rnoise": 4.0, "bias": 100.0}


def test_truth(written, simulation):
    with fits.open(written[0] / "truth.fits") as truth:
        names = [hdu.name for hdu in truth[1:]]
        assert names == ["SIGNAL", "CHARGE1", "CHARGE2", "CHARGE3", "PLANTED"]
        np.testing.assert_array_equal(truth["SIGNAL"].data, simulation.signal_e)
        np.testing.assert_array_equal(truth["CHARGE2"].data, simulation.charge_e[1])
        np.testing.assert_array_equal(truth["PLANTED"].data, simulation.planted)
        assert truth["SIGNAL"].header["RDNOISE"] == 8.0


# ---------------------------------------------------------------------------------------------
# Scores


def masks_of(mediancr, n=3):
    return Masks(mediancr, mediancr, np.zeros((n, *mediancr.shape), bool), mediancr)


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_scores_are_counts(written, simulation, seed, share):
    charge, signal = simulation.charge_e, simulation.signal_e
    sigma = np.sqrt(signal + 8.0**2)
    hit = np.sum(charge > 5 * sigma, axis=0) >= 2
    close = ndimage.binary_dilation(np.sum(charge > sigma, axis=0) >= 2, SQUARE)
    rng = np.random.default_rng(seed)
    mediancr = (hit & (rng.random(hit.shape) < share)) | (rng.random(hit.shape) < 0.01)
    labels, planted = ndimage.label(simulation.planted, SQUARE)
    found = sum((mediancr & (labels == k)).any() for k in range(1, planted + 1))
    with fits.open(written[0] / "truth.fits") as truth:
        result = score(masks_of(mediancr), truth, 8.0)
    assert result == Score(
        planted=8,
        planted_found=found,
        double_px=np.count_nonzero(hit),
        double_px_found=np.count_nonzero(hit & mediancr),
        false_px=np.count_nonzero(mediancr & ~close),
    )


def write_masks(path, mediancr, n=3):
    names = ["MEDIANCR", "MEANCRT", *(f"CRMASK{i}" for i in range(1, n + 1)), "MEANCR"]
    images = [fits.ImageHDU(mediancr.astype(np.uint8), name=name) for name in names]
    fits.HDUList([fits.PrimaryHDU(), *images]).writeto(path)
    return path


def test_score_of_files(written, simulation, tmp_path):
    crmasks = write_masks(tmp_path / "crmasks.fits", simulation.planted)
    result = score_files(crmasks, written[0] / "truth.fits")
    assert (result.planted, result.planted_found, result.false_px) == (8, 8, 0)


@pytest.mark.parametrize(
    ("case", "needle"),
    [
        ("no masks", "crmasks.fits"),
        ("masks are text", "crmasks.fits"),
        ("no truth", "truth.fits"),
        ("truth is text", "truth.fits"),
        ("truth is something else", "truth.fits is not the truth of a simulation"),
        ("another shape", "shape"),
        ("more exposures", "truth.fits is not the truth of a simulation"),
    ],
)
def test_score_of_other_files(written, simulation, tmp_path, case, needle):
    crmasks, truth = tmp_path / "crmasks.fits", tmp_path / "truth.fits"
    planted = simulation.planted
    write_masks(crmasks, planted.T if case == "another shape" else planted, 3 + ("more" in case))
    truth.write_bytes((written[0] / "truth.fits").read_bytes())
    if case.startswith("no "):
        {"no masks": crmasks, "no truth": truth}[case].unlink()
    if case.endswith("text"):
        {"masks": crmasks, "truth": truth}[case.split()[0]].write_text("text " * 1000)
    if case == "truth is something else":
        truth.write_bytes(crmasks.read_bytes())
    with pytest.raises(InputError) as caught:
        score_files(crmasks, truth)
    assert needle in str(caught.value)
