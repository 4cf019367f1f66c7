"""Cosmic rays as stamps, which are turned, mirrored and dimmed at random.

There are three kinds of tracks: those of the catalogue of LSST darks, those of two quadrants of a
dark of HST/STIS, and those that `crdetect.simulate` draws. Catalogue and dark are not part of the
project; without the catalogue the stamps are straight tracks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.io import fits
from scipy import ndimage

from crdetect.simulate import make_tracks_e

CATALOGUE = "cosmic_rays_itl_2017.fits.gz"
DARKS = tuple(f"stis_dark/quadrant_{i}.fits.gz" for i in (0, 1))
CR_IN_DARK_E = 27.0
"""Charge above which a pixel of the STIS dark belongs to a cosmic ray: more than 6 σ of its noise,
electrons."""

_FAINTEST = 0.15  # least factor of the charge of a stamp of the LSST catalogue
_DRAWN_SHAPE, _DRAWN_SHARE = (3000, 3000), 0.002  # image on which tracks are drawn, share covered
_NEIGHBOURS = np.ones((3, 3), bool)
DIFFUSION_REACH_PX = 2
_TRACK_LENGTH_PX, _TRACK_CHARGE_E, _TRACK_SPREAD = 8.0, 400.0, 1.0


@dataclass(frozen=True)
class Stamp:
    """One cosmic ray.

    Attributes
    ----------
    y, x : (n,) arrays of int
        Places of its pixels, from (0, 0) on.
    charge_e : (n,) array of float32
        Their charge, electrons.
    faintest : float
        Least factor by which the charge is multiplied; 1: the charge stays as it is.
    """

    y: np.ndarray
    x: np.ndarray
    charge_e: np.ndarray
    faintest: float = _FAINTEST

    def varied(self, rng: np.random.Generator) -> Stamp:
        """Turn it by a multiple of 90°, mirror it or not, and dim it, at random.

        The detector of the LSST catalogue is thick and its threshold high: dimmed, its cosmic rays
        are as faint as those of thinner detectors.
        """
        y, x = (self.x, self.y) if rng.integers(2) else (self.y, self.x)
        if rng.integers(2):
            y = y.max() - y
        if rng.integers(2):
            x = x.max() - x
        return Stamp(y, x, self.charge_e * np.float32(self.faintest ** rng.uniform()))


def read_stamps(data: Path) -> tuple[Stamp, ...] | None:
    """Read the catalogue in a folder; None if it is not there."""
    path = data / CATALOGUE
    return tuple(_read_catalogue(path)) if path.is_file() else None


def _read_catalogue(path: Path) -> Iterator[Stamp]:
    """Put the horizontal runs of each cosmic ray together."""
    table = fits.getdata(path, 1)
    length = np.array([len(run) for run in table["pixel_values"]])
    charge = np.concatenate(list(table["pixel_values"])).astype(np.float32)
    start = np.repeat(np.cumsum(length) - length, length)
    x = np.repeat(table["x0"].astype(int), length) + np.arange(charge.size) - start
    y = np.repeat(table["y0"].astype(int), length)
    number = np.repeat(table["fp_id"], length)
    for ray in np.split(np.arange(charge.size), np.flatnonzero(np.diff(number)) + 1):
        yield Stamp(y[ray] - y[ray].min(), x[ray] - x[ray].min(), charge[ray])


def read_dark_tracks(data: Path) -> tuple[Stamp, ...] | None:
    """Read the tracks of the STIS dark in a folder; None if it is not there."""
    paths = [data / name for name in DARKS]
    if not all(path.is_file() for path in paths):
        return None
    images = [fits.getdata(path) * fits.getheader(path)["GAIN"] for path in paths]
    return tuple(stamp for image in images for stamp in segmented(image, CR_IN_DARK_E))


def drawn_tracks(seed: int = 1) -> tuple[Stamp, ...]:
    """Make tracks as `crdetect simulate` draws them: straight, thin, without wings."""
    image = make_tracks_e(_DRAWN_SHAPE, _DRAWN_SHARE, np.random.default_rng(seed))
    return tuple(segmented(image, 0.0))


def segmented(charge_e: np.ndarray, above_e: float) -> Iterator[Stamp]:
    """Cut an image of cosmic rays into stamps.

    Parameters
    ----------
    charge_e : (rows, columns) array
        Cosmic rays over an empty background, electrons.
    above_e : float
        Charge above which a pixel is hit, electrons.

    Yields
    ------
    Stamp
        Pixels that touch each other by a side or a corner, unless one is at the edge of the image,
        where a track may be cut. Cosmic rays that touch each other make one stamp.
    """
    labels, _ = ndimage.label(charge_e > above_e, _NEIGHBOURS)
    rows, columns = charge_e.shape
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        if any(s.start == 0 or s.stop == n for s, n in zip(box, (rows, columns), strict=True)):
            continue
        y, x = np.nonzero(labels[box] == number)
        yield Stamp(y, x, charge_e[box][y, x].astype(np.float32), faintest=1.0)


def straight_tracks(number: int = 400, seed: int = 1) -> tuple[Stamp, ...]:
    """Make straight tracks, for want of the catalogue."""
    rng = np.random.default_rng(seed)
    return tuple(_straight_track(rng) for _ in range(number))


def _straight_track(rng: np.random.Generator) -> Stamp:
    step = np.arange(rng.geometric(1 / _TRACK_LENGTH_PX))
    angle = rng.uniform(0, np.pi / 2)
    # steps of a pixel along the longer side, so that none comes twice
    slope = np.array([np.sin(angle), np.cos(angle)])
    y, x = np.floor(step * (slope / slope.max())[:, np.newaxis]).astype(int)
    charge = _TRACK_CHARGE_E * rng.lognormal(0, _TRACK_SPREAD) * rng.lognormal(0, 0.4, step.size)
    return Stamp(y, x, charge.astype(np.float32))


def rain_e(
    shape: tuple[int, int],
    hit_share: float,
    stamps: Sequence[Stamp],
    rng: np.random.Generator,
) -> np.ndarray:
    """Make the cosmic rays of one exposure: stamps that cover a share of the pixels; electrons."""
    charge = np.zeros(shape, np.float32)
    mean_px = np.mean([stamp.charge_e.size for stamp in stamps])
    # they start beyond the edges too, where they may reach the image from
    reach = max(max(stamp.y.max(), stamp.x.max()) for stamp in stamps)
    area = (shape[0] + reach) * (shape[1] + reach)
    for index in rng.integers(len(stamps), size=rng.poisson(hit_share * area / mean_px)):
        y, x = rng.integers(-reach, shape)
        _add(charge, stamps[index].varied(rng), y, x)
    return charge


def plant_coincidences(
    charge_e: np.ndarray, number: int, stamps: Sequence[Stamp], rng: np.random.Generator
) -> np.ndarray:
    """Let stamps cross, in another exposure, cosmic rays that are there; return where they are.

    A pixel hit in one exposure is chosen, and a pixel of a stamp put on it in another: so do
    cosmic rays coincide by chance, only more seldom. Stamps that would meet a pixel hit in two
    exposures are left out: chance makes few triple hits, and planting would make many.
    """
    places = np.argwhere(charge_e > 0)
    everywhere = np.zeros(charge_e.shape[1:], bool)
    if not places.size:
        return everywhere
    for exposure, y, x in places[rng.integers(len(places), size=number)]:
        stamp = stamps[rng.integers(len(stamps))].varied(rng)
        pixel = rng.integers(stamp.charge_e.size)
        other = (exposure + rng.integers(1, len(charge_e))) % len(charge_e)
        planted = np.zeros_like(charge_e[other])
        _add(planted, stamp, y - stamp.y[pixel], x - stamp.x[pixel])
        hits = np.count_nonzero(charge_e, axis=0)
        if not (hits[planted > 0] > 1).any():
            charge_e[other] += planted
            everywhere |= planted > 0
    return everywhere


def diffuse(charge_e: np.ndarray, sigma_px: float) -> np.ndarray:
    """Let charge diffuse into neighbours, which gives tracks the wings that a catalogue cuts."""
    if not sigma_px:
        return charge_e
    share = _share_of_pixels(sigma_px)
    for axis in (-2, -1):
        charge_e = ndimage.correlate1d(charge_e, share, axis=axis, mode="constant")
    return charge_e


def _share_of_pixels(sigma_px: float) -> np.ndarray:
    """Part of the charge of a pixel, uniform over it, that ends up in it and its neighbours."""
    reach = DIFFUSION_REACH_PX + 0.5
    fine = np.arange(-reach, reach, 0.01) + 0.005
    inside = (np.abs(fine) < 0.5).astype(float)
    spread = ndimage.gaussian_filter1d(inside, sigma_px / 0.01, mode="constant")
    share = spread.reshape(2 * DIFFUSION_REACH_PX + 1, -1).sum(axis=1)
    return (share / share.sum()).astype(np.float32)


def _add(charge: np.ndarray, stamp: Stamp, y0: int, x0: int) -> None:
    y, x = stamp.y + y0, stamp.x + x0
    inside = (y >= 0) & (y < charge.shape[0]) & (x >= 0) & (x < charge.shape[1])
    np.add.at(charge, (y[inside], x[inside]), stamp.charge_e[inside])
