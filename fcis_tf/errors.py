"""The one exception a user is meant to read."""


class FcisError(Exception):
    """A fault of the input, the configuration or the environment, reported in one line.

    The message names the file, key or argument, what was expected, what was found and the fix.
    The command line prints it without a traceback and ends with exit status 2.
    """
