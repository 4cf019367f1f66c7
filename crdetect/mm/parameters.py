"""The parameters of M.M.Cosmic."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from crdetect.schema.block import Block, is_none, parameter
from crdetect.schema.kinds import (
    Accepts,
    FixedPoints,
    Growth,
    NonNegative,
    Offsets,
    Positive,
    Region,
    Rounds,
    Seed,
    WholeNumber,
    not_boolean,
)


class MM(Block):
    """M.M.Cosmic, the Median-Minimum diagram (Cardiel et al. 2026)."""

    prefix: ClassVar[str] = "mm"
    title: ClassVar[str] = "M.M.Cosmic"

    mm_photon_distribution: Literal["poisson", "nbinom"] = parameter(
        "poisson", "photon statistics of the simulations"
    )
    mm_nbinom_shape: Annotated[
        Literal["auto"] | Positive, Accepts("auto (measured from the exposures) or a number > 0")
    ] = parameter(1000.0, "shape κ of the negative binomial distribution: variance λ + λ²/κ", "e")
    mm_synthetic: Literal["median", "single", "adaptive"] = parameter(
        "median",
        "expected signal: the cleaned median, each cleaned exposure, or (adaptive) each exposure "
        "as matched by the jt_ parameters, with their noise model",
    )
    mm_simulation: Literal["montecarlo", "analytic"] = parameter(
        "montecarlo", "the diagram of clean pixels: simulated with random numbers, or computed"
    )
    mm_false_pixels: Positive | None = parameter(
        None,
        "clean pixels expected above the boundary in the whole image, instead of one pixel in "
        "each column; needs mm_simulation: analytic",
    )
    mm_hist2d_min_neighbors: Annotated[int, WholeNumber(0, 8)] = parameter(
        0, "bins with fewer non-empty neighbours are emptied"
    )
    mm_ydiag_max: NonNegative = parameter(0.0, "top of the diagram (0: automatic)", "ADU")
    mm_dilation: Growth = parameter(1, "dilation of what the diagram flags", "pixel")
    mm_xy_offsets: Offsets | None = parameter(
        None, "offsets of the exposures from the median; excludes mm_crosscorr_region", "pixel"
    )
    mm_crosscorr_region: Region | None = parameter(
        None, "region where offsets are measured; excludes mm_xy_offsets"
    )
    mm_boundary_fit: Literal["spline", "piecewise"] = parameter("spline", "boundary")
    mm_knots_splfit: Annotated[int, WholeNumber(2, 100)] = parameter(
        5, "knots of the spline, the outermost included"
    )
    mm_fixed_points_in_boundary: FixedPoints | None = parameter(
        None, "points of the boundary: joined to the spline, or the corners of the piecewise one"
    )
    mm_nsimulations: Rounds = parameter(
        10, "simulated sets of exposures; the more, the higher the boundary, computed or not"
    )
    mm_niter_boundary_extension: Annotated[int, WholeNumber(0, 100)] = parameter(
        5, "refits that raise the boundary"
    )
    mm_weight_boundary_extension: Annotated[
        float,
        BeforeValidator(not_boolean),
        Field(ge=1, le=1000),
        Accepts("a number from 1 to 1000"),
    ] = parameter(2.0, "weight of the points above the last fit, to the power of the round")
    mm_threshold: NonNegative | None = parameter(
        None, "least distance to the minimum; excludes mm_threshold_rnoise", "ADU"
    )
    mm_threshold_rnoise: NonNegative | None = parameter(
        3.0, "least distance to the minimum; excludes mm_threshold", "read noise"
    )
    mm_minimum_max2d_rnoise: NonNegative = parameter(
        5.0, "least value of the maximum", "read noise"
    )
    mm_seed: Seed | None = parameter(123456, "seed of the simulations; none: another each time")

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
