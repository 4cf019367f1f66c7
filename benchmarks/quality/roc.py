"""Receiver-operating curves: what is found against what is false, as a threshold changes.

    python -m benchmarks.quality.roc --curve "pycosmic pc_sigma_det=3|5|8" roc.png

Each curve is a method with one parameter that takes several values; results of earlier runs
(--with) are points. Shares of missed hits are drawn on a logarithmic scale: the best is lower left.
See benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import yaml
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.console import Console

from benchmarks.quality.intervals import interval
from benchmarks.quality.methods import Ours
from benchmarks.quality.metrics import Score, total
from benchmarks.quality.report import TARGETS, set_table
from benchmarks.quality.results import Results, evaluate, read, write
from benchmarks.quality.sets import DATA, FIELDS, Library

PANELS = {
    ("false_px", "double"): ("false MEDIANCR px per Mpx", "double hits missed"),
    ("false_crmask", "single"): ("false CRMASK px per Mpx and exposure", "single hits missed"),
}
_LOWEST = {"false_px": 0.5, "false_crmask": 0.5, "double": 1e-3, "single": 1e-4}
"""Of false pixels per Mpx and of the share that is missed; what is below is drawn there."""
console = Console(highlight=False, markup=False, width=220)


@dataclass(frozen=True)
class Curve:
    """A method with a parameter that takes several values.

    Attributes
    ----------
    crmethod : str
        Its crmethod.
    chosen : dict
        Other parameters.
    parameter : str
        Name of the parameter.
    values : list
        Its values.
    """

    crmethod: str
    chosen: dict[str, Any]
    parameter: str
    values: list[Any]

    @classmethod
    def of(cls, text: str) -> Curve:
        """Read ``crmethod other=value parameter=value|value``."""
        crmethod, *words = text.split()
        settings = dict(word.split("=", 1) for word in words if "=" in word)
        several = [name for name, value in settings.items() if "|" in value]
        if len(several) != 1 or len(settings) != len(words):
            raise argparse.ArgumentTypeError(
                f"must be 'crmethod parameter=v1|v2', with one such parameter, not {text!r}"
            )
        values = [yaml.safe_load(value) for value in settings.pop(several[0]).split("|")]
        chosen = {name: yaml.safe_load(value) for name, value in settings.items()}
        return cls(crmethod, chosen, several[0], values)

    @property
    def label(self) -> str:
        """Name of the curve in the legend."""
        fixed = "".join(f" {name}={value}" for name, value in self.chosen.items())
        return f"{self.crmethod}{fixed}, {self.parameter} {self.values[0]}…{self.values[-1]}"


def measure(curve: Curve, library: Library, names: Iterable[str], seeds: range) -> list[Results]:
    """Judge each point of a curve."""
    points = []
    with console.status("") as status:
        for value in curve.values:
            method = Ours(curve.crmethod, {**curve.chosen, curve.parameter: value})
            label = f"{curve.crmethod} {curve.parameter}={value}"
            points.append(evaluate(label, method, library, names, seeds, status.update))
    return points


def draw(
    curves: dict[str, list[Results]], points: Sequence[Results], names: Sequence[str]
) -> Figure:
    """Draw curves and points: a column for each field, a row for each kind of mask.

    Parameters
    ----------
    curves : dict of list of Results
        By label, points in order.
    points : sequence of Results
        Methods with one set of parameters.
    names : sequence of str
        Fields.
    """
    size = (4.2 * len(names) + 0.6, 4 * len(PANELS) + 0.8)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(len(PANELS), len(names), squeeze=False)
    for row, measures in zip(axes, PANELS, strict=True):
        for axis, name in zip(row, names, strict=True):
            _draw_panel(axis, curves, points, name, measures)
            _mark_target(axis, name, measures)
            axis.set_title(name)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3)
    return figure


def _draw_panel(
    axis: Axes,
    curves: dict[str, list[Results]],
    points: Sequence[Results],
    name: str,
    measures: tuple[str, str],
) -> None:
    colours = mpl.colormaps["tab10"].colors
    for colour, (label, results) in zip(colours, curves.items(), strict=False):
        _draw_points(axis, results, name, measures, label=label, color=colour, marker="o", ms=4)
    styles = [(colour, marker) for marker in "sDv" for colour in ("black", "0.5")]
    for (colour, marker), result in zip(styles, points, strict=False):
        style = {"color": colour, "marker": marker, "ms": 7, "ls": "none"}
        _draw_points(axis, [result], name, measures, label=result.label, **style)
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlim(left=_LOWEST[measures[0]] / 1.4)
    axis.set_ylim(bottom=_LOWEST[measures[1]] / 1.4)
    axis.set_xlabel(PANELS[measures][0])
    axis.set_ylabel(PANELS[measures][1])
    axis.grid(alpha=0.3)


def _draw_points(
    axis: Axes, results: Sequence[Results], name: str, measures: tuple[str, str], **style: Any
) -> None:
    """Draw results with the intervals of both measures."""
    scores = [result.of(name) for result in results if result.of(name)]
    if not scores:
        axis.plot([], [], **style)
        return
    centres, bars = [], []
    for measured in measures:
        drawn = [_drawn(several, measured) for several in scores]
        values = [value for value, _, _ in drawn]
        below = [value - low for value, low, _ in drawn]
        above = [high - value for value, _, high in drawn]
        centres.append(values)
        bars.append([below, above])
    axis.errorbar(*centres, xerr=bars[0], yerr=bars[1], lw=1, elinewidth=0.6, **style)


def _drawn(scores: Sequence[Score], measured: str) -> tuple[float, float, float]:
    """Value and limits of a measure, or of what is missed, not below the lowest drawn."""
    numbers = [total(scores).measures()[measured], *interval(scores, measured)]
    if not measured.startswith("false"):
        numbers = [1 - number for number in numbers]
        numbers[1:] = reversed(numbers[1:])
    value, low, high = (max(number, _LOWEST[measured]) for number in numbers)
    return value, min(low, value), max(high, value)


def _mark_target(axis: Axes, name: str, measures: tuple[str, str]) -> None:
    limits = {target.measure: target.limit for target in TARGETS if target.set == name}
    if all(measured in limits for measured in measures):
        at = [limits[measures[0]], 1 - limits[measures[1]]]
        axis.plot(*at, marker="*", ms=14, color="gold", mec="black", ls="none", label="target")


def read_options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.quality.roc", description=__doc__.splitlines()[0]
    )
    add = parser.add_argument
    add("figure", type=Path, help="PNG to write; results go beside it, as JSON")
    add("--curve", action="append", required=True, type=Curve.of, metavar="'M PARAMETER=V|V'")
    add("--with", dest="others", nargs="+", type=Path, default=[], metavar="JSON", help="points")
    add("--fields", nargs="+", default=["equivalent", "mild", "strong"], choices=FIELDS)
    add("--seeds", type=int, default=10, metavar="K", help="simulated fields of each kind")
    add("--data", type=Path, default=DATA, metavar="DIR", help="cosmic rays")
    return parser.parse_args(arguments)


def main() -> int:
    """Measure, print and draw."""
    options = read_options()
    library, seeds = Library.at(options.data), range(1, options.seeds + 1)
    curves = {
        curve.label: measure(curve, library, options.fields, seeds) for curve in options.curve
    }
    measured = [result for results in curves.values() for result in results]
    for result in measured:
        console.print(set_table(result))
    write(options.figure.with_suffix(".json"), measured)
    earlier = [result for path in options.others for result in read(path)]
    draw(curves, earlier, options.fields).savefig(options.figure, dpi=110)
    return 0


if __name__ == "__main__":
    sys.exit(main())
