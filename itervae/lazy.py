"""Packages whose names are imported when they are first used, since torch takes seconds."""

import ast
import sys
from collections.abc import Callable
from functools import cache, partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any


def lazily(package: str) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The `__getattr__` and `__dir__` of a package: a name that its `__init__.py` imports for type
    checkers alone, under `if TYPE_CHECKING`, is imported when it is first used, and so are the
    parts of the package. No such name may be that of a part.

        if TYPE_CHECKING:
            from itervae.inference.driver import infer

        __getattr__, __dir__ = lazily(__name__)
    """
    homes = cache(partial(_homes, package))

    def get(name: str) -> Any:
        if not name.startswith("__"):
            if name in homes():
                value = getattr(import_module(homes()[name]), name)
                setattr(sys.modules[package], name, value)
                return value
            if find_spec(f"{package}.{name}") is not None:
                return import_module(f"{package}.{name}")
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return get, lambda: sorted({*vars(sys.modules[package]), *homes()})


def _homes(package: str) -> dict[str, str]:
    """Name → module, of what a package imports for type checkers alone."""
    spec = sys.modules[package].__spec__
    assert spec is not None
    loader: Any = spec.loader
    blocks = [node for node in ast.parse(loader.get_source(package)).body if isinstance(node, ast.If)]
    imports = [node for block in blocks for node in block.body if isinstance(node, ast.ImportFrom)]
    return {alias.name: node.module or "" for node in imports for alias in node.names}
