"""The cache: files that cost time to make, in a folder of the user's, each whole or not there at all.

A file is written under a temporary name and renamed when it is whole and on the disk, so that processes that make the
same file, or are killed, leave whole files or none. Its name says what content and settings it was made from.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO

from itervae.errors import InputError

STALE_SECONDS = 3600  # a temporary file that was not written to for so long belongs to a killed process


def cache_folder(cache: Path | None = None) -> Path:
    """The folder named, else that of the environment variable ITERVAE_CACHE, else `itervae` in the user's cache."""
    if cache is not None:
        return Path(cache).expanduser()
    if named := os.environ.get("ITERVAE_CACHE"):
        return Path(named).expanduser()
    user = os.environ.get("XDG_CACHE_HOME")
    return (Path(user) if user else Path.home() / ".cache") / "itervae"


def open_cache(folder: Path) -> None:
    """Make a folder of the cache, and clear it of what killed processes left behind.

    Raises:
        InputError: the folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise no_cache(folder, error) from error
    for file in folder.glob("partial-*.tmp"):
        with suppress(FileNotFoundError):  # another process may finish with it meanwhile
            if time.time() - file.stat().st_mtime > STALE_SECONDS:
                file.unlink()


@contextmanager
def whole_file(file: Path) -> Iterator[IO[bytes]]:
    """A stream to write to; what is written stands under the name `file` once the block has ended without an error.

    Raises:
        OSError: it cannot be written; see `no_cache`.
    """
    with NamedTemporaryFile(dir=file.parent, prefix="partial-", suffix=".tmp", delete=False) as stream:
        temporary = Path(stream.name)
        try:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
            os.replace(temporary, file)
        finally:
            temporary.unlink(missing_ok=True)


def no_cache(folder: Path, error: OSError) -> InputError:
    """The error to raise where the cache cannot be written."""
    return InputError(
        f"could not write to the cache {folder} ({error}); free some space, or name another folder with the "
        "environment variable ITERVAE_CACHE."
    )
