"""Tables of ``crmasks.fits``: PARAMS, EXPOSURES, MMBOUND, NOISE, RPMEDIAN."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import scipy
from astropy.io import fits

from crdetect.combine import LocalMedian
from crdetect.equivalence.model import ExposureModel
from crdetect.errors import InputError
from crdetect.exposures import data_of
from crdetect.identity import Identity
from crdetect.mm.boundary import Boundary, Curve, Points
from crdetect.mm.method import MedianMinimum
from crdetect.parameters import Parameters

_logger = logging.getLogger(__name__)

BOUNDARY_COLUMNS = (
    ("ROUND", "I", None),
    ("ROLE", "A6", None),
    ("X", "D", "adu"),
    ("Y", "D", "adu"),
    ("WEIGHT", "D", None),
)
"""Columns of MMBOUND: name, FITS format and unit."""

EXPOSURE_COLUMNS = {"NAME": "name", "UUID": "uuid", "DATE_OBS": "date_obs", "DIGEST": "digest"}
"""Columns of EXPOSURES, and the attributes of `Identity` that they hold."""

REPLACED_COLUMNS = ("X_pixel", "Y_pixel", "X_width", "Y_width")
"""Columns of RPMEDIAN: FITS pixel, and the widths of the box around it in pixels."""

# ---------------------------------------------------------------------------------------------
# PARAMS: the parameters


def params_table(parameters: Parameters, used: Mapping[str, Any]) -> fits.BinTableHDU:
    """Make the table PARAMS: given and used value of every parameter, both as JSON.

    Parameters
    ----------
    parameters : Parameters
        The parameters that were given, and the defaults of the others.
    used : mapping
        Values that the run measured or drew, by the names of their parameters.
    """
    given = parameters.to_mapping()
    texts = {
        "NAME": list(given),
        "VALUE": [json.dumps(value) for value in given.values()],
        "USED": [json.dumps(value) for value in (given | used).values()],
    }
    return _table_of_texts(texts, "PARAMS")


def _table_of_texts(texts: Mapping[str, Sequence[str]], name: str) -> fits.BinTableHDU:
    columns = [
        fits.Column(key, f"A{max(1, *map(len, column))}", array=np.array(column))
        for key, column in texts.items()
    ]
    return fits.BinTableHDU.from_columns(columns, name=name)


def read_parameters(hdul: fits.HDUList, name: str = "crmasks") -> Parameters:
    """Read the parameters of a ``crmasks.fits`` from its table PARAMS.

    A file without this table, such as those of numina-crmasks, gives the defaults.

    Raises
    ------
    InputError
        If the table is damaged.
    """
    if "PARAMS" not in hdul:
        _logger.warning("%s has no table PARAMS: mm_cr_coincidences = 2 is assumed", name)
        return Parameters()
    table = data_of(hdul["PARAMS"], name)
    try:
        values = {
            str(key): json.loads(str(text))
            for key, text in zip(table["NAME"], table["VALUE"], strict=True)
        }
    except (TypeError, ValueError, KeyError) as error:
        raise InputError(f"{name}: table PARAMS is damaged") from error
    return Parameters.from_mapping(values, where=f"{name}, table PARAMS")


# ---------------------------------------------------------------------------------------------
# EXPOSURES: which exposures the masks were made of


def exposures_table(identities: Sequence[Identity]) -> fits.BinTableHDU:
    """Make the table EXPOSURES: the identities of the exposures, in order.

    Characters that are not ASCII are escaped.
    """
    texts = {
        column: [_ascii(getattr(identity, attribute)) for identity in identities]
        for column, attribute in EXPOSURE_COLUMNS.items()
    }
    return _table_of_texts(texts, "EXPOSURES")


def _ascii(text: str) -> str:
    return text.encode("ascii", "backslashreplace").decode()


def read_identities(hdul: fits.HDUList, name: str = "crmasks") -> tuple[Identity, ...]:
    """Read the identities of the exposures that the masks were made from, from the table EXPOSURES.

    A file without this table gives no identities.

    Raises
    ------
    InputError
        If the table EXPOSURES is damaged.
    """
    if "EXPOSURES" not in hdul:
        return ()
    table = data_of(hdul["EXPOSURES"], name)
    try:
        columns = [[str(text).strip() for text in table[column]] for column in EXPOSURE_COLUMNS]
    except (TypeError, ValueError, KeyError) as error:
        raise InputError(f"{name}: table EXPOSURES is damaged") from error
    return tuple(Identity(*row) for row in zip(*columns, strict=True))


# ---------------------------------------------------------------------------------------------
# MMBOUND: the boundary of the Median-Minimum diagram


def boundary_table(diagram: MedianMinimum) -> fits.BinTableHDU:
    """Make the table MMBOUND: points, fixed points, and the splines of all rounds.

    The rows of a spline hold its knots (X) and its coefficients (Y).
    """
    boundary = diagram.criterion.boundary
    rows = [
        (0, role, *row)
        for role, points in (("point", boundary.points), ("fixed", boundary.fixed))
        for row in zip(points.x, points.y, points.weight, strict=True)
    ]
    for number, curve in enumerate(boundary.rounds, start=1):
        knots, coefficients = curve.spline.t, curve.spline.c
        padded = np.pad(coefficients, (0, len(knots) - len(coefficients)))
        rows += [(number, "spline", x, y, 1.0) for x, y in zip(knots, padded, strict=True)]
    columns = [
        fits.Column(name, kind, array=np.array(column), unit=unit)
        for (name, kind, unit), column in zip(
            BOUNDARY_COLUMNS, zip(*rows, strict=True), strict=True
        )
    ]
    hdu = fits.BinTableHDU.from_columns(columns, name="MMBOUND")
    hdu.header["BOUNDARY"] = (boundary.kind, "spline or piecewise")
    hdu.header["DEGREE"] = (boundary.curve.spline.k, "of the splines")
    hdu.header["ROUNDS"] = (len(boundary.rounds), "fits; the last is the boundary")
    if diagram.expected_above is not None:
        hdu.header["EXPECTED"] = (diagram.expected_above, "clean pixels expected above")
    return hdu


def read_boundary(hdul: fits.HDUList, name: str = "crmasks") -> Boundary:
    """Read the boundary of a ``crmasks.fits`` from its table MMBOUND.

    Raises
    ------
    InputError
        If there is no such table, or it is damaged.
    """
    if "MMBOUND" not in hdul:
        raise InputError(f"{name} has no table MMBOUND: M.M.Cosmic took no part in that run")
    table, header = data_of(hdul["MMBOUND"], name), hdul["MMBOUND"].header
    try:
        number, role = np.array(table["ROUND"]), np.char.strip(np.array(table["ROLE"], str))
        x, y, weight = (np.array(table[column], float) for column in ("X", "Y", "WEIGHT"))
        degree = int(header["DEGREE"])
        splines = [number == i for i in range(1, max(1, int(header["ROUNDS"])) + 1)]
        rounds = [
            Curve(scipy.interpolate.BSpline(x[i], y[i][: -degree - 1], degree)) for i in splines
        ]
        points, fixed = (
            Points(x[role == kind], y[role == kind], weight[role == kind])
            for kind in ("point", "fixed")
        )
        return Boundary(str(header["BOUNDARY"]), tuple(rounds), points, fixed)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{name}: table MMBOUND is damaged") from error


# ---------------------------------------------------------------------------------------------
# NOISE: how the exposures differ


def noise_table(exposure_model: ExposureModel) -> fits.BinTableHDU:
    """Make the table NOISE: terms of the noise model, measured read noise and gain, differences."""
    rows = exposure_model.table()
    names, values, errors, units = zip(*rows, strict=True)
    hdu = fits.BinTableHDU.from_columns(
        [
            fits.Column("TERM", "A20", array=np.array(names)),
            fits.Column("VALUE", "D", array=np.array(values)),
            fits.Column("ERROR", "D", array=np.array(errors)),
            fits.Column("UNIT", "A8", array=np.array(units)),
        ],
        name="NOISE",
    )
    hdu.header["EQUIV"] = (exposure_model.equivalent, "do exposures differ by noise only?")
    matched = exposure_model.matched.differences_e is not None
    hdu.header["MATCHED"] = (matched, "were differences fitted?")
    return hdu


# ---------------------------------------------------------------------------------------------
# RPMEDIAN: pixels replaced by a local median


def replaced_table(rows: Sequence[LocalMedian]) -> fits.BinTableHDU:
    """Make the table RPMEDIAN: pixels that are replaced, and widths of the boxes around them."""
    table = np.array(rows, dtype=np.int32).reshape(-1, len(REPLACED_COLUMNS))
    columns = [
        fits.Column(name, "J", array=column)
        for name, column in zip(REPLACED_COLUMNS, table.T, strict=True)
    ]
    return fits.BinTableHDU.from_columns(columns, name="RPMEDIAN")


def read_replaced(hdul: fits.HDUList, name: str = "crmasks") -> tuple[LocalMedian, ...]:
    """Read the pixels to be replaced by a local median from the table RPMEDIAN.

    Raises
    ------
    InputError
        If the table is damaged, or its values are not accepted.
    """
    table = data_of(hdul["RPMEDIAN"], name)
    key = "pixels_to_be_replaced_by_local_median"
    try:
        rows = [[int(row[column]) for column in REPLACED_COLUMNS] for row in table]
    except (TypeError, ValueError, KeyError) as error:
        raise InputError(f"{name}: RPMEDIAN is not a table of pixels and widths") from error
    read = Parameters.from_mapping({key: rows}, where=f"{name}, table RPMEDIAN")
    return getattr(read.general, key) or ()
