"""Window of the Median-Minimum diagram, in which a person refines the boundary."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backend_bases import MouseButton, MouseEvent
from matplotlib.lines import Line2D

from crdetect.equality import by_value
from crdetect.errors import InputError, Stopped
from crdetect.interactive import terminal
from crdetect.interactive.keys import HISTOGRAM, hint
from crdetect.interactive.window import Window, is_click, open_window
from crdetect.mm.diagram import Limits
from crdetect.mm.method import MedianMinimum
from crdetect.mm.parameters import MM
from crdetect.parameters import Parameters
from crdetect.pipeline import Prepared
from crdetect.plots.histogram2d import FIXED, KNOTS, draw_histogram2d
from crdetect.plots.plane import FINAL_LINE, sample
from crdetect.plots.style import new_figure
from crdetect.schema.words import validate_block

_TITLE = "Median-Minimum diagram"
_SIZE_IN = 15.0, 7.8  # size of the figure, inches
_NEAR_PX = 10.0  # largest distance between a click and the fixed point that it takes, screen pixels
# Fixed points are rounded to at most this fraction of the width or height of the diagram, so that
# the parameters that a person gets have few digits.
_ROUNDED_TO = 1 / 1000
_HINTS = "fit", "rerun", "continue", "stop", "help"

FixedPoints = tuple[tuple[float, ...], ...]


@by_value
@dataclass(frozen=True)
class Refinement:
    """State of the refinement: the edited parameters, and the diagram made with them.

    Attributes
    ----------
    prepared : Prepared
        The exposures before they are compared.
    parameters : Parameters
        The edited parameters.
    diagram : MedianMinimum
        The diagram and the boundary that they give.
    candidates : pair of arrays
        Places in the diagram, ADU, of the pixels of median2d that meet all conditions but that of
        the boundary.
    is_new : bool
        Whether the diagram was made with these parameters, and not only fitted again.
    """

    prepared: Prepared
    parameters: Parameters
    diagram: MedianMinimum
    candidates: tuple[np.ndarray, np.ndarray]
    is_new: bool = True

    @classmethod
    def start(
        cls, prepared: Prepared, parameters: Parameters, diagram: MedianMinimum
    ) -> Refinement:
        """Start from a diagram that was made with these parameters."""
        statistics = prepared.observation.statistics
        where = diagram.criterion.candidates(statistics.median2d, statistics)
        x = statistics.min2d[where]
        return cls(prepared, parameters, diagram, (x, statistics.median2d[where] - x))

    @property
    def mm(self) -> MM:
        """The parameters of the diagram."""
        return self.parameters.mm

    @property
    def fixed(self) -> FixedPoints:
        """The fixed points."""
        return self.mm.mm_fixed_points_in_boundary or ()

    def remade(self, mm: MM) -> Refinement:
        """Make the diagram anew."""
        parameters = self.parameters.model_copy(update={"mm": mm})
        return replace(
            self, parameters=parameters, diagram=self.prepared.compare(parameters), is_new=True
        )

    def refitted(self, mm: MM) -> Refinement:
        """Fit the boundary again; make the diagram anew if it is too low for the fixed points."""
        if not self.diagram.clean.limits.hold(mm.mm_fixed_points_in_boundary or ()):
            terminal.say("the diagram is made anew: it is too low for a fixed point")
            return self.remade(mm)
        parameters = self.parameters.model_copy(update={"mm": mm})
        return replace(self, parameters=parameters, diagram=self.diagram.refitted(mm), is_new=False)

    def with_fixed(self, points: FixedPoints) -> Refinement:
        """Fit the boundary again with other fixed points.

        Raises
        ------
        InputError
            If the schema does not accept them, or there is no boundary through them.
        """
        values = self.mm.model_dump() | {"mm_fixed_points_in_boundary": points or None}
        mm, faults = validate_block(MM, values)
        if mm is None:
            raise InputError("; ".join(faults))
        return self.refitted(mm)

    def repeatable(self) -> Parameters:
        """Make parameters that give this diagram and boundary in a run without a person.

        The bins depend on the height of the diagram, and the height depends on the fixed points
        that it was made with. If fixed points were edited later, the height is set explicitly.
        """
        if self.is_new:
            return self.parameters
        height = {"mm_ydiag_max": self.diagram.clean.limits.ymax}
        return self.parameters.model_copy(update={"mm": self.mm.model_copy(update=height)})

    def flagged(self) -> int:
        """Count the pixels of median2d above the boundary, before any dilation."""
        x, y = self.candidates
        return int(np.count_nonzero(y > self.diagram.criterion.boundary(x)))


def refine(state: Refinement) -> Refinement:
    """Let a person refine the boundary; return the state in which it was accepted.

    Raises
    ------
    Stopped
        If the person stops the run.
    """
    figure = new_figure(*_SIZE_IN)
    with open_window(figure, _TITLE, HISTOGRAM) as window:
        editor = _Editor(window, state)
        while (action := editor.act()) != "continue":
            if action == "stop":
                raise Stopped
        return editor.state


@dataclass(frozen=True)
class _Shown:
    """Panel on the screen, and the limits of the diagram that it shows."""

    panel: Axes
    limits: Limits


class _Editor:
    """The window, and the state of the refinement that it shows."""

    def __init__(self, window: Window, state: Refinement):
        self.window = window
        self.state = state
        self._taken: int | None = None  # index of the fixed point that the mouse moves
        self._background = None
        self._shown: _Shown | None = None
        self._redraw()

    def act(self) -> str:
        """Wait for an action of the person, do it, and return its name."""
        action, event = self.window.wait()
        if action == "mouse":
            self._mouse(event)
        elif action == "home":
            self.window.home()
        elif action == "fit":
            self._ask(lambda: self.state.refitted(terminal.ask_boundary(self.state.mm)))
        elif action == "rerun":
            self._ask(lambda: self.state.remade(terminal.ask_simulation(self.state.mm)))
        return action

    def _ask(self, change: Callable[[], Refinement]) -> None:
        """Change the state by the answers of a person."""
        self._try(change)
        self._redraw()
        self.window.forget()
        terminal.say(self._count_text())

    def _try(self, change: Callable[[], Refinement]) -> None:
        """Change the state, or say why that is not possible."""
        try:
            self.state = change()
        except InputError as error:
            terminal.say(f"  {error}", "  nothing is changed")

    # -- the mouse

    def _mouse(self, event: MouseEvent) -> None:
        if is_click(event, MouseButton.LEFT):
            self._take(event)
        elif is_click(event, MouseButton.RIGHT):
            self._remove(event)
        elif self._taken is not None and event.name == "motion_notify_event":
            self._move(event)
        elif self._taken is not None and event.name == "button_release_event":
            self._taken = None
            self._redraw()

    def _take(self, event: MouseEvent) -> None:
        """Take the fixed point under the mouse; add one if there is none."""
        near = self._near(event)
        if near is None:
            points = (*self.state.fixed, self._place(event))
            self._try(lambda: self.state.with_fixed(points))
            if self.state.fixed != points:
                return
            near = len(points) - 1
        self._taken = near
        self._lift()

    def _remove(self, event: MouseEvent) -> None:
        near = self._near(event)
        if near is not None:
            points = self.state.fixed
            self._try(lambda: self.state.with_fixed(points[:near] + points[near + 1 :]))
            self._redraw()

    def _move(self, event: MouseEvent) -> None:
        if event.inaxes is None:
            return
        points = list(self.state.fixed)
        points[self._taken] = self._place(event) + points[self._taken][2:]
        if len({point[0] for point in points}) == len(points):  # two points cannot have the same x
            self._try(lambda: self.state.with_fixed(tuple(points)))
            self._follow()

    def _near(self, event: MouseEvent) -> int | None:
        """Index of the fixed point under the mouse; None if there is none."""
        if not self.state.fixed:
            return None
        places = np.array([point[:2] for point in self.state.fixed])
        distance = np.hypot(*(event.inaxes.transData.transform(places) - (event.x, event.y)).T)
        return int(distance.argmin()) if distance.min() < _NEAR_PX else None

    def _place(self, event: MouseEvent) -> tuple[float, float]:
        """Make a fixed point at the place of the mouse, rounded, within the diagram."""
        limits = self.state.diagram.clean.limits
        x = _rounded(np.clip(event.xdata, limits.xmin, limits.xmax), limits.xmax - limits.xmin)
        y = _rounded(np.clip(event.ydata, 0, limits.ymax), limits.ymax)
        while not limits.hold([(x, y)]):
            y = _rounded(0.999 * y, limits.ymax)
        return x, y

    # -- drawing

    def _redraw(self) -> None:
        """Draw the whole figure anew."""
        figure, state = self.window.figure, self.state
        view = self._view()
        figure.clear()
        draw_histogram2d(figure, state.diagram, state.parameters)
        left, right = _panels(figure.axes)
        draw_fixed(right, state.fixed)
        self._title = right.get_title()
        self._live = [*_lines(left, "boundary"), *_lines(right, "boundary")]
        self._knots = _lines(left, KNOTS)
        self._points = [*_lines(left, FIXED), *_lines(right, FIXED)]
        self._count = right.title
        self._tell_count()
        figure.supxlabel(
            f"{hint(HISTOGRAM, _HINTS)}   mouse: left click adds a fixed point, drag moves it, "
            "right click removes it",
            fontsize="small",
        )
        self._shown = _Shown(left, state.diagram.clean.limits)
        self.window.show(lambda: left.set(**view) if view else None)

    def _view(self) -> dict[str, tuple[float, float]] | None:
        """Limits of axes that the person chose; None if the diagram has other limits now."""
        limits = self.state.diagram.clean.limits
        if self._shown is None or self._shown.limits != limits:
            return None
        return {"xlim": self._shown.panel.get_xlim(), "ylim": self._shown.panel.get_ylim()}

    def _lift(self) -> None:
        """Draw the parts that do not follow the mouse, and keep them as a background."""
        for artist in self._moving:
            artist.set_animated(True)
        self.window.canvas.draw()
        self._background = self.window.canvas.copy_from_bbox(self.window.figure.bbox)
        self._follow()

    def _follow(self) -> None:
        """Draw boundary, knots, fixed points and count over the background."""
        criterion, limits = self.state.diagram.criterion, self.state.diagram.clean.limits
        for line in self._live:
            line.set_data(*sample(criterion.boundary.curve, limits))
        for line in self._knots:
            knots = criterion.boundary.curve.knots
            line.set_data(knots, criterion.boundary(knots))
        for line in self._points:
            line.set_data(*np.array([point[:2] for point in self.state.fixed]).reshape(-1, 2).T)
        self._tell_count()
        canvas = self.window.canvas
        canvas.restore_region(self._background)
        for artist in self._moving:
            artist.axes.draw_artist(artist)
        canvas.blit(self.window.figure.bbox)

    @property
    def _moving(self) -> Sequence:
        return [*self._live, *self._knots, *self._points, self._count]

    def _count_text(self) -> str:
        return f"flagged in median2d, before dilation: {self.state.flagged()} pixels"

    def _tell_count(self) -> None:
        self._count.set_text(f"{self._title}\n{self._count_text()}")


def draw_fixed(ax: Axes, points: FixedPoints) -> None:
    """Draw the fixed points in a panel; in that of the clean pixels they are drawn already."""
    x, y = np.array([point[:2] for point in points]).reshape(-1, 2).T
    style = {"marker": "D", "markersize": 7, "markerfacecolor": "w", "markeredgecolor": "k"}
    ax.plot(x, y, linestyle="none", gid=FIXED, zorder=FINAL_LINE["zorder"] + 1, **style)


def _panels(axes: Sequence[Axes]) -> tuple[Axes, Axes]:
    """Find the two panels of the diagram among the axes of the figure."""
    left, right = (ax for ax in axes if _lines(ax, "boundary"))
    return left, right


def _lines(ax: Axes, name: str) -> list[Line2D]:
    return [line for line in ax.lines if line.get_gid() == name]


def _rounded(value: float, span: float) -> float:
    """Round a coordinate, given the width or height of the diagram."""
    return round(float(value), max(0, int(np.ceil(-np.log10(_ROUNDED_TO * span)))))
