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

if TYPE_CHECKING:
    from crdetect.run import Run
    from crdetect.runfile import RunFile

DONE, FAILED, BAD_INPUT, STOPPED, INTERRUPTED = 0, 1, 2, 3, 130

_logger = logging.getLogger("crdetect")
_out = Console(highlight=False)
_err = Console(stderr=True, highlight=False)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code: 0 done, 1 failed, 2 bad input, 3 stopped."""
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
    except KeyboardInterrupt:  # and SIGTERM: nothing is left behind
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
    """Print tables, and texts as they are: a line each."""
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
        whole_or_nothing(options.output_dir, patterns(shelves), inputs) as folder,
        _progress() as progress,
    ):
        make = _run_with_masks if options.crmasks else _run_detection
        finished = make(runfile, located, options, progress)
        finished.write(folder, shelves - DRAWN if options.no_plots else shelves)
    _say(*_shown(finished), f"products in {options.output_dir}")


def _check_options(options: argparse.Namespace, runfile: RunFile) -> None:
    """Raise InputError for options that do not go together."""
    if options.boundary and options.crmasks:
        raise InputError(
            "--boundary and --crmasks exclude each other: with masks nothing is detected"
        )
    if options.force and not options.crmasks:
        raise InputError("--force needs --crmasks: masks of other exposures are what it allows")
    if options.boundary and runfile.parameters.general.criterion != "mm":
        raise InputError("--boundary needs a crmethod with M.M.Cosmic: mmcosmic or mm_…")
    if options.boundary and runfile.parameters.general.interactive:
        raise InputError(
            "--boundary and interactive: true exclude each other: that boundary stays as it is"
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
        f"planted double hits found: {result.planted_found} of {result.planted}",
        f"pixels hit above 5 σ in two exposures found: {result.double_px_found} of "
        f"{result.double_px}; false pixels in MEDIANCR: {result.false_px}",
    )


# ---------------------------------------------------------------------------------------------
# What is shown


def _history(inputs) -> list[str]:
    lines = [f"crdetect {__version__}"]
    return lines + [f"- {name} = {value}" for name, value in inputs.model_dump(mode="json").items()]


def _shown(finished: Run) -> list:
    """Tables and lines on a finished run."""
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
        f"{number} {name} ({meanings[name]})" for name, number in summary["features"].items()
    )
    found = [f"{name}: {text}" for name, text in finished.findings().items()]
    quality = finished.quality
    lines = [f"quality: {quality.verdict.name}", *quality.reasons]
    return [table, f"features of MEDIANCR: {counts}", *found, *finished.remarks(), *lines]


@dataclass(frozen=True)
class _Steps:
    """Shows the running step."""

    bar: Progress
    task: TaskID

    def __call__(self, step: str) -> None:
        """Show another step."""
        self.bar.update(self.task, description=step)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Leave the screen to others for a while."""
        self.bar.stop()
        try:
            yield
        finally:
            self.bar.start()


@contextmanager
def _progress() -> Iterator[_Steps]:
    """Show the running step and the time on a terminal."""
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
    """A parser whose complaints are one line."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message} (see {self.prog} --help)")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="crdetect", description="Cosmic rays in equivalent exposures.")
    parser.add_argument("--version", action="version", version=f"crdetect {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def add(name: str, function, text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(function=function)
        return command

    _add_run(add("run", _run, "find cosmic rays and combine the exposures"))
    check = add("check", _check, "check a params file and its exposures, without running")
    _add_params(check)
    command = add("template", _template, "print a commented params file")
    command.add_argument("--block", choices=["all", *BLOCKS], default="all")
    _add_simulate(add("simulate", _simulate, "write simulated exposures with known cosmic rays"))
    command = add("score", _score, "compare masks with the truth of simulated exposures")
    command.add_argument("crmasks", type=Path, metavar="CRMASKS.fits")
    command.add_argument("truth", type=Path, metavar="TRUTH.fits")
    return parser


def _add_params(command: argparse.ArgumentParser) -> None:
    command.add_argument("params", type=Path, metavar="PARAMS.yaml")
    command.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="take this value instead of the file's; may be repeated",
    )


def _add_run(command: argparse.ArgumentParser) -> None:
    _add_params(command)
    command.add_argument(
        "--output-dir",
        "--output_dir",
        type=Path,
        default=Path(),
        metavar="DIR",
        help="where products go (default: the current folder)",
    )
    command.add_argument(
        "--crmasks",
        type=Path,
        metavar="FILE",
        help="combine with these masks, detect nothing: of the requirements only use_auxmedian "
        "counts, the rest is as the masks were made",
    )
    command.add_argument(
        "--force",
        action="store_true",
        help="with --crmasks: although the masks are of other exposures, or in another order",
    )
    command.add_argument(
        "--boundary",
        type=Path,
        metavar="FILE",
        help="take the boundary of the Median-Minimum diagram from this crmasks.fits",
    )
    command.add_argument(
        "--workers", type=_positive, metavar="N", help="threads for detectors and simulation"
    )
    command.add_argument(
        "--no-plots", action="store_true", help="draw no figures, no feature pages, no report"
    )
    command.add_argument(
        "--log-level",
        choices=["debug", "info", "warning", "error"],
        type=str.lower,
        default="warning",
        metavar="LEVEL",
        help="debug, info, warning or error",
    )


def _add_simulate(command: argparse.ArgumentParser) -> None:
    command.add_argument("directory", type=Path, metavar="DIR")
    command.add_argument("--shape", type=int, nargs=2, default=(400, 500), metavar=("ROWS", "COLS"))
    command.add_argument("--exposures", type=int, default=3, metavar="N")
    command.add_argument("--gain", type=float, default=1.0, help="e/ADU")
    command.add_argument("--rnoise", type=float, default=3.4, help="ADU")
    command.add_argument("--bias", type=float, default=0.0, help="ADU")
    command.add_argument("--hit-fraction", type=float, default=0.006, help="of the pixels")
    command.add_argument("--double-hits", type=int, default=20, help="tracks planted twice")
    command.add_argument("--seed", type=int, default=1)
    command.add_argument(
        "--flux", type=float, nargs="+", metavar="F", help="of each exposure: multiplies its signal"
    )
    command.add_argument(
        "--offset",
        type=float,
        nargs=2,
        action="append",
        metavar=("DX", "DY"),
        help="of an exposure, in pixels; once for each exposure",
    )
    command.add_argument(
        "--nbinom-shape",
        type=float,
        default=math.inf,
        metavar="K",
        help="photons with the variance λ + λ²/K instead of Poisson's",
    )


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be an integer ≥ 1")
    return value


if __name__ == "__main__":
    sys.exit(main())
