"""Gain, read noise, bias and saturation, from where they are told; profiles are numina's own."""

import datetime as dt
import json
import uuid
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from numina.instrument.assembly import assembly_instrument
from numina.instrument.collection import load_paths_store

from crdetect.errors import InputError
from crdetect.parameters import Parameters
from crdetect.profiles import (
    GENERIC,
    Known,
    ObservingBlockInputs,
    known_of,
    recognise,
    with_saturation,
)
from crdetect.schema.words import validate_block

MEGARA = "6d1c4ad7-6f64-4b41-9b6e-3b1f0c6e8a11"
KAST = "0b7a8c52-0d0c-4f0e-8f1c-5f0a7e1d2b22"
ISIS = "a4f3e6b0-58a1-4c0e-9a55-2f7d9b3c4d33"
MINE = str(uuid.UUID(int=7))
SHAPE = (4, 6)


def inputs(**values):
    valid, faults = validate_block(ObservingBlockInputs, values)
    assert not faults
    return valid


def described(*properties, number=7, **changes):
    return {
        "name": "CRDETECT",
        "description": "mine",
        "uuid": str(uuid.UUID(int=number)),
        "type": "instrument",
        "date_start": None,
        "date_end": None,
        "properties": list(properties),
    } | changes


def key(name, card, default=None):
    return {"id": name, "limits": [], "key": card, "default": default}


def constant(name, value):
    return {"id": name, "depends": [], "values": value}


def store_of(folder, *profiles):
    for profile in profiles:
        (folder / f"{profile['uuid']}.json").write_text(json.dumps(profile))
    return load_paths_store(["crdetect.configs"], [folder])


def profile_of(header, folder, *profiles, identifier=MINE):
    profile = assembly_instrument(store_of(folder, *profiles), identifier, None, by_key="uuid")
    profile.configure_with_header(header)
    return profile


def known(header, folder, *properties, shape=SHAPE, **given):
    header = fits.Header(header)
    profile = profile_of(header, folder, described(*properties))
    return known_of(inputs(**given), profile, header, shape, folder)


# ---------------------------------------------------------------------------------------------
# Where values come from


def test_requirement_comes_before_profile_before_header(tmp_path):
    header = {"GAIN": 1.0, "RDNOISE": 3.0, "EGAIN": 2.0, "RON": 8.0, "LEVEL": 5.0}
    mine = key("gain", "EGAIN"), key("rdnoise", "RON"), key("bias", "LEVEL")
    for properties, given, expected in (
        (mine, {"gain": 4.0, "rnoise": 5.0, "bias": 6.0}, (4.0, 5.0, 6.0)),
        (mine, {"gain": 4.0}, (4.0, 2.0, 5.0)),
        (mine, {}, (2.0, 4.0, 5.0)),
        ((key("gain", "NONE"),), {"gain": None}, (1.0, 3.0, 0.0)),
        ((), {"gain": 0.5}, (0.5, 6.0, 0.0)),
    ):
        found = known(header, tmp_path, *properties, **given)
        assert list(found) == ["gain", "rnoise", "bias"]
        assert tuple(value.value for value in found.values()) == expected


def test_origin_is_told(tmp_path):
    by = "by the instrument profile 'mine'"
    properties = key("gain", "EGAIN", 9.0), key("rdnoise", "RON", 3.0), constant("saturation", 50)
    found = known({"EGAIN": 2.0}, tmp_path, *properties, bias=4)
    assert str(found["gain"]) == f"2 (from key EGAIN of the header, {by})"
    assert str(found["rnoise"]) == (
        "1.5 (from instrument profile 'mine'; the header has no key RON, divided by gain)"
    )
    assert str(found["bias"]) == "4 (from requirement bias)"
    assert str(found["saturation"]) == "50 (from instrument profile 'mine')"
    plain = known({"GAIN": 2.0, "RDNOISE": 3.0}, tmp_path)
    assert str(plain["gain"]) == "2 (from key GAIN of the header)"
    assert str(plain["bias"]) == "0 (from default)"


def test_detector_is_a_component_too(tmp_path):
    component = described(key("gain", "EGAIN"), number=8, name="CCD", type="component")
    link = [{"id": "detector", "uuid": component["uuid"]}]
    instrument = described(constant("rdnoise", 4.0), components=link)
    header = fits.Header({"EGAIN": 2.0})
    profile = profile_of(header, tmp_path, instrument, component)
    found = known_of(inputs(), profile, header, SHAPE, tmp_path)
    assert found["gain"].value == 2.0
    assert found["rnoise"].value == 2.0


def test_maps(tmp_path):
    gain = np.array([[1.0, 2.0], [4.0, 8.0]], np.float32)
    fits.writeto(tmp_path / "gain.fits", gain)
    found = known({"RDNOISE": 8.0}, tmp_path, gain="gain.fits", shape=(2, 2))
    np.testing.assert_array_equal(found["gain"].value, gain)
    np.testing.assert_array_equal(found["rnoise"].value, 8.0 / gain)
    assert str(found["gain"]) == "a map (from requirement gain)"


def test_amplifiers_that_differ_make_a_map(tmp_path):
    halves = constant("amplifiers", [[1, 6, 1, 2], [1, 6, 3, 4]])
    gains = key("gain1", "GAIN1"), key("gain2", "GAIN2")
    noises = constant("rdnoise1", 3.0), constant("rdnoise2", 3.0)
    found = known({"GAIN1": 1.5, "GAIN2": 3.0}, tmp_path, halves, *gains, *noises)
    np.testing.assert_array_equal(found["gain"].value[:, 0], [1.5, 1.5, 3.0, 3.0])
    np.testing.assert_array_equal(found["rnoise"].value[:, 5], [2.0, 2.0, 1.0, 1.0])
    assert found["gain"].origin == (
        "key GAIN1 of the header, by the instrument profile 'mine'; "
        "key GAIN2 of the header, by the instrument profile 'mine'"
    )
    same = known({"GAIN1": 1.5, "GAIN2": 1.5}, tmp_path, halves, *gains, *noises)
    assert same["gain"].value == 1.5


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({}, "gain is not known.*; rnoise is not known"),
        ({"GAIN": "HIGH", "RDNOISE": 3.0}, "key GAIN of the header is 'HIGH'"),
        ({"GAIN": 0.0, "RDNOISE": 3.0}, "is 0.0, which is no gain"),
        ({"GAIN": 1.0}, "rnoise is not known"),
        ({"GAIN": 1.0, "RDNOISE": -1.0}, "is -1.0, which is no rnoise"),
    ],
)
def test_what_is_not_known_or_no_number_in_range(header, message, tmp_path):
    with pytest.raises(InputError, match=message):
        known(header, tmp_path)


@pytest.mark.parametrize(
    "regions", [[[1, 6, 1, 2], [1, 6, 3, 5]], [[1, 6, 1, 2], [2, 6, 3, 4]], [[1, 6], 3], 4]
)
def test_amplifiers_that_do_not_fit(regions, tmp_path):
    gains = constant("gain1", 1.0), constant("gain2", 2.0)
    with pytest.raises(InputError, match="amplifiers"):
        known({"RDNOISE": 3.0}, tmp_path, constant("amplifiers", regions), *gains)


# ---------------------------------------------------------------------------------------------
# Saturation


def test_saturation_is_the_detector_s_above_the_bias():
    values = {"saturation": Known(60000.0, "x"), "bias": Known(1000.0, "y")}
    parameters = Parameters.from_mapping({"mm_threshold": 5.0})
    changed = with_saturation(parameters, values, {})
    assert changed.la.la_satlevel == 59000.0
    assert changed.mm == parameters.mm
    assert with_saturation(parameters, values, {"la_satlevel": 1.0}) is parameters
    assert with_saturation(parameters, {"bias": values["bias"]}, {}) is parameters
    with pytest.raises(InputError, match="la_satlevel must be a number > 0"):
        with_saturation(parameters, values | {"bias": Known(1e5, "y")}, {})


# ---------------------------------------------------------------------------------------------
# The profiles of the package, and of the user


@pytest.mark.parametrize(
    ("identifier", "header", "expected"),
    [
        (GENERIC, {"GAIN": 2.0, "RDNOISE": 5.0, "BIASLEV": 9.0, "SATURATE": 4e4}, (2, 2.5, 9, 4e4)),
        (KAST, {"GAIN": 1.2, "RDNOISE": 3.0}, (1.2, 2.5, 0, 65535)),
        (KAST, {}, (1.25, 3.04, 0, 65535)),
        (ISIS, {"GAIN": 1.0, "READNOIS": 3.0}, (1.0, 3.0, 0, 65535)),
        (MEGARA, {"GAIN1": 1.7, "GAIN2": 1.7}, (1.7, 2.0, 0, 65535)),
    ],
)
def test_packaged_profiles(identifier, header, expected, tmp_path):
    header = fits.Header(header)
    profile = profile_of(header, tmp_path, identifier=identifier)
    found = known_of(inputs(), profile, header, (4112, 4096), tmp_path)
    assert [value.value for value in found.values()] == pytest.approx(expected)


def test_megara_has_two_amplifiers(tmp_path):
    header = fits.Header({"GAIN1": 1.73, "GAIN2": 1.6, "RDNOISE1": 3.4, "RDNOISE2": 3.2})
    profile = profile_of(header, tmp_path, identifier=MEGARA)
    found = known_of(inputs(), profile, header, (4112, 4096), tmp_path)
    for name, lower, upper in (("gain", 1.73, 1.6), ("rnoise", 3.4 / 1.73, 3.2 / 1.6)):
        values = found[name].value
        np.testing.assert_allclose(values[[0, 2055], [0, 4095]], lower, rtol=1e-6)
        np.testing.assert_allclose(values[[2056, 4111], [0, 4095]], upper, rtol=1e-6)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ({}, GENERIC),
        ({"INSTRUME": "OTHER"}, GENERIC),
        ({"INSTRUME": "ISIS", "ISIARM": "Blue arm"}, GENERIC),
        ({"INSTRUME": " isis", "ISIARM": "Red arm "}, ISIS),
        ({"INSTRUME": "MEGARA"}, MEGARA),
        ({"VERSION": "kastb"}, KAST),
        ({"INSTRUME": "MINE", "ARM": 2}, MINE),
    ],
)
def test_instruments_are_recognised_by_their_keys(header, expected, tmp_path):
    mine = described(constant("recognised_by", {"INSTRUME": "mine", "ARM": "2"}))
    assert recognise(header, store_of(tmp_path, mine).values(), None) == expected


def test_most_keys_count_and_a_profile_has_its_time(tmp_path):
    special = described(
        constant("recognised_by", {"INSTRUME": "ISIS", "ISIARM": "Red arm", "CCD": "NEW"}),
        date_start="2020-01-01T00:00:00",
    )
    profiles = store_of(tmp_path, special).values()
    header = {"INSTRUME": "ISIS", "ISIARM": "Red arm", "CCD": "NEW"}
    before, after = dt.datetime(2019, 5, 1), dt.datetime(2021, 5, 1)  # noqa: DTZ001
    assert [recognise(header, profiles, date) for date in (before, after)] == [ISIS, MINE]


def test_recognised_by_must_be_keys_and_values(tmp_path):
    mine = described(constant("recognised_by", ["INSTRUME"]))
    with pytest.raises(InputError, match="'mine': recognised_by must map keys"):
        recognise({}, store_of(tmp_path, mine).values(), None)


def test_packaged_profiles_are_small_and_have_a_file_each():
    files = sorted(Path(__file__).parents[1].glob("crdetect/configs/*.json"))
    assert [file.stem for file in files] == [
        f"crdetect-{name}" for name in ("generic", "isis", "kast", "megara")
    ]
    assert all(file.stat().st_size < 1500 for file in files)
