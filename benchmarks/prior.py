"""Fit the prior that joint detection gives to a pixel beside a track, to tracks of known truth.

    python -m benchmarks.prior --judge

Prints the coefficients fitted to each kind of tracks, and to two kinds together, beside those in
use; with --judge also what joint detection finds with each of them. See benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy import ndimage

from benchmarks.quality.fields import Case, make_case
from benchmarks.quality.methods import Ours
from benchmarks.quality.metrics import score, total
from benchmarks.quality.sets import DATA, FIELDS, Library
from crdetect.errors import InputError
from crdetect.joint import hits
from crdetect.parameters import Joint

POPULATIONS = {
    "lsst": ("lsst", "equivalent"),
    "stis": ("stis", "equivalent"),
    "drawn": ("drawn", "equivalent"),
    "drawn, sharp": ("drawn", "no diffusion"),
}
"""Kinds of tracks by name: whose tracks, and the field, where their charge diffuses or does not."""

POOLED = ("lsst", "drawn, sharp")
"""Kinds that are fitted together, with equal weight: tracks with wings and tracks without."""

USED = tuple(float(value) for value in hits._PRIOR_BESIDE)  # noqa: SLF001
_ROUNDS, _CONVERGED = 50, 1e-9
_BESIDE = np.array([[1.0, 1, 1], [1, 0, 1], [1, 1, 1]])
_NEAR = np.array([[0.5, 1, 0.5], [1, 0, 1], [0.5, 1, 0.5]])
console = Console(highlight=False, markup=False)
console.width = max(console.width, 140)

Prior = tuple[float, float, float]


class Samples(NamedTuple):
    """Pixels beside hits.

    Attributes
    ----------
    hit : (n,) array of float
        1 where the pixel itself is hit, else 0.
    neighbours : (n,) array
        How many of its eight neighbours are hit.
    log_charge : (n,) array
        Logarithm of their summed charge in units of the noise, that of diagonal neighbours halved.
    """

    hit: np.ndarray
    neighbours: np.ndarray
    log_charge: np.ndarray


def sample(case: Case) -> Samples:
    """Take all pixels of a field of which a neighbour is hit.

    A pixel is hit if its charge exceeds `jt_weak`, and its own or a neighbour's charge exceeds
    what an isolated hit needs: then joint detection finds it, mostly.
    """
    defaults = Joint()
    thresholds = hits.Thresholds.for_false_alarms(defaults.jt_false_alarms, defaults.jt_weak)
    pieces = []
    for signal, charge in zip(case.signal_e, case.charge_e, strict=True):
        charge_sigma = charge / np.sqrt(signal + case.rnoise_e**2)
        detected = ndimage.maximum_filter(charge_sigma > thresholds.strong, 3)
        hit = (charge_sigma > thresholds.weak) & detected
        number = ndimage.correlate(hit.astype(float), _BESIDE, mode="constant")
        total_charge = ndimage.correlate(np.where(hit, charge_sigma, 0.0), _NEAR, mode="constant")
        beside = number > 0
        log_charge = np.log(np.maximum(total_charge[beside], 1))
        pieces.append(((charge_sigma > thresholds.weak)[beside], number[beside], log_charge))
    return Samples(*(np.concatenate(piece).astype(float) for piece in zip(*pieces, strict=True)))


def fit(populations: Sequence[Samples]) -> Prior:
    """Fit log-odds = a + b n + c ln q by logistic regression; all populations weigh the same.

    Parameters
    ----------
    populations : sequence of Samples
        One or more kinds of tracks.

    Returns
    -------
    tuple of 3 floats
        a, b and c.
    """
    hit, number, log_charge = (np.concatenate(each) for each in zip(*populations, strict=True))
    weight = np.concatenate([np.full(each.hit.size, 1 / each.hit.size) for each in populations])
    design = np.stack([np.ones_like(hit), number, log_charge])
    coefficients = np.zeros(3)
    for _ in range(_ROUNDS):
        expected = probability(coefficients, number, log_charge)
        information = (design * (weight * expected * (1 - expected))) @ design.T
        step = np.linalg.solve(information, design @ (weight * (hit - expected)))
        coefficients = coefficients + step
        if np.abs(step).max() < _CONVERGED:
            break
    return tuple(coefficients.tolist())


def probability(prior: Sequence[float], number: np.ndarray, log_charge: np.ndarray) -> np.ndarray:
    """Probability that a pixel is hit, from its neighbours."""
    constant, per_neighbour, per_charge = prior
    return 1 / (1 + np.exp(-(constant + per_neighbour * number + per_charge * log_charge)))


def fitted_priors(populations: dict[str, list[Case]]) -> dict[str, Prior]:
    """Fit each population, and those of `POOLED` together."""
    samples = {
        name: Samples(*map(np.concatenate, zip(*map(sample, cases), strict=True)))
        for name, cases in populations.items()
    }
    priors = {f"fitted to {name}": fit([each]) for name, each in samples.items()}
    pooled = [samples[name] for name in POOLED]
    return {"in use": USED, f"fitted to {' + '.join(POOLED)}": fit(pooled), **priors}


def table_of_priors(priors: dict[str, Prior]) -> Table:
    """Make the table of coefficients and of some probabilities."""
    table = Table(title="log-odds = a + b n + c ln q", title_justify="left")
    for heading in ("prior", "a", "b", "c", "P(1; 100 σ)", "P(3; 100 σ)", "P(6; 100 σ)"):
        table.add_column(heading)
    for name, prior in priors.items():
        shares = [probability(prior, n, np.log(100.0)) for n in (1, 3, 6)]
        cells = [f"{value:.2f}" for value in prior] + [f"{share:.3f}" for share in shares]
        table.add_row(name, *cells)
    return table


def table_of_results(priors: dict[str, Prior], populations: dict[str, list[Case]]) -> Table:
    """Make the table of what joint detection finds with each prior."""
    table = Table(title="joint detection", title_justify="left")
    for heading in ("tracks", "prior", "double hits found", "false px /Mpx", "single hits found"):
        table.add_column(heading)
    table.add_column("false CRMASK px /Mpx/exp")
    method = Ours("joint", workers=1)
    for tracks, cases in populations.items():
        for name, prior in priors.items():
            with mock.patch.object(hits, "_PRIOR_BESIDE", np.array(prior, np.float32)):
                scores = [score(case, method(case)) for case in cases]
            found = total(scores).measures()
            false = [f"{found[each]:.1f}" for each in ("false_px", "false_crmask")]
            shares = [f"{found[each]:.4f}" for each in ("double", "single")]
            table.add_row(tracks, name, shares[0], false[0], shares[1], false[1])
    return table


def read_options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.prior", description=__doc__.splitlines()[0]
    )
    add = parser.add_argument
    add("--seeds", type=int, default=3, metavar="K", help="simulated fields of each kind")
    add("--first-seed", type=int, default=1, metavar="S")
    add("--judge", action="store_true", help="run joint detection with each prior (fields beyond)")
    add("--data", type=Path, default=DATA, metavar="DIR", help="where the cosmic rays are")
    options = parser.parse_args(arguments)
    if options.seeds < 1:
        parser.error("--seeds: at least 1")
    return options


def make_populations(data: Path, seeds: range) -> dict[str, list[Case]]:
    """Make the fields of each kind of tracks."""
    return {
        name: [
            make_case(field, FIELDS[field], library.stamps, seed)
            for library in [Library.at(data, tracks)]
            for seed in seeds
        ]
        for name, (tracks, field) in POPULATIONS.items()
    }


def main() -> int:
    """Fit, print, and judge if wanted; return 2 if tracks are missing."""
    options = read_options()
    last = options.first_seed + options.seeds
    try:
        priors = fitted_priors(make_populations(options.data, range(options.first_seed, last)))
        console.print(table_of_priors(priors))
        if options.judge:
            others = make_populations(options.data, range(last, last + options.seeds))
            console.print(table_of_results(priors, others))
    except InputError as error:
        console.print(str(error))
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
