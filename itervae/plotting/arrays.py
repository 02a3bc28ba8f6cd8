"""What figures ask of the arrays they are given."""

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from itervae.errors import InputError


def matrix(value: Any, name: str, axes: str) -> np.ndarray:
    """A float64 copy of a two-dimensional array; values that are not finite become NaN.

    Args:
        value: the array.
        name: what to call it in a message.
        axes: the shape expected, as text, such as "(N, D)".
    """
    array = numbers(value, name)
    if array.ndim != 2 or not array.size:
        raise InputError(f"{name} has shape {array.shape}; expected {axes}, none of them 0: reshape it")
    return array


def numbers(value: Any, name: str) -> np.ndarray:
    """A float64 copy of any array of real numbers; values that are not finite become NaN."""
    if hasattr(value, "detach"):  # a tensor, of whatever device
        value = value.detach().cpu()
    try:
        array = np.asarray(value)
        if np.iscomplexobj(array):
            raise TypeError("complex values")
        array = array.astype(np.float64)  # always a copy
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} is no array of real numbers ({error}); pass a NumPy array of numbers") from error
    array[~np.isfinite(array)] = np.nan
    return array


def datum_shape(shape: Sequence[int], size: int, name: str) -> tuple[int, ...]:
    """`shape` as a tuple, checked: (H, W), (C, H, W) or (D,) with `size` values in all."""
    found = tuple(int(side) for side in shape)
    if len(found) not in (1, 2, 3) or min(found) < 1:
        raise InputError(
            f"shape is {found}; expected (H, W) or (C, H, W) for images or (D,) for other data: pass one of these"
        )
    if prod(found) != size:
        raise InputError(
            f"shape {found} has {prod(found)} values but a datum of {name} has {size}; pass the shape of one datum"
        )
    return found


def as_images(values: np.ndarray, shape: Sequence[int], name: str) -> tuple[np.ndarray, tuple[int, ...]]:
    """Data (N, D) and their shape, checked, as they are drawn.

    Three channels (3, H, W) are red, green and blue of one picture, (H, W, 3); other numbers of
    channels lie side by side, (H, C·W). What has none stays as it is.
    """
    found = datum_shape(shape, values.shape[1], name)
    if len(found) < 3:
        return values, found
    channels, height, width = found
    parts = values.reshape(-1, channels, height, width)
    if channels == 3:
        return parts.transpose(0, 2, 3, 1).reshape(len(values), -1), (height, width, 3)
    return parts.transpose(0, 2, 1, 3).reshape(len(values), -1), (height, channels * width)


def what_channels(shape: Sequence[int]) -> str:
    """What is said of channels that are drawn side by side; nothing of others."""
    return f"{shape[0]} channels side by side" if len(shape) == 3 and shape[0] != 3 else ""
