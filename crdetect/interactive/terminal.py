"""Questions to a person on the terminal, asked again until the answer is valid."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml

from crdetect.errors import Stopped
from crdetect.mm.parameters import MM
from crdetect.schema.block import is_none
from crdetect.schema.words import Described, describe_block, fault_of, validate_block, yaml_value

_KNOWN: dict[str, Described] = {item.name: item for item in describe_block(MM)}
_POINTS = "mm_fixed_points_in_boundary"

SPLINE = ("mm_knots_splfit", "mm_niter_boundary_extension", "mm_weight_boundary_extension")
"""Parameters that act only if the boundary is a spline."""

_POINTS_HELP = (
    "  a X Y [WEIGHT]    add a point",
    "  e N X Y [WEIGHT]  edit point N",
    "  d N               delete point N",
    "  clear             delete all points",
    "  Enter             done",
)


def is_here() -> bool:
    """Whether the program has a terminal, to ask and to answer."""
    return all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stdout))


def say(*lines: str) -> None:
    """Print lines on the terminal at once."""
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()


def ask(question: str, default: str = "") -> str:
    """Ask a question; return the answer, or the default for an empty one.

    Raises
    ------
    Stopped
        If the terminal is closed.
    """
    try:
        answer = input(f"{question} [{default}]: " if default else f"{question}: ").strip()
    except EOFError as error:
        raise Stopped("the terminal gives no answers any more") from error
    return answer or default


def ask_choice(question: str, choices: Sequence[str], default: str) -> str:
    """Ask a question until the answer is one of the choices."""
    while (answer := ask(f"{question} ({', '.join(choices)})", default)) not in choices:
        say(f"  must be one of {', '.join(choices)}, not {answer}")
    return answer


# ---------------------------------------------------------------------------------------------
# Parameters


def ask_boundary(mm: MM) -> MM:
    """Ask for the parameters of the boundary; the present values are the defaults."""
    return _ask_until_valid(mm, _ask_boundary)


def ask_simulation(mm: MM) -> MM:
    """Ask for the parameters of the diagram of clean pixels; present values are the defaults."""
    return _ask_until_valid(mm, _ask_simulation)


def _ask_until_valid(mm: MM, ask_values: Any) -> MM:
    """Ask for a group of parameters, again if they contradict each other."""
    values = mm.model_dump(mode="json")
    while True:
        ask_values(values)
        valid, faults = validate_block(MM, values)
        if valid is not None:
            return valid
        say(*(f"  {fault}" for fault in faults))


def _ask_boundary(values: dict[str, Any]) -> None:
    for name in ("mm_hist2d_min_neighbors", "mm_boundary_fit"):
        values[name] = ask_parameter(name, values)
    if values["mm_boundary_fit"] == "spline":
        for name in SPLINE:
            values[name] = ask_parameter(name, values)
    values[_POINTS] = ask_points(values[_POINTS] or [])


def _ask_simulation(values: dict[str, Any]) -> None:
    values["mm_photon_distribution"] = ask_parameter("mm_photon_distribution", values)
    if values["mm_photon_distribution"] == "nbinom":
        values["mm_nbinom_shape"] = ask_parameter("mm_nbinom_shape", values)
    values["mm_ydiag_max"] = ask_parameter("mm_ydiag_max", values)
    values["mm_nsimulations"] = ask_parameter("mm_nsimulations", values)
    if values["mm_simulation"] == "montecarlo":
        values["mm_seed"] = ask_parameter("mm_seed", values)


def ask_parameter(name: str, values: Mapping[str, Any]) -> Any:
    """Ask for one parameter until the schema accepts its value."""
    known = _KNOWN[name]
    unit = f", {known.unit}" if known.unit else ""
    while True:
        text = ask(f"{name} ({known.description}{unit})", yaml_value(values[name]))
        value = _value_of(text)
        fault = fault_of(MM, name, value)
        if fault is None:
            return value
        say(f"  {fault}")


def _value_of(text: str) -> Any:
    """Read a value as in a params file; text that is not YAML is left for the schema to refuse."""
    if is_none(text):
        return None
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def ask_points(points: Iterable[Sequence[float]]) -> list[list[float]] | None:
    """Let a person edit the fixed points; return None if no point is left."""
    rows = [list(point) for point in points]
    say("fixed points (x and y in ADU; a weight if it differs from the default):", *_POINTS_HELP)
    while True:
        say(*(f"  {number}: {yaml_value(row)}" for number, row in enumerate(rows, start=1)))
        words = ask(f"fixed points: {len(rows)}; a, e, d, clear, or Enter when done").split()
        if not words:
            return rows or None
        edited = _edited(rows, words)
        fault = edited if isinstance(edited, str) else fault_of(MM, _POINTS, edited or None)
        if fault is None:
            rows = edited
        else:
            say(f"  {fault}")


def _edited(rows: list[list[float]], words: list[str]) -> list[list[float]] | str:
    """Return the points after a command, or a message that says why it is not valid."""
    command, *arguments = words
    numbers = [_value_of(argument) for argument in arguments]
    if command == "clear" and not numbers:
        return []
    if command == "a" and numbers:
        return [*rows, numbers]
    if command in ("d", "e") and numbers:
        index, *point = numbers
        if not (type(index) is int and 1 <= index <= len(rows)):
            return f"there is no point {arguments[0]}; accepted: 1 to {len(rows)}"
        if command == "e":
            return [*rows[: index - 1], point, *rows[index:]]
        if not point:
            return [*rows[: index - 1], *rows[index:]]
    return f"'{' '.join(words)}' is not understood; accepted:\n" + "\n".join(_POINTS_HELP)
