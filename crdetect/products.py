"""Products: masks and combined images as FITS, features as CSV; and masks read back."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
import logging
import shutil
import tempfile
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.io import fits

from crdetect.combine import COMBINATIONS, Combination, LocalMedian, check_masks, combine
from crdetect.equivalence.flux import divided
from crdetect.errors import InputError
from crdetect.exposures import Exposures, data_of, open_fits
from crdetect.identity import Identity, difference
from crdetect.masks import CLASSES, Features, Masks, as_uint8
from crdetect.mm.boundary import Boundary
from crdetect.noise import Noise
from crdetect.parameters import Parameters
from crdetect.pipeline import Detection
from crdetect.quality import Verdict
from crdetect.resources import ALL_PROCESSORS, Resources
from crdetect.stack import Stack
from crdetect.tables import (
    boundary_table,
    exposures_table,
    noise_table,
    params_table,
    read_boundary,
    read_identities,
    read_parameters,
    read_replaced,
    replaced_table,
)

_logger = logging.getLogger(__name__)

CSV_COLUMNS = ("CR_number", "X_pixel", "Y_pixel", "Mask_value")

PATTERNS = (
    "crmasks.fits",
    *(f"combined_{name}.fits" for name in COMBINATIONS),
    *(f"mediancr_identified_{name}.csv" for name in CLASSES),
    *(f"mediancr_identified_{name}.pdf" for name in CLASSES),
    "diagnostic_histogram2d.png",
    "diagnostic_noise.png",
    "diagnostic_mediancr.png",
    "diagnostic_meancr.png",
    "diagnostic_crmask[0-9]*.png",
    "image_number_at_median_position.png",
    "flux_factor[0-9]*.png",
    "xyoffset_crosscorr_[0-9]*.png",
    "problematic_pixels.csv",
    "problematic_pixels.pdf",
    "params_used.yaml",
    "report.html",
)
"""Files that a run may write; those of an earlier run do not stay beside new ones."""

COMBINED_PATTERNS = tuple(name for name in PATTERNS if name.startswith("combined_"))
"""Files that applying masks writes."""


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


# ---------------------------------------------------------------------------------------------
# crmasks.fits


def crmasks_hdul(
    detection: Detection,
    header: fits.Header,
    history: Sequence[str],
    exposures: Sequence[Identity] = (),
) -> fits.HDUList:
    """Make ``crmasks.fits``.

    Parameters
    ----------
    detection : Detection
        Masks, cleaned median and parameters.
    header : astropy.io.fits.Header
        Of the first exposure: DATE-OBS, INSTRUME, OBJECT and the UUIDs of all exposures
        (`Exposures.header`) come from it.
    history : sequence of str
        Lines on the input, put before the parameters.
    exposures : sequence of Identity
        The exposures, to be checked when the masks are used.

    Returns
    -------
    astropy.io.fits.HDUList
        Primary without data; MEDIANCR, MEANCRT, CRMASK1…N, MEANCR (uint8, 0 or 1); AUXCLEAN
        (float32); RPMEDIAN where asked for; MMBOUND where M.M.Cosmic took part; NOISE where the
        exposures were matched; EXPOSURES where they are told; PARAMS.
    """
    masks, general = detection.masks, detection.parameters.general
    hdul = fits.HDUList([_primary(header, detection.flux.factors)])
    quality = detection.quality
    hdul[0].header["QUALITY"] = (quality.verdict.name, "GOOD, PARTIAL or BAD")
    used = [f"- used: {name} = {json.dumps(value)}" for name, value in detection.used().items()]
    reasons = [f"- quality: {reason}" for reason in quality.reasons]
    for line in (*history, *detection.parameters.history(), *used, *reasons):
        hdul[0].header.add_history(printable(line))
    named = {"MEDIANCR": masks.mediancr, "MEANCRT": masks.meancrt}
    named |= {f"CRMASK{i}": mask for i, mask in enumerate(masks.crmasks, start=1)}
    named |= {"MEANCR": masks.meancr}
    for name, mask in named.items():
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


def _primary(header: fits.Header, flux_factors: Sequence[float]) -> fits.PrimaryHDU:
    hdu = fits.PrimaryHDU()
    now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds").removesuffix("+00:00")
    hdu.header["UUID"] = (str(uuid.uuid4()), "identifier of these masks")
    hdu.header["DATE"] = (now, "time of creation (UTC)")
    if "DATE-OBS" in header:
        hdu.header["DATE-OBS"] = (header["DATE-OBS"], "of the first exposure")
    else:
        hdu.header["DATE-OBS"] = (now, "creation: the exposures have none")
    for key in ("INSTRUME", "OBJECT", *header["UUID?*"]):
        if key in header:
            hdu.header[key] = header[key]
    for i, factor in enumerate(flux_factors, start=1):
        hdu.header[f"FLUXF{i}"] = (factor, f"flux factor of exposure {i}")
    return hdu


def read_boundary_file(path: Path) -> Boundary:
    """Read the boundary of a ``crmasks.fits``; see `read_boundary`.

    Raises
    ------
    InputError
        If the file is missing, not FITS, or holds no boundary.
    """
    with open_fits(path) as hdul:
        return read_boundary(hdul, path.name)


def printable(line: str) -> str:
    """Make a line fit for a FITS header: ASCII."""
    return line.replace("–", "-").encode("ascii", "backslashreplace").decode()


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
    stored: StoredMasks, stack: Stack, noise: Noise, use_auxmedian: bool
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
    statistics = stack.statistics(stored.parameters.mm.mm_cr_coincidences)
    auxclean = stored.auxclean if use_auxmedian else None
    return combine(stack, statistics, stored.masks, noise, auxclean, stored.local_medians)


# ---------------------------------------------------------------------------------------------
# Combined images and tables


def combined_hdul(
    combination: Combination, header: fits.Header, history: Sequence[str]
) -> fits.HDUList:
    """Make a ``combined_*.fits``: float32 with the first exposure's header, VARIANCE and MAP.

    Its UUID is a new one: it is no exposure.
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
    """Copy an image as FITS stores it: else astropy turns it round in place while it writes."""
    return image.astype(image.dtype.newbyteorder(">"))


def features_csv(features: Features, name: str) -> str:
    """Write the features of one class as CSV text."""
    return _csv_text(features.of_class(name))


def _csv_text(rows: np.ndarray) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    writer.writerows(rows.tolist())
    return text.getvalue()


def write_tables(features: Features, folder: Path) -> None:
    """Write the CSV tables of the four classes of features."""
    for name in CLASSES:
        (folder / f"mediancr_identified_{name}.csv").write_text(features_csv(features, name))


def write_problematic(features: Features, folder: Path) -> None:
    """Write the CSV table of the pixels masked in all exposures."""
    (folder / "problematic_pixels.csv").write_text(_csv_text(features.rows()))


def write_combined(
    combined: Mapping[str, Combination],
    header: fits.Header,
    history: Sequence[str],
    folder: Path,
    resources: Resources = ALL_PROCESSORS,
) -> None:
    """Write the combined images."""

    def write(name: str) -> None:
        hdul = combined_hdul(combined[name], header, history)
        hdul.writeto(folder / f"combined_{name}.fits")

    resources.map(write, combined)


def _check_in_the_way(output: Path, stale: Sequence[str], inputs: Iterable[Path]) -> None:
    kept = {path.resolve() for path in inputs}
    for in_the_way in (path for pattern in stale for path in output.glob(pattern)):
        what = "a folder" if in_the_way.is_dir() else "an input of this run"
        if in_the_way.is_dir() or in_the_way.resolve() in kept:
            raise InputError(f"cannot write in {output}: {in_the_way.name} there is {what}")


@contextmanager
def whole_or_nothing(
    output: Path, stale: Sequence[str] = PATTERNS, inputs: Iterable[Path] = ()
) -> Iterator[Path]:
    """Give a folder to write products in; they appear in ``output`` together, at the end.

    If anything fails, the output folder is as it was.

    Parameters
    ----------
    output : Path
        Where the products go; made where it is missing.
    stale : sequence of str
        Patterns of the files of an earlier run that go when the new ones come.
    inputs : iterable of Path
        Files that must stay.

    Raises
    ------
    InputError
        If the output folder cannot be made or written to, or an input or a folder has a product's
        name.
    """
    _check_in_the_way(output, stale, inputs)
    made = [folder for folder in (output, *output.parents) if not folder.exists()]
    try:
        output.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=".crdetect-", dir=output))
    except OSError as error:
        raise InputError(f"cannot write in {output}: {error.strerror or error}") from error
    try:
        yield folder
        for pattern in stale:
            for old in output.glob(pattern):
                old.unlink()
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            target = output / file.relative_to(folder)
            target.parent.mkdir(exist_ok=True)
            file.replace(target)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        for parent in made:
            if parent.exists() and not any(parent.iterdir()):
                parent.rmdir()
        raise
    shutil.rmtree(folder)
