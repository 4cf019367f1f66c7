"""The diagram of clean pixels, by Monte Carlo simulation of the exposures."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product

import numpy as np

from crdetect.errors import InputError
from crdetect.mm.diagram import Diagram, Limits
from crdetect.noise import Noise
from crdetect.parameters import MM
from crdetect.stack import Stack, sort_planes

_logger = logging.getLogger(__name__)

_PIXELS_PER_JOB = 1 << 18  # one job draws from its own generator: same result for any threads
_LARGEST_SIGNAL_E = 1e15  # far beyond any detector, and within the reach of random integers
_MARGIN = 0.05  # free space above the highest fixed point


@dataclass(frozen=True)
class Scene:
    """What is simulated: the clean pixels of the exposures, in one dimension.

    Attributes
    ----------
    signals_adu : sequence of N arrays, each (n,)
        Expected signal of the n pixels in each exposure (the same array where it is common).
    noise : Noise
        Numbers, or maps of shape (n,).
    coincidences : int
        The number c of hits to be found.
    """

    signals_adu: Sequence[np.ndarray]
    noise: Noise
    coincidences: int

    @property
    def jobs(self) -> list[slice]:
        """Slices of the pixels, one for each generator."""
        n = self.signals_adu[0].size
        return [slice(start, start + _PIXELS_PER_JOB) for start in range(0, n, _PIXELS_PER_JOB)]

    def draw(self, pixels: slice, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Draw all exposures of some pixels; return their (min2d, median2d − min2d)."""
        noise = self.noise.select(pixels)
        planes = [noise.draw_adu(signal[pixels], rng) for signal in self.signals_adu]
        return _diagram_point(planes, self.coincidences)


def _diagram_point(planes: list[np.ndarray], coincidences: int) -> tuple[np.ndarray, np.ndarray]:
    ordered = sort_planes(planes)
    n = len(ordered)
    lowest = ordered[: n - coincidences]
    minimum = lowest[0] if len(lowest) == 1 else np.mean(lowest, axis=0)
    median = 0.5 * (ordered[(n - 1) // 2] + ordered[n // 2]) if n % 2 == 0 else ordered[n // 2]
    return minimum, median - minimum


def make_scene(
    stack: Stack,
    signals_adu: Sequence[np.ndarray],
    noise: Noise,
    coincidences: int,
    excluded: np.ndarray,
) -> Scene:
    """Gather the pixels to simulate: not excluded, and with a value in every exposure.

    Parameters
    ----------
    stack : Stack
        The exposures.
    signals_adu : sequence of N (rows, columns) arrays
        Expected signal in each exposure.
    noise : Noise
        Their noise.
    coincidences : int
        The number c of hits to be found.
    excluded : (rows, columns) array of bool
        Pixels with a cosmic ray.

    Raises
    ------
    InputError
        If no pixel is left, or a signal is more than a detector gives.
    """
    clean = ~excluded
    if not stack.complete:
        clean &= ~np.isnan(stack.exposures).any(axis=0)
    if not clean.any():
        raise InputError(
            "no pixel without a cosmic ray has a value in every exposure: "
            "the Median-Minimum diagram cannot be simulated"
        )
    clean_noise = noise.select(clean)
    gathered: dict[int, np.ndarray] = {}  # a signal common to the exposures is gathered once
    for signal in signals_adu:
        if id(signal) not in gathered:
            gathered[id(signal)] = np.maximum(signal[clean], 0)
    largest_e = max(float(np.max(signal * clean_noise.gain)) for signal in gathered.values())
    if largest_e > _LARGEST_SIGNAL_E:
        raise InputError(f"signals up to {largest_e:.3g} e are more than a detector gives")
    return Scene([gathered[id(signal)] for signal in signals_adu], clean_noise, coincidences)


def simulate(scene: Scene, real_x: tuple[float, float], parameters: MM, workers: int) -> Diagram:
    """Simulate sets of exposures and count their pixels in the diagram.

    Parameters
    ----------
    scene : Scene
        What is simulated.
    real_x : tuple of float
        Least and largest min2d of the real exposures, ADU.
    parameters : MM
        Number of sets, seed, limits of the diagram.
    workers : int
        Threads.

    Returns
    -------
    Diagram
        Mean over the sets. The same for the same seed, whatever the number of threads.
    """
    seed = np.random.SeedSequence(parameters.mm_seed).entropy

    def draw(job: tuple[int, int, slice]) -> tuple[np.ndarray, np.ndarray]:
        number, i, pixels = job
        return scene.draw(pixels, np.random.default_rng([seed, number, i]))

    def jobs(numbers: range) -> list[tuple[int, int, slice]]:
        return [(number, i, px) for number, (i, px) in product(numbers, enumerate(scene.jobs))]

    with ThreadPoolExecutor(workers) as pool:
        # the first set fixes the limits: twice its largest value leaves room for the others
        first = list(pool.map(draw, jobs(range(1))))
        limits = _limits(first, real_x, parameters)
        counts = sum(pool.map(lambda point: limits.count(*point), first))
        rest = jobs(range(1, parameters.mm_nsimulations))
        counts = sum(pool.map(lambda job: limits.count(*draw(job)), rest), counts)
    return Diagram(limits, counts / parameters.mm_nsimulations, parameters.mm_nsimulations)


def _limits(
    points: list[tuple[np.ndarray, np.ndarray]], real_x: tuple[float, float], parameters: MM
) -> Limits:
    xmin = min(real_x[0], *(float(x.min()) for x, _ in points))
    xmax = max(real_x[1], *(float(x.max()) for x, _ in points))
    ymax = parameters.mm_ydiag_max or 2 * max(float(y.max()) for _, y in points)
    fixed = [point[1] for point in parameters.mm_fixed_points_in_boundary or ()]
    ymax = max([ymax, *((1 + _MARGIN) * y for y in fixed)])
    # exposures without any noise still have a diagram
    return Limits(xmin, max(xmax, np.nextafter(xmin, np.inf) + 1e-3), ymax or 1.0)
