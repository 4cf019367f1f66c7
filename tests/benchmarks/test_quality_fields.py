"""The fields that benchmarks/quality makes: what they are said to be."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.quality.fields import VARIANTS, Settings, make_case, make_scene
from benchmarks.quality.sets import TRACKS, Library
from benchmarks.quality.stamps import (
    CATALOGUE,
    CR_IN_DARK_E,
    Stamp,
    diffuse,
    drawn_tracks,
    plant_coincidences,
    rain_e,
    read_dark_tracks,
    read_stamps,
    segmented,
    straight_tracks,
)
from crdetect import InputError

SMALL = Settings(shape=(128, 160))
STAMPS = straight_tracks()


@pytest.fixture
def scene():
    return make_scene((128, 160), np.random.default_rng(3))


def test_residuals_have_the_variance_of_photons_and_read_noise():
    case = make_case("x", replace(SMALL, gain=1.7, rnoise_e=5.0), STAMPS, 1)
    residual = case.exposures_adu * case.gain - case.charge_e - case.signal_e
    chi2 = np.square(residual) / (case.signal_e + 25)
    assert chi2.mean() == pytest.approx(1, abs=5 * np.sqrt(2 / chi2.size))


def test_a_seed_gives_the_same_field_and_another_one_another():
    one, again, other = (make_case("x", SMALL, STAMPS, seed) for seed in (1, 1, 2))
    assert (one.exposures_adu == again.exposures_adu).all()
    assert not np.allclose(one.signal_e, other.signal_e)


def test_equivalent_exposures_expect_the_same_signal():
    signal = make_case("x", SMALL, STAMPS, 1).signal_e
    assert (signal == signal[0]).all()


def test_a_scene_moved_by_a_pixel_is_the_scene_elsewhere(scene):
    still, moved = (scene.signal_e((128, 160), shift_px=shift) for shift in (0, 1))
    np.testing.assert_allclose(moved[12:-12, 16:-16], still[11:-13, 15:-17], rtol=1e-5)


def test_a_drift_moves_a_fibre_by_as_much(scene):
    per_fibre = ("row", "throughput", "fwhm_px", "bend", "continuum")
    one = {name: getattr(scene, name)[10:11] for name in per_fibre}
    fibre = replace(scene, background=0.0, **one)
    still, moved = (fibre.signal_e((128, 160), shift_px=shift) for shift in (0, 0.15))
    rows = np.arange(128)
    centres = [(rows @ image)[80] / image[:, 80].sum() for image in (still, moved)]
    assert centres[1] - centres[0] == pytest.approx(0.15, abs=2e-3)


def test_seeing_widens_fibres_and_keeps_their_light(scene):
    narrow, wide = (scene.signal_e((128, 160), width=width) for width in (1, 1.15))
    inner = slice(20, 100)  # what goes out of the middle comes from beyond
    assert wide.sum() == pytest.approx(narrow.sum(), rel=1e-3)
    assert wide[inner].max() < narrow[inner].max()
    assert np.square(wide[inner]).sum() < 0.97 * np.square(narrow[inner]).sum()


def test_objects_vary_over_a_constant_sky(scene):
    whole = scene.signal_e((128, 160))
    objects, sky = (scene.signal_e((128, 160), objects=o, sky=1 - o) for o in (1, 0))
    np.testing.assert_allclose(objects + sky, whole, rtol=1e-4)
    low, middle, high = make_case(
        "x", replace(SMALL, variant=VARIANTS["object"]), STAMPS, 1
    ).signal_e.astype(float)
    np.testing.assert_allclose(high - middle, middle - low, atol=1e-2)
    sky = middle - (high - middle) / 0.2
    assert sky.min() > 0.5  # the background stays
    assert (sky > 0.9 * middle).any()  # so do lines
    assert (sky < 0.1 * middle).any()


def test_moon_and_pedestal_differ_by_their_photons():
    variants = VARIANTS["equivalent"], VARIANTS["moon"], VARIANTS["pedestal"]
    still, moon, pedestal = (
        make_case("x", replace(SMALL, variant=variant), STAMPS, 1) for variant in variants
    )
    np.testing.assert_allclose(moon.signal_e[2], still.signal_e[2] + 40, rtol=1e-5)
    assert (pedestal.signal_e == still.signal_e).all()
    np.testing.assert_allclose(
        pedestal.exposures_adu[2], still.exposures_adu[2] + 3, rtol=1e-5, atol=1e-3
    )


def test_flexure_moves_the_ends_of_the_slit_apart(scene):
    across = 2 * scene.row / 128 - 1
    bent = scene.signal_e((128, 160), shift_px=0.2 * across)
    up, down = (scene.signal_e((128, 160), shift_px=0.2 * end) for end in (1, -1))
    ends = [(rows, nearer) for rows, nearer in ((slice(0, 8), down), (slice(-8, None), up))]
    for rows, nearer in ends:
        farther = up if nearer is down else down
        assert np.abs(bent - nearer)[rows].sum() < 0.2 * np.abs(bent - farther)[rows].sum()


def test_flux_is_that_of_all_light():
    case = make_case("x", replace(SMALL, variant=VARIANTS["flux"]), STAMPS, 1)
    for signal, factor in zip(case.signal_e, (0.8, 1.0, 1.2), strict=True):
        np.testing.assert_allclose(signal, factor * case.signal_e[1], rtol=1e-5)


def test_cosmic_rays_cover_the_share_of_pixels_asked_for():
    charge = rain_e((600, 600), 0.01, STAMPS, np.random.default_rng(1))
    assert (charge > 0).mean() == pytest.approx(0.01, rel=0.1)


def test_diffusion_keeps_charge_and_reaches_the_sides():
    charge = np.zeros((1, 15, 15), np.float32)
    charge[0, 7, 7] = 1000
    spread = diffuse(charge, 0.3)
    assert spread.sum() == pytest.approx(1000, rel=1e-5)
    # of a uniform pixel, σ/√(2π) leaves on each side
    assert spread[0, 7, 8:].sum() / spread[0, 7].sum() == pytest.approx(
        0.3 / np.sqrt(2 * np.pi), rel=0.01
    )
    assert diffuse(charge, 0) is charge


def test_planted_stamps_cross_those_of_another_exposure():
    rng = np.random.default_rng(1)
    charge = np.stack([rain_e((200, 200), 0.002, STAMPS, rng) for _ in range(3)])
    before = ((charge > 0).sum(axis=0) >= 2).sum()
    untouched = charge.copy()
    planted = plant_coincidences(charge, 20, STAMPS, rng)
    assert ((charge > 0).sum(axis=0) >= 2).sum() >= before + 12
    assert ((charge != untouched).any(axis=0) == planted).all()
    empty = np.zeros((2, 5, 5), np.float32)
    assert not plant_coincidences(empty, 20, STAMPS, rng).any()
    assert not empty.any()


def test_catalogue_has_all_its_pixels(shared, tmp_path):
    stamps = read_stamps(shared / "data")
    assert (shared / "data" / CATALOGUE).is_file()
    assert len(stamps) == 1764
    assert sum(stamp.charge_e.size for stamp in stamps) == 28804
    for stamp in stamps[:50]:
        turned = stamp.varied(np.random.default_rng(1))
        assert {turned.y.max(), turned.x.max()} == {stamp.y.max(), stamp.x.max()}
        assert len(set(zip(turned.y, turned.x, strict=True))) == stamp.charge_e.size
        assert (turned.y.min(), turned.x.min()) == (0, 0)
    assert read_stamps(tmp_path) is None


def test_planting_makes_no_triple_hits():
    rng = np.random.default_rng(2)
    charge = np.stack([rain_e((100, 100), 0.003, STAMPS, rng) for _ in range(3)])
    triple = ((charge > 0).all(axis=0)).sum()
    plant_coincidences(charge, 100, STAMPS, rng)
    assert (charge > 0).all(axis=0).sum() == triple


def test_segments_are_the_pixels_that_touch_each_other_away_from_the_edge():
    image = np.zeros((9, 12))
    image[2, 3], image[3, 4], image[4, 4] = 30, 40, 50  # by a corner, by a side
    image[6, 8] = 60
    image[6, 10:] = 70  # at the edge
    image[3, 3] = 27  # not above the limit
    track, dot = segmented(image, CR_IN_DARK_E)
    assert list(zip(track.y, track.x, track.charge_e, strict=True)) == [
        (0, 0, 30),
        (1, 1, 40),
        (2, 1, 50),
    ]
    assert dot.charge_e.tolist() == [60]


def test_segments_inside_the_box_of_another_are_not_part_of_it():
    image = np.zeros((10, 10))
    image[2:7, 2] = image[6, 2:7] = 100  # an L
    image[3, 5] = 50
    sizes = sorted(stamp.charge_e.size for stamp in segmented(image, 0))
    assert sizes == [1, 9]


def test_drawn_tracks_are_those_of_the_simulation():
    stamps = drawn_tracks(seed=2)
    charge = np.concatenate([stamp.charge_e for stamp in stamps])
    assert np.median(charge) == pytest.approx(300, rel=0.1)  # what the simulation says
    assert len(stamps) > 1000
    longest = [max(stamp.y.max(), stamp.x.max()) + 1 for stamp in stamps]
    assert np.mean(longest) == pytest.approx(8 * 2 * np.sqrt(2) / np.pi, rel=0.15)
    same = drawn_tracks(seed=2)
    assert all((a.charge_e == b.charge_e).all() for a, b in zip(stamps, same, strict=True))


def test_tracks_that_are_not_dimmed_keep_their_charge():
    rng = np.random.default_rng(3)
    place, charge = np.arange(3), np.array([10, 20, 30], np.float32)
    bright = Stamp(place, place, charge, faintest=1.0)
    dimmed = Stamp(place, place, charge)
    assert all((bright.varied(rng).charge_e == charge).all() for _ in range(5))
    factors = [dimmed.varied(rng).charge_e[0] / charge[0] for _ in range(200)]
    assert 0.15 <= min(factors) < 0.2
    assert 0.9 < max(factors) <= 1


def test_tracks_of_the_dark_are_above_its_noise(shared, tmp_path):
    stamps = read_dark_tracks(shared / "data")
    assert len(stamps) > 2000
    assert min(stamp.charge_e.min() for stamp in stamps) > CR_IN_DARK_E
    assert read_dark_tracks(tmp_path) is None


def test_libraries_of_all_kinds_of_tracks(shared, tmp_path):
    libraries = {kind: Library.at(shared / "data", kind) for kind in TRACKS}
    sizes = {
        kind: np.median([s.charge_e.size for s in library.stamps if s.charge_e.size >= 3])
        for kind, library in libraries.items()
    }
    assert sizes["stis"] < sizes["drawn"] < sizes["lsst"]
    assert len(Library.at(tmp_path).stamps) == len(STAMPS)
    with pytest.raises(InputError, match="no stis_dark"):
        Library.at(tmp_path, "stis")
