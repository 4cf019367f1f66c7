"""Runs of numina in folders of their own, and exposures for them."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from astropy.io import fits

from crdetect.tables import read_parameters

NUMINA = Path(sys.executable).with_name("numina")
PROFILE = "c5f9de80-1a87-419d-a8e5-9c207d680bc0"
FRAMES = ["exposure_1.fits", "exposure_2.fits", "exposure_3.fits"]
COMBINED = [
    f"combined_{name}.fits"
    for name in ("mean", "median", "min", "mediancr", "meancrt", "meancr", "meancr2")
]
DOUBLE = [(30, 40), (10, 20), (10, 21), (10, 22)]  # row, column: hit in exposures 1 and 2
SINGLE = [(45, 10), (45, 20), (45, 30)]  # hit in one exposure each
GAIN, RDNOISE_E = 1.5, 3.0


@dataclass(frozen=True)
class Run:
    folder: Path
    code: int
    text: str

    @property
    def errors(self):
        return [line for line in self.text.splitlines() if "ERROR" in line]

    def results(self, block="1"):
        return self.folder / f"obsid{block}_results"

    def values(self, block="1"):
        return json.loads((self.results(block) / "result.json").read_text())["values"]

    def open(self, name, block="1"):
        return fits.open(self.results(block) / name, memmap=False)

    def parameters(self, block="1"):
        with self.open("crmasks.fits", block) as hdul:
            return read_parameters(hdul).to_mapping()


def run_once(filled_once, name, run):
    """Give a run that one process of the tests makes, in a folder that all may read."""

    def fill(folder):
        done = run(folder)
        return done.code, done.text

    folder, (code, text) = filled_once(name, fill)
    return Run(folder, code, text)


def block(mode="CrDetection", number="1", frames=FRAMES, **requirements):
    described = {"id": number, "instrument": "CRDETECT", "mode": mode, "frames": list(frames)}
    return described | ({"requirements": requirements} if requirements else {})


def control_file(profile=PROFILE, mode="CrDetection", **values):
    """Make the content of a control file with values for one mode."""
    entries = [{"name": name, "tags": {}, "content": value} for name, value in values.items()]
    return {"version": 1, "requirements": {"CRDETECT": {profile: {"default": {mode: entries}}}}}


def numina(folder, *blocks, options=(), control=None, packages=None):
    """Run numina on blocks, in a folder that holds ``data``; packages is where others are."""
    (folder / "obs.yaml").write_text(yaml.safe_dump_all(blocks))
    if control is not None:
        (folder / "control.yaml").write_text(yaml.safe_dump(control))
        options = (*options, "-r", "control.yaml")
    command = [NUMINA, "run", "obs.yaml", *options]
    paths = [str(packages), *filter(None, [os.environ.get("PYTHONPATH")])] if packages else []
    environment = os.environ | ({"PYTHONPATH": os.pathsep.join(paths)} if paths else {})
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, env=environment
    )
    return Run(folder, done.returncode, done.stdout + done.stderr)


def write_exposures(folder, shape=(60, 80), frames=FRAMES, primary=True, **keys):
    """Write exposures with cosmic rays at known places; a list of values has one for each."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(20261)
    signal = 200.0 + 100.0 * np.exp(-0.5 * ((np.arange(shape[0]) - 25) / 4.0) ** 2)[:, np.newaxis]
    for i, name in enumerate(frames):
        electrons = rng.poisson(np.broadcast_to(signal, shape) * GAIN)
        image = (electrons + rng.normal(0, RDNOISE_E, shape)) / GAIN
        for row, column in DOUBLE if i < 2 else ():
            image[row, column] += 2000.0
        row, column = SINGLE[i]
        image[row, column] += 1000.0
        image = image.astype(np.float32)
        own = {key: value[i] if isinstance(value, list) else value for key, value in keys.items()}
        header = fits.Header({"OBJECT": "field"} | own)
        hdus = [fits.PrimaryHDU(image if primary else None, header)]
        if not primary:
            hdus += [
                fits.ImageHDU(np.zeros((4, 5, 6)), name="CUBE"),
                fits.ImageHDU(image, name="SCI"),
            ]
        fits.HDUList(hdus).writeto(folder / name)
