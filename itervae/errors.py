"""The one exception for input that a user can mend, and how its messages call a value."""

import numbers
from typing import Any


class InputError(ValueError):
    """Something given from outside does not fit: a path, a shape, a name, a value.

    The message is one sentence that names the value given, what was expected and what to do. The
    command line prints it without a traceback and ends with exit code 2.
    """


def described(value: Any) -> str:
    """What a value is, for a message: text, numbers and None as they are, of others their class."""
    if value is None or isinstance(value, str | bool | int | float):
        return repr(value)
    if isinstance(value, numbers.Number) and hasattr(value, "item"):  # NumPy's
        return repr(value.item())  # pyright: ignore[reportAttributeAccessIssue]
    if isinstance(value, type):
        return f"the class {value.__name__}"
    name = type(value).__name__
    return f"an {name}" if name[:1].lower() in "aeiou" else f"a {name}"
