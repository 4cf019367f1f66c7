"""The methods that are judged: the library, and the peer as a program of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

import crdetect
from benchmarks.quality.fields import Case
from benchmarks.quality.metrics import Answer
from benchmarks.run import (
    NEED_COSMIC_CONN,
    NEED_PYCOSMIC,
    PEER_WITH_CONN,
    answers,
    interpreter_of,
    write_params,
)

Method = Callable[[Case], Answer]
"""Anything that answers a case; it must not look at the truth."""


class PeerError(RuntimeError):
    """The peer ended with an error."""


@dataclass(frozen=True)
class Ours:
    """The library with a crmethod and other parameters.

    Attributes
    ----------
    crmethod : str
        Its crmethod.
    chosen : mapping
        Other parameters; the defaults where nothing is said.
    workers : int or None
        Threads.
    """

    crmethod: str
    chosen: Mapping[str, Any] = field(default_factory=dict)
    workers: int | None = None

    def __call__(self, case: Case) -> Answer:
        """Detect and combine."""
        parameters = crdetect.Parameters.from_mapping({"crmethod": self.crmethod, **self.chosen})
        stack = crdetect.Stack(case.exposures_adu)
        noise = noise_of(case)
        detection = crdetect.detect(stack, noise, parameters, self.workers)
        combined = detection.combine(stack, noise)["meancr2"].value
        return Answer(detection.masks.mediancr, detection.masks.crmasks, combined)


_PYCOSMIC = Path(__file__).with_name("pycosmic_stand_in.py")
_PYCOSMIC_METADATA = "Metadata-Version: 2.1\nName: PyCosmic\nVersion: 0.6\n"


@dataclass(frozen=True)
class Peer:
    """The peer's program with a crmethod and other parameters.

    Attributes
    ----------
    crmethod : str
        Its crmethod.
    command : Path
        The program.
    chosen : mapping
        Other parameters; those of its documentation's example where nothing is said.
    """

    crmethod: str
    command: Path
    chosen: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, case: Case) -> Answer:
        """Run it on files, in a folder that does not stay.

        Raises
        ------
        PeerError
            If it ends with an error.
        """
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            self._write(case, folder)
            done = subprocess.run(
                self._command(folder),
                cwd=folder,
                env=os.environ | {"MPLBACKEND": "Agg", "PYTHONPATH": self._python_path(folder)},
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
            )
            if done.returncode:
                last = (done.stdout + done.stderr).strip().splitlines()[-1:] or ["no output"]
                raise PeerError(f"exit {done.returncode}: {last[0].strip()}")
            return read_answer(folder / "out")

    def _write(self, case: Case, folder: Path) -> None:
        names = [f"exposure_{i}.fits" for i in range(1, len(case.exposures_adu) + 1)]
        for name, image in zip(names, case.exposures_adu, strict=True):
            fits.PrimaryHDU(image).writeto(folder / name)
        chosen = {"crmethod": self.crmethod, **self.chosen}
        write_params(folder / "params.yaml", names, noise_of(case), chosen)

    def _command(self, folder: Path) -> list[str | Path]:
        started = [self.command]
        if self.crmethod in NEED_COSMIC_CONN:
            started = [interpreter_of(self.command), "-c", PEER_WITH_CONN]
        return [*started, folder / "params.yaml", "--output_dir", folder / "out"]

    def _python_path(self, folder: Path) -> str:
        """Add a PyCosmic where one is needed and missing."""
        paths = [os.environ["PYTHONPATH"]] if os.environ.get("PYTHONPATH") else []
        if self.crmethod in NEED_PYCOSMIC and answers(self.command, "import PyCosmic") is None:
            shutil.copy(_PYCOSMIC, folder / "PyCosmic.py")
            metadata = folder / "PyCosmic-0.6.dist-info"  # the peer asks for its version
            metadata.mkdir()
            (metadata / "METADATA").write_text(_PYCOSMIC_METADATA)
            paths.insert(0, str(folder))
        return os.pathsep.join(paths)


def read_answer(folder: Path) -> Answer:
    """Read what a program left in a folder."""
    with fits.open(folder / "crmasks.fits") as hdul:
        mediancr = hdul["MEDIANCR"].data > 0
        names = [hdu.name for hdu in hdul if hdu.name.startswith("CRMASK")]
        crmasks = np.stack([hdul[f"CRMASK{i + 1}"].data > 0 for i in range(len(names))])
    return Answer(mediancr, crmasks, fits.getdata(folder / "combined_meancr2.fits"))


def noise_of(case: Case) -> crdetect.Noise:
    """Noise of a case, as it is given to a method."""
    return crdetect.Noise(case.gain, case.rnoise_e / case.gain)
