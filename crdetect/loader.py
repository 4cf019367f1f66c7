"""The way into numina: the instrument CRDETECT, which takes images of any instrument."""

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

_logger = logging.getLogger("numina")  # prints as numina itself does

_MEGARA_MODE = "MegaraCrDetection"
_MEGARA_RECIPE = "crdetect.megara.MegaraCrDetectionRecipe"


class AnyImage(DataModel):
    """Data model of images of any instrument: no key of the header is needed."""

    def default_mappings(self) -> dict[str, Any]:
        """Define where values come from.

        The instrument is CRDETECT whatever INSTRUME says, its profile the generic one, until a
        recipe, which knows all the profiles, recognises another.
        """
        return super().default_mappings() | {
            "instrument": lambda _image: "CRDETECT",
            "insconf": lambda _image: GENERIC,
            "observation_date": ("DATE-OBS", 0, _date),
        }


def _date(value: Any) -> dt.datetime | None:
    # dates in other formats are legion, and no reason to stop
    try:
        date = convert_date(value)
    except (TypeError, ValueError):
        return None
    return date and date.replace(tzinfo=None)


def load_drp() -> InstrumentDRP:
    """Load the instrument CRDETECT (entry point of ``numina.pipeline.1``)."""
    return drp_load("crdetect", "drp.yaml")


class StoppedByPerson(ValidationError):  # noqa: N818 (nothing is wrong)
    """A person stopped the reduction of a block.

    numina makes one ``ERROR:`` line of a ValidationError, without a traceback, and notes in
    ``task.json`` that the task failed. Its exit code is 1, or 3 where `register` was called.
    """


def register(subparsers: Any, _config: Any) -> None:
    """Prepare the command ``numina`` (entry point of ``numina.plugins.1``).

    numina calls the entry points of this group when its command starts, before it reads the
    arguments. They are meant to add subcommands. This one adds none, but lets ``numina run`` exit
    with 3 where a person stopped it, and adds our pipeline to MEGARA. An entry point of
    ``numina.pipeline.1`` could not do that: if it was named MEGARA, as megaradrp has one, it would
    count or not depending on which of the two numina happens to load last.

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
        try:
            return command(*arguments)
        except StoppedByPerson as stopped:
            _logger.error("%s", stopped)  # noqa: TRY400 (as numina does: nothing is wrong)
            return 3

    return run


def extend_megara(drps: DrpGeneric) -> None:
    """Add the pipeline ``crdetect`` to the instrument MEGARA.

    Nothing is done without megaradrp, or if the pipeline is there already.

    Parameters
    ----------
    drps : numina.drps.drpbase.DrpGeneric
        The instruments as numina loaded them; the one named MEGARA gets the pipeline.
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
    """Let megaradrp's defaults of requirements count in our pipeline, for the modes it shares."""
    requirements = drp._def_reqs.get("requirements", {})  # noqa: SLF001 (others get copies of it)
    for pipelines in requirements.get(drp.name, {}).values():
        shared = copy.deepcopy(pipelines.get("default", {}))  # numina changes them in place
        shared.pop(_MEGARA_MODE, None)
        pipelines.setdefault("crdetect", shared)


def check_frames(_mode: Any, block: Any, _backend: Any, _options: Any = None) -> Any:
    """Check the frames of an observing block for what numina itself would stumble over.

    numina calls this *builder* of a mode in the data folder, before it opens any frame.

    Returns
    -------
    numina.core.oresult.ObservationResult
        The block, as it came.

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
    # numina tells files of one name apart by the key UUID only
    clash = [name for name in names if tails[Path(name).name] > 1 and "UUID" not in _header(name)]
    if clash:
        return [f"{', '.join(clash)}: files of one name without the key UUID; rename them"]
    return []


def _header(name: str) -> fits.Header:
    try:
        return fits.getheader(name)
    except OSError:
        return fits.Header()
