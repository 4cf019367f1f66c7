"""The detection method named by ``crmethod``: a detector of one image, a criterion, or both.

A detector looks at one image at a time, a criterion compares the exposures with each other.
``pycosmic`` names a detector alone, ``mmcosmic`` and ``joint`` name a criterion alone,
``mm_pycosmic`` and ``joint_pycosmic`` name a criterion with a detector. No other module parses
these names.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class CriterionName:
    """Names of a criterion, and the number of exposures that it needs.

    Attributes
    ----------
    alone : str
        The crmethod that names the criterion without a detector.
    label : str
        Name in messages, figures and reports.
    fewest_exposures : int
        Minimum number of exposures.
    """

    alone: str
    label: str
    fewest_exposures: int


CRITERIA = {
    "mm": CriterionName("mmcosmic", "M.M.Cosmic", 3),
    "joint": CriterionName("joint", "joint detection", 2),
}
"""The criteria by their prefixes in ``crmethod``, which an underscore and a detector follow."""

FEWEST_EXPOSURES = 3
"""Minimum number of exposures for a detector alone: the median of two does not reject a hit."""


@dataclass(frozen=True)
class Method:
    """Detection method: a detector of one image, a criterion that compares exposures, or both.

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
        """Split a crmethod into detector and criterion.

        It is not checked whether there is such a detector.

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
        """Name of the criterion in messages, figures and reports; None for a detector alone."""
        return self._criterion.label if self.criterion else None

    @property
    def fewest_exposures(self) -> int:
        """Minimum number of exposures."""
        return self._criterion.fewest_exposures if self.criterion else FEWEST_EXPOSURES


def all_methods(detectors: Iterable[str]) -> list[str]:
    """List the valid values of ``crmethod``, given the names of the detectors.

    >>> all_methods(["toy"])
    ['toy', 'mmcosmic', 'mm_toy', 'joint', 'joint_toy']
    """
    names = list(detectors)
    methods = [Method(detector, None) for detector in names]
    for criterion in CRITERIA:
        methods += [Method(detector, criterion) for detector in (None, *names)]
    return [str(method) for method in methods]
