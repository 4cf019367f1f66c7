"""Sets of exposures: simulated fields, one for each seed, and real exposures."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from astropy.io import fits

from benchmarks.quality.fields import VARIANTS, Case, Settings, make_case
from benchmarks.quality.stamps import (
    Stamp,
    drawn_tracks,
    read_dark_tracks,
    read_stamps,
    straight_tracks,
)
from crdetect.errors import InputError

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
REAL = ("kast_blue_3x1200", "isis_red_3x100", "isis_red_injected")
PEER_INPUT = "peer_input"
TARGETED = ("equivalent", "mild", "strong", *REAL)

FIELDS = {name: Settings(variant=variant) for name, variant in VARIANTS.items()} | {
    "rnoise 2": Settings(rnoise_e=2.0),
    "rnoise 8": Settings(rnoise_e=8.0),
    "hits 0.1 %": Settings(hit_share=0.001, coincidences=20),
    "dots too": Settings(smallest_px=1),
    "hits 5 %": Settings(hit_share=0.05, coincidences=0),
    "gain 1.73": Settings(gain=1.73),
    "unstated noise": Settings(rnoise_e=3.0, unstated_e=2.0),
    "bright": Settings(brightness=10.0),
    "faint": Settings(brightness=0.1),
    "4 exposures": Settings(nexposures=4),
    "5 exposures": Settings(nexposures=5),
    "no diffusion": Settings(diffusion_px=0.0),
}
"""Simulated fields by name: the variants of issue 7, and what it says of noise, hits and light."""

_HARD = {"rnoise_e": 2.0, "hit_share": 0.03, "brightness": 3.0}
FIELDS |= {f"hard {name}": replace(FIELDS[name], **_HARD) for name in ("mild", "strong", "seeing")}

TRACKS = ("lsst", "stis", "drawn")
"""Kinds of cosmic rays: of LSST darks, of a dark of HST/STIS, drawn by `crdetect.simulate`."""


@dataclass(frozen=True)
class Library:
    """Where cases come from.

    Attributes
    ----------
    data : Path
        Folder with real exposures and the catalogue of cosmic rays; what is missing is left out.
    stamps : tuple of Stamp
        Cosmic rays for the fields.
    """

    data: Path
    stamps: tuple[Stamp, ...]

    @classmethod
    def at(cls, data: Path, tracks: str = "lsst") -> Library:
        """Read or draw the cosmic rays; without the LSST catalogue they are straight tracks.

        Raises
        ------
        InputError
            If the folder has no STIS dark, and its tracks are wanted.
        """
        if tracks == "drawn":
            return cls(data, drawn_tracks())
        if tracks == "stis":
            stamps = read_dark_tracks(data)
            if stamps is None:
                raise InputError(f"no stis_dark in {data}: there are no tracks of it")
            return cls(data, stamps)
        return cls(data, read_stamps(data) or straight_tracks())

    @property
    def names(self) -> list[str]:
        """Names of the sets that there are."""
        reference = [PEER_INPUT] if self._peer_input.is_dir() else []
        return [*FIELDS, *reference, *(name for name in REAL if (self.data / name).is_dir())]

    @property
    def _peer_input(self) -> Path:
        return self.data.parent / "peer" / "input"

    def cases(self, name: str, seeds: range) -> Iterator[tuple[int, Case]]:
        """Yield the cases of a set with their seeds; those read from files once, with seed 0."""
        if name in REAL:
            yield 0, read_real(self.data / name)
            return
        if name == PEER_INPUT:
            yield 0, read_peer_input(self._peer_input)
            return
        for seed in seeds:
            yield seed, make_case(name, FIELDS[name], self.stamps, seed)


def read_real(folder: Path) -> Case:
    """Read three real exposures and, where there is one, the truth.

    The expected signal is unknown: the median of the exposures less what was added.
    """
    paths = [folder / f"exposure_{i}.fits.gz" for i in (1, 2, 3)]
    exposures = np.stack([fits.getdata(path).astype(np.float32) for path in paths])
    header = fits.getheader(paths[0])
    charge = np.zeros_like(exposures)
    if (folder / "truth.fits").is_file():
        with fits.open(folder / "truth.fits") as hdul:
            charge = np.stack([hdul[f"CHARGE{i}"].data for i in (1, 2, 3)]).astype(np.float32)
    gain = float(header["GAIN"])
    clean = np.median(exposures * np.float32(gain) - charge, axis=0)
    signal = np.broadcast_to(np.maximum(clean, 0), exposures.shape)
    rnoise = float(header["RDNOISE"])
    nowhere = np.zeros(exposures.shape[1:], bool)
    return Case(folder.name, exposures, gain, rnoise, signal, charge, nowhere, simulated=False)


def read_peer_input(folder: Path) -> Case:
    """Read the simulated exposures of which the peer's masks are known."""
    exposures = [fits.getdata(folder / f"sim_{i}.fits.gz") for i in (1, 2, 3)]
    signal = fits.getdata(folder / "truth.fits.gz")
    with fits.open(folder / "truth_cr.fits") as hdul:
        charge = np.stack([hdul[f"CRE{i}"].data for i in (1, 2, 3)])
    settings = json.loads((folder / "sim.json").read_text())
    return Case(
        PEER_INPUT,
        np.stack(exposures).astype(np.float32),
        settings["gain"],
        settings["rnoise"],
        np.broadcast_to(signal, charge.shape),
        charge,
        np.zeros(signal.shape, bool),
    )
