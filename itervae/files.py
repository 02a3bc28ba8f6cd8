"""Files that are written whole or not at all.

A process that is killed as it writes leaves a temporary file, `.NAME.PID-TOKEN.tmp`, which the next
one that writes there clears away.
"""

import contextlib
import io
import json
import math
import os
import re
import secrets
import shutil
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from itervae.errors import InputError

STALE_SECONDS = 3600
"""A temporary file that was not written to for so long belongs to no process any more, or to none
of this machine."""
TEMPORARY = re.compile(r"\.(?P<name>.+)\.(?P<process>\d+)(-[0-9a-f]+)?\.tmp")
"""Names of temporary files; those of earlier versions end in the number of the process."""


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A file to write to, a temporary one beside `path`, which takes its place when the block ends
    without an error.

    Raises:
        OSError: it cannot be written; what stood there is untouched.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def whole_file(path: str | Path) -> Iterator[IO[bytes]]:
    """The same for a file that the user names, in a folder that is made where it is not there.

    Raises:
        InputError: it cannot be written; what stood there is untouched.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for file, name, process in temporaries(path.parent):
            if name == path.name and (is_stale(file) or _has_ended(process)):
                _remove(file)
        with replacing(path) as file:
            yield file
    except OSError as error:
        raise InputError(f"could not write {path} ({error}); free some space or name another place") from error


def temporaries(folder: Path) -> Iterator[tuple[Path, str, int]]:
    """The temporary files in a folder: of each the name that it is to get, and the process that
    writes or wrote it."""
    for file in folder.glob(".*.tmp"):
        if match := TEMPORARY.fullmatch(file.name):
            yield file, match["name"], int(match["process"])


def clear_temporaries(folder: Path) -> None:
    """Remove all temporary files of a folder: of one that is locked, where nobody else writes."""
    for file, _, _ in temporaries(folder):
        _remove(file)


def clear_stale(folder: Path) -> None:
    """Remove the temporary files of a folder that were not written to for long: of one that
    machines may share, where the number of a process says nothing."""
    for file, _, _ in temporaries(folder):
        if is_stale(file):
            _remove(file)


def is_stale(file: Path) -> bool:
    """Whether a file is gone, or was not written to for long."""
    try:
        return time.time() - file.stat().st_mtime > STALE_SECONDS
    except FileNotFoundError:
        return True


def _has_ended(process: int) -> bool:
    """Whether a process of this machine has ended, as far as can be known."""
    if os.name != "posix":
        return False
    try:
        os.kill(process, 0)  # only asks
    except (ProcessLookupError, OverflowError):
        return True
    except PermissionError:  # of another user
        return False
    return False


def _remove(file: Path) -> None:
    with contextlib.suppress(OSError):  # another process was faster, or it is of another user
        file.unlink()


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write a file, whole or not at all.

    Raises:
        InputError: the file cannot be written; what stood there is untouched.
    """
    with whole_file(path) as file:
        file.write(content)


class Columns:
    """Named arrays that are written part by part and become an .npz file at the end, whole or not
    at all.

    The parts go to temporary files without a name, in the folder of the file, so that memory holds
    one at a time and nothing stays behind.

    Example:
        with Columns("codes.npz") as columns:
            for batch in batches:
                columns.add({"mean": mean_of(batch)})

    Raises:
        InputError: the name does not end in .npz, parts that do not fit each other, or a file that
            cannot be written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if self.path.suffix != ".npz":
            raise InputError(f"the file to write is named {path}; expected a name ending in .npz")
        self._parts: dict[str, tuple[IO[bytes], np.dtype[Any], tuple[int, ...]]] = {}
        self._rows: dict[str, int] = {}
        self._whole: IO[bytes] | None = None
        self._places: list[tuple[str, np.dtype[Any], tuple[int, ...]]] = []

    def __enter__(self) -> "Columns":
        return self

    def add(self, arrays: dict[str, np.ndarray]) -> None:
        """Rows of each array (n, ...), after those that were added before."""
        try:
            for name, array in arrays.items():
                if name not in self._parts:
                    self.path.parent.mkdir(parents=True, exist_ok=True)
                    file = tempfile.TemporaryFile(dir=self.path.parent)  # noqa: SIM115 (closed in __exit__)
                    self._parts[name], self._rows[name] = (file, array.dtype, array.shape[1:]), 0
                file, dtype, shape = self._parts[name]
                if array.dtype != dtype or array.shape[1:] != shape:
                    raise InputError(f"a part of {name} is {array.dtype} {array.shape[1:]}; expected {dtype} {shape}")
                file.write(np.ascontiguousarray(array).data)
                self._rows[name] += len(array)
        except OSError as error:
            raise self._unwritten(error) from error

    def put(self, arrays: dict[str, np.ndarray]) -> None:
        """Arrays that are whole, each under a name of its own; they share a temporary file, as
        there may be many."""
        try:
            if self._whole is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._whole = tempfile.TemporaryFile(dir=self.path.parent)  # noqa: SIM115 (closed in __exit__)
            for name, array in arrays.items():
                self._places.append((name, array.dtype, array.shape))
                self._whole.write(np.ascontiguousarray(array).data)
        except OSError as error:
            raise self._unwritten(error) from error

    def _unwritten(self, error: OSError) -> InputError:
        return InputError(f"could not write {self.path} ({error}); free some space or name another place")

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        try:
            if kind is None:
                self._write()
        finally:
            for file in (*(file for file, _, _ in self._parts.values()), *filter(None, [self._whole])):
                file.close()

    def _write(self) -> None:
        with whole_file(self.path) as whole, zipfile.ZipFile(whole, "w", allowZip64=True) as archive:
            for name, (file, dtype, shape) in self._parts.items():
                file.seek(0)
                with _member(archive, name, dtype, (self._rows[name], *shape)) as member:
                    shutil.copyfileobj(file, member, 1 << 20)
            if self._whole is not None:
                self._whole.seek(0)
            for name, dtype, shape in self._places:
                assert self._whole is not None
                with _member(archive, name, dtype, shape) as member:
                    member.write(self._whole.read(dtype.itemsize * math.prod(shape)))


@contextlib.contextmanager
def _member(archive: zipfile.ZipFile, name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Iterator[IO[bytes]]:
    """A member of an .npz file, its header written."""
    with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
        described = {"descr": dtype.str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(member, described)
        yield member


def write_arrays(path: str | Path, arrays: dict[str, np.ndarray]) -> None:
    """Write named arrays to an .npz or .safetensors file, whole or not at all.

    Raises:
        InputError: the name ends otherwise, or the file cannot be written; what stood there is
            untouched. Text in .safetensors, which holds numbers alone.
    """
    suffix = Path(path).suffix
    if suffix == ".safetensors":
        if text := [name for name, value in arrays.items() if value.dtype.kind not in "fiub"]:
            raise InputError(f"{text[0]} is text, which {path} cannot hold; expected a name ending in .npz")
        from safetensors.numpy import save

        write_bytes(path, save({name: np.ascontiguousarray(value) for name, value in arrays.items()}))
        return
    if suffix != ".npz":
        raise InputError(f"the file to write is named {path}; expected a name ending in .npz or .safetensors")
    content = io.BytesIO()
    np.savez(content, **arrays)  # pyright: ignore[reportArgumentType]
    write_bytes(path, content.getvalue())


def write_json(path: str | Path, content: Any) -> None:
    """Write strict JSON, whole or not at all; a number that is not finite becomes null."""
    write_bytes(path, (json.dumps(strict(content), indent=2, allow_nan=False) + "\n").encode())


def strict(content: Any) -> Any:
    """The same nested dicts and lists, with None for numbers that JSON does not have."""
    if isinstance(content, dict):
        return {name: strict(value) for name, value in content.items()}
    if isinstance(content, list | tuple):
        return [strict(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content
