"""The walls between the parts of the package."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import crdetect

PACKAGE = Path(crdetect.__file__).parent
TESTS = Path(__file__).parent
MODULES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))
FILES = sorted(
    path.relative_to(PACKAGE).as_posix()
    for path in PACKAGE.rglob("*")
    if path.is_file() and path.suffix in (".py", ".yaml", ".json")
)
OUTSIDE = (
    *("cli.py", "run.py", "catalogue.py", "recipe.py", "megara.py", "loader.py", "interactive/"),
    *("plots/", "configs/", "recipes/"),
)
ARRAY_PART = [name for name in MODULES if not name.startswith(OUTSIDE)]
WITHOUT_TESTS_OF_THEIR_OWN = (
    *("__init__.py", "errors.py", "mm/__init__.py", "joint/__init__.py", "equivalence/__init__.py"),
    *("schema/__init__.py", "mm/parameters.py", "joint/parameters.py"),  # see test_parameters
    *("interactive/__init__.py", "configs/", "recipes/", "plots/"),
)
WAITING = {
    "input",
    "getpass",
    "start_event_loop",
    "waitforbuttonpress",
    "ginput",
    "pause",
}
ASKS_A_PERSON = "crdetect.interactive"

RUN = """
import sys
import numpy as np
import crdetect

rng = np.random.default_rng(1)
exposures = rng.normal(100.0, 3.0, (3, 48, 48))
exposures[:2, 20, 30] += 500.0
stack, noise = crdetect.Stack(exposures), crdetect.Noise(1.0, 3.0)
parameters = crdetect.Parameters.from_mapping({"crmethod": sys.argv[1]})
detection = crdetect.detect(stack, noise, parameters)
assert detection.masks.mediancr[20, 30]
detection.combine(stack, noise)
print(*sorted({name.partition(".")[0] for name in sys.modules}), file=sys.stderr)
"""


def tree_of(module):
    return ast.parse((PACKAGE / module).read_text(encoding="utf-8"))


def imported_by(module):
    """Top-level names of what a module imports, anywhere in it."""
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def called_in(module):
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield node.func.id


@pytest.mark.subprocess
@pytest.mark.parametrize("crmethod", ["mm_pycosmic", "mm_lacosmic", "mm_deepcr", "mm_conn"])
def test_detecting_on_arrays_needs_neither_numina_nor_matplotlib(crmethod):
    done = subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", "-c", RUN, crmethod],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    loaded = done.stderr.split()
    assert "crdetect" in loaded
    assert not {"numina", "matplotlib", "rich", "megaradrp", "tensorboard"} & set(loaded)
    assert ("torch" in loaded) == (crmethod in ("mm_deepcr", "mm_conn"))


@pytest.mark.parametrize("module", ARRAY_PART)
def test_array_part_knows_neither_framework_nor_screen(module):
    roots = {name.partition(".")[0] for name in imported_by(module)}
    assert not roots & {"numina", "matplotlib", "rich", "megaradrp"}
    outside = {f"crdetect.{name.removesuffix('.py').rstrip('/')}" for name in OUTSIDE}
    assert not outside & set(imported_by(module))


BELOW = {
    "equivalence/": ("crdetect.mm", "crdetect.joint", "crdetect.pipeline", "crdetect.quality"),
    "mm/": ("crdetect.joint", "crdetect.pipeline", "crdetect.quality"),
    "joint/": ("crdetect.mm", "crdetect.pipeline", "crdetect.quality"),
    "detectors/": ("crdetect.mm", "crdetect.joint", "crdetect.pipeline", "crdetect.quality"),
}
"""What each package must not import: the criteria do not know each other, and stand above."""


@pytest.mark.parametrize("folder", BELOW)
def test_packages_stand_above_each_other(folder):
    modules = [name for name in MODULES if name.startswith(folder)]
    imported = {name for module in modules for name in imported_by(module)}
    assert not {name for name in imported if name.startswith(BELOW[folder])}
    assert any(name.startswith("crdetect.") for name in imported)


@pytest.mark.parametrize("module", ARRAY_PART)
def test_array_part_prints_and_asks_nothing(module):
    assert not {"print", "input", "breakpoint"} & set(called_in(module))


@pytest.mark.parametrize("module", [name for name in MODULES if "interactive/" not in name])
def test_nothing_else_waits_for_a_person(module):
    """Nobody else asks, opens windows or reads the terminal; and only the doors know who does."""
    names = {
        node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        for node in ast.walk(tree_of(module))
        if isinstance(node, ast.Call)
    }
    attributes = {
        node.attr for node in ast.walk(tree_of(module)) if isinstance(node, ast.Attribute)
    }
    assert not WAITING & names
    assert "stdin" not in attributes
    imported = set(imported_by(module))
    assert not {name for name in imported if "pyplot" in name}
    if module not in ("cli.py", "recipe.py"):
        assert not {name for name in imported if name.startswith(ASKS_A_PERSON)}


@pytest.mark.subprocess
def test_running_without_a_person_opens_no_toolkit():
    code = "import crdetect.cli, crdetect.recipe, crdetect.interactive, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = done.stdout.split()
    assert "crdetect.interactive.session" in loaded
    assert not {"matplotlib.pyplot", "tkinter", "PySide6"} & set(loaded)


@pytest.mark.parametrize("module", MODULES)
def test_nothing_is_evaluated(module):
    assert not {"eval", "exec", "compile", "__import__"} & set(called_in(module))
    assert not {"pickle", "marshal", "shelve"} & set(imported_by(module))


@pytest.mark.parametrize("name", FILES)
def test_code_of_others_is_not_used(name):
    text = (PACKAGE / name).read_text(encoding="utf-8")
    for other in ("numina.array.crmasks", "teareduce"):
        assert other not in text


def test_public_names():
    assert all(hasattr(crdetect, name) for name in crdetect.__all__)
    assert list(crdetect.__all__) == sorted(crdetect.__all__)


@pytest.mark.parametrize(
    "module", [name for name in MODULES if not name.startswith(WITHOUT_TESTS_OF_THEIR_OWN)]
)
def test_tests_mirror_the_package(module):
    folder, _, name = module.rpartition("/")
    stem = name.removesuffix(".py")
    stem = "registry" if stem == "__init__" else stem  # of the detectors
    assert (TESTS / folder / f"test_{stem}.py").is_file()
