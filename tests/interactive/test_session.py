"""Whole runs with a person: by the command and by numina, on Agg and in real windows."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from astropy.io import fits
from person import WAIT_S, click, environment, needs, press

from crdetect.cli import main
from crdetect.interactive import session

BIN = Path(sys.executable).parent
CRDETECT = [sys.executable, "-m", "crdetect.cli"]
SIMULATE = ["--shape", "96", "128", "--double-hits", "6", "--seed", "5"]
DIFFERENT = [
    *["--flux", "0.9", "1.0", "1.1"],
    *["--offset", "-0.3", "0.2", "--offset", "0", "0", "--offset", "0.3", "-0.1"],
]


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("simulated")
    assert main(["simulate", str(folder), *SIMULATE]) == 0
    return folder


@pytest.fixture(scope="module")
def different(tmp_path_factory):
    """Exposures that measuring flux and offsets is worth while for."""
    folder = tmp_path_factory.mktemp("different")
    assert main(["simulate", str(folder), *SIMULATE, *DIFFERENT]) == 0
    return folder


@pytest.fixture
def work(simulated, tmp_path):
    return Path(shutil.copytree(simulated, tmp_path / "work"))


def run(work, output, *settings):
    sets = [word for setting in settings for word in ("--set", setting)]
    command = ["run", str(work / "params.yaml"), "--output-dir", str(work / output)]
    return main([*command, "--no-plots", *sets])


def images_of(path):
    with fits.open(path) as hdul:
        return {
            hdu.name: hdu.data.tobytes() for hdu in hdul if hdu.is_image and hdu.data is not None
        }


def assert_repeats(params, output):
    """Run the file that a run left, without anybody, and compare all images byte by byte."""
    command = ["run", str(params), "--output-dir", str(output), "--workers", "1"]
    assert main([*command, "--no-plots"]) == 0
    first, again = (images_of(folder / "crmasks.fits") for folder in (params.parent, output))
    assert "MEDIANCR" in first
    assert first == again
    left, made = (
        yaml.safe_load((f / "params_used.yaml").read_text()) for f in (params.parent, output)
    )
    assert left == made


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        ["mm_seed=none"],
        ["flux_factor=auto", "mm_photon_distribution=nbinom", "mm_nbinom_shape=auto"],
        ["mm_crosscorr_region=[1, 128, 1, 96]", "dilation=1"],
        ["crmethod=lacosmic"],
        ["flux_factor=auto", "apply_flux_factor_to=original", "mm_simulation=analytic"],
    ],
    ids=str,
)
def test_run_without_a_person_can_be_repeated(different, tmp_path, settings):
    assert run(different, tmp_path / "out", *settings) == 0
    assert_repeats(tmp_path / "out/params_used.yaml", tmp_path / "again")


@pytest.mark.slow
def test_run_with_a_person_can_be_repeated(hands, different, tmp_path):
    hands.will(*click(100, 40), *click(300, 90), press("f"), press("r"), *click(100, 40, button=3))
    hands.will_answer("1", "", "6", "2", "3", "a 30 35", "")
    hands.will_answer("nbinom", "auto", "", "4", "none")
    hands.will(press("c"), press("b"), *click(500, 100), press("c"), press("c"))
    hands.will(press("r"), press("m"), press("k"), press("q"))
    assert (
        run(different, tmp_path / "out", "interactive=true", "verify_cr=true", "flux_factor=auto")
        == 0
    )
    used = yaml.safe_load((tmp_path / "out/params_used.yaml").read_text())
    requirements = used["requirements"]
    assert not requirements["interactive"]
    assert not requirements["verify_cr"]
    assert requirements["mm_knots_splfit"] == 6
    assert len(requirements["mm_fixed_points_in_boundary"]) == 3
    assert requirements["mm_seed"] not in (None, 123456)
    assert requirements["pixels_to_be_ignored_as_cr"]
    assert requirements["pixels_to_be_ignored_in_mediancr"]
    assert all(Path(name).is_absolute() for name in used["images"])
    hands.script.clear()
    assert_repeats(tmp_path / "out/params_used.yaml", tmp_path / "again")


def test_file_that_repeats_is_not_overwritten(work, capsys):
    assert run(work, "out") == 0
    before = (work / "out/params_used.yaml").read_bytes()
    params = str(work / "out/params_used.yaml")
    assert main(["run", params, "--output-dir", str(work / "out")]) == 2
    assert "params_used.yaml is an input of this run" in capsys.readouterr().err
    assert (work / "out/params_used.yaml").read_bytes() == before


@pytest.mark.parametrize("before", [[], [press("c")], [press("c"), press("c"), press("r")]])
def test_stop_writes_nothing(hands, work, capsys, before):
    hands.will(*before, press("x"))
    files = sorted(work.rglob("*"))
    assert run(work, "out", "interactive=true", "verify_cr=true") == 3
    assert capsys.readouterr().err.strip().endswith("crdetect: stopped, nothing is written")
    assert sorted(work.rglob("*")) == files


def test_stored_boundary_is_not_refined(work, capsys):
    assert run(work, "out") == 0
    crmasks = str(work / "out/crmasks.fits")
    params = [str(work / "params.yaml"), "--boundary", crmasks, "--set", "interactive=true"]
    assert main(["run", *params, "--output-dir", str(work / "other")]) == 2
    assert "--boundary and interactive: true exclude each other" in capsys.readouterr().err


@pytest.mark.slow
def test_stored_boundary_and_verified_features_repeat(hands, work):
    assert run(work, "out", "mm_seed=7") == 0
    boundary = ["--boundary", str(work / "out/crmasks.fits")]
    hands.will(press("k"), press("r"), press("q"))
    output = work / "verified"
    params = ["run", str(work / "params.yaml"), *boundary, "--set", "verify_cr=true"]
    assert main([*params, "--output-dir", str(output), "--no-plots"]) == 0
    used = output / "params_used.yaml"
    assert boundary[1] in used.read_text().splitlines()[0]
    again = work / "again"
    assert main(["run", str(used), *boundary, "--output-dir", str(again), "--no-plots"]) == 0
    assert images_of(output / "crmasks.fits") == images_of(again / "crmasks.fits")


@pytest.mark.subprocess
def test_without_a_terminal_the_run_goes_on_alone(work):
    assert run(work, "alone") == 0
    command = [*CRDETECT, "run", "params.yaml", "--no-plots", "--output-dir", "out"]
    done = subprocess.run(
        [*command, "--set", "interactive=true", "--set", "verify_cr=true"],
        cwd=work, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=WAIT_S,
        env=environment(), check=False,
    )  # fmt: skip
    assert done.returncode == 0
    told = " ".join(done.stderr.split())
    assert "interactive and verify_cr: there is no terminal; the run goes on as without" in told
    assert images_of(work / "out/crmasks.fits") == images_of(work / "alone/crmasks.fits")


@pytest.mark.subprocess
def test_without_a_display_the_run_goes_on_alone(work, start):
    command = [*CRDETECT, "run", "params.yaml", "--no-plots", "--output-dir", "out"]
    console = start([*command, "--set", "interactive=true"], work)
    console.sees("there is no display")
    assert console.end() == 0, console.text[-2000:]
    assert (work / "out/crmasks.fits").is_file()


@pytest.mark.parametrize("name", ["interactive", "verify_cr"])
def test_why_nobody_is_asked(monkeypatch, name):
    from crdetect import Parameters

    monkeypatch.setattr(session.terminal, "is_here", lambda: False)
    parameters = Parameters.from_mapping({name: True})
    assert session.nobody(parameters) == f"{name}: there is no terminal; the run goes on as without"


# ---------------------------------------------------------------------------------------------
# Real windows


# without -noreset a screen starts anew when its last client leaves, as each xdotool may be, and
# who connects meanwhile is refused
SCREEN = ["Xvfb", "-noreset", "-nolisten", "tcp", "-screen", "0", "1600x1000x24"]


@pytest.fixture(scope="module")
def display():
    """A screen in memory, of this process alone."""
    needs("Xvfb", "xdotool")
    read, write = os.pipe()
    server = subprocess.Popen(
        [*SCREEN, "-displayfd", str(write)], pass_fds=[write], stderr=subprocess.DEVNULL
    )
    os.close(write)
    with os.fdopen(read) as numbers:
        yield f":{numbers.readline().strip()}"
    server.terminate()
    server.wait()


class Desk:
    """Keys and mouse of a screen."""

    def __init__(self, display):
        self.env = environment(DISPLAY=display)

    def do(self, *words):
        command = ["xdotool", *map(str, words)]
        done = subprocess.run(
            command, env=self.env, capture_output=True, text=True, check=False, timeout=WAIT_S
        )
        return done.stdout.split()

    def window(self, title):
        end = time.monotonic() + WAIT_S
        while not (found := self.do("search", "--onlyvisible", "--name", title)):
            assert time.monotonic() < end, f"no window {title}"
            time.sleep(0.1)
        time.sleep(0.5)  # drawn after it is mapped
        return found[0]

    def press(self, title, *keys):
        self.do("windowfocus", "--sync", self.window(title), "key", "--delay", "100", *keys)

    def drag(self, *places):
        self.do("mousemove", "--sync", *places[0], "mousedown", "1")
        for place in places[1:]:
            time.sleep(0.3)
            self.do("mousemove", "--sync", *place)
        time.sleep(0.3)
        self.do("mouseup", "1")


@pytest.mark.window
def test_real_windows(work, display, start):
    """A person at a screen: prompts, the mouse, the figure of MEDIANCR, verdicts."""
    command = [
        *CRDETECT,
        "run",
        "params.yaml",
        "--no-plots",
        "--output-dir",
        "out",
        "--set",
        "interactive=true",
    ]
    desk = Desk(display)
    console = start([*command, "--set", "verify_cr=true"], work, DISPLAY=display)
    desk.press("Median-Minimum", "question")
    console.sees("repeat the fit")
    desk.press("Median-Minimum", "f")
    console.sees("mm_hist2d_min_neighbors (")
    console.types("9")
    console.sees("must be an integer from 0 to 8, not 9")
    console.types("0", "", "4", "", "", "a 100 50")
    console.sees("fixed points: 1")
    console.types("")
    console.sees("flagged in median2d")
    desk.drag((400, 300), (420, 320), (440, 350))
    desk.press("Median-Minimum", "c")
    desk.window("MEDIANCR")
    desk.do("mousemove", "--sync", 300, 600)
    desk.press("MEDIANCR", "i", "ampersand")
    console.sees("flagged pixels in the zoom")
    desk.press("MEDIANCR", "c")
    desk.press("Features", "r")
    desk.press("Features", "q")
    console.sees("1 rejected")
    assert console.end() == 0, console.text[-2000:]
    used = yaml.safe_load((work / "out/params_used.yaml").read_text())["requirements"]
    assert used["mm_knots_splfit"] == 4
    assert used["pixels_to_be_ignored_as_cr"]
    assert used["mm_fixed_points_in_boundary"][0] == [100, 50]
    assert len(used["mm_fixed_points_in_boundary"]) == 2  # one by the mouse
    assert_repeats(work / "out/params_used.yaml", work / "again")


@pytest.mark.window
def test_interrupt_in_a_real_window(work, display, start):
    command = [
        *CRDETECT,
        "run",
        "params.yaml",
        "--no-plots",
        "--output-dir",
        "out",
        "--set",
        "interactive=true",
    ]
    console = start(command, work, DISPLAY=display)
    Desk(display).window("Median-Minimum")
    console.process.send_signal(2)
    assert console.end() == 130
    assert not (work / "out").exists()


def numina(work):
    block = yaml.safe_load(next(iter((work / "obs.yaml").read_text().split("---"))))
    block["requirements"] = block.get("requirements", {}) | {"interactive": True, "mm_seed": None}
    (work / "obs.yaml").write_text(yaml.safe_dump(block))
    return [str(BIN / "numina"), "run", "obs.yaml", "-r", "control.yaml"], block


@pytest.mark.window
def test_numina_with_a_person(work, display, start):
    command, block = numina(work)
    desk, console = Desk(display), start(command, work, DISPLAY=display)
    desk.window("Median-Minimum")
    desk.drag((400, 300), (420, 320), (440, 350))
    desk.press("Median-Minimum", "c")
    desk.press("MEDIANCR", "c")
    assert console.end() == 0, console.text[-2000:]
    name = block["id"]
    used = yaml.safe_load((work / f"obsid{name}_work/params_used.yaml").read_text())
    first = images_of(work / f"obsid{name}_results/crmasks.fits")
    assert len(used["requirements"]["mm_fixed_points_in_boundary"]) == 1
    block |= used | {"id": "again"}
    (work / "obs.yaml").write_text(yaml.safe_dump(block))
    subprocess.run(command, cwd=work, check=True, capture_output=True, env=environment())
    assert images_of(work / "obsidagain_results/crmasks.fits") == first


@pytest.mark.window
def test_numina_stopped(work, display, start):
    command, block = numina(work)
    desk, console = Desk(display), start(command, work, DISPLAY=display)
    desk.press("Median-Minimum", "x")
    assert console.end() == 3, console.text[-2000:]
    assert "stopped" in console.text
    assert not list(work.glob(f"obsid{block['id']}_results/*.fits"))
    assert not np.any([path.suffix == ".csv" for path in work.glob("obsid*_work/*")])
