"""What a model trains on: a source of batches, and the one for a finite set of rows.

A batch is a pure function of (seed, index, size). Nothing is counted between calls, so a training
that was interrupted goes on bit for bit by asking for the next index; and processes that share a
batch ask for their rows of it.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from math import prod
from types import MappingProxyType
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from itervae.data.pixels import fits
from itervae.data.rows import Rows
from itervae.data.truth import Truth
from itervae.errors import InputError

# Purposes of randomness. Each has streams of its own, so that no two uses of one seed ever share
# numbers.
TRAINING, EPOCH, VALIDATION, SPLIT, FITTING, ATOMS, DRAWS, PATCHES = range(8)

SMALL = 2**28
"""Bytes of rows that are read into memory, once; the file of a larger array is mapped."""

# What is held out, and the validation patches, are the same for every seed of a run: runs stay
# comparable.
FIXED_SEED = 0


Fitted = Mapping[str, Any]
"""What was fitted on the training data of a run, by name, and prepares every later input of it:
the numbers `scale` of the frames of video and `white` of 16-bit pictures, the matrix `zca` of
patches."""
NOTHING_FITTED: Fitted = MappingProxyType({})


def fitted_alike(first: Fitted, second: Fitted) -> bool:
    """Whether both prepare data alike: the same numbers, and matrices equal to rounding."""
    if first.keys() != second.keys():
        return False
    matrices = {name for name, value in first.items() if isinstance(value, Tensor)}
    return all(
        first[name].shape == second[name].shape
        and bool((first[name] - second[name]).abs().max() <= 1e-4 * first[name].abs().max())
        if name in matrices
        else first[name] == second[name]
        for name in first
    )


def describe_fitted(fitted: Fitted) -> str:
    """What was fitted, in words."""
    words = [
        f"a matrix {name} of {'x'.join(map(str, value.shape))}" if isinstance(value, Tensor) else f"{name} {value:.6g}"
        for name, value in fitted.items()
    ]
    return ", ".join(words) or "nothing fitted"


def random_stream(seed: int, purpose: int, index: int = 0) -> np.random.Generator:
    """A generator of its own for each (seed, purpose, index), by NumPy's SeedSequence, which mixes
    them to 128 bits."""
    if seed < 0:
        raise InputError(f"seed {seed} is negative; give a whole number of at least 0.")
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(purpose, index)))


class Source(ABC):
    """Data for training and validation.

    Attributes:
        name: the kind of data, as in `DataSettings.data`.
        shape: shape of one datum, (16, 16) for a patch or (D,) for a row of a plain array.
        binary: True where the values are intensities in [0, 1] that a Bernoulli likelihood fits.
        train: (N, D) float32 training rows, None where patches are cut afresh for every batch. Of a
            large array it is `Rows`, which are used as a tensor and read when they are asked for.
        validation: (N, D) float32, always the same rows, whatever the seed of the run.
        device: where batches and `validation` are; the training data too, where they take a small
            share of it.
        ahead: whether it pays to cut batches ahead of time, as they are read from a file or copied
            to the device.
        labels, validation_labels: (N,) int64 class of each row of train and of validation, None
            where there are none.
        dropped: zero-variance patches that were drawn and replaced so far; a diagnostic that no
            batch depends on.
        settings: the `DataSettings` that it was made of; None of data that were handed over.
        fitted: what was fitted on the training data, or given from a run: saved with a run, for its
            later inputs.
    """

    name: str
    shape: tuple[int, ...]
    binary: bool = False
    train: Tensor | None = None
    validation: Tensor
    device: torch.device
    labels: Tensor | None = None
    validation_labels: Tensor | None = None
    dropped: int = 0
    settings: Any = None
    fitted: Fitted = NOTHING_FITTED

    @property
    def dim(self) -> int:
        """D, the number of values of one datum."""
        return prod(self.shape)

    @property
    @abstractmethod
    def ahead(self) -> bool: ...

    @property
    @abstractmethod
    def held_share(self) -> float:
        """Share of all data that is held out for validation."""

    @abstractmethod
    def batch(self, index: int, size: int, rows: slice = slice(None)) -> Tensor:
        """Training batch number `index`, from 0: (size, D) float32, a pure function of (seed,
        index, size).

        With `rows`, those of this batch alone, the others not being read.

        Raises:
            InputError: a negative index or a size below 1.
        """

    @abstractmethod
    def describe(self) -> dict[str, int | float | str | bool]:
        """Counts, shapes and the hash of the content, as plain values for the summary of a run."""

    def place(self, split: str, row: int) -> str:
        """How messages call a row of the training or validation data."""
        return f"row {row} of the {split} data of {self.name}"

    def held_pictures(self) -> list[Tensor]:
        """The pictures that are held out, prepared and whole: each (H, W) float32, in colour
        (3, H, W), on the CPU.

        Raises:
            InputError: these data are not cut from pictures.
        """
        raise InputError(
            f"`data={self.name}` is not cut from still pictures, of which it could give whole ones; leave out `whole`."
        )

    def truth(self, split: str) -> Truth | None:
        """Dictionary and codes that the data of a split were made of; None where they are not
        known."""
        return None

    def load_test(self) -> tuple[Tensor, Tensor | None]:
        """The test set, read only when asked for: x (N, D) float32 and its labels (N,) or None.

        Raises:
            InputError: these data have no test set.
        """
        raise InputError(f"`data={self.name}` has no test set; use its validation set, or `data=mnist`, which has one.")


def deliver(x: Tensor, device: torch.device) -> Tensor:
    """`x` on a device; to a GPU from pinned memory, in the order of its stream, and without waiting
    for it."""
    if x.device == device or device.type != "cuda":
        return x.to(device)
    with torch.cuda.device(device):  # or pinning would wake up the first GPU
        return x.pin_memory().to(device, non_blocking=True)


def check_batch(index: int, size: int) -> None:
    """Refuse a batch that cannot be: a negative index or a size below 1."""
    if index < 0 or size < 1:
        raise InputError(f"batch {index} of size {size} cannot be drawn; give an index from 0 and a size from 1.")


class Epochs:
    """The order in which a finite set of rows is visited: a new random one in every epoch.

    The rows of all epochs, one after the other, form one endless sequence; batch i is its rows
    i·size to (i + 1)·size − 1. A batch may straddle two epochs, and each epoch visits every row
    exactly once.

    Args:
        count: rows of the set.
        seed: seed of the order.
    """

    def __init__(self, count: int, seed: int) -> None:
        self._count, self._seed = count, seed
        self._orders: dict[int, np.ndarray] = {}

    def batch(self, index: int, size: int, rows: slice = slice(None)) -> Tensor:
        """The numbers of `rows` of a batch: (B,) int64 on the CPU."""
        check_batch(index, size)
        first, last = index * size, (index + 1) * size  # in the endless sequence of rows
        parts = []
        for epoch in range(first // self._count, (last - 1) // self._count + 1):
            start = epoch * self._count
            parts.append(self._order(epoch)[max(first - start, 0) : min(last - start, self._count)])
        return torch.from_numpy(np.concatenate(parts)[rows])

    def _order(self, epoch: int) -> np.ndarray:
        if epoch not in self._orders:
            while len(self._orders) >= 2:  # a cache only: a batch needs one order, or two where it straddles
                del self._orders[next(iter(self._orders))]
            self._orders[epoch] = random_stream(self._seed, EPOCH, epoch).permutation(self._count)
        return self._orders[epoch]


class RowSource(Source):
    """A finite set of rows, visited in a new random order in every epoch (`Epochs`).

    Args:
        name, shape, train, validation, labels, validation_labels, binary: see `Source`.
        seed: seed of the order.
        test: reads the test set, see `Source.load_test`.
        facts: what `describe` adds to the counts.
        places: see `Source.place`.
        device: see `Source`.
    """

    def __init__(
        self,
        name: str,
        shape: tuple[int, ...],
        train: Tensor | Rows,
        validation: Tensor,
        seed: int,
        *,
        labels: Tensor | None = None,
        validation_labels: Tensor | None = None,
        binary: bool = False,
        test: Callable[[], tuple[Tensor, Tensor | None]] | None = None,
        facts: dict[str, int | float | str | bool] | None = None,
        places: Callable[[str, int], str] | None = None,
        device: str | torch.device = "cpu",
    ):
        random_stream(seed, EPOCH)  # refuses a bad seed here rather than in the first batch
        self.name, self.shape, self.seed, self.binary = name, shape, seed, binary
        self.validation = validation.to(device)
        self.device = self.validation.device
        self._rows = kept(train, self.device)
        self.train = cast(Tensor, self._rows)
        self.labels = None if labels is None else labels.to(device)
        self.validation_labels = None if validation_labels is None else validation_labels.to(device)
        self._test = test
        self._facts = facts or {}
        self._places = places
        self._epochs = Epochs(len(self._rows), seed)

    def batch(self, index: int, size: int, rows: slice = slice(None)) -> Tensor:
        chosen = self._epochs.batch(index, size, rows)
        return deliver(self._rows[chosen.to(self._rows.device)], self.device)

    @property
    def ahead(self) -> bool:
        return isinstance(self._rows, Rows) or self._rows.device != self.device

    @property
    def held_share(self) -> float:
        return len(self.validation) / (len(self._rows) + len(self.validation))

    def place(self, split: str, row: int) -> str:
        return super().place(split, row) if self._places is None else self._places(split, row)

    def load_test(self) -> tuple[Tensor, Tensor | None]:
        if self._test is None:
            return super().load_test()
        x, labels = self._test()
        return x.to(self.device), None if labels is None else labels.to(self.device)

    def describe(self) -> dict[str, int | float | str | bool]:
        return {
            "data": self.name,
            "shape": "x".join(map(str, self.shape)),
            "train_rows": len(self._rows),
            "validation_rows": len(self.validation),
            **self._facts,
        }


def kept(rows: Tensor | Rows, device: torch.device) -> Tensor | Rows:
    """Rows where they are kept: on the device if they take a small share of it, else where they
    are; and a small array in memory rather than in its file."""
    size = 4 * rows.numel()
    if fits(size, device) and (isinstance(rows, Tensor) or device.type != "cpu" or size <= SMALL):
        return rows.to(device)
    return rows.to("cpu") if size <= SMALL and fits(size, torch.device("cpu")) else rows


def held_out(count: int, share: float, what: str) -> tuple[np.ndarray, np.ndarray]:
    """Divide `count` things into (training, validation) indices, each sorted.

    round(share · count) of them, but at least one, are held out; which ones is random and the same
    for every run.

    Raises:
        InputError: fewer than two things, or none left for training.
    """
    number = max(1, round(share * count))
    if number >= count:
        raise InputError(
            f"`val_share={share}` of {count} {what} leaves nothing to train on; give more {what} or a smaller share."
        )
    order = random_stream(FIXED_SEED, SPLIT).permutation(count)
    return np.sort(order[number:]), np.sort(order[:number])
