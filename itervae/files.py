"""Files that are written whole or not at all."""

import os
from pathlib import Path

import numpy as np

from itervae.errors import InputError


def write_arrays(path: str | Path, arrays: dict[str, np.ndarray]) -> None:
    """Write named arrays to an .npz file: to a temporary one beside it first, then in place.

    Raises:
        InputError: the name does not end in .npz, or the file cannot be written; what stood there is untouched.
    """
    path = Path(path)
    if path.suffix != ".npz":
        raise InputError(f"the file to write is named {path}; expected a name ending in .npz")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            np.savez(file, **arrays)  # pyright: ignore[reportArgumentType]
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise InputError(f"could not write {path} ({error}); free some space or name another place") from error
