"""Windows: a person's keys and clicks in one come out as a queue of events."""

from __future__ import annotations

import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.backend_bases import (
    CloseEvent,
    Event,
    KeyEvent,
    MouseButton,
    MouseEvent,
    NavigationToolbar2,
)
from matplotlib.backends import BackendFilter, backend_registry
from matplotlib.figure import Figure

from crdetect.interactive import terminal
from crdetect.interactive.keys import Key, action_of, help_lines

_WIDTH_PX, _HEIGHT_PX = 1400, 820  # largest size of a figure: it fits on the screen of a laptop
_NAP_S = 0.2  # time between two looks for an interrupt, seconds: toolkits do not notice them
_IN_THE_WINDOW = ("pan", "zoom", "save", "help")  # actions that the window does by itself


def why_not() -> str | None:
    """Reason why no window can be shown; None if one can be shown.

    The backend of matplotlib is the one that the user chose, or the first that works here.
    """
    backend = mpl.get_backend().lower()
    try:
        plt.switch_backend(backend)
    except ImportError as error:
        return f"there is no window ({' '.join(str(error).split())})"
    if backend in map(str.lower, backend_registry.list_builtin(BackendFilter.INTERACTIVE)):
        return None
    return f"there is no display (matplotlib's backend is {backend})"


class Window:
    """Window that shows a figure and waits for a person.

    Each window has its own keys; those of matplotlib do not work in it. The callbacks of the
    toolkit only put events in a queue, since toolkits swallow errors in callbacks; `wait` returns
    the events one by one.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        The figure.
    title : str
        Title of the window.
    keys : tuple of Key
        Keys that work in the window.
    """

    def __init__(self, figure: Figure, title: str, keys: tuple[Key, ...]):
        width, height = figure.get_size_inches()
        dpi = min(_WIDTH_PX / width, _HEIGHT_PX / height)
        figure.set_dpi(dpi)
        figure._original_dpi = dpi  # noqa: SLF001 (matplotlib multiplies it on dense screens)
        self.figure = plt.figure(num=title, FigureClass=lambda **_: figure)
        self.keys = keys
        self._waiting: deque[Event] = deque()
        self._dragging = self._gone = False
        manager = self.canvas.manager
        for own in ("key_press_handler_id", "button_press_handler_id"):
            if getattr(manager, own, None) is not None:
                self.canvas.mpl_disconnect(getattr(manager, own))
        self.toolbar = manager.toolbar or NavigationToolbar2(self.canvas)
        for name in (
            "key_press_event",
            "button_press_event",
            "motion_notify_event",
            "button_release_event",
            "close_event",
        ):
            self.canvas.mpl_connect(name, self._note)

    @property
    def canvas(self):
        """The canvas of the figure."""
        return self.figure.canvas

    def _note(self, event: Event) -> None:
        self._gone |= event.name == "close_event"
        if event.name == "motion_notify_event":
            if not self._dragging:
                return
            if self._waiting and self._waiting[-1].name == event.name:
                self._waiting.pop()  # only the latest place of the mouse counts
        elif event.name.startswith("button"):
            self._dragging = event.name == "button_press_event"
        self._waiting.append(event)
        self.canvas.stop_event_loop()

    def show(self, zoom: Callable[[], object] = lambda: None) -> None:
        """Show the window, with all changes of the figure drawn.

        Parameters
        ----------
        zoom : callable
            Sets other limits of axes than the figure has now; `home` goes back to those.
        """
        if self._gone:
            return
        self.toolbar.update()
        self.toolbar.push_current()
        zoom()
        self.toolbar.push_current()
        self.canvas.draw()
        self.canvas.manager.show()

    def settle(self) -> None:
        """Keep the layout of the figure from now on: a new one takes longer than the drawing."""
        self.figure.set_layout_engine("none")

    def forget(self) -> None:
        """Drop the events that arrived while a question on the terminal was open."""
        if not self._gone:
            self.canvas.flush_events()
            self._waiting.clear()

    def wait(self) -> tuple[str, Event]:
        """Wait for a person; return the action of a key, or ``mouse``, and the event."""
        while True:
            with _signals_kept() as signals:
                while not self._waiting and not signals:
                    self.canvas.start_event_loop(_NAP_S)
                    self.canvas.flush_events()  # handles all events that have arrived
            if signals:
                raise KeyboardInterrupt
            event = self._waiting.popleft()
            if isinstance(event, CloseEvent):
                return self._closed(), event
            if isinstance(event, MouseEvent):
                if not self.toolbar.mode:  # otherwise the toolbar uses the mouse to pan or zoom
                    return "mouse", event
            elif isinstance(event, KeyEvent):
                action = action_of(self.keys, event.key)
                if action in _IN_THE_WINDOW:
                    self._do(action)
                elif action is not None:
                    return action, event

    def _do(self, action: str) -> None:
        if action == "help":
            terminal.say(f"{self.canvas.manager.get_window_title()}:", *help_lines(self.keys))
        else:
            {"pan": self.toolbar.pan, "zoom": self.toolbar.zoom, "save": self.toolbar.save_figure}[
                action
            ]()

    def home(self) -> None:
        """Go back to the limits of the whole figure."""
        self.toolbar.home()

    def _closed(self) -> str:
        answer = terminal.ask_choice(
            "the window was closed: continue (c) or stop, nothing written (x)?", ("c", "x"), "c"
        )
        return {"c": "continue", "x": "stop"}[answer]


@contextmanager
def _signals_kept() -> Iterator[list[int]]:
    """Keep signals to interrupt in a list: raised inside a toolkit, they would be swallowed."""
    kept: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield kept
        return
    before = {
        number: signal.signal(number, lambda number, _: kept.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield kept
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def open_window(figure: Figure, title: str, keys: tuple[Key, ...]) -> Iterator[Window]:
    """Open a window for as long as the context lasts."""
    window = Window(figure, title, keys)
    terminal.say(f"window '{title}': press ? in it to see its keys here")
    try:
        window.show()
        yield window
    finally:
        plt.close(figure)


def is_click(event: Event, button: MouseButton) -> bool:
    """Whether an event is the press of a given mouse button inside axes."""
    return (
        event.name == "button_press_event" and event.button == button and event.inaxes is not None
    )
