"""The diagram of clean pixels, by Monte Carlo simulation of the exposures."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import product

import numpy as np

from crdetect.mm.diagram import Diagram, Limits
from crdetect.mm.parameters import MM
from crdetect.mm.scene import Scene
from crdetect.stack import sort_planes

_PIXELS_PER_JOB = 1 << 18  # one job draws from its own generator: same result for any threads


def simulate(scene: Scene, room: float, parameters: MM, workers: int) -> Diagram:
    """Simulate sets of exposures and count their pixels in the diagram.

    Parameters
    ----------
    scene : Scene
        What is simulated.
    room : float
        Height of the diagram, times the largest value of the first set.
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
        return draw_points(scene, pixels, np.random.default_rng([seed, number, i]))

    def jobs(numbers: range) -> list[tuple[int, int, slice]]:
        return [(number, i, px) for number, (i, px) in product(numbers, enumerate(blocks(scene)))]

    with ThreadPoolExecutor(workers) as pool:
        # the first set fixes the limits: there is room above its largest value for the others
        first = list(pool.map(draw, jobs(range(1))))
        limits = Limits.around(
            min(float(x.min()) for x, _ in [(scene.min2d_adu, None), *first]),
            max(float(x.max()) for x, _ in [(scene.min2d_adu, None), *first]),
            room * max(float(y.max()) for _, y in first),
            parameters,
        )
        counts = sum(pool.map(lambda point: limits.count(*point), first))
        rest = jobs(range(1, parameters.mm_nsimulations))
        counts = sum(pool.map(lambda job: limits.count(*draw(job)), rest), counts)
    return Diagram(limits, counts / parameters.mm_nsimulations, parameters.mm_nsimulations)


def blocks(scene: Scene) -> list[slice]:
    """Slices of the pixels, one for each generator."""
    return [
        slice(start, start + _PIXELS_PER_JOB) for start in range(0, scene.size, _PIXELS_PER_JOB)
    ]


def draw_points(
    scene: Scene, pixels: slice, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw all exposures of some pixels; return their (min2d, median2d − min2d), ADU."""
    planes = [exposure.draw_adu(pixels, rng) for exposure in scene.exposures]
    ordered = sort_planes(planes)
    n = len(ordered)
    lowest = ordered[: n - scene.coincidences]
    minimum = lowest[0] if len(lowest) == 1 else np.mean(lowest, axis=0)
    median = 0.5 * (ordered[(n - 1) // 2] + ordered[n // 2]) if n % 2 == 0 else ordered[n // 2]
    return minimum, median - minimum
