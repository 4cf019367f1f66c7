"""Publication of products: they replace those of an earlier run once all are written."""

from __future__ import annotations

import os
import platform
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from crdetect.errors import InputError

try:
    import fcntl
except ImportError:  # elsewhere than on POSIX, folders are neither locked nor cleaned up later
    fcntl = None

# The name of the host is part of the name of a temporary folder, because on some network file
# systems a lock is seen by processes of the same host only.
_PREFIX = f".crdetect-{re.sub('[^A-Za-z0-9]+', '_', platform.node())}-"


@contextmanager
def whole_or_nothing(
    output: Path, stale: Sequence[str], inputs: Iterable[Path] = ()
) -> Iterator[Path]:
    """Provide a temporary folder for products, and publish them in ``output`` at the end.

    The temporary folder is hidden and lies in ``output``, so that publishing a product is a single
    rename. Publishing first moves every new product into place and then removes the stale files
    that no new product has replaced.

    * If an error occurs before publishing, as on a full disk, ``output`` stays as it was.
    * If publishing fails, or the process is killed meanwhile, each product is the earlier one or
      the new one, always whole; new and earlier products may stand side by side then.
    * If the process is killed by a signal that it cannot handle, its temporary folder stays. The
      next run on the same host removes it. Folders of runs that are still alive are left alone.

    Parameters
    ----------
    output : Path
        Folder for the products; it is made if it is missing.
    stale : sequence of str
        Patterns of the files of an earlier run, which must not remain beside the new products.
    inputs : iterable of Path
        Input files of the run, which must not be replaced.

    Yields
    ------
    Path
        The temporary folder. All files in it are published at the end, with their folders.

    Raises
    ------
    InputError
        If the output folder cannot be made or written to, or an input or a folder has the name of
        a product.
    """
    inputs = list(inputs)
    _check_in_the_way(output, _matches(output, stale), inputs)
    made = [folder for folder in (output, *output.parents) if not folder.exists()]
    try:
        with _temporary_folder(output) as folder:
            yield folder
            files = (path for path in folder.rglob("*") if path.is_file())
            new = {output / path.relative_to(folder) for path in files}
            _check_in_the_way(output, [*_matches(output, stale), *new], inputs)
            _move_into(folder, output)
            for path in _matches(output, stale):
                if path not in new:
                    path.unlink(missing_ok=True)  # another run may have removed it meanwhile
    except BaseException:
        for folder in made:
            if folder.exists() and not any(folder.iterdir()):
                folder.rmdir()
        raise


def _matches(output: Path, patterns: Sequence[str]) -> list[Path]:
    return [path for pattern in patterns for path in output.glob(pattern)]


def _check_in_the_way(output: Path, paths: Iterable[Path], inputs: Iterable[Path]) -> None:
    """Raise InputError if a path that will be replaced is a folder or an input."""
    kept = {path.resolve() for path in inputs}
    for path in paths:
        if path.is_dir():
            fault = f"{path.relative_to(output)} is a folder"
        elif path.resolve() in kept:
            fault = f"{path.relative_to(output)} is an input of this run"
        elif path.parent.is_file():
            fault = f"{path.parent.relative_to(output)} is a file, not a folder"
        else:
            continue
        raise InputError(f"cannot write in {output}: {fault}")


def _move_into(folder: Path, output: Path) -> None:
    """Move all files to the same relative paths in another folder, each by a single rename."""
    for path in sorted(folder.iterdir()):
        target = output / path.name
        if path.is_dir() and target.is_dir():
            _move_into(path, target)
        else:
            path.replace(target)  # a new folder is moved with all its files


# ---------------------------------------------------------------------------------------------
# Temporary folders


@contextmanager
def _temporary_folder(output: Path) -> Iterator[Path]:
    """Make a hidden folder that is locked while this process lives, and remove it at the end."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        _remove_left_behind(output)
        folder, lock = _make_locked(output)
    except OSError as error:
        raise InputError(f"cannot write in {output}: {error.strerror or error}") from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        _unlock(lock)


def _make_locked(output: Path) -> tuple[Path, int | None]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=output))
        lock = _lock(folder, wait=True)
        if folder.exists():
            return folder, lock
        _unlock(lock)  # another run cleaned up just before the folder was locked


def _remove_left_behind(output: Path) -> None:
    """Remove the temporary folders of processes of this host that have died."""
    for folder in output.glob(f"{_PREFIX}*"):
        lock = _lock(folder, wait=False)
        if lock is not None:
            shutil.rmtree(folder, ignore_errors=True)
            _unlock(lock)


def _lock(folder: Path, wait: bool) -> int | None:
    """Lock a folder until the process ends, however it ends.

    Returns
    -------
    int or None
        The file descriptor that holds the lock; None if another process holds it, or the file
        system has no locks.
    """
    if fcntl is None:
        return None
    descriptor = None
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        _unlock(descriptor)
        return None
    return descriptor


def _unlock(descriptor: int | None) -> None:
    if descriptor is not None:
        os.close(descriptor)
