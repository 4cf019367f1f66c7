"""Exposures read from FITS files: images are checked, and the bias is subtracted from them once."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.utils.exceptions import AstropyUserWarning

from crdetect.equality import by_value
from crdetect.errors import InputError
from crdetect.identity import Identity, with_identifiers
from crdetect.noise import Noise
from crdetect.parameters import Inputs
from crdetect.stack import Stack

MAPS = ("gain", "rnoise", "bias")
"""Names of the inputs that are numbers or maps; a map is read from a FITS file."""

# Keys of a header that describe how the file stores the image; products do not inherit them.
_STORAGE_KEYS = ("BSCALE", "BZERO", "BLANK", "EXTNAME", "EXTVER", "EXTLEVEL", "CHECKSUM", "DATASUM")

# A number with a decimal comma, which YAML reads as text and which is then taken for a file's name.
_COMMA_NUMBER = re.compile(r"[+-]?\d+,\d+")


@by_value
@dataclass(frozen=True)
class Exposures:
    """Exposures that were read, with their noise, headers and identities.

    Attributes
    ----------
    stack : Stack
        The images, ADU, bias subtracted.
    noise : Noise
        Gain (e/ADU) and read noise (ADU).
    headers : tuple of astropy.io.fits.Header
        One header per exposure: the primary header, updated with that of the image's extension,
        without the keys that describe the storage.
    identities : tuple of Identity
        The identity of each exposure, including its file name.
    """

    stack: Stack
    noise: Noise
    headers: tuple[fits.Header, ...]
    identities: tuple[Identity, ...]

    @property
    def header(self) -> fits.Header:
        """Header of the products: that of the first exposure, with the UUIDs of all exposures."""
        return with_identifiers(self.headers[0], self.identities)


def read_exposures(inputs: Inputs, folder: Path) -> Exposures:
    """Read the exposures of a params file.

    Parameters
    ----------
    inputs : Inputs
        Files, extension, gain, read noise and bias.
    folder : Path
        Folder to which relative paths refer; the current folder is tried next.

    Raises
    ------
    InputError
        If files are missing (all of them are named), or if a file is given twice or is not FITS, or
        if an image is not 2-D, has no finite value, or differs in shape from the others.
    """
    paths = find_files([("images", name) for name in inputs.images], folder)
    _check_distinct(paths)
    opened = [read_image(path, inputs.extnum) for path in paths]
    return make_exposures(
        [data for data, _ in opened],
        [header for _, header in opened],
        [str(name) for name in inputs.images],
        *(number_or_map(getattr(inputs, name), folder, name) for name in MAPS),
    )


def make_exposures(
    images: Sequence[np.ndarray],
    headers: Sequence[fits.Header],
    names: Sequence[str],
    gain: float | np.ndarray,
    rnoise: float | np.ndarray,
    bias: float | np.ndarray,
) -> Exposures:
    """Check images, subtract the bias and stack them.

    Parameters
    ----------
    images : sequence of N (rows, columns) arrays
        The images, ADU, with bias.
    headers : sequence of N astropy.io.fits.Header
        Their headers.
    names : sequence of N str
        Names of the files, for messages and for the identities.
    gain, rnoise, bias : float or (rows, columns) array
        Gain (e/ADU), read noise (ADU) and bias (ADU).

    Returns
    -------
    Exposures
        The exposures, as float32.

    Raises
    ------
    InputError
        If shapes differ or an image has no finite value.
    """
    shape = images[0].shape
    for name, image in zip(names, images, strict=True):
        if image.shape != shape:
            raise InputError(
                f"images: {name} has shape {image.shape}, but {names[0]} has {shape} "
                "(rows, columns); all exposures must have the same shape"
            )
        if not np.isfinite(image).any():
            raise InputError(f"images: {name} has no finite value")
    if np.ndim(bias) and bias.shape != shape:
        raise InputError(f"the map of bias has shape {bias.shape}, the exposures have {shape}")
    noise = Noise(gain, rnoise)
    noise.check_shape(shape)
    cube = np.empty((len(images), *shape), np.float32)
    for plane, image in zip(cube, images, strict=True):
        np.subtract(image, bias, out=plane, casting="unsafe")
    identities = tuple(map(Identity.of, names, headers, images))
    return Exposures(Stack(cube), noise, tuple(headers), identities)


def find_file(name: str, folder: Path, what: str) -> Path:
    """Find a file that a params file names: in the folder of that file, else in the current folder.

    Parameters
    ----------
    name : str
        Path of the file, relative or absolute.
    folder : Path
        The folder of the params file.
    what : str
        The input that names the file, for the error message.

    Raises
    ------
    InputError
        If there is no such file, or a folder has this name.
    """
    return find_files([(what, name)], folder)[0]


def find_files(named: Iterable[tuple[str, str]], folder: Path) -> list[Path]:
    """Find the files that a params file names; see `find_file`.

    Parameters
    ----------
    named : iterable of (str, str)
        The input that names a file, and the path of the file.
    folder : Path
        The folder of the params file.

    Raises
    ------
    InputError
        If files are missing; the message names all of them.
    """
    found: list[Path] = []
    missing: dict[str, list[str]] = {}
    for what, name in named:
        there = [path for path in (folder / name, Path(name)) if _exists(path)]
        files = [path for path in there if path.is_file()]
        if files:
            found.append(files[0])
        elif there:
            raise InputError(f"{what}: {name} is a folder, a FITS file is needed")
        else:
            missing.setdefault(what, []).append(name)
    if missing:
        faults = [_no_file(what, names) for what, names in missing.items()]
        folders = dict.fromkeys([folder.resolve(), Path.cwd()])
        raise InputError(f"{'; '.join(faults)} (looked in {' and '.join(map(str, folders))})")
    return found


def _exists(path: Path) -> bool:
    with suppress(OSError):  # the name may be one that no file can have
        return path.exists()
    return False


def _no_file(what: str, names: Sequence[str]) -> str:
    """Say that files are missing; hint at the decimal point if one was meant for a number."""
    hint = ""
    if what in MAPS and _COMMA_NUMBER.fullmatch(names[0]):
        hint = f"; if a number is meant, write {names[0].replace(',', '.')} with a decimal point"
    return f"{what}: no file {', '.join(names)}{hint}"


def read_image(path: Path, extnum: int | str | None) -> tuple[np.ndarray, fits.Header]:
    """Read one 2-D image and its header from a FITS file.

    Parameters
    ----------
    path : Path
        FITS file, compressed or not.
    extnum : int, str or None
        Number or name of the extension; None takes the first one that holds an image.

    Raises
    ------
    InputError
        If the file is not readable as FITS, has no such extension, or holds no 2-D image there.
    """
    with open_fits(path) as hdul:
        return image_of(hdul, extnum, path.name)


@contextmanager
def open_fits(path: Path) -> Iterator[fits.HDUList]:
    """Open a FITS file in memory; raise an `InputError` if it cannot be read.

    The data are not read yet: `data_of` reads those of an extension.
    """
    with ExitStack() as closing:
        with _readable(path.name):
            # astropy does not close a file on which it fails; the ExitStack does
            file = closing.enter_context(path.open("rb"))
            hdul = closing.enter_context(fits.open(file, memmap=False))
            len(hdul)  # this makes astropy read the headers of all extensions
        yield hdul


def data_of(hdu: Any, name: str) -> np.ndarray | None:
    """Read the data of an extension; raise an `InputError` with the name if they are damaged."""
    with _readable(name):
        return hdu.data


@contextmanager
def _readable(name: str) -> Iterator[None]:
    """Turn any exception into an `InputError`; only for code that does nothing but read."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", "File may have been truncated", AstropyUserWarning)
            yield
    except Exception as error:  # a damaged file makes astropy and zlib raise any exception
        text = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise InputError(f"{name} cannot be read as FITS: {text.splitlines()[0]}") from error


def image_of(
    hdul: fits.HDUList, extnum: int | str | None, name: str
) -> tuple[np.ndarray, fits.Header]:
    """Return the 2-D image and the header of one extension of an open file.

    Parameters
    ----------
    hdul : astropy.io.fits.HDUList
        The open file.
    extnum : int, str or None
        Number or name of the extension; None takes the first one that holds an image.
    name : str
        Name of the file, for error messages.

    Returns
    -------
    image : (rows, columns) array
        The image.
    header : astropy.io.fits.Header
        The primary header updated with that of the extension, without the keys that describe the
        storage.

    Raises
    ------
    InputError
        If the file has no such extension, or it holds no 2-D image.
    """
    images = {i: hdu for i, hdu in enumerate(hdul) if hdu.is_image and hdu.header.get("NAXIS")}
    listing = ", ".join(f"{i} {hdu.name}".strip() for i, hdu in images.items()) or "none"
    try:
        hdu = hdul[min(images) if extnum is None and images else extnum or 0]
    except (KeyError, IndexError):
        raise InputError(
            f"{name} has no extension {extnum}; extensions with an image: {listing}"
        ) from None
    data = data_of(hdu, name) if hdu.is_image else None
    if data is None:
        raise InputError(
            f"{name}: extension {extnum or 0} holds no image; extensions with an image: {listing}"
        )
    if data.ndim != 2:
        raise InputError(
            f"{name}: the image has {data.ndim} dimensions, 2 are needed (its shape is "
            f"{data.shape})"
        )
    header = _plain_header(hdul[0].header)
    if hdu is not hdul[0]:
        header.update(_plain_header(hdu.header))
    return data, header


def _plain_header(header: fits.Header) -> fits.Header:
    plain = header.copy(strip=True)
    for key in _STORAGE_KEYS:
        plain.remove(key, ignore_missing=True, remove_all=True)
    return plain


def _check_distinct(paths: Sequence[Path]) -> None:
    seen: dict[Path, Path] = {}
    for path in paths:
        if path.resolve() in seen:
            raise InputError(
                f"images: {path.name} is given twice: exposures must be different files"
            )
        seen[path.resolve()] = path


def number_or_map(value: float | str, folder: Path, what: str) -> float | np.ndarray:
    """Return a number as it is, or read the map from the FITS file of that name.

    Parameters
    ----------
    value : float or str
        The number, or the path of the FITS file (see `find_file`).
    folder : Path
        The folder of the params file.
    what : str
        Name of the input, for error messages.
    """
    if isinstance(value, str):
        data, _ = read_image(find_file(value, folder, what), None)
        return data.astype(np.float32)
    return value
