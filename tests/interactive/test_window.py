import subprocess
import sys

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.backend_bases import CloseEvent
from person import WAIT_S, environment, mouse, press

from crdetect.interactive import window
from crdetect.interactive.keys import DIAGNOSTIC, HISTOGRAM
from crdetect.interactive.window import open_window
from crdetect.plots.style import new_figure

ASK_WHY = "from crdetect.interactive.window import why_not; print(why_not())"


@pytest.fixture
def figure():
    figure = new_figure(15.0, 7.0)
    ax = figure.subplots()
    ax.set(title="Real", xlim=(0, 10), ylim=(0, 10))
    return figure


def test_keys_come_out_as_actions_and_others_do_nothing(hands, figure):
    hands.will(press("k"), press("q"), press("f"))
    with open_window(figure, "one", HISTOGRAM) as opened:
        assert opened.wait()[0] == "fit"


def test_own_keys_of_matplotlib_are_off(hands, figure):
    with open_window(figure, "two", HISTOGRAM) as opened:
        assert plt.fignum_exists(figure.number)
        hands.will(press("g"), press("l"), press("ctrl+w"), press("q"), press("c"))
        grid = figure.axes[0].xaxis.get_gridlines()[0].get_visible()
        assert opened.wait()[0] == "continue"
        assert plt.fignum_exists(figure.number)  # q and ctrl+w close matplotlib's windows
        assert figure.axes[0].get_yscale() == "linear"  # l makes its axes logarithmic
        assert figure.axes[0].xaxis.get_gridlines()[0].get_visible() == grid  # g: a grid


def test_window_is_closed_in_the_end(figure):
    with pytest.raises(ZeroDivisionError), open_window(figure, "three", HISTOGRAM):
        raise ZeroDivisionError
    assert not plt.get_fignums()


def test_window_fits_a_screen(figure):
    with open_window(figure, "four", HISTOGRAM) as opened:
        assert opened.figure.bbox.width <= 1400
        assert opened.figure.bbox.height <= 820


def test_help_is_told_on_the_terminal(hands, figure, capsys):
    hands.will(press("?"), press("c"))
    with open_window(figure, "five", DIAGNOSTIC) as opened:
        opened.wait()
    text = capsys.readouterr().out
    assert all(key.text in text for key in DIAGNOSTIC)


def test_zoom_with_the_mouse_and_back(hands, figure):
    ax = figure.axes[0]
    hands.will(press("o"), mouse("press", 2, 3), mouse("move", 5, 6), mouse("release", 5, 6))
    hands.will(press("c"), press("h"))
    with open_window(figure, "six", HISTOGRAM) as opened:
        assert opened.wait()[0] == "continue"  # what the mouse does while zooming stays inside
        np.testing.assert_allclose([*ax.get_xlim(), *ax.get_ylim()], [2, 5, 3, 6], atol=0.02)
        assert opened.wait()[0] == "home"
        opened.home()
        np.testing.assert_allclose([*ax.get_xlim(), *ax.get_ylim()], [0, 10, 0, 10])


def test_later_place_of_the_mouse_makes_an_earlier_one_useless(hands, figure):
    def several(canvas):
        mouse("press", 1, 1)(canvas)
        for place in range(2, 8):
            mouse("move", place, place)(canvas)

    hands.will(mouse("move", 9, 9), several)  # without a button it is of no interest
    with open_window(figure, "seven", HISTOGRAM) as opened:
        assert opened.wait()[1].name == "button_press_event"
        _, event = opened.wait()
        assert event.name == "motion_notify_event"
        assert event.xdata == pytest.approx(7)


@pytest.mark.parametrize(("answer", "action"), [("", "continue"), ("x", "stop")])
def test_who_closes_the_window_is_asked(hands, figure, answer, action):
    hands.will(lambda canvas: CloseEvent("close_event", canvas)._process())
    hands.will_answer(answer)
    with open_window(figure, "eight", HISTOGRAM) as opened:
        assert opened.wait()[0] == action


@pytest.mark.subprocess
@pytest.mark.parametrize(
    ("chosen", "reason"),
    [
        ({"DISPLAY": ":987"}, "there is no display"),
        ({"DISPLAY": ":987", "MPLBACKEND": "tkagg"}, "there is no display"),
        ({"MPLBACKEND": "svg"}, "there is no display (matplotlib's backend is svg)"),
    ],
    ids=str,
)
def test_display_or_backend_that_does_not_work(chosen, reason):
    done = subprocess.run(
        [sys.executable, "-c", ASK_WHY],
        capture_output=True,
        text=True,
        check=True,
        env=environment(**chosen),
        timeout=WAIT_S,
    )
    assert done.stdout.startswith(reason)


@pytest.mark.subprocess
def test_without_a_display_there_is_no_window():
    done = subprocess.run(
        [sys.executable, "-c", ASK_WHY],
        capture_output=True,
        text=True,
        check=True,
        env=environment(),
    )
    assert done.stdout == "there is no display (matplotlib's backend is agg)\n"


def test_backend_that_cannot_be_loaded_is_told(monkeypatch):
    def refuse(_):
        raise ImportError("the toolkit is\nnot installed")

    monkeypatch.setattr(window.plt, "switch_backend", refuse)
    assert window.why_not() == "there is no window (the toolkit is not installed)"
