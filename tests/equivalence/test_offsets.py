import logging

import numpy as np
import pytest
from scipy import ndimage

from crdetect import InputError, Noise, Parameters, Stack
from crdetect.equivalence import offsets as module
from crdetect.equivalence.offsets import (
    Offsets,
    aligned,
    check_region,
    find_offsets,
    measure_offsets,
    move,
)
from crdetect.mm.parameters import MM
from crdetect.pipeline import check
from crdetect.simulate import make_scene_e, make_tracks_e

NOISE = Noise(1.0, 3.4)
OFFSETS = [(-0.5, 0.5), (0.0, 0.0), (0.5, -0.25)]
FOUR = [*OFFSETS, (0.1, -0.3)]
EVERYWHERE = (slice(None), slice(None))
MARGIN = 20


def draw(signal, offsets, flux=None, seed=0, noise=NOISE):
    """Draw exposures of a signal moved by splines of the fifth order, without its margin."""
    rng = np.random.default_rng(seed)
    inner = (slice(MARGIN, -MARGIN), slice(MARGIN, -MARGIN))
    return [
        noise.draw_adu(factor * np.maximum(ndimage.shift(signal, (y, x), order=5)[inner], 0), rng)
        for factor, (x, y) in zip(flux or [1.0] * len(offsets), offsets, strict=True)
    ]


def scene(shape=(120, 160), seed=0):
    shape = tuple(size + 2 * MARGIN for size in shape)
    return make_scene_e(shape, np.random.default_rng(seed))


def relative(offsets):
    return np.array(offsets) - np.median(offsets, axis=0)


@pytest.mark.parametrize(
    ("offsets", "flux"),
    [
        (OFFSETS, None),
        (OFFSETS, (0.8, 1.0, 1.2)),
        (OFFSETS, (1.2, 0.8, 1.0)),
        (FOUR, None),
        (FOUR, (0.8, 1.0, 1.2, 0.9)),
        ([(0.0, 0.0)] * 3, None),
        ([(3.0, -2.0), (0.0, 0.0), (-1.0, 1.0)], None),
        ([(-2.3, 0.4), (0.0, 0.0), (1.6, -2.2), (0.2, 0.1), (0.0, 3.0)], None),
    ],
)
@pytest.mark.parametrize("seed", [1, 2])
def test_offsets_of_simulated_exposures(offsets, flux, seed):
    images = draw(scene(seed=seed), offsets, flux, seed)
    found = measure_offsets(images, [NOISE] * len(offsets), EVERYWHERE)
    assert found.measured
    np.testing.assert_allclose(found.xy_px, relative(offsets), atol=0.04)  # 0.1 are asked for


@pytest.mark.parametrize("share", [0.006, 0.03])
@pytest.mark.parametrize("seed", range(4))
def test_cosmic_rays_hardly_matter(share, seed):
    """Many, in the images as they are; some at the same place in two of them."""
    rng = np.random.default_rng(seed)
    images = draw(scene(seed=seed), OFFSETS, (0.8, 1.0, 1.2), seed)
    twice = make_tracks_e((120, 160), share / 6, rng)
    images = [image + make_tracks_e(image.shape, share, rng) for image in images]
    images = [images[0] + twice, images[1] + twice, images[2]]
    found = measure_offsets(images, [NOISE] * 3, EVERYWHERE)
    np.testing.assert_allclose(found.xy_px, OFFSETS, atol=0.1)


def test_what_single_pixels_have_in_common_does_not_matter():
    """Hot pixels and others are where they are; the image has moved."""
    fixed = np.random.default_rng(8).normal(0, 3, (120, 160))
    fixed.flat[::97] += 500
    offsets = [(0.0, 0.0), (3.3, -2.2), (-1.0, 1.4)]
    images = [image + fixed for image in draw(scene(), offsets)]
    found = measure_offsets(images, [NOISE] * 3, EVERYWHERE)
    np.testing.assert_allclose(found.xy_px, relative(offsets), atol=0.1)


def test_a_fit_that_runs_away_is_not_known(monkeypatch):
    """From whole pixels that are wrong: what the fit comes to is not passed off as an offset."""
    monkeypatch.setattr(module, "_peak", lambda _: np.array([9.0, 9.0]))
    found = measure_offsets(draw(scene(), OFFSETS), [NOISE] * 3, EVERYWHERE)
    known = found.errors_px[1:] < 1
    assert not known.all()
    assert len(found.unknown) == np.count_nonzero(~known)


def test_first_and_second_coordinate_are_x_and_y():
    """A spot at (x, y) is brighter there; it has moved to the right and down by whole pixels."""
    image = np.full((64, 80), 20.0)
    image[30:33, 40:43] = 900.0
    moved = np.roll(image, (-2, 3), axis=(0, 1))
    found = measure_offsets([image, moved, image], [NOISE] * 3, EVERYWHERE)
    np.testing.assert_allclose(found.xy_px, [(0, 0), (3, -2), (0, 0)], atol=0.02)


def test_errors_are_honest():
    deviations = []
    for seed in range(12):
        found = measure_offsets(draw(scene(seed=seed), FOUR, seed=seed), [NOISE] * 4, EVERYWHERE)
        relative_to_first = (found.xy_px - found.xy_px[0])[1:]
        expected = np.subtract(FOUR, FOUR[0])[1:]
        deviations.append((relative_to_first - expected) / found.errors_px[1:])
    assert 0.5 < np.sqrt(np.mean(np.square(deviations))) < 1.5


def test_region_is_respected():
    lines = np.exp(-0.5 * ((np.arange(200) % 23 - 11) / 1.5) ** 2)
    image = scene() * (1 + 4 * lines)
    images = draw(image, OFFSETS)
    others = draw(image, [(2.0, 1.0), (0.0, 0.0), (-3.0, 2.0)])
    for one, other in zip(images, others, strict=True):
        one[:, 90:] = other[:, 90:]
    region = (slice(10, 110), slice(5, 85))
    found = measure_offsets(images, [NOISE] * 3, region)
    np.testing.assert_allclose(found.xy_px, relative(OFFSETS), atol=0.05)
    beyond = measure_offsets(images, [NOISE] * 3, (slice(None), slice(95, None)))
    expected = relative([(2.0, 1.0), (0.0, 0.0), (-3.0, 2.0)])
    np.testing.assert_allclose(beyond.xy_px, expected, atol=0.05)


def test_maps_of_gain_and_noise():
    images = draw(scene(), OFFSETS)
    maps = Noise(np.ones((120, 160)), np.full((120, 160), 3.4))
    region = (slice(3, 100), slice(7, 140))
    one, other = (measure_offsets(images, [noise] * 3, region) for noise in (NOISE, maps))
    np.testing.assert_allclose(one.xy_px, other.xy_px, atol=1e-5)


@pytest.mark.parametrize("known", [0, 1])
@pytest.mark.parametrize("seed", range(4))
def test_structure_in_one_direction_only(known, seed):
    """Traces tell nothing of x, lines nothing of y."""
    rows, columns = np.mgrid[: 120 + 2 * MARGIN, : 160 + 2 * MARGIN]
    across = (columns, rows)[known]
    signal = 300 * np.exp(-0.5 * ((across % 17 - 8) / 1.6) ** 2) + 20
    found = measure_offsets(draw(signal, OFFSETS, seed=seed), [NOISE] * 3, EVERYWHERE)
    assert (found.xy_px[:, 1 - known] == 0).all()
    assert {(2, "yx"[known]), (3, "yx"[known])} <= set(found.unknown)


def test_noise_alone_tells_no_offset(caplog):
    images = [NOISE.draw_adu(np.full((80, 80), 100.0), np.random.default_rng(i)) for i in range(3)]
    with caplog.at_level(logging.WARNING, "crdetect.equivalence.offsets"):
        found = find_offsets(images, [NOISE] * 3, MM(mm_crosscorr_region=(1, 80, 1, 80)))
    assert (found.xy_px == 0).all()
    for i, direction in ((2, "x"), (2, "y"), (3, "x"), (3, "y")):
        assert f"offset of exposure {i} in {direction} is not known from" in caplog.text
    assert caplog.text.count("0 is used") == 4


def test_constant_images():
    found = measure_offsets([np.full((40, 40), 7.0)] * 3, [NOISE] * 3, EVERYWHERE)
    assert (found.xy_px == 0).all()


def test_correlation_has_its_maximum_at_the_offset():
    offsets = [(0.0, 0.0), (3.0, -2.0), (-1.0, 4.0)]
    found = measure_offsets(draw(scene(), offsets), [NOISE] * 3, EVERYWHERE)
    assert found.correlation.shape == (3, 21, 21)
    for correlation, (x, y) in zip(found.correlation, offsets, strict=True):
        row, column = np.unravel_index(correlation.argmax(), (21, 21))
        assert (column - 10, row - 10) == (x, y)
        assert 0.8 < correlation.max() <= 1 + 1e-6
    assert found.correlation[0, 10, 10] == pytest.approx(1)


@pytest.mark.parametrize(
    ("region", "size"),
    [((1, 90, 1, 31), "90 × 31"), ((6, 20, 11, 100), "15 × 90")],
)
def test_small_regions_are_refused_before_any_work(region, size):
    says = rf"mm_crosscorr_region has {size} pixels \(x × y\); at least 32 × 32"
    with pytest.raises(InputError, match=says):
        check_region(*region)
    stack = Stack(np.zeros((3, 100, 100)))
    parameters = Parameters.from_mapping({"mm_crosscorr_region": region})
    with pytest.raises(InputError, match=says):
        check(stack, NOISE, parameters)


def test_least_region_is_accepted():
    check_region(5, 36, 1, 32)


def test_given_offsets_are_not_measured():
    assert not Offsets(np.zeros((3, 2))).measured
    images = draw(scene(), OFFSETS)
    given = find_offsets(images, [NOISE] * 3, MM(mm_xy_offsets=[[1, 2], [0, 0], [3, 4]]))
    assert given.xy_px.tolist() == [[1, 2], [0, 0], [3, 4]]
    assert not given.measured
    assert find_offsets(images, [NOISE] * 3, MM()) is None


def test_aligned_exposures_are_where_the_median_is():
    images = np.array(draw(scene(), OFFSETS))
    images[1, 30, 40] = np.nan
    for values in ({"mm_xy_offsets": OFFSETS}, {"mm_crosscorr_region": [1, 160, 1, 120]}):
        there = aligned(Stack(images), NOISE, MM(**values)).exposures
        np.testing.assert_array_equal(np.isnan(there), np.isnan(images))
        filled = [np.nan_to_num(image, nan=50.0) for image in there]
        found = measure_offsets(filled, [NOISE] * 3, EVERYWHERE)
        np.testing.assert_allclose(found.xy_px, 0, atol=0.03)
    stack = Stack(images)
    assert aligned(stack, NOISE, MM()) is stack


# ---------------------------------------------------------------------------------------------
# Moving an image


@pytest.mark.parametrize("xy", [(0.5, 0.0), (-0.25, 0.75), (2.3, -1.6)])
def test_moved_gaussian(xy):
    """Splines follow a well sampled spot within a thousandth of its height."""
    rows, columns = np.mgrid[:50, :60]

    def spot(x, y):
        return 1000 * np.exp(-0.5 * (((columns - x) / 2) ** 2 + ((rows - y) / 2.5) ** 2))

    before = spot(30, 22)
    np.testing.assert_allclose(move(before, xy), spot(30 + xy[0], 22 + xy[1]), atol=1.0)
    np.testing.assert_array_equal(before, spot(30, 22))


def test_moved_by_whole_pixels_the_edge_is_repeated():
    image = np.random.default_rng(1).uniform(0, 100, (12, 15)).astype(np.float32)
    result = move(image, (2, -1))
    padded = np.pad(image, ((0, 1), (2, 0)), "edge")[1:, :-2]
    np.testing.assert_allclose(result, padded, atol=1e-3)
    assert result.dtype == np.float32


def test_not_moved_it_is_the_same():
    image = np.ones((5, 5))
    assert move(image, (0.0, 0.0)) is image
