"""The ways to make the Median-Minimum diagram: their time, and what they flag.

    python benchmarks/diagram.py                 # simulated against computed, 3 × 2016 × 1596
    python benchmarks/diagram.py --data FOLDER   # what each flags on real exposures

FOLDER has one folder for each set of exposures, with exposure_1.fits.gz to exposure_3.fits.gz of
GAIN and RDNOISE in their headers and, where cosmic rays were added, truth.fits.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from astropy.io import fits

import crdetect
from crdetect.exposures import read_exposures
from crdetect.masks import dilate, label_features
from crdetect.mm.analytic import CleanPixels
from crdetect.mm.parameters import MM
from crdetect.mm.scene import Expected, Scene
from crdetect.mm.simulation import simulate
from crdetect.parameters import Inputs
from crdetect.simulate import make_scene_e

SHAPE = (2016, 1596)
LEAST_EXPECTED = 5  # pixels of a bin, in all sets: for chi-square
NOISE = crdetect.Noise(gain=1.0, rnoise_adu=3.4)
RUNS = {
    "poisson": {},
    "nbinom auto": {"mm_photon_distribution": "nbinom", "mm_nbinom_shape": "auto"},
    "single": {"mm_synthetic": "single"},
    "analytic": {"mm_simulation": "analytic"},
    "analytic, 5 false": {"mm_simulation": "analytic", "mm_false_pixels": 5},
    "analytic, nbinom auto": {
        "mm_simulation": "analytic",
        "mm_photon_distribution": "nbinom",
        "mm_nbinom_shape": "auto",
    },
    "flux auto": {"flux_factor": "auto"},
    "flux and nbinom auto": {
        "flux_factor": "auto",
        "mm_photon_distribution": "nbinom",
        "mm_nbinom_shape": "auto",
    },
}


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description="Time and effect of the ways to the diagram.")
    parser.add_argument("--data", type=Path, help="folder with folders of exposures")
    parser.add_argument("--repeat", type=int, default=5, help="of the times: their median")
    options = parser.parse_args()
    if options.data is None:
        compare_times(options.repeat)
    else:
        for folder in sorted(path.parent for path in options.data.glob("*/exposure_3.fits.gz")):
            compare_masks(folder)


def compare_times(repeat: int) -> None:
    """Time the diagram by ten simulated sets, and computed."""
    rng = np.random.default_rng(1)
    signal = make_scene_e(SHAPE, rng)
    exposures = np.array([NOISE.draw_adu(signal, rng) for _ in range(3)])
    median = np.maximum(np.median(exposures, axis=0), 0).ravel()
    expected = Expected((median,), (1.0,) * 3, (NOISE,))
    scene = Scene(expected, 2, exposures.min(axis=0).ravel())
    mm = MM()

    def compute() -> None:
        pixels = CleanPixels.of(scene)
        pixels.diagram(pixels.limits(scene.min2d_adu, 2.0, mm))

    rows = {
        "simulated, 10 sets, 2 threads": _times(lambda: simulate(scene, 2.0, mm, 2), repeat),
        "computed, 1 thread": _times(compute, repeat),
    }
    print(f"{'3 × {} × {}'.format(*SHAPE):32}{'wall s':>10}{'CPU s':>10}")
    for name, (wall, cpu) in rows.items():
        print(f"{name:32}{wall:10.3f}{cpu:10.3f}")
    (wall, cpu), (wall_computed, cpu_computed) = rows.values()
    print(f"{'ratio':32}{wall / wall_computed:10.1f}{cpu / cpu_computed:10.1f}")
    simulated = simulate(scene, 2.0, mm, 2)
    expected = CleanPixels.of(scene).diagram(simulated.limits).counts * mm.mm_nsimulations
    filled = expected > LEAST_EXPECTED
    found = simulated.counts[filled] * mm.mm_nsimulations
    chi_square = np.mean(np.square(found - expected[filled]) / expected[filled])
    print(f"chi-square per bin {chi_square:.3f}, {filled.sum()} bins of {LEAST_EXPECTED} and more")


def _times(function: Callable[[], object], repeat: int) -> tuple[float, float]:
    pairs = []
    for _ in range(repeat):
        wall, cpu = time.perf_counter(), time.process_time()
        function()
        pairs.append((time.perf_counter() - wall, time.process_time() - cpu))
    walls, cpus = zip(*pairs, strict=True)
    return statistics.median(walls), statistics.median(cpus)


def compare_masks(folder: Path) -> None:
    """Tell what each way flags on one set of exposures."""
    header = fits.getheader(folder / "exposure_1.fits.gz")
    inputs = Inputs(
        images=[f"exposure_{i}.fits.gz" for i in (1, 2, 3)],
        gain=header["GAIN"],
        rnoise=header["RDNOISE"] / header["GAIN"],
    )
    exposures = read_exposures(inputs, folder)
    print(
        f"\n{folder.name:24}{'MEDIANCR px':>12}{'features':>10}{'found':>9}{'false px':>10}  used"
    )
    for name, values in RUNS.items():
        parameters = crdetect.Parameters.from_mapping(values)
        detection = crdetect.detect(exposures.stack, exposures.noise, parameters)
        mask = detection.masks.mediancr
        found, false_px = _score(folder / "truth.fits", exposures, mask)
        n, _ = label_features(mask)
        used = {key: value for key, value in detection.used().items() if key != "mm_seed"}
        print(f"{name:24}{mask.sum():12d}{n:10d}{found:>9}{false_px:>10}  {used or ''}")


def _score(truth: Path, exposures, mask: np.ndarray) -> tuple[str, str]:
    """Completeness and false pixels, where the truth is known."""
    if not truth.exists():
        return "", ""
    with fits.open(truth) as hdul:
        charge_e = np.stack([hdul[f"CHARGE{i}"].data for i in (1, 2, 3)])
    gain, rnoise_e = exposures.noise.gain, exposures.noise.rnoise_e
    clean_e = np.median(exposures.stack.exposures * gain - charge_e, axis=0)
    sigma_e = np.sqrt(np.maximum(clean_e, 0) + rnoise_e**2)
    double = (charge_e > 5 * sigma_e).sum(axis=0) >= 2
    near = dilate((charge_e > sigma_e).sum(axis=0) >= 2, 1)
    return f"{(mask & double).sum()}/{double.sum()}", str((mask & ~near).sum())


if __name__ == "__main__":
    main()
