"""From FITS files to a stack: reading, checking, and removing the bias, once."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
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
"""What may be a number or a map, and is read from a FITS file then."""

_NOT_KEPT = ("BSCALE", "BZERO", "BLANK", "EXTNAME", "EXTVER", "EXTLEVEL", "CHECKSUM", "DATASUM")


@by_value
@dataclass(frozen=True)
class Exposures:
    """Exposures as read.

    Attributes
    ----------
    stack : Stack
        Images, ADU, bias removed.
    noise : Noise
        Gain and read noise.
    headers : tuple of astropy.io.fits.Header
        One per exposure: the primary header, and that of the image's extension over it, without
        what describes the storage.
    identities : tuple of Identity
        What tells them from others, file names included.
    """

    stack: Stack
    noise: Noise
    headers: tuple[fits.Header, ...]
    identities: tuple[Identity, ...]

    @property
    def header(self) -> fits.Header:
        """Header for products: that of the first exposure, and the UUIDs of all."""
        return with_identifiers(self.headers[0], self.identities)


def read_exposures(inputs: Inputs, folder: Path) -> Exposures:
    """Read the exposures of a params file.

    Parameters
    ----------
    inputs : Inputs
        Files, extension, gain, read noise and bias.
    folder : Path
        Where relative paths start from; the current folder is tried next.

    Raises
    ------
    InputError
        If a file is missing, given twice, not FITS, or its image is not 2-D, not finite
        anywhere, or not of the same shape as the others.
    """
    paths = [find_file(name, folder, "images") for name in inputs.images]
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
    """Check images that were read, remove the bias and stack them.

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
                "(rows, columns): they must be equal"
            )
        if not np.isfinite(image).any():
            raise InputError(f"images: {name} has no finite value")
    if np.ndim(bias) and bias.shape != shape:
        raise InputError(f"the map of bias has shape {bias.shape}, the exposures {shape}")
    noise = Noise(gain, rnoise)
    noise.check_shape(shape)
    cube = np.empty((len(images), *shape), np.float32)
    for plane, image in zip(cube, images, strict=True):
        np.subtract(image, bias, out=plane, casting="unsafe")
    identities = tuple(map(Identity.of, names, headers, images))
    return Exposures(Stack(cube), noise, tuple(headers), identities)


def find_file(name: str, folder: Path, what: str) -> Path:
    """Find a file named in a params file: in that file's folder, else in the current one."""
    for candidate in dict.fromkeys([folder / name, Path(name)]):
        with suppress(OSError):  # of a name that no file can have
            if candidate.is_file():
                return candidate
    raise InputError(f"{what}: no file {name} (looked in {folder.resolve()} and {Path.cwd()})")


def read_image(path: Path, extnum: int | str | None) -> tuple[np.ndarray, fits.Header]:
    """Read one 2-D image and its header.

    Parameters
    ----------
    path : Path
        FITS file, compressed or not.
    extnum : int, str or None
        Extension's number or name; None for the first that holds an image.

    Raises
    ------
    InputError
        If the file is not readable FITS, or has no such extension, or it is not a 2-D image.
    """
    with open_fits(path) as hdul:
        return image_of(hdul, extnum, path.name)


@contextmanager
def open_fits(path: Path) -> Iterator[fits.HDUList]:
    """Open a FITS file in memory; one that cannot be read is an `InputError`.

    Data are read later: use `data_of`.
    """
    with ExitStack() as closing:
        with _readable(path.name):
            # a file opened here is closed whatever astropy stumbles over
            file = closing.enter_context(path.open("rb"))
            hdul = closing.enter_context(fits.open(file, memmap=False))
            len(hdul)  # finds all extensions
        yield hdul


def data_of(hdu: Any, name: str) -> np.ndarray | None:
    """Read the data of an extension; if they are damaged, raise an `InputError` with the name."""
    with _readable(name):
        return hdu.data


@contextmanager
def _readable(name: str) -> Iterator[None]:
    """Turn whatever goes wrong inside into an `InputError`: reading only, nothing else."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", "File may have been truncated", AstropyUserWarning)
            yield
    except Exception as error:  # a damaged file leads astropy and zlib to any of them
        text = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise InputError(f"{name} cannot be read as FITS: {text.splitlines()[0]}") from error


def image_of(
    hdul: fits.HDUList, extnum: int | str | None, name: str
) -> tuple[np.ndarray, fits.Header]:
    """Take the 2-D image and the header of one extension of an open file."""
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
            f"{name}: the image has {data.ndim} dimensions, 2 are needed (shape {data.shape})"
        )
    header = _plain_header(hdul[0].header)
    if hdu is not hdul[0]:
        header.update(_plain_header(hdu.header))
    return data, header


def _plain_header(header: fits.Header) -> fits.Header:
    plain = header.copy(strip=True)
    for key in _NOT_KEPT:
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
    """Return a number as it is, or the map in the FITS file of that name (see `find_file`)."""
    if isinstance(value, str):
        data, _ = read_image(find_file(value, folder, what), None)
        return data.astype(np.float32)
    return value
