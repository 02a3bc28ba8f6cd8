"""Arrays of a user's own as training data: rows, images, or images of several channels, as they
are."""

import hashlib
import warnings
from collections.abc import Iterable
from math import prod
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor

from itervae.arrays import as_float32
from itervae.data.labels import read_labels
from itervae.data.rows import CHUNK_BYTES, Rows, check_rows, flattened, row_chunks
from itervae.data.settings import DataSettings
from itervae.data.shards import Array, read_data
from itervae.data.source import SMALL, Fitted, RowSource, held_out
from itervae.errors import InputError

CHANNELS = (1, 3, 4)
"""Numbers of channels that pictures have which lie last in their arrays, as most libraries make
them."""


def content_hash(arrays: Iterable[Array]) -> str:
    """First 16 hexadecimal digits of the sha256 of the type, shape and values of the arrays."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        for chunk in row_chunks(array):
            digest.update(np.ascontiguousarray(chunk).data)
    return digest.hexdigest()[:16]


def as_rows(array: Array, where: str, divide_by: float = 1.0, missing: bool = False) -> Tensor:
    """An (N, D) array as float32, over a number.

    Raises:
        InputError: no rows or columns, or values that are not finite in float32, but for NaN where
            it is `missing`.
    """
    _check_filled(array, where)
    return as_float32(np.asarray(array), where, missing=missing).div_(divide_by)


def large_rows(array: Array, where: str, divide_by: float = 1.0, missing: bool = False) -> Tensor:
    """The same; of a large array rows that are read when they are asked for, in place of a tensor
    (`Rows`)."""
    _check_filled(array, where)
    if 4 * array.size <= SMALL:
        return as_float32(np.asarray(array), where, missing=missing).div_(divide_by)
    check_rows(array, where, missing)
    return cast(Tensor, Rows(array, where, divide_by=divide_by, missing=missing))


def as_data(array: Array, asked: tuple[int, ...] | None, where: str) -> tuple[Array, tuple[int, ...]]:
    """Rows (N, D) of an array, and the shape of a datum.

    Args:
        array: rows (N, D), images (N, H, W), or (N, C, H, W); a single channel is none.
        asked: the shape that a datum is said to have.
        where: how messages call the array.

    Raises:
        InputError: another number of dimensions, nothing in it, or a shape that does not fit.
    """
    if array.ndim not in (2, 3, 4):
        raise InputError(
            f"{where} has shape {array.shape}, but rows (N, D) or images (N, H, W) or (N, C, H, W) are needed; reshape "
            f"it, for instance to ({len(array) if array.ndim else 1}, "
            f"{array.size // len(array) if array.ndim and len(array) else 1})."
        )
    _check_filled(array, where)
    shape = tuple(map(int, array.shape[1:]))
    if len(shape) == 3 and shape[-1] in CHANNELS and shape[0] > max(CHANNELS):
        raise InputError(
            f"{where} has shape {array.shape}, with channels last; images are (N, C, H, W): move them to the front, "
            "x.transpose(0, 3, 1, 2)."
        )
    if asked is not None and asked != shape:
        flag = f"`shape={' '.join(map(str, asked))}`"
        if len(shape) > 1:
            raise InputError(f"{flag} was given for {where}, whose data have the shape {shape}; leave it out.")
        if prod(asked) != prod(shape):
            remedy = "transpose it" if prod(asked) == len(array) else "give a shape that fits, or leave it out"
            raise InputError(f"{flag} is of {prod(asked)} values, but a row of {where} has {prod(shape)}; {remedy}.")
        shape = asked
    return flattened(array), shape[1:] if len(shape) == 3 and shape[0] == 1 else shape


def check_varies(rows: Tensor, where: str) -> None:
    """Refuse data that are all the same, of which nothing can be learned."""
    first = rows[:1]
    step = max(1, CHUNK_BYTES // (4 * first.shape[1]))
    if all(bool((rows[start : start + step] == first).all()) for start in range(0, len(rows), step)):
        raise InputError(f"{where} is constant: all {len(rows)} rows to train on are equal; give data that differ.")


def _check_filled(array: Array, where: str) -> None:
    if not array.size:
        raise InputError(f"{where} is empty, of shape {array.shape}; give at least one row and one column.")


def array_source(settings: DataSettings, seed: int, device: str | torch.device, fitted: Fitted) -> RowSource:
    """Data (N, D), (N, H, W) or (N, C, H, W) of a file, used as they are; a fixed random share of
    them, or another array, is the validation set.

    A large array is not read into memory, but for its validation set.

    Raises:
        InputError: see `read_array`, `as_data`, `as_rows` and `read_labels`; a validation set of
            another shape, or that is the training set.
    """
    assert settings.data_path is not None  # `DataSettings.check` has seen to it
    path, scale, missing = Path(settings.data_path).expanduser(), settings.divide_by, settings.missing == "nan"
    whole, where = read_data(path, settings.data_key)
    files = {"training": where, "validation": where}
    numbers: dict[str, np.ndarray] = {}  # of rows in their file
    facts: dict[str, int | float | str | bool] = {"path": str(path), "content": content_hash([whole])}
    array, shape = as_data(whole, settings.shape, where)
    check_rows(array, where, missing)
    labels = read_labels(settings.labels or path, settings.labels_key, len(array)) if settings.labelled else None
    held = None
    if settings.separate:
        val_path = path if settings.val_path is None else Path(settings.val_path).expanduser()
        val_whole, val_where = read_data(val_path, settings.val_key)
        files["validation"] = val_where
        facts["validation_content"] = content_hash([val_whole])
        if facts["validation_content"] == facts["content"]:
            raise InputError(f"{val_where} is the training set itself; name other rows.")
        val_array, val_shape = as_data(val_whole, settings.shape, val_where)
        if val_shape != shape:
            what = ("columns", val_shape[0], shape[0]) if len(val_shape) == len(shape) == 1 else ("", val_shape, shape)
            raise InputError(
                f"{val_where} has {what[1]} {what[0] or 'as the shape of a datum'}, but {where} has {what[2]}; give a "
                "validation set that has the same."
            )
        train = Rows(array, where, divide_by=scale, missing=missing)
        validation = as_rows(val_array, val_where, scale, missing)
        if settings.val_labelled:
            held = read_labels(settings.val_labels or val_path, settings.val_labels_key, len(val_array))
    else:
        train_index, val_index = held_out(len(array), settings.val_share, "rows")
        numbers = {"training": train_index, "validation": val_index}
        train = Rows(array, where, train_index, scale, missing)
        validation = Rows(array, where, val_index, scale, missing).to("cpu")
        if labels is not None:
            labels, held = labels[train_index], labels[val_index]
    check_varies(cast(Tensor, train), where)
    _say(whole, shape, scale, where)
    classes = _classes(labels, held)
    return RowSource(
        "array",
        shape,
        train,
        validation,
        seed,
        labels=classes[0],
        validation_labels=classes[1],
        facts=facts,
        places=lambda split, row: f"row {numbers[split][row] if numbers else row} of {files[split]}",
        device=device,
    )


def _classes(*parts: np.ndarray | None) -> list[Tensor | None]:
    """Labels as numbers: whole numbers as they are, words by their place in the alphabet."""
    given = [part for part in parts if part is not None]
    if any(part.dtype.kind == "U" for part in given):
        words = np.unique(np.concatenate([part.astype(str) for part in given]))
        return [None if part is None else torch.from_numpy(np.searchsorted(words, part.astype(str))) for part in parts]
    return [None if part is None else torch.from_numpy(part.astype(np.int64)) for part in parts]


def _say(array: Array, shape: tuple[int, ...], divide_by: float, where: str) -> None:
    """What images were taken for, in a line; of rows there is nothing to say."""
    if len(shape) == 1:
        return
    channels = f"{shape[0]} channels of " if len(shape) == 3 else ""
    line = f"{where} was taken for {len(array)} images of {channels}{shape[-2]}x{shape[-1]} pixels"
    if divide_by != 1:
        line += f", divided by {divide_by:g}"
    elif array.dtype == np.uint8 and divide_by == 1:
        line += ", bytes as they are; `divide_by=255` takes them to [0, 1]"
    warnings.warn(line, stacklevel=2)
