"""Names and what they stand for, which is imported when it is asked for: torch takes seconds, and a
command line is read, refused or explained by names alone."""

from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Listed:
    """What a name stands for, where importing it takes torch.

    Attributes:
        where: MODULE:NAME.
        settings: of a class its `Settings`, known before it is imported; None where it has none, or
            where they are to be taken from the class, which is slower.
    """

    where: str
    settings: type | None = None

    def load(self) -> Any:
        """What is listed, imported."""
        module, _, name = self.where.partition(":")
        return getattr(import_module(module), name)


class Registry(MutableMapping[str, T]):
    """What there is by name, in the order of its list: each the thing itself, or `Listed`.

    To go through the names, or to look whether there is one, imports nothing; `[name]`, `values`
    and `items` do.
    """

    def __init__(self, entries: Mapping[str, T | Listed]) -> None:
        self._entries: dict[str, Any] = dict(entries)

    def __getitem__(self, name: str) -> T:
        entry = self._entries[name]
        if isinstance(entry, Listed):
            entry = self._entries[name] = entry.load()
        return entry

    def __setitem__(self, name: str, value: T) -> None:
        self._entries[name] = value

    def __delitem__(self, name: str) -> None:
        del self._entries[name]

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def settings(self, name: str) -> type:
        """The `Settings` of the class of that name."""
        entry = self._entries[name]
        if isinstance(entry, Listed) and entry.settings is not None:
            return entry.settings
        found: Any = self[name]
        return found.Settings
