"""Masks of an earlier run: reading a ``crmasks.fits``, checking it, combining exposures with it."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.io import fits

from crdetect.combine import Combination, LocalMedian, check_masks, combine
from crdetect.equality import by_value
from crdetect.equivalence.flux import divided
from crdetect.errors import InputError
from crdetect.exposures import Exposures, data_of, open_fits
from crdetect.identity import Identity, difference
from crdetect.masks import Masks
from crdetect.mm.boundary import Boundary
from crdetect.noise import Noise
from crdetect.parameters import Parameters
from crdetect.resources import ALL_PROCESSORS, Resources
from crdetect.stack import Stack
from crdetect.tables import read_boundary, read_identities, read_parameters, read_replaced
from crdetect.verdict import Verdict

_logger = logging.getLogger(__name__)


@by_value
@dataclass(frozen=True)
class StoredMasks:
    """Masks that were read from a ``crmasks.fits``, and how they were made.

    Attributes
    ----------
    masks : Masks
        The masks.
    auxclean : (rows, columns) array of float32 or None
        The cleaned median, ADU.
    parameters : Parameters
        The parameters of the run that made the masks; the defaults if the file has none.
    local_medians : tuple of (x, y, width in x, width in y)
        Pixels that are replaced by a local median (FITS pixels, from 1), and the widths of its box.
    flux_factors : tuple of N float
        Factors by which the exposures were divided; 1 if they were not.
    uuid : str
        Identifier of the masks.
    exposures : tuple of Identity
        The exposures that the masks were made from; empty if the file does not list them.
    verdict : Verdict or None
        The verdict on the run that made the masks; None if the file has none.
    """

    masks: Masks
    auxclean: np.ndarray | None
    parameters: Parameters
    local_medians: tuple[LocalMedian, ...]
    flux_factors: tuple[float, ...]
    uuid: str
    exposures: tuple[Identity, ...]
    verdict: Verdict | None


def read_boundary_file(path: Path) -> Boundary:
    """Read the boundary of a ``crmasks.fits``; see `read_boundary`.

    Raises
    ------
    InputError
        If the file is missing, not FITS, or holds no boundary.
    """
    with open_fits(path) as hdul:
        return read_boundary(hdul, path.name)


def read_crmasks(hdul: fits.HDUList, name: str = "crmasks") -> StoredMasks:
    """Read masks that crdetect or numina-crmasks made.

    Parameters
    ----------
    hdul : astropy.io.fits.HDUList
        An open ``crmasks.fits``.
    name : str
        Name of the file, for error messages.

    Raises
    ------
    InputError
        If an extension is missing or damaged, if shapes differ, or if values are not accepted.
    """
    extensions = {hdu.name for hdu in hdul}
    n = 0
    while f"CRMASK{n + 1}" in extensions:
        n += 1
    missing = {"MEDIANCR", "MEANCRT", "MEANCR"} - extensions
    if missing or n == 0:
        lacking = sorted(missing) or ["CRMASK1"]
        raise InputError(f"{name} is not a crmasks file: it has no extension {', '.join(lacking)}")
    wanted = ["MEDIANCR", "MEANCRT", "MEANCR", *(f"CRMASK{i}" for i in range(1, n + 1))]
    wanted += ["AUXCLEAN"] if "AUXCLEAN" in extensions else []
    planes = {key: _plane(hdul, key, name) for key in wanted}
    shapes = {plane.shape for plane in planes.values()}
    if len(shapes) > 1:
        raise InputError(f"{name}: its images have different shapes: {sorted(shapes)}")
    auxclean = planes.pop("AUXCLEAN", None)
    mediancr, meancrt, meancr, *crmasks = (plane != 0 for plane in planes.values())
    factors = _read_flux_factors(hdul, n, name)
    parameters = read_parameters(hdul, name)
    return StoredMasks(
        Masks(mediancr, meancrt, np.stack(crmasks), meancr),
        None if auxclean is None else auxclean.astype(np.float32),
        parameters,
        read_replaced(hdul, name) if "RPMEDIAN" in extensions else (),
        factors if parameters.general.divides_by_flux else (1.0,) * n,
        str(hdul[0].header.get("UUID", "unknown")),
        read_identities(hdul, name),
        _read_verdict(hdul[0].header.get("QUALITY"), name),
    )


def _read_verdict(text: object, name: str) -> Verdict | None:
    if text is not None and text not in Verdict.__members__:
        raise InputError(f"{name}: QUALITY must be {', '.join(Verdict.__members__)}, not {text!r}")
    return None if text is None else Verdict[str(text)]


def _read_flux_factors(hdul: fits.HDUList, n: int, name: str) -> tuple[float, ...]:
    factors = tuple(hdul[0].header.get(f"FLUXF{i}", 1.0) for i in range(1, n + 1))
    if not all(type(factor) in (int, float) and factor > 0 for factor in factors):
        raise InputError(f"{name}: FLUXF1 to FLUXF{n} must be numbers > 0, not {factors}")
    if "PARAMS" not in hdul and set(factors) != {1}:
        raise InputError(
            f"{name} has flux factors {factors}, but no table PARAMS that says whether the "
            "exposures were divided by them; accepted: 1"
        )
    return factors


def _plane(hdul: fits.HDUList, key: str, name: str) -> np.ndarray:
    data = data_of(hdul[key], name) if hdul[key].is_image else None
    if data is None or data.ndim != 2:
        raise InputError(f"{name}: extension {key} holds no 2-D image")
    return data


def read_masks_file(path: Path) -> StoredMasks:
    """Read a ``crmasks.fits``; see `read_crmasks`.

    Raises
    ------
    InputError
        If the file is missing, not FITS, or holds no masks.
    """
    with open_fits(path) as hdul:
        return read_crmasks(hdul, path.name)


def check_applicable(stored: StoredMasks, exposures: Exposures, force: bool) -> str | None:
    """Check that masks were made from these exposures, in this order.

    Parameters
    ----------
    stored : StoredMasks
        The masks.
    exposures : Exposures
        The exposures that the masks are to be applied to.
    force : bool
        Accept other exposures or another order, as long as number and shape fit.

    Returns
    -------
    str or None
        How the exposures differ from those of the masks; None if they do not, or if the masks do
        not list their exposures.

    Raises
    ------
    InputError
        If number or shape do not fit; or, without force, if the exposures or their order differ.
    """
    check_masks(exposures.stack, stored.masks)
    if not stored.exposures:
        _logger.info(
            "the masks %s do not list the exposures they were made from, which are not checked",
            stored.uuid,
        )
    text = difference(stored.exposures, exposures.identities)
    if text is not None and not force:
        raise InputError(
            f"crmasks: {text}; force: true in the observing block, or --force on the command line, "
            "applies them all the same"
        )
    return text


def apply_masks(
    stored: StoredMasks,
    stack: Stack,
    noise: Noise,
    use_auxmedian: bool,
    resources: Resources = ALL_PROCESSORS,
) -> dict[str, Combination]:
    """Combine exposures with masks of an earlier run.

    Parameters
    ----------
    stored : StoredMasks
        The masks.
    stack, noise : Stack, Noise
        The exposures (ADU, bias subtracted), and their noise.
    use_auxmedian : bool
        Fill pixels masked in all exposures with AUXCLEAN instead of the minimum.
    resources : Resources, optional
        Processors that may be used; the result does not depend on them.

    Returns
    -------
    dict of Combination
        The combined images by the names of the combinations.

    Raises
    ------
    InputError
        If the masks do not fit the exposures, or use_auxmedian is true and there is no AUXCLEAN.
    """
    if use_auxmedian and stored.auxclean is None:
        raise InputError("use_auxmedian: true needs an extension AUXCLEAN, the masks have none")
    check_masks(stack, stored.masks)
    noises: Noise | list[Noise] = noise
    if set(stored.flux_factors) != {1}:
        stack = divided(stack, stored.flux_factors)
        noises = [noise.divided(factor) for factor in stored.flux_factors]
    statistics = stack.statistics(stored.parameters.general.mm_cr_coincidences, resources)
    auxclean = stored.auxclean if use_auxmedian else None
    return combine(
        stack, statistics, stored.masks, noises, auxclean, stored.local_medians, resources
    )
