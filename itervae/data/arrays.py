"""Arrays in .npy and .npz files: reading them with clear errors, and rows of them as training
data."""

import hashlib
import tokenize
import zipfile
import zlib
from collections.abc import Iterable
from math import prod
from pathlib import Path
from typing import IO, cast

import numpy as np
import torch
from torch import Tensor

from itervae.arrays import as_float32, check_real
from itervae.data.pixels import free_memory
from itervae.data.rows import CHUNK_BYTES, Rows, check_rows, row_chunks
from itervae.data.settings import DataSettings, SourceKind
from itervae.data.source import SMALL, Fitted, RowSource, held_out
from itervae.errors import InputError

ARRAY_SUFFIXES = (".npy", ".npz")
# How often what is stored can be the size of what is packed, at most, with something for the ends.
PACKED = {zipfile.ZIP_STORED: 1, zipfile.ZIP_DEFLATED: 1040}

# What NumPy raises for a damaged file. Anything else is a fault of the program and passes.
DAMAGED = (
    OSError,
    EOFError,
    ValueError,
    TypeError,
    KeyError,
    SyntaxError,
    OverflowError,
    NotImplementedError,
    zipfile.BadZipFile,
    zlib.error,
    tokenize.TokenError,
)


def read_array(path: Path, key: str | None) -> np.ndarray:
    """Read an array of numbers from a .npy file, or the one called `key` from a .npz file (not
    needed if it is alone).

    The array of a .npy file is mapped to memory, read-only: what is not looked at is not read.

    Raises:
        InputError: no such file, another suffix, a damaged file, one that claims more values than
            it holds or than there is memory for, a missing or superfluous key, or values that are
            no real numbers.
    """
    if not path.is_file():
        raise InputError(f"{path} is not a file; give the path of a .npy or .npz file.")
    if path.suffix.lower() not in ARRAY_SUFFIXES:
        raise InputError(f"{path} has the suffix '{path.suffix}'; give a .npy or .npz file.")
    try:
        with np.errstate(all="ignore"), path.open("rb") as stream:
            if stream.read(2) == b"PK":
                array = _from_archive(path, key)
            else:
                stream.seek(0)
                _check_header(stream, path.stat().st_size, str(path))
                if key is not None:
                    raise InputError(f"the key '{key}' does not apply to {path}, which holds one array; leave it out.")
                array = np.load(path, mmap_mode="r", allow_pickle=False)
    except InputError:
        raise
    except (*DAMAGED, MemoryError) as error:
        if "allow_pickle" in str(error) or "Python objects" in str(error):
            raise InputError(f"{path} holds Python objects, not numbers; save it as an array of numbers.") from error
        raise InputError(f"{path} cannot be read ({error}); it may be truncated: make or copy it again.") from error
    check_real(array, str(path))
    return array


def _from_archive(path: Path, key: str | None) -> np.ndarray:
    with np.load(path, allow_pickle=False) as arrays, zipfile.ZipFile(path) as archive:
        name = _choose_key(path, key, arrays.files)
        where = named(path, name)
        member = archive.getinfo(name if name in archive.namelist() else f"{name}.npy")
        held = member.file_size  # so the archive says, which may be as wrong as the head
        if member.compress_type in PACKED:
            held = min(held, PACKED[member.compress_type] * min(member.compress_size, path.stat().st_size))
        with archive.open(member) as stream:
            size = _check_header(stream, held, where)
        if size > (free := free_memory()):
            raise InputError(
                f"{where} takes {size / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB are free; save it as a .npy "
                "file, which is read by parts."
            )
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
    claimed, left = prod(shape) * dtype.itemsize, held - stream.tell()
    if claimed > left and not dtype.hasobject:
        raise InputError(
            f"{where} claims {dtype} values of shape {shape}, {claimed} bytes, but at most {left} follow; it is "
            "damaged or truncated: make or copy it again."
        )
    return claimed


def _choose_key(path: Path, key: str | None, names: list[str]) -> str:
    if not names:
        raise InputError(f"{path} holds no array; save one into it.")
    listed = ", ".join(sorted(names))
    if key is None and len(names) > 1:
        raise InputError(f"{path} holds the arrays {listed}; name one of them as the key.")
    if key is not None and key not in names:
        raise InputError(f"{path} has no array '{key}'; it holds {listed}: name one of them as the key.")
    return names[0] if key is None else key


def content_hash(arrays: Iterable[np.ndarray]) -> str:
    """First 16 hexadecimal digits of the sha256 of the type, shape and values of the arrays."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        for chunk in row_chunks(array):
            digest.update(np.ascontiguousarray(chunk).data)
    return digest.hexdigest()[:16]


def as_rows(array: np.ndarray, where: str) -> Tensor:
    """An (N, D) array as float32.

    Raises:
        InputError: another number of dimensions, no rows or columns, or values that are not finite
            in float32.
    """
    _check_shape(array, where)
    return as_float32(array, where)


def large_rows(array: np.ndarray, where: str) -> Tensor:
    """The same; of a large array rows that are read when they are asked for, in place of a tensor
    (`Rows`)."""
    _check_shape(array, where)
    if 4 * array.size <= SMALL:
        return as_float32(array, where)
    check_rows(array, where)
    return cast(Tensor, Rows(array, where))


def _check_varies(rows: Tensor, where: str) -> None:
    """Refuse data that are all the same, of which nothing can be learned."""
    first = rows[:1]
    step = max(1, CHUNK_BYTES // (4 * first.shape[1]))
    if all(bool((rows[start : start + step] == first).all()) for start in range(0, len(rows), step)):
        raise InputError(f"{where} is constant: all {len(rows)} rows to train on are equal; give data that differ.")


def _check_shape(array: np.ndarray, where: str) -> None:
    if array.ndim != 2:
        raise InputError(
            f"{where} has shape {array.shape}, but rows (N, D) are needed; reshape it, for instance to "
            f"({array.shape[0] if array.ndim else 1}, {array[0].size if array.ndim and len(array) else 1})."
        )
    if not array.size:
        raise InputError(f"{where} is empty, of shape {array.shape}; give at least one row and one column.")


def array_source(settings: DataSettings, seed: int, device: str | torch.device, fitted: Fitted) -> RowSource:
    """Rows (N, D) of a file, used as they are; a fixed random share of them, or another array, is
    the validation set.

    A large array is not read into memory, but for its validation set.

    Raises:
        InputError: see `read_array` and `as_rows`; a validation set of another D, or that is the
            training set.
    """
    assert settings.data_path is not None  # `DataSettings.check` has seen to it
    path = Path(settings.data_path).expanduser()
    array = read_array(path, settings.data_key)
    where = named(path, settings.data_key)
    facts: dict[str, int | float | str | bool] = {"path": str(path), "content": content_hash([array])}
    _check_shape(array, where)
    check_rows(array, where)
    if settings.val_path is None and settings.val_key is None:
        train_index, val_index = held_out(len(array), settings.val_share, "rows")
        train, validation = Rows(array, where, train_index), Rows(array, where, val_index).to("cpu")
    else:
        val_path = path if settings.val_path is None else Path(settings.val_path).expanduser()
        val_array = read_array(val_path, settings.val_key)
        facts["validation_content"] = content_hash([val_array])
        if facts["validation_content"] == facts["content"]:
            raise InputError(f"{named(val_path, settings.val_key)} is the training set itself; name other rows.")
        train, validation = Rows(array, where), as_rows(val_array, named(val_path, settings.val_key))
        if validation.shape[1] != train.shape[1]:
            raise InputError(
                f"{named(val_path, settings.val_key)} has {validation.shape[1]} columns, but {where} has "
                f"{train.shape[1]}; give a validation set with as many."
            )
    _check_varies(cast(Tensor, train), where)
    return RowSource("array", (train.shape[1],), train, validation, seed, facts=facts, device=device)


def named(path: Path, key: str | None) -> str:
    """How messages call an array: its path, and its key where it has one."""
    return str(path) if key is None else f"{path} '{key}'"


ARRAY = SourceKind(array_source, reads=("data_path", "data_key", "val_path", "val_key", "val_share"))
