import numpy as np
import pytest
from scenes import scene_of

from crdetect import InputError, Noise, Stack
from crdetect.mm.parameters import MM
from crdetect.mm.scene import Expected, ExpectedExposure, make_scene
from crdetect.mm.simulation import simulate
from crdetect.noise import distinct
from crdetect.resources import Resources

SHAPE = (4, 5)


def expected_of(signals, noises, factors=(1.0, 1.0, 1.0)):
    return Expected(tuple(signals), tuple(factors), tuple(noises))


@pytest.fixture
def cube():
    cube = np.random.default_rng(1).normal(10, 1, (3, *SHAPE)).astype(np.float32)
    cube[1, 0, 0] = np.nan
    return cube


@pytest.fixture
def excluded():
    excluded = np.zeros(SHAPE, bool)
    excluded[2, 3] = True
    return excluded


def test_scene_holds_the_clean_pixels(cube, excluded):
    gain = np.arange(1.0, 21.0).reshape(SHAPE)
    noise = Noise(gain, 2.0, 50.0)
    signal = np.linspace(0, 19, 20, dtype=np.float32).reshape(SHAPE)
    other = signal + 1
    min2d = np.arange(20, dtype=np.float32).reshape(SHAPE)
    expected = expected_of([signal, signal, other], [noise, noise, Noise(3.0, 4.0)], (1, 2, 3))
    scene = make_scene(Stack(cube), expected, 2, min2d, excluded)
    clean = ~excluded
    clean[0, 0] = False
    assert scene.size == clean.sum() == 18
    for exposure, values in zip(scene.exposures, [signal, signal, other], strict=True):
        np.testing.assert_array_equal(exposure.signal_adu, values[clean])
    np.testing.assert_array_equal(scene.min2d_adu, min2d[clean])
    assert [exposure.factor for exposure in scene.exposures] == [1, 2, 3]
    for exposure in scene.exposures[:2]:
        np.testing.assert_array_equal(exposure.noise.gain, gain[clean])
        assert (exposure.noise.rnoise_adu, exposure.noise.nbinom_shape) == (2.0, 50.0)
    assert scene.exposures[2].noise == Noise(3.0, 4.0)
    assert scene.coincidences == 2


def test_what_exposures_share_is_held_once(cube, excluded):
    signal, noise = np.ones(SHAPE, np.float32), Noise(np.full(SHAPE, 2.0), 1.0)
    same = make_scene(Stack(cube), expected_of([signal], [noise]), 2, signal, excluded)
    assert same.expected.common_signal
    for scene in (same, same.select(slice(2, 7))):
        assert len(scene.exposures) == 3
        assert scene.exposures[0].signal_adu is scene.exposures[2].signal_adu
        assert scene.exposures[0].noise is scene.exposures[2].noise
    own = make_scene(Stack(cube), expected_of([signal] * 3, [noise]), 2, signal, excluded)
    assert not own.expected.common_signal


def test_numbers_of_signals_and_noises_fit_the_exposures():
    signal, noise = np.ones(4), Noise(1.0, 1.0)
    for signals, noises, name in ((2, 1, "signals_adu"), (1, 2, "noises"), (0, 1, "signals_adu")):
        with pytest.raises(ValueError, match=f"{name} must be 1 or 3, not "):
            expected_of([signal] * signals, [noise] * noises)


def test_distinct_noises_are_told_by_their_values():
    maps = [Noise(np.full(SHAPE, 2.0), 1.0) for _ in range(3)]
    assert distinct(maps) == (maps[0],)
    assert distinct([Noise(2.0, 1.0), Noise(2.0, 1.0)]) == (Noise(2.0, 1.0),)
    maps[2] = Noise(np.full(SHAPE, 2.5), 1.0)
    assert distinct(maps) == tuple(maps)
    assert distinct([Noise(2.0, 1.0), Noise(2.0, 1.0, 9.0)]) == (
        Noise(2.0, 1.0),
        Noise(2.0, 1.0, 9.0),
    )


@pytest.mark.parametrize("index", [slice(3, 9), np.array([5, 1, 2])])
def test_selection_of_pixels(index):
    rnoise = np.arange(1.0, 13.0)
    signals = [np.arange(12.0), np.arange(12.0) + 100, np.arange(12.0) + 200]
    scene = scene_of(signals, Noise(2.0, rnoise), 2, [1, 2, 3], np.arange(12.0) - 5)
    some = scene.select(index)
    for i, exposure in enumerate(some.exposures):
        np.testing.assert_array_equal(exposure.signal_adu, signals[i][index])
        np.testing.assert_array_equal(exposure.noise.rnoise_adu, rnoise[index])
        assert exposure.factor == i + 1
    np.testing.assert_array_equal(some.min2d_adu, np.arange(12.0)[index] - 5)
    assert (some.coincidences, some.size) == (2, len(np.arange(12)[index]))


def test_scene_without_clean_pixels():
    cube = np.ones((3, 2, 2), np.float32)
    cube[0, 0, 0] = np.nan
    excluded = np.array([[False, True], [True, True]])
    expected = expected_of([np.ones((2, 2))] * 3, [Noise(1.0, 1.0)] * 3)
    with pytest.raises(InputError, match="has a value in every exposure"):
        make_scene(Stack(cube), expected, 2, cube[0], excluded)


@pytest.mark.parametrize(
    ("signal_adu", "gain", "factor", "refused"),
    [
        (1e14, 1.0, 1.0, False),
        (1e16, 1.0, 1.0, True),
        (1e14, 100.0, 1.0, True),
        (1e14, 1.0, 100.0, True),
        (1e16, 1.0, 0.001, False),
    ],
)
def test_signals_beyond_any_detector(signal_adu, gain, factor, refused):
    cube = np.ones((3, 2, 2), np.float32)
    signal = np.ones((2, 2))
    signal[1, 1] = signal_adu
    noise = Noise(gain, 1.0)
    expected = expected_of([np.ones((2, 2)), signal, signal], [noise] * 3, (1, factor, factor))
    nothing = np.zeros((2, 2), bool)
    if refused:
        with pytest.raises(InputError, match="more than a detector gives"):
            make_scene(Stack(cube), expected, 2, cube[0], nothing)
    else:
        assert make_scene(Stack(cube), expected, 2, cube[0], nothing).size == 4
    # a pixel that is not simulated may have any
    assert make_scene(Stack(cube), expected, 2, cube[0], signal > 1).size == 3


def test_draws_follow_signal_factor_and_noise_of_the_pixels():
    signal = np.repeat([0.0, 100.0], 50_000)
    rnoise = np.repeat([3.0, 6.0], 50_000)
    exposure = ExpectedExposure(signal, 3.0, Noise(2.0, rnoise, 50.0))
    for pixels, mean, rn in ((slice(0, 50_000), 0.0, 3.0), (slice(50_000, None), 300.0, 6.0)):
        drawn = exposure.draw_adu(pixels, np.random.default_rng(5)).astype(float)
        variance = mean / 2 + mean**2 / 50 + rn**2
        assert drawn.shape == (50_000,)
        assert abs(drawn.mean() - mean) < 4.5 * np.sqrt(variance / drawn.size)
        # the negative binomial's fourth cumulant adds 6 / κ to the 2 of a normal distribution
        assert abs(drawn.var() / variance - 1) < 4.5 * np.sqrt((2 + 6 / 50) / drawn.size)


def test_scene_of_a_stack_with_maps_is_simulated():
    shape = (20, 30)
    cube = np.random.default_rng(1).normal(50, 3, (3, *shape)).astype(np.float32)
    noise = Noise(np.full(shape, 2.0), np.full(shape, 3.0))
    signal = np.full(shape, 50, np.float32)
    expected = expected_of([signal] * 3, [noise] * 3)
    scene = make_scene(Stack(cube), expected, 2, cube.min(axis=0), np.zeros(shape, bool))
    diagram = simulate(scene, 2.0, MM(mm_nsimulations=1), Resources(2))
    assert diagram.counts.sum() == 600
