"""What a run may use: processors are counted, threads are bounded, and nothing depends on it."""

import os
import subprocess
import sys
import threading
import time

import cv2
import numpy as np
import pytest
import yaml
from astropy.io import fits
from threadpoolctl import threadpool_info, threadpool_limits

import crdetect
from crdetect import resources as module
from crdetect.detectors import deepcr
from crdetect.errors import InputError
from crdetect.resources import Resources, available_processors
from crdetect.simulate import simulate_exposures

METHODS = ("joint", "mm_pycosmic", "mm_lacosmic", "lacosmic")
SHAPE = (240, 560)  # more than one block of rows
QUICK = {"mm_nsimulations": 2, "mm_seed": 1, "la_niter": 1}


@pytest.fixture(scope="module")
def exposures():
    return simulate_exposures(SHAPE, hit_fraction=0.005, double_hits=6, seed=3).exposures_adu


# ---------------------------------------------------------------------------------------------
# Processors


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """Eight processors, all of them allowed, and no cgroups."""
    monkeypatch.setattr(os, "process_cpu_count", lambda: 8, raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(module, "_CGROUPS_OF_PROCESS", tmp_path / "cgroup")
    monkeypatch.setattr(module, "_CGROUPS", tmp_path / "cgroups")
    return tmp_path


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.usefixtures("machine")
def test_all_processors_without_limits():
    assert available_processors() == 8
    assert Resources() == Resources(8, "auto")


@pytest.mark.usefixtures("machine")
def test_affinity(monkeypatch):
    monkeypatch.setattr(os, "process_cpu_count", lambda: 3)
    assert available_processors() == 3
    monkeypatch.delattr(os, "process_cpu_count")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1, 4})
    assert available_processors() == 2
    monkeypatch.delattr(os, "sched_getaffinity")
    assert available_processors() == 8
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert available_processors() == 1


@pytest.mark.subprocess
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")
def test_real_affinity():
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))});"
        "from crdetect.resources import *; print(available_processors(), Resources().workers)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "1"]


@pytest.mark.parametrize(
    ("quota", "expected"),
    [("200000 100000", 2), ("150000 100000", 2), ("5000 100000", 1), ("max 100000", 8), ("", 8)],
)
@pytest.mark.parametrize("where", ["", "batch", "batch/job"])
def test_quota_of_a_cgroup_and_those_around_it(machine, quota, expected, where):
    write(machine / "cgroup", "0::/batch/job\n")
    write(machine / "cgroups" / where / "cpu.max", f"{quota}\n")
    assert available_processors() == expected


def test_quota_of_a_container_whose_path_is_another_ones(machine):
    write(machine / "cgroup", "0::/../../elsewhere\n")
    write(machine / "cgroups/cpu.max", "300000 100000\n")
    assert available_processors() == 3


@pytest.mark.parametrize(
    ("quota", "period", "expected"), [(400000, 100000, 4), (-1, 100000, 8), (50000, 0, 8)]
)
@pytest.mark.parametrize("where", ["", "batch/job"])
def test_quota_of_version_1(machine, quota, period, expected, where):
    write(machine / "cgroup", "5:memory:/batch/job\n4:cpu,cpuacct:/batch/job\n1:name=x:/y\n")
    folder = machine / "cgroups" / "cpu,cpuacct" / where
    write(folder / "cpu.cfs_quota_us", f"{quota}\n")
    write(folder / "cpu.cfs_period_us", f"{period}\n")
    assert available_processors() == expected


@pytest.mark.parametrize("workers", [0, -2])
def test_no_worker_is_an_error(workers):
    with pytest.raises(InputError, match=rf"workers must be at least 1, not {workers}"):
        Resources(workers)


def test_what_may_be_given_instead():
    assert Resources.of(3) == Resources(3)
    assert Resources.of(None) == Resources()
    assert Resources.of(Resources(2, "cpu")) == Resources(2, "cpu")


# ---------------------------------------------------------------------------------------------
# Pools


class Watch:
    """Counts the calls that are running, and remembers the most."""

    def __init__(self):
        self.running = self.most = 0
        self.lock = threading.Lock()

    def __enter__(self):
        with self.lock:
            self.running += 1
            self.most = max(self.most, self.running)

    def __exit__(self, *_):
        with self.lock:
            self.running -= 1


@pytest.mark.parametrize("workers", [1, 2, 3, 5])
def test_map_keeps_the_order_and_the_bound(workers):
    watch = Watch()

    def square(i):
        with watch:
            time.sleep(0.002 * (i % 3))
            return i * i

    assert Resources(workers).map(square, iter(range(30))) == [i * i for i in range(30)]
    assert watch.most <= workers


def test_map_runs_as_many_as_it_may():
    barrier = threading.Barrier(3, timeout=30)  # broken, unless three come at a time
    assert len(Resources(3).map(lambda _: barrier.wait(), range(6))) == 6


@pytest.mark.parametrize(("workers", "items"), [(1, 5), (8, 1), (8, 0)])
def test_no_thread_where_none_is_needed(workers, items):
    here = threading.get_ident()
    assert Resources(workers).map(lambda _: threading.get_ident(), range(items)) == [here] * items


def test_exceptions_come_out():
    def fail(i):
        if i == 3:
            raise InputError("the third")
        return i

    for workers in (1, 2):
        with pytest.raises(InputError, match="the third"):
            Resources(workers).map(fail, range(9))


@pytest.mark.parametrize(("workers", "outer"), [(1, 3), (2, 2), (2, 5), (5, 2), (7, 3)])
@pytest.mark.parametrize("inner", [1, 2, 9])
def test_pools_in_pools_do_not_multiply(workers, outer, inner):
    watch, resources = Watch(), Resources(workers)

    def work(i):
        with watch:
            time.sleep(0.003)
            return i

    def between(i):
        return sum(resources.map(work, range(i, i + inner)))

    expected = [sum(range(i, i + inner)) for i in range(outer)]
    assert resources.map(between, range(outer)) == expected
    assert watch.most <= workers


def test_shares_of_a_pool():
    resources = Resources(7)
    assert resources.map(lambda _: resources.threads, range(3)) == [2] * 3
    assert resources.map(lambda _: Resources(1).threads, range(3)) == [1] * 3
    assert resources.map(lambda _: Resources(100).threads, range(9)) == [1] * 9
    assert resources.threads == 7


def test_a_pool_serves_several_maps():
    with Resources(2).pool() as in_threads:
        threads = {*in_threads(lambda _: threading.get_ident(), range(20))}
        threads |= {*in_threads(lambda _: threading.get_ident(), range(20))}
    assert len(threads) <= 2
    assert threading.get_ident() not in threads


# ---------------------------------------------------------------------------------------------
# Libraries with threads of their own


def limits(user_api):
    return {lib["num_threads"] for lib in threadpool_info() if lib["user_api"] == user_api}


@pytest.fixture
def four_everywhere():
    """OpenCV, BLAS, and OpenMP in this thread, with four threads each."""
    import astroscrappy  # noqa: F401 (loads OpenMP)

    before = cv2.getNumThreads()
    cv2.setNumThreads(4)
    with threadpool_limits(4):
        yield
    cv2.setNumThreads(before)


def state():
    return cv2.getNumThreads(), limits("blas"), limits("openmp")


@pytest.mark.usefixtures("four_everywhere")
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_libraries_are_bounded_and_set_back(workers):
    before = state()
    assert before == (4, {4}, {4})
    with Resources(workers).bounded():
        assert state() == (workers, {1}, {workers})
        assert Resources(9).threads == workers
        with Resources(9).bounded():
            assert state() == (workers, {1}, {workers})
    assert state() == before
    assert Resources(9).threads == 9


@pytest.mark.usefixtures("four_everywhere")
def test_libraries_keep_lower_limits_of_their_own():
    cv2.setNumThreads(2)
    with threadpool_limits(1), Resources(3).bounded():
        assert state() == (2, {1}, {1})
    assert state() == (2, {4}, {4})


@pytest.mark.usefixtures("four_everywhere")
def test_libraries_are_set_back_after_an_error():
    with pytest.raises(InputError), Resources(1).bounded():
        raise InputError("stop")
    assert state() == (4, {4}, {4})


@pytest.mark.usefixtures("four_everywhere")
def test_libraries_in_a_pool():
    barrier = threading.Barrier(2, timeout=30)

    def look(_):
        barrier.wait()
        return cv2.getNumThreads(), max(limits("openmp"))

    assert Resources(2).map(look, range(4)) == [(1, 1)] * 4
    with Resources(5).bounded():
        for opencv, openmp in Resources(5).map(look, range(2)):
            assert opencv == 2
            assert openmp <= 2
    assert state() == (4, {4}, {4})


@pytest.mark.usefixtures("four_everywhere")
def test_of_runs_at_the_same_time_the_lowest_limit_holds():
    entered, leave = threading.Event(), threading.Event()

    def other():
        with Resources(1).bounded():
            entered.set()
            leave.wait(30)

    thread = threading.Thread(target=other)
    with Resources(3).bounded():
        assert cv2.getNumThreads() == 3
        thread.start()
        assert entered.wait(30)
        assert cv2.getNumThreads() == 1
        assert Resources(3).threads == 3
    assert (cv2.getNumThreads(), limits("blas")) == (1, {1})
    leave.set()
    thread.join()
    assert state() == (4, {4}, {4})


# ---------------------------------------------------------------------------------------------
# Whole runs


RUN = """
import sys, time
import ccdproc, matplotlib.figure, numpy, scipy.linalg
import crdetect.cli, crdetect.interactive, crdetect.plots, crdetect.products

time.sleep(0.2)  # the threads that BLAS begins with go to sleep
everywhere, here, begin = time.process_time(), time.thread_time(), time.perf_counter()
assert crdetect.cli.main(sys.argv[1:]) == 0
everywhere, here = time.process_time() - everywhere, time.thread_time() - here
print("seconds", everywhere, here)
"""


@pytest.mark.subprocess
@pytest.mark.parametrize("crmethod", METHODS)
def test_one_worker_is_one_busy_thread(exposures, tmp_path, crmethod):
    """The operating system counts the time of all threads: only one has any."""
    for i, image in enumerate(exposures):
        fits.writeto(tmp_path / f"exposure_{i}.fits", image)
    names = [f"exposure_{i}.fits" for i in range(len(exposures))]
    requirements = {"crmethod": crmethod, "maxplots": 1} | QUICK
    content = {"images": names, "gain": 1.0, "rnoise": 3.4, "bias": 0.0}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(content | {"requirements": requirements}))
    command = ["run", "params.yaml", "--output-dir", "out", "--workers", "1"]
    done = subprocess.run(
        [sys.executable, "-c", RUN, *command],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "4", "MPLBACKEND": "agg"},
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "report.html").is_file()
    everywhere, here = map(float, done.stdout.splitlines()[-1].split()[1:])
    assert here > 0.2
    assert everywhere - here < 0.02 * here + 0.02


@pytest.fixture(scope="module")
def run(exposures):
    """Detect and combine; digests of all that depends on the exposures."""
    stack, noise = crdetect.Stack(exposures), crdetect.Noise(1.0, 3.4)

    def run(crmethod, workers, device="auto"):
        content = {"crmethod": crmethod, "device": device} | QUICK
        parameters = crdetect.Parameters.from_mapping(content)
        found = crdetect.detect(stack, noise, parameters, workers=workers)
        masks = found.masks
        images = [masks.mediancr, masks.meancrt, masks.crmasks, masks.meancr, found.auxclean]
        for combination in found.combine(stack, noise, Resources.of(workers)).values():
            images += combination.planes
        return [image.tobytes() for image in images]

    return run


@pytest.mark.parametrize("crmethod", METHODS)
def test_results_do_not_depend_on_resources(run, crmethod):
    expected = run(crmethod, workers=1)
    assert any(expected[0])
    assert run(crmethod, workers=2) == expected
    assert run(crmethod, workers=Resources(5), device="cpu") == expected


def test_detection_is_bounded_for_whoever_calls_it(exposures):
    """Also what is given no resources keeps to those of the run."""
    seen = []
    parameters = crdetect.Parameters.from_mapping({"crmethod": "lacosmic"} | QUICK)
    crdetect.detect(
        crdetect.Stack(exposures),
        crdetect.Noise(1.0, 3.4),
        parameters,
        workers=1,
        progress=lambda _: seen.append((Resources(64).threads, cv2.getNumThreads())),
    )
    assert {*seen} == {(1, 1)}


def test_a_network_divides_images_and_takes_one_after_the_other(exposures, monkeypatch):
    threads = []

    def probability(_detector, image_e):
        threads.append((threading.get_ident(), Resources(2).threads))
        return np.zeros_like(image_e)

    monkeypatch.setattr(deepcr.DeepCRDetector, "probability", probability)
    monkeypatch.setattr(deepcr.DeepCRDetector, "check", lambda *_: None)
    parameters = crdetect.Parameters.from_mapping({"crmethod": "deepcr"})
    crdetect.detect(crdetect.Stack(exposures), crdetect.Noise(1.0, 3.4), parameters, workers=2)
    assert threads == [(threading.get_ident(), 2)] * (len(exposures) + 3)
