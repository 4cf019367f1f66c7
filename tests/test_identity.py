"""Which exposures masks were made of."""

import uuid

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from crdetect.identity import Identity, difference, with_identifiers


def exposures(uuids=("", "", ""), dates=("", "", ""), images="abc"):
    return [
        Identity(f"{i}.fits", *facts, digest=f"{ord(image):032x}")
        for i, (*facts, image) in enumerate(zip(uuids, dates, images, strict=True), start=1)
    ]


def test_identity_of_an_exposure():
    image = np.arange(6.0).reshape(2, 3)
    identity = Identity.of("a.fits", {"UUID": " u ", "DATE-OBS": "2026-01-01"}, image)
    assert (identity.name, identity.uuid, identity.date_obs) == ("a.fits", "u", "2026-01-01")
    assert identity.identifier == "u"
    assert str(identity) == "a.fits (UUID u, DATE-OBS 2026-01-01)"
    unknown = Identity.of("a.fits", {}, image)
    assert uuid.UUID(unknown.identifier).hex == unknown.digest == identity.digest


@given(
    image=hnp.arrays(np.float32, (3, 4), elements=st.floats(width=32)),
    row=st.integers(0, 2),
    column=st.integers(0, 3),
)
def test_digest_tells_images_apart_whatever_their_type_and_layout(image, row, column):
    digest = Identity.of("", {}, image).digest
    assert Identity.of("", {}, image.astype(">f4")).digest == digest
    assert Identity.of("", {}, np.asfortranarray(image)).digest == digest
    other = image.copy()
    other[row, column] = 1.0 if image[row, column] != 1.0 else 2.0
    assert Identity.of("", {}, other).digest != digest


def test_same_exposures_in_the_same_order():
    made_of = exposures(uuids="xyz")
    assert difference(made_of, made_of) is None
    assert difference((), made_of) is None  # masks of the peer do not tell


def test_uuid_decides_whatever_was_done_to_the_image():
    assert difference(exposures(uuids="xyz"), exposures(uuids="xyz", images="def")) is None
    assert difference(exposures(uuids="xyz"), exposures(uuids="xyw")) is not None


def test_date_decides_where_a_uuid_is_missing_or_the_same():
    dates = ["1", "2", "3"]
    same = exposures(dates=dates, images="def")
    assert difference(exposures(dates=dates, uuids=["x", "y", ""]), same) is None
    assert difference(exposures(dates=dates, uuids="xxx"), same) is None
    assert "not made of 3.fits" in difference(
        exposures(dates=dates), exposures(dates=["1", "2", "4"])
    )


def test_image_decides_where_dates_are_the_same():
    dates = ["1", "1", "1"]
    assert difference(exposures(dates=dates), exposures(dates=dates)) is None
    assert difference(exposures(dates=dates), exposures(dates=dates, images="abd")) is not None


@pytest.mark.parametrize("order", [(1, 0, 2), (2, 1, 0), (1, 2, 0)])
def test_another_order_is_told(order):
    made_of = exposures(uuids="xyz")
    text = difference(made_of, [made_of[i] for i in order])
    assert text == (
        "the exposures are in another order than the masks, made of "
        "1.fits (UUID x), 2.fits (UUID y), 3.fits (UUID z)"
    )


def test_other_exposures_are_named():
    text = difference(exposures(), exposures(images="abd"))
    assert text.startswith("the masks were not made of 3.fits (image 00000000), but of 1.fits")


def test_header_of_products():
    header = fits.Header({"OBJECT": "field", "UUID": "x"})
    written = with_identifiers(header, exposures(uuids="xyz"))
    assert [written[f"UUID{i}"] for i in (1, 2, 3)] == ["x", "y", "z"]
    assert written["OBJECT"] == "field"
    assert "UUID1" not in header
