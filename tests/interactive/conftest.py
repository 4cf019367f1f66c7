"""A scripted person: real events of matplotlib in windows, answers on the terminal."""

import inspect
import os
import pty
import shutil
import subprocess
import threading
import time
from contextlib import suppress

import numpy as np
import pytest
from matplotlib.backend_bases import KeyEvent, MouseEvent
from matplotlib.backends.backend_agg import FigureCanvasAgg

import crdetect
from crdetect.interactive import terminal, window
from crdetect.pipeline import examine
from crdetect.resources import Resources
from crdetect.simulate import simulate_exposures

_TELLS_BUTTONS = "buttons" in inspect.signature(MouseEvent).parameters  # matplotlib ≥ 3.10
WAIT_S = 180
NOISE = crdetect.Noise(gain=1.0, rnoise_adu=3.4)


class Hands:
    """Plays a script in the windows that open, a step whenever one waits.

    A step is a function of the canvas. Where the script is over and a window still waits, the
    test fails instead of hanging.
    """

    def __init__(self):
        self.script = []
        self.answers = []
        self.seen = []
        self.figures = []

    def will(self, *steps):
        self.script += steps

    def will_answer(self, *answers):
        self.answers += answers

    def act(self, canvas):
        assert self.script, "the script is over, and a window still waits"
        if canvas.figure not in self.figures:
            self.figures.append(canvas.figure)
        self.script.pop(0)(canvas)

    def answer(self, question=""):
        self.seen.append(question)
        assert self.answers, f"nobody answers: {question}"
        return self.answers.pop(0)

    @property
    def is_done(self):
        return not self.script and not self.answers


@pytest.fixture
def hands(monkeypatch):
    """A person who is there; what was not asked for or not done makes the test fail."""
    hands = Hands()

    def flush_events(canvas):
        if getattr(canvas, "_looping", False):
            hands.act(canvas)

    monkeypatch.setattr(FigureCanvasAgg, "flush_events", flush_events)
    monkeypatch.setattr("builtins.input", hands.answer)
    monkeypatch.setattr(terminal, "is_here", lambda: True)
    monkeypatch.setattr(window, "why_not", lambda: None)
    monkeypatch.setenv("MPLBACKEND", "agg")
    yield hands
    assert hands.is_done


def press(key, panel=None, x=0.0, y=0.0):
    """Press a key, with the mouse at a place of a panel (found by its title)."""

    def step(canvas):
        KeyEvent("key_press_event", canvas, key, *_place(canvas, panel, x, y))._process()

    return step


def mouse(kind, x, y, button=1, panel="Real"):
    """Press, move or release at a place of a panel."""
    name = {"press": "button_press_event", "move": "motion_notify_event"}.get(kind)

    def step(canvas):
        place = _place(canvas, panel, x, y)
        held = {"buttons": {button}} if kind == "move" and _TELLS_BUTTONS else {}
        MouseEvent(name or "button_release_event", canvas, *place, button, **held)._process()

    return step


def click(x, y, button=1, panel="Real"):
    return [mouse(kind, x, y, button, panel) for kind in ("press", "release")]


def check(function):
    """Look at the figure while the window waits; then wait on."""

    def step(canvas):
        function(canvas.figure)

    return step


def panel_of(figure, title):
    return next(ax for ax in figure.axes if ax.get_title().startswith(title))


def _place(canvas, panel, x, y):
    if panel is None:
        return 0, 0
    return panel_of(canvas.figure, panel).transData.transform((x, y))


@pytest.fixture(scope="session")
def simulation():
    return simulate_exposures((96, 128), seed=5, double_hits=6)


@pytest.fixture(scope="session")
def stack(simulation):
    return crdetect.Stack(simulation.exposures_adu)


@pytest.fixture(scope="session")
def examined(stack):
    return examine(stack, NOISE, crdetect.Parameters(), resources=Resources(2))


def same_masks(one, other):
    """Tell if two detections have the same masks, byte by byte."""
    return all(
        getattr(one.masks, name).tobytes() == getattr(other.masks, name).tobytes()
        for name in ("mediancr", "meancrt", "crmasks", "meancr")
    ) and np.array_equal(one.codes, other.codes)


def repeated(detection, stack):
    """Run again with the parameters that a run leaves, without anybody."""
    return crdetect.detect(stack, NOISE, detection.repeating(), workers=1)


def needs(*programs):
    """Skip where a program is not installed; in CI, fail."""
    missing = [program for program in programs if shutil.which(program) is None]
    if missing and os.environ.get("CI"):
        pytest.fail(f"{missing} not installed, and in CI nothing is skipped")
    if missing:
        pytest.skip(f"apt-get install xvfb xdotool gives {missing}")


# ---------------------------------------------------------------------------------------------
# Other processes


def environment(**changes):
    """Environment without a display and without a backend chosen."""
    unset = ("DISPLAY", "WAYLAND_DISPLAY", "MPLBACKEND")
    return {name: value for name, value in os.environ.items() if name not in unset} | changes


@pytest.fixture
def start(request):
    """Start a process on a pseudo-terminal; it does not outlive the test."""

    def start(command, folder, **env):
        console = Console(command, folder, **env)
        request.addfinalizer(console.close)
        return console

    return start


class Console:
    """A process on a pseudo-terminal, of which a thread reads whatever it says."""

    def __init__(self, command, folder, **env):
        self.master, slave = pty.openpty()
        self.text, self.read_to = "", 0
        self.process = subprocess.Popen(
            command, cwd=folder, env=environment(**env), stdin=slave, stdout=slave, stderr=slave
        )
        os.close(slave)
        self.reader = threading.Thread(target=self.read)
        self.reader.start()

    def read(self):
        with suppress(OSError):  # the process has closed its end
            while data := os.read(self.master, 65536):
                self.text += data.decode(errors="replace")

    def sees(self, text):
        """Wait until it says this, after what was seen before."""
        end = time.monotonic() + WAIT_S
        while (place := self.text.find(text, self.read_to)) < 0:
            assert time.monotonic() < end, f"no '{text}' in: {self.text[self.read_to :][-500:]}"
            time.sleep(0.05)
        self.read_to = place + len(text)

    def types(self, *lines):
        for line in lines:
            os.write(self.master, f"{line}\n".encode())

    def end(self):
        """Return the exit code."""
        code = self.process.wait(WAIT_S)
        self.reader.join()
        return code

    def close(self):
        self.process.kill()
        self.process.wait()
        self.reader.join()
        os.close(self.master)
