import copy
import itertools
import pickle

import pytest
import yaml
from pydantic import ValidationError

from crdetect import InputError, Parameters
from crdetect.detectors import REGISTRY
from crdetect.methods import Method, all_methods
from crdetect.parameters import BLOCKS, Inputs, template
from crdetect.schema.words import describe_block, validate_block

DESCRIBED = {p.name: (block, p) for block in BLOCKS for p in describe_block(BLOCKS[block])}
OPTIONAL = {
    "flux_factor",
    "flux_factor_regions",
    "regions_to_be_skipped",
    "pixels_to_be_flagged_as_cr",
    "pixels_to_be_ignored_as_cr",
    "pixels_to_be_ignored_in_mediancr",
    "pixels_to_be_replaced_by_local_median",
    "mm_false_pixels",
    "mm_xy_offsets",
    "mm_crosscorr_region",
    "mm_fixed_points_in_boundary",
    "mm_threshold",
    "mm_threshold_rnoise",
    "mm_seed",
    "jt_strong",
    "jt_matching",
    "jt_noise_terms",
}
NUMERIC = [
    name
    for name, (_, p) in DESCRIBED.items()
    if name in ("mm_threshold", "flux_factor", "mm_false_pixels")
    or type(p.default[0] if isinstance(p.default, tuple) else p.default) in (int, float)
]
FLAGS = [name for name, (_, p) in DESCRIBED.items() if isinstance(p.default, bool)]
CHOICES = [
    name
    for name, (_, p) in DESCRIBED.items()
    if isinstance(p.default, str) and name != "jt_noise_terms"
]
NONES = [None, "", "none", "null", " None "]
OFFSETS = [{"mm_xy_offsets": [[0, 0]] * 3}, {"mm_crosscorr_region": [1, 40, 1, 40]}]
CALIBRATED = ["mm_synthetic: median", "mm_boundary_fit: spline", "no offsets"]
INPUTS = {"images": ["a.fits", "b.fits", "c.fits"], "gain": 1.0, "rnoise": 3.4}


def value_of(name, value):
    """Validate one parameter in its block, whether or not this version can honour it."""
    block, faults = validate_block(BLOCKS[DESCRIBED[name][0]], {name: value})
    assert faults == []
    return getattr(block, name)


def faults_of(name, value):
    block, faults = validate_block(BLOCKS[DESCRIBED[name][0]], {name: value})
    assert block is None
    return faults


# ---------------------------------------------------------------------------------------------
# The schema


def test_each_name_stands_in_one_block():
    names = [name for model in BLOCKS.values() for name in model.model_fields]
    assert len(names) == len(set(names))
    assert not set(names) & set(Inputs.model_fields)


@pytest.mark.parametrize("block", [block for block in BLOCKS if block != "general"])
def test_names_begin_with_their_block(block):
    assert all(name.startswith(f"{block}_") for name in BLOCKS[block].model_fields)


@pytest.mark.parametrize("model", [Inputs, *BLOCKS.values()])
def test_every_parameter_is_described(model):
    for parameter in describe_block(model):
        assert parameter.description, parameter.name
        assert parameter.accepted, parameter.name


@pytest.mark.parametrize("name", DESCRIBED)
def test_defaults_are_accepted(name):
    default = DESCRIBED[name][1].default
    assert value_of(name, default) == default


def test_blocks_are_frozen_and_closed():
    parameters = Parameters()
    with pytest.raises(ValidationError):
        parameters.mm.mm_dilation = 3
    with pytest.raises(ValidationError):
        BLOCKS["mm"](mm_dilatation=3)


@pytest.mark.parametrize("crmethod", all_methods(REGISTRY))
def test_crmethod_is_split_once(crmethod):
    general = Parameters.from_mapping({"crmethod": crmethod}).general
    assert (general.crmethod, general.method) == (crmethod, Method.parse(crmethod))
    assert (general.detector, general.criterion) == (
        general.method.detector,
        general.method.criterion,
    )


def test_detectors_blocks_by_prefix():
    parameters = Parameters.from_mapping({"la_niter": 7, "jt_weak": 2})
    assert parameters.block("la").la_niter == parameters.la.la_niter == 7
    assert parameters.block("jt").jt_weak == parameters.jt.jt_weak == 2
    assert [type(parameters.block(prefix)) for prefix in BLOCKS] == list(BLOCKS.values())
    with pytest.raises(AttributeError):
        parameters.xx  # noqa: B018


def test_parameters_are_values():
    one, other = (Parameters.from_mapping({"la_niter": 7}) for _ in range(2))
    assert one == other != Parameters()
    assert hash(one) == hash(other)
    assert pickle.loads(pickle.dumps(one)) == copy.deepcopy(one) == one  # noqa: S301


# ---------------------------------------------------------------------------------------------
# Values


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        ("pc_replace_error", "1.0E6", 1.0e6),
        ("mm_nbinom_shape", "1E3", 1000.0),
        ("mm_nbinom_shape", 0.5, 0.5),
        ("mm_nbinom_shape", "auto", "auto"),
        ("mm_simulation", "analytic", "analytic"),
        ("la_niter", "4", 4),
        ("la_niter", 4.0, 4),
        ("la_sigclip", 5, 5.0),
        ("la_sigclip", [5, 3], (5.0, 3.0)),
        ("la_sigclip", ["5.0E0", 3], (5.0, 3.0)),
        ("dc_threshold", [1, 0], (1.0, 0.0)),
        ("use_auxmedian", "True", True),
        ("use_auxmedian", "false", False),
        ("maxplots", -1, -1),
        ("la_psfsize", 7, 7),
        ("mm_hist2d_min_neighbors", 8, 8),
        ("mm_threshold", 0, 0.0),
        ("mm_seed", 0, 0),
        ("flux_factor", "auto", "auto"),
        ("flux_factor", 2, 2.0),
        ("flux_factor", [0.8, 1, 1.2], (0.8, 1.0, 1.2)),
        ("mm_crosscorr_region", [1, 20, 3, 40], (1, 20, 3, 40)),
        ("mm_crosscorr_region", "[1:20, 3:40]", (1, 20, 3, 40)),
        ("mm_crosscorr_region", " [ 1:20,3 : 40 ] ", (1, 20, 3, 40)),
        ("regions_to_be_skipped", [5, 5, 6, 6], ((5, 5, 6, 6),)),
        ("regions_to_be_skipped", "[1:2, 3:4]", ((1, 2, 3, 4),)),
        ("regions_to_be_skipped", ["[1:2, 3:4]", [5, 6, 7, 8]], ((1, 2, 3, 4), (5, 6, 7, 8))),
        ("flux_factor_regions", [[1, 2, 3, 4]], ((1, 2, 3, 4),)),
        ("regions_to_be_skipped", [], ()),
        ("pixels_to_be_flagged_as_cr", [5, 6], ((5, 6),)),
        ("pixels_to_be_ignored_as_cr", [[5, 6], [7, 8]], ((5, 6), (7, 8))),
        ("pixels_to_be_replaced_by_local_median", [[1, 2, 3, 5]], ((1, 2, 3, 5),)),
        ("mm_xy_offsets", [[0, 0], [0.5, -1], [1, 2]], ((0.0, 0.0), (0.5, -1.0), (1.0, 2.0))),
        ("mm_fixed_points_in_boundary", [[0, 10], [5, 20, 3]], ((0.0, 10.0), (5.0, 20.0, 3.0))),
        ("mm_fixed_points_in_boundary", [-3, 10], ((-3.0, 10.0),)),
    ],
)
def test_accepted_values(name, given, expected):
    value = value_of(name, given)
    assert value == expected
    assert type(value) is type(expected)


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("crmethod", "mm_astroscrappy"),
        ("la_niter", 0),
        ("la_niter", 1.5),
        ("la_niter", "many"),
        ("la_satlevel", -1),
        ("la_satlevel", float("inf")),
        ("la_satlevel", float("nan")),
        ("la_sigclip", [5, float("inf")]),
        ("la_sigclip", [5, 3, 1]),
        ("la_sigclip", [5]),
        ("la_sigclip", [5, 0]),
        ("dc_threshold", 1.1),
        ("la_psfsize", 10),
        ("maxplots", -2),
        ("dilation", -1),
        ("mm_cr_coincidences", 1),
        ("mm_hist2d_min_neighbors", 9),
        ("mm_weight_boundary_extension", 0.5),
        ("mm_knots_splfit", 1),
        ("mm_seed", -1),
        ("mm_threshold", -0.5),
        ("mm_nbinom_shape", 0),
        ("mm_nbinom_shape", "automatic"),
        ("mm_nbinom_shape", float("inf")),
        ("mm_simulation", "exact"),
        ("mm_false_pixels", 0),
        ("mm_false_pixels", -1),
        ("mm_false_pixels", "auto"),
        ("flux_factor", "automatic"),
        ("flux_factor", [1, 0, 1]),
        ("mm_crosscorr_region", 5),
        ("mm_crosscorr_region", True),
        ("mm_crosscorr_region", [1, 2, 3]),
        ("mm_crosscorr_region", [2, 1, 3, 4]),
        ("mm_crosscorr_region", [1, 2, 4, 3]),
        ("mm_crosscorr_region", [0, 2, 3, 4]),
        ("mm_crosscorr_region", [1, "a", 3, 4]),
        ("mm_crosscorr_region", [1, None, 3, 4]),
        ("mm_crosscorr_region", [1, 2.5, 3, 4]),
        ("mm_crosscorr_region", {"a": 1, "b": 2, "c": 3, "d": 4}),
        ("mm_crosscorr_region", "[1:2, 3]"),
        ("mm_crosscorr_region", "__import__('os')"),
        ("regions_to_be_skipped", 5),
        ("regions_to_be_skipped", [[1, 2, 3, 4], 5]),
        ("regions_to_be_skipped", [[1, 2, 3, 4], [1, 2]]),
        ("regions_to_be_skipped", ["[1:2, 3:4]", "[4:3, 1:2]"]),
        ("pixels_to_be_flagged_as_cr", [[1, 2, 3]]),
        ("pixels_to_be_flagged_as_cr", [[0, 1]]),
        ("pixels_to_be_flagged_as_cr", "[1, 2]"),
        ("pixels_to_be_replaced_by_local_median", [[1, 2, 3]]),
        ("pixels_to_be_replaced_by_local_median", [[1, 2, 0, 3]]),
        ("mm_fixed_points_in_boundary", [[1, 2, 0]]),
        ("mm_fixed_points_in_boundary", [[1]]),
        ("mm_fixed_points_in_boundary", [[1, float("nan")]]),
        ("mm_xy_offsets", [[1, 2, 3]]),
    ],
)
def test_refused_values(name, given):
    (fault,) = faults_of(name, given)
    accepted = DESCRIBED[name][1].accepted
    assert fault.startswith(f"{name} must be {accepted}, not ")


@pytest.mark.parametrize("name", NUMERIC)
@pytest.mark.parametrize("given", [True, False])
def test_booleans_are_not_numbers(name, given):
    (fault,) = faults_of(name, given)
    assert fault == f"{name} must be {DESCRIBED[name][1].accepted}, not {str(given).lower()}"


@pytest.mark.parametrize("name", FLAGS)
@pytest.mark.parametrize("given", [0, 1, 1.0, "yes", [True]])
def test_flags_are_true_or_false(name, given):
    (fault,) = faults_of(name, given)
    assert fault.startswith(f"{name} must be true or false, not ")


@pytest.mark.parametrize("name", CHOICES)
@pytest.mark.parametrize("given", [1, "nonsense", ["a"]])
def test_refused_choices_name_the_accepted_ones(name, given):
    (fault,) = faults_of(name, given)
    assert fault.startswith(f"{name} must be one of ")
    assert str(DESCRIBED[name][1].default) in fault


@pytest.mark.parametrize("name", DESCRIBED)
@pytest.mark.parametrize("given", NONES)
def test_none_in_all_its_spellings(name, given):
    if name in OPTIONAL:
        assert value_of(name, given) is None
    else:
        (fault,) = faults_of(name, given)
        assert fault == f"{name} must be {DESCRIBED[name][1].accepted}, not none"


# ---------------------------------------------------------------------------------------------
# Names, and several parameters together


@pytest.mark.parametrize("name", DESCRIBED)
def test_misspelt_names_are_told_the_nearest_one(name):
    middle = len(name) // 2
    parameters, faults = Parameters.parse({name[:middle] + name[middle + 1 :]: 1})
    assert parameters is None
    assert len(faults) == 1
    assert faults[0].endswith(f"is not a parameter; did you mean {name}?")


@pytest.mark.parametrize("name", ["quux", 17, None])
def test_names_like_nothing(name):
    _, faults = Parameters.parse({name: 1})
    assert faults == [f"{name} is not a parameter"]


def test_all_faults_in_one_report():
    faulty = {
        "crmethdo": "mm_pycosmic",
        "la_sigclip": -5,
        "pc_iterations": True,
        "mm_seed": "random",
        "mm_boundary_fit": "cubic",
        "la_psfsize": 4,
        "dilation": "none",
    }
    with pytest.raises(InputError) as caught:
        Parameters.from_mapping(faulty, where="there")
    message = str(caught.value)
    assert message.startswith("there: ")
    assert "did you mean crmethod?" in message
    for name in faulty:
        assert name in message
    assert message.count(" must be ") == len(faulty) - 1
    assert "\n" not in message


@pytest.mark.parametrize("alias", ["pixels_to_be-flagged_as_cr"])
def test_aliases(alias):
    parameters = Parameters.from_mapping({alias: [[3, 4]]})
    assert parameters.general.pixels_to_be_flagged_as_cr == ((3, 4),)
    _, faults = Parameters.parse({alias: [[3, 4]], "pixels_to_be_flagged_as_cr": [[3, 4]]})
    assert len(faults) == 1
    assert "given twice" in faults[0]


@pytest.mark.parametrize(
    ("given", "adu", "rnoise"),
    [
        ({}, None, 3.0),
        ({"mm_threshold": 20}, 20.0, None),
        ({"mm_threshold": 0}, 0.0, None),
        ({"mm_threshold": "none"}, None, 3.0),
        ({"mm_threshold": 20, "mm_threshold_rnoise": "none"}, 20.0, None),
        ({"mm_threshold": None, "mm_threshold_rnoise": 4}, None, 4.0),
        ({"mm_threshold": None, "mm_threshold_rnoise": None}, None, None),
    ],
)
def test_two_thresholds(given, adu, rnoise):
    mm = Parameters.from_mapping(given).mm
    assert (mm.mm_threshold, mm.mm_threshold_rnoise) == (adu, rnoise)


@pytest.mark.parametrize("name", ["pixels_to_be_ignored_as_cr", "pixels_to_be_ignored_in_mediancr"])
def test_pixel_is_flagged_or_ignored(name):
    _, faults = Parameters.parse({"pixels_to_be_flagged_as_cr": [[3, 4], [5, 6]], name: [5, 6]})
    assert faults == [
        f"pixels [[5, 6]] are in pixels_to_be_flagged_as_cr and in {name}: keep them in one"
    ]


@pytest.mark.parametrize("name", ["interactive", "verify_cr"])
def test_a_person_is_asked_where_it_is_asked_for(name):
    assert not Parameters().general.asks_a_person
    assert Parameters.from_mapping({name: True}).general.asks_a_person


@pytest.mark.parametrize(
    ("given", "needles"),
    [
        (
            {"mm_threshold": 20, "mm_threshold_rnoise": 3},
            ["mm_threshold and mm_threshold_rnoise exclude each other"],
        ),
        (
            {"mm_boundary_fit": "piecewise"},
            ["piecewise needs mm_fixed_points_in_boundary", "two points"],
        ),
        (
            {"mm_boundary_fit": "piecewise", "mm_fixed_points_in_boundary": [[1, 2], [1, 3]]},
            ["two points of the same x"],
        ),
        (
            {"pixels_to_be_flagged_as_cr": [[1, 2]], "pixels_to_be_ignored_as_cr": [[1, 2]]},
            ["[[1, 2]]", "pixels_to_be_flagged_as_cr", "pixels_to_be_ignored_as_cr"],
        ),
        (
            {"mm_xy_offsets": [[0, 0]] * 3, "mm_crosscorr_region": [1, 40, 1, 40]},
            ["mm_xy_offsets and mm_crosscorr_region exclude each other"],
        ),
        *(
            (
                offsets | {"mm_synthetic": "single"},
                ["mm_xy_offsets and mm_crosscorr_region need mm_synthetic: median"],
            )
            for offsets in OFFSETS
        ),
        *(
            (
                {"mm_false_pixels": 5, "mm_simulation": "analytic"} | other,
                ["mm_false_pixels needs mm_simulation: analytic", *CALIBRATED],
            )
            for other in (
                {"mm_simulation": "montecarlo"},
                {"mm_synthetic": "single"},
                {
                    "mm_boundary_fit": "piecewise",
                    "mm_fixed_points_in_boundary": [[0, 1], [2, 3]],
                },
                *OFFSETS,
            )
        ),
    ],
)
def test_parameters_that_contradict_each_other(given, needles):
    _, faults = Parameters.parse(given)
    assert len(faults) == 1
    assert all(needle in faults[0] for needle in needles)


@pytest.mark.parametrize(
    "given",
    [
        *({"flux_factor": value} for value in ("auto", 1.0, [1, 1, 1])),
        {"flux_factor_regions": [[1, 2, 3, 4]]},
        *({"mm_nbinom_shape": value} for value in (50.0, "auto")),
        {"mm_xy_offsets": [[0, 0], [1, 1], [2, 2]]},
        {"mm_crosscorr_region": [1, 2, 3, 4]},
        {"mm_xy_offsets": [[0, 0]], "mm_simulation": "analytic"},
        {"mm_synthetic": "single", "mm_simulation": "analytic"},
        {"mm_false_pixels": 5, "mm_simulation": "analytic"},
        {"mm_false_pixels": "none", "mm_synthetic": "single"},
        {
            "mm_boundary_fit": "piecewise",
            "mm_fixed_points_in_boundary": [[0, 1], [2, 3]],
            "mm_simulation": "analytic",
        },
    ],
)
@pytest.mark.parametrize("distribution", ["poisson", "nbinom"])
def test_what_goes_together(given, distribution):
    given = given | {"mm_photon_distribution": distribution}
    assert Parameters.parse(given)[1] == []


# ---------------------------------------------------------------------------------------------
# What is made of the schema


def test_flat_names_and_back():
    given = {
        "crmethod": "mm_lacosmic",
        "la_sigclip": [6, 4],
        "mm_threshold": 12.5,
        "mm_seed": None,
        "regions_to_be_skipped": "[1:2, 3:4]",
        "mm_fixed_points_in_boundary": [[0, 1], [2, 3, 4]],
    }
    parameters = Parameters.from_mapping(given)
    flat = parameters.to_mapping()
    assert list(flat) == list(DESCRIBED)
    assert flat["la_sigclip"] == [6.0, 4.0]
    assert flat["regions_to_be_skipped"] == [[1, 2, 3, 4]]
    assert Parameters.from_mapping(flat) == parameters


@pytest.mark.parametrize(
    ("crmethod", "active"),
    [
        ("lacosmic", ["general", "la"]),
        ("pycosmic", ["general", "pc"]),
        ("mmcosmic", ["general", "mm"]),
        ("mm_lacosmic", ["general", "la", "mm"]),
        ("mm_pycosmic", ["general", "pc", "mm"]),
        ("joint", ["general", "jt"]),
        ("joint_conn", ["general", "nn", "jt"]),
    ],
)
def test_history_tells_the_active_blocks(crmethod, active):
    lines = Parameters.from_mapping({"crmethod": crmethod}).history()
    told = [line.removeprefix("- ").partition(" = ")[0] for line in lines]
    assert told == [name for name, (block, _) in DESCRIBED.items() if block in active]
    assert "mm_cr_coincidences" in told
    assert f'- crmethod = "{crmethod}"' in lines


def test_template_is_a_params_file_of_defaults():
    content = yaml.safe_load(template())
    requirements = content.pop("requirements")
    assert list(requirements) == list(DESCRIBED)
    assert Parameters.from_mapping(requirements) == Parameters()
    inputs, faults = validate_block(Inputs, content)
    assert faults == []
    assert len(inputs.images) == 3


@pytest.mark.parametrize("blocks", [*([block] for block in BLOCKS), ["la", "mm"]])
def test_template_of_some_blocks(blocks):
    text = template(blocks)
    assert max(map(len, text.splitlines())) <= 100
    requirements = yaml.safe_load(text)["requirements"]
    text = text.replace("\n  # ", " ")
    assert list(requirements) == [n for n, (block, _) in DESCRIBED.items() if block in blocks]
    for block in blocks:
        for parameter in describe_block(BLOCKS[block]):
            assert parameter.description in text
            assert parameter.accepted in text


# ---------------------------------------------------------------------------------------------
# The input


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"extnum": 1}, 1),
        ({"extnum": "SCI"}, "SCI"),
        ({"extnum": None}, None),
        ({"gain": "gain.fits"}, "gain.fits"),
        ({"gain": 2}, 2.0),
        *(({name: "1.5E0"}, 1.5) for name in ("gain", "rnoise", "bias")),
        ({"gain": "2"}, 2.0),
        ({"rnoise": 0}, 0.0),
        ({"bias": -20.5}, -20.5),
        ({"bias": "-1.0E2"}, -100.0),
    ],
)
def test_inputs(given, expected):
    inputs, faults = validate_block(Inputs, INPUTS | given)
    assert faults == []
    (name,) = given
    assert getattr(inputs, name) == expected
    assert type(getattr(inputs, name)) is type(expected)


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("images", ["a.fits"]),
        ("images", "a.fits"),
        ("images", ["a.fits", "b.fits", ""]),
        ("images", ["a.fits", "b.fits", None]),
        ("images", ["a.fits", "b.fits", 3]),
        ("extnum", -1),
        ("extnum", 1.5),
        *itertools.product(("gain", "rnoise", "bias"), (True, None, [1.0], float("nan"))),
        *itertools.product(("gain", "rnoise", "bias"), ("nan", "-inf")),
        ("gain", 0),
        ("gain", "0.0"),
        ("gain", -1),
        ("rnoise", -0.1),
        ("rnoise", "-1E0"),
    ],
)
def test_refused_inputs(name, given):
    inputs, faults = validate_block(Inputs, INPUTS | {name: given})
    assert inputs is None
    assert len(faults) == 1
    assert faults[0].startswith(f"{name} must be ")


@pytest.mark.parametrize("name", INPUTS)
def test_missing_inputs(name):
    inputs, faults = validate_block(Inputs, {k: v for k, v in INPUTS.items() if k != name})
    assert inputs is None
    assert len(faults) == 1
    assert faults[0].startswith(f"{name} is missing: it must be ")


def test_network_of_deepcr_as_megaradrp_writes_it():
    assert Parameters.from_mapping({"dc_mask": "ACS_WFC"}).dc.dc_mask == "ACS-WFC"
    with pytest.raises(InputError, match='dc_mask must be one of ACS-WFC, WFC3-UVIS, not "HST"'):
        Parameters.from_mapping({"dc_mask": "HST"})
