"""The exceptions that mean *the user's input is wrong*, and *a person stopped the run*."""


class InputError(ValueError):
    """Input that cannot be accepted; the message says what, where and what would be.

    Every door (command line, numina, library) shows the message as it is, in one line.
    """


class Stopped(Exception):  # noqa: N818 (nothing is wrong)
    """A person stopped the run; nothing is to be written."""
