"""The files below a folder, through links too."""

import os
import re
from pathlib import Path

from itervae.errors import InputError


def files_below(folder: Path) -> list[Path]:
    """All files below a folder, sorted by path, but for hidden ones: those are caches and resource
    forks.

    Links to folders are followed, after the folders that are there themselves. No folder is gone
    through twice, whatever leads to it, so that a link to a folder above ends, and nothing is read
    under two names. A folder below that cannot be opened stands for its files.

    Raises:
        InputError: the folder cannot be opened.
    """
    found: list[Path] = []
    seen: set[tuple[int, int]] = set()
    waiting, links = [folder], []
    while waiting or links:
        current = waiting.pop() if waiting else links.pop(0)
        try:
            status = current.stat()
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            entries = sorted(os.scandir(current), key=lambda entry: entry.name)
        except OSError as error:
            if current == folder:
                raise InputError(f"the folder {folder} cannot be opened ({error}); allow reading it.") from error
            found.append(current)
            continue
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if os.path.isdir(entry.path):
                (links if entry.is_symlink() else waiting).append(current / entry.name)
            elif os.path.isfile(entry.path) or entry.is_symlink():  # what leads nowhere is said to be unreadable
                found.append(current / entry.name)
    return sorted(found)


def natural(file: Path) -> list[tuple[int, str]]:
    """Number 2 before number 10, to sort by: digits compare as numbers."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"([0-9]+)", file.stem)]
