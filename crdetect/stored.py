"""Masks that were made before: read from a ``crmasks.fits``, checked, and applied to exposures."""

from __future__ import annotations

import logging
from collections.abc import Collection
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
    """Masks read from a ``crmasks.fits``.

    Attributes
    ----------
    masks : Masks
        The masks.
    auxclean : (rows, columns) array of float32 or None
        The cleaned median, ADU.
    parameters : Parameters
        Those of the run; the defaults where the file does not tell.
    local_medians : tuple of (x, y, width in x, width in y)
        Pixels to be replaced by a local median.
    flux_factors : tuple of N float
        By which the exposures were divided before; 1 where they were not.
    uuid : str
        Identifier of the file.
    exposures : tuple of Identity
        The exposures that they were made of; empty where the file does not tell.
    verdict : Verdict or None
        How good the run was that made them; None where the file does not tell.
    """

    masks: Masks
    auxclean: np.ndarray | None
    parameters: Parameters
    local_medians: tuple[LocalMedian, ...]
    flux_factors: tuple[float, ...]
    uuid: str
    exposures: tuple[Identity, ...]
    verdict: Verdict | None

    def uses_auxmedian(self, parameters: Parameters, given: Collection[str]) -> bool:
        """Whether AUXCLEAN fills masked pixels: as the masks were made, unless it is given."""
        decisive = parameters if "use_auxmedian" in given else self.parameters
        return decisive.general.use_auxmedian


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
    """Read masks, ours or the peer's.

    Parameters
    ----------
    hdul : astropy.io.fits.HDUList
        An open ``crmasks.fits``.
    name : str
        What to call it in an error message.

    Raises
    ------
    InputError
        If an extension is missing, has another shape or values that make no sense.
    """
    extensions = {hdu.name for hdu in hdul}
    n = 0
    while f"CRMASK{n + 1}" in extensions:
        n += 1
    missing = {"MEDIANCR", "MEANCRT", "MEANCR"} - extensions
    if missing or n == 0:
        lacking = sorted(missing) or ["CRMASK1"]
        raise InputError(f"{name} is not a crmasks file: no extension {', '.join(lacking)}")
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
            f"{name} has flux factors {factors}, and no table PARAMS to tell what was divided by "
            "them; accepted: 1"
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
    """Check that masks were made of these exposures, in this order.

    Parameters
    ----------
    stored : StoredMasks
        The masks.
    exposures : Exposures
        What they are to be applied to.
    force : bool
        Other exposures will do, as long as their number and shape fit.

    Returns
    -------
    str or None
        What was forced.

    Raises
    ------
    InputError
        If they are other exposures, or in another order.
    """
    check_masks(exposures.stack, stored.masks)
    if not stored.exposures:
        _logger.info("masks %s do not tell of which exposures they are: not checked", stored.uuid)
    text = difference(stored.exposures, exposures.identities)
    if text is not None and not force:
        raise InputError(
            f"crmasks: {text}; to apply them all the same: force: true in a block, --force on the "
            "command line"
        )
    return text


def apply_masks(
    stored: StoredMasks,
    stack: Stack,
    noise: Noise,
    use_auxmedian: bool,
    resources: Resources = ALL_PROCESSORS,
) -> dict[str, Combination]:
    """Combine exposures with stored masks.

    Parameters
    ----------
    stored : StoredMasks
        The masks.
    stack, noise : Stack, Noise
        The exposures the masks were made of.
    use_auxmedian : bool
        Fill masked pixels with AUXCLEAN instead of the minimum.
    resources : Resources, optional
        What may be used; the result does not depend on it.

    Raises
    ------
    InputError
        If the masks do not fit the exposures, or have no AUXCLEAN where it is asked for.
    """
    if use_auxmedian and stored.auxclean is None:
        raise InputError("use_auxmedian: true needs an extension AUXCLEAN, the masks have none")
    check_masks(stack, stored.masks)
    if set(stored.flux_factors) != {1}:
        stack = divided(stack, stored.flux_factors)
        noise = [noise.divided(factor) for factor in stored.flux_factors]
    statistics = stack.statistics(stored.parameters.general.mm_cr_coincidences, resources)
    auxclean = stored.auxclean if use_auxmedian else None
    return combine(
        stack, statistics, stored.masks, noise, auxclean, stored.local_medians, resources
    )
