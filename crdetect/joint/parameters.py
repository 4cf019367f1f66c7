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
    ] = parameter(10.0, "clean pixels taken for hits, per exposure", "per megapixel")
    jt_strong: Positive | None = parameter(
        None, "significance of an isolated hit, instead of jt_false_alarms", "sigma"
    )
    jt_weak: NonNegative = parameter(1.5, "least charge of a pixel, also on a track", "sigma")
    jt_coincidence: NonNegative = parameter(
        1.5, "least height above the clean values of a pixel hit in several exposures", "sigma"
    )
    jt_matching: Literal["auto"] | None = parameter(
        "auto", "fit how the exposures differ in flux, sky, place and width, where they do"
    )
    jt_noise_terms: Annotated[
        Literal["auto"] | tuple[NonNegative, NonNegative, NonNegative] | None,
        Accepts("auto (fitted), or [a, b, c]: flux², shift² in x and in y (pixel²)"),
    ] = parameter(
        "auto", "variance a λ² + b (∂λ/∂x)² + c (∂λ/∂y)² beyond photons and read noise; none: 0"
    )
