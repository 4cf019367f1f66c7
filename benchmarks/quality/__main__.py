"""Make the table of issue 7's targets, for methods of crdetect and of the peer.

    python -m benchmarks.quality --method mm_pycosmic --method peer:mm_lacosmic

See benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from benchmarks.quality.methods import Method, Ours, Peer
from benchmarks.quality.report import set_table, target_table
from benchmarks.quality.results import Results, evaluate, read, write
from benchmarks.quality.sets import DATA, FIELDS, PEER_INPUT, REAL, TARGETED, TRACKS, Library
from benchmarks.quality.stamps import CATALOGUE
from benchmarks.run import PEER, find_program
from crdetect.errors import InputError

PEER_PREFIX = "peer:"
KNOWN = (*FIELDS, PEER_INPUT, *REAL)
OF_ALL = "parameter of all methods"
FIELDS_HELP = f"all, or some of: {', '.join(KNOWN).replace('%', '%%')} (those with targets)"
TRACKS_HELP = (
    "cosmic rays of the simulated fields, of one kind or of several in turn: of LSST darks, of a "
    "dark of HST/STIS, as crdetect simulate draws them (lsst)"
)
EARLIER = "results of earlier runs, for the table of targets"
console = Console(highlight=False, markup=False)
console.width = max(console.width, 220)  # a table that fits when the output is a file


def setting(text: str) -> tuple[str, Any]:
    """Read key=value."""
    key, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"must be key=value, not {text}")
    return key.strip(), yaml.safe_load(value)


def read_options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.quality", description=__doc__.splitlines()[0]
    )
    add = parser.add_argument
    add("--method", action="append", default=[], metavar="M", help="crmethod, or peer:crmethod")
    add("--set", action="append", default=[], type=setting, metavar="KEY=VALUE", help=OF_ALL)
    add("--fields", nargs="+", default=list(TARGETED), metavar="NAME", help=FIELDS_HELP)
    add("--seeds", type=int, default=10, metavar="K", help="simulated fields of each kind")
    add("--first-seed", type=int, default=1, metavar="S")
    add("--data", type=Path, default=DATA, metavar="DIR", help="real exposures, cosmic rays")
    add("--tracks", nargs="+", choices=TRACKS, default=["lsst"], help=TRACKS_HELP)
    add("--with", dest="others", nargs="+", type=Path, default=[], metavar="JSON", help=EARLIER)
    add("--output", type=Path, metavar="JSON", help="write results here, set by set")
    add("--peer", type=Path, help="the peer's command (beside this Python, or on PATH)")
    add("--workers", type=int, metavar="N", help="threads of crdetect (its default: all cores)")
    options = parser.parse_args(arguments)
    unknown = set(options.fields) - {"all", *KNOWN}
    if unknown:
        parser.error(f"--fields: no {', '.join(sorted(unknown))}; there are {', '.join(KNOWN)}")
    if options.seeds < 1:
        parser.error("--seeds: at least 1")
    options.peer = options.peer or find_program(PEER)
    if options.peer is None and any(name.startswith(PEER_PREFIX) for name in options.method):
        parser.error(f"no {PEER} beside this Python or on PATH (--peer)")
    return options


def make_method(name: str, options: argparse.Namespace) -> tuple[str, Method]:
    """Make a method and its label."""
    chosen = dict(options.set)
    label = " ".join([name, *(f"{key}={value}" for key, value in chosen.items())])
    if name.startswith(PEER_PREFIX):
        return label, Peer(name.removeprefix(PEER_PREFIX), options.peer.absolute(), chosen)
    return label, Ours(name, chosen, options.workers)


def names_of(options: argparse.Namespace, library: Library) -> list[str]:
    """Names of the sets that are wanted and there."""
    wanted = library.names if "all" in options.fields else options.fields
    for name in set(wanted) - set(library.names):
        console.print(f"no {name} in {options.data}: left out")
    return [name for name in wanted if name in library.names]


def run(options: argparse.Namespace, libraries: dict[str, Library]) -> list[Results]:
    """Judge all methods with each kind of cosmic rays; write what there is after each set."""
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    finished: list[Results] = []

    def keep(results: Results) -> None:
        if options.output:
            write(options.output, [*finished, results])

    with console.status("") as status:
        for kind, library in libraries.items():
            names = names_of(options, library)
            for name in options.method:
                label, method = make_method(name, options)
                label += f", {kind} tracks" if options.tracks != ["lsst"] else ""
                finished.append(evaluate(label, method, library, names, seeds, status.update, keep))
    return finished


def main() -> int:
    """Run the benchmark; return 1 if something could not be judged, 2 for wrong parameters."""
    options = read_options()
    if "lsst" in options.tracks and not (options.data / CATALOGUE).is_file():
        console.print(f"no {CATALOGUE} in {options.data}: cosmic rays are straight tracks")
    try:
        libraries = {kind: Library.at(options.data, kind) for kind in options.tracks}
        results = run(options, libraries)
    except InputError as error:
        console.print(str(error))
        return 2
    for result in results:
        console.print(set_table(result))
        for name, why in result.failed.items():
            console.print(f"- {result.label}, {name}: {why}")
    earlier = [entry for path in options.others for entry in read(path)]
    console.print(target_table([*results, *earlier]))
    console.print("[x, y]: 95 %; ✓ reached, ~ missed within the interval, ✗ missed")
    return int(any(result.failed for result in results))


if __name__ == "__main__":
    sys.exit(main())
