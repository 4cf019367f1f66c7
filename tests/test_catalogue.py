"""The catalogue of products: its names, and that a run writes what it names and nothing else."""

import re
from collections import Counter
from fnmatch import fnmatchcase
from types import SimpleNamespace

import numpy as np
import pytest
from astropy.io import fits
from made import make_detection, run_of

from crdetect import Parameters, catalogue
from crdetect import run as run_module
from crdetect.catalogue import (
    BESIDE_FITS,
    CATALOGUE,
    COMBINED,
    DRAWN,
    MASKS,
    Product,
    Shelf,
    patterns,
)
from crdetect.combine import COMBINATIONS
from crdetect.exposures import make_exposures
from crdetect.masks import CLASSES
from crdetect.run import run
from crdetect.simulate import simulate_exposures

SHAPE = (48, 64)
MOSTPLOTS = 2
ALWAYS = {
    "crmasks.fits",
    *(f"combined_{name}.fits" for name in COMBINATIONS),
    *(f"mediancr_identified_{name}.csv" for name in CLASSES),
    *("problematic_pixels.csv", "params_used.yaml"),
    *("diagnostic_mediancr.png", "diagnostic_meancr.png", "report.html"),
    *(f"diagnostic_crmask{i}.png" for i in (1, 2, 3)),
}
FLUX = {
    *(f"flux_factor{i}.png" for i in (1, 2, 3)),
    "image_number_at_median_position.png",
}
DIAGRAM = {"diagnostic_histogram2d.png"}
OFFSETS = {f"xyoffset_crosscorr_{i}.png" for i in (1, 2, 3)}
RUNS = {
    "joint": ({"crmethod": "joint"}, ALWAYS | FLUX | {"diagnostic_noise.png"}),
    "mm_lacosmic": (
        {"crmethod": "mm_lacosmic", "mm_crosscorr_region": [1, 64, 1, 48], "mm_nsimulations": 2},
        ALWAYS | FLUX | DIAGRAM | OFFSETS,
    ),
}


# ---------------------------------------------------------------------------------------------
# Names


def names_of(product, n):
    """Names of the files of a product, in a run of n exposures that has it."""
    return [product.name.replace("{i}", str(i)) for i in range(1, n + 1)]


def test_names_are_unique():
    assert max(Counter(product.name for product in CATALOGUE).values()) == 1
    assert max(Counter(product.pattern for product in CATALOGUE).values()) == 1


def test_names_of_numina_are_unique_on_the_shelves_that_it_stores():
    stems = [product.stem for product in CATALOGUE if product.shelf not in BESIDE_FITS]
    assert len(set(stems)) == len(stems) == 1 + len(COMBINATIONS)
    assert all(stem.isidentifier() for stem in stems)
    assert MASKS.stem == "crmasks"
    assert [COMBINED[name].stem for name in COMBINATIONS] == [f"combined_{n}" for n in COMBINATIONS]


@pytest.mark.parametrize("product", CATALOGUE, ids=lambda product: product.name)
def test_pattern_matches_the_own_files_and_no_others(product):
    for other in CATALOGUE:
        for name in names_of(other, 12):
            assert fnmatchcase(name, product.pattern) == (other is product), name


@pytest.mark.parametrize("product", CATALOGUE, ids=lambda product: product.name)
@pytest.mark.parametrize("n", [2, 3, 12])
def test_series_are_numbered_from_1(product, n):
    always = Product(product.name, product.shelf, product.holds, product.write)
    files = list(always.files(SimpleNamespace(n_exposures=n)))
    if "{i}" in product.name:
        assert product.is_series
        assert files == list(zip(names_of(product, n), range(1, n + 1), strict=True))
    else:
        assert not product.is_series
        assert files == [(product.name, 0)]


def test_product_that_does_not_apply_has_no_files():
    never = Product("a{i}.txt", Shelf.TABLES, "nothing", lambda *_: None, lambda _run: False)
    assert list(never.files(SimpleNamespace(n_exposures=3))) == []


def test_each_product_says_what_it_holds():
    assert all(len(product.holds.split()) > 2 for product in CATALOGUE)
    assert len({product.holds for product in CATALOGUE}) == len(CATALOGUE)


def test_shelves():
    """What is drawn needs no FITS; the report comes last, since it holds the figures."""
    assert DRAWN < BESIDE_FITS < set(Shelf)
    assert {product.shelf for product in CATALOGUE} == set(Shelf)
    order = [list(Shelf).index(product.shelf) for product in CATALOGUE]
    assert order == sorted(order)
    drawn = {product.name for product in CATALOGUE if product.shelf in DRAWN}
    assert {name.rpartition(".")[2] for name in drawn} == {"png", "pdf", "html"}
    others = {product.name for product in CATALOGUE} - drawn
    assert {name.rpartition(".")[2] for name in others} == {"fits", "csv", "yaml"}


def test_patterns_of_shelves():
    assert patterns({Shelf.MASKS}) == ("crmasks.fits",)
    assert patterns({Shelf.COMBINED}) == tuple(f"combined_{name}.fits" for name in COMBINATIONS)
    assert len(patterns()) == len(CATALOGUE)
    assert set(patterns(DRAWN)) | set(patterns(set(Shelf) - DRAWN)) == set(patterns())
    assert patterns(set()) == ()


# ---------------------------------------------------------------------------------------------
# Whole runs


def run_into(folder, given):
    """Make a run of exposures whose fluxes and places differ; return what it says of itself."""
    simulation = simulate_exposures(
        SHAPE,
        flux=(0.9, 1.0, 1.1),
        offsets_px=((0.0, 0.0), (0.4, 0.0), (0.0, -0.4)),
        hit_fraction=0.02,
        double_hits=4,
        seed=4,
    )
    exposures = make_exposures(
        simulation.exposures_adu, [fits.Header()] * 3, ["a.fits", "b.fits", "c.fits"], 1.0, 3.4, 0.0
    )
    always = {"flux_factor": "auto", "maxplots": MOSTPLOTS}
    made = run(exposures, Parameters.from_mapping(always | given))
    told = [path.name for path in made.write(folder)]
    hit_in_all = bool(made.masks.crmasks.all(axis=0).any())
    return told, made.detection.features.counts(), hit_in_all


@pytest.fixture(params=RUNS)
def full(request, filled_once):
    """A full run: name, folder, the files it says it wrote, its features, hits in all."""
    given, _ = RUNS[request.param]
    folder, told = filled_once(f"catalogue_{request.param}", lambda folder: run_into(folder, given))
    return request.param, folder, *told


@pytest.mark.slow
def test_full_run_writes_what_the_catalogue_names(full):
    name, folder, told, counts, hit_in_all = full
    there = {path.name for path in folder.iterdir()}
    pages = {f"mediancr_identified_{kind}.pdf" for kind, number in counts.items() if number}
    if hit_in_all:
        pages.add("problematic_pixels.pdf")
    assert pages
    assert there == RUNS[name][1] | pages
    assert sorted(told) == sorted(there)
    for file in there:
        assert sum(fnmatchcase(file, pattern) for pattern in patterns()) == 1, file


@pytest.mark.slow
def test_files_are_of_the_kind_that_their_names_tell(full):
    begins = {
        ".png": b"\x89PNG",
        ".pdf": b"%PDF",
        ".fits": b"SIMPLE  =",
        ".csv": b"CR_number,",
        ".yaml": b"requirements:",
        ".html": b"<!DOCTYPE html>",
    }
    for path in full[1].iterdir():
        assert path.read_bytes().startswith(begins[path.suffix]), path.name


@pytest.mark.slow
def test_pages_are_two_for_each_feature_up_to_the_most(full):
    _, folder, _, counts, _ = full
    for kind, number in counts.items():
        path = folder / f"mediancr_identified_{kind}.pdf"
        pages = path.read_bytes().count(b"/Type /Page ") if path.exists() else 0
        assert pages == 2 * min(number, MOSTPLOTS)


@pytest.mark.slow
def test_report_holds_the_figures_that_were_drawn(full):
    _, folder, told, _, _ = full
    text = (folder / "report.html").read_text(encoding="utf-8")
    figures = [name for name in told if name.endswith(".png")]
    assert len(figures) > 8
    assert re.findall("<figcaption>(.*?)</figcaption>", text) == figures


@pytest.mark.parametrize(
    ("most", "drawn"), [(0, 0), (1, 1), (2, 2), (-1, 4)], ids=["none", "one", "two", "all"]
)
def test_pages_apply_where_some_are_asked_for(most, drawn):
    """The made-up run has one feature of each class."""
    made = run_of(make_detection(Parameters.from_mapping({"maxplots": most})))
    pages = [product for product in CATALOGUE if product.shelf is Shelf.PAGES]
    applying = {product.name for product in pages if product.applies(made)}
    of_classes = {f"mediancr_identified_{name}.pdf" for name in CLASSES}
    assert (applying & of_classes == of_classes) == (drawn > 0)
    assert applying <= of_classes | {"problematic_pixels.pdf"}
    assert bool(applying) == (drawn > 0)


def test_to_add_a_product_is_to_add_an_entry(monkeypatch, tmp_path):
    """It is written with its shelf, by number where it is a series, and its pattern is known."""
    levels = Product(
        "level{i}.txt",
        Shelf.TABLES,
        "the median of exposure i",
        lambda run, path, i: path.write_text(
            str(np.median(run.exposures.stack.exposures[i - 1])), encoding="utf-8"
        ),
        lambda run: run.n_exposures < 5,
    )
    monkeypatch.setattr(run_module, "CATALOGUE", (*CATALOGUE, levels))
    monkeypatch.setattr(catalogue, "CATALOGUE", (*CATALOGUE, levels))
    made = run_of(make_detection(n=4))
    written = made.write(tmp_path, {Shelf.TABLES})
    assert [path.name for path in written[-4:]] == [f"level{i}.txt" for i in (1, 2, 3, 4)]
    for i, path in enumerate(written[-4:]):
        assert float(path.read_text()) == pytest.approx(
            np.median(made.exposures.stack.exposures[i])
        )
    assert "level[0-9]*.txt" in patterns({Shelf.TABLES})
    other = tmp_path / "other"
    other.mkdir()
    run_of(make_detection(n=5)).write(other, {Shelf.TABLES})
    assert not list(other.glob("level*"))
