"""One conversion for every array that comes from outside: real numbers of whatever kind to
float32."""

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from itervae.errors import InputError

REAL_KINDS = "fiub"  # NumPy's letters for floats, signed and unsigned integers, and booleans


def as_float32(array: ArrayLike, where: str, first: int = 0) -> Tensor:
    """The values of an array, of any shape, as a new float32 tensor.

    Floats of any precision, integers and booleans are taken, in either byte order and with whatever
    strides.

    Args:
        array: the values.
        where: how a message calls them.
        first: number of the first row, where it is a part of a larger array.

    Raises:
        InputError: values that are no real numbers, or one not finite in float32, which is named
            with its place.
    """
    array = np.asarray(array)
    check_real(array, where)
    with np.errstate(over="ignore"):  # what overflows is reported below
        values = torch.from_numpy(array.astype(np.float32, order="C"))
    finite = torch.isfinite(values)
    if not bool(finite.all()):
        index = tuple((~finite).nonzero()[0].tolist())
        found = array[index]
        index = (index[0] + first, *index[1:]) if index else index
        raise InputError(
            f"{where} holds {found}{at(index)}, which is no finite 32-bit number; remove or replace such values."
        )
    return values


def check_real(array: np.ndarray, where: str) -> None:
    """Refuse an array of values that are no real numbers."""
    if array.dtype.kind not in REAL_KINDS:
        raise InputError(
            f"{where} holds values of type {array.dtype}, not real numbers; save them as floats or integers."
        )


def at(index: tuple[int, ...]) -> str:
    """The place of a value in words, with a blank in front: ' at row 1, column 2'."""
    if not index:
        return ""
    if len(index) == 2:
        return f" at row {index[0]}, column {index[1]}"
    return f" at position {index[0]}" if len(index) == 1 else f" at position {index}"
