"""The options of a command, as a dataclass: parsed by tyro, refused in one sentence, paths and
seeds taken alike.

An option that takes several values is a tuple: `--suite units knn`, for which `--suite units,knn`
is another way.
"""

import io
import os
import sys
import types
from collections.abc import Collection, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import MISSING, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

import tyro
from tyro.constructors import (
    ConstructorRegistry,
    PrimitiveConstructorSpec,
    PrimitiveTypeInfo,
    StructConstructorSpec,
    StructTypeInfo,
)

from itervae.arguments import check_seed
from itervae.errors import InputError
from itervae.options.fields import flag, options_of, plain
from itervae.options.help import HELP_ALL, Kept, advanced, asks_help, explained, shown_field
from itervae.options.refusals import reason
from itervae.own import class_name, import_class
from itervae.paths import check_path

T = TypeVar("T")
NOTHING: Mapping[str, Any] = types.MappingProxyType({})


def parse(
    kind: type[T],
    prog: str,
    args: Sequence[str],
    defaults: Mapping[str, Any] = NOTHING,
    examples: Collection[str] = (),
) -> T:
    """The options on a command line, ~ expanded in every path.

    Args:
        kind: dataclass of the options.
        prog: the command, as it is typed.
        args: what follows it.
        defaults: by name of the field, in place of those of the class.
        examples: command lines that the help ends with.

    Raises:
        InputError: an unknown option, one that is missing or has no value or one of another kind,
            or a seed out of range.
    """
    more: Any = {"default": _with_defaults(kind, defaults)} if defaults else {}
    args = _renamed(kind, args)
    hidden = [] if HELP_ALL in args or not asks_help(args) else advanced(kind)
    args = ["--help" if word == HELP_ALL else word for word in _spread(kind, args)]
    said, shown = io.StringIO(), Kept(sys.stdout)
    try:
        # where tyro explains itself, in a box of many lines, and shows the help
        with redirect_stderr(said), redirect_stdout(shown):
            style = (tyro.conf.OmitArgPrefixes,)
            options = tyro.cli(kind, prog=prog, args=args, config=style, registry=_registry(hidden), **more)
    except SystemExit as stopped:
        if not stopped.code:  # --help
            print(explained(shown.getvalue(), prog, len(hidden), examples))
            raise
        raise InputError(f"{reason(kind, prog, args, said.getvalue())}: see {prog} --help") from None
    return _taken(options)


def _with_defaults(kind: type[T], defaults: Mapping[str, Any]) -> T:
    """The options with these defaults; those that have none still have to be given."""
    known: Any = kind
    required = [f.name for f in fields(known) if f.init and f.default is MISSING and f.default_factory is MISSING]
    return known(**{**dict.fromkeys(required, tyro.MISSING), **defaults})


def _spread(kind: type, args: Sequence[str]) -> list[str]:
    """The same with the values of options that take several one by one: `a,b` is `a b`."""
    several = {name for name, hint in options_of(kind)[0].items() if get_origin(plain(hint)) is tuple}
    found: list[str] = []
    inside = False
    for token in args:
        if token.startswith("--"):
            name, equals, value = token.partition("=")
            inside = name[2:].replace("-", "_") in several
            found += [name, *_parts(value)] if inside and equals else [token]
        else:
            found += _parts(token) if inside else [token]
    return found


def _renamed(kind: Any, args: Sequence[str]) -> list[str]:
    """The same with the names that options have now: a class of options may say in FORMER how they
    were called in earlier versions."""
    names = {flag(old): flag(new) for old, new in getattr(kind, "FORMER", {}).items()}
    parts = [token.partition("=") for token in args]
    return [names.get(name, name) + equals + value for name, equals, value in parts]


def _parts(value: str) -> list[str]:
    for path in (value, value.rpartition(":")[0]):  # the name of a folder, with or without :STEPS, may hold commas
        if os.path.exists(os.path.expanduser(path)):
            return [value]
    return [part.strip() for part in value.split(",") if part.strip()]


def _registry(hidden: Collection[str] = ()) -> ConstructorRegistry:
    """How tyro takes settings that are names of a registry (`OneOf`), as it is now, and classes of
    a user's own; those that are hidden it takes and does not show."""
    registry = ConstructorRegistry()
    within: list[Any] = []  # the groups whose fields tyro itself is asked for

    @registry.struct_rule
    def group(info: StructTypeInfo) -> StructConstructorSpec | None:
        if not is_dataclass(info.type) or info.type in within:
            return None
        within.append(info.type)
        found = ConstructorRegistry.get_struct_spec(info)
        within.pop()
        if not isinstance(found, StructConstructorSpec):
            return None
        return replace(found, fields=tuple(shown_field(spec, hidden) for spec in found.fields))

    @registry.primitive_rule
    def own(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
        if get_origin(info.type) is not type:
            return None
        base = get_args(info.type)[0]
        return PrimitiveConstructorSpec(
            nargs=1,
            metavar="MODULE:CLASS",
            instance_from_str=lambda words: import_class(words[0], base),
            is_instance=lambda value: isinstance(value, type) and issubclass(value, base),
            str_from_instance=lambda value: [class_name(value)],
        )

    return registry


def _taken(options: Any) -> Any:
    """The same with paths expanded, in every group of them; seeds are checked."""
    changed = {}
    for field in fields(options):
        if not field.init:
            continue
        value = getattr(options, field.name)
        if is_dataclass(value):
            changed[field.name] = _taken(value)
        elif isinstance(value, Path):
            changed[field.name] = check_path(value)
        elif isinstance(value, list | tuple) and value and isinstance(value[0], Path):
            changed[field.name] = type(value)(check_path(path) for path in value)
        elif field.name == "seed":
            check_seed(value, "--seed")
    return replace(options, **changed)
