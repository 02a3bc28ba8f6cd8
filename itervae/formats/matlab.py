"""MATLAB's .mat files: up to version 7 by SciPy, from 7.3 on as HDF5."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from itervae.errors import InputError
from itervae.formats.hdf5 import MATLAB73, is_hdf5
from itervae.formats.kinds import Format

NUMBERS = (
    "double", "single", "logical", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
)  # fmt: skip
"""MATLAB's classes of arrays of numbers; others, such as cells and structures, are left out."""


def matlab_format(path: Path) -> Format:
    """That of the version that a file is of."""
    return MATLAB73 if is_hdf5(path) else MATLAB


@contextmanager
def _opened() -> Iterator[Any]:
    """SciPy's reader, which has an exception of its own for damaged files."""
    from scipy import io  # takes a moment that other files need not wait

    try:
        yield io
    except (io.matlab.MatReadError, IndexError) as error:  # the latter of files that end in their header
        raise ValueError(str(error)) from error


def _names(path: Path) -> list[str]:
    with _opened() as io:
        return sorted(name for name, _, kind in io.whosmat(path) if kind in NUMBERS)


def _read(path: Path, name: str) -> np.ndarray:
    with _opened() as io:
        found = io.loadmat(path, variable_names=[name])
    if name not in found:
        raise InputError(f"{path} does not give its array '{name}'; save it again.")
    return np.asarray(found[name])


MATLAB = Format(_read, _names)
