"""Data that are handed over in Python: arrays, lists, tensors and torch Datasets, as a source."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from itervae.arrays import as_float32, as_tensor
from itervae.data.arrays import check_varies, content_hash
from itervae.data.rows import Rows
from itervae.data.settings import DataSettings
from itervae.data.source import RowSource, Source, held_out
from itervae.errors import InputError, described


class DatasetRows(Rows):
    """Some of the items of a map-style torch Dataset, read where they are asked for.

    An item is a datum of whatever shape, or a tuple whose first it is; it is taken to be the same
    whenever it is read.

    Args:
        items: the Dataset.
        numbers: which of its items, all by default.
    """

    def __init__(self, items: "Dataset[Any]", numbers: np.ndarray | None = None) -> None:
        self._items = items
        self._numbers = np.arange(len(items)) if numbers is None else numbers  # pyright: ignore[reportArgumentType]
        self._size = len(self._read(0)) if len(self._numbers) else 0

    @property
    def shape(self) -> tuple[int, int]:
        return len(self._numbers), self._size

    def __getitem__(self, index: Tensor | slice) -> Tensor:
        numbers = self._numbers[index.numpy() if isinstance(index, Tensor) else index]
        rows = [self._read(number) for number in numbers]
        return torch.stack(rows) if rows else torch.empty(0, self._size)

    def _read(self, number: int) -> Tensor:
        item = self._items[int(number)]
        item = item[0] if isinstance(item, tuple | list) else item
        where = f"item {number} of the dataset"
        row = as_float32(as_tensor(where, item, None, "of any shape").detach().cpu().numpy(), where).flatten()
        if len(row) != getattr(self, "_size", len(row)):
            raise InputError(f"{where} has {len(row)} values and the first {self._size}; expected the same of each")
        return row


def as_source(data: Any, shape: tuple[int, ...], seed: int) -> Source:
    """Data as a source for training and validation: a source as it is, rows in an order decided by
    `seed`, a fifth of them held out, the same for every seed.

    Args:
        data: a source, a map-style Dataset (see `DatasetRows`), or an array, a tensor or lists
            (N, ...).
        shape: of a datum of the model that is trained.
        seed: of the order.

    Raises:
        InputError: what is no data, holds values that are not finite, or is of another size than
            the model.
    """
    if isinstance(data, Source):
        source = data
    elif isinstance(data, Dataset):
        if isinstance(data, IterableDataset) or not hasattr(data, "__len__"):
            raise InputError(
                f"data is {described(data)}, which has no length; expected a map-style Dataset, with __len__ and "
                "__getitem__, so that batches can be drawn in any order"
            )
        train, held = held_out(len(data), DataSettings.val_share, "items")  # pyright: ignore[reportArgumentType]
        source = _rows(DatasetRows(data, train), DatasetRows(data, held).to("cpu"), shape, seed, {})
    else:
        if isinstance(data, DataLoader):
            raise InputError("data is a DataLoader; expected what it reads: give data.dataset, and batch_size here")
        rows = as_tensor("data", data, None, "(N, D), a torch Dataset, or a source of itervae.data.load_source")
        if rows.ndim < 2:
            raise InputError(f"data has shape {tuple(rows.shape)}; expected (N, D), one row a datum")
        if rows.ndim > 2 and len(shape) > 1 and _sizes(rows.shape[1:]) != _sizes(shape):
            raise InputError(
                f"data has shape {tuple(rows.shape)}, and a datum of this model is {shape}; reshape it, or use data "
                "of that shape, or another model"
            )
        array = as_float32(rows.detach().cpu().numpy(), "data").flatten(1)
        train, held = (torch.from_numpy(each) for each in held_out(len(array), DataSettings.val_share, "rows"))
        check_varies(array[train], "data")
        source = _rows(array[train], array[held], shape, seed, {"content": content_hash([array.numpy()])})
    if source.dim != math.prod(shape):
        raise InputError(
            f"data has {source.dim} values per datum; this model explains data of {math.prod(shape)}: use data of "
            "that size, or another model"
        )
    return source


def _sizes(shape: Sequence[int]) -> tuple[int, ...]:
    """A shape without axes of one."""
    return tuple(size for size in shape if size > 1)


def _rows(train: Tensor | Rows, held: Tensor, shape: tuple[int, ...], seed: int, facts: dict[str, Any]) -> Source:
    size = held.shape[1]
    return RowSource("array", shape if size == math.prod(shape) else (size,), train, held, seed, facts=facts)
