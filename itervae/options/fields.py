"""The options of a dataclass by name, and those on a command line."""

import types
from collections.abc import Sequence
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, get_type_hints

from itervae.arguments import setting_kinds


def given(kind: type, args: Sequence[str]) -> dict[str, list[str]]:
    """The options on a command line, by the names of their fields, with the words that follow
    each."""
    known = options_of(kind)[0]
    found: dict[str, list[str]] = {}
    words: list[str] = []
    for token in args:
        if not token.startswith("--"):
            words.append(token)
            continue
        name, equals, value = token[2:].partition("=")
        name = name.replace("-", "_")
        if name not in known and name.removeprefix("no_") in known:  # --no-whiten
            name = name.removeprefix("no_")
        found[name] = words = [value] if equals else []
    return found


def plain(hint: Any) -> Any:
    """The type without the None that stands for an option left out."""
    return next(kind for kind in setting_kinds(hint) if kind is not types.NoneType)


def options_of(kind: type) -> tuple[dict[str, Any], list[str], list[str]]:
    """The type of each option by name, those that have to be given, and the arguments without a
    flag."""
    hints, required, positional = {}, [], []
    marked = get_type_hints(kind, include_extras=True)
    for field in fields(kind):
        if not field.init:
            continue
        hint = get_type_hints(kind)[field.name]
        if is_dataclass(hint):
            hints |= options_of(hint)[0]  # pyright: ignore[reportArgumentType]
        elif "Positional" in str(marked[field.name]):
            positional.append(field.name)
        else:
            hints[field.name.rstrip("_")] = marked[field.name]  # as_ stands for a word of Python
            if field.default is MISSING and field.default_factory is MISSING:
                required.append(field.name)
    return hints, required, positional


def flag(name: str) -> str:
    """The option of a field: --data-path of data_path."""
    return "--" + name.replace("_", "-")
