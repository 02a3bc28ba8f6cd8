"""NumPy's files: the array of a .npy file is mapped to memory, those of an .npz file are read."""

import zipfile
from math import prod
from pathlib import Path
from typing import IO

import numpy as np

from itervae.errors import InputError
from itervae.formats.kinds import Format, check_claim, check_memory, named

ZIPPED = (b"PK\x03\x04", b"PK\x05\x06")
"""What archives begin with, and empty ones."""
# How often what is stored can be the size of what is packed, at most, with something for the ends.
PACKED = {zipfile.ZIP_STORED: 1, zipfile.ZIP_DEFLATED: 1040}


def numpy_format(path: Path) -> Format:
    """An archive of arrays or a single one, as the file begins, whatever its suffix."""
    with path.open("rb") as stream:
        return ARCHIVE if stream.read(4) in ZIPPED else SINGLE


def _single(path: Path, name: str) -> np.ndarray:
    with path.open("rb") as stream:
        _check_header(stream, path.stat().st_size, str(path))
    return np.load(path, mmap_mode="r", allow_pickle=False)


def _names(path: Path) -> list[str]:
    with np.load(path, allow_pickle=False) as arrays:
        return sorted(arrays.files)


def _from_archive(path: Path, name: str) -> np.ndarray:
    with np.load(path, allow_pickle=False) as arrays, zipfile.ZipFile(path) as archive:
        where = named(path, name)
        member = archive.getinfo(name if name in archive.namelist() else f"{name}.npy")
        held = member.file_size  # so the archive says, which may be as wrong as the head
        if member.compress_type in PACKED:
            held = min(held, PACKED[member.compress_type] * min(member.compress_size, path.stat().st_size))
        with archive.open(member) as stream:
            check_memory(_check_header(stream, held, where), where, "save it as a .npy file")
        return arrays[name]


def _check_header(stream: IO[bytes], held: int, where: str) -> int:
    """The bytes of the values that the head of a .npy file claims; refused where fewer follow
    it."""
    version = np.lib.format.read_magic(stream)
    # formats 2.0 and 3.0 differ in the encoding of names only
    head = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = head(stream)
    if any(length < 0 for length in shape):
        raise InputError(f"{where} claims the shape {shape}; it is damaged: make or copy it again.")
    claimed = prod(shape) * dtype.itemsize
    if not dtype.hasobject:
        check_claim(claimed, held - stream.tell(), f"{dtype} values of shape {shape}", where)
    return claimed


SINGLE = Format(_single)
ARCHIVE = Format(_from_archive, _names)
