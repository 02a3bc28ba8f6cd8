"""Arrays in .npy and .npz files: reading them with clear errors, and rows of them as training data."""

import hashlib
import tokenize
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from itervae.data.settings import DataSettings
from itervae.data.source import RowSource, held_out
from itervae.errors import InputError

ARRAY_SUFFIXES = (".npy", ".npz")


def read_array(path: Path, key: str | None) -> np.ndarray:
    """Read an array of numbers from a .npy file, or the one called `key` from a .npz file (not needed if it is alone).

    The array of a .npy file is mapped to memory, read-only: what is not looked at is not read.

    Raises:
        InputError: no such file, another suffix, a damaged file, a missing or superfluous key, or values that are no
            real numbers.
    """
    if not path.is_file():
        raise InputError(f"{path} is not a file; give the path of a .npy or .npz file.")
    if path.suffix.lower() not in ARRAY_SUFFIXES:
        raise InputError(f"{path} has the suffix '{path.suffix}'; give a .npy or .npz file.")
    try:
        with np.errstate(all="ignore"):
            loaded = np.load(path, mmap_mode="r", allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                if key is not None:
                    raise InputError(f"the key '{key}' does not apply to {path}, which holds one array; leave it out.")
                array = loaded
            else:
                with loaded:
                    array = loaded[_choose_key(path, key, loaded.files)]
    except InputError:
        raise
    except (OSError, EOFError, ValueError, SyntaxError, zipfile.BadZipFile, zlib.error, tokenize.TokenError) as error:
        if "allow_pickle" in str(error) or "Python objects" in str(error):
            raise InputError(f"{path} holds Python objects, not numbers; save it as an array of numbers.") from error
        raise InputError(f"{path} cannot be read ({error}); it may be truncated: make or copy it again.") from error
    if array.dtype.kind not in "fiub":
        raise InputError(
            f"{path} holds values of type {array.dtype}, not real numbers; save them as floats or integers."
        )
    return array


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
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:16]


def as_rows(array: np.ndarray, where: str) -> Tensor:
    """An (N, D) array as float32.

    Raises:
        InputError: another number of dimensions, no rows or columns, or values that are not finite in float32.
    """
    if array.ndim != 2:
        raise InputError(
            f"{where} has shape {array.shape}, but rows (N, D) are needed; reshape it, for instance to "
            f"({array.shape[0] if array.ndim else 1}, {array[0].size if array.ndim and len(array) else 1})."
        )
    if not array.size:
        raise InputError(f"{where} is empty, of shape {array.shape}; give at least one row and one column.")
    with np.errstate(over="ignore"):  # what overflows is reported below
        rows = torch.from_numpy(array.astype(np.float32, order="C", copy=not array.flags.writeable))
    finite = torch.isfinite(rows)
    if not bool(finite.all()):
        row, column = (~finite).nonzero()[0].tolist()
        raise InputError(
            f"{where} holds {array[row, column]} at row {row}, column {column}, which is no finite 32-bit number; "
            "remove or replace such values."
        )
    return rows


def array_source(settings: DataSettings, seed: int, device: str | torch.device) -> RowSource:
    """Rows (N, D) of a file, used as they are; a fixed random share of them, or another array, is the validation set.

    Raises:
        InputError: see `read_array` and `as_rows`; a validation set of another D, or that is the training set.
    """
    assert settings.data_path is not None  # `DataSettings.check` has seen to it
    path = Path(settings.data_path).expanduser()
    array = read_array(path, settings.data_key)
    where = named(path, settings.data_key)
    facts: dict[str, int | float | str | bool] = {"path": str(path), "content": content_hash([array])}
    rows = as_rows(array, where)
    if settings.val_path is None and settings.val_key is None:
        train_index, val_index = held_out(len(rows), settings.val_share, "rows")
        train, validation = rows[torch.from_numpy(train_index)], rows[torch.from_numpy(val_index)]
    else:
        val_path = path if settings.val_path is None else Path(settings.val_path).expanduser()
        val_array = read_array(val_path, settings.val_key)
        facts["validation_content"] = content_hash([val_array])
        if facts["validation_content"] == facts["content"]:
            raise InputError(f"{named(val_path, settings.val_key)} is the training set itself; name other rows.")
        train, validation = rows, as_rows(val_array, named(val_path, settings.val_key))
        if validation.shape[1] != train.shape[1]:
            raise InputError(
                f"{named(val_path, settings.val_key)} has {validation.shape[1]} columns, but {where} has "
                f"{train.shape[1]}; give a validation set with as many."
            )
    return RowSource("array", (train.shape[1],), train, validation, seed, facts=facts, device=device)


def named(path: Path, key: str | None) -> str:
    """How messages call an array: its path, and its key where it has one."""
    return str(path) if key is None else f"{path} '{key}'"
