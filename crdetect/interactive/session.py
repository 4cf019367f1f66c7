"""Detection with a person: the steps of the pipeline, and the questions between them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

from crdetect import pipeline
from crdetect.criteria import Criterion
from crdetect.interactive import terminal
from crdetect.mm.boundary import Boundary
from crdetect.mm.method import MedianMinimum
from crdetect.noise import Noise
from crdetect.parameters import Parameters
from crdetect.pipeline import Detection, Prepared, Progress
from crdetect.resources import ALL_PROCESSORS, Resources
from crdetect.stack import Stack

_logger = logging.getLogger(__name__)

Aside = Callable[[], AbstractContextManager]


def nobody(parameters: Parameters) -> str | None:
    """Reason why no person can take part, as a sentence for the log; None if one can."""
    asked = [name for name in ("interactive", "verify_cr") if getattr(parameters.general, name)]
    if not terminal.is_here():
        why = "there is no terminal"
    else:
        from crdetect.interactive.window import why_not

        why = why_not()
    if why is None:
        return None
    return f"{' and '.join(asked)}: {why}; the run goes on as without"


def detect_with_person(
    stack: Stack,
    noise: Noise,
    parameters: Parameters,
    resources: Resources = ALL_PROCESSORS,
    progress: Progress = _logger.debug,
    boundary: Boundary | None = None,
    aside: Aside = nullcontext,
) -> Detection:
    """Find the cosmic rays of equivalent exposures, with the questions that the parameters ask for.

    Without a display or a terminal nobody is asked, and a warning says so.

    Parameters
    ----------
    stack : Stack
        The exposures: ADU, bias removed.
    noise : Noise
        Gain (e/ADU) and read noise (ADU).
    parameters : Parameters
        Method and thresholds, and the windows that are opened.
    resources : Resources, optional
        What may be used; the result does not depend on it.
    progress : callable, optional
        Called with the name of each step as it begins.
    boundary : Boundary, optional
        Boundary of an earlier run, taken instead of a new one.
    aside : callable
        Makes a context in which nothing else writes to the screen.

    Returns
    -------
    Detection
        The result. Its parameters are those that the person chose in the end.

    Raises
    ------
    InputError
        If the parameters do not fit the exposures.
    Stopped
        If the person stops the run.
    """
    asked = parameters.general.asks_a_person
    if asked and (why := nobody(parameters)):
        _logger.warning(why)
        asked = False
    if not asked:
        return pipeline.detect(stack, noise, parameters, resources, progress, boundary)
    prepared = pipeline.prepare(stack, noise, parameters, resources, progress)
    criterion = prepared.compare(parameters, boundary)
    with aside():
        prepared = replace(prepared, progress=lambda step: terminal.say(f"{step} …"))
        return _review(prepared, criterion, parameters)


def _review(prepared: Prepared, criterion: Criterion | None, parameters: Parameters) -> Detection:
    """Let the person refine the boundary, look at the result, and verify features."""
    from crdetect.interactive.diagnostic import look_at
    from crdetect.interactive.histogram import Refinement, refine
    from crdetect.interactive.verify import verify

    interactive = parameters.general.interactive
    while True:
        if interactive and isinstance(criterion, MedianMinimum):
            refined = refine(Refinement.start(prepared, parameters, criterion))
            parameters, criterion = refined.repeatable(), refined.diagram
        detection = prepared.flag(criterion, parameters)
        if not interactive or look_at(detection, prepared.observation.stack) == "continue":
            break
    if parameters.general.verify_cr:
        verified = verify(detection, prepared.observation.stack)
        if verified != parameters:
            detection = prepared.flag(criterion, verified)
    return detection
