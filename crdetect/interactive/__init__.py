"""A person in the loop: keys and the mouse in windows, questions on the terminal.

This is the only place that waits for a person. It drives the steps of `crdetect.pipeline`, whose
results depend on the parameters alone; what a person does ends in parameters, too, so that a run
can be repeated without anybody: `crdetect.pipeline.Detection.repeating`.
"""

from crdetect.interactive.session import detect_with_person

__all__ = ["detect_with_person"]
