"""What tests share: reference data, folders that are filled once, and which tests start what."""

import json
import logging
import os
import sys
from pathlib import Path

import pytest
from filelock import FileLock
from rich.logging import RichHandler

pytest.register_assert_rewrite("made", "person", "runs", "scenes")

SHARED = Path(__file__).resolve().parents[2] / "shared"
WORKER = os.environ.get("PYTEST_XDIST_WORKER")


@pytest.fixture(scope="session")
def shared():
    """Folder with reference cases and real data, which the project does not contain."""
    if not SHARED.is_dir():
        if os.environ.get("CI"):
            pytest.fail("../shared is missing, and in CI nothing is skipped")
        pytest.skip("the reference cases and real exposures (../shared) are not here")
    return SHARED


@pytest.fixture(scope="session")
def filled_once(tmp_path_factory):
    """Give a folder that one process of this run of the tests fills, and all may read.

    What the function that fills it returns comes back with the folder; it must fit into JSON.
    """
    base = tmp_path_factory.getbasetemp()
    base = base.parent if WORKER else base  # each worker has a folder of its own in it

    def folder(name, fill):
        path, filled, failed = base / name, base / f"{name}.filled", base / f"{name}.failed"
        with FileLock(base / f"{name}.lock"):
            if failed.exists():
                pytest.fail(f"{name} could not be made before: {failed.read_text()}")
            if not filled.exists():
                path.mkdir()
                try:
                    filled.write_text(json.dumps(fill(path)))
                except BaseException as error:
                    failed.write_text(str(error))
                    raise
        return path, json.loads(filled.read_text())

    return folder


@pytest.fixture(autouse=True)
def no_logging_of_the_command():
    """Take away the handler that the command has put up in this process, in whatever test."""
    root = logging.getLogger()
    for handler in root.handlers[:]:
        if isinstance(handler, RichHandler):
            root.removeHandler(handler)
    logging.captureWarnings(capture=False)


# ---------------------------------------------------------------------------------------------
# Marks say the truth

NETWORKS = {"deepcr", "conn"}


def pytest_collection_modifyitems(items):
    """Mark the tests whose parameters name a network."""
    for item in items:
        values = item.callspec.params.values() if hasattr(item, "callspec") else ()
        words = {word for value in values if isinstance(value, str) for word in value.split("_")}
        if words & NETWORKS:
            item.add_marker("networks")


class _Watch:
    """Notes that a process was started; what libraries ask the system is none of them."""

    started = False
    programs = ("python", "numina", "crdetect", "Xvfb", "chrom")

    def __call__(self, event, arguments):
        if event == "subprocess.Popen":
            self.started |= Path(os.fsdecode(arguments[0])).name.startswith(self.programs)


_WATCH = _Watch()
sys.addaudithook(_WATCH)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup():
    """Begin to watch before any fixture is made."""
    _WATCH.started = False


@pytest.fixture(autouse=True)
def marked_if_it_starts_processes(request):
    """Fail a test that starts a process and does not say so: `make check` leaves those out."""
    yield
    marks = {mark.name for mark in request.node.iter_markers()}
    marked = marks & {"subprocess", "browser", "window"}
    assert marked or not _WATCH.started, "starts a process: mark it subprocess, browser or window"
