"""The cache: files that cost time to make, in a folder of the user's, each whole or not there at
all.

Processes that make the same file, or are killed, leave whole files or none
(`itervae.files.replacing`). The name of a file says what content and settings it was made from.
"""

import os
from pathlib import Path

from itervae.errors import InputError
from itervae.files import clear_stale


def cache_folder(cache: Path | None = None) -> Path:
    """The folder named, else that of the environment variable ITERVAE_CACHE, else `itervae` in the
    user's cache."""
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
    clear_stale(folder)


def no_cache(folder: Path, error: OSError) -> InputError:
    """The error to raise where the cache cannot be written."""
    return InputError(
        f"could not write to the cache {folder} ({error}); free some space, or name another folder with the "
        "environment variable ITERVAE_CACHE."
    )
