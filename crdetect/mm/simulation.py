"""The diagram of clean pixels, by Monte Carlo simulation of the exposures."""

from __future__ import annotations

from itertools import product
from threading import Lock

import numpy as np

from crdetect.mm.diagram import BINS, Diagram, Limits
from crdetect.mm.parameters import MM
from crdetect.mm.scene import Scene
from crdetect.resources import ALL_PROCESSORS, Resources
from crdetect.stack import sort_planes

_PIXELS_PER_JOB = 1 << 18  # one job draws from its own generator: same result for any threads


def simulate(
    scene: Scene, room: float, parameters: MM, resources: Resources = ALL_PROCESSORS
) -> Diagram:
    """Simulate sets of exposures and count their pixels in the diagram.

    Parameters
    ----------
    scene : Scene
        What is simulated.
    room : float
        Height of the diagram, times the largest value of the first set.
    parameters : MM
        Number of sets, seed, limits of the diagram.
    resources : Resources, optional
        What may be used; the result does not depend on it.

    Returns
    -------
    Diagram
        Mean over the sets. The same for the same seed, whatever the resources.
    """
    seed = np.random.SeedSequence(parameters.mm_seed).entropy

    def draw(job: tuple[int, int, slice]) -> tuple[np.ndarray, np.ndarray]:
        number, i, pixels = job
        return draw_points(scene, pixels, np.random.default_rng([seed, number, i]))

    def jobs(numbers: range) -> list[tuple[int, int, slice]]:
        return [(number, i, px) for number, (i, px) in product(numbers, enumerate(blocks(scene)))]

    with resources.pool() as in_threads:
        # the first set fixes the limits: there is room above its largest value for the others
        first = in_threads(draw, jobs(range(1)))
        limits = Limits.around(
            min(float(x.min()) for x, _ in [(scene.min2d_adu, None), *first]),
            max(float(x.max()) for x, _ in [(scene.min2d_adu, None), *first]),
            room * max(float(y.max()) for _, y in first),
            parameters,
        )
        counts, adding = np.zeros((BINS, BINS), np.int64), Lock()

        def count(points: tuple[np.ndarray, np.ndarray]) -> None:
            number = limits.count(*points)
            with adding:  # whole numbers: their sum does not depend on the order
                np.add(counts, number, out=counts)

        in_threads(count, first)
        in_threads(lambda job: count(draw(job)), jobs(range(1, parameters.mm_nsimulations)))
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
