"""The four detectors of one image on the same exposures: what they find, and what it takes.

One image at a time, detector alone, parameters by default: no Median-Minimum diagram, no other
exposure. The simulated exposure is made here; real ones are read from a folder, if there is one
(``../shared/data`` beside the project). See README.md.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from astropy.io import fits
from rich.console import Console
from rich.table import Table

from crdetect import Noise, Parameters
from crdetect.detectors import make_detector
from crdetect.masks import dilate, label_features
from crdetect.resources import Resources
from crdetect.simulate import simulate_exposures

SHAPE, RNOISE_E, SEED = (2016, 1596), 3.4, 20260
DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
STRONG, WEAK = 5.0, 1.0  # σ of a pixel's noise
CR_IN_DARK_E = 27.0  # above this a pixel of the darks is a cosmic ray's

DETECTORS: dict[str, dict[str, Any]] = {
    "lacosmic": {"crmethod": "lacosmic"},
    "pycosmic": {"crmethod": "pycosmic"},
    "deepcr, ACS-WFC": {"crmethod": "deepcr"},
    "deepcr, WFC3-UVIS, 0.1": {"crmethod": "deepcr", "dc_mask": "WFC3-UVIS", "dc_threshold": 0.1},
    "conn, ground_imaging": {"crmethod": "conn"},
    "conn, NRES": {"crmethod": "conn", "nn_model": "NRES"},
    "conn, HST_ACS_WFC": {"crmethod": "conn", "nn_model": "HST_ACS_WFC"},
}


class Case(NamedTuple):
    """An exposure, and the truth.

    Attributes
    ----------
    image_adu : (rows, columns) array of float32
        Bias removed.
    noise : Noise
        Gain and read noise.
    strong : (rows, columns) array of bool
        Hit above 5 σ: what should be found.
    hit : (rows, columns) array of bool
        Hit above 1 σ: what may be found. Farther than a pixel from these, all is false.
    """

    image_adu: np.ndarray
    noise: Noise
    strong: np.ndarray
    hit: np.ndarray


class Measured(NamedTuple):
    """What a detector found and took; `found` is the share of the pixels hit above 5 σ."""

    found: float
    false_px: int
    false_features: int
    wall_s: float
    peak_bytes: float


# ---------------------------------------------------------------------------------------------
# The exposures


def simulated() -> Case:
    """Make an exposure of fibre traces and lines: the first of `run.py`."""
    simulation = simulate_exposures(
        SHAPE, gain=1.0, rnoise_adu=RNOISE_E, hit_fraction=0.006, seed=SEED
    )
    charge_e = simulation.charge_e[0]
    sigma_e = np.sqrt(simulation.signal_e + RNOISE_E**2)
    hits = charge_e > STRONG * sigma_e, charge_e > WEAK * sigma_e
    return Case(simulation.exposures_adu[0], Noise(1.0, RNOISE_E), *hits)


def isis(data: Path) -> Case:
    """Read an exposure of WHT/ISIS to which cosmic rays of darks were added."""
    folder = data / "isis_red_injected"
    image, header = fits.getdata(folder / "exposure_1.fits.gz", header=True)
    charge_e = fits.getdata(folder / "truth.fits", "CHARGE1")
    gain, rnoise_e = header["GAIN"], header["RDNOISE"]
    sigma_e = np.sqrt(np.maximum(image * gain - charge_e, 0) + rnoise_e**2)
    hits = charge_e > STRONG * sigma_e, charge_e > WEAK * sigma_e
    return Case(image.astype(np.float32), Noise(gain, rnoise_e / gain), *hits)


def stis(data: Path) -> Case:
    """Read a dark of HST/STIS: cosmic rays, and nothing else but hot pixels."""
    image, header = fits.getdata(data / "stis_dark" / "quadrant_0.fits.gz", header=True)
    gain, rnoise_e = header["GAIN"], header["RDNOISE"]
    image = image.astype(np.float32)
    hits = image * gain > CR_IN_DARK_E, image * gain > 3 * rnoise_e
    return Case(image, Noise(gain, rnoise_e / gain), *hits)


# ---------------------------------------------------------------------------------------------
# Measuring


def measure(
    make: Callable[..., Case], arguments: tuple, chosen: dict[str, Any], workers: int
) -> Measured:
    """Run a detector on an exposure. In a process of its own, for the sake of peak memory."""
    case = make(*arguments)
    detector = make_detector(Parameters.from_mapping(chosen), Resources(workers))
    detector.check(case.image_adu.shape)
    detector.detect(case.image_adu[:64, :64], case.noise)  # imports; weights
    start = time.perf_counter()
    mask = detector.detect(case.image_adu, case.noise).mask
    wall = time.perf_counter() - start
    near = dilate(case.hit, 1)
    n, labels = label_features(mask)
    unit = 1 if sys.platform == "darwin" else 1024
    return Measured(
        float(mask[case.strong].mean()),
        np.count_nonzero(mask & ~near),
        n - np.unique(labels[mask & near]).size,
        wall,
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit,
    )


def tabulate(title: str, measured: Iterable[tuple[str, Measured]]) -> Table:
    """Make the table of one exposure."""
    table = Table(title=title, title_justify="left")
    table.add_column("detector")
    for name in ("found", "false px", "false features", "wall s", "peak GB"):
        table.add_column(name, justify="right")
    for name, result in measured:
        found, false_px, features, wall, peak = result
        table.add_row(
            name, f"{found:.3f}", str(false_px), str(features), f"{wall:.1f}", f"{peak / 1e9:.2f}"
        )
    return table


def main() -> int:
    """Measure each detector on each exposure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA, metavar="DIR", help="real exposures")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), metavar="N", help="threads")
    options = parser.parse_args()
    console = Console(highlight=False)
    cases: dict[str, tuple] = {f"simulated, {SHAPE[0]} × {SHAPE[1]}": (simulated, ())}
    if options.data.is_dir():
        cases["WHT/ISIS with cosmic rays added, 1024 × 666"] = (isis, (options.data,))
        cases["HST/STIS dark, 512 × 512"] = (stis, (options.data,))
    else:
        console.print(f"no folder {options.data}: the simulated exposure only")
    for title, (make, arguments) in cases.items():
        results = []
        for name, chosen in DETECTORS.items():
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                job = pool.submit(measure, make, arguments, chosen, options.workers)
                results.append((name, job.result()))
        console.print(tabulate(title, results))
    console.print(
        f"{options.workers} threads; found: of the pixels hit above 5 σ (darks: above 27 e); "
        "false: farther than a pixel from any hit above 1 σ"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
