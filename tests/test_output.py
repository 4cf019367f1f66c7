"""Publishing: whatever happens, and whenever, each product is the earlier or the new one, whole."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from crdetect import InputError
from crdetect.output import whole_or_nothing

STALE = (
    "crmasks.fits",
    "combined_*.fits",
    "diagnostic_crmask[0-9]*.png",
    "flux_factor[0-9]*.png",
    "mediancr_identified_any4.pdf",
    "problematic_pixels.csv",
    "data/exposure_[0-9]*.fits",
)


def content_of(folder: Path):
    return {
        str(path.relative_to(folder)): path.read_text() if path.is_file() else None
        for path in folder.rglob("*")
    }


@pytest.fixture
def earlier(tmp_path):
    """An output folder with products of an earlier run, and something else."""
    names = [
        "crmasks.fits",
        "combined_mean.fits",
        "diagnostic_crmask12.png",
        "flux_factor3.png",
        "mediancr_identified_any4.pdf",
        "problematic_pixels.csv",
        "notes.txt",
        "diagnostic_crmask_of_mine.png",
        "sub/crmasks.fits",
    ]
    (tmp_path / "sub").mkdir()
    for name in names:
        (tmp_path / name).write_text(f"earlier {name}")
    return tmp_path


def test_products_of_an_earlier_run_go_and_the_rest_stays(earlier):
    with whole_or_nothing(earlier, STALE) as folder:
        (folder / "crmasks.fits").write_text("new")
        assert (earlier / "crmasks.fits").read_text() == "earlier crmasks.fits"
    assert content_of(earlier) == {
        "crmasks.fits": "new",
        "notes.txt": "earlier notes.txt",
        "diagnostic_crmask_of_mine.png": "earlier diagnostic_crmask_of_mine.png",
        "sub": None,
        "sub/crmasks.fits": "earlier sub/crmasks.fits",
    }


def test_only_what_is_stale_goes(earlier):
    before = content_of(earlier)
    with whole_or_nothing(earlier, ["combined_*.fits"]) as folder:
        (folder / "combined_min.fits").write_text("new")
    after = content_of(earlier)
    assert after.pop("combined_min.fits") == "new"
    del before["combined_mean.fits"]
    assert after == before


def write_and_fail(output, error):
    with whole_or_nothing(output, STALE) as folder:
        (folder / "crmasks.fits").write_text("new")
        (folder / "part").mkdir()
        raise error("in the middle")


@pytest.mark.parametrize("error", [ValueError, InputError, KeyboardInterrupt, SystemExit])
def test_failure_leaves_the_folder_as_it_was(earlier, error):
    before = content_of(earlier)
    with pytest.raises(error):
        write_and_fail(earlier, error)
    assert content_of(earlier) == before


def test_failure_leaves_no_folder_that_was_not_there(tmp_path):
    with pytest.raises(OSError, match="in the middle"):
        write_and_fail(tmp_path / "a" / "b", OSError)
    assert list(tmp_path.iterdir()) == []


def test_new_folders_are_made(tmp_path):
    output = tmp_path / "a" / "b"
    with whole_or_nothing(output, STALE) as folder:
        (folder / "data").mkdir()
        (folder / "data" / "one.fits").write_text("new")
        (folder / "crmasks.fits").write_text("new")
    expected = {"data": None, "data/one.fits": "new", "crmasks.fits": "new"}
    assert content_of(output) == expected


def test_folders_that_are_there_keep_their_other_files(tmp_path):
    (tmp_path / "data").mkdir()
    for name in ("exposure_1.fits", "exposure_2.fits", "notes.txt"):
        (tmp_path / "data" / name).write_text("earlier")
    with whole_or_nothing(tmp_path, STALE) as folder:
        (folder / "data").mkdir()
        (folder / "data" / "exposure_1.fits").write_text("new")
    assert content_of(tmp_path) == {
        "data": None,
        "data/exposure_1.fits": "new",
        "data/notes.txt": "earlier",
    }


def test_folder_in_the_way_of_a_product(earlier):
    (earlier / "combined_min.fits").mkdir()
    before = content_of(earlier)
    with pytest.raises(InputError, match=r"combined_min\.fits"), whole_or_nothing(earlier, STALE):
        pytest.fail("nothing should be done")
    assert content_of(earlier) == before


def test_input_in_the_way_of_a_product(earlier):
    before = content_of(earlier)
    inputs = [earlier / "sub" / ".." / "crmasks.fits"]
    with (
        pytest.raises(InputError, match=r"crmasks\.fits is an input of this run"),
        whole_or_nothing(earlier, STALE, inputs),
    ):
        pytest.fail("nothing should be done")
    assert content_of(earlier) == before


@pytest.mark.parametrize("below", ["", "sub"])
def test_file_in_place_of_the_folder(tmp_path, below):
    (tmp_path / "file").touch()
    with (
        pytest.raises(InputError, match="cannot write in"),
        whole_or_nothing(tmp_path / "file" / below, STALE),
    ):
        pytest.fail("nothing should be done")
    assert content_of(tmp_path) == {"file": ""}


def write_while(output, meanwhile, product):
    with whole_or_nothing(output, STALE) as folder:
        for name in ("combined_mean.fits", product):
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text("new")
        meanwhile()


@pytest.mark.parametrize("product", ["crmasks.fits", "other.txt", "data/exposure_1.fits"])
def test_folder_that_comes_in_the_way_during_the_run(earlier, product):
    """Nothing is published, instead of the products before it in the alphabet only."""
    before = {name: text for name, text in content_of(earlier).items() if name != product}

    def meanwhile():
        (earlier / product).unlink(missing_ok=True)
        (earlier / product).mkdir(parents=True)

    with pytest.raises(InputError, match=f"{product} is a folder"):
        write_while(earlier, meanwhile, product)
    after = content_of(earlier)
    assert {name: text for name, text in after.items() if name in before} == before


def test_file_that_comes_in_place_of_a_folder_during_the_run(earlier):
    before = content_of(earlier)
    with pytest.raises(InputError, match="data is a file, not a folder"):
        write_while(
            earlier, lambda: (earlier / "data").write_text("in the way"), "data/exposure_1.fits"
        )
    assert content_of(earlier) == before | {"data": "in the way"}


# ---------------------------------------------------------------------------------------------
# Failing and killed at every step

NEW = {
    **{f"combined_{name}.fits": "new " * 50 for name in ("mean", "median", "min")},
    "crmasks.fits": "new " * 50,
    "data/exposure_1.fits": "new " * 50,
    "data/exposure_2.fits": "new " * 50,
    "report/index.html": "new " * 50,
}
EARLIER = {
    "combined_mean.fits": "earlier " * 30,
    "crmasks.fits": "earlier " * 30,
    "flux_factor3.png": "earlier " * 30,
    "problematic_pixels.csv": "earlier " * 30,
    "data/exposure_1.fits": "earlier " * 30,
    "data/exposure_3.fits": "earlier " * 30,
    "notes.txt": "mine",
}
CHANGED_AT = ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "shutil.rmtree", "open")

# Each run is a child of a process without threads. It ends at its k-th change of a file or folder:
# Python announces each of them to audit hooks.
RUNS = """
import errno, json, os, signal, sys
from pathlib import Path
from crdetect.output import whole_or_nothing

root, how, stale, new, earlier, events = json.loads(sys.argv[1])


def write(folder, files):
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def is_change(event, arguments):
    if event == "open":  # of a file that is written; a folder is opened to be locked or listed
        return arguments[1] not in (None, "r", "rb")
    return event in events


def run(output, last):
    seen = 0
    publishing = False

    def hook(event, arguments):
        nonlocal seen
        if not is_change(event, arguments):
            return
        seen += 1
        if seen == last + 1:
            print(json.dumps([output.name, publishing]), flush=True)
            if how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    sys.addaudithook(hook)
    with whole_or_nothing(output, stale) as folder:
        write(folder, new)
        publishing = True
    return seen > last


for last in range(1000):
    output = Path(root) / f"{last:03d}"
    write(output, earlier)
    child = os.fork()
    if not child:
        try:
            os._exit(0 if run(output, last) else 3)
        except OSError:
            os._exit(1)
        except BaseException as error:
            os._exit(1 if isinstance(error.__cause__, OSError) else 2)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code == 3:  # undisturbed
        break
    if code == 0:  # what failed was to make a folder that is there, or to remove the temporary one
        print(json.dumps([output.name, True]), flush=True)
        code = 1
    assert code == (-signal.SIGKILL if how == "kill" else 1), code
else:
    sys.exit("no run came to its end")
"""


@pytest.fixture(scope="module", params=["fail", "kill"])
def ended(request, tmp_path_factory):
    """How runs ended, and folders of runs that ended at their first, second… last step.

    The last folder is that of a run that was not disturbed.
    """
    root = tmp_path_factory.mktemp(request.param)
    arguments = json.dumps([str(root), request.param, STALE, NEW, EARLIER, CHANGED_AT])
    done = subprocess.run(
        [sys.executable, "-c", RUNS, arguments], capture_output=True, text=True, check=True
    )
    publishing = dict(map(json.loads, done.stdout.splitlines()))
    return request.param, publishing, sorted(root.iterdir())


def visible(folder):
    return {
        name: text
        for name, text in content_of(folder).items()
        if text is not None and not name.startswith(".crdetect-")
    }


@pytest.mark.subprocess
def test_each_product_is_the_earlier_or_the_new_one_whole(ended):
    _, publishing, folders = ended
    assert sum(publishing.values()) >= len(NEW)
    for folder in folders:
        found = visible(folder)
        for name, text in found.items():
            assert text in (EARLIER.get(name), NEW.get(name)), (folder.name, name)
        # what has an earlier and a new version is never missing
        assert set(found) >= set(EARLIER) & set(NEW), folder.name
        assert found["notes.txt"] == "mine"


@pytest.mark.subprocess
def test_stale_products_go_when_all_new_ones_are_there(ended):
    _, _, folders = ended
    stale = set(EARLIER) - set(NEW) - {"notes.txt"}
    for folder in folders:
        found = visible(folder)
        if not stale <= set(found):
            assert {name: found.get(name) for name in NEW} == NEW, folder.name


@pytest.mark.subprocess
def test_end_before_publishing_leaves_the_folder_as_it_was(ended):
    _, publishing, folders = ended
    before = [folder for folder in folders[:-1] if not publishing[folder.name]]
    assert len(before) > len(NEW)
    for folder in before:
        assert visible(folder) == EARLIER, folder.name


@pytest.mark.subprocess
def test_undisturbed_run_publishes_everything(ended):
    _, _, folders = ended
    expected = NEW | {"notes.txt": "mine"}
    assert {k: v for k, v in content_of(folders[-1]).items() if v is not None} == expected


@pytest.mark.subprocess
def test_only_a_killed_run_leaves_a_temporary_folder_and_the_next_removes_it(ended):
    how, _, folders = ended
    left = [folder for folder in folders if any(folder.glob(".crdetect-*"))]
    if how == "fail":  # only where removing it is what fails
        assert len(left) <= 3
    else:
        assert len(left) > len(NEW) + len(EARLIER)
    for folder in left:
        with whole_or_nothing(folder, STALE) as new:
            (new / "crmasks.fits").write_text("next")
        assert content_of(folder) == {
            name: "next" if name == "crmasks.fits" else text
            for name, text in content_of(folder).items()
            if not name.startswith(".crdetect-")
        }
        assert not any(folder.glob(".crdetect-*"))


WAITING = """
import sys
from pathlib import Path
from crdetect.output import whole_or_nothing

with whole_or_nothing(Path(sys.argv[1]), ["*.txt"]) as folder:
    (folder / "slow.txt").write_text("slow")
    print("ready", flush=True)
    sys.stdin.readline()
"""


@pytest.mark.subprocess
def test_runs_into_one_folder_at_once_leave_each_other_alone(tmp_path):
    command = [sys.executable, "-c", WAITING, tmp_path]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as slow:
        assert slow.stdout.readline() == "ready\n"
        with whole_or_nothing(tmp_path, ["*.csv"]) as outer:  # in one process, too
            (outer / "outer.csv").write_text("outer")
            with whole_or_nothing(tmp_path, ["*.fits"]) as inner:
                (inner / "inner.fits").write_text("inner")
        slow.communicate("go on\n")
    assert slow.returncode == 0
    expected = {"slow.txt": "slow", "outer.csv": "outer", "inner.fits": "inner"}
    assert content_of(tmp_path) == expected


def test_temporary_folders_that_are_not_ours_stay(tmp_path):
    """Those of another host, where locks of this one may not be seen."""
    (tmp_path / ".crdetect-some_other_host-x1").mkdir()
    (tmp_path / ".crdetect-x2").mkdir()
    before = content_of(tmp_path)
    with whole_or_nothing(tmp_path, STALE) as folder:
        (folder / "crmasks.fits").write_text("new")
    assert content_of(tmp_path) == before | {"crmasks.fits": "new"}
