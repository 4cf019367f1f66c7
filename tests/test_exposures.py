import gzip
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from crdetect import InputError
from crdetect.exposures import find_file, make_exposures, number_or_map, read_exposures, read_image
from crdetect.parameters import Inputs

SHAPE = (20, 30)
NAMES = ["one.fits", "two.fits", "three.fits"]


@pytest.fixture(scope="module")
def pixels():
    """Whole numbers that fit every kind of file."""
    return np.random.default_rng(8).integers(0, 30000, (3, *SHAPE))


def inputs_of(names=NAMES, **kwargs):
    return Inputs(**({"images": tuple(names), "gain": 1.0, "rnoise": 3.0} | kwargs))


def write_all(folder, arrays, names=NAMES):
    for name, array in zip(names, arrays, strict=True):
        fits.PrimaryHDU(array).writeto(folder / name)


def complaint(inputs, folder):
    with pytest.raises(InputError) as caught:
        read_exposures(inputs, folder)
    message = str(caught.value)
    assert "\n" not in message
    return message


# ---------------------------------------------------------------------------------------------
# Kinds of files


def _plain(dtype):
    return lambda path, array: fits.PrimaryHDU(array.astype(dtype)).writeto(path)


def _scaled(path, array):
    hdu = fits.PrimaryHDU(array.astype(float))
    hdu.scale("int16", bscale=1.0, bzero=1000.0)
    hdu.writeto(path)


def _compressed(dtype, kind):
    def write(path, array):
        hdu = fits.CompImageHDU(array.astype(dtype), compression_type=kind, quantize_level=0)
        fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path)

    return write


def _gzipped(path, array):
    plain = path.with_suffix(".plain")
    fits.PrimaryHDU(array.astype(np.uint16)).writeto(plain)
    path.write_bytes(gzip.compress(plain.read_bytes()))


KINDS = {
    "float32": _plain("f4"),
    "float64": _plain("f8"),
    "int16": _plain("i2"),
    "uint16 with BZERO": _plain("u2"),
    "int32": _plain("i4"),
    "int64": _plain("i8"),
    "big-endian float32": _plain(">f4"),
    "little-endian int32": _plain("<i4"),
    "scaled int16": _scaled,
    "gzip": _gzipped,
    "tiles, Rice, int16": _compressed("i2", "RICE_1"),
    "tiles, Rice, uint16": _compressed("u2", "RICE_1"),
    "tiles, gzip, float32": _compressed("f4", "GZIP_2"),
}


@pytest.mark.parametrize("bias", [0.0, 1000.25])
@pytest.mark.parametrize("kind", KINDS)
def test_all_kinds_of_files_give_the_same_stack(tmp_path, pixels, kind, bias):
    for name, array in zip(NAMES, pixels, strict=True):
        KINDS[kind](tmp_path / name, array)
    exposures = read_exposures(inputs_of(bias=bias), tmp_path)
    assert exposures.stack.exposures.dtype == np.float32
    assert exposures.stack.exposures.dtype.isnative
    np.testing.assert_array_equal(exposures.stack.exposures, (pixels - bias).astype(np.float32))
    assert [identity.name for identity in exposures.identities] == list(NAMES)
    for header in exposures.headers:
        assert not {"BSCALE", "BZERO", "ZIMAGE", "ZBITPIX", "XTENSION"} & set(header)


def test_gzip_by_name(tmp_path, pixels):
    names = [name + ".gz" for name in NAMES]
    write_all(tmp_path, pixels.astype(np.int16), names)
    exposures = read_exposures(inputs_of(names), tmp_path)
    np.testing.assert_array_equal(exposures.stack.exposures, pixels)


@pytest.mark.parametrize("missing", [np.nan, np.inf])
def test_missing_values_are_kept_missing(tmp_path, pixels, missing):
    arrays = pixels.astype(np.float32)
    arrays[1, 4, 5] = missing
    write_all(tmp_path, arrays)
    stack = read_exposures(inputs_of(bias=100.0), tmp_path).stack
    assert np.argwhere(np.isnan(stack.exposures)).tolist() == [[1, 4, 5]]


def test_blank_integers_are_missing(tmp_path, pixels):
    for name, array in zip(NAMES, pixels.astype(np.int16), strict=True):
        hdu = fits.PrimaryHDU(array)
        hdu.data[2, 3] = -32768
        hdu.header["BLANK"] = -32768
        hdu.writeto(tmp_path / name)
    stack = read_exposures(inputs_of(), tmp_path).stack
    assert np.isnan(stack.exposures[:, 2, 3]).all()
    assert np.isnan(stack.exposures).sum() == 3


# ---------------------------------------------------------------------------------------------
# Extensions and headers


def several_extensions(path, array):
    """An image in SCI, another in DQ, and a table."""
    header = fits.Header()
    header["OBJECT"] = ("a star", "in the primary")
    header["EXPTIME"] = 1200.0
    header["DATE-OBS"] = "2026-01-02T03:04:05"
    header.add_history("observed")
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = "WAVE", "OFFSET"
    wcs.wcs.crval = 5000.0, 0.0
    wcs.wcs.cdelt = 0.5, 1.0
    science = fits.ImageHDU(array.astype(np.float32), header=wcs.to_header(), name="SCI")
    science.header["EXPTIME"] = (1201.0, "of this extension")
    quality = fits.ImageHDU(array.astype(np.uint8), name="DQ")
    table = fits.BinTableHDU.from_columns([fits.Column("A", "E", array=[1.0])], name="TAB")
    hdul = fits.HDUList([fits.PrimaryHDU(header=header), table, science, quality])
    hdul.writeto(path)


@pytest.fixture
def extensions(tmp_path, pixels):
    for name, array in zip(NAMES, pixels, strict=True):
        several_extensions(tmp_path / name, array)
    return tmp_path


@pytest.mark.parametrize("extnum", [None, 2, "SCI", "sci"])
def test_extension_by_number_and_name(extensions, pixels, extnum):
    stack = read_exposures(inputs_of(extnum=extnum), extensions).stack
    np.testing.assert_array_equal(stack.exposures, pixels)


def test_another_extension(extensions, pixels):
    stack = read_exposures(inputs_of(extnum="DQ"), extensions).stack
    np.testing.assert_array_equal(stack.exposures, pixels.astype(np.uint8))


def test_header_is_that_of_the_extension_over_the_primary(extensions):
    header = read_exposures(inputs_of(extnum="SCI"), extensions).headers[0]
    assert header["OBJECT"] == "a star"
    assert header["EXPTIME"] == 1201.0
    assert (header["CTYPE1"], header["CRVAL1"], header["CDELT1"]) == ("WAVE", 5000.0, 0.5)
    assert "observed" in list(header["HISTORY"])
    assert not {"EXTNAME", "XTENSION", "BITPIX", "NAXIS", "NAXIS1"} & set(header)


@pytest.mark.parametrize(
    ("extnum", "needles"),
    [
        (9, ["no extension 9", "2 SCI, 3 DQ"]),
        ("SCIENCE", ["no extension SCIENCE", "2 SCI, 3 DQ"]),
        (1, ["extension 1 holds no image", "2 SCI, 3 DQ"]),
        ("TAB", ["extension TAB holds no image", "2 SCI, 3 DQ"]),
        (0, ["extension 0 holds no image", "2 SCI, 3 DQ"]),
    ],
)
def test_extensions_without_an_image(extensions, extnum, needles):
    message = complaint(inputs_of(extnum=extnum), extensions)
    assert all(needle in message for needle in ["one.fits", *needles]), message


# ---------------------------------------------------------------------------------------------
# Gain, read noise, bias


def test_bias_map_is_removed_once(tmp_path, pixels):
    write_all(tmp_path, pixels.astype(np.int32))
    bias = np.linspace(900, 1100, pixels[0].size, dtype=np.float32).reshape(SHAPE)
    fits.PrimaryHDU(bias).writeto(tmp_path / "bias.fits")
    stack = read_exposures(inputs_of(bias="bias.fits"), tmp_path).stack
    np.testing.assert_array_equal(stack.exposures, (pixels - bias).astype(np.float32))


def test_maps_of_gain_and_read_noise(tmp_path, pixels):
    write_all(tmp_path, pixels.astype(np.int32))
    ramp = np.arange(1, pixels[0].size + 1, dtype=np.int16).reshape(SHAPE)
    several_extensions(tmp_path / "gain.fits", ramp)
    fits.PrimaryHDU(ramp * 0.5).writeto(tmp_path / "rnoise.fits")
    noise = read_exposures(inputs_of(gain="gain.fits", rnoise="rnoise.fits"), tmp_path).noise
    np.testing.assert_array_equal(noise.gain, ramp)
    np.testing.assert_array_equal(noise.rnoise_adu, ramp * 0.5)
    assert noise.gain.dtype == np.float32


@pytest.mark.parametrize("name", ["gain", "rnoise", "bias"])
def test_maps_of_another_shape(tmp_path, pixels, name):
    write_all(tmp_path, pixels.astype(np.int32))
    fits.PrimaryHDU(np.ones((5, 6))).writeto(tmp_path / "a_map.fits")
    message = complaint(inputs_of(**{name: "a_map.fits"}), tmp_path)
    assert name in message
    assert "(5, 6)" in message
    assert str(SHAPE) in message


@pytest.mark.parametrize("name", ["gain", "rnoise", "bias"])
def test_maps_that_are_not_there(tmp_path, pixels, name):
    write_all(tmp_path, pixels.astype(np.int32))
    message = complaint(inputs_of(**{name: "nowhere.fits"}), tmp_path)
    assert message.startswith(f"{name}: no file nowhere.fits")


@pytest.mark.parametrize(("name", "value"), [("gain", 0.0), ("rnoise", -1.0), ("gain", np.nan)])
def test_maps_with_bad_values(tmp_path, pixels, name, value):
    write_all(tmp_path, pixels.astype(np.int32))
    bad = np.ones(SHAPE)
    bad[3, 3] = value
    fits.PrimaryHDU(bad).writeto(tmp_path / "a_map.fits")
    assert name in complaint(inputs_of(**{name: "a_map.fits"}), tmp_path)


def test_numbers_are_passed_on(tmp_path):
    assert number_or_map(2.5, tmp_path, "gain") == 2.5


# ---------------------------------------------------------------------------------------------
# Where files are found


def test_folder_of_the_params_file_comes_first(tmp_path, monkeypatch):
    beside, current = tmp_path / "beside", tmp_path / "current"
    for folder in (beside, current):
        folder.mkdir()
        (folder / "both").touch()
    (current / "only_here").touch()
    monkeypatch.chdir(current)
    assert find_file("both", beside, "images").resolve() == beside / "both"
    assert find_file("only_here", beside, "images").resolve() == current / "only_here"
    assert find_file(str(beside / "both"), current, "images") == beside / "both"


def test_missing_file_and_where_it_was_looked_for(tmp_path, pixels, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "params"
    folder.mkdir()
    write_all(folder, pixels.astype(np.int16))
    (folder / "two.fits").unlink()
    message = complaint(inputs_of(), folder)
    for needle in ("images: no file two.fits", str(folder), str(tmp_path)):
        assert needle in message
    monkeypatch.chdir(folder)
    (folder / "three.fits").unlink()
    assert complaint(inputs_of(), Path()) == (
        f"images: no file two.fits, three.fits (looked in {folder})"
    )


def test_folder_in_place_of_an_exposure(tmp_path, pixels):
    write_all(tmp_path, pixels.astype(np.int16))
    (tmp_path / "data").mkdir()
    message = complaint(inputs_of(["one.fits", "data", "three.fits"]), tmp_path)
    assert message == "images: data is a folder, a FITS file is needed"


@pytest.mark.parametrize(("text", "number"), [("1,73", "1.73"), ("-0,5", "-0.5")])
def test_decimal_comma(tmp_path, pixels, text, number):
    write_all(tmp_path, pixels.astype(np.int16))
    message = complaint(inputs_of(bias=text), tmp_path)
    assert f"bias: no file {text}; if a number is meant, write {number} with" in message
    assert "number" not in complaint(inputs_of(bias="1,73.fits"), tmp_path)


# ---------------------------------------------------------------------------------------------
# What is wrong with one file: the second of three


def _truncated(path, _):
    fits.PrimaryHDU(np.ones((100, 100))).writeto(path, overwrite=True)
    path.write_bytes(path.read_bytes()[:30000])


def _truncated_gzip(path, _):
    fits.PrimaryHDU(np.random.default_rng(0).random((100, 100))).writeto(path, overwrite=True)
    path.write_bytes(gzip.compress(path.read_bytes())[:20000])


def _damaged_gzip(path, _):
    content = bytearray(gzip.compress(path.read_bytes()))
    content[len(content) // 2 :] = b"\x55" * (len(content) - len(content) // 2)
    path.write_bytes(content)


def _folder(path, _):
    path.unlink()
    path.mkdir()


def _hdus(*hdus):
    return lambda path, _: fits.HDUList(list(hdus)).writeto(path, overwrite=True)


def _bytes(content):
    return lambda path, _: path.write_bytes(content)


def _table():
    return fits.BinTableHDU.from_columns([fits.Column("A", "E", array=[1.0])])


FAULTS = {
    "missing": lambda path, _: path.unlink(),
    "a folder": _folder,
    "empty": _bytes(b""),
    "text": _bytes(b"these are not the stars you are looking for\n" * 100),
    "only the first card": _bytes(b"SIMPLE  =                    T"),
    "truncated": _truncated,
    "truncated gzip": _truncated_gzip,
    "damaged gzip": _damaged_gzip,
    "no image": _hdus(fits.PrimaryHDU()),
    "a table": _hdus(fits.PrimaryHDU(), _table()),
    "1-D": _hdus(fits.PrimaryHDU(np.ones(50))),
    "3-D": _hdus(fits.PrimaryHDU(np.ones((2, *SHAPE)))),
    "another shape": _hdus(fits.PrimaryHDU(np.ones(SHAPE[::-1]))),
    "all NaN": _hdus(fits.PrimaryHDU(np.full(SHAPE, np.nan))),
    "all infinite": _hdus(fits.PrimaryHDU(np.full(SHAPE, np.inf))),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_name_the_file(tmp_path, pixels, fault):
    write_all(tmp_path, pixels.astype(np.int16))
    FAULTS[fault](tmp_path / "two.fits", pixels[1])
    message = complaint(inputs_of(), tmp_path)
    assert "two.fits" in message
    assert "three.fits" not in message


@pytest.mark.parametrize(
    ("fault", "needle"),
    [
        ("3-D", "has 3 dimensions, 2 are needed"),
        ("1-D", "has 1 dimensions, 2 are needed"),
        ("all NaN", "has no finite value"),
        ("text", "cannot be read as FITS"),
        ("truncated", "cannot be read as FITS"),
        ("a table", "extensions with an image: none"),
    ],
)
def test_faults_say_what_is_wrong(tmp_path, pixels, fault, needle):
    write_all(tmp_path, pixels.astype(np.int16))
    FAULTS[fault](tmp_path / "two.fits", pixels[1])
    assert needle in complaint(inputs_of(), tmp_path)


def test_unequal_shapes_tell_both(tmp_path, pixels):
    write_all(tmp_path, [*pixels[:2], pixels[2].T])
    message = complaint(inputs_of(), tmp_path)
    for needle in ("three.fits", "one.fits", str(SHAPE), str(SHAPE[::-1])):
        assert needle in message


@pytest.mark.parametrize("third", ["one.fits", "./one.fits", "link.fits"])
def test_same_file_twice(tmp_path, pixels, third):
    write_all(tmp_path, pixels)
    (tmp_path / "link.fits").symlink_to(tmp_path / "one.fits")
    message = complaint(inputs_of(["one.fits", "two.fits", third]), tmp_path)
    assert third.removeprefix("./") in message
    assert "twice" in message


def test_arrays_in_memory_are_not_changed(pixels):
    arrays = [array.astype(np.float32) for array in pixels]
    headers = [fits.Header()] * 3
    exposures = make_exposures(arrays, headers, NAMES, 1.0, 3.0, 100.0)
    for array, original, plane in zip(arrays, pixels, exposures.stack.exposures, strict=True):
        np.testing.assert_array_equal(array, original)
        np.testing.assert_array_equal(plane, original - 100.0)


def test_one_image(tmp_path, pixels):
    fits.PrimaryHDU(pixels[0].astype(np.int16)).writeto(tmp_path / "one.fits")
    data, header = read_image(tmp_path / "one.fits", None)
    np.testing.assert_array_equal(data, pixels[0])
    assert "NAXIS" not in header
