"""The documentation builds without a warning, and says what the schema and the code say."""

import importlib.util
import itertools
import json
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
import tomllib
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import yaml

import crdetect
from crdetect import cli
from crdetect.catalogue import CATALOGUE
from crdetect.detectors.registry import BUILT_IN
from crdetect.interactive.keys import WINDOWS
from crdetect.masks import CLASSES, code_meanings
from crdetect.methods import CRITERIA as METHOD_CRITERIA
from crdetect.mm.parameters import MM
from crdetect.parameters import BLOCKS, Inputs
from crdetect.pipeline import prepare
from crdetect.products import CSV_COLUMNS
from crdetect.schema.words import describe_block, yaml_value

pytest.importorskip("sphinx", reason="pip install '.[docs]' gives sphinx")
pytestmark = [pytest.mark.subprocess, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
MODELS = [Inputs, *BLOCKS.values()]


class Page(HTMLParser):
    """The text of a page, and the cells of the rows of its tables."""

    def __init__(self, path: Path):
        super().__init__()
        self.text = ""
        self.rows: list[list[str]] = []
        self._in_cell = False
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):  # noqa: ARG002
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
            self._in_cell = True

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self._in_cell = False

    def handle_data(self, data):
        self.text += data
        if self._in_cell:
            self.rows[-1][-1] += data

    def table_rows(self, cells: int) -> dict[str, list[str]]:
        """Rows of the tables with so many columns, by their first cell."""
        rows = ([cell.strip() for cell in row] for row in self.rows if len(row) == cells)
        return {row[0]: row[1:] for row in rows}


@pytest.fixture(scope="module")
def html(filled_once):
    """Folder of the pages."""
    return filled_once("documentation", build)[0] / "html"


def build(folder):
    """Build from a copy: the build writes beside its source."""
    source, built = folder / "docs", folder / "html"
    shutil.copytree(DOCS, source, ignore=shutil.ignore_patterns("_build", "_generated"))
    for name in ("CHANGES.rst", "CITATION.cff", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "changes", folder / "changes")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html"]
    done = subprocess.run(
        [*command, source, built], capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_every_parameter_is_there_with_its_default(html, model):
    rows = Page(html / "parameters.html").table_rows(5)
    for item in describe_block(model):
        required = model.model_fields[item.name].is_required()
        default = "must be given" if required else yaml_value(item.default)
        assert rows[item.name] == [default, item.unit or "", item.accepted, item.description]


def test_parameters_page_knows_no_other(html):
    names = set(Page(html / "parameters.html").table_rows(5)) - {"parameter"}
    assert names == {name for model in MODELS for name in model.model_fields}


def test_every_key_is_told(html):
    page = Page(html / "interaction.html")
    rows = [[cell.strip() for cell in row] for row in page.rows if len(row) == 2]
    told = [row for row in rows if row[0] != "key"]
    assert told == [[key.label, key.text] for keys in WINDOWS.values() for key in keys]


def test_commands_of_the_tutorial_are_accepted(html, tmp_path, monkeypatch, capsys):
    """Each command is read as it stands on the page, and its params file is checked with it."""
    monkeypatch.chdir(tmp_path)
    text = Page(html / "tutorial.html").text.replace("\\\n", " ")
    commands = [shlex.split(line)[1:] for line in text.splitlines() if line.startswith("crdetect ")]
    assert len(commands) == 10
    for command in commands:
        if command[0] == "run":
            command = ["check", command[1], *command[4:]]  # noqa: PLW2901 (without the folder)
        assert cli.main(command) == 0, capsys.readouterr().err


def test_every_product_is_named(html):
    text = Page(html / "products.html").text
    for product in CATALOGUE:
        assert product.name in text
        assert product.holds in text
    assert ", ".join(CSV_COLUMNS) in text


@pytest.mark.parametrize("name", crdetect.__all__)
def test_public_names_are_in_the_reference(html, name):
    assert f'id="crdetect.{name}"' in (html / "library.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("package", ["detectors", "equivalence", "joint", "mm"])
def test_modules_that_detect_are_in_the_reference(html, package):
    text = (html / "library.html").read_text(encoding="utf-8")
    folder = Path(crdetect.__file__).parent / package
    elsewhere = {"__init__", "parameters"}  # the parameters have a page of their own
    modules = {path.stem for path in folder.glob("*.py")} - elsewhere
    assert modules
    missing = [name for name in modules if f"crdetect.{package}.{name}" not in text]
    assert missing == []


def test_reference_has_the_modules_of_a_run(html):
    text = (html / "library.html").read_text(encoding="utf-8")
    names = ("run", "catalogue", "stored", "criteria", "pipeline", "resources", "methods", "output")
    assert [name for name in names if f'id="module-crdetect.{name}"' not in text] == []


def test_table_of_products_is_the_catalogue(html):
    rows = Page(html / "products.html").table_rows(3)
    for product in CATALOGUE:
        assert rows[product.name] == [product.holds, product.shelf.value]


def test_codes_and_classes_are_explained(html):
    rows = Page(html / "products.html").table_rows(2) | Page(html / "products.html").table_rows(3)
    assert {str(code) for code in code_meanings("a detector", "a criterion")} <= set(rows)
    assert set(CLASSES) <= set(rows)


def test_layout_names_every_part_of_the_package(html):
    text = Page(html / "develop.html").text
    package = Path(crdetect.__file__).parent
    folders = {f"{path.parent.name}/" for path in package.glob("*/*.py")}
    names = {path.name for path in package.glob("[a-z]*.py")} | folders
    assert {"run.py", "equivalence/"} <= names
    assert {name for name in names if name not in text} == set()


def test_make_targets_that_are_named_exist(html):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"(?:`| {4})make ([\w.-]+)", readme))
    assert {"check", "test", "test-oldest"} <= named
    targets = {row[5:] for row in Page(html / "develop.html").table_rows(2) if row[:5] == "make "}
    assert len(targets) >= 9
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    there = set(re.search(r"^\.PHONY: (.*)", makefile, re.MULTILINE)[1].split())
    assert (named | targets) - there == set()


def test_criterion_of_the_page_detects(tmp_path):
    text = (DOCS / "develop.rst").read_text(encoding="utf-8")
    _, _, code = text.partition("complete:\n\n.. code-block:: python\n\n")
    lines = itertools.takewhile(lambda line: not line or line[0] == " ", code.splitlines())
    path = tmp_path / "of_the_page.py"
    path.write_text(textwrap.dedent("\n".join(lines)))
    spec = importlib.util.spec_from_file_location("of_the_page", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    cube = np.full((3, 20, 30), 100.0)
    cube[:2, 4, 5] = cube[2, 8, 9] = 400.0
    cube[0, 12, 13] = 140.0
    parameters = crdetect.Parameters.from_mapping({"crmethod": "mmcosmic"})
    prepared = prepare(crdetect.Stack(cube), crdetect.Noise(1.0, 3.0), parameters)
    criterion = module.FarAboveLowest(prepared.observation, 50.0)
    masks = prepared.flag(criterion, parameters).masks
    assert np.argwhere(masks.mediancr).tolist() == [[4, 5]]
    assert np.argwhere(masks.meancrt).tolist() == [[4, 5], [8, 9]]
    assert np.argwhere(masks.crmasks).tolist() == [[0, 4, 5], [1, 4, 5], [2, 8, 9]]


def test_glossary_has_the_words_of_products(html):
    text = (html / "glossary.html").read_text(encoding="utf-8")
    for word in ("AUXCLEAN", "MEDIANCR", "min2d", "criterion", "detector", "feature", "hit"):
        assert f'id="term-{word}"' in text


def test_marks_of_tests_are_explained(html):
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    marks = {
        text.partition(":")[0] for text in pyproject["tool"]["pytest"]["ini_options"]["markers"]
    }
    text = Page(html / "develop.html").text
    assert {mark for mark in marks if mark not in text} == set()


def test_papers_to_cite_are_those_of_the_citation_file(html):
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == crdetect.__version__
    assert citation["license"] == "GPL-3.0-or-later"
    text = Page(html / "cite.html").text
    scopes = " ".join(paper["scope"] for paper in citation["references"])
    for paper in citation["references"]:
        assert f"{paper['title']}" in text
        assert str(paper["year"]) in text
        assert paper.get("doi", "") in text
    assert [name for name in (*BUILT_IN, *METHOD_CRITERIA) if name not in scopes] == []


def test_every_fragment_of_the_changelog_is_shown(html):
    words = " ".join(Page(html / "changes.html").text.split())
    fragments = [*(ROOT / "changes").glob("*.*.rst")]
    assert fragments
    for fragment in fragments:
        text = fragment.read_text(encoding="utf-8").replace("``", "")
        assert " ".join(text.split()) in words, fragment.name
    assert "0.1.0" in words


def test_exit_codes_are_those_of_the_command(html):
    rows = Page(html / "products.html").table_rows(2)
    for code in (cli.DONE, cli.FAILED, cli.BAD_INPUT, cli.STOPPED, cli.INTERRUPTED):
        assert str(code) in rows


def test_tests_that_are_named_exist(html):
    names = {word.strip(",.") for word in Page(html / "differences.html").text.split()}
    tests = "".join(path.read_text() for path in (DOCS.parent / "tests").rglob("test_*.py"))
    named = {name for name in names if name.startswith("test_") and "." not in name}
    assert named
    assert {name for name in named if f"def {name}(" not in tests} == set()
    files = {name for name in names if name.startswith("tests/") and name.endswith(".py")}
    assert files
    assert {name for name in files if not (ROOT / name).is_file()} == set()


FIGURES = [
    "example", "diagnostic_histogram2d", "diagnostic_mediancr", "flux_factor1",
    "image_number_at_median_position", "xyoffset_crosscorr_3", "mm_simulation", "mm_photons",
    "mm_flux", "mm_offsets", "mm_false_pixels", "mm_boundary", "mm_conditions", "tutorial_simple",
    "tutorial_spline", "tutorial_piecewise", "tutorial_median", "tutorial_single", "tutorial_flux",
    "tutorial_flux_factor", "tutorial_offsets", "tutorial_crosscorr", "diagnostic_meancr",
    "diagnostic_crmask1", "page1", "page2", "diagnostic_noise", "mm_coincidences", "data_flow",
]  # fmt: skip


def test_page_on_the_diagram_names_each_of_its_parameters(html):
    text = Page(html / "mm.html").text
    assert {name for name in MM.model_fields if name not in text} == set()


@pytest.mark.parametrize("figure", FIGURES)
def test_figures_are_made(html, figure):
    assert (html / f"_images/{figure}.png").stat().st_size > 10_000


def test_report_of_the_example_is_there(html):
    assert "Features of MEDIANCR" in (html / "report.html").read_text(encoding="utf-8")
    assert 'href="report.html"' in (html / "figures.html").read_text(encoding="utf-8")


def test_pages_load_nothing_from_the_network(html):
    pages = [page.read_text(encoding="utf-8") for page in html.glob("*.html")]
    assert pages
    for attribute in ("src", 'rel="stylesheet" href'):
        assert not any(f"{attribute}={json.dumps('http')[:-1]}" in page for page in pages)
