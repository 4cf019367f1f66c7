"""The parameters of joint detection."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field

from crdetect.schema.block import Block, parameter
from crdetect.schema.kinds import Accepts, NonNegative, Positive, not_boolean


class Joint(Block):
    """Joint detection: all exposures at once, with a noise model fitted to them."""

    prefix: ClassVar[str] = "jt"
    title: ClassVar[str] = "joint detection"

    jt_false_alarms: Annotated[
        float,
        BeforeValidator(not_boolean),
        Field(gt=0, le=1e5),
        Accepts("a number > 0, at most 100000"),
    ] = parameter(
        10.0,
        "maximum number of clean pixels in each exposure that are taken for isolated hits; "
        "lower it to flag fewer pixels",
        "per megapixel",
    )
    jt_strong: Positive | None = parameter(
        None,
        "minimum significance of an isolated hit, which then counts instead of "
        "jt_false_alarms; raise it to flag fewer pixels",
        "sigma",
    )
    jt_weak: NonNegative = parameter(
        1.5,
        "minimum charge of a hit, even next to a detected track; lower it to follow tracks to "
        "their faint ends",
        "sigma",
    )
    jt_coincidence: NonNegative = parameter(
        1.5,
        "minimum excess of a pixel hit c times over its highest value without a hit, for the "
        "pixel to enter MEDIANCR; raise it to flag fewer pixels, c is mm_cr_coincidences",
        "sigma",
    )
    jt_matching: Literal["auto"] | None = parameter(
        "auto",
        "fit how the exposures differ in flux, sky, position and width, where they do; none "
        "takes them as equivalent",
    )
    jt_noise_terms: Annotated[
        Literal["auto"] | tuple[NonNegative, NonNegative, NonNegative] | None,
        Accepts("auto (fitted), or [a, b, c]: flux², shift² in x and in y (pixel²)"),
    ] = parameter(
        "auto",
        "variance a λ² + b (∂λ/∂x)² + c (∂λ/∂y)² beyond that of photons and read noise; auto "
        "fits a, b and c, none takes 0",
    )
