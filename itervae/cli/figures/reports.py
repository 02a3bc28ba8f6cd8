"""The files that figures are drawn from, read and checked."""

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from itervae.errors import InputError

T = TypeVar("T")

SCHEMA = 1
"""Version of the JSON reports that are understood."""


def report(path: Path, kind: str, command: str) -> dict[str, Any]:
    """A JSON report, checked to be one of this kind and schema."""
    if not path.is_file():
        raise InputError(f"there is no report at {path}; write it with {command}")
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        raise InputError(f"{path} cannot be read as JSON ({error}); write it again with {command}") from error
    if not isinstance(report, dict) or _kind(report) != kind:
        raise InputError(f"{path} is no {kind} report; expected what {command} writes")
    if report.get("schema") != SCHEMA:
        raise InputError(
            f"{path} is a {kind} report of schema {report.get('schema')}; expected {SCHEMA}: write it again with "
            f"{command} of this version"
        )
    return report


def _kind(report: dict[str, Any]) -> str | None:
    """The kind that a report says it is; those of `itervae gap` are known by their content."""
    return report.get("kind", "gap" if {"optimal", "engines"} <= report.keys() else None)


def complete(path: Path, read: Callable[[], T]) -> T:
    """What `read` finds in a file; a sentence where the file lacks something."""
    try:
        return read()
    except InputError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise InputError(f"{path} is not whole ({what}); write it again with the command that made it") from error


def numbers(values: list[Any]) -> np.ndarray:
    """A list of a report as floats: null, which stands for a number that is not finite, is NaN."""
    return np.array([math.nan if value is None else value for value in values], dtype=np.float64)


def merged(found: Mapping[Path, Mapping[str, T]]) -> dict[str, T]:
    """What several files hold by name; names that repeat get the file's stem in front."""
    times = Counter(name for named in found.values() for name in named)
    stems = Counter(path.stem for path in found)
    merged = {}
    for path, named in found.items():
        prefix = path.stem if stems[path.stem] == 1 else str(path.with_suffix(""))
        merged |= {name if times[name] == 1 else f"{prefix} {name}": value for name, value in named.items()}
    return merged
