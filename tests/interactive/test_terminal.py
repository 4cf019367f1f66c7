"""Questions, asked on a pseudo-terminal by a process of their own."""

import json
import os
import subprocess
import sys

import pytest

from crdetect.interactive import terminal
from crdetect.mm.parameters import MM

pytestmark = pytest.mark.subprocess

ASK = """
import sys
from crdetect.errors import Stopped
from crdetect.interactive import terminal
from crdetect.mm.parameters import MM
mm = MM.model_validate_json(sys.argv[2])
assert terminal.is_here()
try:
    answered = getattr(terminal, sys.argv[1])(mm)
    print("ANSWERED", answered.model_dump_json(exclude_unset=False), flush=True)
except Stopped as error:
    print("STOPPED", error)
"""


class Typist:
    """A person at a terminal."""

    def __init__(self, console):
        self.console = console

    def sees(self, *texts):
        """See all these, one after the other."""
        for text in texts:
            self.console.sees(text)

    def types(self, *lines):
        self.console.types(*lines)

    @property
    def unread(self):
        return self.console.text[self.console.read_to :]

    def result(self):
        self.sees("ANSWERED ")
        assert self.console.end() == 0
        return MM(**json.loads(self.unread.partition("\n")[0]))


@pytest.fixture
def ask(start, tmp_path):
    """Let a process ask a person."""

    def ask(function, **values):
        mm = MM(**values).model_dump_json()
        return Typist(start([sys.executable, "-c", ASK, function, mm], tmp_path))

    return ask


def test_boundary_is_asked_for_with_its_values_as_defaults(ask):
    typist = ask("ask_boundary")
    for name, value in {
        "mm_hist2d_min_neighbors": 0,
        "mm_boundary_fit": "spline",
        "mm_knots_splfit": 5,
        "mm_niter_boundary_extension": 5,
        "mm_weight_boundary_extension": 2.0,
    }.items():
        typist.sees(name, f"[{value}]: ")
        typist.types("")
    typist.sees("fixed points: 0")
    typist.types("")
    assert typist.result() == MM()


def test_what_the_schema_refuses_is_asked_again_with_its_words(ask):
    typist = ask("ask_boundary")
    for wrong in ("9", "many", "[1", "none"):
        typist.sees("mm_hist2d_min_neighbors (", "[0]: ")
        typist.types(wrong)
        typist.sees("mm_hist2d_min_neighbors must be an integer from 0 to 8, not")
    typist.sees("mm_hist2d_min_neighbors (")
    typist.types("3")
    typist.sees("mm_boundary_fit (")
    typist.types("parabola")
    typist.sees("mm_boundary_fit must be one of spline, piecewise", "mm_boundary_fit (")
    typist.types("", "7", "2", "1.5", "")
    mm = typist.result()
    assert (mm.mm_hist2d_min_neighbors, mm.mm_knots_splfit) == (3, 7)
    assert (mm.mm_niter_boundary_extension, mm.mm_weight_boundary_extension) == (2, 1.5)


def test_fixed_points_are_added_edited_deleted_and_cleared(ask):
    typist = ask("ask_boundary", mm_fixed_points_in_boundary=((5, 6),))
    typist.types("", "", "", "", "")
    typist.sees("1: [5.0, 6.0]", "fixed points: 1")
    typist.types("a 10 20")
    typist.sees("2: [10, 20]", "fixed points: 2")
    typist.types("a 1 -1")
    typist.sees("must be a list of points", "fixed points: 2")
    typist.types("e 3 1 1")
    typist.sees("there is no point 3; accepted: 1 to 2")
    typist.types("jump")
    typist.sees("'jump' is not understood; accepted:", "a X Y", "fixed points: 2")
    typist.types("e 1 7 8 9.5")
    typist.sees("1: [7, 8, 9.5]", "fixed points: 2")
    typist.types("clear")
    typist.sees("fixed points: 0")
    typist.types("a 1 2", "a 3 4", "d 1")
    typist.sees("1: [3, 4]", "fixed points: 1")
    typist.types("")
    assert typist.result().mm_fixed_points_in_boundary == ((3.0, 4.0),)


def test_piecewise_without_points_is_asked_again_as_a_whole(ask):
    typist = ask("ask_boundary")
    typist.types("", "piecewise")
    typist.sees("fixed points: 0")
    typist.types("")
    typist.sees("piecewise needs mm_fixed_points_in_boundary with at least two points")
    typist.sees("mm_hist2d_min_neighbors (", "[0]")
    typist.types("")
    typist.sees("mm_boundary_fit", "[piecewise]")
    typist.types("", "a 0 20", "a 100 50", "")
    mm = typist.result()
    assert mm.mm_boundary_fit == "piecewise"
    assert len(mm.mm_fixed_points_in_boundary) == 2


def test_simulation_is_asked_for(ask):
    typist = ask("ask_simulation")
    typist.sees("mm_photon_distribution", "[poisson]")
    typist.types("nbinom")
    typist.sees("mm_nbinom_shape", "[1000.0]")
    typist.types("-5")
    typist.sees("mm_nbinom_shape must be auto", "mm_nbinom_shape (")
    typist.types("auto")
    typist.sees("mm_ydiag_max", "ADU")
    typist.types("250")
    typist.sees("mm_nsimulations", "[10]")
    typist.types("0")
    typist.sees("mm_nsimulations must be an integer", "mm_nsimulations (")
    typist.types("4")
    typist.sees("mm_seed", "[123456]")
    typist.types("none")
    mm = typist.result()
    assert (mm.mm_photon_distribution, mm.mm_nbinom_shape) == ("nbinom", "auto")
    assert (mm.mm_ydiag_max, mm.mm_nsimulations, mm.mm_seed) == (250, 4, None)


def test_shape_is_not_asked_for_where_photons_have_none(ask):
    typist = ask("ask_simulation", mm_simulation="analytic")
    typist.types("", "", "")
    typist.sees("mm_photon_distribution (", "mm_ydiag_max (", "mm_nsimulations (")
    assert "mm_nbinom_shape (" not in typist.unread
    assert typist.result() == MM(mm_simulation="analytic")


def test_end_of_file_stops(ask):
    typist = ask("ask_boundary")
    typist.sees("mm_hist2d_min_neighbors", ": ")
    os.write(typist.console.master, b"\x04")
    typist.sees("STOPPED")
    assert typist.console.end() == 0


def test_a_pipe_is_no_terminal():
    code = "from crdetect.interactive import terminal; print(terminal.is_here())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.stdout == "False\n"


def test_choice_is_asked_again(monkeypatch, capsys):
    answers = iter(["q", "x"])
    monkeypatch.setattr("builtins.input", lambda _: next(answers))
    assert terminal.ask_choice("go on?", ("c", "x"), "c") == "x"
    assert "must be one of c, x, not q" in capsys.readouterr().out
