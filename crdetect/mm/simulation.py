"""The Median-Minimum diagram of clean pixels, by Monte Carlo simulation of the exposures."""

from __future__ import annotations

from itertools import product
from threading import Lock

import numpy as np

from crdetect.mm.diagram import BINS, Diagram, Limits
from crdetect.mm.parameters import MM
from crdetect.mm.scene import Scene
from crdetect.resources import ALL_PROCESSORS, Resources
from crdetect.stack import sort_planes

# Number of pixels whose values one random generator draws. Each such block has a generator of its
# own, so that the result does not depend on the number of threads. The number decides which random
# numbers are drawn: a given seed gives the same diagram only as long as it stays. It was chosen by
# hand, as a compromise of memory and time.
_PIXELS_PER_JOB = 1 << 18


def simulate(scene: Scene, room: float, mm: MM, resources: Resources = ALL_PROCESSORS) -> Diagram:
    """Simulate sets of clean exposures and count their pixels in the bins of the diagram.

    Parameters
    ----------
    scene : Scene
        Clean pixels, with their expected signals and noises.
    room : float
        Height of the diagram, in units of the largest median − minimum of the first set.
    mm : MM
        Number of sets, seed, and limits of the diagram.
    resources : Resources, optional
        Computing resources; the result does not depend on them.

    Returns
    -------
    Diagram
        Mean over the sets.
    """
    seed = np.random.SeedSequence(mm.mm_seed).entropy

    def draw(job: tuple[int, int, slice]) -> tuple[np.ndarray, np.ndarray]:
        number, i, pixels = job
        return draw_points(scene, pixels, np.random.default_rng([seed, number, i]))

    def jobs(numbers: range) -> list[tuple[int, int, slice]]:
        return [(number, i, px) for number, (i, px) in product(numbers, enumerate(blocks(scene)))]

    with resources.pool() as in_threads:
        # The first set fixes the limits, with room above its largest value for the other sets.
        first = in_threads(draw, jobs(range(1)))
        limits = Limits.around(
            min(float(x.min()) for x, _ in [(scene.min2d_adu, None), *first]),
            max(float(x.max()) for x, _ in [(scene.min2d_adu, None), *first]),
            room * max(float(y.max()) for _, y in first),
            mm,
        )
        counts, adding = np.zeros((BINS, BINS), np.int64), Lock()

        def count(points: tuple[np.ndarray, np.ndarray]) -> None:
            number = limits.count(*points)
            with adding:  # a sum of integers does not depend on their order
                np.add(counts, number, out=counts)

        in_threads(count, first)
        in_threads(lambda job: count(draw(job)), jobs(range(1, mm.mm_nsimulations)))
    return Diagram(limits, counts / mm.mm_nsimulations, mm.mm_nsimulations)


def blocks(scene: Scene) -> list[slice]:
    """Divide the pixels into slices, one for each random generator."""
    return [
        slice(start, start + _PIXELS_PER_JOB) for start in range(0, scene.size, _PIXELS_PER_JOB)
    ]


def draw_points(
    scene: Scene, pixels: slice, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw some pixels of all exposures at random.

    Returns
    -------
    x, y : arrays
        Coordinates of the pixels in the diagram: min2d and median2d − min2d, ADU.
    """
    planes = [exposure.draw_adu(pixels, rng) for exposure in scene.exposures]
    ordered = sort_planes(planes)
    n = len(ordered)
    lowest = ordered[: n - scene.coincidences]
    minimum = lowest[0] if len(lowest) == 1 else np.mean(lowest, axis=0)
    median = 0.5 * (ordered[(n - 1) // 2] + ordered[n // 2]) if n % 2 == 0 else ordered[n // 2]
    return minimum, median - minimum
