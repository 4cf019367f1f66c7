"""Registry of the detectors that ``crmethod`` can name: built-in ones, and those of other packages.

Another package adds a detector by an entry point of the group ``crdetect.detectors``. The name of
the entry point is the name of the detector in ``crmethod``, its value is a subclass of
`crdetect.detectors.base.Detector`.
"""

from __future__ import annotations

import inspect
import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points

from crdetect.detectors.base import Detector
from crdetect.detectors.conn import ConnDetector
from crdetect.detectors.deepcr import DeepCRDetector
from crdetect.detectors.lacosmic import LACosmicDetector
from crdetect.detectors.pycosmic import PyCosmicDetector
from crdetect.methods import Method
from crdetect.schema.block import Block
from crdetect.schema.words import validate_block

_logger = logging.getLogger(__name__)

GROUP = "crdetect.detectors"
"""Group of entry points by which packages add detectors."""

BUILT_IN: dict[str, type[Detector]] = {
    "lacosmic": LACosmicDetector,
    "pycosmic": PyCosmicDetector,
    "deepcr": DeepCRDetector,
    "conn": ConnDetector,
}
"""The detectors of this package, by their names in ``crmethod``."""


class _Registry(Mapping[str, type[Detector]]):
    """Mapping of names to detectors, which reads the entry points when it is first used.

    Other packages import this one, so that they cannot be imported together with it.
    """

    @cached_property
    def _detectors(self) -> dict[str, type[Detector]]:
        return find_detectors(entry_points(group=GROUP))

    def __getitem__(self, name: str) -> type[Detector]:
        return self._detectors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._detectors)

    def __len__(self) -> int:
        return len(self._detectors)


REGISTRY: Mapping[str, type[Detector]] = _Registry()
"""All detectors, by their names in ``crmethod``."""


def find_detectors(entries: Iterable[EntryPoint]) -> dict[str, type[Detector]]:
    """Collect the built-in detectors and those of entry points.

    An entry point that does not name a valid detector is left out; a warning in the log says why.

    Parameters
    ----------
    entries : iterable of importlib.metadata.EntryPoint
        Entry points of the group ``crdetect.detectors``.

    Returns
    -------
    dict
        Subclasses of `Detector` by name.
    """
    found = dict(BUILT_IN)
    for entry in entries:
        try:
            kind = _load(entry)
            if kind is found.get(entry.name):
                continue  # the same entry point, of a package that is found twice
            _check(entry.name, kind, found)
        except Exception as error:  # noqa: BLE001 (another package may raise any exception)
            _warn(entry, error)
        else:
            found[entry.name] = kind
    return found


class _UnfitError(Exception):
    """Reason for which an entry point does not name a valid detector."""


def _load(entry: EntryPoint) -> type[Detector]:
    try:
        return entry.load()
    except Exception as error:
        raise _UnfitError(
            f"{entry.value} cannot be imported ({type(error).__name__}: {error})"
        ) from error


def _warn(entry: EntryPoint, error: Exception) -> None:
    package = entry.dist.name if entry.dist else "an unknown package"
    why = str(error) if isinstance(error, _UnfitError) else f"{type(error).__name__}: {error}"
    _logger.warning("detector %s of %s is left out: %s", entry.name, package, " ".join(why.split()))


def _check(name: str, kind: type[Detector], others: Mapping[str, type[Detector]]) -> None:
    """Check that a class is a valid detector of this name; raise _UnfitError if it is not."""
    if not name.isidentifier() or Method.parse(name) != Method(name, None):
        raise _UnfitError(f"{name} cannot be the name of a detector in crmethod")
    if name in others:
        raise _UnfitError(f"another detector has the name {name}")
    if not (isinstance(kind, type) and issubclass(kind, Detector)):
        raise _UnfitError(f"{kind!r} is not a subclass of crdetect.detectors.Detector")
    if inspect.isabstract(kind):
        missing = ", ".join(sorted(kind.__abstractmethods__))
        raise _UnfitError(f"{kind.__name__} does not define {missing}")
    block = getattr(kind, "block", None)
    if not (isinstance(block, type) and issubclass(block, Block)):
        raise _UnfitError(f"{kind.__name__} has no block of parameters (class attribute block)")
    _check_block(block, [other.block for other in others.values()])
    unknown = sorted(set(getattr(kind, "limits", ())) - set(block.model_fields))
    if unknown:
        raise _UnfitError(f"its limits {', '.join(unknown)} are not parameters of its block")


def _check_block(block: type[Block], others: list[type[Block]]) -> None:
    """Check the parameters of a detector; raise _UnfitError if they clash with others."""
    from crdetect.parameters import OWN_BLOCKS, Inputs  # this module imports the registry

    prefix, names = block.prefix, set(block.model_fields)
    if not prefix.isidentifier():
        raise _UnfitError(f"{block.__name__} has no prefix for the names of its parameters")
    if prefix in OWN_BLOCKS or prefix in {other.prefix for other in others}:
        raise _UnfitError(f"the prefix {prefix} is taken")
    without = sorted(name for name in names if not name.startswith(f"{prefix}_"))
    if without:
        raise _UnfitError(f"names of parameters must begin with {prefix}_: {', '.join(without)}")
    models: list[type[Block]] = [*others, *OWN_BLOCKS.values(), Inputs]
    taken = {name for model in models for name in model.model_fields}
    if twice := sorted(names & taken):
        raise _UnfitError(f"names of parameters are taken: {', '.join(twice)}")
    silent = sorted(name for name, field in block.model_fields.items() if not field.description)
    if silent:
        raise _UnfitError(f"parameters must have a description: {', '.join(silent)}")
    required = sorted(name for name, field in block.model_fields.items() if field.is_required())
    if required:
        raise _UnfitError(f"parameters must have a default: {', '.join(required)}")
    defaults = block()
    read, faults = validate_block(block, json.loads(json.dumps(dict(defaults))))
    if read is None:
        raise _UnfitError(f"a default is not accepted: {'; '.join(faults)}")
    if other := [name for name, value in defaults if value != getattr(read, name)]:
        raise _UnfitError(f"defaults become others when read from a file: {', '.join(other)}")
