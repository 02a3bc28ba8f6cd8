"""An array in several files, one after the other, as tools write activations that one file does
not hold: the files of a folder, or those that fit a pattern."""

import glob
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from itervae.data.folders import files_below, natural
from itervae.errors import InputError
from itervae.formats import named, read_array

SUFFIXES = (".npy", ".safetensors")
"""Of shards: formats of which an array is mapped to memory."""
COUNTED = re.compile(r"(.*)-(\d+)-of-(\d+)")
"""Names that say how many shards there are: model-00001-of-00004."""


class Shards:
    """An array (N, ...) in parts, of which none is copied.

    Args:
        parts: arrays that differ in their number of rows alone.
    """

    def __init__(self, parts: list[np.ndarray]) -> None:
        self.parts = parts
        self.dtype = np.result_type(*parts)
        self.shape = (sum(map(len, parts)), *parts[0].shape[1:])
        self.ndim, self.size = len(self.shape), sum(part.size for part in parts)

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.concatenate([part.astype(dtype or self.dtype, copy=False) for part in self.parts])

    def map(self, f: Callable[[np.ndarray], Any]) -> "Shards":
        """The array with `f` of each part in its place."""
        return Shards([f(part) for part in self.parts])


Array = np.ndarray | Shards


def parts_of(array: Array) -> list[np.ndarray]:
    """The arrays in memory or in files that an array is made of."""
    return array.parts if isinstance(array, Shards) else [array]


def is_sharded(path: Path) -> bool:
    """Whether a path is a folder of shards, or a pattern."""
    if path.is_dir():
        return any(file.suffix.lower() in SUFFIXES for file in files_below(path))
    return glob.has_magic(str(path)) and not path.exists()


def read_data(path: Path, key: str | None = None) -> tuple[Array, str]:
    """The array of a file, or of the shards in a folder or of a pattern, by the numbers in their
    names; and how messages call it. What shards were taken for is said in a line.

    Raises:
        InputError: see `read_array`; no shards, shards of two formats or of shapes that do not fit,
            or fewer than their names say.
    """
    if path.is_dir():
        files = [file for file in files_below(path) if file.suffix.lower() in SUFFIXES]
    elif glob.has_magic(str(path)) and not path.exists():
        files = [Path(file) for file in glob.glob(str(path), recursive=True)]
    else:
        return read_array(path, key), named(path, key)
    if not files:
        raise InputError(f"{path} holds no shards; give a file, or files of one of {', '.join(SUFFIXES)} there.")
    files = sorted(files, key=natural)
    _check_names(path, files)
    parts = [read_array(file, key) for file in files]
    for file, part in zip(files, parts, strict=True):
        if not part.ndim or part.shape[1:] != parts[0].shape[1:]:
            raise InputError(
                f"{named(file, key)} has shape {part.shape}, and {named(files[0], key)} {parts[0].shape}; shards "
                "differ in their number of rows alone: leave one of them out."
            )
    found, where = Shards(parts), f"{named(path, key)} ({len(files)} files)"
    warnings.warn(
        f"{path} was taken for one array of {len(found)} rows in {len(files)} files, {files[0].name} to "
        f"{files[-1].name}",
        stacklevel=2,
    )
    return found, where


def _check_names(path: Path, files: list[Path]) -> None:
    """Refuse shards of two formats, and fewer or other ones than their names say."""
    suffixes = sorted({file.suffix.lower() for file in files})
    if len(suffixes) > 1:
        raise InputError(f"{path} holds files of {' and '.join(suffixes)}; give those of one, '*{suffixes[0]}' say.")
    counted = [match for file in files if (match := COUNTED.fullmatch(file.stem))]
    for match in counted:
        name, _, number = match.groups()
        there = {int(other[2]) for other in counted if (other[1], other[3]) == (name, number)}
        if len(there) != int(number):
            raise InputError(
                f"{path} holds {len(there)} of the {int(number)} files {name}-*-of-{number}; add the rest."
            )
