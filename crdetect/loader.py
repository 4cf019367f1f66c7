"""Entry points of numina: the instrument CRDETECT for images of any instrument, and MEGARA."""

from __future__ import annotations

import copy
import datetime as dt
import logging
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from astropy.io import fits
from numina.core import drp_load
from numina.core.pipeline import InstrumentDRP
from numina.datamodel import DataModel
from numina.drps import get_system_drps
from numina.drps.drpbase import DrpGeneric
from numina.exceptions import ValidationError
from numina.util.convert import convert_date

from crdetect.profiles import GENERIC

# The messages are printed in the way of numina's own.
_logger = logging.getLogger("numina")

# Mode of megaradrp that the pipeline crdetect replaces, and the recipe that does so.
_MEGARA_MODE = "MegaraCrDetection"
_MEGARA_RECIPE = "crdetect.megara.MegaraCrDetectionRecipe"


class AnyImage(DataModel):
    """Data model of images of any instrument, which needs no key of the header."""

    def default_mappings(self) -> dict[str, Any]:
        """Return the origins of the values that numina asks for.

        The instrument is CRDETECT, whatever INSTRUME is. Its profile is the generic one until the
        recipe, which has all profiles at hand, selects another one.
        """
        return super().default_mappings() | {
            "instrument": lambda _image: "CRDETECT",
            "insconf": lambda _image: GENERIC,
            "observation_date": ("DATE-OBS", 0, _date),
        }


def _date(value: Any) -> dt.datetime | None:
    # headers have dates in many formats; an unknown one must not stop the run
    try:
        date = convert_date(value)
    except (TypeError, ValueError):
        return None
    return date and date.replace(tzinfo=None)


def load_drp() -> InstrumentDRP:
    """Load the instrument CRDETECT (entry point of ``numina.pipeline.1``)."""
    return drp_load("crdetect", "drp.yaml")


class StoppedByPerson(ValidationError):  # noqa: N818 (nothing is wrong)
    """A person stopped the reduction of an observing block.

    numina prints one ``ERROR:`` line for a ValidationError, without a traceback, and records in
    ``task.json`` that the task failed. The exit code is 1, or 3 after a call of `register`.
    """


def register(subparsers: Any, _config: Any) -> None:
    """Prepare the command ``numina`` (entry point of ``numina.plugins.1``).

    numina calls the entry points of this group when its command starts, before it parses the
    arguments, so that they can add subcommands. This one adds none. It makes ``numina run`` exit
    with 3 if a person stopped the run, and adds the pipeline ``crdetect`` to MEGARA. An entry point
    MEGARA of the group ``numina.pipeline.1`` could not do the latter: megaradrp has one of this
    name, and numina uses the one that it loads last.

    Parameters
    ----------
    subparsers : argparse._SubParsersAction
        numina's subcommands.
    """
    run = subparsers.choices["run"]
    run.set_defaults(command=_exiting_with_3_if_stopped(run.get_default("command")))
    extend_megara(get_system_drps())


def _exiting_with_3_if_stopped(command: Callable[..., int | None]) -> Callable[..., int | None]:
    def run(*arguments: Any) -> int | None:
        _enable_loggers()
        try:
            return command(*arguments)
        except StoppedByPerson as stopped:
            _logger.error("%s", stopped)  # noqa: TRY400 (no traceback)
            return 3

    return run


def _enable_loggers() -> None:
    """Enable the loggers of crdetect.

    numina configures logging after it has loaded the entry points of its command, and this
    configuration disables all loggers that exist already.
    """
    for name, logger in logging.root.manager.loggerDict.items():
        if name.partition(".")[0] == "crdetect" and isinstance(logger, logging.Logger):
            logger.disabled = False


def extend_megara(drps: DrpGeneric) -> None:
    """Add the pipeline ``crdetect`` to the instrument MEGARA.

    Nothing is added if megaradrp is not installed, or if the pipeline exists already.

    Parameters
    ----------
    drps : numina.drps.drpbase.DrpGeneric
        The instruments that numina has loaded; MEGARA gets the pipeline.
    """
    drp = drps.query_all().get("MEGARA")
    if drp is None or "crdetect" in drp.pipelines:
        return
    pipeline = copy.copy(drp.pipelines["default"])
    pipeline.name = "crdetect"
    pipeline.recipes = pipeline.recipes | {_MEGARA_MODE: {"class": _MEGARA_RECIPE}}
    drp.pipelines["crdetect"] = pipeline
    _share_defaults(drp)


def _share_defaults(drp: InstrumentDRP) -> None:
    """Copy megaradrp's default requirements to the pipeline, for the modes that both have."""
    requirements = drp._def_reqs.get("requirements", {})  # noqa: SLF001 (others get copies of it)
    for pipelines in requirements.get(drp.name, {}).values():
        shared = copy.deepcopy(pipelines.get("default", {}))  # since numina changes them in place
        shared.pop(_MEGARA_MODE, None)
        pipelines.setdefault("crdetect", shared)


def check_frames(_mode: Any, block: Any, _backend: Any, _options: Any = None) -> Any:
    """Check the frames of an observing block for faults at which numina fails with a traceback.

    numina calls this function, the *builder* of a mode, in the data folder, before it opens frames.

    Returns
    -------
    numina.core.oresult.ObservationResult
        The observing block, unchanged.

    Raises
    ------
    numina.exceptions.ValidationError
        If a frame is missing or given twice, or the first one is not FITS.
    """
    names = [frame.filename for frame in block.frames]
    faults = _faults_of_names(names)
    if names and not faults:
        try:
            with fits.open(names[0]):
                pass
        except OSError as error:
            faults.append(f"{names[0]} cannot be read as FITS: {str(error).splitlines()[0]}")
    if faults:
        raise ValidationError(f"block {block.id}: frames: " + "; ".join(faults))
    return block


def _faults_of_names(names: list[str]) -> list[str]:
    missing = [name for name in names if not Path(name).is_file()]
    if missing:
        return [f"no file {', '.join(missing)} in the data folder {Path.cwd()} (see --datadir)"]
    files = Counter(Path(name).resolve() for name in names)
    twice = [path.name for path, n in files.items() if n > 1]
    if twice:
        return [f"{', '.join(twice)} is given twice: exposures must be different files"]
    tails = Counter(Path(name).name for name in names)
    # numina identifies files by the key UUID, or else by their names without the folder
    clash = [name for name in names if tails[Path(name).name] > 1 and "UUID" not in _header(name)]
    if clash:
        return [f"{', '.join(clash)}: files of the same name without the key UUID; rename them"]
    return []


def _header(name: str) -> fits.Header:
    try:
        return fits.getheader(name)
    except OSError:
        return fits.Header()
