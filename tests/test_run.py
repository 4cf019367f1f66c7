"""One run for all doors: what it holds, what it writes, and that it neither reads nor prints."""

import builtins
import io
from dataclasses import replace

import numpy as np
import pytest
from astropy.io import fits
from made import through_a_file

from crdetect import COMBINATIONS, InputError, Parameters, detect
from crdetect import pipeline as pipeline_module
from crdetect.catalogue import CATALOGUE, COMBINED, DRAWN, MASKS, Shelf
from crdetect.exposures import make_exposures
from crdetect.masks import CLASSES, label_features
from crdetect.parameters import Inputs
from crdetect.run import CombinationRun, DetectionRun, run, run_with_masks
from crdetect.runfile import inputs_text, read_params
from crdetect.simulate import simulate_exposures
from crdetect.stored import read_crmasks
from crdetect.verdict import Verdict

SHAPE = (48, 64)
GAIN, RNOISE_ADU = 1.0, 3.4
METHODS = ["joint", "mm_pycosmic", "pycosmic"]
NAMES = [f"exposure_{i}.fits" for i in (1, 2, 3)]
WRITTEN = frozenset(Shelf) - DRAWN
TABLES = {
    *(f"mediancr_identified_{name}.csv" for name in CLASSES),
    "params_used.yaml",
    "problematic_pixels.csv",
}


def read_as(names, seed=5):
    """Exposures as a door has them, with cosmic rays in each."""
    images = simulate_exposures(SHAPE, hit_fraction=0.03, double_hits=4, seed=seed).exposures_adu
    headers = [fits.Header({"DATE-OBS": f"2026-01-02T03:04:0{i}"}) for i in (seed, 1, 2)]
    return make_exposures(images, headers, names, GAIN, RNOISE_ADU, 0.0)


@pytest.fixture(scope="module")
def exposures():
    return read_as(NAMES)


def parameters_of(crmethod, **more):
    given = {"crmethod": crmethod, "mm_nsimulations": 2, "mm_seed": None}
    return Parameters.from_mapping(given | more)


@pytest.fixture(scope="module")
def runs(exposures):
    history = ["crdetect 1.0", "- gain = 1.0"]
    return {
        name: run(exposures, parameters_of(name), history=history, workers=2) for name in METHODS
    }


def names_in(folder):
    return {path.name for path in folder.iterdir()}


def stored_of(made):
    return read_crmasks(through_a_file(made.crmasks_hdul()))


# ---------------------------------------------------------------------------------------------
# A run that detects


@pytest.mark.parametrize("crmethod", METHODS)
def test_run_holds_what_the_library_finds(exposures, runs, crmethod):
    made = runs[crmethod]
    given = parameters_of(crmethod) if crmethod != "mm_pycosmic" else made.detection.repeating()
    detection = detect(exposures.stack, exposures.noise, given)
    assert isinstance(made, DetectionRun)
    assert made.exposures is exposures
    assert made.masks == detection.masks
    assert made.masks.mediancr.any()
    assert made.combined.keys() == set(COMBINATIONS)
    for name, image in detection.combine().items():
        assert made.combined[name] == image, name
    assert made.quality == detection.quality
    assert made.n_exposures == 3


@pytest.mark.parametrize("crmethod", METHODS)
def test_run_prints_nothing_and_reads_no_file(
    exposures, runs, crmethod, monkeypatch, capfd, tmp_path
):
    assert runs  # all that is imported late is imported
    stored = stored_of(runs[crmethod])

    unpatched = open

    def refuse(*arguments, **more):
        if str(arguments[0]).startswith("/proc/"):  # which libraries are loaded
            return unpatched(*arguments, **more)
        raise AssertionError(f"opens {arguments}")

    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as patched:
        for module, name in ((builtins, "open"), (io, "open"), (fits, "open")):
            patched.setattr(module, name, refuse)
        patched.setattr(builtins, "input", refuse)
        run(exposures, parameters_of(crmethod), workers=2)
        run_with_masks(exposures, stored, workers=2)
    assert capfd.readouterr() == ("", "")
    assert names_in(tmp_path) == set()


@pytest.mark.parametrize("crmethod", METHODS)
def test_summary_has_the_numbers_of_the_masks(runs, crmethod):
    made = runs[crmethod]
    summary = made.summary()
    masks = made.masks
    expected = {"MEDIANCR": masks.mediancr.sum(), "MEANCRT": masks.meancrt.sum()}
    expected |= {f"CRMASK{i}": mask.sum() for i, mask in enumerate(masks.crmasks, 1)}
    expected |= {"MEANCR": masks.meancr.sum()}
    assert summary["masked_pixels"] == expected
    assert list(summary["masked_pixels"]) == list(expected)
    assert sum(summary["features"].values()) == label_features(masks.mediancr)[0] > 0
    assert set(summary["features"]) == set(CLASSES)
    assert summary["masks_uuid"] == made.uuid
    assert summary["quality"]["verdict"] == made.quality.verdict.name
    used = {"mm_seed": str(made.detection.diagram.seed)} if crmethod == "mm_pycosmic" else {}
    assert summary["used"] == used


def test_remarks_tell_how_matched_exposures_differ(runs):
    assert runs["joint"].remarks() == runs["joint"].detection.exposure_model.summary() != []
    assert runs["pycosmic"].remarks() == runs["mm_pycosmic"].remarks() == []
    assert runs["pycosmic"].findings() == runs["joint"].findings() == {}


def test_seed_that_was_drawn_is_told_with_all_its_digits(runs):
    made = runs["mm_pycosmic"]
    assert made.findings() == {"mm_seed": str(made.detection.diagram.seed)}
    assert len(made.findings()["mm_seed"]) > 20


def test_progress_has_the_quality_as_a_step_of_its_own(exposures, monkeypatch, tmp_path):
    """It takes a while, and writing does not make it again."""
    assessed, steps = [], []
    assess = pipeline_module.assess

    def counted(*arguments):
        assessed.append(steps[-1])
        return assess(*arguments)

    monkeypatch.setattr(pipeline_module, "assess", counted)
    made = run(exposures, parameters_of("mm_pycosmic"), progress=steps.append)
    assert steps[0] == "statistics of the stack"
    assert steps[-2:] == ["combining", "checking the quality"]
    assert assessed == ["checking the quality"]
    before = len(steps)
    made.write(tmp_path, WRITTEN)
    made.summary()
    assert steps[before:] == ["writing masks", "writing combined images", "writing tables"]
    assert assessed == ["checking the quality"]


def test_detection_may_be_anothers(exposures):
    """As where a person takes part: it is given all, and its result is taken."""
    given = []

    def detect_otherwise(stack, noise, parameters, resources, progress, boundary):
        given.append((stack, noise, parameters, resources.workers, boundary))
        detection = detect(stack, noise, parameters, resources, progress, boundary)
        return replace(detection, masks=replace(detection.masks, mediancr=everything))

    everything = np.ones(SHAPE, bool)
    parameters = parameters_of("pycosmic")
    made = run(exposures, parameters, workers=1, detect=detect_otherwise)
    assert given == [(exposures.stack, exposures.noise, parameters, 1, None)]
    assert made.masks.mediancr is everything
    min2d = exposures.stack.exposures.min(axis=0)
    np.testing.assert_array_equal(made.combined["mediancr"].value, min2d)


def test_boundary_of_an_earlier_run_is_taken(exposures, runs):
    boundary = runs["mm_pycosmic"].detection.diagram.criterion.boundary
    again = run(exposures, parameters_of("mm_pycosmic", mm_seed=99), boundary=boundary)
    assert again.detection.diagram.criterion.boundary is boundary
    assert again.masks == runs["mm_pycosmic"].masks


def test_parameters_that_do_not_fit(exposures):
    with pytest.raises(InputError, match="mm_cr_coincidences"):
        run(exposures, parameters_of("mm_pycosmic", mm_cr_coincidences=3))


def test_each_run_has_an_identifier_of_its_own(exposures, runs):
    identifiers = {made.uuid for made in runs.values()}
    assert len(identifiers) == len(runs)
    made = runs["pycosmic"]
    assert made.crmasks_hdul()[0].header["UUID"] == made.uuid
    history = list(made.combined_hdul("meancr")[0].header["HISTORY"])
    assert history == ["crdetect 1.0", "- gain = 1.0", f"masks UUID: {made.uuid}"]
    for i, identity in enumerate(exposures.identities, 1):
        assert made.combined_hdul("mean")[0].header[f"UUID{i}"] == identity.identifier


# ---------------------------------------------------------------------------------------------
# What a run writes


@pytest.mark.parametrize("crmethod", METHODS)
@pytest.mark.parametrize(
    ("shelves", "expected"),
    [
        ({Shelf.MASKS}, {"crmasks.fits"}),
        ({Shelf.COMBINED}, {f"combined_{name}.fits" for name in COMBINATIONS}),
        ({Shelf.TABLES}, TABLES),
        ({Shelf.MASKS, Shelf.TABLES}, TABLES | {"crmasks.fits"}),
        (
            WRITTEN,
            TABLES | {"crmasks.fits", *(f"combined_{name}.fits" for name in COMBINATIONS)},
        ),
        ({Shelf.PAGES}, set()),  # maxplots is 0
        (set(), set()),
    ],
)
def test_files_of_shelves(runs, crmethod, shelves, expected, tmp_path):
    made = runs[crmethod]
    written = made.write(tmp_path, shelves)
    told = [
        name for product in CATALOGUE if product.shelf in shelves for name, _ in product.files(made)
    ]
    assert [path.name for path in written] == told
    assert names_in(tmp_path) == set(told) == expected
    assert {path.parent for path in written} <= {tmp_path}


@pytest.mark.parametrize("crmethod", METHODS)
def test_params_used_give_the_same_masks(exposures, runs, crmethod, tmp_path):
    inputs = Inputs(images=tuple(NAMES), gain=GAIN, rnoise=RNOISE_ADU)
    preamble = "# a comment\n" + inputs_text(inputs)
    made = replace(runs[crmethod], preamble=preamble)
    made.write(tmp_path, {Shelf.TABLES})
    text = (tmp_path / "params_used.yaml").read_text()
    assert text == made.params_used()
    assert text.startswith(preamble + "requirements:\n")
    again = read_params(tmp_path / "params_used.yaml")
    assert again.inputs == inputs
    other = run(exposures, again.parameters)
    assert other.masks == made.masks
    for name in COMBINATIONS:
        assert other.combined[name] == made.combined[name]


CHANGING = ("UUID", "DATE")


def content_of(path):
    """What a product holds, without identifiers and the time at which it was made."""
    if path.suffix != ".fits":
        return path.read_bytes()
    with fits.open(path) as hdul:
        return [
            (
                [card.image for card in hdu.header.cards if not is_changing(card)],
                None if hdu.data is None else hdu.data.tobytes(),
            )
            for hdu in hdul
        ]


def is_changing(card):
    return card.keyword in CHANGING or "masks UUID" in str(card.value)


@pytest.mark.parametrize("crmethod", [*METHODS, "lacosmic"])
def test_products_do_not_depend_on_workers(exposures, crmethod, tmp_path):
    folders = []
    for workers in (1, 4):
        made = run(exposures, parameters_of(crmethod, mm_seed=3), workers=workers)
        folders.append(tmp_path / str(workers))
        folders[-1].mkdir()
        made.write(folders[-1], WRITTEN)
    assert names_in(folders[0]) == names_in(folders[1]) != set()
    for path in folders[0].iterdir():
        assert content_of(path) == content_of(folders[1] / path.name), path.name
    with fits.open(folders[0] / "crmasks.fits") as hdul:
        changing = [card.keyword for card in hdul[0].header.cards if is_changing(card)]
    assert changing == ["UUID", "DATE"]


# ---------------------------------------------------------------------------------------------
# A run with masks made before


@pytest.mark.parametrize("use_auxmedian", [False, True])
@pytest.mark.parametrize("crmethod", METHODS)
def test_stored_masks_give_the_same_images(exposures, crmethod, use_auxmedian):
    made = run(exposures, parameters_of(crmethod, use_auxmedian=use_auxmedian))
    again = run_with_masks(exposures, stored_of(made))
    assert isinstance(again, CombinationRun)
    assert again.uses_auxmedian == use_auxmedian
    assert again.masks == made.masks
    assert again.uuid == made.uuid
    assert again.combined.keys() == made.combined.keys()
    for name, image in made.combined.items():
        other = again.combined[name]
        # joint detection gives single values the variance of the noise that it measured
        same = image.count > 1 if crmethod == "joint" else np.ones(SHAPE, bool)
        np.testing.assert_array_equal(image.value, other.value, err_msg=name)
        np.testing.assert_array_equal(image.count, other.count, err_msg=name)
        np.testing.assert_array_equal(image.variance[same], other.variance[same], err_msg=name)


def test_combination_has_the_combined_images_only(exposures, runs, tmp_path):
    steps = []
    made = run_with_masks(exposures, stored_of(runs["pycosmic"]), progress=steps.append)
    assert made.products == tuple(COMBINED.values())
    written = made.write(tmp_path)
    assert names_in(tmp_path) == {f"combined_{name}.fits" for name in COMBINATIONS}
    assert len(written) == len(COMBINATIONS)
    assert steps == ["combining", "writing combined images"]
    assert MASKS not in made.products
    with fits.open(tmp_path / "combined_meancr.fits") as hdul:
        np.testing.assert_array_equal(hdul[0].data, runs["pycosmic"].combined["meancr"].value)
        assert list(hdul[0].header["HISTORY"]) == [f"masks UUID: {made.uuid}"]


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("asked", [None, False, True])
def test_auxclean_fills_as_asked_or_as_the_masks_were_made(exposures, stored, asked):
    made = run(exposures, parameters_of("pycosmic", use_auxmedian=stored))
    again = run_with_masks(exposures, stored_of(made), asked)
    uses = stored if asked is None else asked
    assert again.uses_auxmedian == uses
    assert again.summary()["use_auxmedian"] == uses
    filling = made.detection.auxclean if uses else exposures.stack.exposures.min(axis=0)
    masked = made.masks.mediancr
    np.testing.assert_array_equal(again.combined["mediancr"].value[masked], filling[masked])


def test_masks_of_other_exposures_need_force(runs):
    others = read_as(["other_1.fits", "other_2.fits", "other_3.fits"], seed=6)
    stored = stored_of(runs["pycosmic"])
    with pytest.raises(InputError, match="the masks were not made of other_1"):
        run_with_masks(others, stored)
    forced = run_with_masks(others, stored, force=True)
    assert forced.forced.startswith("the masks were not made of other_1")
    assert forced.remarks() == [f"forced: {forced.forced}"]
    assert forced.lines[-1] == forced.remarks()[0]
    assert forced.summary()["forced"] == forced.forced
    assert forced.quality.verdict > Verdict.GOOD
    own = run_with_masks(read_as(NAMES), stored, force=True)
    assert own.forced is None
    assert own.remarks() == []
    assert own.quality.verdict == stored.verdict


def test_exposures_in_another_order_need_force_too(exposures, runs):
    turned = replace(exposures, identities=exposures.identities[::-1])
    with pytest.raises(InputError, match="in another order"):
        run_with_masks(turned, stored_of(runs["pycosmic"]))


def test_masks_of_another_number_of_exposures_cannot_be_forced(exposures, runs):
    stored = stored_of(runs["pycosmic"])
    fewer = replace(stored, masks=replace(stored.masks, crmasks=stored.masks.crmasks[:2]))
    with pytest.raises(InputError, match="the masks are for 2 exposures"):
        run_with_masks(exposures, fewer, force=True)
