"""Files of safetensors, which hold arrays by name and no code; the library of that name reads
them. What NumPy has no type for, such as bfloat16, becomes float32."""

from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from itervae.formats.kinds import Format, check_memory, named

BYTES = {
    "F64": 8, "F32": 4, "F16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1,
    "BOOL": 1,
}  # fmt: skip
"""Of a value of each of the types that NumPy has, as the file calls them."""


@contextmanager
def _opened(path: Path, framework: str = "numpy") -> Iterator[Any]:
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
    with _opened(path) as file:
        head = file.get_slice(name)
        kind, size = head.get_dtype(), prod(head.get_shape())
        check_memory(BYTES.get(kind, 4) * size, named(path, name), "save it as a .npy file")
        if kind in BYTES:
            return file.get_tensor(name)
    with _opened(path, "pt") as file:
        return file.get_tensor(name).float().numpy()


SAFETENSORS = Format(_read, _names)
