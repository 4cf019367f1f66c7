"""The command ``crdetect``: run, check, template, simulate, score."""

from __future__ import annotations

import argparse
import logging
import math
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from rich.console import Console
from rich.logging import RichHandler
from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from crdetect import __version__
from crdetect.errors import InputError, Stopped
from crdetect.parameters import BLOCKS, Inputs, template
from crdetect.resources import Resources

if TYPE_CHECKING:
    from crdetect.run import Run
    from crdetect.runfile import RunFile

DONE, FAILED, BAD_INPUT, STOPPED, INTERRUPTED = 0, 1, 2, 3, 130
"""Exit codes of the command."""

_logger = logging.getLogger("crdetect")
_out = Console(highlight=False)
_err = Console(stderr=True, highlight=False)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Parameters
    ----------
    arguments : sequence of str, optional
        Arguments of the command line; those of the process by default.

    Returns
    -------
    int
        Exit code: 0 done, 1 failed, 2 wrong input, 3 stopped by a person, 130 interrupted.
    """
    try:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, signal.default_int_handler)
        options = _parser().parse_args(arguments)
        _set_up_logging(options)
        options.function(options)
    except InputError as error:
        return _complain(str(error), BAD_INPUT)
    except Stopped as why:
        return _complain(f"stopped, nothing is written{f': {why}' if str(why) else ''}", STOPPED)
    except KeyboardInterrupt:  # SIGTERM raises it too
        return _complain("interrupted", INTERRUPTED)
    except Exception as error:
        _logger.debug("traceback", exc_info=True)
        return _complain(f"failed: {type(error).__name__}: {error}", FAILED)
    return DONE


def _complain(message: str, code: int) -> int:
    line = " ".join(message.split())
    _err.print(f"crdetect: {line}", markup=False, soft_wrap=True)
    return code


def _say(*items) -> None:
    """Print tables and lines of text; texts are neither wrapped nor parsed for markup."""
    for item in items:
        _out.print(item, markup=False, soft_wrap=True)


# ---------------------------------------------------------------------------------------------
# Commands


def _run(options: argparse.Namespace) -> None:
    from crdetect.catalogue import DRAWN, Shelf, patterns
    from crdetect.output import whole_or_nothing
    from crdetect.runfile import files_of, read_params

    runfile = read_params(options.params, options.set)
    _check_options(options, runfile)
    located = runfile.located()
    inputs = files_of(located)
    inputs += [file for file in (options.params, options.crmasks, options.boundary) if file]
    shelves = {Shelf.COMBINED} if options.crmasks else set(Shelf)
    with (
        Resources.of(options.workers).bounded(),
        whole_or_nothing(options.output_dir, patterns(shelves), inputs) as folder,
        _progress() as progress,
    ):
        make = _run_with_masks if options.crmasks else _run_detection
        finished = make(runfile, located, options, progress)
        finished.write(folder, shelves - DRAWN if options.no_plots else shelves)
    _say(*_shown(finished), f"products in {options.output_dir}")


def _check_options(options: argparse.Namespace, runfile: RunFile) -> None:
    """Check that the options go together; raise InputError if they do not."""
    if options.boundary and options.crmasks:
        raise InputError(
            "--boundary and --crmasks exclude each other: with --crmasks no cosmic rays are "
            "searched for"
        )
    if options.force and not options.crmasks:
        raise InputError("--force needs --crmasks: it accepts masks of other exposures")
    if options.boundary and runfile.parameters.general.criterion != "mm":
        raise InputError(
            "--boundary needs a crmethod with M.M.Cosmic: mmcosmic, or mm_ with a detector"
        )
    if options.boundary and runfile.parameters.general.interactive:
        raise InputError(
            "--boundary and interactive: true exclude each other: a given boundary is not refined"
        )


def _run_detection(
    runfile: RunFile, located: Inputs, options: argparse.Namespace, progress: _Steps
) -> Run:
    from functools import partial

    from crdetect.exposures import read_exposures
    from crdetect.interactive import detect_with_person
    from crdetect.run import run
    from crdetect.runfile import inputs_text
    from crdetect.stored import read_boundary_file

    boundary = read_boundary_file(options.boundary) if options.boundary else None
    again = f" --boundary {options.boundary.absolute()}" if options.boundary else ""
    progress("reading exposures")
    return run(
        read_exposures(runfile.inputs, runfile.folder),
        runfile.parameters,
        history=_history(runfile.inputs),
        preamble=f"# crdetect run params_used.yaml{again} gives the same masks again.\n"
        + inputs_text(located),
        boundary=boundary,
        workers=options.workers,
        progress=progress,
        detect=partial(detect_with_person, aside=progress.aside),
    )


def _run_with_masks(
    runfile: RunFile, _located: Inputs, options: argparse.Namespace, progress: _Steps
) -> Run:
    from crdetect.exposures import read_exposures
    from crdetect.run import run_with_masks
    from crdetect.stored import read_masks_file

    progress("reading exposures and masks")
    general = runfile.parameters.general
    return run_with_masks(
        read_exposures(runfile.inputs, runfile.folder),
        read_masks_file(options.crmasks),
        general.use_auxmedian if "use_auxmedian" in runfile.given else None,
        force=options.force,
        history=_history(runfile.inputs),
        workers=options.workers,
        progress=progress,
    )


def _check(options: argparse.Namespace) -> None:
    from crdetect.exposures import read_exposures
    from crdetect.pipeline import check
    from crdetect.runfile import read_params

    runfile = read_params(options.params, options.set)
    exposures = read_exposures(runfile.inputs, runfile.folder)
    check(exposures.stack, exposures.noise, runfile.parameters)
    rows, columns = exposures.stack.shape
    _say(
        f"{options.params.name} is good: {len(exposures.stack)} exposures of {rows} × {columns} "
        f"pixels (rows × columns), crmethod {runfile.parameters.general.crmethod}"
    )


def _template(options: argparse.Namespace) -> None:
    blocks = None if options.block == "all" else [options.block]
    sys.stdout.write(template(blocks))


def _simulate(options: argparse.Namespace) -> None:
    from crdetect.output import whole_or_nothing
    from crdetect.simulate import (
        SIMULATED_PATTERNS,
        check_simulated_folder,
        simulate_exposures,
        write_simulation,
    )

    simulation = simulate_exposures(
        tuple(options.shape),
        options.exposures,
        gain=options.gain,
        rnoise_adu=options.rnoise,
        bias_adu=options.bias,
        hit_fraction=options.hit_fraction,
        double_hits=options.double_hits,
        seed=options.seed,
        flux=options.flux and tuple(options.flux),
        offsets_px=options.offset and tuple(map(tuple, options.offset)),
        nbinom_shape=options.nbinom_shape,
    )
    check_simulated_folder(options.directory)
    with whole_or_nothing(options.directory, SIMULATED_PATTERNS) as folder:
        files = write_simulation(simulation, folder)
        names = ", ".join(str(file.relative_to(folder)) for file in files)
    _say(f"{options.directory}: {names}")


def _score(options: argparse.Namespace) -> None:
    from crdetect.simulate import score_files

    result = score_files(options.crmasks, options.truth)
    _say(
        f"planted double hits found: {result.planted_found} of {result.planted} (at least one "
        "pixel is in MEDIANCR)",
        f"pixels hit above 5 σ in two exposures found: {result.double_px_found} of "
        f"{result.double_px}",
        f"false pixels in MEDIANCR: {result.false_px} (neither they nor their neighbours were hit "
        "above 1 σ in two exposures)",
    )


# ---------------------------------------------------------------------------------------------
# Output


def _history(inputs) -> list[str]:
    lines = [f"crdetect {__version__}"]
    return lines + [f"- {name} = {value}" for name, value in inputs.model_dump(mode="json").items()]


def _shown(finished: Run) -> list:
    """Return the tables and lines that the command prints about a finished run."""
    from crdetect.masks import class_meanings
    from crdetect.run import DetectionRun

    summary = finished.summary()
    if not isinstance(finished, DetectionRun):
        return [f"combined with the masks {finished.uuid}", *finished.remarks()]
    table = Table("mask", "pixels")
    for name, number in summary["masked_pixels"].items():
        table.add_row(name, str(number))
    meanings = class_meanings(finished.detection.code_meanings)
    counts = ", ".join(
        f"{summary['features'][name]} {name} ({words})" for name, words in meanings.items()
    )
    found = [f"{name}: {text}" for name, text in finished.findings().items()]
    quality = finished.quality
    lines = [f"quality: {quality.verdict.name}", *quality.reasons]
    return [table, f"features of MEDIANCR: {counts}", *found, *finished.remarks(), *lines]


@dataclass(frozen=True)
class _Steps:
    """Line on the terminal that shows the current step and the time."""

    bar: Progress
    task: TaskID

    def __call__(self, step: str) -> None:
        """Show the name of the current step."""
        self.bar.update(self.task, description=step)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Hide the line until the context ends, while a person answers on the terminal."""
        self.bar.stop()
        try:
            yield
        finally:
            self.bar.start()


@contextmanager
def _progress() -> Iterator[_Steps]:
    """Show the current step and the time; show nothing if the output is not a terminal."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=_err, transient=True, disable=not _err.is_terminal) as bar:
        task = bar.add_task("starting", total=None)
        yield _Steps(bar, task)


def _set_up_logging(options: argparse.Namespace) -> None:
    level = getattr(options, "log_level", "warning").upper()
    handler = RichHandler(console=_err, show_path=False, markup=False)
    logging.basicConfig(level=level, format="%(message)s", handlers=[handler], force=True)
    logging.captureWarnings(capture=True)
    for noisy in ("matplotlib", "PIL", "py.warnings"):
        logging.getLogger(noisy).setLevel(logging.ERROR)


# ---------------------------------------------------------------------------------------------
# Arguments


class _Parser(argparse.ArgumentParser):
    """Argument parser that reports a fault as an `InputError`, in one line."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message} (see {self.prog} --help)")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="crdetect", description="Cosmic rays in equivalent exposures.")
    parser.add_argument("--version", action="version", version=f"crdetect {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def add(name: str, function, text: str, more: str = "") -> argparse.ArgumentParser:
        description = f"{text[0].upper()}{text[1:]}. {more}"
        command = commands.add_parser(name, help=text, description=description)
        command.set_defaults(function=function)
        return command

    _add_run(add("run", _run, "find cosmic rays and combine the exposures"))
    check = add("check", _check, "check a params file and its exposures, without running")
    _add_params(check)
    _add_template(add("template", _template, "print a params file with comments and all defaults"))
    _add_simulate(add("simulate", _simulate, "write simulated exposures with known cosmic rays"))
    score = "compare masks with the truth of simulated exposures"
    _add_score(add("score", _score, score, _SCORE_COUNTS))
    return parser


_SCORE_COUNTS = (
    "A planted double hit, a track at the same place in two exposures, counts as found if at least "
    "one of its pixels is in MEDIANCR. Of the pixels that got a charge above 5 σ in at least two "
    "exposures those in MEDIANCR count as found; σ is the photon and read noise of the pixel. A "
    "pixel of MEDIANCR counts as false if neither it nor a neighbour got a charge above 1 σ in at "
    "least two exposures."
)


def _add_params(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "params",
        type=Path,
        metavar="PARAMS.yaml",
        help="params file: exposures, gain, read noise, bias and requirements",
    )
    command.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="replace a value of the params file, such as --set crmethod=joint; may be repeated",
    )


def _add_run(command: argparse.ArgumentParser) -> None:
    _add_params(command)
    command.add_argument(
        "--output-dir",
        "--output_dir",
        type=Path,
        default=Path(),
        metavar="DIR",
        help="folder into which products are written (default: the current folder)",
    )
    command.add_argument(
        "--crmasks",
        type=Path,
        metavar="FILE",
        help="combine the exposures with the masks of this crmasks.fits, without searching for "
        "cosmic rays; of the requirements only use_auxmedian counts, the others are those of the "
        "run that made the masks",
    )
    command.add_argument(
        "--force",
        action="store_true",
        help="apply the masks given by --crmasks even if they were made from other exposures, or "
        "from the exposures in another order",
    )
    command.add_argument(
        "--boundary",
        type=Path,
        metavar="FILE",
        help="take the boundary of the Median-Minimum diagram from this crmasks.fits of an "
        "earlier run",
    )
    command.add_argument(
        "--workers",
        type=_positive,
        metavar="N",
        help="number of processors that may be busy at a time (default: all that the process may "
        "use)",
    )
    command.add_argument(
        "--no-plots",
        action="store_true",
        help="write neither figures nor pages of features nor the report",
    )
    command.add_argument(
        "--log-level",
        choices=["debug", "info", "warning", "error"],
        type=str.lower,
        default="warning",
        metavar="LEVEL",
        help="least important messages that are shown: debug, info, warning or error (default: "
        "%(default)s)",
    )


def _add_template(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--block",
        choices=["all", *BLOCKS],
        default="all",
        help="print only the parameters of this block: general ones, or those of a detector or a "
        "criterion (default: %(default)s)",
    )


def _add_score(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "crmasks", type=Path, metavar="CRMASKS.fits", help="masks made from simulated exposures"
    )
    command.add_argument(
        "truth",
        type=Path,
        metavar="TRUTH.fits",
        help="truth.fits of the simulation, written by crdetect simulate",
    )


def _add_simulate(command: argparse.ArgumentParser) -> None:
    def number(option: str, kind: type, default: float, text: str, metavar: str = "X") -> None:
        text = f"{text} (default: %(default)s)"
        command.add_argument(option, type=kind, default=default, metavar=metavar, help=text)

    command.add_argument(
        "directory",
        type=Path,
        metavar="DIR",
        help="folder for exposures, truth.fits, params.yaml, obs.yaml and control.yaml",
    )
    command.add_argument(
        "--shape",
        type=int,
        nargs=2,
        default=(400, 500),
        metavar=("ROWS", "COLS"),
        help="rows and columns of the exposures (default: 400 500)",
    )
    number("--exposures", int, 3, "number of exposures, three or more", "N")
    number("--gain", float, 1.0, "gain in e/ADU")
    number("--rnoise", float, 3.4, "read noise in ADU")
    number("--bias", float, 0.0, "bias level in ADU")
    number("--hit-fraction", float, 0.006, "fraction of the pixels of an exposure that are hit")
    number("--double-hits", int, 20, "number of tracks at the same place in two exposures", "N")
    number("--seed", int, 1, "seed of the random numbers", "N")
    command.add_argument(
        "--flux",
        type=float,
        nargs="+",
        metavar="F",
        help="flux of each exposure, which multiplies its signal (default: 1 for all)",
    )
    command.add_argument(
        "--offset",
        type=float,
        nargs=2,
        action="append",
        metavar=("DX", "DY"),
        help="offset of an exposure in pixels, given once for each exposure (default: no offsets)",
    )
    command.add_argument(
        "--nbinom-shape",
        type=float,
        default=math.inf,
        metavar="K",
        help="shape of the negative binomial distribution of photons, whose variance is λ + λ²/K "
        "for λ electrons (default: infinite, a Poisson distribution)",
    )


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be an integer ≥ 1")
    return value


if __name__ == "__main__":
    sys.exit(main())
