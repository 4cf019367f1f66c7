"""Simulated fields of known truth, like those of a fibre spectrograph.

Fibres with an object's continuum and emission lines, sky with lines of all strengths, scattered
light, Poisson and read noise, and real cosmic rays. The expected signal is evaluated, with its
pixels integrated, for each exposure's own fluxes, place and width: nothing is interpolated. Made
apart from the methods that are judged: it shares no code with them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy import ndimage
from scipy.special import ndtr

from benchmarks.quality.stamps import DIFFUSION_REACH_PX, Stamp, diffuse, plant_coincidences, rain_e

_FWHM_PER_SIGMA = 2.3548
_REACH_PX = 9  # of a fibre's profile, in rows
_LINE_REACH_PX = 12


@dataclass(frozen=True)
class Case:
    """Exposures and the truth about them.

    Attributes
    ----------
    name : str
        Name of the set.
    exposures_adu : (N, rows, columns) array of float32
        Bias removed.
    gain, rnoise_e : float
        e/ADU, electrons.
    signal_e : (N, rows, columns) array of float32
        Expected signal of each exposure without cosmic rays, electrons.
    charge_e : (N, rows, columns) array of float32
        Charge of cosmic rays, electrons.
    planted : (rows, columns) array of bool
        Where cosmic rays were laid across others: there are more double hits than by chance.
    simulated : bool
        Whether all signal and charge is known: real exposures hold cosmic rays of their own.
    """

    name: str
    exposures_adu: np.ndarray
    gain: float
    rnoise_e: float
    signal_e: np.ndarray
    charge_e: np.ndarray
    planted: np.ndarray
    simulated: bool = True


@dataclass(frozen=True)
class Variant:
    """How the exposures of a field differ, from the first to the last (in equal steps).

    Attributes
    ----------
    flux : float
        All light goes from 1 − flux to 1 + flux.
    objects, sky : float
        So do, besides, the object's and the sky's alone.
    drift_px : float
        Everything moves from −drift to +drift, in both directions.
    width : float
        The profile of the fibres widens from 1 to 1 + width, its flux kept.
    flexure_px : float
        The last row's fibres drift by so much more than the middle's, the first row's less.
    moon_e : float
        Background light per pixel, 0 in the first exposure and twice this in the last.
    pedestal_e : float
        Bias that was left in, from −pedestal to +pedestal: no light, no noise of its own.
    """

    flux: float = 0.0
    objects: float = 0.0
    sky: float = 0.0
    drift_px: float = 0.0
    width: float = 0.0
    flexure_px: float = 0.0
    moon_e: float = 0.0
    pedestal_e: float = 0.0


VARIANTS = {
    "equivalent": Variant(),
    "mild": Variant(objects=0.08, sky=-0.02, drift_px=0.04),
    "strong": Variant(objects=0.20, sky=-0.05, drift_px=0.15),
    "flux": Variant(flux=0.2),
    "offset": Variant(drift_px=0.25),
    "seeing": Variant(width=0.15),
    "object": Variant(objects=0.2),
    "flexure": Variant(flexure_px=0.2),
    "moon": Variant(moon_e=20.0),
    "pedestal": Variant(pedestal_e=3.0),
}
"""Those of issue 7 (±0.25 px are offsets of up to 0.5 px), and what it does not mention."""


@dataclass(frozen=True)
class Settings:
    """Settings of a simulated field.

    Attributes
    ----------
    shape : tuple of int
        Rows and columns.
    nexposures : int
        Number of exposures.
    gain, rnoise_e : float
        e/ADU, electrons.
    hit_share : float
        Share of the pixels on cosmic rays' stamps, per exposure.
    unstated_e : float
        Additional read noise that methods are not told, electrons.
    coincidences : int
        Number of stamps put across those of another exposure, in addition to chance coincidences.
    smallest_px : int
        Number of pixels of the smallest stamps: below 3 they are dots rather than tracks.
    diffusion_px : float
        Gaussian σ by which the charge of cosmic rays diffuses, pixels.
    brightness : float
        Factor of all light.
    variant : Variant
        Differences between the exposures.
    """

    shape: tuple[int, int] = (512, 640)
    nexposures: int = 3
    gain: float = 1.0
    rnoise_e: float = 3.4
    unstated_e: float = 0.0
    hit_share: float = 0.005
    coincidences: int = 40
    smallest_px: int = 3
    diffusion_px: float = 0.3
    brightness: float = 1.0
    variant: Variant = field(default_factory=Variant)


@dataclass(frozen=True)
class Scene:
    """A scene that can be seen at any place, flux and width; one value per fibre or line.

    Attributes
    ----------
    row, throughput, fwhm_px : (K,) arrays
        Fibres: row in the middle column, relative throughput, FWHM of the profile across.
    bend : (K,) array
        How far a fibre's row changes from the middle to the ends.
    continuum : (K, 4) array
        Object's light per column, as a cubic of the place along the fibre (−1 to 1).
    lines, object_lines : (L, 3) arrays
        Column, FWHM and light of the lines of the sky, and of the object.
    background : float
        Scattered light per pixel.
    """

    row: np.ndarray
    throughput: np.ndarray
    fwhm_px: np.ndarray
    bend: np.ndarray
    continuum: np.ndarray
    lines: np.ndarray
    object_lines: np.ndarray
    background: float

    def spectra_e(
        self, columns: int, objects: float, sky: float, shift_px: np.ndarray
    ) -> np.ndarray:
        """Light of each fibre in each column, electrons."""
        place = _place(columns, shift_px)
        powers = place[:, np.newaxis] ** np.arange(4)[:, np.newaxis]
        continuum = np.maximum((self.continuum[:, :, np.newaxis] * powers).sum(axis=1), 0)
        slit = 2.0 * self.row / self.row.max() - 1
        curved = shift_px[:, 0] + 3.0 * slit**2  # the image of a straight slit is curved
        bright = self.continuum[:, :1] / self.continuum[:, 0].max()
        lines_of_object = bright * _lines_e(self.object_lines, columns, curved)
        lines_of_sky = _lines_e(self.lines, columns, curved)
        return self.throughput[:, np.newaxis] * (
            objects * (continuum + lines_of_object) + sky * lines_of_sky
        )

    def signal_e(
        self,
        shape: tuple[int, int],
        objects: float = 1.0,
        sky: float = 1.0,
        shift_px: float | np.ndarray = 0.0,
        width: float = 1.0,
    ) -> np.ndarray:
        """Make the expected signal, electrons, (rows, columns) of float32.

        Fibres are moved by a number of pixels or by one each, along rows and columns.
        """
        shift_px = np.broadcast_to(shift_px, self.row.shape)[:, np.newaxis]
        image = np.full(shape, sky * self.background)
        spectra = self.spectra_e(shape[1], objects, sky, shift_px)
        place = _place(shape[1], shift_px)
        centre = self.row[:, np.newaxis] + self.bend[:, np.newaxis] * place**2 + shift_px
        sigma = width * self.fwhm_px[:, np.newaxis] / _FWHM_PER_SIGMA
        nearest = np.rint(centre).astype(int)
        columns = np.broadcast_to(np.arange(shape[1]), centre.shape)
        for step in range(-_REACH_PX, _REACH_PX + 1):
            rows = nearest + step
            edge = rows - 0.5 - centre
            share = ndtr((edge + 1) / sigma) - ndtr(edge / sigma)
            inside = (rows >= 0) & (rows < shape[0])
            # fibres are more than a pixel apart: no pixel comes twice
            image[rows[inside], columns[inside]] += (share * spectra)[inside]
        return image.astype(np.float32)


def make_scene(shape: tuple[int, int], rng: np.random.Generator, brightness: float = 1.0) -> Scene:
    """Make a scene: bundles of fibres, a few of them on a bright object, sky lines in all."""
    rows, columns = shape
    row = np.arange(rng.uniform(2, 6), rows - 2.0, rng.uniform(5.8, 7.0))
    row = row[np.arange(row.size) % 21 != 20]  # a gap between bundles
    number = row.size
    slit = row / rows
    profile = sum(
        peak * np.exp(-0.5 * ((slit - rng.uniform(0, 1)) / rng.uniform(0.03, 0.1)) ** 2)
        for peak in brightness * 10 ** rng.uniform([2.5, 1.9, 1.2], [2.9, 2.5, 1.9])
    )
    level = (profile + brightness * 10 ** rng.uniform(0.3, 1.2)) * rng.uniform(0.7, 1.3, number)
    slopes = np.column_stack([np.ones(number), *rng.uniform(-0.25, 0.25, (3, number))])
    nlines = max(6, columns // 45)
    lines = np.column_stack(
        [
            rng.uniform(0, columns, nlines),
            rng.uniform(2.5, 3.5, nlines),
            brightness * 10 ** rng.uniform(1.5, 4.6, nlines),
        ]
    )
    nobject = max(2, columns // 200)
    object_lines = np.column_stack(
        [
            rng.uniform(0, columns, nobject),
            rng.uniform(2.5, 3.5, nobject),
            brightness * 10 ** rng.uniform(3.0, 4.3, nobject),
        ]
    )
    return Scene(
        row,
        rng.normal(1, 0.07, number).clip(0.5),
        rng.uniform(2.5, 4.0) + rng.uniform(-0.2, 0.2) * (2 * slit - 1),
        np.full(number, rng.uniform(-4, 4)),
        level[:, np.newaxis] * slopes,
        lines,
        object_lines,
        brightness * rng.uniform(1, 6),
    )


def _place(columns: int, shift_px: np.ndarray) -> np.ndarray:
    """Place along fibres moved by (K, 1) pixels, from −1 to 1, in each column."""
    return 2.0 * (np.arange(columns) - shift_px) / columns - 1


def _lines_e(lines: np.ndarray, columns: int, shift_px: np.ndarray) -> np.ndarray:
    """Sum emission lines, (fibres, columns), each moved by the fibre's shift."""
    total = np.zeros((shift_px.size, columns))
    for column, fwhm, light in lines:
        sigma = fwhm / _FWHM_PER_SIGMA
        start = max(int(column + shift_px.min()) - _LINE_REACH_PX, 0)
        stop = min(int(column + shift_px.max()) + _LINE_REACH_PX + 1, columns)
        edge = np.arange(start, stop) - 0.5 - column - shift_px[:, np.newaxis]
        total[:, start:stop] += light * (ndtr((edge + 1) / sigma) - ndtr(edge / sigma))
    return total


def make_case(name: str, settings: Settings, stamps: Sequence[Stamp], seed: int) -> Case:
    """Simulate the exposures of a field; one seed gives one scene, whatever its variant."""
    scene_rng, rays_rng, noise_rng = map(
        np.random.default_rng, np.random.SeedSequence([20261, seed]).spawn(3)
    )
    stamps = [stamp for stamp in stamps if stamp.charge_e.size >= settings.smallest_px]
    scene = make_scene(settings.shape, scene_rng, settings.brightness)
    signal = np.stack(list(_signals_e(scene, settings)))
    charge = np.stack(
        [
            rain_e(settings.shape, settings.hit_share, stamps, rays_rng)
            for _ in range(settings.nexposures)
        ]
    )
    planted = plant_coincidences(charge, settings.coincidences, stamps, rays_rng)
    planted = ndimage.maximum_filter(planted, 2 * DIFFUSION_REACH_PX + 1)
    charge = diffuse(charge, settings.diffusion_px)
    read = noise_rng.normal(0, np.hypot(settings.rnoise_e, settings.unstated_e), signal.shape)
    left = settings.variant.pedestal_e * np.linspace(-1, 1, settings.nexposures)
    pedestal = left.astype(np.float32)[:, np.newaxis, np.newaxis]
    exposures_e = noise_rng.poisson(signal) + charge + read + pedestal
    exposures = (exposures_e / settings.gain).astype(np.float32)
    return Case(name, exposures, settings.gain, settings.rnoise_e, signal, charge, planted)


def _signals_e(scene: Scene, settings: Settings) -> Iterator[np.ndarray]:
    """Make the expected signal of each exposure."""
    variant = settings.variant
    across = 2 * scene.row / settings.shape[0] - 1
    for t in np.linspace(-1, 1, settings.nexposures):
        flux = 1 + t * variant.flux
        signal = scene.signal_e(
            settings.shape,
            objects=flux * (1 + t * variant.objects),
            sky=flux * (1 + t * variant.sky),
            shift_px=t * (variant.drift_px + variant.flexure_px * across),
            width=1 + (t + 1) / 2 * variant.width,
        )
        yield signal + np.float32((t + 1) * variant.moon_e)
