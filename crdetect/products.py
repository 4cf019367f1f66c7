"""Content of the products: masks and combined images as FITS, features as CSV."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
import uuid
from collections.abc import Sequence

import numpy as np
from astropy.io import fits

from crdetect.combine import Combination
from crdetect.identity import Identity
from crdetect.masks import Features, Masks, as_uint8
from crdetect.pipeline import Detection
from crdetect.tables import (
    boundary_table,
    exposures_table,
    noise_table,
    params_table,
    replaced_table,
)
from crdetect.verdict import Quality

CSV_COLUMNS = ("CR_number", "X_pixel", "Y_pixel", "Mask_value")
"""Columns of the tables of features: number of the feature, FITS pixel, and code of the pixel."""

# ---------------------------------------------------------------------------------------------
# crmasks.fits


def masks_by_name(masks: Masks) -> dict[str, np.ndarray]:
    """Return the masks by the names of their extensions in ``crmasks.fits``, in their order."""
    named = {"MEDIANCR": masks.mediancr, "MEANCRT": masks.meancrt}
    named |= {f"CRMASK{i}": mask for i, mask in enumerate(masks.crmasks, start=1)}
    return named | {"MEANCR": masks.meancr}


def crmasks_hdul(
    detection: Detection,
    quality: Quality,
    header: fits.Header,
    history: Sequence[str],
    exposures: Sequence[Identity] = (),
    identifier: str | None = None,
) -> fits.HDUList:
    """Make the content of ``crmasks.fits``.

    Parameters
    ----------
    detection : Detection
        Masks, cleaned median and parameters.
    quality : Quality
        Checks of the result, for QUALITY and HISTORY.
    header : astropy.io.fits.Header
        Header of the first exposure with the UUIDs of all exposures (`Exposures.header`), from
        which DATE-OBS, INSTRUME, OBJECT and the UUIDs are copied.
    history : sequence of str
        Lines on program and input, which HISTORY holds before the parameters.
    exposures : sequence of Identity
        Identities of the exposures, which are checked when the masks are used.
    identifier : str, optional
        UUID of the masks; a new one by default.

    Returns
    -------
    astropy.io.fits.HDUList
        Primary without data; MEDIANCR, MEANCRT, CRMASK1…N, MEANCR (uint8, 0 or 1); AUXCLEAN
        (float32); RPMEDIAN if pixels are to be replaced by a local median; MMBOUND if M.M.Cosmic
        took part; NOISE if the exposures were matched; EXPOSURES if their identities are given;
        PARAMS.
    """
    general = detection.parameters.general
    hdul = fits.HDUList([_primary(header, detection.flux.factors, identifier)])
    hdul[0].header["QUALITY"] = (quality.verdict.name, "GOOD, PARTIAL or BAD")
    used = [f"- used: {name} = {json.dumps(value)}" for name, value in detection.used().items()]
    reasons = [f"- quality: {reason}" for reason in quality.reasons]
    for line in (*history, *detection.parameters.history(), *used, *reasons):
        hdul[0].header.add_history(printable(line))
    for name, mask in masks_by_name(detection.masks).items():
        hdu = fits.ImageHDU(as_uint8(mask), name=name)
        hdu.header["NPMASKED"] = (int(np.count_nonzero(mask)), "number of masked pixels")
        hdul.append(hdu)
    hdul.append(fits.ImageHDU(_big_endian(detection.auxclean), name="AUXCLEAN"))
    if general.pixels_to_be_replaced_by_local_median:
        hdul.append(replaced_table(general.pixels_to_be_replaced_by_local_median))
    if detection.diagram is not None:
        hdul.append(boundary_table(detection.diagram))
    if detection.exposure_model is not None:
        hdul.append(noise_table(detection.exposure_model))
    if exposures:
        hdul.append(exposures_table(exposures))
    hdul.append(params_table(detection.parameters, detection.used()))
    return hdul


def _primary(
    header: fits.Header, flux_factors: Sequence[float], identifier: str | None
) -> fits.PrimaryHDU:
    hdu = fits.PrimaryHDU()
    now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds").removesuffix("+00:00")
    hdu.header["UUID"] = (identifier or str(uuid.uuid4()), "identifier of these masks")
    hdu.header["DATE"] = (now, "time of creation (UTC)")
    if "DATE-OBS" in header:
        hdu.header["DATE-OBS"] = (header["DATE-OBS"], "of the first exposure")
    else:
        hdu.header["DATE-OBS"] = (now, "time of creation: exposures have no DATE-OBS")
    for key in ("INSTRUME", "OBJECT", *header["UUID?*"]):
        if key in header:
            hdu.header[key] = header[key]
    for i, factor in enumerate(flux_factors, start=1):
        hdu.header[f"FLUXF{i}"] = (factor, f"flux factor of exposure {i}")
    return hdu


def printable(line: str) -> str:
    """Convert a line to ASCII, since FITS headers hold nothing else."""
    return line.replace("–", "-").encode("ascii", "backslashreplace").decode()


# ---------------------------------------------------------------------------------------------
# Combined images


def combined_hdul(
    combination: Combination, header: fits.Header, history: Sequence[str]
) -> fits.HDUList:
    """Make the content of a ``combined_*.fits``: the image, VARIANCE and MAP.

    Parameters
    ----------
    combination : Combination
        The combined image, ADU.
    header : astropy.io.fits.Header
        Header of the first exposure with the UUIDs of all exposures (`Exposures.header`). The
        image gets a new UUID of its own.
    history : sequence of str
        Lines for the HISTORY cards.
    """
    primary = fits.PrimaryHDU(_big_endian(combination.value), header=header.copy())
    primary.header["UUID"] = (str(uuid.uuid4()), "identifier of this image")
    for line in history:
        primary.header.add_history(printable(line))
    return fits.HDUList(
        [
            primary,
            fits.ImageHDU(_big_endian(combination.variance), name="VARIANCE"),
            fits.ImageHDU(_big_endian(combination.count), name="MAP"),
        ]
    )


def _big_endian(image: np.ndarray) -> np.ndarray:
    """Copy an image in the byte order of FITS; astropy would swap the bytes of the original."""
    return image.astype(image.dtype.newbyteorder(">"))


# ---------------------------------------------------------------------------------------------
# Tables


def features_csv(features: Features, name: str) -> str:
    """Return the pixels of the features of one class as CSV text."""
    return _csv_text(features.of_class(name))


def problematic_csv(features: Features) -> str:
    """Return the pixels masked in all exposures as CSV text."""
    return _csv_text(features.rows())


def _csv_text(rows: np.ndarray) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    writer.writerows(rows.tolist())
    return text.getvalue()
