"""Paths that a user gives, in which ~ is the home folder."""

import os
from pathlib import Path
from typing import Any

from itervae.errors import InputError, described


def check_path(path: Any) -> Path:
    """The path, with ~ expanded; InputError for anything that is none."""
    if not isinstance(path, str | os.PathLike):
        raise InputError(f"path is {described(path)}; expected a path: a string or a pathlib.Path")
    return Path(os.path.expanduser(path))  # unlike that of Path, it leaves ~nobody as it is
