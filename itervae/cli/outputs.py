"""Outputs of a command are checked before its work: their names, and that they can be written."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from itervae.errors import InputError
from itervae.training.files import is_of_run


def check_outputs(
    options: Any, suffixes: Mapping[str, str | tuple[str, ...]], inputs: Iterable[Path] = ()
) -> dict[str, Path]:
    """The files to write, by option; refused where they cannot be written, are named twice, or
    would replace an input.

    Args:
        options: of the command; an output that is None is not asked for.
        suffixes: the option of each output, and what its name has to end in, or several endings; ""
            for any.
        inputs: files that the command reads.

    Raises:
        InputError: names the option.
    """
    asked: dict[str, Path] = {}
    taken = {os.path.realpath(path): "what the command reads" for path in inputs}
    for name, suffix in suffixes.items():
        path, flag = getattr(options, name), f"--{name}"
        if path is None:
            continue
        endings = (suffix,) if isinstance(suffix, str) else suffix
        ending = path.suffix if suffix == ".npz" else path.suffix.lower()  # NumPy adds its own to any other
        if suffix and ending not in endings:
            raise InputError(f"{flag} is {path}; expected a name ending in {' or '.join(endings)}")
        if (place := os.path.realpath(path)) in taken:
            raise InputError(f"{flag} is {path}, and so is {taken[place]}; expected another name")
        if is_of_run(Path(place)):
            raise InputError(f"{flag} is {path}, a file of the run in that folder; expected another name")
        taken[place] = flag
        _check_place(flag, path)
        asked[name] = path
    return asked


def _check_place(flag: str, path: Path) -> None:
    if os.path.isdir(path):
        raise InputError(f"{flag} is {path}, a folder; expected the name of a file")
    if os.path.exists(path) and not os.path.isfile(path):  # a device, which would be replaced by a file
        raise InputError(f"{flag} is {path}, no ordinary file; expected the name of one, or of a new one")
    folder = path.parent
    while not os.path.lexists(folder):
        folder = folder.parent
    if not os.path.isdir(folder):
        raise InputError(f"{flag} is {path}, and {folder} is no folder; expected a file in one")
    probe = folder / f".{path.name}.{os.getpid()}.tmp"  # what will be written first, and has the longest name
    try:
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(
            f"{flag} is {path}, which cannot be written ({error.strerror} in {folder}); name another place"
        ) from error
