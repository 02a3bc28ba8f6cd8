"""The idx files of MNIST and its like, packed by gzip or not.

Two zeros, a byte for the type of the values, one for the number of dimensions, each dimension as a
big-endian integer of 4 bytes, and the values, the last dimension changing fastest.
"""

import gzip
import re
from math import prod
from pathlib import Path
from typing import IO

import numpy as np

from itervae.errors import InputError
from itervae.formats.kinds import Format, check_claim, check_memory

NAME = re.compile(r".*[-.]idx\d(-\w+)?(\.gz)?", re.IGNORECASE)
"""Names of such files: train-images-idx3-ubyte.gz."""
TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def _read(path: Path, name: str) -> np.ndarray:
    if path.suffix.lower() == ".gz":
        with gzip.open(path, "rb") as stream:
            dtype, shape, size = _head(stream, path)
            check_memory(size, str(path), "unpack it")
            content = stream.read(size + 1)
        check_claim(size, len(content), f"values of shape {shape}", str(path))
        return np.frombuffer(content, dtype, prod(shape)).reshape(shape)
    with path.open("rb") as stream:
        dtype, shape, size = _head(stream, path)
        start = stream.tell()
    check_claim(size, path.stat().st_size - start, f"values of shape {shape}", str(path))
    return np.memmap(path, dtype, "r", start, shape) if size else np.zeros(shape, dtype)


def _head(stream: IO[bytes] | gzip.GzipFile, path: Path) -> tuple[np.dtype, tuple[int, ...], int]:
    """The type and the shape of the values, and how many bytes they are."""
    head = stream.read(4)
    rank = head[3] if len(head) == 4 and head[:2] == b"\0\0" and head[2] in TYPES else 0
    sizes = stream.read(4 * rank)
    if not rank or len(sizes) < 4 * rank:
        raise InputError(
            f"{path} begins with {head.hex() or 'nothing'}, which is no head of an idx file; make or copy it again."
        )
    dtype, shape = np.dtype(TYPES[head[2]]), tuple(np.frombuffer(sizes, ">u4").tolist())
    return dtype, shape, prod(shape) * dtype.itemsize


IDX = Format(_read)
