"""The boundary refined by keys and with the mouse; and what it gives again without a person."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from person import NOISE, check, click, mouse, panel_of, press, repeated, same_masks

import crdetect
from crdetect.errors import InputError, Stopped
from crdetect.interactive.histogram import Refinement, refine
from crdetect.pipeline import prepare

START = crdetect.Parameters()


@pytest.fixture
def start(prepared):
    return Refinement.start(prepared, START, prepared.compare(START))


def finish(refined, stack):
    """What comes out of a refinement, after checking that it can be had again."""
    detection = refined.prepared.flag(refined.diagram, refined.repeatable())
    assert same_masks(repeated(detection, stack), detection)
    return detection


def curve_of(refined):
    boundary = refined.diagram.criterion.boundary
    return boundary(np.linspace(*boundary.curve.spline.t[[0, -1]], 200))


def count_in(figure):
    title = panel_of(figure, "Real").get_title()
    return int(title.rpartition(": ")[2].removesuffix(" pixels"))


def boundary_in(figure):
    ax = panel_of(figure, "Real")
    return next(line.get_ydata() for line in ax.lines if line.get_gid() == "boundary")


def test_nothing_done_changes_nothing(hands, start, stack):
    hands.will(press("c"))
    refined = refine(start)
    assert refined.repeatable() == START
    detection = finish(refined, stack)
    assert same_masks(detection, crdetect.detect(stack, NOISE, START))
    assert not plt.get_fignums()


def test_fit_repeated_with_other_parameters(hands, start, stack):
    hands.will(press("f"), press("c"))
    hands.will_answer("1", "", "4", "3", "2.5", "a 50 40", "")
    refined = refine(start)
    mm = refined.mm
    assert (mm.mm_hist2d_min_neighbors, mm.mm_knots_splfit) == (1, 4)
    assert mm.mm_fixed_points_in_boundary == ((50.0, 40.0),)
    assert refined.diagram.clean is start.diagram.clean  # no simulation
    assert len(refined.diagram.criterion.boundary.rounds) == 4
    assert refined.diagram.criterion.boundary(np.array(50.0)) == pytest.approx(40, abs=1)
    finish(refined, stack)


def test_piecewise_boundary(hands, start, stack):
    hands.will(press("f"), press("c"))
    hands.will_answer("", "piecewise", "a 0 30", "a 200 80", "")
    refined = refine(start)
    assert refined.diagram.criterion.boundary(np.array([0, 100, 500])).tolist() == [30, 55, 80]
    finish(refined, stack)


def test_simulations_run_again(hands, start, stack):
    hands.will(press("r"), press("c"))
    hands.will_answer("nbinom", "200", "400", "3", "none")
    refined = refine(start)
    assert refined.diagram.clean.nsets == 3
    assert refined.diagram.clean.limits.ymax == 400
    assert refined.diagram.seed != START.mm.mm_seed
    detection = finish(refined, stack)
    assert detection.repeating().mm.mm_seed == refined.diagram.seed


def test_point_added_moved_and_removed_with_the_mouse(hands, start, stack):
    top = start.diagram.clean.limits.ymax
    counts, curves = [], []

    def look(figure):
        counts.append(count_in(figure))
        curves.append(boundary_in(figure).copy())

    hands.will(check(look), mouse("press", 100, 0.5 * top))
    hands.will(check(look), mouse("move", 110, 0.1 * top), check(look))
    hands.will(mouse("release", 110, 0.1 * top), check(look), press("c"))
    refined = refine(start)
    ((x, y),) = refined.fixed
    assert (x, y) == pytest.approx((110, 0.1 * top), rel=0.03)
    assert counts[1] < counts[0] < counts[2] == counts[3] == refined.flagged()
    assert not np.array_equal(curves[1], curves[2])  # the line follows while the mouse moves
    np.testing.assert_array_equal(curves[2], curves[3])
    assert refined.diagram.criterion.boundary(np.array(x)) == pytest.approx(y, rel=0.05)
    finish(refined, stack)

    hands.will(*click(x, y, button=3), press("c"))
    again = refine(refined)
    assert again.fixed == ()
    np.testing.assert_array_equal(curve_of(again), curve_of(start))
    finish(again, stack)


def test_flagged_pixels_are_those_of_the_criterion(start):
    statistics = start.prepared.observation.statistics
    flagged = start.diagram.criterion.flag(statistics.median2d, statistics)
    assert start.flagged() == np.count_nonzero(flagged)


def test_point_at_the_top_stays_in_the_diagram(hands, start, stack):
    top = start.diagram.clean.limits.ymax
    hands.will(*click(100, 0.999 * top), press("c"))
    refined = refine(start)
    assert refined.diagram.clean is start.diagram.clean
    assert 0.94 * top < refined.fixed[0][1] < top / 1.05
    finish(refined, stack)


def test_high_point_makes_the_diagram_anew(hands, start, stack, capsys):
    high = 3 * start.diagram.clean.limits.ymax
    hands.will(press("f"), press("c"))
    hands.will_answer("", "", "", "", "", f"a 100 {high}", "")
    refined = refine(start)
    assert refined.diagram.clean.limits.ymax == pytest.approx(1.05 * high)
    assert "the diagram is made anew" in capsys.readouterr().out
    finish(refined, stack)


def test_removing_the_highest_point_leaves_the_height(hands, prepared, stack):
    """The height of the diagram came from a point that is no more; it is written down."""
    parameters = crdetect.Parameters.from_mapping({"mm_fixed_points_in_boundary": [[100, 900]]})
    state = Refinement.start(prepared, parameters, prepared.compare(parameters))
    hands.will(*click(100, 900, button=3), press("c"))
    refined = refine(state)
    assert refined.fixed == ()
    assert refined.repeatable().mm.mm_ydiag_max == pytest.approx(945)
    finish(refined, stack)


def test_points_that_the_schema_refuses_stay_as_they_were(hands, prepared, capsys):
    points = ((0.0, 30.0), (200.0, 80.0))
    values = {"mm_boundary_fit": "piecewise", "mm_fixed_points_in_boundary": points}
    parameters = crdetect.Parameters.from_mapping(values)
    state = Refinement.start(prepared, parameters, prepared.compare(parameters))
    hands.will(*click(200, 80, button=3), press("c"))
    assert refine(state).fixed == points
    assert "piecewise needs mm_fixed_points_in_boundary with at least two" in (
        capsys.readouterr().out
    )


def test_point_cannot_be_put_over_another(hands, start):
    hands.will(*click(50, 40), *click(100, 50), mouse("press", 100, 50), mouse("move", 50, 45))
    hands.will(mouse("release", 50, 45), press("c"))
    assert [point[0] for point in refine(start).fixed] == pytest.approx([50, 100], abs=0.5)


def test_mouse_does_not_edit_while_it_zooms(hands, start):
    hands.will(press("o"), mouse("press", 50, 20), mouse("move", 90, 60), mouse("release", 90, 60))

    def zoomed(figure):
        assert panel_of(figure, "Sim").get_xlim() == pytest.approx((50, 90), abs=3)  # both panels
        assert panel_of(figure, "Real").get_ylim() == pytest.approx((20, 60), abs=1)

    hands.will(check(zoomed), press("o"), *click(70, 40), check(zoomed), press("h"))

    def home(figure):
        assert panel_of(figure, "Real").get_ylim()[0] == 0
        assert panel_of(figure, "Real").get_ylim()[1] == start.diagram.clean.limits.ymax

    hands.will(check(home), press("c"))
    assert len(refine(start).fixed) == 1


def test_stop(hands, start):
    hands.will(press("x"))
    with pytest.raises(Stopped):
        refine(start)
    assert not plt.get_fignums()


@pytest.mark.slow
@pytest.mark.parametrize("false_pixels", [None, 1.0])
def test_computed_diagram_is_fitted_again(hands, stack, false_pixels):
    values = {"mm_simulation": "analytic", "mm_false_pixels": false_pixels}
    parameters = crdetect.Parameters.from_mapping(values)
    prepared = prepare(stack, NOISE, parameters)
    state = Refinement.start(prepared, parameters, prepared.compare(parameters))
    hands.will(press("f"), press("c"))
    hands.will_answer("", "", "6", "", "", "")
    refined = refine(state)
    assert refined.diagram.criterion.boundary.curve.knots.size == 6
    if false_pixels:
        assert refined.diagram.expected_above == pytest.approx(false_pixels, rel=0.1)
    finish(refined, stack)


def test_boundary_that_cannot_be_had_is_told(hands, stack, capsys):
    values = {"mm_simulation": "analytic", "mm_false_pixels": 1.0}
    parameters = crdetect.Parameters.from_mapping(values)
    prepared = prepare(stack, NOISE, parameters)
    state = Refinement.start(prepared, parameters, prepared.compare(parameters))
    with pytest.raises(InputError):
        state.with_fixed(((50.0, 1.0, 1e6), (60.0, 1.0, 1e6)))
    hands.will(press("f"), press("c"))
    hands.will_answer("", "", "", "", "", "a 50 1 1e6", "a 60 1 1e6", "")
    assert refine(state) == state
    assert "nothing is changed" in capsys.readouterr().out
