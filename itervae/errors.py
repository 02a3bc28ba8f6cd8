"""The one exception for input that a user can mend, and how its messages call a value."""

import numbers
import re
from typing import Any


class InputError(ValueError):
    """Something given from outside does not fit: a path, a shape, a name, a value.

    The message is one sentence that names the value given, what was expected and what to do.
    Settings stand in it as `name` or `name=value`. The command line prints it with its options in
    their place (`as_options`), without a traceback, and ends with exit code 2.
    """


def as_options(text: str) -> str:
    """A message with the options of the command line for the settings in it: `val_share=2` is
    --val-share 2, and `whiten=False` is --no-whiten."""

    def option(found: re.Match[str]) -> str:
        name, value = found[1].replace("_", "-"), found[2]
        return {None: f"--{name}", "True": f"--{name}", "False": f"--no-{name}"}.get(value, f"--{name} {value}")

    return re.sub("`([a-z_]+)(?:=([^`]*))?`", option, text)


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
