"""Exceptions for wrong input, and for a run that a person stopped."""


class InputError(ValueError):
    """Input of the user that is not accepted.

    The message says what is wrong, where it was given, and what is accepted. The command and numina
    show it unchanged, in one line.
    """


class Stopped(Exception):  # noqa: N818 (nothing is wrong)
    """A person stopped the run; no product is written."""
