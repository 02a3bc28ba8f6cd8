"""The one exception for input that a user can mend."""


class InputError(ValueError):
    """Something given from outside does not fit: a path, a shape, a name, a value.

    The message is one sentence that names the value given, what was expected and what to do. The command line prints
    it without a traceback and ends with exit code 2.
    """
