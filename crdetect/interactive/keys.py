"""Keys and mouse gestures of each window; windows, help and documentation take them from here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

ANY_DIGIT = tuple("0123456789")


@dataclass(frozen=True)
class Key:
    """An action of a window, and the keys or the mouse gesture that start it.

    Attributes
    ----------
    action : str
        Name of the action in the code.
    text : str
        Description of the action for people.
    names : tuple of str
        Keys, as matplotlib calls them.
    gesture : str
        Gesture with the mouse, for an action without keys.
    shown : str
        Text for the keys, where they are not listed one by one.
    """

    action: str
    text: str
    names: tuple[str, ...] = ()
    gesture: str = ""
    shown: str = ""

    @property
    def label(self) -> str:
        """Keys or gesture, as people read them."""
        return self.gesture or self.shown or ", ".join(self.names)


_HELP = Key("help", "show these keys", ("?",))
_STOP = Key("stop", "stop: nothing is written, exit code 3", ("x",))
_PAN = Key("pan", "move and stretch with the mouse, until pressed again", ("p",))
_ZOOM = Key("zoom", "zoom into a rectangle, until pressed again", ("o",))
_SAVE = Key("save", "save the figure in a file", ("s",))

HISTOGRAM = (
    Key("fit", "change the boundary's parameters and fixed points, and repeat the fit", ("f",)),
    Key("rerun", "change the photons' and the diagram's parameters, and rerun simulations", ("r",)),
    Key("continue", "continue with this boundary", ("c", "enter")),
    _STOP,
    Key("home", "see the whole diagram again", ("h",)),
    _PAN,
    _ZOOM,
    _SAVE,
    _HELP,
    Key("add", "add a fixed point, and move it", gesture="click (left), drag"),
    Key("move", "move a fixed point", gesture="drag a point (left)"),
    Key("remove", "remove a fixed point", gesture="click on a point (right)"),
)
"""Actions in the window of the Median-Minimum diagram."""

DIAGNOSTIC = (
    Key(
        "info",
        "describe the pixel under the mouse; in a diagram, the nearest flagged pixel",
        ("i",),
    ),
    Key("list", "list the flagged pixels in the zoom", ("&",)),
    Key("numbers", "show or hide the numbers of the features in the zoom on the images", ("n",)),
    Key("aspect", "pixels square, or filling the panel", ("a",)),
    Key("next", "next image in the panel under the mouse, else in (d)", ("t",)),
    Key(
        "image",
        "mean2d (0) or an exposure (1 to 9) in the panel under the mouse, else in (d)",
        ANY_DIGIT,
        shown="0 … 9",
    ),
    Key("minmax", "grey levels from the least to the largest value in the zoom", (",",)),
    Key("zscale", "grey levels by zscale of the zoom", ("/",)),
    Key("home", "see everything again", ("h", "r")),
    _PAN,
    _ZOOM,
    _SAVE,
    Key("back", "go back to the Median-Minimum diagram", ("b",)),
    Key("continue", "continue", ("c", "enter")),
    _STOP,
    _HELP,
)
"""Actions in the window of MEDIANCR."""

VERIFY = (
    Key("keep", "keep the feature", ("k", "y", "enter")),
    Key("reject", "reject it: no cosmic ray, its pixels are flagged nowhere", ("r", "n")),
    Key("single", "reject it in MEDIANCR only: hit once, exposures stay masked", ("m",)),
    Key("undo", "undo the last decision", ("u", "backspace")),
    Key("quit", "quit, and keep the rest", ("q", "c")),
    Key("minmax", "grey levels from the least to the largest value", (",",)),
    Key("zscale", "grey levels by zscale", ("/",)),
    _STOP,
    _HELP,
)
"""Actions in the window where features are verified."""

WINDOWS = {"histogram": HISTOGRAM, "diagnostic": DIAGNOSTIC, "verify": VERIFY}
"""The windows by their names in the documentation."""


def action_of(keys: Sequence[Key], name: str | None) -> str | None:
    """Find the action of a key; None for a key that does nothing."""
    return next((key.action for key in keys if name in key.names), None)


def help_lines(keys: Sequence[Key]) -> list[str]:
    """Lines of the help: a line for each action."""
    width = max(len(key.label) for key in keys)
    return [f"  {key.label:{width}}  {key.text}" for key in keys]


def hint(keys: Sequence[Key], actions: Sequence[str]) -> str:
    """Line with the keys of some actions, for the foot of a figure."""
    chosen = [key for action in actions for key in keys if key.action == action]
    return "   ".join(f"[{key.names[0]}] {key.action}" for key in chosen)
