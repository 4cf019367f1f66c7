"""Scores of methods on sets: computed, written as JSON, read again."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.quality.methods import Method, PeerError
from benchmarks.quality.metrics import Score, as_dict, from_dict, score
from benchmarks.quality.sets import Library


@dataclass
class Results:
    """Scores of one method.

    Attributes
    ----------
    label : str
        The method with its parameters.
    scores : dict of dict
        Score by set and seed.
    failed : dict
        By set, why it could not be judged.
    """

    label: str
    scores: dict[str, dict[int, Score]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def of(self, name: str) -> list[Score]:
        """Scores of a set, one for each seed."""
        return list(self.scores.get(name, {}).values())


def _nothing(_: object) -> None:
    """Report nothing."""


def evaluate(
    label: str,
    method: Method,
    library: Library,
    names: Iterable[str],
    seeds: range,
    progress: Callable[[str], None] = _nothing,
    after_set: Callable[[Results], None] = _nothing,
) -> Results:
    """Judge a method on sets.

    Parameters
    ----------
    label : str
        Name of the method in tables.
    method : callable
        Takes a `Case`, returns an `Answer`.
    library : Library
        Where cases come from.
    names : iterable of str
        Sets.
    seeds : range
        Seeds of simulated fields.
    progress : callable
        Called with a line of text before each case.
    after_set : callable
        Called with the results so far after each set.
    """
    results = Results(label)
    for name in names:
        scores = {}
        for seed, case in library.cases(name, seeds):
            progress(f"{label}: {name}, seed {seed}")
            try:
                scores[seed] = score(case, method(case))
            except PeerError as error:
                results.failed[name] = f"seed {seed}: {error}"
        results.scores[name] = scores
        after_set(results)
    return results


def write(path: Path, many: Iterable[Results]) -> None:
    """Write results as JSON."""
    content = [
        {
            "label": results.label,
            "failed": results.failed,
            "sets": {
                name: {str(seed): as_dict(score_) for seed, score_ in scores.items()}
                for name, scores in results.scores.items()
            },
        }
        for results in many
    ]
    path.write_text(json.dumps(content, indent=1) + "\n")


def read(path: Path) -> list[Results]:
    """Read what `write` wrote."""
    return [
        Results(
            entry["label"],
            {
                name: {int(seed): from_dict(values) for seed, values in scores.items()}
                for name, scores in entry["sets"].items()
            },
            entry["failed"],
        )
        for entry in json.loads(path.read_text())
    ]
