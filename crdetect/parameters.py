"""The parameters: one schema, from which everything that names a parameter is made.

Each block (general, ``la_``, ``pc_``, ``dc_``, ``nn_``, ``mm_``, ``jt_``) is a frozen pydantic
model. The validation of YAML files, the requirements of the numina recipe, the template, the table
in the documentation, the HISTORY cards and PARAMS of ``crmasks.fits`` are derived from it.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from types import NoneType
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self, get_args, get_origin

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo

from crdetect.errors import InputError

# ---------------------------------------------------------------------------------------------
# Kinds of values


class Accepts(NamedTuple):
    """What a kind of value accepts, in words: for error messages, template and docs."""

    text: str


def _number(value: Any) -> Any:
    # YAML 1.1 reads 1.0E6 as text and true as something that Python would call 1.
    if isinstance(value, bool):
        raise ValueError("a boolean is not a number")  # noqa: TRY004 (pydantic wants it)
    return value


def _flag(value: Any) -> Any:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    raise ValueError("neither true nor false")


def _digits(value: Any) -> Any:
    """Read a number in quotation marks."""
    return int(value) if isinstance(value, str) and value.strip().isdecimal() else value


def _dashes(value: Any) -> Any:
    """Read ACS_WFC, as megaradrp writes it."""
    return value.replace("_", "-") if isinstance(value, str) else value


def _nested(value: Any) -> Any:
    """One item is accepted where a list of items is expected."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, (list, tuple)) and value and not isinstance(value[0], (list, tuple, str)):
        return [value]
    return value


_REGION_TEXT = re.compile(r"\s*\[\s*(\d+)\s*:\s*(\d+)\s*,\s*(\d+)\s*:\s*(\d+)\s*\]\s*")


def _region(value: Any) -> Any:
    """Read ``[xmin, xmax, ymin, ymax]`` or ``"[xmin:xmax, ymin:ymax]"`` (FITS pixels)."""
    if isinstance(value, str):
        found = _REGION_TEXT.fullmatch(value)
        if not found:
            raise ValueError("not a region")
        value = [int(group) for group in found.groups()]
    return value


def _ordered(region: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    if region[0] > region[1] or region[2] > region[3]:
        raise ValueError("a region's limits are in the wrong order")
    return region


def _number_in_text(value: Any) -> Any:
    """Tell a number that YAML reads as text, such as 1.0E6, from the name of a file."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


Number = Annotated[float, BeforeValidator(_number), Accepts("a number")]
Positive = Annotated[float, BeforeValidator(_number), Field(gt=0), Accepts("a number > 0")]
NonNegative = Annotated[float, BeforeValidator(_number), Field(ge=0), Accepts("a number ≥ 0")]
Probability = Annotated[
    float, BeforeValidator(_number), Field(ge=0, le=1), Accepts("a number between 0 and 1")
]
Flag = Annotated[bool, BeforeValidator(_flag), Accepts("true or false")]


def _integer(minimum: int, maximum: int = 2**31 - 1) -> Any:
    text = f"≥ {minimum}" if maximum == 2**31 - 1 else f"from {minimum} to {maximum}"
    return Annotated[
        int,
        BeforeValidator(_number),
        Field(ge=minimum, le=maximum),
        Accepts(f"an integer {text}"),
    ]


Count = _integer(0)
AtLeastOne = _integer(1)
AtLeastTwo = _integer(2)
Coordinate = _integer(1)
Size = _integer(1, 301)
Growth = _integer(0, 1000)
Rounds = _integer(1, 1000)
Seed = Annotated[int, BeforeValidator(_number), Field(ge=0), Accepts("an integer ≥ 0, or none")]

PairOfPositive = Annotated[
    Positive | tuple[Positive, Positive], Accepts("a number > 0, or two: [peaks, tails]")
]
PairOfProbability = Annotated[
    Probability | tuple[Probability, Probability],
    Accepts("a number between 0 and 1, or two: [peaks, tails]"),
]
Region = Annotated[
    tuple[Coordinate, Coordinate, Coordinate, Coordinate],
    BeforeValidator(_region),
    AfterValidator(_ordered),
    Accepts("a region [xmin, xmax, ymin, ymax] in FITS pixels"),
]
Regions = Annotated[
    tuple[Region, ...],
    BeforeValidator(_nested),
    Accepts("a list of regions [xmin, xmax, ymin, ymax] in FITS pixels"),
]
Pixels = Annotated[
    tuple[tuple[Coordinate, Coordinate], ...],
    BeforeValidator(_nested),
    Accepts("a list of FITS pixels [x, y]"),
]
PixelsAndWidths = Annotated[
    tuple[tuple[Coordinate, Coordinate, Size, Size], ...],
    BeforeValidator(_nested),
    Accepts("a list of [x, y, width in x, width in y] in FITS pixels"),
]
FixedPoints = Annotated[
    tuple[tuple[Number, NonNegative] | tuple[Number, NonNegative, Positive], ...],
    BeforeValidator(_nested),
    Accepts("a list of points [x, y] or [x, y, weight] of the diagram, y ≥ 0"),
]
Offsets = Annotated[
    tuple[tuple[Number, Number], ...],
    BeforeValidator(_nested),
    Accepts("a list of [dx, dy], one per exposure"),
]
NumberOrFile = Annotated[
    NonNegative | str,
    BeforeValidator(_number_in_text),
    Accepts("a number ≥ 0 or the name of a FITS file"),
]
PositiveOrFile = Annotated[
    Positive | str,
    BeforeValidator(_number_in_text),
    Accepts("a number > 0 or the name of a FITS file"),
]
AnyOrFile = Annotated[
    Number | str,
    BeforeValidator(_number_in_text),
    Accepts("a number or the name of a FITS file"),
]


def is_none(value: Any) -> bool:
    """Tell if a value means *none*: None, an empty text, ``none`` or ``null``."""
    return value is None or (
        isinstance(value, str) and value.strip().lower() in ("", "none", "null")
    )


def is_joint(crmethod: str) -> bool:
    """Tell whether joint detection takes part in a crmethod."""
    return crmethod.startswith("joint")


def _field(default: Any, description: str, unit: str | None = None) -> Any:
    return Field(default, description=description, json_schema_extra={"unit": unit})


# ---------------------------------------------------------------------------------------------
# Blocks


class Block(BaseModel):
    """A block of parameters: frozen, and closed to unknown names."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    title: ClassVar[str] = ""

    @field_validator("*", mode="before")
    @classmethod
    def _none_in_words(cls, value: Any) -> Any:
        return None if is_none(value) else value


CrMethod = Literal[
    "lacosmic",
    "pycosmic",
    "deepcr",
    "conn",
    "mmcosmic",
    "mm_lacosmic",
    "mm_pycosmic",
    "mm_deepcr",
    "mm_conn",
    "joint",
    "joint_lacosmic",
    "joint_pycosmic",
    "joint_deepcr",
    "joint_conn",
]


class Inputs(Block):
    """What to read: the exposures and the numbers that turn ADU into electrons."""

    title: ClassVar[str] = "input"

    images: Annotated[
        tuple[Annotated[str, Field(min_length=1)], ...],
        Field(min_length=2),
        Accepts("a list of FITS files: three or more, two for joint detection"),
    ] = Field(description="equivalent exposures, in order")
    extnum: Annotated[
        Count | str | None, BeforeValidator(_digits), Accepts("an extension's number or name")
    ] = _field(None, "extension that holds the image; none: the first one with an image")
    gain: PositiveOrFile = Field(description="gain", json_schema_extra={"unit": "e/ADU"})
    rnoise: NumberOrFile = Field(description="read noise", json_schema_extra={"unit": "ADU"})
    bias: AnyOrFile = _field(0.0, "bias level, removed once, on reading", "ADU")


class General(Block):
    """Parameters that do not belong to one method."""

    title: ClassVar[str] = "general"

    crmethod: CrMethod = _field(
        "mm_pycosmic",
        "detector of one image, alone, with the Median-Minimum diagram (mm_), or with joint "
        "detection (joint_); mmcosmic and joint are those alone",
    )
    device: Literal["auto", "cpu", "cuda"] = _field(
        "auto", "processor for the networks (deepcr, conn); auto: a GPU if there is one"
    )
    use_auxmedian: Flag = _field(
        False, "replace masked pixels by the cleaned median (AUXCLEAN) instead of the minimum"
    )
    interactive: Flag = _field(
        False, "let a person refine the boundary in the diagram, and look at what is flagged"
    )
    flux_factor: Annotated[
        Literal["auto"] | Positive | tuple[Positive, ...] | None,
        Accepts("auto, a number > 0, or a list of them, one per exposure"),
    ] = _field(None, "flux of each exposure relative to the median")
    flux_factor_regions: Regions | None = _field(None, "where flux factors are measured")
    apply_flux_factor_to: Literal["original", "simulated"] = _field(
        "simulated", "what the flux factors are applied to"
    )
    dilation: Growth = _field(0, "dilation of all masks but MEANCR, after detection", "pixel")
    regions_to_be_skipped: Regions | None = _field(None, "regions where nothing is flagged")
    pixels_to_be_flagged_as_cr: Pixels | None = _field(
        None, "pixels flagged in MEDIANCR, MEANCRT and each CRMASK, whatever is detected"
    )
    pixels_to_be_ignored_as_cr: Pixels | None = _field(None, "pixels never flagged")
    pixels_to_be_ignored_in_mediancr: Pixels | None = _field(
        None, "pixels never flagged in MEDIANCR, whatever is flagged in the exposures"
    )
    pixels_to_be_replaced_by_local_median: PixelsAndWidths | None = _field(
        None,
        "pixels replaced, in the combinations with masks, by the median of the others in a box "
        "around them; an even width counts as the next odd one",
    )
    verify_cr: Flag = _field(False, "let a person keep or reject each feature of MEDIANCR")
    semiwindow: AtLeastOne = _field(15, "half width of the image around a feature", "pixel")
    color_scale: Literal["zscale", "minmax"] = _field("zscale", "grey levels of the figures")
    maxplots: Annotated[int, BeforeValidator(_number), Field(ge=-1), Accepts("an integer ≥ -1")] = (
        _field(0, "features drawn in each PDF file, the first ones (-1: all, 0: no PDF files)")
    )

    @property
    def detector(self) -> str | None:
        """Name of the detector of one image; None for mmcosmic or joint alone."""
        name = self.crmethod.removeprefix("mm_").removeprefix("joint_")
        return None if name in ("mmcosmic", "joint") else name

    @property
    def divides_by_flux(self) -> bool:
        """Whether the exposures themselves are divided by flux factors."""
        return self.flux_factor is not None and self.apply_flux_factor_to == "original"

    @property
    def asks_a_person(self) -> bool:
        """Whether a person takes part."""
        return self.interactive or self.verify_cr

    @property
    def uses_mm(self) -> bool:
        """Whether the Median-Minimum diagram takes part."""
        return self.crmethod.startswith("mm")

    @property
    def uses_joint(self) -> bool:
        """Whether joint detection takes part."""
        return is_joint(self.crmethod)

    @model_validator(mode="after")
    def _flagged_or_ignored(self) -> Self:
        for name in ("pixels_to_be_ignored_as_cr", "pixels_to_be_ignored_in_mediancr"):
            both = set(self.pixels_to_be_flagged_as_cr or ()) & set(getattr(self, name) or ())
            if both:
                raise ValueError(
                    f"pixels {sorted(map(list, both))} are in pixels_to_be_flagged_as_cr "
                    f"and in {name}: keep them in one"
                )
        return self


class LACosmic(Block):
    """L.A.Cosmic (van Dokkum 2001), as in ccdproc and astroscrappy."""

    title: ClassVar[str] = "L.A.Cosmic"

    la_gain_apply: Flag = _field(
        True, "accepted for compatibility, without effect: images stay in ADU"
    )
    la_sigclip: PairOfPositive = _field((5.0, 3.0), "Laplacian to noise limit", "sigma")
    la_sigfrac: PairOfPositive = _field((0.3, 0.3), "limit for neighbours, fraction of la_sigclip")
    la_objlim: PairOfPositive = _field((5.0, 5.0), "contrast of CR and object")
    la_satlevel: Positive = _field(65535.0, "saturation level, above the bias", "ADU")
    la_niter: Rounds = _field(4, "iterations")
    la_sepmed: Flag = _field(True, "separable median filter")
    la_cleantype: Literal["median", "medmask", "meanmask", "idw"] = _field(
        "meanmask", "how flagged pixels are replaced"
    )
    la_fsmode: Literal["median", "convolve"] = _field("convolve", "fine structure image by")
    la_psfmodel: Literal["gauss", "moffat", "gaussx", "gaussy", "gaussxy"] = _field(
        "gaussxy", "PSF (with la_fsmode: convolve)"
    )
    la_psffwhm_x: Positive = _field(2.5, "FWHM of the PSF in x", "pixel")
    la_psffwhm_y: Positive = _field(2.5, "FWHM of the PSF in y", "pixel")
    la_psfsize: Annotated[Size, Accepts("an odd integer from 1 to 301")] = _field(
        11, "size of the PSF kernel", "pixel"
    )
    la_psfbeta: Positive = _field(4.765, "beta of the Moffat PSF")
    la_verbose: Flag = _field(True, "log what the detector does")
    la_padwidth: Growth = _field(10, "padding by reflection before detection", "pixel")

    @field_validator("la_psfsize")
    @classmethod
    def _odd(cls, value: int) -> int:
        if value % 2 == 0:
            raise ValueError("even")
        return value


class PyCosmic(Block):
    """PyCosmic (Husemann et al. 2012)."""

    title: ClassVar[str] = "PyCosmic"

    pc_sigma_det: PairOfPositive = _field((5.0, 3.0), "detection limit", "sigma")
    pc_rlim: PairOfPositive = _field((1.2, 1.2), "limit of the ratio to the smoothed image")
    pc_iterations: Rounds = _field(5, "rounds of detection")
    pc_fwhm_gauss_x: Positive = _field(2.5, "FWHM of the smoothing in x", "pixel")
    pc_fwhm_gauss_y: Positive = _field(2.5, "FWHM of the smoothing in y", "pixel")
    pc_replace_box_x: Size = _field(5, "box of the replacing median in x", "pixel")
    pc_replace_box_y: Size = _field(5, "box of the replacing median in y", "pixel")
    pc_replace_error: Positive = _field(
        1.0e6, "accepted for compatibility, without effect: no error image is made"
    )
    pc_increase_radius: Growth = _field(0, "growth of the mask: a square of 2 r + 1", "pixel")
    pc_verbose: Flag = _field(True, "log what the detector does")


class DeepCR(Block):
    """The network deepCR (Zhang & Bloom 2020)."""

    title: ClassVar[str] = "deepCR"

    dc_mask: Annotated[Literal["ACS-WFC", "WFC3-UVIS"], BeforeValidator(_dashes)] = _field(
        "ACS-WFC", "network"
    )
    dc_threshold: PairOfProbability = _field(0.5, "probability limit")
    dc_verbose: Flag = _field(True, "log what the detector does")


class Conn(Block):
    """Cosmic-CoNN (Xu et al. 2023)."""

    title: ClassVar[str] = "Cosmic-CoNN"

    nn_model: Literal["ground_imaging", "NRES", "HST_ACS_WFC"] = _field("ground_imaging", "network")
    nn_threshold: PairOfProbability = _field(0.5, "probability limit")
    nn_verbose: Flag = _field(True, "log what the detector does")


class MM(Block):
    """M.M.Cosmic, the Median-Minimum diagram (Cardiel et al. 2026)."""

    title: ClassVar[str] = "M.M.Cosmic"

    mm_cr_coincidences: AtLeastTwo = _field(
        2, "hits of a pixel to be found; less than the number of exposures"
    )
    mm_photon_distribution: Literal["poisson", "nbinom"] = _field(
        "poisson", "photon statistics of the simulations"
    )
    mm_nbinom_shape: Annotated[
        Literal["auto"] | Positive, Accepts("auto (measured from the exposures) or a number > 0")
    ] = _field(1000.0, "shape κ of the negative binomial distribution: variance λ + λ²/κ", "e")
    mm_synthetic: Literal["median", "single", "adaptive"] = _field(
        "median",
        "expected signal: the cleaned median, each cleaned exposure, or (adaptive) each exposure "
        "as matched by the jt_ parameters, with their noise model",
    )
    mm_simulation: Literal["montecarlo", "analytic"] = _field(
        "montecarlo", "the diagram of clean pixels: simulated with random numbers, or computed"
    )
    mm_false_pixels: Positive | None = _field(
        None,
        "clean pixels expected above the boundary in the whole image, instead of one pixel in "
        "each column; needs mm_simulation: analytic",
    )
    mm_hist2d_min_neighbors: Annotated[
        int, BeforeValidator(_number), Field(ge=0, le=8), Accepts("an integer from 0 to 8")
    ] = _field(0, "bins with fewer non-empty neighbours are emptied")
    mm_ydiag_max: NonNegative = _field(0.0, "top of the diagram (0: automatic)", "ADU")
    mm_dilation: Growth = _field(1, "dilation of what the diagram flags", "pixel")
    mm_xy_offsets: Offsets | None = _field(
        None, "offsets of the exposures from the median; excludes mm_crosscorr_region", "pixel"
    )
    mm_crosscorr_region: Region | None = _field(
        None, "region where offsets are measured; excludes mm_xy_offsets"
    )
    mm_boundary_fit: Literal["spline", "piecewise"] = _field("spline", "boundary")
    mm_knots_splfit: _integer(2, 100) = _field(5, "knots of the spline, the outermost included")
    mm_fixed_points_in_boundary: FixedPoints | None = _field(
        None, "points of the boundary: joined to the spline, or the corners of the piecewise one"
    )
    mm_nsimulations: Rounds = _field(
        10, "simulated sets of exposures; the more, the higher the boundary, computed or not"
    )
    mm_niter_boundary_extension: _integer(0, 100) = _field(5, "refits that raise the boundary")
    mm_weight_boundary_extension: Annotated[
        float, BeforeValidator(_number), Field(ge=1, le=1000), Accepts("a number from 1 to 1000")
    ] = _field(2.0, "weight of the points above the last fit, to the power of the round")
    mm_threshold: NonNegative | None = _field(
        None, "least distance to the minimum; excludes mm_threshold_rnoise", "ADU"
    )
    mm_threshold_rnoise: NonNegative | None = _field(
        3.0, "least distance to the minimum; excludes mm_threshold", "read noise"
    )
    mm_minimum_max2d_rnoise: NonNegative = _field(5.0, "least value of the maximum", "read noise")
    mm_seed: Seed | None = _field(123456, "seed of the simulations; none: another each time")

    @model_validator(mode="before")
    @classmethod
    def _threshold_given(cls, values: Any) -> Any:
        # The default of one must not get in the way of the other.
        if isinstance(values, dict) and not is_none(values.get("mm_threshold")):
            return {"mm_threshold_rnoise": None} | values
        return values

    @property
    def uses_clean_exposures(self) -> bool:
        """Whether the exposures as the detector cleaned them are needed."""
        return self.mm_synthetic == "single" or self.mm_crosscorr_region is not None

    @property
    def has_offsets(self) -> bool:
        """Whether offsets are given or to be measured."""
        return self.mm_xy_offsets is not None or self.mm_crosscorr_region is not None

    @model_validator(mode="after")
    def _together(self) -> Self:
        if faults := _contradictions(self):
            raise ValueError("; ".join(faults))
        return self


def _contradictions(mm: MM) -> list[str]:
    """Find values that do not go together; tell what would."""
    points = mm.mm_fixed_points_in_boundary or ()
    both_thresholds = mm.mm_threshold is not None and mm.mm_threshold_rnoise is not None
    both_offsets = mm.mm_xy_offsets is not None and mm.mm_crosscorr_region is not None
    # the signals must be known without their noise, and the boundary must be free to move
    calibrated = mm.mm_simulation == "analytic" and mm.mm_boundary_fit == "spline"
    calibrated &= mm.mm_synthetic == "median" and not mm.has_offsets
    texts = {
        "mm_threshold and mm_threshold_rnoise exclude each other: set one of them to none": (
            both_thresholds
        ),
        "mm_fixed_points_in_boundary has two points of the same x": (
            len({point[0] for point in points}) < len(points)
        ),
        "mm_boundary_fit: piecewise needs mm_fixed_points_in_boundary with at least two points": (
            mm.mm_boundary_fit == "piecewise" and len(points) < 2
        ),
        "mm_xy_offsets and mm_crosscorr_region exclude each other: set one of them to none": (
            both_offsets
        ),
        "mm_xy_offsets and mm_crosscorr_region need mm_synthetic: median (with single and adaptive "
        "each image is where it is): set them to none": (
            mm.has_offsets and mm.mm_synthetic != "median"
        ),
        "mm_false_pixels needs mm_simulation: analytic, mm_synthetic: median, mm_boundary_fit: "
        "spline, and no offsets": mm.mm_false_pixels is not None and not calibrated,
    }
    return [text for text, wrong in texts.items() if wrong]


class Joint(Block):
    """Joint detection: all exposures at once, with a noise model fitted to them."""

    title: ClassVar[str] = "joint detection"

    jt_false_alarms: Annotated[
        float,
        BeforeValidator(_number),
        Field(gt=0, le=1e5),
        Accepts("a number > 0, at most 100000"),
    ] = _field(10.0, "clean pixels taken for hits, per exposure", "per megapixel")
    jt_strong: Positive | None = _field(
        None, "significance of an isolated hit, instead of jt_false_alarms", "sigma"
    )
    jt_weak: NonNegative = _field(1.5, "least charge of a pixel, also on a track", "sigma")
    jt_coincidence: NonNegative = _field(
        1.5, "least height above the clean values of a pixel hit in several exposures", "sigma"
    )
    jt_matching: Literal["auto"] | None = _field(
        "auto", "fit how the exposures differ in flux, sky, place and width, where they do"
    )
    jt_noise_terms: Annotated[
        Literal["auto"] | tuple[NonNegative, NonNegative, NonNegative] | None,
        Accepts("auto (fitted), or [a, b, c]: flux², shift² in x and in y (pixel²)"),
    ] = _field(
        "auto", "variance a λ² + b (∂λ/∂x)² + c (∂λ/∂y)² beyond photons and read noise; none: 0"
    )


BLOCKS: dict[str, type[Block]] = {
    "general": General,
    "la": LACosmic,
    "pc": PyCosmic,
    "dc": DeepCR,
    "nn": Conn,
    "mm": MM,
    "jt": Joint,
}
"""The blocks by the prefix of their parameters."""

DETECTOR_BLOCKS = {"lacosmic": "la", "pycosmic": "pc", "deepcr": "dc", "conn": "nn"}
"""The block that each detector reads."""

ALIASES = {"pixels_to_be-flagged_as_cr": "pixels_to_be_flagged_as_cr"}
"""Spellings of the peer's documentation."""


class Parameters(BaseModel):
    """All the parameters of a run, block by block.

    Use `from_mapping` for the flat names of the YAML files; the constructor takes blocks.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    general: General = General()
    la: LACosmic = LACosmic()
    pc: PyCosmic = PyCosmic()
    dc: DeepCR = DeepCR()
    nn: Conn = Conn()
    mm: MM = MM()
    jt: Joint = Joint()

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any], where: str = "parameters") -> Parameters:
        """Build the parameters from their flat names.

        Parameters
        ----------
        values : mapping
            Parameter names and values; what is missing takes its default.
        where : str
            Where the values come from, for the error message.

        Raises
        ------
        InputError
            With all the faults found: unknown names (and the nearest valid one), values that are
            not accepted, values that contradict each other.
        """
        parameters, faults = cls.parse(values)
        if parameters is None:
            raise InputError(f"{where}: " + "; ".join(faults))
        return parameters

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> tuple[Parameters | None, list[str]]:
        """Build the parameters as `from_mapping` does; return them, or None and all the faults."""
        values, faults = _resolve_aliases(values)
        flat = {name: block for block, model in BLOCKS.items() for name in model.model_fields}
        faults += [unknown_parameter(name, flat) for name in values if name not in flat]
        blocks = {}
        for block, model in BLOCKS.items():
            own = {name: value for name, value in values.items() if flat.get(name) == block}
            valid, more = validate_block(model, own)
            faults += more
            if valid is not None:
                blocks[block] = valid
        return (None, faults) if faults else (cls(**blocks), [])

    def to_mapping(self) -> dict[str, Any]:
        """Flat names and plain values (lists, numbers, text, None), in the order of the schema."""
        return {
            name: value
            for block in BLOCKS
            for name, value in getattr(self, block).model_dump(mode="json").items()
        }

    def active_blocks(self) -> Iterator[Block]:
        """Yield the blocks that take part in a run with this crmethod."""
        yield self.general
        if self.general.detector:
            yield getattr(self, DETECTOR_BLOCKS[self.general.detector])
        if self.general.uses_mm:
            yield self.mm
        if self.models_exposures:
            yield self.jt

    @property
    def models_exposures(self) -> bool:
        """Whether the exposures are matched and their noise is fitted."""
        adaptive = self.general.uses_mm and self.mm.mm_synthetic == "adaptive"
        return self.general.uses_joint or adaptive

    def history(self) -> list[str]:
        """Lines for the HISTORY cards: the parameters of the active blocks."""
        return [
            f"- {name} = {json.dumps(value)}"
            for block in self.active_blocks()
            for name, value in block.model_dump(mode="json").items()
        ]


# ---------------------------------------------------------------------------------------------
# What a parameter accepts, in words; and what is wrong


class Described(NamedTuple):
    """A parameter as people read it."""

    name: str
    default: Any
    accepted: str
    unit: str | None
    description: str


def describe_block(model: type[Block]) -> list[Described]:
    """Describe the parameters of a block, for the template, the docs and the recipe."""
    return [
        Described(
            name,
            None if field.is_required() else field.default,
            accepted_values(field),
            (field.json_schema_extra or {}).get("unit"),
            field.description or "",
        )
        for name, field in model.model_fields.items()
    ]


def accepted_values(field: FieldInfo) -> str:
    """Say in words which values a field accepts."""
    texts = [item.text for item in field.metadata if isinstance(item, Accepts)]
    text = texts[-1] if texts else _annotation_text(field.annotation)
    optional = NoneType in get_args(field.annotation) and "or none" not in text
    return f"{text}, or none" if optional else text


def _annotation_text(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return "one of " + ", ".join(map(str, arguments))
    if origin is Annotated:
        texts = [item.text for item in arguments[1:] if isinstance(item, Accepts)]
        return texts[-1] if texts else _annotation_text(arguments[0])
    parts = [_annotation_text(item) for item in arguments if item is not NoneType]
    return ", or ".join(parts) if parts else getattr(annotation, "__name__", str(annotation))


def validate_block(model: type[Block], values: Mapping[str, Any]) -> tuple[Block | None, list[str]]:
    """Validate one block; return it, or None and what is wrong with it."""
    faults = [
        unknown_parameter(name, model.model_fields)
        for name in values
        if name not in model.model_fields
    ]
    known = {name: value for name, value in values.items() if name in model.model_fields}
    try:
        block = model.model_validate(known)
    except ValidationError as error:
        return None, faults + _describe(error, model)
    return (None if faults else block), faults


def fault_of(model: type[Block], name: str, value: Any) -> str | None:
    """Tell what is wrong with the value of one parameter, whatever the others are."""
    try:
        model.model_validate({name: value})
    except ValidationError as error:
        own = [item for item in error.errors(include_url=False) if item["loc"][:1] == (name,)]
        return _describe(error, model)[0] if own else None
    return None


def _resolve_aliases(values: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    resolved: dict[str, Any] = {}
    faults = []
    for name, value in values.items():
        target = ALIASES.get(name, name)
        if target in resolved:
            faults.append(f"{target} is given twice (also as {name})")
        resolved[target] = value
    return resolved, faults


def spellings(name: str) -> set[str]:
    """Return all the spellings of a parameter's name, itself included."""
    target = ALIASES.get(name, name)
    return {target, *(alias for alias, other in ALIASES.items() if other == target)}


def unknown_parameter(name: Any, valid: Iterable[str]) -> str:
    """Say that a name is unknown, and which valid one is nearest."""
    near = difflib.get_close_matches(str(name), list(valid), n=1)
    return f"{name} is not a parameter" + (f"; did you mean {near[0]}?" if near else "")


def is_misspelt(name: Any, right: str) -> bool:
    """Tell if a name is nearly the right one, but not quite."""
    return name != right and bool(difflib.get_close_matches(str(name), [right], cutoff=0.8))


def _describe(error: ValidationError, model: type[BaseModel]) -> list[str]:
    """One text per faulty parameter, whatever pydantic has to say of each branch of a union."""
    faults: dict[str, str] = {}
    for item in error.errors(include_url=False):
        name = str(item["loc"][0]) if item["loc"] else ""
        field = model.model_fields.get(name)
        if field is None:
            faults[item["msg"]] = item["msg"].removeprefix("Value error, ")
        elif item["type"] == "missing" and len(item["loc"]) == 1:
            faults[name] = f"{name} is missing: it must be {accepted_values(field)}"
        elif name not in faults:
            given = _given(error, name)
            faults[name] = f"{name} must be {accepted_values(field)}, not {given}"
    return list(faults.values())


def _given(error: ValidationError, name: str) -> str:
    # the shortest location holds the value as the user wrote it
    inputs = [
        (len(other["loc"]), other["input"])
        for other in error.errors()
        if other["loc"][:1] == (name,)
    ]
    value = min(inputs, key=lambda pair: pair[0])[1]
    return "none" if value is None else json.dumps(value, default=str)


# ---------------------------------------------------------------------------------------------
# The template


def template(blocks: Iterable[str] | None = None) -> str:
    """Write a commented params file with the default of every parameter.

    Parameters
    ----------
    blocks : iterable of str, optional
        Blocks to write (``general``, ``la``, ``pc``, ``dc``, ``nn``, ``mm``, ``jt``); all by
        default.

    Returns
    -------
    str
        YAML text; ``crdetect run`` accepts it once the exposures are named.
    """
    lines = [
        "# Parameters of crdetect. Coordinates are FITS pixels: the first is 1, x before y.",
        "images:  # three or more equivalent exposures",
        "  - exposure_1.fits",
        "  - exposure_2.fits",
        "  - exposure_3.fits",
        "extnum: 0  # extension with the image: its number or name",
        "gain: 1.0  # e/ADU: a number or a FITS file with a map",
        "rnoise: 3.4  # ADU: a number or a FITS file with a map",
        "bias: 0.0  # ADU: a number or a FITS file with a map",
        "requirements:",
    ]
    for block in blocks or BLOCKS:
        lines += ["", f"  # ---- {BLOCKS[block].title} ----"]
        for parameter in describe_block(BLOCKS[block]):
            unit = f" [{parameter.unit}]" if parameter.unit else ""
            lines.append(f"  # {parameter.description}{unit}: {parameter.accepted}")
            lines.append(f"  {parameter.name}: {yaml_value(parameter.default)}")
    return "\n".join(lines) + "\n"


def yaml_value(value: Any) -> str:
    """Write a value in one line of YAML."""
    plain = json.loads(json.dumps(value))
    text = yaml.safe_dump(plain, default_flow_style=True, width=10**6)
    return text.removesuffix("\n...\n").strip()
