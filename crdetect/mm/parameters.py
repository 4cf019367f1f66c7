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
        "poisson",
        "distribution of the photons in clean exposures: Poisson's, or the negative binomial "
        "one, which is wider; take nbinom for exposures that differ by a share of their "
        "signal",
    )
    mm_nbinom_shape: Annotated[
        Literal["auto"] | Positive, Accepts("auto (measured from the exposures) or a number > 0")
    ] = parameter(
        1000.0,
        "shape κ of the negative binomial distribution, whose variance is λ + λ²/κ for λ "
        "electrons; a lower κ raises the boundary where the signal is high",
        "e",
    )
    mm_synthetic: Literal["median", "single", "adaptive"] = parameter(
        "median",
        "signal that is expected of each clean exposure: the cleaned median of all (median), "
        "the exposure itself as the detector cleaned it (single), or the median matched to "
        "the exposure, with the fitted noise model (adaptive)",
    )
    mm_simulation: Literal["montecarlo", "analytic"] = parameter(
        "montecarlo",
        "how the diagram of clean pixels is made: simulated with random numbers (montecarlo), "
        "or computed from probabilities (analytic)",
    )
    mm_false_pixels: Positive | None = parameter(
        None,
        "number of clean pixels expected above the boundary in the whole image, which then "
        "places the boundary instead of mm_nsimulations; needs mm_simulation: analytic",
    )
    mm_hist2d_min_neighbors: Annotated[int, WholeNumber(0, 8)] = parameter(
        0,
        "minimum number of neighbours that are not empty, for a bin of the simulated diagram "
        "to count; raise it if isolated bins lift the boundary",
    )
    mm_ydiag_max: NonNegative = parameter(
        0.0, "upper end of the diagram, a difference from min2d; 0 chooses it from the data", "ADU"
    )
    mm_dilation: Growth = parameter(
        1,
        "width by which the pixels flagged by the diagram grow; raise it if faint borders of "
        "cosmic rays remain",
        "pixel",
    )
    mm_xy_offsets: Offsets | None = parameter(
        None,
        "position (dx, dy) of each exposure relative to the median image; excludes "
        "mm_crosscorr_region",
        "pixel",
    )
    mm_crosscorr_region: Region | None = parameter(
        None,
        "region in which the positions of the exposures are measured by cross-correlation; "
        "excludes mm_xy_offsets",
    )
    mm_boundary_fit: Literal["spline", "piecewise"] = parameter(
        "spline",
        "form of the boundary above the clean pixels: a spline fitted to the diagram, or "
        "straight lines through mm_fixed_points_in_boundary",
    )
    mm_knots_splfit: Annotated[int, WholeNumber(2, 100)] = parameter(
        5,
        "number of knots of the spline, both ends included; raise it if the boundary does not "
        "follow the clean pixels",
    )
    mm_fixed_points_in_boundary: FixedPoints | None = parameter(
        None,
        "points of the diagram, in ADU, that a piecewise boundary joins, or that a spline is "
        "drawn to",
    )
    mm_nsimulations: Rounds = parameter(
        10,
        "number of simulated sets of exposures; the boundary lies where one pixel of all sets "
        "together is expected in each column, so a larger number raises it (also with "
        "mm_simulation: analytic)",
    )
    mm_niter_boundary_extension: Annotated[int, WholeNumber(0, 100)] = parameter(
        5,
        "number of times that the spline is fitted again with more weight on the points above "
        "it; raise it to raise the boundary",
    )
    mm_weight_boundary_extension: Annotated[
        float,
        BeforeValidator(not_boolean),
        Field(ge=1, le=1000),
        Accepts("a number from 1 to 1000"),
    ] = parameter(
        2.0,
        "weight of the points above the last fit, raised to the power of the round; raise it "
        "to raise the boundary, 1 leaves it where it is",
    )
    mm_threshold: NonNegative | None = parameter(
        None, "minimum height of a flagged pixel above min2d; excludes mm_threshold_rnoise", "ADU"
    )
    mm_threshold_rnoise: NonNegative | None = parameter(
        3.0,
        "minimum height of a flagged pixel above min2d, in units of the read noise; excludes "
        "mm_threshold",
        "read noise",
    )
    mm_minimum_max2d_rnoise: NonNegative = parameter(
        5.0,
        "minimum of the highest value of a flagged pixel, in units of the read noise; raise "
        "it to leave out faint pixels",
        "read noise",
    )
    mm_seed: Seed | None = parameter(
        123456,
        "seed of the random numbers; the same seed repeats a run exactly, none draws other "
        "numbers each time",
    )

    @model_validator(mode="before")
    @classmethod
    def _threshold_given(cls, values: Any) -> Any:
        # The default of mm_threshold_rnoise must not contradict a given mm_threshold.
        if isinstance(values, dict) and not is_none(values.get("mm_threshold")):
            return {"mm_threshold_rnoise": None} | values
        return values

    @property
    def uses_clean_exposures(self) -> bool:
        """Whether the exposures cleaned by the detector of one image are needed."""
        return self.mm_synthetic == "single" or self.mm_crosscorr_region is not None

    @property
    def has_offsets(self) -> bool:
        """Whether offsets of the exposures are given, or are to be measured."""
        return self.mm_xy_offsets is not None or self.mm_crosscorr_region is not None

    @model_validator(mode="after")
    def _together(self) -> Self:
        if faults := _contradictions(self):
            raise ValueError("; ".join(faults))
        return self


def _contradictions(mm: MM) -> list[str]:
    """List the contradictions between parameters, each with the values that are accepted."""
    points = mm.mm_fixed_points_in_boundary or ()
    both_thresholds = mm.mm_threshold is not None and mm.mm_threshold_rnoise is not None
    both_offsets = mm.mm_xy_offsets is not None and mm.mm_crosscorr_region is not None
    # mm_false_pixels needs a signal common to the exposures, whose noise can be deconvolved, and a
    # boundary that can be scaled.
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
        "mm_xy_offsets and mm_crosscorr_region need mm_synthetic: median (single and adaptive take "
        "each exposure where it is): set them to none": (
            mm.has_offsets and mm.mm_synthetic != "median"
        ),
        "mm_false_pixels needs mm_simulation: analytic, mm_synthetic: median, mm_boundary_fit: "
        "spline, and no offsets": mm.mm_false_pixels is not None and not calibrated,
    }
    return [text for text, wrong in texts.items() if wrong]
