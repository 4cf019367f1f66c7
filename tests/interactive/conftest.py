"""Someone who works with the windows, exposures to show there, and processes to talk with."""

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from person import NOISE, Console, Hands

import crdetect
from crdetect.interactive import terminal, window
from crdetect.pipeline import prepare
from crdetect.simulate import simulate_exposures


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


@pytest.fixture(scope="session")
def simulation():
    return simulate_exposures((96, 128), seed=5, double_hits=6)


@pytest.fixture(scope="session")
def stack(simulation):
    return crdetect.Stack(simulation.exposures_adu)


@pytest.fixture(scope="session")
def prepared(stack):
    return prepare(stack, NOISE, crdetect.Parameters(), workers=2)


@pytest.fixture
def start(request):
    """Start a process on a pseudo-terminal; it does not outlive the test."""

    def start(command, folder, **env):
        console = Console(command, folder, **env)
        request.addfinalizer(console.close)
        return console

    return start
