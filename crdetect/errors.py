"""The one exception that means *the user's input is wrong*."""


class InputError(ValueError):
    """Input that cannot be accepted; the message says what, where and what would be.

    Every door (command line, numina, library) shows the message as it is, in one line.
    """
