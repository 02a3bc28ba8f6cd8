"""An array of numbers from a file of any of the formats, with clear errors."""

import os
import tokenize
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np

from itervae.errors import InputError
from itervae.formats.hdf5 import HDF5
from itervae.formats.idx import IDX, NAME
from itervae.formats.kinds import Format, check_real
from itervae.formats.matlab import matlab_format
from itervae.formats.numpy_files import numpy_format
from itervae.formats.safetensors_files import SAFETENSORS
from itervae.formats.text import CSV
from itervae.formats.wave import WAVE

T = TypeVar("T")
FORMATS: dict[str, Callable[[Path], Format]] = {
    ".npy": numpy_format,
    ".npz": numpy_format,
    ".csv": lambda path: CSV,
    ".mat": matlab_format,
    ".h5": lambda path: HDF5,
    ".hdf5": lambda path: HDF5,
    ".safetensors": lambda path: SAFETENSORS,
    ".wav": lambda path: WAVE,
}
"""How a file is read, by its suffix; idx files are known by their whole name."""

# What readers raise for a damaged file. Anything else is a fault of the program and passes.
DAMAGED = (
    OSError,
    EOFError,
    ValueError,
    TypeError,
    KeyError,
    SyntaxError,
    OverflowError,
    NotImplementedError,
    RuntimeError,
    MemoryError,
    zipfile.BadZipFile,
    zlib.error,
    tokenize.TokenError,
)


def is_array_file(path: Path) -> bool:
    """Whether a path is one of a file that holds arrays, by its name."""
    return (path.suffix.lower() in FORMATS or NAME.fullmatch(path.name) is not None) and not path.is_dir()


def array_names(path: Path) -> list[str] | None:
    """The names of the arrays in a file, sorted; None where it holds one, which has none.

    Raises:
        InputError: as `read_array`.
    """
    return _read(path, lambda kind: None if kind.names is None else kind.names(path))


def read_array(path: Path, key: str | None = None, *, text: bool = False) -> np.ndarray:
    """Read an array of numbers from a file: that called `key` where the file holds several (not
    needed if it is alone).

    The array of a .npy, .safetensors or idx file, and of an HDF5 file where it lies in one piece,
    is mapped to memory, read-only: what is not looked at is not read.

    Args:
        path: .npy, .npz, .csv, .mat, .h5, .hdf5, .safetensors, .wav, or an idx file, packed (.gz)
            or not.
        key: name of the array.
        text: whether its values may be text too.

    Raises:
        InputError: no such file, another suffix, a damaged file, one that claims more values than
            it holds or than there is memory for, a missing or superfluous key, or values that are
            no real numbers.
    """

    def read(kind: Format) -> np.ndarray:
        if kind.names is not None:
            return kind.read(path, _chosen(path, key, kind.names(path)))
        if key is not None:
            raise InputError(f"the key '{key}' does not apply to {path}, which holds one array; leave it out.")
        return kind.read(path, "")

    array = _read(path, read)
    if not (text and array.dtype.kind == "U"):
        check_real(array, str(path))
    return array


def _read(path: Path, read: Callable[[Format], T]) -> T:
    """What is read of a file by its format; damage is told in one sentence."""
    fitting = f"give a file of one of {', '.join(FORMATS)}, or an idx file"
    if not path.is_file():
        raise InputError(f"{path} is not a file; {fitting}.")
    if not is_array_file(path):
        raise InputError(f"{path} has the suffix '{path.suffix}'; {fitting}.")
    try:
        with np.errstate(all="ignore"):
            kind = IDX if NAME.fullmatch(path.name) else FORMATS[path.suffix.lower()](path)
            return read(kind)
    except InputError:
        raise
    except DAMAGED as error:
        if "allow_pickle" in str(error) or "Python objects" in str(error):
            raise InputError(f"{path} holds Python objects, not numbers; save it as an array of numbers.") from error
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{path} cannot be read ({reason}); it may be truncated: make or copy it again.") from error


def _chosen(path: Path, key: str | None, names: list[str]) -> str:
    if not names:
        raise InputError(f"{path} holds no array; save one into it.")
    listed = ", ".join(names)
    if key is None and len(names) > 1:
        raise InputError(f"{path} holds the arrays {listed}; name one of them as the key.")
    if key is not None and key not in names:
        raise InputError(f"{path} has no array '{key}'; it holds {listed}: name one of them as the key.")
    return names[0] if key is None else key


def check_file(path: Path, what: str) -> None:
    """Refuse a folder, and a place where no file is; `what` is what it should be."""
    if os.path.isdir(path):
        raise InputError(f"{path} is a folder; expected a file of an array, such as .npz, .npy or .mat")
    if not os.path.isfile(path):  # false for names that are too long or hold a NUL, of which Path would raise
        raise InputError(f"there is no {what} at {path}; expected a file of an array, such as .npz, .npy, .mat")
