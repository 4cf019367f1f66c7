"""Interactive runs: windows with keys and the mouse, and questions on the terminal.

No other part of crdetect waits for a person. The steps of `crdetect.pipeline` are called from here;
their results depend on the parameters alone. Whatever a person decides is stored in parameters,
too, so that the run can be repeated without a person: see
`crdetect.pipeline.Detection.repeating`.
"""

from crdetect.interactive.session import detect_with_person

__all__ = ["detect_with_person"]
