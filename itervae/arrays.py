"""Conversion of what comes from outside: arrays of files to float32, and what a caller hands over
to a tensor."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from itervae.errors import InputError, described
from itervae.formats.kinds import REAL_KINDS, check_real


def as_tensor(name: str, value: Any, like: Tensor | None = None, shape: str = "(B, D)") -> Tensor:
    """What a caller handed over, a tensor, an array or lists, as a dense floating-point tensor.

    A tensor of floats is taken as it is, with its graph. Of an array float32 and float64 are kept;
    lists, integers and everything else become the precision of `like`. An array has no device, and
    comes to that of `like`.

    Args:
        name: how a message calls it.
        value: real numbers.
        like: a tensor of the precision and the device to use; float32 on the CPU where None.
        shape: which shape a message says is expected.

    Raises:
        InputError: what is no array of real numbers, or a sparse tensor.
    """
    dtype, device = (torch.float32, None) if like is None else (like.dtype, like.device)
    if isinstance(value, Tensor):
        if value.layout != torch.strided:
            raise InputError(
                f"{name} is sparse ({value.layout}); expected a dense tensor {shape}: use {name}.to_dense()"
            )
        if value.is_complex():
            raise InputError(f"{name} holds {value.dtype}; expected real numbers {shape}: use {name}.real")
        return value if value.is_floating_point() else value.to(dtype)
    how = f"a tensor, an array or lists of numbers {shape}"
    if value is None or callable(value) or isinstance(value, str | bytes | Mapping):
        raise InputError(f"{name} is {described(value)}; expected {how}")
    if isinstance(value, list | tuple) and len(value) and all(isinstance(each, Tensor) for each in value):
        raise InputError(f"{name} is a {type(value).__name__} of {len(value)} tensors; expected {how}: use torch.stack")
    if hasattr(value, "toarray"):
        raise InputError(f"{name} is sparse ({type(value).__name__}); expected {how}: use {name}.toarray()")
    if np.ma.is_masked(value):
        raise InputError(f"{name} has masked values; expected {how}: fill them, {name}.filled(...), or leave them out")
    try:
        array = np.asarray(value)
    except (ValueError, TypeError) as error:
        raise InputError(f"{name} is {described(value)} that makes no array ({error}); expected {how}") from error
    if array.dtype.kind not in REAL_KINDS:
        of = f" of {array.dtype}" if array.dtype.kind != "O" or isinstance(value, np.ndarray) else ""
        raise InputError(f"{name} is {described(value)}{of}; expected {how}")
    if isinstance(value, np.ndarray) and array.dtype in (np.float32, np.float64):
        dtype = torch.float32 if array.dtype == np.float32 else torch.float64
    native = np.ascontiguousarray(array, array.dtype.newbyteorder("=")).reshape(array.shape)
    if not native.flags.writeable:
        native = native.copy()
    if (native.dtype.kind == "u" and native.itemsize > 1) or (native.dtype.kind == "f" and native.itemsize > 8):
        native = native.astype(np.float64)  # kinds that torch has not
    return torch.from_numpy(native).to(device, dtype)


def as_float32(array: ArrayLike, where: str, first: int = 0, missing: bool = False) -> Tensor:
    """The values of an array, of any shape, as a new float32 tensor.

    Floats of any precision, integers and booleans are taken, in either byte order and with whatever
    strides.

    Args:
        array: the values.
        where: how a message calls them.
        first: number of the first row, where it is a part of a larger array.
        missing: whether NaN stands for a value that was not seen, and is taken.

    Raises:
        InputError: values that are no real numbers, or one not finite in float32, which is named
            with its place.
    """
    array = np.asarray(array)
    check_real(array, where)
    with np.errstate(over="ignore"):  # what overflows is reported below
        values = torch.from_numpy(array.astype(np.float32, order="C"))
    finite = torch.isfinite(values)
    if missing:
        finite |= torch.from_numpy(np.isnan(array))
    if not bool(finite.all()):
        index = tuple((~finite).nonzero()[0].tolist())
        found = array[index]
        index = (index[0] + first, *index[1:]) if index else index
        raise InputError(
            f"{where} holds {found}{at(index)}, which is no finite 32-bit number; remove or replace such values."
        )
    return values


def at(index: tuple[int, ...]) -> str:
    """The place of a value in words, with a blank in front: ' at row 1, column 2'."""
    if not index:
        return ""
    if len(index) == 2:
        return f" at row {index[0]}, column {index[1]}"
    return f" at position {index[0]}" if len(index) == 1 else f" at position {index}"
