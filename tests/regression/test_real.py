"""On real exposures: with real cosmic rays added at known places, and as they are.

The peer's figures are those of ../shared/peer/README.md, with the same parameters.
"""

import numpy as np
import pytest
from astropy.io import fits

import crdetect
from crdetect.exposures import read_exposures
from crdetect.masks import dilate, label_features
from crdetect.parameters import Inputs, Parameters

pytestmark = pytest.mark.slow

PEER_ON_INJECTED = {"mm_pycosmic": (1252, 79), "mm_lacosmic": (1722, 101)}


def read(shared, name):
    folder = shared / "data" / name
    header = fits.getheader(folder / "exposure_1.fits.gz")
    inputs = Inputs(
        images=[f"exposure_{i}.fits.gz" for i in (1, 2, 3)],
        gain=header["GAIN"],
        rnoise=header["RDNOISE"] / header["GAIN"],
    )
    return read_exposures(inputs, folder)


def detect(shared, name, **values):
    exposures = read(shared, name)
    parameters = Parameters.from_mapping(values)
    return exposures, crdetect.detect(exposures.stack, exposures.noise, parameters)


def hit_in_two(shared, exposures):
    """Where two of the exposures were hit above 5 sigma; pixels next to any hit above 1."""
    with fits.open(shared / "data/isis_red_injected/truth.fits") as hdul:
        charge_e = np.stack([hdul[f"CHARGE{i}"].data for i in (1, 2, 3)])
    gain, rnoise_e = exposures.noise.gain, exposures.noise.rnoise_e
    clean_e = np.median(exposures.stack.exposures * gain - charge_e, axis=0)
    sigma_e = np.sqrt(np.maximum(clean_e, 0) + rnoise_e**2)
    double = (charge_e > 5 * sigma_e).sum(axis=0) >= 2
    return double, dilate((charge_e > sigma_e).sum(axis=0) >= 2, 1)


LIMITS_ON_INJECTED = PEER_ON_INJECTED | {"joint": (3, 2), "joint_lacosmic": (30, 3)}
"""False pixels and features; two of the features are cosmic rays of the exposures themselves."""


@pytest.mark.parametrize("crmethod", LIMITS_ON_INJECTED)
def test_real_cosmic_rays_at_known_places(shared, crmethod):
    exposures, detection = detect(shared, "isis_red_injected", crmethod=crmethod)
    mask = detection.masks.mediancr
    double, near = hit_in_two(shared, exposures)
    n, labels = label_features(mask)
    false_features = n - np.unique(labels[mask & near]).size

    assert double.sum() == 232
    assert (mask & double).sum() == 232  # all
    false_px, features = LIMITS_ON_INJECTED[crmethod]
    assert (mask & ~near).sum() <= false_px
    assert false_features <= features


MEASURED_SHAPE = {"mm_photon_distribution": "nbinom", "mm_nbinom_shape": "auto"}
DIFFERING = [
    MEASURED_SHAPE,
    MEASURED_SHAPE | {"mm_simulation": "analytic"},
    {"mm_synthetic": "single"},
]


@pytest.mark.parametrize("values", DIFFERING)
def test_what_is_for_exposures_that_differ_takes_false_positives_away(shared, values):
    """The figures of `docs/mm.rst`; with Poisson photons there are 1009 false pixels."""
    exposures, detection = detect(shared, "isis_red_injected", **values)
    double, near = hit_in_two(shared, exposures)
    mask = detection.masks.mediancr
    assert mask[double].all()
    assert np.count_nonzero(mask & ~near) <= 30


@pytest.mark.parametrize(
    ("name", "features", "values"),
    [
        *(("kast_blue_3x1200", 5, values) for values in DIFFERING),
        ("isis_red_3x100", 0, MEASURED_SHAPE | {"mm_simulation": "analytic"}),
    ],
)
def test_hardly_anything_where_nothing_was_hit_twice(shared, name, features, values):
    _, detection = detect(shared, name, **values)
    assert sum(detection.features.counts().values()) <= features


@pytest.mark.parametrize(("name", "peer"), [("kast_blue_3x1200", 74), ("isis_red_3x100", 116)])
def test_real_exposures_run(shared, name, peer):
    exposures, detection = detect(shared, name)
    counts = detection.features.counts()
    # nearly all is false on these; the diagram knows no trace that moves: a later method does
    assert 0 < sum(counts.values()) < 1.2 * peer
    combined = detection.combine(exposures.stack, exposures.noise)
    for image in combined.values():
        assert np.isfinite(image.value).all()
        assert (image.variance >= 0).all()
    cube = exposures.stack.exposures
    for function in (np.mean, np.median, np.min):
        image = combined[function.__name__]
        np.testing.assert_allclose(image.value, function(cube, axis=0), rtol=1e-5)
    flagged = detection.masks.mediancr
    expected = np.where(flagged, cube.min(axis=0), np.median(cube, axis=0))
    np.testing.assert_allclose(combined["mediancr"].value, expected, rtol=1e-5)
    kept = np.ma.masked_array(cube, detection.masks.crmasks)
    left = kept.count(axis=0) > 0
    mean = kept.mean(axis=0).filled(0)
    np.testing.assert_allclose(combined["meancr"].value[left], mean[left], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(("name", "most"), [("kast_blue_3x1200", 1), ("isis_red_3x100", 0)])
def test_joint_detection_on_real_exposures_that_differ(shared, name, most):
    _, detection = detect(shared, name, crmethod="joint")
    # at most one pixel is hit twice, of the 74 and 116 features that the peer finds
    assert sum(detection.features.counts().values()) <= most
    assert not detection.exposure_model.equivalent
    # tens of cosmic rays in each exposure are found all the same
    for mask in detection.masks.crmasks:
        assert 15 < label_features(mask)[0] < 200


def test_read_noise_and_gain_of_real_exposures(shared):
    _, detection = detect(shared, "kast_blue_3x1200", crmethod="joint")
    model = detection.exposure_model.noise_model
    assert model.measured_rnoise_e[0] == pytest.approx(3.8, abs=0.15)  # as the header says
    assert model.photon_slope[0] == pytest.approx(1.0, abs=0.1)
