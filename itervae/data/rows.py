"""Rows of an array that is not held in memory: read by the batch, from the file where it is
mapped."""

import mmap
import os
from collections.abc import Iterator, Sequence
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from itervae.arrays import as_float32
from itervae.data.pixels import read_ahead
from itervae.data.shards import Array, Shards, parts_of
from itervae.errors import InputError

CHUNK_BYTES = 2**24  # of an array, looked at together


def row_chunks(array: Array) -> Iterator[np.ndarray]:
    """An array, some rows at a time: copies of nothing, and of a mapped file no more is resident
    than one chunk."""
    if isinstance(array, Shards):
        for part in array.parts:
            yield from row_chunks(part)
        return
    if not array.ndim:
        yield array
        return
    size, mapped = array[:1].nbytes, _mapped(array)
    step = max(1, CHUNK_BYTES // max(1, size))
    for start in range(0, len(array), step):
        count = min(step, len(array) - start)
        if mapped is None:
            yield array[start : start + count]
        else:  # a map of its own, whose pages go with it
            shape, offset = (count, *array.shape[1:]), mapped.offset + start * size
            yield np.memmap(str(mapped.filename), array.dtype, "r", offset, shape)


def check_rows(array: Array, where: str, missing: bool = False) -> None:
    """Refuse an array with values that are not finite in float32, but for NaN where it is
    `missing`."""
    first = 0
    for chunk in row_chunks(array):
        as_float32(chunk, where, first, missing)
        first += len(chunk)


class Rows:
    """Some rows of an array (N, D), as float32 where they are asked for and nowhere else.

    To its users it is a tensor of these rows: it has their number, shape, least and largest value,
    and is indexed by a tensor or a slice. Any other function of torch is given all of them, in
    memory.

    Args:
        array: (N, D) real numbers, finite in float32; mapped or not.
        where: how messages call it.
        numbers: which rows, all by default.
        divide_by: what their values are divided by.
        missing: whether they may be NaN.
    """

    device = torch.device("cpu")

    def __init__(
        self,
        array: Array,
        where: str,
        numbers: np.ndarray | None = None,
        divide_by: float = 1.0,
        missing: bool = False,
    ) -> None:
        self._array, self._where, self._divide_by, self._missing = array, where, divide_by, missing
        self._numbers = np.arange(len(array)) if numbers is None else numbers
        self._held = [_Held(part, where) for part in parts_of(array)]
        self._ends = np.cumsum([len(part) for part in parts_of(array)])

    def __len__(self) -> int:
        return len(self._numbers)

    @property
    def shape(self) -> tuple[int, int]:
        return len(self._numbers), self._array.shape[1]

    def numel(self) -> int:
        return self.shape[0] * self.shape[1]

    def __getitem__(self, index: Tensor | slice) -> Tensor:
        """Some of them: (B, D) float32.

        Raises:
            InputError: the file was written to since it was mapped.
        """
        numbers = self._numbers[index.numpy() if isinstance(index, Tensor) else index]
        if len(self._held) == 1:
            values = self._held[0].take(numbers)
        else:
            values = np.empty((len(numbers), self.shape[1]), self._array.dtype)
            of = np.searchsorted(self._ends, numbers, "right")
            for part in np.unique(of):
                start = self._ends[part] - len(self._held[part].array)
                values[of == part] = self._held[part].take(numbers[of == part] - start)
        return as_float32(values, self._where, missing=self._missing).div_(self._divide_by)

    def to(self, device: str | torch.device) -> Tensor:
        """All of them on a device, brought there part by part."""
        rows = torch.empty(self.shape, dtype=torch.float32, device=device)
        for part in self._parts():
            rows[part] = self[part].to(device)
        return rows

    def min(self) -> Tensor:
        return torch.stack([self[part].min() for part in self._parts()]).min()

    def max(self) -> Tensor:
        return torch.stack([self[part].max() for part in self._parts()]).max()

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        def whole(given: Any) -> Any:
            if isinstance(given, list | tuple):
                return type(given)(map(whole, given))
            return given.to("cpu") if isinstance(given, Rows) else given

        return function(*map(whole, args), **{name: whole(given) for name, given in (kwargs or {}).items()})

    def _parts(self) -> Iterator[slice]:
        step = max(1, CHUNK_BYTES // (4 * self.shape[1]))
        return (slice(start, start + step) for start in range(0, len(self), step))


class _Held:
    """An array (N, D) of which rows are taken, in memory or mapped from a file."""

    def __init__(self, array: np.ndarray, where: str) -> None:
        self.array, self._where, self._mapped = array, where, _mapped(array)
        # the same file, should another take its name
        self._file = None if self._mapped is None else open(str(self._mapped.filename), "rb")  # noqa: SIM115
        self._version = self._now()

    def take(self, numbers: np.ndarray) -> np.ndarray:
        """Some rows.

        Raises:
            InputError: the file was written to since it was mapped.
        """
        if self._mapped is None or self._file is None:
            return self.array[numbers]
        if self._now() != self._version:
            raise InputError(f"{self._where} changed since it was first read; start again when it is at rest.")
        row, offset = self.array[:1].nbytes, self._mapped.offset
        read_ahead(self._file, (offset + row * numbers).tolist(), [row] * len(numbers))
        # mapped for these rows alone, so that the pages of those before take no memory
        return np.memmap(self._file, self.array.dtype, "r", offset, self.array.shape)[numbers]

    def _now(self) -> tuple[int, int] | None:
        """What changes where the file is written to."""
        if self._file is None:
            return None
        stat = os.fstat(self._file.fileno())
        return stat.st_mtime_ns, stat.st_size


def flattened(array: Array) -> Array:
    """An array (N, ...) as (N, D); one that is mapped stays so."""
    if array.ndim == 2:
        return array
    if isinstance(array, Shards):
        return array.map(flattened)
    shape = (len(array), prod(array.shape[1:]))
    if (mapped := _mapped(array)) is None:
        return array.reshape(shape)
    return np.memmap(str(mapped.filename), array.dtype, "r", mapped.offset, shape)


def _mapped(array: np.ndarray) -> np.memmap | None:
    """An array that is mapped from a file, whole and row by row, as what it is; None of any
    other."""
    if isinstance(array, np.memmap) and isinstance(array.base, mmap.mmap) and array.flags.c_contiguous:
        return array
    return None
