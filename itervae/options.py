"""The options of a command, as a dataclass: parsed by tyro, refused in one sentence, paths and seeds taken alike."""

import io
import types
from collections.abc import Sequence
from contextlib import redirect_stderr
from dataclasses import MISSING, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import tyro
from tyro.constructors import (
    ConstructorRegistry,
    PrimitiveConstructorSpec,
    PrimitiveTypeInfo,
    StructConstructorSpec,
    StructTypeInfo,
)

from itervae.arguments import check_seed, listed, nearest, setting_kinds
from itervae.errors import InputError
from itervae.own import class_name, import_class
from itervae.paths import check_path

T = TypeVar("T")
WORDS = {int: "a whole number", float: "a number", Path: "a path", str: "text", bool: "no value, or --no- before it"}


def parse(kind: type[T], prog: str, args: Sequence[str]) -> T:
    """The options on a command line, ~ expanded in every path.

    Raises:
        InputError: an unknown option, one that is missing or has no value or one of another kind, or a seed out of
            range.
    """
    said = io.StringIO()
    try:
        with redirect_stderr(said):  # where tyro explains itself in a box of many lines
            options = tyro.cli(
                kind, prog=prog, args=list(args), config=(tyro.conf.OmitArgPrefixes,), registry=_registry()
            )
    except SystemExit as stopped:
        if not stopped.code:  # --help
            raise
        raise InputError(f"{_reason(kind, args, said.getvalue())}: see {prog} --help") from None
    return _taken(options)


def _registry() -> ConstructorRegistry:
    """How tyro takes settings that are names of a registry (`OneOf`), as it is now, and classes of a user's own."""
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
        return replace(found, fields=tuple(replace(field, type=listed(field.type)) for field in found.fields))

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


def _reason(kind: type, args: Sequence[str], said: str) -> str:
    """Why tyro refused a command line: in words of this project where it can be seen, else in tyro's own."""
    hints, required, positional = _options(kind)
    given = {}
    for place, token in enumerate(args):
        if not token.startswith("--"):
            continue
        name, equals, value = token[2:].partition("=")
        rest = list(args[place + 1 :])
        end = next((i for i, other in enumerate(rest) if other.startswith("--")), len(rest))
        given[name.replace("-", "_")] = [value] if equals else rest[:end]
    for name in given:
        if name not in hints and name.removeprefix("no_") not in hints:
            hint = nearest(name, hints)
            meant = hint.replace(near := hint[len("did you mean ") : -2], _flag(near)) if hint else ""
            return f"{_flag(name)} is no option of this command; {meant}expected one that is"
    if missing := [_flag(name) for name in required if name not in given]:
        return f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing; expected a value for each"
    for name, values in given.items():
        if _flag(name) in said and name in hints:
            return f"{_flag(name)} {_unfit(hints[name], values)}"
    if "Required options" in said and positional:
        return f"no {positional[0]} was named; expected one"
    plain = " ".join("".join(" " if letter in "│╭╮╰╯─" else letter for letter in said).split())
    return plain.partition(" For full helptext")[0] + "; expected options as the help lists them"


def _unfit(hint: Any, values: list[str]) -> str:
    """What is wrong with the values of an option of that type."""
    kinds = setting_kinds(hint)
    hint = next(kind for kind in kinds if kind is not types.NoneType)
    if get_origin(hint) is tuple:
        hint = get_args(hint)[0]
    choices = get_args(hint) if get_origin(hint) is Literal else ()
    expected = f"one of {', '.join(choices)}" if choices else WORDS.get(hint, "another value")
    if not values:
        return f"was given no value; expected {expected}"
    near = nearest(values[0], choices) if choices else ""
    return f"is {' '.join(values)!r}; {near}expected {expected}"


def _options(kind: type) -> tuple[dict[str, Any], list[str], list[str]]:
    """The type of each option by name, those that have to be given, and the arguments without a flag."""
    hints, required, positional = {}, [], []
    marked = get_type_hints(kind, include_extras=True)
    for field in fields(kind):
        hint = get_type_hints(kind)[field.name]
        if is_dataclass(hint):
            hints |= _options(hint)[0]  # pyright: ignore[reportArgumentType]
        elif "Positional" in str(marked[field.name]):
            positional.append(field.name)
        else:
            hints[field.name.rstrip("_")] = marked[field.name]  # as_ stands for a word of Python
            if field.default is MISSING and field.default_factory is MISSING:
                required.append(field.name)
    return hints, required, positional


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
