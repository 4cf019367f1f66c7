"""Computing resources: the number of processors that a run may use, and pools of threads.

No result depends on them.

Four kinds of threads work in a run: those of the pools made here, those of OpenCV, those of OpenMP
(astroscrappy) and those of BLAS. Together they keep at most ``workers`` processors busy:

- Each thread of a run has a share of the processors. A pool divides the share of the thread that
  makes it among its own threads, so that a pool inside a pool does not multiply threads.
- OpenMP has a limit for each thread. It is set to the share of the thread.
- OpenCV and BLAS have one limit for the whole process. Several runs in one process may ask for
  different limits at a time: the lowest one holds. After the last run the process has the limits
  that it had before the first. Meanwhile they apply to all other code of the process, too.

torch has settings of its own: see `crdetect.detectors.networks`.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crdetect.errors import InputError

if TYPE_CHECKING:
    from threadpoolctl import LibController

_CGROUPS_OF_PROCESS = Path("/proc/self/cgroup")
_CGROUPS = Path("/sys/fs/cgroup")

# Number of threads of BLAS. BLAS may split a sum among its threads: with a fixed number of threads
# the last digits of a result cannot depend on the number of workers. One is enough, since the
# matrices are small.
_BLAS_THREADS = 1

_thread = threading.local()

Map = Callable[[Callable[[Any], Any], Iterable[Any]], list[Any]]
"""A function that calls a function with each item and returns the results in the order of items."""


def available_processors() -> int:
    """Count the processors that this process may use, at least 1.

    They are the processors of the machine, less those that the affinity of the process excludes,
    and no more than the quotas of its cgroups (containers, batch systems) allow. A fraction of a
    processor counts as one.
    """
    if hasattr(os, "process_cpu_count"):  # from Python 3.13 on
        number = os.process_cpu_count() or 1
    elif hasattr(os, "sched_getaffinity"):
        number = len(os.sched_getaffinity(0))
    else:
        number = os.cpu_count() or 1
    return max(1, min([number, *map(math.ceil, _cgroup_quotas())]))


def _cgroup_quotas() -> Iterator[float]:
    """Yield the quota, in processors, of each cgroup (version 1 or 2) that contains the process."""
    try:
        lines = _CGROUPS_OF_PROCESS.read_text(encoding="utf-8").splitlines()
    except OSError:  # the system is not Linux, or hides the file
        return
    for line in lines:
        number, controllers, path = line.split(":", 2)
        if number == "0":
            files: tuple[str, ...] = ("cpu.max",)
            base = _CGROUPS
        elif "cpu" in controllers.split(","):
            files, base = ("cpu.cfs_quota_us", "cpu.cfs_period_us"), _CGROUPS / controllers
        else:
            continue
        # A quota applies to all groups below it. In a container the path may lead outside of the
        # visible tree, of which the root is read in any case.
        for folder in (base / path.strip("/"), *(base / path.strip("/")).parents):
            yield from _quota(folder, files)
            if folder == base:
                break


def _quota(folder: Path, files: tuple[str, ...]) -> Iterator[float]:
    """Yield the quota of a cgroup, in processors, if it has one."""
    try:
        words = " ".join((folder / name).read_text(encoding="utf-8") for name in files).split()
        quota, period = float(words[0]), float(words[1])
    except (OSError, ValueError, IndexError):  # there is no such cgroup here, or its quota is "max"
        return
    if quota > 0 and period > 0:  # in version 1 a quota of −1 means no limit
        yield quota / period


@dataclass(frozen=True)
class Resources:
    """Computing resources of a run; they never change its result.

    Attributes
    ----------
    workers : int
        Number of processors that may be busy at a time; by default all that the process may use.
    device : str
        Device of networks: ``cpu``, ``cuda``, or ``auto`` for a GPU if there is one.

    Raises
    ------
    InputError
        If ``workers`` is not positive.
    """

    workers: int = field(default_factory=available_processors)
    device: str = "auto"

    def __post_init__(self):
        if self.workers < 1:
            raise InputError(f"workers must be at least 1, not {self.workers}")

    @classmethod
    def of(cls, workers: int | Resources | None) -> Resources:
        """Make resources from a number of workers; None stands for all available processors."""
        if isinstance(workers, Resources):
            return workers
        return cls() if workers is None else cls(workers)

    @property
    def threads(self) -> int:
        """Number of threads that the calling thread may keep busy, itself included.

        It is ``workers``, or the share of the calling thread if that is smaller: within `bounded`
        the whole run keeps to the resources of the run, whatever resources its parts are given.
        """
        return min(self.workers, getattr(_thread, "share", self.workers))

    def map(self, function: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
        """Call a function with each item, in threads.

        Parameters
        ----------
        function : callable
            Function that is called once with each item.
        items : iterable
            Arguments of the calls.

        Returns
        -------
        list
            Results of the calls, in the order of the items.

        Notes
        -----
        With one worker or one item the function is called in the calling thread. An exception of
        a call is raised here after all calls that had begun have ended.
        """
        items = list(items)
        with self.pool(len(items)) as in_threads:
            return in_threads(function, items)

    @contextmanager
    def pool(self, tasks: int | None = None) -> Iterator[Map]:
        """Keep a pool of threads for several maps, one after the other.

        Parameters
        ----------
        tasks : int, optional
            Largest number of items of a map, if it is known: the pool has no more threads.

        Yields
        ------
        callable
            Function that calls a function with each item, as `map` does.
        """
        here = self.threads
        threads = here if tasks is None else min(here, tasks)
        if threads <= 1:
            yield _in_turn
            return
        share = here // threads
        with (
            _opencv.at_most(share),
            ThreadPoolExecutor(
                threads, initializer=_begin, initargs=(share, _loaded("openmp"))
            ) as executor,
        ):
            yield lambda function, items: list(executor.map(function, items))

    @contextmanager
    def bounded(self) -> Iterator[None]:
        """Limit the calling thread, and all that it calls, to these resources.

        Inside, `threads` of any `Resources` is at most ``workers``, OpenMP has as many threads,
        OpenCV has no more, and BLAS has one. Afterwards all limits are as before. The contexts may
        be nested, and several threads may enter them at a time: the lowest of the limits that
        belong to the process (OpenCV, BLAS) applies then. A library that is loaded inside, with an
        OpenMP or a BLAS of its own, is not limited until `bounded` is entered anew.
        """
        before = getattr(_thread, "share", None)
        _thread.share = threads = self.threads
        try:
            with _blas.at_most(_BLAS_THREADS), _opencv.at_most(threads), _openmp_at_most(threads):
                yield
        finally:
            if before is None:
                del _thread.share
            else:
                _thread.share = before


def _in_turn(function: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
    return [function(item) for item in items]


def _begin(share: int, openmp: Sequence[LibController]) -> None:
    """Give a new thread of a pool its share of the processors."""
    _thread.share = share
    for library in openmp:
        library.set_num_threads(min(share, library.get_num_threads()))


@contextmanager
def _openmp_at_most(threads: int) -> Iterator[None]:
    """Limit the number of OpenMP threads of the calling thread."""
    loaded = [(library, library.get_num_threads()) for library in _loaded("openmp")]
    for library, before in loaded:
        library.set_num_threads(min(threads, before))
    try:
        yield
    finally:
        for library, before in loaded:
            library.set_num_threads(before)


def _loaded(user_api: str) -> Sequence[LibController]:
    """Find the loaded libraries of one kind, which takes less than a millisecond."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(user_api=user_api).lib_controllers


class _OpenCV:
    """OpenCV with the attributes that threadpoolctl gives to other libraries."""

    filepath = "cv2"

    def get_num_threads(self) -> int:
        import cv2

        return cv2.getNumThreads()

    def set_num_threads(self, threads: int) -> None:
        import cv2

        cv2.setNumThreads(threads)


class _LimitOfProcess:
    """A limit that belongs to the whole process: of several requests the lowest applies.

    Parameters
    ----------
    find : callable
        Function that finds the libraries with this limit; some may be loaded late.
    """

    def __init__(self, find: Callable[[], Iterable[LibController | _OpenCV]]):
        self._find = find
        self._lock = threading.Lock()
        self._asked: list[int] = []
        self._before: dict[str, tuple[Any, int]] = {}  # file: (library, original limit)

    @contextmanager
    def at_most(self, threads: int) -> Iterator[None]:
        """Request a limit until the context ends."""
        with self._lock:
            self._asked.append(threads)
            for library in self._find():
                before = library, library.get_num_threads()
                self._before.setdefault(library.filepath, before)
            self._set()
        try:
            yield
        finally:
            with self._lock:
                self._asked.remove(threads)
                self._set()
                if not self._asked:
                    self._before.clear()

    def _set(self) -> None:
        for library, before in self._before.values():
            threads = min([before, *self._asked])
            if library.get_num_threads() != threads:
                _free(library)
                library.set_num_threads(threads)
                _free(library)


def _free(library: Any) -> None:
    """Let any thread set the limit of a library.

    From version 3.8 on threadpoolctl accepts a limit only from the first thread that set one. The
    thread that restores the original limit is often another one and would be ignored.
    """
    if hasattr(library, "clear_controlling_thread"):
        library.clear_controlling_thread(force=True)


_opencv = _LimitOfProcess(lambda: [_OpenCV()])
_blas = _LimitOfProcess(lambda: _loaded("blas"))

ALL_PROCESSORS = Resources()
"""The default resources: all processors that the process may use when the package is imported."""
