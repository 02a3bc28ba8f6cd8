"""Where prepared pixels are kept: images or scenes, one after the other, in one flat float32
tensor.

It lies on the device of training where it takes a small share of what is free there, else in the
memory of the machine by the same rule, else in a file of the cache, whose pages are read when they
are needed and make room for others. Where it lies changes no value of it.
"""

import hashlib
import os
import warnings
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from itervae.data.cache import cache_folder, no_cache, open_cache
from itervae.files import replacing
from itervae.memory import free_memory

MEMORY_SHARE = 0.25
"""Pixels take at most this share of the memory that is free when they are made; of a machine on
which torchrun starts several processes, each has its part of that."""
VERSION = 1  # part of every name: raise it where the same content and settings are to give other pixels


@dataclass(frozen=True)
class Pixels:
    """Pixels and where they are.

    Attributes:
        values: (N,) float32; read-only where they are mapped.
        mean_square: of all values.
        file: where they are mapped from, None where they are in memory.
    """

    values: Tensor
    mean_square: float
    file: Path | None = None

    def take(self, index: Tensor) -> Tensor:
        """The values at an index (…, D), whose rows ascend."""
        self._ask(index[..., 0], index[..., -1])
        return self.values[index]

    def take_runs(self, starts: Tensor, length: int) -> Tensor:
        """Runs of so many values from each start on: starts (…, R), the first of each row its least
        and the last its largest, to (…, R · `length`)."""
        self._ask(starts[..., 0], starts[..., -1] + length - 1)
        runs = self.values.as_strided((len(self.values) - length + 1, length), (1, 1))
        return runs.index_select(0, starts.flatten()).view(*starts.shape[:-1], starts.shape[-1] * length)

    def _ask(self, first: Tensor, last: Tensor) -> None:
        """Ask for what rows span of a file, which the disk then reads at once, not page after
        page."""
        if self.file is not None:
            first, last = first.flatten(), last.flatten()
            with suppress(OSError), self.file.open("rb") as file:  # it may have been deleted meanwhile
                read_ahead(file, (4 * first).tolist(), (4 * (last - first + 1)).tolist())


def read_ahead(file: IO[bytes], starts: list[int], lengths: list[int]) -> None:
    """Ask the disk at once for bytes that are needed next, each so many from a start on."""
    if hasattr(os, "posix_fadvise"):
        for start, length in zip(starts, lengths, strict=True):
            os.posix_fadvise(file.fileno(), start, length, os.POSIX_FADV_WILLNEED)


def keep_pixels(
    parts: Iterable[Tensor], count: int, made_from: tuple[object, ...], device: str | torch.device = "cpu"
) -> Pixels:
    """Keep pixels where they fit: on the device, in memory, or in the cache, whose size is then
    said.

    Args:
        parts: float32 tensors on the CPU, in order, consumed one by one, and not at all where the
            cache has them.
        count: N, the values of all parts together.
        made_from: the content and every setting that the values depend on, as plain values.
        device: where they are wanted.

    Raises:
        InputError: a cache that cannot be written, or what the parts raise.
    """
    device = torch.device(device)
    size = 4 * count
    home = device if fits(size, device) else torch.device("cpu")
    if not fits(size, home):
        return _mapped(parts, count, made_from)
    values = torch.empty(count, dtype=torch.float32, device=home)
    done, total = 0, 0.0
    for part in parts:
        values[done : done + part.numel()] = part.reshape(-1)
        done += part.numel()
        total += _square(part)
    assert done == count, f"{done} of {count} pixels"
    return Pixels(values, total / count)


def fits(size: int, device: torch.device) -> bool:
    """Whether so many bytes are a small share of the memory that is free on a device."""
    if device.type != "cuda":
        return size <= MEMORY_SHARE * free_memory()
    with torch.cuda.device(device):
        return size <= MEMORY_SHARE * torch.cuda.mem_get_info()[0]


def _mapped(parts: Iterable[Tensor], count: int, made_from: tuple[object, ...]) -> Pixels:
    """Pixels in the cache: N little-endian float32, and their mean square as a float64."""
    folder = cache_folder() / "pixels"
    open_cache(folder)
    key = hashlib.sha256(repr((VERSION, count, *made_from)).encode()).hexdigest()[:32]
    file, size = folder / f"{key}.f32", 4 * count + 8
    try:
        if not file.exists() or file.stat().st_size != size:
            _write(parts, count, file)
    except OSError as error:
        raise no_cache(folder, error) from error
    values = np.memmap(file, "<f4", "r", shape=(count,))
    mean_square = float(np.fromfile(file, "<f8", offset=4 * count)[0])
    Console(stderr=True).print(
        f"{size / 1e6:.1f} MB of pixels are read from the cache {folder}", highlight=False, markup=False, soft_wrap=True
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")  # and nothing writes to it
        return Pixels(torch.from_numpy(values), mean_square, file)


def _write(parts: Iterable[Tensor], count: int, file: Path) -> None:
    done, total = 0, 0.0
    with replacing(file) as stream:
        for part in parts:
            stream.write(part.contiguous().numpy().astype("<f4", copy=False).data)
            done += part.numel()
            total += _square(part)
        assert done == count, f"{done} of {count} pixels"
        stream.write(np.array([total / count], "<f8").tobytes())


def _square(part: Tensor) -> float:
    return float(part.double().square().sum())
