"""HDF5 files, among them those of MATLAB from version 7.3 on; h5py reads them.

An array that lies in one piece in the file is mapped to memory; one in chunks, packed, say, is read
whole.
"""

from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from itervae.errors import InputError
from itervae.formats.kinds import Format, check_memory, named

MARK = b"\x89HDF\r\n\x1a\n"
STARTS = (0, 512, 1024, 2048)
"""Where the mark of an HDF5 file may stand; MATLAB puts a line of its own before it."""


def is_hdf5(path: Path) -> bool:
    """Whether a file is HDF5, by its mark."""
    with path.open("rb") as stream:
        head = stream.read(STARTS[-1] + len(MARK))
    return any(head[start : start + len(MARK)] == MARK for start in STARTS)


@contextmanager
def _opened(path: Path) -> Any:
    try:
        import h5py  # an extra: most data need none
    except ImportError as error:
        raise InputError(f"{path} is an HDF5 file, which h5py reads, and it is not there: pip install h5py.") from error
    with h5py.File(path, "r") as file:
        yield file


def _arrays(file: Any) -> dict[str, Any]:
    """The arrays of numbers by their paths, such as group/x; MATLAB keeps what cells hold apart, in
    #refs#."""
    found: dict[str, Any] = {}

    def visit(name: str, item: Any) -> None:
        dtype = getattr(item, "dtype", None)
        word = item.attrs.get("MATLAB_class") == b"char"  # text, as numbers
        if dtype is not None and dtype.kind in "fiub" and item.shape is not None and not (name.startswith("#") or word):
            found[name] = item

    file.visititems(visit)
    return found


def _names(path: Path) -> list[str]:
    with _opened(path) as file:
        return sorted(_arrays(file))


def _read(path: Path, name: str, columns_first: bool) -> np.ndarray:
    with _opened(path) as file:
        item = _arrays(file)[name]
        start = None if item.chunks or not item.size or not item.ndim else item.id.get_offset()
        if start is None:
            check_memory(item.size * item.dtype.itemsize, named(path, name), "save it in one piece, without chunks")
            array = item[()]
        else:
            array = np.memmap(path, item.dtype, "r", start, item.shape)
    return array.T if columns_first else array


HDF5 = Format(partial(_read, columns_first=False), _names)
MATLAB73 = Format(partial(_read, columns_first=True), _names)
"""The same of MATLAB's files, which have the first dimension last."""
