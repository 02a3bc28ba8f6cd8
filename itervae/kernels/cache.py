"""A cache of numba's compiled code that does no harm where it is damaged or cannot be written.

numba reads and writes its cache when a function is first called, and passes every error there on to
the caller. Here the function is compiled instead, as if there were no cache, and one warning says
so.
"""

import contextlib
import pickle
import sys
import warnings
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any

_DAMAGED = (
    OSError, EOFError, pickle.UnpicklingError, RuntimeError, ValueError, LookupError, TypeError, AttributeError,
    ImportError, MemoryError,
)  # fmt: skip
"""Errors raised by reading a damaged pickle, or by writing to a full disk."""


class SafeCache:
    """A cache of one compiled function that gives nothing where its files cannot be read, and keeps
    nothing where they cannot be written."""

    def __init__(self, kept: Any) -> None:
        self._kept = kept

    def __getattr__(self, name: str) -> Any:
        return getattr(self._kept, name)

    def load_overload(self, *given: Any) -> Any:
        found = None
        try:
            found = self._kept.load_overload(*given)
        except _DAMAGED as error:
            _say(f"{self._kept.cache_path}: {type(error).__name__} {error}")
            with contextlib.suppress(*_DAMAGED):
                self._kept.flush()  # an empty index, for what is compiled now
        if found is None:
            _compiling()
        return found

    def save_overload(self, *given: Any) -> None:
        try:
            self._kept.save_overload(*given)
        except _DAMAGED as error:
            _say(f"{self._kept.cache_path}: {type(error).__name__} {error}")


@cache
def _compiling() -> None:
    """Say, once, what takes so long where code is compiled that was not kept from before."""
    print("itervae compiles the steps of inference for this machine, once: up to a minute", file=sys.stderr, flush=True)


def import_compiled(name: str) -> ModuleType:
    """Import a module whose functions numba compiles and caches."""
    try:
        module = import_module(name)
    except (OSError, RuntimeError) as error:  # no folder for the cache, say
        with _uncached():
            module = import_module(name)
        _say(str(error))
    for value in vars(module).values():
        kept = getattr(value, "_cache", None)
        if hasattr(kept, "load_overload") and not isinstance(kept, SafeCache):
            value._cache = SafeCache(kept)
    return module


@contextlib.contextmanager
def _uncached() -> Iterator[None]:
    """Functions that are made meanwhile have no cache, though they ask for one."""
    from numba.core.dispatcher import Dispatcher

    before = Dispatcher.enable_caching
    Dispatcher.enable_caching = lambda self: None
    try:
        yield
    finally:
        Dispatcher.enable_caching = before


@cache
def _once() -> list[str]:
    return []


def _say(why: str) -> None:
    said = _once()
    if not said:
        said.append(why)
        first = why.partition("\n")[0]
        warnings.warn(
            f"compiled code could not be read or kept ({first}) and is made anew, in some seconds; if this comes "
            "again, empty that folder, free some space, or name another with NUMBA_CACHE_DIR",
            stacklevel=3,
        )
