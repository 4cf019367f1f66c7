"""Vary each constant that was chosen by hand, and tell what that changes.

    python -m benchmarks.sensitivity --output docs/constants

Every variation sees the same exposures. See benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.quality.fields import Case, make_case
from benchmarks.quality.methods import Ours
from benchmarks.quality.metrics import Answer, score, total
from benchmarks.quality.sets import DATA, FIELDS, TRACKS, Library
from benchmarks.sensitivity.measurements import MEASUREMENTS, rms_error
from benchmarks.sensitivity.variations import Variation, of_joint_detection, of_measurements
from crdetect.errors import InputError

HEADINGS = ("constant", "used", "tried")
OF_JOINT = (
    *HEADINGS,
    "double hits found",
    "false px /Mpx",
    "single hits found",
    "false CRMASK px /Mpx/exp",
    "CRMASK px changed, %",
)
OF_MEASUREMENTS = (*HEADINGS, "what is judged", "error as used", "error as tried")
UNCHANGED = Variation("(as they are)", "", "")
console = Console(highlight=False, markup=False)
console.width = max(console.width, 160)

Rows = Iterator[tuple[str, ...]]


def read_options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.sensitivity", description=__doc__.splitlines()[0]
    )
    add = parser.add_argument
    add("--fields", nargs="+", choices=FIELDS, default=["equivalent", "mild", "strong"])
    add("--tracks", nargs="+", choices=TRACKS, default=["lsst"], help="kinds of cosmic rays")
    add("--seeds", type=int, default=3, metavar="K", help="simulated fields of each kind")
    add("--first-seed", type=int, default=1201, metavar="S")
    add("--only", nargs="+", default=[""], metavar="TEXT", help="constants whose names hold one")
    add("--data", type=Path, default=DATA, metavar="DIR", help="where the cosmic rays are")
    add("--output", type=Path, metavar="PATH", help="write PATH_joint.csv, PATH_measurements.csv")
    options = parser.parse_args(arguments)
    if options.seeds < 1:
        parser.error("--seeds: at least 1")
    return options


def chosen(variations: Sequence[Variation], words: Sequence[str]) -> list[Variation]:
    """Return the variations of constants whose names hold one of some words."""
    return [v for v in variations if any(word in v.constant for word in words)]


def make_cases(options: argparse.Namespace, seeds: range) -> list[Case]:
    """Make the fields that every variation sees."""
    libraries = [Library.at(options.data, kind) for kind in options.tracks]
    return [
        make_case(name, FIELDS[name], library.stamps, seed)
        for library in libraries
        for name in options.fields
        for seed in seeds
    ]


def judge_joint(variations: Sequence[Variation], cases: Sequence[Case]) -> Rows:
    """Run joint detection with each variation; the first row is of the constants in use."""
    used: list[np.ndarray] = []
    for variation in (UNCHANGED, *variations):
        method = Ours("joint", variation.parameters, workers=1)
        with variation.applied():
            answers: list[Answer] = [method(case) for case in cases]
        masks = [answer.crmasks for answer in answers]
        used = used or masks
        measures = total(map(score, cases, answers)).measures()
        changed = sum(np.count_nonzero(a ^ b) for a, b in zip(masks, used, strict=True))
        flagged = sum(np.count_nonzero(mask) for mask in used)
        yield (
            variation.constant,
            variation.used,
            variation.tried,
            f"{measures['double']:.4f}",
            f"{measures['false_px']:.1f}",
            f"{measures['single']:.4f}",
            f"{measures['false_crmask']:.1f}",
            f"{100 * changed / max(flagged, 1):.2f}",
        )


def judge_measurements(variations: Sequence[Variation], seeds: range) -> Rows:
    """Measure fluxes, offsets and κ with each variation."""
    used: dict[str, float] = {}
    for variation in variations:
        module = variation.constant.split(".")[0]
        if module not in used:
            used[module] = rms_error(module, seeds)
        with variation.applied():
            tried = rms_error(module, seeds)
        what = MEASUREMENTS[module][0]
        errors = f"{used[module]:.3g}", f"{tried:.3g}"
        yield variation.constant, variation.used, variation.tried, what, *errors


def show(title: str, headings: Sequence[str], rows: Rows, path: Path | None) -> None:
    """Print a table; write it row by row, if a file is wanted."""
    table = Table(title=title, title_justify="left")
    for heading in headings:
        table.add_column(heading)
    with ExitStack() as stack:
        status = stack.enter_context(console.status(""))
        write = None
        if path:
            file = stack.enter_context(path.open("w", newline="", buffering=1))
            write = csv.writer(file, lineterminator="\n").writerow
            write(headings)
        for row in rows:
            status.update(f"{row[0]} {row[2]}")
            table.add_row(*row)
            if write:
                write(row)
    console.print(table)


def main() -> int:
    """Vary all constants, or those chosen; return 2 for wrong parameters."""
    options = read_options()
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    try:
        cases = make_cases(options, seeds)
    except InputError as error:
        console.print(str(error))
        return 2
    joint = chosen(of_joint_detection(), options.only)
    measured = chosen(of_measurements(), options.only)
    paths = [None, None]
    if options.output:
        names = (f"{options.output.name}_{kind}.csv" for kind in ("joint", "measurements"))
        paths = [options.output.with_name(name) for name in names]
    found = sum(np.count_nonzero(case.charge_e) for case in cases)
    title = f"joint detection, {len(cases)} fields, {found} pixels with charge"
    if joint:
        show(title, OF_JOINT, judge_joint(joint, cases), paths[0])
    if measured:
        show("measurements", OF_MEASUREMENTS, judge_measurements(measured, seeds), paths[1])
    return 0


if __name__ == "__main__":
    sys.exit(main())
