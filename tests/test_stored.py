from dataclasses import replace

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st
from made import CODES, SHAPE, make_detection, make_stack, rich_header, through_a_file

from crdetect import InputError, Masks, Noise, Parameters
from crdetect.products import crmasks_hdul
from crdetect.stored import apply_masks, read_crmasks, read_masks_file
from crdetect.verdict import Quality

QUICK = settings(max_examples=25, deadline=None, derandomize=True)


@pytest.fixture
def header():
    return rich_header()


@pytest.mark.parametrize("applied_to", ["original", "simulated"])
def test_masks_with_flux_factors_divide_what_the_run_divided(header, applied_to):
    values = {"flux_factor": [0.5, 1.0, 2.0], "apply_flux_factor_to": applied_to}
    parameters = Parameters.from_mapping(values)
    detection = make_detection(parameters, factors=(0.5, 1.0, 2.0))
    stored = read_crmasks(through_a_file(crmasks_hdul(detection, Quality(), header, [])))
    stack = make_stack()
    divisors = [0.5, 1.0, 2.0] if applied_to == "original" else [1.0, 1.0, 1.0]
    expected = stack.exposures / np.reshape(divisors, (3, 1, 1))
    combined = apply_masks(stored, stack, Noise(1.0, 2.0), use_auxmedian=False)
    np.testing.assert_allclose(combined["mean"].value, expected.mean(axis=0), rtol=1e-6)


@pytest.mark.parametrize("value", ["text", 0.0, -1.0, True])
def test_flux_factors_that_make_no_sense(header, value):
    hdul = crmasks_hdul(make_detection(), Quality(), header, [])
    hdul[0].header["FLUXF2"] = value
    with pytest.raises(InputError, match="FLUXF1 to FLUXF3 must be numbers > 0"):
        read_crmasks(hdul)


def test_flux_factors_of_unknown_use_are_refused(header):
    hdul = crmasks_hdul(make_detection(factors=(0.8, 1.0, 1.2)), Quality(), header, [])
    del hdul["PARAMS"]
    with pytest.raises(InputError, match="no table PARAMS that says whether the exposures"):
        read_crmasks(hdul)


@QUICK
@given(st.integers(3, 5), st.integers(0, 2**32))
def test_masks_come_back(n, seed):
    rng = np.random.default_rng(seed)
    masks = Masks(*(rng.random(shape) < 0.3 for shape in (SHAPE, SHAPE, (n, *SHAPE), SHAPE)))
    made = make_detection(n=n)
    detection = replace(made, masks=masks)
    hdul = crmasks_hdul(detection, Quality(), fits.Header(), [])
    stored = read_crmasks(through_a_file(hdul))
    for name in ("mediancr", "meancrt", "crmasks", "meancr"):
        read = getattr(stored.masks, name)
        assert read.dtype == bool
        np.testing.assert_array_equal(read, getattr(masks, name))
    np.testing.assert_array_equal(stored.auxclean, detection.auxclean)
    assert stored.auxclean.dtype == np.float32
    assert stored.uuid == hdul[0].header["UUID"]


def test_masks_of_another_program(tmp_path):
    """Any non-zero pixel is masked; there may be no AUXCLEAN, no PARAMS, no UUID."""
    path = tmp_path / "masks.fits"
    mask = (CODES > 0) * 2
    names = ["MEDIANCR", "MEANCRT", "CRMASK1", "CRMASK2", "CRMASK3", "MEANCR"]
    images = [fits.ImageHDU(mask.astype(np.int16), name=name) for name in names]
    fits.HDUList([fits.PrimaryHDU(), *images]).writeto(path)
    stored = read_masks_file(path)
    read = stored.masks
    for found in (read.mediancr, read.meancrt, read.meancr, *read.crmasks):
        np.testing.assert_array_equal(found, CODES > 0)
    assert stored.auxclean is None
    assert stored.parameters == Parameters()
    assert (stored.local_medians, stored.uuid) == ((), "unknown")


@pytest.mark.parametrize("missing", ["MEDIANCR", "MEANCRT", "MEANCR", "CRMASK1"])
def test_file_without_a_mask(tmp_path, missing):
    hdul = crmasks_hdul(make_detection(), Quality(), fits.Header(), [])
    del hdul[missing]
    hdul.writeto(tmp_path / "masks.fits")
    with pytest.raises(InputError, match=rf"masks.fits is not a crmasks file.*{missing}"):
        read_masks_file(tmp_path / "masks.fits")


@pytest.mark.parametrize("content", [None, b"", b"text" * 1000])
def test_file_that_is_no_fits(tmp_path, content):
    path = tmp_path / "masks.fits"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"masks\.fits"):
        read_masks_file(path)


@pytest.mark.parametrize("use_auxmedian", [False, True])
@pytest.mark.parametrize("coincidences", [2, 3])
def test_stored_masks_combine_as_the_detection_does(use_auxmedian, coincidences):
    parameters = Parameters.from_mapping(
        {
            "use_auxmedian": use_auxmedian,
            "mm_cr_coincidences": coincidences,
            "pixels_to_be_replaced_by_local_median": [[3, 4, 3, 3]],
        }
    )
    stack, noise = make_stack(5), Noise(1.5, 2.0)
    detection = make_detection(parameters, 5, noise=noise)
    stored = read_crmasks(through_a_file(crmasks_hdul(detection, Quality(), fits.Header(), [])))
    combined = apply_masks(stored, stack, noise, use_auxmedian)
    for name, expected in detection.combine(stack, noise).items():
        np.testing.assert_array_equal(combined[name].value, expected.value)
        np.testing.assert_array_equal(combined[name].variance, expected.variance)
        np.testing.assert_array_equal(combined[name].count, expected.count)


def test_masks_for_other_exposures(tmp_path):
    path = tmp_path / "masks.fits"
    crmasks_hdul(make_detection(n=3), Quality(), fits.Header(), []).writeto(path)
    with pytest.raises(InputError, match="masks are for 3 exposures"):
        apply_masks(read_masks_file(path), make_stack(4), Noise(1.0, 1.0), use_auxmedian=False)


def test_auxmedian_of_masks_without_one(tmp_path):
    hdul = crmasks_hdul(make_detection(), Quality(), fits.Header(), [])
    del hdul["AUXCLEAN"]
    hdul.writeto(tmp_path / "masks.fits")
    stored = read_masks_file(tmp_path / "masks.fits")
    with pytest.raises(InputError, match="AUXCLEAN"):
        apply_masks(stored, make_stack(), Noise(1.0, 1.0), use_auxmedian=True)
