"""Tables of results: each set with all its measures, and the targets of issue 7."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import NamedTuple

from rich.table import Table

from benchmarks.quality.intervals import interval
from benchmarks.quality.metrics import total
from benchmarks.quality.results import Results

COLUMNS = {
    "double": "double found",
    "false_px": "false px /Mpx",
    "false_features": "false features",
    "single": "single found",
    "false_crmask": "false CRMASK px /Mpx/exp",
    "bias_e": "bias e",
    "rms_ratio": "rms/ideal",
}
_DECIMALS = {"double": 4, "single": 4, "false_features": 0, "bias_e": 2, "rms_ratio": 3}


class Target(NamedTuple):
    """A figure to be reached.

    Attributes
    ----------
    set, measure : str
        Names of the set and of the measure.
    limit : float
        The figure.
    better : callable
        ``operator.ge`` or ``operator.le``.
    """

    set: str
    measure: str
    limit: float
    better: Callable[[float, float], bool]


_AT_LEAST, _AT_MOST = operator.ge, operator.le
TARGETS = (
    Target("equivalent", "double", 0.995, _AT_LEAST),
    Target("equivalent", "false_px", 2, _AT_MOST),
    Target("equivalent", "single", 0.998, _AT_LEAST),
    Target("equivalent", "false_crmask", 50, _AT_MOST),
    Target("equivalent", "bias_e", 0.1, _AT_MOST),
    Target("equivalent", "rms_ratio", 1.02, _AT_MOST),
    Target("kast_blue_3x1200", "false_features", 1, _AT_MOST),
    Target("isis_red_3x100", "false_features", 3, _AT_MOST),
    Target("isis_red_injected", "double", 0.995, _AT_LEAST),
    Target("isis_red_injected", "false_features", 2, _AT_MOST),
    Target("mild", "double", 0.985, _AT_LEAST),
    Target("mild", "false_px", 3, _AT_MOST),
    Target("strong", "double", 0.95, _AT_LEAST),
    Target("strong", "false_px", 20, _AT_MOST),
)
"""Issue 7's, but for time, which `benchmarks/run.py` measures; a bias is judged by its size."""


def set_table(results: Results) -> Table:
    """Make the table of one method: a row for each set."""
    table = Table(title=results.label, title_justify="left")
    table.add_column("set")
    table.add_column("seeds", justify="right")
    for heading in COLUMNS.values():
        table.add_column(heading, justify="right")
    for name in results.scores:
        scores = results.of(name)
        if not scores:
            table.add_row(name, "–", f"failed: {results.failed[name]}")
            continue
        cells = [cell(results, name, measure) for measure in COLUMNS]
        table.add_row(name, str(len(scores)), *cells)
    return table


def target_table(many: Sequence[Results]) -> Table:
    """Make the table of the targets: a column for each method."""
    table = Table(title="Targets of issue 7", title_justify="left")
    table.add_column("set")
    table.add_column("measure")
    table.add_column("target", justify="right")
    for results in many:
        table.add_column(results.label, justify="right")
    names = {name for results in many for name in results.scores}
    for target in TARGETS:
        if target.set not in names:
            continue
        sign = "≥" if target.better is _AT_LEAST else "≤"
        cells = [f"{cell(r, target.set, target.measure)} {verdict(r, target)}" for r in many]
        measure = COLUMNS[target.measure]
        table.add_row(target.set, measure, f"{sign} {target.limit:g}", *cells)
    return table


def cell(results: Results, name: str, measure: str) -> str:
    """Write a measure with its interval."""
    scores = results.of(name)
    if not scores:
        return "–"
    value = total(scores).measures()[measure]
    if math.isnan(value):
        return "–"
    low, high = interval(scores, measure)
    decimals = _DECIMALS.get(measure, 1)
    text = f"{value:.{decimals}f}"
    return text if math.isnan(low) else f"{text} [{low:.{decimals}f}, {high:.{decimals}f}]"


def verdict(results: Results, target: Target) -> str:
    """Tell if a target is reached: ✓, ✗, or ~ where it is missed within the interval."""
    scores = results.of(target.set)
    value = total(scores).measures()[target.measure] if scores else math.nan
    if math.isnan(value):
        return ""
    if target.better(abs(value), target.limit):
        return "✓"
    within = any(
        target.better(abs(limit), target.limit) for limit in interval(scores, target.measure)
    )
    return "~" if within else "✗"
