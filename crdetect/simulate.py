"""Simulated equivalent exposures with known cosmic rays, for first trials and for tests.

The scene resembles that of a fibre spectrograph: horizontal traces with continuum and emission
lines above a smooth background. Cosmic rays are straight tracks. All quantities are in electrons;
noise, gain and bias are applied last.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy
from astropy.io import fits

from crdetect.equality import by_value
from crdetect.errors import InputError
from crdetect.exposures import open_fits
from crdetect.masks import Masks, dilate, label_features
from crdetect.noise import Noise

# Constants of the scene, chosen by hand so that it resembles a fibre spectrograph.

# Distance between the traces of adjacent fibres, in pixels.
_TRACE_STEP_PX = 6.0
# Standard deviations of the profiles of a trace and of an emission line, in pixels.
_TRACE_SIGMA_PX = 1.2
_LINE_SIGMA_PX = 1.5
# Side, in pixels, of the square that each planted track has for itself.
_CELL_PX = 20
# Median of the charge in a pixel of a track, in electrons, and standard deviation of its natural
# logarithm (log-normal distribution).
_CHARGE_MEDIAN_E = 300.0
_CHARGE_SPREAD = 0.8


@by_value
@dataclass(frozen=True)
class Simulation:
    """Simulated exposures, and their true signal and cosmic rays.

    Attributes
    ----------
    exposures_adu : (N, rows, columns) array of float32
        The exposures, ADU, with bias.
    signal_e : (rows, columns) array of float32
        Expected signal without cosmic rays, electrons, before it is multiplied by the fluxes and
        moved by the offsets of the exposures.
    charge_e : (N, rows, columns) array of float32
        Charge of the cosmic rays, electrons.
    planted : (rows, columns) array of bool
        Pixels of double hits: tracks planted at the same place in two exposures.
    gain, rnoise_adu, bias_adu : float
        Gain (e/ADU), read noise (ADU) and bias (ADU).
    """

    exposures_adu: np.ndarray
    signal_e: np.ndarray
    charge_e: np.ndarray
    planted: np.ndarray
    gain: float
    rnoise_adu: float
    bias_adu: float


@dataclass(frozen=True)
class Settings:
    """Settings of a simulation.

    Attributes
    ----------
    shape : tuple of int
        Rows and columns.
    nexposures : int
        Number of exposures, three or more.
    gain, rnoise_adu, bias_adu : float
        Gain (e/ADU), read noise (ADU) and bias (ADU).
    hit_fraction : float
        Fraction of the pixels of each exposure that random tracks cover.
    double_hits : int
        Number of tracks that are planted at the same place in two exposures.
    seed : int
        Seed of the random numbers.
    flux : tuple of N float, optional
        Factors that multiply the signal of each exposure; 1 by default.
    offsets_px : tuple of N (x, y), optional
        Offsets by which the signal of each exposure is moved, in pixels; 0 by default.
    nbinom_shape : float
        Shape κ of the negative binomial distribution of photons, of variance λ + λ²/κ for λ
        electrons; infinite, which means a Poisson distribution, by default.

    Raises
    ------
    InputError
        If a value is not accepted.
    """

    shape: tuple[int, int] = (400, 500)
    nexposures: int = 3
    gain: float = 1.0
    rnoise_adu: float = 3.4
    bias_adu: float = 0.0
    hit_fraction: float = 0.006
    double_hits: int = 20
    seed: int = 1
    flux: tuple[float, ...] | None = None
    offsets_px: tuple[tuple[float, float], ...] | None = None
    nbinom_shape: float = np.inf

    def __post_init__(self):
        if self.nexposures < 3 or min(self.shape) < 32 or self.gain <= 0 or self.rnoise_adu < 0:
            raise InputError(
                "simulate needs at least 3 exposures of at least 32 × 32 pixels, gain > 0, "
                "rnoise ≥ 0"
            )
        if not 0 <= self.hit_fraction < 0.5 or self.double_hits < 0 or self.seed < 0:
            raise InputError("simulate needs 0 ≤ hit fraction < 0.5, double hits ≥ 0 and seed ≥ 0")
        if not np.isfinite([self.gain, self.rnoise_adu, self.bias_adu]).all():
            raise InputError("simulate needs finite numbers for gain, rnoise and bias")
        for name in ("flux", "offsets_px"):
            values = getattr(self, name)
            if values is not None and len(values) != self.nexposures:
                raise InputError(
                    f"simulate needs one of {name} for each of the {self.nexposures} exposures, "
                    f"not {len(values)}"
                )
        if not all(0 < factor < np.inf for factor in self.flux or ()):
            raise InputError("simulate needs a flux > 0")
        if not np.isfinite(self.offsets_px or 0).all():
            raise InputError("simulate needs finite offsets")
        if not self.nbinom_shape > 0:
            raise InputError("simulate needs a shape of the negative binomial distribution > 0")


def simulate_exposures(
    shape: tuple[int, int] = (400, 500), nexposures: int = 3, **settings: Any
) -> Simulation:
    """Simulate exposures with cosmic rays; they are equivalent unless fluxes or offsets are given.

    Parameters
    ----------
    shape : tuple of int
        Rows and columns.
    nexposures : int
        Number of exposures, three or more.
    **settings : Any
        The other attributes of `Settings`.

    Returns
    -------
    Simulation
        The exposures, their true signal and their cosmic rays.

    Raises
    ------
    InputError
        If a value is not accepted.
    """
    made = Settings(shape, nexposures, **settings)
    rng = np.random.default_rng(made.seed)
    signal = make_scene_e(shape, rng)
    charge = np.stack([make_tracks_e(shape, made.hit_fraction, rng) for _ in range(nexposures)])
    planted = _plant(charge, made.double_hits, rng)
    noise = Noise(made.gain, made.rnoise_adu, made.nbinom_shape)
    exposures = np.stack(
        [
            noise.draw_adu((expected + hits) / made.gain, rng) + np.float32(made.bias_adu)
            for expected, hits in zip(_signals_e(signal, made), charge, strict=True)
        ]
    )
    return Simulation(exposures, signal, charge, planted, made.gain, made.rnoise_adu, made.bias_adu)


def _signals_e(signal_e: np.ndarray, made: Settings) -> Iterator[np.ndarray]:
    """Yield the expected signal of each exposure, electrons."""
    flux = made.flux or (1.0,) * made.nexposures
    offsets = made.offsets_px or ((0.0, 0.0),) * made.nexposures
    for factor, (x, y) in zip(flux, offsets, strict=True):
        moved = scipy.ndimage.shift(signal_e, (y, x), mode="nearest") if x or y else signal_e
        yield factor * np.maximum(moved, 0)


def make_scene_e(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Make the expected signal of traces, emission lines and background, in electrons."""
    rows, columns = np.arange(shape[0])[:, np.newaxis], np.arange(shape[1])
    centres = np.arange(_TRACE_STEP_PX, shape[0], _TRACE_STEP_PX)
    profiles = np.exp(-0.5 * ((rows - centres) / _TRACE_SIGMA_PX) ** 2)
    brightness = 10 ** rng.uniform(0.5, 2.7, centres.size)
    slope = 1 + 0.4 * np.sin(2 * np.pi * columns / shape[1])
    lines = sum(
        10 ** rng.uniform(1.5, 3.2) * np.exp(-0.5 * ((columns - x) / _LINE_SIGMA_PX) ** 2)
        for x in rng.uniform(0, shape[1], max(4, shape[1] // 60))
    )
    spectra = brightness[:, np.newaxis] * slope + lines
    return (profiles @ spectra + 5.0).astype(np.float32)


def make_tracks_e(
    shape: tuple[int, int], hit_fraction: float, rng: np.random.Generator
) -> np.ndarray:
    """Make the cosmic rays of an exposure: the charge of straight tracks, in electrons.

    Parameters
    ----------
    shape : tuple of int
        Rows and columns.
    hit_fraction : float
        Fraction of the pixels that the tracks cover, on average.
    rng : numpy.random.Generator
        Source of random numbers.

    Returns
    -------
    (rows, columns) array of float32
        The charge; 0 at pixels that were not hit.
    """
    charge = np.zeros(shape, np.float32)
    mean_length = 8.0
    number = rng.poisson(hit_fraction * charge.size / mean_length)
    _add_tracks(charge, _random_tracks(shape, number, mean_length, rng), rng)
    return charge


def _plant(charge: np.ndarray, number: int, rng: np.random.Generator) -> np.ndarray:
    """Add tracks at the same places in two of the exposures; return their pixels.

    Each track has a cell of the image for itself, so that tracks do not touch each other.
    """
    planted = np.zeros(charge.shape[1:], bool)
    rows, columns = (size // _CELL_PX for size in planted.shape)
    if number > rows * columns:
        raise InputError(f"simulate has room for {rows * columns} double hits, not {number}")
    cell = rng.choice(rows * columns, number, replace=False)
    y0, x0 = ((index + 0.5) * _CELL_PX for index in np.divmod(cell, columns))
    length = np.minimum(rng.geometric(1 / 6.0, number), _CELL_PX // 2 - 1)
    planted[_tracks(y0, x0, length, rng.uniform(0, 2 * np.pi, number))] = True
    for i in (0, 1):
        charge[i, planted] += _track_charge(np.count_nonzero(planted), rng) + 200.0
    return planted


def _random_tracks(
    shape: tuple[int, int], number: int, mean_length: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw straight tracks with random start, direction and (geometric) length; return pixels."""
    length = rng.geometric(1 / mean_length, number)
    angle = rng.uniform(0, np.pi, number)
    y, x = _tracks(
        rng.uniform(0, shape[0], number), rng.uniform(0, shape[1], number), length, angle
    )
    inside = (y >= 0) & (y < shape[0]) & (x >= 0) & (x < shape[1])
    return y[inside], x[inside]


def _tracks(
    y0: np.ndarray, x0: np.ndarray, length: np.ndarray, angle: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the pixels (y, x) of straight tracks from their starts, lengths and directions."""
    step = np.arange(length.max(initial=1))
    on_track = step < length[:, np.newaxis]
    y = y0[:, np.newaxis] + step * np.sin(angle)[:, np.newaxis]
    x = x0[:, np.newaxis] + step * np.cos(angle)[:, np.newaxis]
    return np.floor(y[on_track]).astype(int), np.floor(x[on_track]).astype(int)


def _add_tracks(
    charge: np.ndarray, pixels: tuple[np.ndarray, np.ndarray], rng: np.random.Generator
) -> None:
    np.add.at(charge, pixels, _track_charge(pixels[0].size, rng))


def _track_charge(number: int, rng: np.random.Generator) -> np.ndarray:
    return rng.lognormal(np.log(_CHARGE_MEDIAN_E), _CHARGE_SPREAD, number).astype(np.float32)


# ---------------------------------------------------------------------------------------------
# Files

SIMULATED_PATTERNS = (
    "data/exposure_[0-9]*.fits",
    "truth.fits",
    "params.yaml",
    "obs.yaml",
    "control.yaml",
)
"""Names of the files of a simulation; a new simulation removes those of an earlier one."""

_PARAMS = """\
# crdetect run params.yaml --output-dir results
images: [{images}]
extnum: 0
gain: {gain}
rnoise: {rnoise}
bias: {bias}
requirements:
  crmethod: mm_pycosmic
"""

_OBS = """\
# numina run obs.yaml -r control.yaml
id: "1"
instrument: CRDETECT
mode: CrDetection
frames: [{frames}]
"""

_CONTROL = """\
# parameters of numina run, by instrument, profile, pipeline and mode
version: 1
requirements:
  CRDETECT:
    c5f9de80-1a87-419d-a8e5-9c207d680bc0:
      default:
        CrDetection:
          - {{name: crmethod, tags: {{}}, content: mm_pycosmic}}
          - {{name: gain, tags: {{}}, content: {gain}}}
          - {{name: rnoise, tags: {{}}, content: {rnoise}}}
          - {{name: bias, tags: {{}}, content: {bias}}}
"""


def write_simulation(simulation: Simulation, folder: Path) -> list[Path]:
    """Write the exposures, the truth, and files with which the command and numina reduce them.

    Parameters
    ----------
    simulation : Simulation
        The simulation.
    folder : Path
        Existing folder for data/exposure_1…N.fits, truth.fits (SIGNAL, CHARGE1…N, PLANTED;
        electrons), params.yaml for the command, obs.yaml and control.yaml for numina.

    Returns
    -------
    list of Path
        The files.
    """
    names = []
    (folder / "data").mkdir(exist_ok=True)
    for i, exposure in enumerate(simulation.exposures_adu, start=1):
        hdu = fits.PrimaryHDU(exposure)
        hdu.header["OBJECT"] = "crdetect simulation"
        hdu.header["EXPTIME"] = (1200.0, "s")
        hdu.header["DATE-OBS"] = f"2026-01-01T{i:02d}:00:00"
        hdu.header["GAIN"] = (simulation.gain, "e/ADU")
        hdu.header["RDNOISE"] = (simulation.rnoise_adu * simulation.gain, "e")
        hdu.header["BUNIT"] = "adu"
        names.append(f"exposure_{i}.fits")
        hdu.writeto(folder / "data" / names[-1])
    truth = [fits.PrimaryHDU(), fits.ImageHDU(simulation.signal_e, name="SIGNAL")]
    truth[1].header["RDNOISE"] = (simulation.rnoise_adu * simulation.gain, "e")
    truth += [
        fits.ImageHDU(charge, name=f"CHARGE{i}")
        for i, charge in enumerate(simulation.charge_e, start=1)
    ]
    truth.append(fits.ImageHDU(simulation.planted.astype(np.uint8), name="PLANTED"))
    fits.HDUList(truth).writeto(folder / "truth.fits")
    numbers = {
        "images": ", ".join(f"data/{name}" for name in names),
        "frames": ", ".join(names),
        "gain": simulation.gain,
        "rnoise": simulation.rnoise_adu,
        "bias": simulation.bias_adu,
    }
    texts = {"params.yaml": _PARAMS, "obs.yaml": _OBS, "control.yaml": _CONTROL}
    for name, text in texts.items():
        (folder / name).write_text(text.format(**numbers))
    return [*(folder / "data" / name for name in names), folder / "truth.fits"] + [
        folder / name for name in texts
    ]


def check_simulated_folder(folder: Path) -> None:
    """Check that a new simulation replaces only files of an earlier one.

    Parameters
    ----------
    folder : Path
        The folder for the new simulation.

    Raises
    ------
    InputError
        If it holds files of the same names, but no truth.fits.
    """
    there = [path for pattern in SIMULATED_PATTERNS for path in folder.glob(pattern)]
    if there and not (folder / "truth.fits").exists():
        raise InputError(
            f"{folder} holds {there[0].relative_to(folder)}, but no truth.fits: this is not an "
            "earlier simulation, and a new one would replace the file"
        )


@dataclass(frozen=True)
class Score:
    """Numbers of cosmic rays in MEDIANCR that were found, missed or false.

    The charge of a cosmic ray in a pixel is compared with σ, the photon and read noise of the
    pixel.

    Attributes
    ----------
    planted, planted_found : int
        Number of planted double hits, and of those with at least one pixel in MEDIANCR.
    double_px, double_px_found : int
        Number of pixels with a charge above 5 σ in at least two exposures, and of those in
        MEDIANCR.
    false_px : int
        Number of pixels in MEDIANCR that are not within one pixel of a pixel with a charge above
        1 σ in two exposures.
    """

    planted: int
    planted_found: int
    double_px: int
    double_px_found: int
    false_px: int


def score(masks: Masks, truth: fits.HDUList, rnoise_e: float) -> Score:
    """Compare MEDIANCR with the truth of a simulation.

    Parameters
    ----------
    masks : Masks
        The masks.
    truth : astropy.io.fits.HDUList
        The truth: an open ``truth.fits`` of `write_simulation`.
    rnoise_e : float
        Read noise, electrons.
    """
    signal = truth["SIGNAL"].data
    charge = np.stack([truth[f"CHARGE{i + 1}"].data for i in range(len(masks.crmasks))])
    sigma = np.sqrt(signal + rnoise_e**2)
    double = (charge > 5 * sigma).sum(axis=0) >= 2
    near = dilate((charge > sigma).sum(axis=0) >= 2, 1)
    n, labels = label_features(truth["PLANTED"].data > 0)
    found = np.unique(labels[masks.mediancr & (labels > 0)]).size
    return Score(
        planted=n,
        planted_found=int(found),
        double_px=int(double.sum()),
        double_px_found=int((double & masks.mediancr).sum()),
        false_px=int((masks.mediancr & ~near).sum()),
    )


def score_files(crmasks: Path, truth: Path) -> Score:
    """Compare a ``crmasks.fits`` with the ``truth.fits`` of the exposures it was made from.

    Raises
    ------
    InputError
        If a file is missing, cannot be read, or is not such a file, or if the shapes differ.
    """
    from crdetect.stored import read_masks_file

    masks = read_masks_file(crmasks).masks
    with open_fits(truth) as known:
        try:
            shape, rnoise_e = known["SIGNAL"].shape, known["SIGNAL"].header["RDNOISE"]
            if shape != masks.mediancr.shape:
                raise InputError(
                    f"{crmasks.name} has masks of shape {masks.mediancr.shape}, but {truth.name} "
                    f"is of shape {shape}"
                )
            return score(masks, known, rnoise_e)
        except KeyError as error:
            raise InputError(
                f"{truth.name} is not the truth of a simulation: {error.args[0]}"
            ) from error
