"""What a format of files is, and what all of them refuse."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from itervae.errors import InputError
from itervae.memory import free_memory

REAL_KINDS = "fiub"  # NumPy's letters for floats, signed and unsigned integers, and booleans


@dataclass(frozen=True)
class Format:
    """How the arrays in a file are read.

    Attributes:
        read: the array of a name; of a file that holds one, the name is "".
        names: of the arrays in a file, sorted; None where a file holds one array without a name.
    """

    read: Callable[[Path, str], np.ndarray]
    names: Callable[[Path], list[str]] | None = None


def named(path: Path, key: str | None) -> str:
    """How messages call an array: its path, and its key where it has one."""
    return str(path) if not key else f"{path} '{key}'"


def check_memory(size: int, where: str, remedy: str) -> None:
    """Refuse an array of more bytes than are free."""
    if size > (free := free_memory()):
        raise InputError(
            f"{where} takes {size / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB are free; {remedy}, which is read "
            "by parts."
        )


def check_claim(claimed: int, left: int, what: str, where: str) -> None:
    """Refuse a file whose head claims more bytes than follow it."""
    if claimed > left:
        raise InputError(
            f"{where} claims {what}, {claimed} bytes, but at most {left} follow; it is damaged or truncated: make or "
            "copy it again."
        )


def check_real(array: np.ndarray, where: str) -> None:
    """Refuse an array of values that are no real numbers."""
    if array.dtype.kind not in REAL_KINDS:
        raise InputError(
            f"{where} holds values of type {array.dtype}, not real numbers; save them as floats or integers."
        )
