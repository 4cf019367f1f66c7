"""Features kept or rejected; what is rejected is gone in a run without a person, too."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from person import NOISE, check, press, repeated, same_masks

import crdetect
from crdetect.errors import Stopped
from crdetect.interactive.verify import Verdicts, verify
from crdetect.masks import class_meanings
from crdetect.pipeline import prepare
from crdetect.resources import Resources

DILATIONS = [(0, 0), (1, 0), (0, 2), (2, 1)]  # of the diagram, and of all masks


def judged(prepared, **values):
    parameters = crdetect.Parameters.from_mapping(values)
    return prepared.flag(prepared.compare(parameters), parameters)


@pytest.fixture(scope="module")
def detection(prepared):
    return judged(prepared)


def pixels_of(detection, *numbers):
    features = detection.features
    inside = np.isin(features.label, numbers)
    mask = np.zeros(detection.codes.shape, bool)
    mask[features.y[inside], features.x[inside]] = True
    return mask


def test_keys_decide(hands, detection, stack):
    titles = []
    hands.will(press("k"), press("r"), press("u"), press("k"), press("r"), press("m"))
    hands.will(check(lambda figure: titles.append(figure.get_suptitle())), press("q"))
    parameters = verify(detection, stack)
    fifth = list(detection.features)[4]
    words = class_meanings(detection.code_meanings)[fifth.class_name]
    total = len(detection.features)
    assert titles[0].startswith(f"feature 5 of {total}, {words} ({fifth.class_name}): ")
    assert "2 kept, 1 rejected, 1 rejected in MEDIANCR only" in titles[0]
    ignored = {tuple(pixel) for pixel in parameters.general.pixels_to_be_ignored_as_cr}
    rows, columns = np.nonzero(pixels_of(detection, 3))
    assert ignored == set(zip((columns + 1).tolist(), (rows + 1).tolist(), strict=True))
    assert len(parameters.general.pixels_to_be_ignored_in_mediancr) == (
        pixels_of(detection, 4).sum()
    )


def test_all_features_are_asked_about_and_kept_ones_change_nothing(hands, detection, stack):
    total = sum(detection.features.counts().values())
    hands.will(*[press("y")] * total)
    assert verify(detection, stack) == detection.parameters


def test_undo_at_the_beginning_does_nothing(hands, detection, stack):
    hands.will(press("u"), press("backspace"), press(","), press("/"), press("q"))
    assert verify(detection, stack) == detection.parameters


def test_figure_shows_the_feature(hands, detection, stack):
    y, x = (places.mean() for places in np.nonzero(pixels_of(detection, 1)))

    def around(figure):
        panels = [ax for ax in figure.axes if ax.get_visible()]
        assert [ax.get_title() for ax in panels] == [
            "exposure 1", "exposure 2", "exposure 3", "median2d", "median2d without MEDIANCR",
            "mean2d",
        ]  # fmt: skip
        for ax in panels:
            (left, right), (low, high) = ax.get_xlim(), ax.get_ylim()
            assert left < x + 1 < right
            assert low < y + 1 < high
            columns = slice(round(left - 0.5), round(right - 0.5))
            rows = slice(round(low - 0.5), round(high - 0.5))
            if ax.get_title() == "exposure 2":
                shown = stack.exposures[1][rows, columns]
                np.testing.assert_array_equal(ax.images[0].get_array(), shown)

    def explained(figure):
        (legend,) = figure.legends
        texts = [text.get_text() for text in legend.get_texts()]
        meanings = detection.code_meanings
        assert sorted(texts) == sorted(f"{meanings[code]} (code {code})" for code in (1, 2, 3, 4))
        assert "[k] keep" in legend.get_title().get_text()

    hands.will(check(around), check(explained), press("q"))
    verify(detection, stack)


def test_stop(hands, detection, stack):
    hands.will(press("r"), press("x"))
    with pytest.raises(Stopped):
        verify(detection, stack)


def test_nothing_to_verify(stack, capsys):
    values = {"crmethod": "mmcosmic", "mm_threshold": 1e6}
    nothing = crdetect.detect(stack, NOISE, crdetect.Parameters.from_mapping(values))
    assert verify(nothing, stack) is nothing.parameters
    assert "there is no feature" in capsys.readouterr().out


@pytest.mark.parametrize(("mm_dilation", "dilation"), DILATIONS)
@pytest.mark.parametrize("decision", ["reject", "single"])
def test_rejected_features_are_gone_and_the_others_are_as_they_were(
    prepared, stack, mm_dilation, dilation, decision
):
    before = judged(prepared, mm_dilation=mm_dilation, dilation=dilation)
    verdicts = Verdicts(before.features, ("keep", decision, "keep", decision))
    after = prepared.flag(before.diagram, verdicts.applied(before.parameters))
    rejected = pixels_of(before, 2, 4)
    assert rejected.any()
    np.testing.assert_array_equal(after.masks.mediancr, before.masks.mediancr & ~rejected)
    np.testing.assert_array_equal(after.codes, np.where(rejected, 0, before.codes))
    if decision == "reject":
        assert not after.masks.meancrt[rejected].any()
        assert not after.masks.crmasks[:, rejected].any()
    assert same_masks(repeated(after, stack), after)


def test_hit_once_stays_in_the_exposure(stack):
    """A feature of MEDIANCR that one exposure has: rejected there, its exposure stays masked."""
    cube = np.array(stack.exposures)
    cube[:] = np.random.default_rng(3).normal(50, 3.4, cube.shape)
    cube[0, 40, 60] += 900
    cube[1, 40, 60] += 900
    once = crdetect.Stack(cube)
    prepared = prepare(once, NOISE, crdetect.Parameters(), Resources(2))
    before = judged(prepared)
    number = before.features.label[(before.features.y == 40) & (before.features.x == 60)][0]
    decisions = ("keep",) * (int(number) - 1) + ("single",)
    after = prepared.flag(
        before.diagram, Verdicts(before.features, decisions).applied(before.parameters)
    )
    assert not after.masks.mediancr[40, 60]
    assert after.masks.crmasks[:, 40, 60].tolist() == [True, True, False]


@given(data=st.data())
@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_verdicts_repeat_exactly(prepared, stack, data):
    mm_dilation, dilation = data.draw(st.sampled_from(DILATIONS))
    before = judged(prepared, mm_dilation=mm_dilation, dilation=dilation)
    total = sum(before.features.counts().values())
    kinds = st.sampled_from(["keep", "reject", "single"])
    verdicts = Verdicts(before.features, tuple(data.draw(st.lists(kinds, max_size=total))))
    after = prepared.flag(before.diagram, verdicts.applied(before.parameters))
    gone = pixels_of(before, *(i for i, kind in enumerate(verdicts.decisions, 1) if kind != "keep"))
    np.testing.assert_array_equal(after.masks.mediancr, before.masks.mediancr & ~gone)
    assert same_masks(repeated(after, stack), after)


def test_pixel_that_was_to_be_flagged_can_be_rejected(prepared, stack):
    flagged = [[5, 5], [100, 60]]
    before = judged(prepared, pixels_to_be_flagged_as_cr=flagged)
    number = int(before.features.label[(before.features.y == 4) & (before.features.x == 4)][0])
    decisions = ("keep",) * (number - 1) + ("reject",)
    parameters = Verdicts(before.features, decisions).applied(before.parameters)
    assert parameters.general.pixels_to_be_flagged_as_cr == ((100, 60),)
    after = prepared.flag(before.diagram, parameters)
    assert not after.masks.mediancr[4, 4]
    assert same_masks(repeated(after, stack), after)
