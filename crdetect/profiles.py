"""Gain, read noise, bias and saturation, from requirements, an instrument profile or a header.

An instrument profile is a JSON file of numina. The instrument or its component ``detector`` has the
properties ``gain`` (e/ADU), ``rdnoise`` (electrons), ``bias`` and ``saturation`` (ADU, as in the
files); each is a number or the name of a key of the header. If amplifiers differ, ``amplifiers``
lists their regions, and ``gain1``, ``rdnoise1`` and so on are the values of each amplifier.

A profile is selected automatically if the header matches all its ``recognised_by`` entries.

In the docstrings of this module an *observing block* is numina's description of the frames and of
how to reduce them. It is not a block of parameters (`crdetect.schema.block.Block`).
"""

from __future__ import annotations

import datetime as dt
import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

from crdetect.equality import by_value
from crdetect.errors import InputError
from crdetect.exposures import number_or_map
from crdetect.parameters import Inputs, Parameters
from crdetect.schema.block import Block, parameter
from crdetect.schema.kinds import AnyOrFile, NumberOrFile, PositiveOrFile

INSTRUMENT = "CRDETECT"
"""Name of the instrument in numina, which all profiles for crdetect have."""

GENERIC = "c5f9de80-1a87-419d-a8e5-9c207d680bc0"
"""UUID of the generic profile, for instruments that no other profile recognises."""

_PROPERTIES = {
    "gain": ("gain", "GAIN"),
    "rnoise": ("rdnoise", "RDNOISE"),
    "bias": ("bias", None),
    "saturation": ("saturation", None),
}
"""Property in a profile, and key of the header that is read if the profile has no such property."""


class ObservingBlockInputs(Inputs):
    """Inputs of an observing block: extension, gain, read noise and bias of its frames.

    They are the inputs of a params file, except that the images are the frames of the observing
    block, and that gain, read noise and bias may come from the instrument profile or the header.
    """

    images: tuple[str, ...] = ()
    gain: PositiveOrFile | None = parameter(
        None,
        "gain, which turns ADU into electrons; none takes it from the instrument profile or "
        "the header",
        "e/ADU",
    )
    rnoise: NumberOrFile | None = parameter(
        None,
        "read noise of one exposure, as a standard deviation; none takes it from the "
        "instrument profile or the header",
        "ADU",
    )
    bias: AnyOrFile | None = parameter(
        None,
        "bias level, which is subtracted once, when the exposures are read; none takes it "
        "from the instrument profile, or 0",
        "ADU",
    )


@by_value
@dataclass(frozen=True)
class Known:
    """Known value of a quantity of the detector, and its origin.

    Attributes
    ----------
    value : float or (rows, columns) array
        A number or a map.
    origin : str
        Where the value was found: requirement, property of a profile, or key of the header.
    """

    value: float | np.ndarray
    origin: str

    def __str__(self):
        value = "a map" if np.ndim(self.value) else f"{self.value:g}"
        return f"{value} (from {self.origin})"


def known_of(
    inputs: ObservingBlockInputs,
    profile: Any,
    header: fits.Header,
    shape: tuple[int, int],
    folder: Path,
) -> dict[str, Known]:
    """Find gain (e/ADU), rnoise (ADU), bias (ADU), and saturation (ADU) if it is known.

    A value is taken from the requirements, else from the instrument profile, else from GAIN or
    RDNOISE in the header of the first exposure. Profile and header give the read noise in
    electrons, as is usual there; it is divided by the gain. The requirement ``rnoise`` is in ADU.

    Parameters
    ----------
    inputs : ObservingBlockInputs
        Requirements.
    profile : numina.instrument.generic.InstrumentGeneric
        The instrument profile of the observing block.
    header : astropy.io.fits.Header
        Header of the first exposure, of the primary and of the image's extension.
    shape : tuple of int
        Rows and columns of the exposures.
    folder : Path
        Folder to which the names of files with maps refer.

    Returns
    -------
    dict of Known
        The values by the names ``gain``, ``rnoise``, ``bias`` and ``saturation``.

    Raises
    ------
    InputError
        If gain or read noise is not known, or if a value is not a number or out of range.
    """
    given = required(inputs, folder)
    found = {
        name: _look_up(name, profile, header, shape) for name in _PROPERTIES if name not in given
    }
    found = {name: value for name, value in found.items() if value is not None}
    known = {"bias": Known(0.0, "default")} | found | given
    missing = [
        f"{name} is not known: give it in the requirements, or as {prop} in an instrument profile, "
        f"or as {key} in the header of the first exposure"
        for name, (prop, key) in _PROPERTIES.items()
        if key is not None and name not in known
    ]
    if missing:
        raise InputError("; ".join(missing))
    if "rnoise" in found:
        with np.errstate(all="ignore"):  # a gain of 0 in a map is refused later, by Noise
            rnoise = found["rnoise"].value / known["gain"].value
        known["rnoise"] = Known(rnoise, f"{found['rnoise'].origin}, divided by gain")
    return {name: known[name] for name in _PROPERTIES if name in known}


def required(inputs: Block, folder: Path) -> dict[str, Known]:
    """Return gain, rnoise and bias as far as the requirements give them.

    Parameters
    ----------
    inputs : Block
        Requirements.
    folder : Path
        Folder to which the names of files with maps refer.
    """
    given = inputs.model_dump(include={"gain", "rnoise", "bias"})
    return {
        name: Known(number_or_map(value, folder, name), f"requirement {name}")
        for name, value in given.items()
        if value is not None
    }


def with_saturation(
    parameters: Parameters, known: Mapping[str, Known], given: Mapping[str, Any]
) -> Parameters:
    """Set ``la_satlevel`` to the saturation level of the profile, unless it was given.

    Parameters
    ----------
    parameters : Parameters
        The parameters of the run.
    known : mapping
        Values that `known_of` found.
    given : mapping
        Parameters that the user gave, by their names.

    Raises
    ------
    InputError
        If the bias is above the saturation level.
    """
    if "saturation" not in known or "la_satlevel" in given:
        return parameters
    above_bias = known["saturation"].value - float(np.max(known["bias"].value))
    values = parameters.to_mapping() | {"la_satlevel": above_bias}
    return Parameters.from_mapping(
        values, where=f"saturation ({known['saturation'].origin}) − bias"
    )


def _look_up(name: str, profile: Any, header: fits.Header, shape: tuple[int, int]) -> Known | None:
    prop, key = _PROPERTIES[name]
    value, origin = _property(profile, prop, header)
    if value is not None:
        return Known(_number(value, origin, name), origin)
    regions, _ = _property(profile, "amplifiers", header)
    if regions is not None:
        found = _of_amplifiers(name, profile, header, shape, regions)
        if found is not None:
            return found
    if key is None or key not in header:
        return None
    origin = f"key {key} of the header"
    return Known(_number(header[key], origin, name), origin)


def _of_amplifiers(
    name: str, profile: Any, header: fits.Header, shape: tuple[int, int], regions: Any
) -> Known | None:
    """Find the value of each amplifier; make a map if they differ.

    None is returned if an amplifier has no value.
    """
    prop, _ = _PROPERTIES[name]
    if not isinstance(regions, Sequence):
        raise InputError(f"amplifiers of the instrument profile must be a list, not {regions!r}")
    found = [_property(profile, f"{prop}{i}", header) for i in range(1, len(regions) + 1)]
    if any(value is None for value, _ in found):
        return None
    origin = "; ".join(dict.fromkeys(origin for _, origin in found))
    return Known(_paint(regions, [_number(*each, name) for each in found], shape, origin), origin)


def _property(profile: Any, name: str, header: fits.Header) -> tuple[Any, str]:
    """Find a property of the instrument or of its detector; return its value and its origin.

    The value is None if there is no such property.
    """
    about = getattr(getattr(profile, "origin", None), "description", None)
    by = "instrument profile" + (f" '{about}'" if about else "")
    for device in _devices(profile):
        try:
            value = getattr(device, name, None)
        except KeyError:  # the property depends on a value that numina does not know
            continue
        if value is not None:
            mapping = getattr(inspect.getattr_static(device, name), "mapping", None)
            return value, by if mapping is None else _by_key(mapping, header, by)
    return None, by


def _by_key(mapping: Any, header: fits.Header, by: str) -> str:
    if mapping.ext:
        return f"key {mapping.key} of extension {mapping.ext}, by the {by}"
    if mapping.key in header:
        return f"key {mapping.key} of the header, by the {by}"
    return f"{by}; the header has no key {mapping.key}"


def _devices(profile: Any) -> Iterator[Any]:
    yield profile
    children = getattr(profile, "children", {})
    if "detector" in children:
        yield children["detector"]


def _number(value: Any, origin: str, name: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = np.nan
    least = {"gain": np.nextafter(0, 1), "rnoise": 0.0}.get(name, -np.inf)
    if not np.isfinite(number) or number < least:
        raise InputError(f"{origin} is {value!r}, which is no {name}; give {name} as a requirement")
    return number


def _paint(
    regions: Any, numbers: list[float], shape: tuple[int, int], origin: str
) -> float | np.ndarray:
    """Make a map from the regions of the amplifiers (FITS pixels) and their values."""
    if len(set(numbers)) == 1:
        return numbers[0]
    painted = np.full(shape, np.nan, np.float32)
    try:
        for (xmin, xmax, ymin, ymax), number in zip(regions, numbers, strict=True):
            painted[ymin - 1 : ymax, xmin - 1 : xmax] = number
        whole = max(region[3] for region in regions), max(region[1] for region in regions)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{origin}: amplifiers must be a list of [xmin, xmax, ymin, ymax], not {regions}"
        ) from error
    if whole != shape or np.isnan(painted).any():
        raise InputError(
            f"{origin}: the amplifiers {regions} do not cover exposures of {shape[0]} × {shape[1]} "
            "pixels (rows × columns); give gain and rnoise as requirements"
        )
    return painted


def recognise(
    header: Mapping[str, Any], profiles: Iterable[Mapping[str, Any]], date: dt.datetime | None
) -> str:
    """Select the instrument profile of an exposure by keys of its header.

    The property ``recognised_by`` of a profile maps keys to values, all of which must match. If
    several profiles match, the one with most keys is selected, and the first of equals.

    Parameters
    ----------
    header : mapping
        Header of the exposure.
    profiles : iterable of mappings
        The contents of all JSON files, each with numina's ``origin``.
    date : datetime or None
        Date of the exposure, since profiles may be valid for a time only.

    Returns
    -------
    str
        UUID of the profile; that of the generic profile if none matches.

    Raises
    ------
    InputError
        If ``recognised_by`` of a profile does not map keys to values.
    """
    found = {GENERIC: 0}
    for profile in profiles:
        keys = _recognised_by(profile)
        valid = profile["origin"].is_valid_date(date)
        if keys and valid and all(_same(header.get(key), keys[key]) for key in keys):
            found[profile["uuid"]] = len(keys)
    return max(found, key=found.__getitem__)


def _recognised_by(profile: Mapping[str, Any]) -> Mapping[str, Any]:
    if profile["name"] != INSTRUMENT or profile["type"] != "instrument":
        return {}
    properties = {prop["id"]: prop.get("values") for prop in profile.get("properties", ())}
    keys = properties.get("recognised_by", {})
    if not isinstance(keys, Mapping):
        raise InputError(
            f"instrument profile '{profile['description']}': recognised_by must map keys of the "
            f"header to their values, such as {{INSTRUME: ISIS}}, not {keys!r}"
        )
    return keys


def _same(found: Any, wanted: Any) -> bool:
    return str(found).strip().casefold() == str(wanted).strip().casefold()
