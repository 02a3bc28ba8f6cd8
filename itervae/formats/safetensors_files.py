"""Files of safetensors, which hold arrays by name and no code: those are mapped to memory. What
NumPy has no type for, such as bfloat16, is read as float32 by the library of that name."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from itervae.formats.kinds import Format, check_memory, named

TYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1", "BOOL": "?",
}  # fmt: skip
"""The types that NumPy has, by what the file calls them."""


@contextmanager
def _opened(path: Path, framework: str = "numpy") -> Iterator[Any]:
    """The file as the library opens it, which checks its head against its length."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework=framework) as file:
            yield file
    except SafetensorError as error:
        raise ValueError(str(error)) from error


def _names(path: Path) -> list[str]:
    with _opened(path) as file:
        return sorted(file.keys())


def _read(path: Path, name: str) -> np.ndarray:
    with _opened(path), path.open("rb") as stream:
        size = int.from_bytes(stream.read(8), "little")
        head = json.loads(stream.read(size))[name]
    kind, shape, start = head["dtype"], tuple(head["shape"]), head["data_offsets"][0]
    if kind in TYPES:
        dtype = np.dtype(TYPES[kind])
        return np.memmap(path, dtype, "r", 8 + size + start, shape) if prod(shape) else np.zeros(shape, dtype)
    check_memory(4 * prod(shape), named(path, name), "save it as float32")
    with _opened(path, "pt") as file:  # of torch, which takes seconds to import
        return file.get_tensor(name).float().numpy()


SAFETENSORS = Format(_read, _names)
