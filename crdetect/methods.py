"""What ``crmethod`` says: a detector of one image, a criterion that compares exposures, or both.

``pycosmic`` is a detector alone, ``mmcosmic`` and ``joint`` are criteria alone, ``mm_pycosmic`` and
``joint_pycosmic`` are a criterion with a detector. Only this module looks at these spellings.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class CriterionName:
    """How a criterion that compares exposures is named, and what it needs.

    Attributes
    ----------
    alone : str
        The crmethod in which it works without a detector of one image.
    label : str
        What people call it.
    fewest_exposures : int
        Number of exposures that it needs at least.
    """

    alone: str
    label: str
    fewest_exposures: int


CRITERIA = {
    "mm": CriterionName("mmcosmic", "M.M.Cosmic", 3),
    "joint": CriterionName("joint", "joint detection", 2),
}
"""The criteria, by what stands before the name of the detector, and an underscore, in crmethod."""

FEWEST_EXPOSURES = 3
"""Number of exposures that a detector of one image needs: of two, no median rejects a hit."""


@dataclass(frozen=True)
class Method:
    """A detector of one image, a criterion that compares exposures, or both.

    Attributes
    ----------
    detector : str or None
        Name of the detector, a key of `crdetect.detectors.REGISTRY`; None for a criterion alone.
    criterion : str or None
        Name of the criterion, a key of `CRITERIA`; None for a detector alone.
    """

    detector: str | None
    criterion: str | None

    @classmethod
    def parse(cls, crmethod: str) -> Method:
        """Split a crmethod into detector and criterion; whether the detector exists is not asked.

        >>> Method.parse("joint_lacosmic")
        Method(detector='lacosmic', criterion='joint')
        """
        for name, criterion in CRITERIA.items():
            if crmethod == criterion.alone:
                return cls(None, name)
            if crmethod.startswith(f"{name}_"):
                return cls(crmethod.removeprefix(f"{name}_"), name)
        return cls(crmethod, None)

    def __str__(self):
        if self.criterion is None:
            return self.detector or ""
        return f"{self.criterion}_{self.detector}" if self.detector else self._criterion.alone

    @property
    def _criterion(self) -> CriterionName:
        return CRITERIA[self.criterion]

    @property
    def label(self) -> str | None:
        """What people call the criterion; None for a detector alone."""
        return self._criterion.label if self.criterion else None

    @property
    def fewest_exposures(self) -> int:
        """Number of exposures that are needed at least."""
        return self._criterion.fewest_exposures if self.criterion else FEWEST_EXPOSURES


def all_methods(detectors: Iterable[str]) -> list[str]:
    """List every crmethod that there is with detectors of these names.

    >>> all_methods(["toy"])
    ['toy', 'mmcosmic', 'mm_toy', 'joint', 'joint_toy']
    """
    names = list(detectors)
    methods = [Method(detector, None) for detector in names]
    for criterion in CRITERIA:
        methods += [Method(detector, criterion) for detector in (None, *names)]
    return [str(method) for method in methods]
