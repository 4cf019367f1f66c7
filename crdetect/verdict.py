"""Verdicts on a result: checks, the limits they apply, and the words in which people read them.

A check compares one measured value with two limits. The text that states the limits is made from
their numbers, so that both always agree.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from enum import IntEnum
from typing import Any

# Minimum of a ratio of which the inverse is taken; it only prevents a division by 0.
_LEAST_RATIO = 1e-9


class Verdict(IntEnum):
    """How good a result is, from good to bad; the names are those of numina's QC flags."""

    GOOD = 0
    PARTIAL = 1
    BAD = 2


@dataclass(frozen=True)
class Limits(ABC):
    """Two limits of a value: beyond the first it is no longer good, beyond the second it is bad.

    Attributes
    ----------
    good : float
        Largest deviation that is good.
    bad : float
        Largest deviation that is not bad.
    """

    good: float
    bad: float

    def verdict(self, value: float) -> Verdict:
        """Judge a value by its deviation."""
        deviation = self.deviation(value)
        return Verdict(int(deviation > self.good) + int(deviation > self.bad))

    @abstractmethod
    def deviation(self, value: float) -> float:
        """Return the number that is compared with the limits."""

    @abstractmethod
    def __str__(self) -> str:
        """Return the limits as people read them in a check."""


class AtMost(Limits):
    """Limits of a value that should be small."""

    def deviation(self, value: float) -> float:
        """Return the value itself."""
        return value

    def __str__(self) -> str:
        return f"good up to {self.good:.3g}, bad above {self.bad:.3g}"


class NearOne(Limits):
    """Limits of a ratio that should be 1, as absolute differences from 1."""

    def deviation(self, value: float) -> float:
        """Return the absolute difference from 1."""
        return abs(value - 1)

    def __str__(self) -> str:
        return f"good within {100 * self.good:.3g} % of 1, bad beyond {100 * self.bad:.3g} %"


class WithinFactor(Limits):
    """Limits of a ratio that should be 1, as factors by which it may be larger or smaller."""

    def deviation(self, value: float) -> float:
        """Return the ratio or its inverse, whichever is larger."""
        ratio = max(value, _LEAST_RATIO)
        return max(ratio, 1 / ratio)

    def __str__(self) -> str:
        return (
            f"good from {1 / self.good:.2g} to {self.good:.3g}, "
            f"bad below {1 / self.bad:.2g} or above {self.bad:.3g}"
        )


@dataclass(frozen=True)
class Check:
    """A measured value, the limits that were applied to it, and the verdict.

    Attributes
    ----------
    name : str
        The quantity: a noun phrase that "is …" can follow.
    value : float
        The measured value.
    accepted : str
        The limits in words.
    verdict : Verdict
        The verdict on the value.
    advice : str
        Sentence on what to do if the verdict is not GOOD, without the full stop.
    """

    name: str
    value: float
    accepted: str
    verdict: Verdict
    advice: str

    @classmethod
    def of(
        cls, name: str, value: float, limits: Limits, advice: str, worst: Verdict = Verdict.BAD
    ) -> Check:
        """Apply limits to a value.

        Parameters
        ----------
        name : str
            The quantity.
        value : float
            The measured value.
        limits : Limits
            Its limits; they give the verdict, and the text that states them.
        advice : str
            What to do if the verdict is not GOOD.
        worst : Verdict, optional
            The verdict is not worse than this one, for quantities that do limited harm.
        """
        return cls(name, value, str(limits), min(limits.verdict(value), worst), advice)

    def __str__(self):
        return f"{self.verdict.name}: {self.name} is {self.value:.3g}; {self.accepted}"

    def to_mapping(self) -> dict[str, Any]:
        """Return the attributes as plain values, for a file."""
        return asdict(self) | {"value": float(f"{self.value:.4g}"), "verdict": self.verdict.name}


@dataclass(frozen=True)
class Quality:
    """The quality of a run: all its checks.

    Attributes
    ----------
    checks : tuple of Check
        The checks that could be made.
    """

    checks: tuple[Check, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """The verdict of the worst check; GOOD if there is no check."""
        return max((check.verdict for check in self.checks), default=Verdict.GOOD)

    @property
    def reasons(self) -> list[str]:
        """The checks whose verdict is not GOOD, the worst first, each with its advice."""
        wrong = [check for check in self.checks if check.verdict > Verdict.GOOD]
        wrong.sort(key=lambda check: -check.verdict)
        return [f"{check}. {check.advice}" for check in wrong]

    def to_mapping(self) -> dict[str, Any]:
        """Return verdict, reasons and checks as plain values, for a file."""
        checks = [check.to_mapping() for check in self.checks]
        return {"verdict": self.verdict.name, "reasons": self.reasons, "checks": checks}
