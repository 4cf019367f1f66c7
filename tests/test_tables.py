import json

import numpy as np
import pytest
from astropy.io import fits

import crdetect
from crdetect import InputError, Parameters
from crdetect.products import crmasks_hdul
from crdetect.simulate import simulate_exposures
from crdetect.tables import read_boundary, read_parameters

NOISE = crdetect.Noise(1.0, 3.4)
FIXED = [[0, 60], [150, 90, 3.0], [400, 150]]
RUNS = {
    "spline": {},
    "computed": {"mm_simulation": "analytic"},
    "fixed points": {"mm_fixed_points_in_boundary": FIXED, "mm_knots_splfit": 7},
    "one round": {"mm_niter_boundary_extension": 0},
    "piecewise": {"mm_boundary_fit": "piecewise", "mm_fixed_points_in_boundary": FIXED},
}


@pytest.fixture(scope="module")
def stack():
    simulation = simulate_exposures((80, 100), hit_fraction=0.02, double_hits=6, seed=8)
    return crdetect.Stack(simulation.exposures_adu)


def run(stack, boundary=None, **values):
    parameters = Parameters.from_mapping({"mm_nsimulations": 3} | values)
    return crdetect.detect(stack, NOISE, parameters, boundary=boundary)


def through_a_file(detection, path):
    crmasks_hdul(detection, detection.quality, fits.Header(), []).writeto(path)
    return fits.open(path)


@pytest.mark.parametrize("case", RUNS)
def test_boundary_comes_back_exactly(stack, case, tmp_path):
    detection = run(stack, **RUNS[case])
    stored = detection.diagram.criterion.boundary
    with through_a_file(detection, tmp_path / "crmasks.fits") as hdul:
        boundary = read_boundary(hdul)
    assert boundary.kind == stored.kind
    x = np.linspace(-100, 3000, 5000)
    for curve, expected in zip(boundary.rounds, stored.rounds, strict=True):
        np.testing.assert_array_equal(curve(x), expected(x))
        np.testing.assert_array_equal(curve.knots, expected.knots)
    for points, expected in ((boundary.points, stored.points), (boundary.fixed, stored.fixed)):
        np.testing.assert_array_equal(points.x, expected.x)
        np.testing.assert_array_equal(points.y, expected.y)
        np.testing.assert_array_equal(points.weight, expected.weight)


def test_run_is_redone_from_the_product(stack, tmp_path):
    """With other random numbers, the boundary of the file flags the same pixels."""
    one = run(stack, mm_seed=1, mm_nsimulations=1)
    with through_a_file(one, tmp_path / "crmasks.fits") as hdul:
        boundary, parameters = read_boundary(hdul), read_parameters(hdul)
    other = run(stack, mm_seed=2, mm_nsimulations=1)
    redone = run(stack, boundary, mm_seed=2, mm_nsimulations=1)
    assert parameters == one.parameters
    assert (other.masks.mediancr != one.masks.mediancr).any()  # the seed does matter
    np.testing.assert_array_equal(redone.masks.mediancr, one.masks.mediancr)
    np.testing.assert_array_equal(redone.masks.crmasks, one.masks.crmasks)


def test_table_tells_what_was_used(tmp_path):
    simulation = simulate_exposures((120, 150), flux=(0.8, 1.0, 1.2), seed=3)
    values = {
        "flux_factor": "auto",
        "mm_seed": None,
        "mm_photon_distribution": "nbinom",
        "mm_nbinom_shape": "auto",
        "mm_crosscorr_region": [1, 150, 1, 120],
    }
    detection = run(crdetect.Stack(simulation.exposures_adu), **values)
    with through_a_file(detection, tmp_path / "crmasks.fits") as hdul:
        assert read_parameters(hdul) == detection.parameters
        table = hdul["PARAMS"].data
        used = dict(zip(table["NAME"], map(json.loads, table["USED"]), strict=True))
        given = dict(zip(table["NAME"], map(json.loads, table["VALUE"]), strict=True))
        factors = [hdul[0].header[f"FLUXF{i}"] for i in (1, 2, 3)]
    differing = {name for name in used if used[name] != given[name]}
    assert differing == {"flux_factor", "mm_seed", "mm_nbinom_shape", "mm_xy_offsets"}
    assert used["flux_factor"] == factors == pytest.approx([0.8, 1.0, 1.2], rel=0.02)
    assert used["mm_nbinom_shape"] > 1000  # Poisson
    np.testing.assert_allclose(used["mm_xy_offsets"], 0, atol=0.1)
    again = run(crdetect.Stack(simulation.exposures_adu), **values | {"mm_seed": used["mm_seed"]})
    np.testing.assert_array_equal(again.masks.crmasks, detection.masks.crmasks)


def without_header_key(hdul):
    del hdul["MMBOUND"].header["DEGREE"]


def without_column(hdul):
    hdul["MMBOUND"].columns.del_col("ROLE")


def without_rounds(hdul):
    hdul["MMBOUND"].header["ROUNDS"] = 0
    hdul["MMBOUND"].data["ROUND"] = 0


def without_numbers(hdul):
    hdul["MMBOUND"].data["X"] = np.nan


def without_table(hdul):
    del hdul["MMBOUND"]


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (without_table, "has no table MMBOUND"),
        (without_header_key, "MMBOUND is damaged"),
        (without_column, "MMBOUND is damaged"),
        (without_rounds, "MMBOUND is damaged"),
        (without_numbers, "MMBOUND is damaged"),
    ],
)
def test_damaged_boundaries(stack, spoil, says, tmp_path):
    with through_a_file(run(stack), tmp_path / "crmasks.fits") as hdul:
        spoil(hdul)
        with pytest.raises(InputError, match=says):
            read_boundary(hdul)


def test_files_of_earlier_versions_hold_the_coincidences_among_those_of_the_diagram():
    """They are read by their names, whatever the order."""
    values = {"crmethod": "mm_pycosmic", "dilation": 1, "mm_cr_coincidences": 3, "mm_dilation": 2}
    columns = [
        fits.Column("NAME", "40A", array=list(values)),
        fits.Column("VALUE", "40A", array=[json.dumps(value) for value in values.values()]),
    ]
    table = fits.BinTableHDU.from_columns(columns, name="PARAMS")
    parameters = read_parameters(fits.HDUList([fits.PrimaryHDU(), table]))
    assert parameters.general.mm_cr_coincidences == 3
    assert parameters == Parameters.from_mapping(values)
