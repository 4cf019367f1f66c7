"""The constants of joint detection and of the measurements, and by how much they are varied."""

# ruff: noqa: SLF001 — the constants that are varied are private

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from types import ModuleType
from typing import Any
from unittest import mock

import numpy as np

from crdetect.equivalence import flux, matching, model, nbinom, noise_model, offsets
from crdetect.joint import hits
from crdetect.parameters import Joint

FACTOR = 1.5


@dataclass(frozen=True)
class Variation:
    """One constant with another value.

    Attributes
    ----------
    constant : str
        Module and name, or the name of a parameter.
    used : str
        The value in use.
    tried : str
        The value tried.
    patches : sequence of (module, str, Any)
        Names in modules, and the values they get.
    parameters : mapping
        Parameters of joint detection.
    """

    constant: str
    used: str
    tried: str
    patches: Sequence[tuple[ModuleType, str, Any]] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Give the constant its other value, for a while."""
        with ExitStack() as stack:
            for module, name, value in self.patches:
                stack.enter_context(mock.patch.object(module, name, value))
            yield


def _short(module: ModuleType) -> str:
    return module.__name__.rsplit(".", 1)[-1]


def _number(
    module: ModuleType, name: str, *values: float, also: Callable[[float], list] | None = None
) -> Iterator[Variation]:
    """Vary a number: by a factor, or to the values given; others may have to follow it."""
    used = getattr(module, name)
    for value in values or (used / FACTOR, used * FACTOR):
        more = also(value) if also else []
        yield Variation(
            f"{_short(module)}.{name}",
            f"{used:.4g}",
            f"{value:.4g}",
            [(module, name, value), *more],
        )


def _prior() -> Iterator[Variation]:
    """Vary the three coefficients of the prior beside a track."""
    used = hits._PRIOR_BESIDE
    for index, (what, step) in enumerate(
        [("constant", 1.0), ("per neighbour", 0.3), ("per ln charge", 0.25)]
    ):
        for sign in (-1, 1):
            tried = used.copy()
            tried[index] += sign * step
            yield Variation(
                f"hits._PRIOR_BESIDE, {what}",
                f"{used[index]:.4g}",
                f"{tried[index]:.4g}",
                [(hits, "_PRIOR_BESIDE", tried)],
            )


def _diagonal() -> Iterator[Variation]:
    """Vary the weight of the charge of diagonal neighbours."""
    for weight in (0.25, 1.0):
        tried = np.where(hits._NEAR < 1, np.float32(weight), hits._NEAR)
        yield Variation("hits._NEAR, diagonal", "0.5", f"{weight}", [(hits, "_NEAR", tried)])


def _with_passes(passes: Sequence[matching.Pass], what: str, used: str, tried: str) -> Variation:
    return Variation(
        f"matching.PASSES, {what}",
        used,
        tried,
        [(model, "match", partial(matching.match, passes=tuple(passes)))],
    )


def _passes() -> Iterator[Variation]:
    """Vary windows and tolerances of the fits, and leave out one at a time."""
    used = matching.PASSES
    for index, one in enumerate(used):
        left = [*used[:index], *used[index + 1 :]]
        yield _with_passes(left, f"fit {index + 1}", f"{one.rows} × {one.columns}", "left out")
    for long in (32, 128):
        tried = [
            one._replace(**{side: long for side in ("rows", "columns") if getattr(one, side) == 64})
            for one in used
        ]
        yield _with_passes(tried, "long side, px", "64", f"{long}")
    for factor in (1, 4):
        tried = [
            one._replace(
                **{
                    side: max(getattr(one, side) * factor // 2, 1)
                    for side in ("rows", "columns")
                    if getattr(one, side) < 64
                }
            )
            for one in used
        ]
        yield _with_passes(tried, "short side", "2, 2, 4", "halved" if factor == 1 else "doubled")
    for name in ("flux", "gradient"):
        for label, factor in (("/ 1.5", 1 / FACTOR), ("× 1.5", FACTOR)):
            tried = [one._replace(**{name: getattr(one, name) * factor}) for one in used]
            all_used = ", ".join(f"{getattr(one, name):g}" for one in used)
            yield _with_passes(tried, name, all_used, label)


def _last() -> Iterator[Variation]:
    """Vary the tolerances of the last template."""
    used = matching._LAST
    for name in ("flux", "gradient"):
        for factor in (1 / FACTOR, FACTOR):
            value = getattr(used, name)
            tried = used._replace(**{name: value * factor})
            yield Variation(
                f"matching._LAST, {name}",
                f"{value:g}",
                f"{value * factor:.3g}",
                [(matching, "_LAST", tried)],
            )


def _tolerances() -> Iterator[Variation]:
    """Vary how far values may differ that are no cosmic rays, before and after matching."""
    for name in ("_BEFORE_MATCHING", "_AFTER_MATCHING"):
        used = getattr(model, name)
        for label, factor in (("/ 1.5", FACTOR**-2), ("× 1.5", FACTOR**2)):
            terms = [term * factor for term in used.terms]
            roots = ", ".join(f"{term**0.5:g}" for term in used.terms[1:])
            tried = noise_model.NoiseModel(*terms)
            yield Variation(f"model.{name}", roots, label, [(model, name, tried)])


def _winsored(limit: float) -> list[tuple[ModuleType, str, float]]:
    share, mean = noise_model._squares_below(limit)
    return [(noise_model, "_WINSORED", mean + limit * (1 - share))]


def _cut(limit: float) -> list[tuple[ModuleType, str, float]]:
    share, mean = noise_model._squares_below(limit)
    return [(noise_model, "_CUT_MEAN", mean / share)]


def _parameter(name: str, *values: float) -> Iterator[Variation]:
    used = Joint.model_fields[name].default
    for value in values:
        yield Variation(name, f"{used:g}", f"{value:g}", parameters={name: value})


def of_joint_detection() -> list[Variation]:
    """Variations of the constants that masks of joint detection depend on."""
    return [
        *_parameter("jt_false_alarms", 3.0, 30.0),
        *_parameter("jt_weak", 1.0, 2.25),
        *_parameter("jt_coincidence", 1.0, 2.25),
        *_prior(),
        *_diagonal(),
        *_number(hits, "_LOG_CHARGES", np.log(100.0), np.log(10000.0)),
        *_number(hits, "_LEAST_CHARGE"),
        *_number(hits, "_LEAST_LEVEL_E", 1e-4, 1e-2),
        *_number(hits, "_LOO_CANDIDATE"),
        *_number(hits, "_RANGE_CANDIDATE"),
        *_number(hits, "_LEAST_EVIDENCE"),
        *_number(hits, "_LEAST_CHANGE", 0.005, 0.08),
        *_number(hits, "_BOX_PX", 5, 9),
        *_number(hits, "_VARIANCE_OF_LOWEST", 0.45, 0.68),
        *_number(hits, "_LEAST_VARIANCE"),
        *_number(hits, "_MOST_FROM_AROUND", 3.0, 7.5),
        *_number(hits, "_ROUNDS", 20, 80),
        *_number(matching, "_CLIP"),
        *_number(matching, "_WINSOR"),
        *_number(matching, "_SMOOTH_MINIMUM_PX"),
        *_number(matching, "_SLOPE_PX"),
        *_number(matching, "_CURVATURE_PX"),
        *_number(matching, "_CONTINUUM_PX", 27, 61),
        *_number(matching, "_WEAK", 1e-4, 1e-2),
        *_number(matching, "_ROUNDS", 3, 10),
        *_number(matching, "_SIGNIFICANT", 2.0, 4.5),
        *_number(matching, "_BACKGROUND_PX", 21, 48),
        *_number(matching, "_THINNING", 1, 3),
        *_number(matching, "_BACKGROUND_REACH"),
        *_number(matching, "_FLUX_MAY_DIFFER"),
        *_number(matching, "_LEAST_BACKGROUND"),
        *_passes(),
        *_last(),
        *_number(model, "_SMOOTHING_PX"),
        *_number(model, "_LEAST_RNOISE_E", 0.05, 0.2),
        *_tolerances(),
        *_number(noise_model, "_MOST_PIXELS", 30_000, 120_000),
        *_number(noise_model, "_ROUNDS", 10, 40),
        *_number(noise_model, "_WINSORED_ROUNDS", 3, 12),
        *_number(noise_model, "_WINSOR", 2.25, 6.25, also=_winsored),
        *_number(noise_model, "_CUT", 6.25, 16.0, also=_cut),
        *_number(noise_model, "_SIGNIFICANT"),
        *_number(noise_model, "_RIDGE", 1e-10, 1e-8),
        *_number(noise_model, "_HIT"),
        *_number(noise_model, "_AROUND_PX", 1, 3),
        *_number(noise_model, "_LEAST_EXCESS"),
    ]


def of_measurements() -> list[Variation]:
    """Variations of the constants of measured fluxes, offsets and κ."""
    return [
        *_number(flux, "_LEAST_SIGNAL"),
        *_number(flux, "_WIDTHS", 6, 24),
        *_number(offsets, "_EDGE_PX", 8, 18),
        *_number(offsets, "_SMOOTHING_PX"),
        *_number(offsets, "_ROUNDS", 10, 40),
        *_number(offsets, "_FURTHEST_PX"),
        *_number(offsets, "_OUTLIER"),
        *_number(nbinom, "_BINS", 27, 60),
        *_number(nbinom, "_LEAST_PIXELS", 133, 300),
        *_number(nbinom, "_HIT"),
        *_number(nbinom, "_ROUNDS", 5, 12),
    ]
