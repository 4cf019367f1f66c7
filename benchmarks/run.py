"""Run crdetect and the peer, ``numina-crmasks``, side by side on the same exposures.

The exposures are written here (a MEGARA-like field, always the same), the programs run in turn,
and wall time, processor time and peak memory of each process are measured in the same way. See
README.md for what the numbers mean.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
from astropy.io import fits
from rich.console import Console
from rich.table import Table

from crdetect.methods import Method
from crdetect.noise import Noise
from crdetect.parameters import BLOCKS, Parameters
from crdetect.schema.words import yaml_value
from crdetect.simulate import simulate_exposures

NEXPOSURES, GAIN, RNOISE_ADU, HIT_SHARE, SEED = 3, 1.0, 3.4, 0.006, 20260
REFERENCE_SHAPE, LARGE_SHAPE = (2016, 1596), (4096, 4112)
LARGE_LIMIT_GIB, LARGE_LIMIT_OF_NETWORKS_GIB = 3.0, 4.0
METHODS, LARGE_METHODS = ("mm_pycosmic", "mm_lacosmic"), ("mm_pycosmic",)
OURS_ALONE = (  # parameters
    *("device", "mm_simulation", "mm_false_pixels", "pixels_to_be_ignored_in_mediancr"),
    *BLOCKS["jt"].model_fields,
)
NEED_PYCOSMIC = ("mm_pycosmic", "pycosmic")
NEED_COSMIC_CONN = ("mm_conn", "conn")
SURE = ("lacosmic", "pycosmic", "deepcr", "conn")  # no random numbers: masks can be compared
NETWORKS = ("mm_deepcr", "deepcr", *NEED_COSMIC_CONN)
YARDSTICK = "mm_lacosmic"
US, PEER = "crdetect", "numina-crmasks"

console = Console(highlight=False, soft_wrap=True)
console.width = max(console.width, 120)  # a table that fits when the output is a file


Job = tuple[str, str]  # program, crmethod


class Cost(NamedTuple):
    """What a run took: seconds, seconds of all processors, bytes."""

    wall_s: float
    cpu_s: float
    peak_bytes: float


PUBLISHED = {
    "mm_lacosmic": Cost(70, 98, 2.04e9),
    "mm_pycosmic": Cost(263, 238, 2.03e9),
    "pycosmic": Cost(216, 214, 1.73e9),
}
"""The peer's figures for 3 × 2016 × 1596 pixels, on two shared cores."""


PEER_WITH_CONN = """
import sys, cosmic_conn
from importlib.metadata import entry_points, version
cosmic_conn.__version__ = version("cosmic_conn")
(command,) = entry_points(group="console_scripts", name="numina-crmasks")
sys.exit(command.load()())
"""
"""The peer asks for a version that cosmic-conn 0.6 does not tell."""


@dataclass(frozen=True)
class Result:
    """The runs of one program with one method.

    Attributes
    ----------
    program, method : str
        What ran.
    cost : Cost or None
        Medians; None when a run failed or there is nothing to scale.
    masks : dict of (array, int)
        Each mask, its bits packed, and how many pixels it holds: shows if both did the same work.
    note : str
        What to know about these numbers.
    mark : str
        The same in a word, for the table.
    """

    program: str
    method: str
    cost: Cost | None
    masks: dict[str, tuple[np.ndarray, int]] = field(default_factory=dict)
    note: str = ""
    mark: str = ""


# ---------------------------------------------------------------------------------------------
# The exposures


def write_exposures(folder: Path, shape: tuple[int, int]) -> list[str]:
    """Write the exposures as float32 FITS; return the names of the files."""
    simulation = simulate_exposures(
        shape,
        nexposures=NEXPOSURES,
        gain=GAIN,
        rnoise_adu=RNOISE_ADU,
        hit_fraction=HIT_SHARE,
        seed=SEED,
    )
    names = [f"exposure_{i}.fits" for i in range(1, NEXPOSURES + 1)]
    for name, image in zip(names, simulation.exposures_adu, strict=True):
        fits.PrimaryHDU(image).writeto(folder / name, overwrite=True)
    return names


def write_params(
    path: Path, images: Iterable[str], noise: Noise, chosen: Mapping[str, Any]
) -> None:
    """Write a params file that both programs read: the example parameters, no feature pages."""
    requirements = Parameters().to_mapping()
    for name in ("mm_threshold", *OURS_ALONE):  # nor does it take this beside mm_threshold_rnoise
        del requirements[name]
    requirements |= {"maxplots": 0, "flux_factor": "none", **chosen}  # the peer wants the word
    lines = ["images:", *(f"- {name}" for name in images), "extnum: 0"]
    lines += [f"gain: {noise.gain}", f"rnoise: {noise.rnoise_adu}", "bias: 0.0", "requirements:"]
    lines += [f"  {name}: {yaml_value(value)}" for name, value in requirements.items()]
    path.write_text("\n".join(lines) + "\n")


def prepare(folder: Path, shape: tuple[int, int], methods: Iterable[str]) -> None:
    """Write exposures and params files.

    In a process of its own: on Linux the peak memory of a child is never below that of the
    process it was started from, so this one must stay small.
    """
    folder.mkdir(parents=True, exist_ok=True)
    console.print(f"writing {NEXPOSURES} exposures of {shape[0]} × {shape[1]} pixels")
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        names = pool.submit(write_exposures, folder, shape).result()
    for method in methods:
        write_params(
            folder / f"{method}.yaml", names, Noise(GAIN, RNOISE_ADU), {"crmethod": method}
        )


# ---------------------------------------------------------------------------------------------
# The programs


def find_program(name: str) -> Path | None:
    """Find a command beside the interpreter, else on PATH."""
    beside = Path(sys.executable).with_name(name)
    found = beside if beside.is_file() else shutil.which(name)
    return Path(found) if found else None


def interpreter_of(program: Path) -> str:
    """Return the interpreter beside a command, else this one."""
    beside = program.with_name("python")
    return str(beside) if beside.is_file() else sys.executable


def answers(program: Path, code: str) -> str | None:
    """Run a line of code in a command's interpreter; return what it prints, None if it fails."""
    command = [interpreter_of(program), "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


def measure(command: Sequence[str | Path], folder: Path, log: Path) -> tuple[int, Cost]:
    """Run a command to its end; return its exit code and what it and its children took."""
    environment = os.environ | {"MPLBACKEND": "Agg"}
    with log.open("wb") as output:
        start = time.perf_counter()
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    unit = 1 if sys.platform == "darwin" else 1024
    return process.returncode, Cost(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * unit)


@dataclass(frozen=True)
class Bench:
    """Where runs take place, and with what.

    Attributes
    ----------
    folder : Path
        Holds exposures and params files; gets outputs and logs.
    commands : dict of list
        Command of each program, to which the output folder is added.
    keep : bool
        Whether outputs stay.
    """

    folder: Path
    commands: dict[str, list[str | Path]]
    keep: bool

    def run_once(self, program: str, method: str, turn: int) -> Result:
        """Run one program once."""
        name = f"{program}_{method}_{turn}"
        output, log = self.folder / name, self.folder / f"{name}.log"
        shutil.rmtree(output, ignore_errors=True)  # of an earlier benchmark with --keep
        command, *options = self.commands[program]
        arguments = [command, *options, output]
        if program == PEER and method in NEED_COSMIC_CONN:
            arguments[:1] = [interpreter_of(command), "-c", PEER_WITH_CONN]
        arguments[arguments.index("PARAMS")] = self.folder / f"{method}.yaml"
        with console.status(f"{program} {method}, run {turn}"):
            code, cost = measure(arguments, self.folder, log)
        if code:
            tail = log.read_text(errors="replace").strip().splitlines()[-1:] or ["no output"]
            return Result(program, method, None, note=f"exit {code}: {tail[0].strip()}")
        masks = read_masks(output / "crmasks.fits") if turn == 1 else {}
        if not self.keep:
            shutil.rmtree(output)
        return Result(program, method, cost, masks)

    def run(self, jobs: Iterable[Job], repeat: int) -> dict[Job, Result]:
        """Run programs in turn, so many times, and take medians."""
        runs: dict[Job, list[Result]] = {job: [] for job in jobs}
        for turn in range(1, repeat + 1):
            for (program, method), results in runs.items():
                result = self.run_once(program, method, turn)
                results.append(result)
                console.print(f"  {program} {method}: {result.note or in_words(result.cost)}")
        return {job: medians(results) for job, results in runs.items()}


def in_words(cost: Cost) -> str:
    """Say a cost in one line."""
    return f"{cost.wall_s:.1f} s, CPU {cost.cpu_s:.1f} s, {cost.peak_bytes / 1e9:.2f} GB"


def read_masks(path: Path) -> dict[str, tuple[np.ndarray, int]]:
    """Read the masks, and count their pixels."""
    with fits.open(path) as hdul:
        masks = {hdu.name: hdu.data > 0 for hdu in hdul if hdu.name.startswith(("ME", "CRM"))}
    return {name: (np.packbits(mask), np.count_nonzero(mask)) for name, mask in masks.items()}


def difference(ours: Result, peers: Result, shape: tuple[int, int]) -> str:
    """Say how many pixels of each mask differ, but for those that cosmic-conn leaves out."""
    judged = [length // 16 * 16 if ours.method == "conn" else length for length in shape]
    texts = []
    for name, (own, n) in ours.masks.items():
        bits = np.unpackbits(own ^ peers.masks[name][0], count=math.prod(shape)).reshape(shape)
        inner, total = np.count_nonzero(bits[: judged[0], : judged[1]]), np.count_nonzero(bits)
        beyond = f" and {total - inner} in the last rows and columns" if total > inner else ""
        texts.append(f"{name} {inner}{beyond} of {n}")
    return ", ".join(texts)


def medians(results: Sequence[Result]) -> Result:
    """Reduce the runs of one program to one; a failed run fails them all."""
    for result in results:
        if result.cost is None:
            return result
    costs = [result.cost for result in results]
    first = results[0]
    cost = Cost(*map(median, zip(*costs, strict=True)))
    return Result(first.program, first.method, cost, first.masks)


# ---------------------------------------------------------------------------------------------
# The peer without PyCosmic


def scaled(method: str, yardstick: Result, shape: tuple[int, int]) -> Result:
    """Estimate the peer's cost from its published one and a run of its mm_lacosmic here."""
    if yardstick.cost is None:
        return Result(PEER, method, None, note=f"nothing to scale by: {yardstick.note}")
    here, published = yardstick.cost, PUBLISHED[YARDSTICK]
    factors = [here.wall_s / published.wall_s, here.cpu_s / published.cpu_s]
    how = f"published × {YARDSTICK} measured here / published ({factors[0]:.3g})"
    memory = (
        f"memory as published (that of {YARDSTICK}: {published.peak_bytes / 1e9:.2f} GB published, "
        f"{here.peak_bytes / 1e9:.2f} here)"
    )
    peak = PUBLISHED[method].peak_bytes
    if shape != REFERENCE_SHAPE:
        pixels = math.prod(shape) / math.prod(REFERENCE_SHAPE)
        # start-up and figures do not grow with the pixels: never more than the pixels say
        factors = [min(factor, pixels) for factor in factors]
        how = f"published × {factors[0]:.3g}: the lower of that of {YARDSTICK} and of the pixels"
        peak, memory = math.nan, "memory is known for 2016 × 1596 only"
    wall, cpu = (cost * factor for cost, factor in zip(PUBLISHED[method], factors, strict=False))
    note = f"NOT MEASURED, no PyCosmic there; scaled: {how}; {memory}"
    return Result(PEER, method, Cost(wall, cpu, peak), note=note, mark=" (scaled)")


def instead(method: str, yardstick: Result) -> Result:
    """Put the peer's mm_lacosmic in the place of a method that it lacks."""
    note = f"it has no {method}: {YARDSTICK}" + (f", {yardstick.note}" if yardstick.note else "")
    return replace(yardstick, method=method, note=note, mark=f" {YARDSTICK}")


# ---------------------------------------------------------------------------------------------
# The report


def machine(peer: Path | None) -> str:
    """Describe the machine and the versions in one line."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    packages = ("crdetect", "numina", "numpy", "opencv-python-headless")
    ours = ", ".join(f"{name} {version(name)}" for name in packages)
    line = f"{cores} cores ({platform.machine()}), Python {platform.python_version()}, {ours}"
    if peer:
        code = "from importlib.metadata import version as v; print(v('numina'), v('numpy'))"
        theirs = (answers(peer, code) or "? ?").split()
        line += f"; peer: numina {theirs[0]}, numpy {theirs[1]}"
    return line


def tabulate(results: Sequence[Result], title: str) -> Table:
    """Make the table of results."""
    table = Table(title=title, title_justify="left")
    table.add_column("crmethod")
    table.add_column("program")
    for name in ("wall s", "CPU s", "peak GB", "MEDIANCR px", "peer/ours: wall", "CPU", "memory"):
        table.add_column(name, justify="right")
    ours = {result.method: result.cost for result in results if result.program == US}
    for number, result in enumerate(results):
        last = number + 1 == len(results) or results[number + 1].method != result.method
        table.add_row(*_cells(result, ours.get(result.method)), end_section=last)
    return table


def _cells(result: Result, ours: Cost | None) -> list[str]:
    cells = [result.method, result.program + result.mark]
    if result.cost is None:
        return [*cells, "failed"]
    wall, cpu, peak = result.cost
    flagged = str(result.masks["MEDIANCR"][1]) if result.masks else "–"
    cells += [f"{wall:.1f}", f"{cpu:.1f}", _decimals(peak / 1e9), flagged]
    if result.program == PEER and ours:
        cells += [_decimals(theirs / own) for theirs, own in zip(result.cost, ours, strict=True)]
    return cells


def _decimals(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.2f}"


def compare(bench: Bench, options: argparse.Namespace) -> list[Result]:
    """Run all methods; scale what the peer cannot run here."""
    programs = [US, PEER] if options.peer else [US]
    wanted = [(program, method) for method in options.methods for program in programs]
    stand_ins: dict[Job, Callable[[str, Result], Result]] = {}
    if options.peer:
        joint = [name for name in options.methods if Method.parse(name).criterion == "joint"]
        stand_ins = dict.fromkeys(((PEER, name) for name in joint), instead)
    if options.peer and answers(options.peer, "import PyCosmic") is None:
        estimate = partial(scaled, shape=options.shape)
        missing = [method for method in options.methods if method in NEED_PYCOSMIC]
        stand_ins |= {(PEER, method): estimate for method in missing}
    jobs = [job for job in wanted if job not in stand_ins]
    if stand_ins and (PEER, YARDSTICK) not in jobs:
        jobs.append((PEER, YARDSTICK))
    results = bench.run(jobs, options.repeat)
    for job, stand_in in stand_ins.items():
        results[job] = stand_in(job[1], results[PEER, YARDSTICK])
    return [results[job] for job in wanted]


def report(results: Sequence[Result], options: argparse.Namespace) -> None:
    """Print table and remarks."""
    rows, columns = options.shape
    title = f"{NEXPOSURES} × {rows} × {columns}, about {HIT_SHARE:.1%} of pixels hit per exposure"
    console.print(tabulate(results, f"{title}, median of {options.repeat}"))
    for result in results:
        if result.note:
            console.print(f"- {result.program} {result.method}: {result.note}")
    both = {(result.program, result.method): result for result in results if result.masks}
    for method in options.methods:
        if method in SURE and (US, method) in both and (PEER, method) in both:
            different = difference(both[US, method], both[PEER, method], options.shape)
            console.print(f"- {method}, pixels that differ, of ours: {different}")
    figures = "with" if options.plots else "without"
    console.print(f"- {US} runs {figures} figures; the peer makes two PNG even with maxplots 0")
    console.print("- other work on the machine lengthens wall times; ratios of CPU are steadier")
    if options.peer is None:
        console.print(f"- no {PEER} beside this Python or on PATH (--peer): {US} alone was run")


def run_large(bench: Bench, options: argparse.Namespace) -> list[Result]:
    """Run ours on exposures of MEGARA's full size and say whether memory is as wanted."""
    results = bench.run([(US, method) for method in options.methods], options.repeat)
    rows, columns = LARGE_SHAPE
    for (_, method), result in results.items():
        if result.cost is None:
            console.print(f"{method} failed: {result.note}")
            continue
        gib = result.cost.peak_bytes / 2**30
        limit = LARGE_LIMIT_OF_NETWORKS_GIB if method in NETWORKS else LARGE_LIMIT_GIB
        console.print(
            f"{US} {method}, {NEXPOSURES} × {rows} × {columns}, median of {options.repeat}: "
            f"wall {result.cost.wall_s:.1f} s, CPU {result.cost.cpu_s:.1f} s, "
            f"peak memory {gib:.2f} GiB: {'below' if gib < limit else 'NOT below'} {limit:g} GiB"
        )
    return list(results.values())


# ---------------------------------------------------------------------------------------------
# The command


def rows_and_columns(text: str) -> tuple[int, int]:
    """Read ROWSxCOLUMNS."""
    try:
        rows, columns = map(int, text.lower().split("x"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be like 2016x1596, not {text}") from None
    if min(rows, columns) < 128:  # room for the double hits
        raise argparse.ArgumentTypeError(f"must be at least 128x128, not {text}")
    return rows, columns


def read_options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--methods", nargs="+", metavar="M", help=f"crmethods ({' '.join(METHODS)})")
    add("--shape", type=rows_and_columns, default=REFERENCE_SHAPE, metavar="ROWSxCOLUMNS")
    add("--repeat", type=int, default=1, metavar="K", help="runs of each, in turn; medians")
    add("--peer", type=Path, help="the peer's command (beside this Python, or on PATH)")
    add("--keep", type=Path, metavar="DIR", help="keep exposures, params, outputs and logs here")
    add("--plots", action="store_true", help=f"let {US} make its figures")
    add("--large", action="store_true", help=f"only {US}, on 3 × 4096 × 4112 (mm_pycosmic)")
    add("--workers", type=int, metavar="N", help=f"threads of {US} (its default: all cores)")
    options = parser.parse_args(arguments)
    if options.peer and not options.peer.is_file():
        parser.error(f"--peer: no file {options.peer}")
    if options.repeat < 1:
        parser.error("--repeat: at least 1")
    options.peer = None if options.large else (options.peer or find_program(PEER))
    if options.large:
        options.shape = LARGE_SHAPE
    default = LARGE_METHODS if options.large else METHODS
    options.methods = list(dict.fromkeys(options.methods or default))
    return options


def commands(options: argparse.Namespace) -> dict[str, list[str | Path]]:
    """Commands of the programs, with PARAMS in place of the params file."""
    ours = find_program(US)
    if ours is None:
        raise SystemExit(f"no {US} beside this Python or on PATH")
    figures = [] if options.plots else ["--no-plots"]
    workers = ["--workers", str(options.workers)] if options.workers else []
    known = {US: [ours, "run", "PARAMS", *figures, *workers, "--output-dir"]}
    if options.peer:
        known[PEER] = [options.peer.absolute(), "PARAMS", "--output_dir"]
    for command, *_ in known.values():  # compiles and caches what the first run would
        subprocess.run([command, "--help"], capture_output=True, check=False)
    return known


def main() -> int:
    """Run the benchmark; return 1 if a run failed."""
    options = read_options()
    console.print(machine(options.peer))
    with tempfile.TemporaryDirectory() as scratch:
        folder = (options.keep or Path(scratch)).absolute()
        bench = Bench(folder, commands(options), bool(options.keep))
        prepare(bench.folder, options.shape, {*options.methods, YARDSTICK})
        if options.large:
            results = run_large(bench, options)
        else:
            results = compare(bench, options)
            report(results, options)
    return int(any(result.cost is None for result in results))


if __name__ == "__main__":
    sys.exit(main())
