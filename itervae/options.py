"""The options of a command, as a dataclass: parsed by tyro, refused in one sentence, paths and
seeds taken alike.

An option that takes several values is a tuple: `--suite units knn`, for which `--suite units,knn`
is another way.
"""

import io
import os
import re
import shutil
import sys
import textwrap
import types
from collections.abc import Collection, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import MISSING, fields, is_dataclass, replace
from itertools import takewhile
from pathlib import Path
from typing import Annotated, Any, Literal, TextIO, TypeVar, get_args, get_origin, get_type_hints

import tyro
from tyro.constructors import (
    ConstructorRegistry,
    PrimitiveConstructorSpec,
    PrimitiveTypeInfo,
    StructConstructorSpec,
    StructFieldSpec,
    StructTypeInfo,
)

from itervae.arguments import check_seed, listed, nearest, setting_kinds
from itervae.errors import InputError
from itervae.own import class_name, import_class
from itervae.paths import check_path

METAVARS = {int: "INT", float: "FLOAT", Path: "PATH", str: "STR"}
T = TypeVar("T")
NOTHING: Mapping[str, Any] = types.MappingProxyType({})
WORDS = {int: "a whole number", float: "a number", Path: "a path", str: "text", bool: "no value, or --no- before it"}


HELP_ALL = "--help-all"
"""Shows the settings too that few runs need: those which a group of settings names in ADVANCED."""


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
    hidden = [] if HELP_ALL in args or not asks_help(args) else _advanced(kind)
    args = ["--help" if word == HELP_ALL else word for word in _spread(kind, args)]
    said, shown = io.StringIO(), _Shown(sys.stdout)
    try:
        # where tyro explains itself, in a box of many lines, and shows the help
        with redirect_stderr(said), redirect_stdout(shown):
            style = (tyro.conf.OmitArgPrefixes,)
            options = tyro.cli(kind, prog=prog, args=args, config=style, registry=_registry(hidden), **more)
    except SystemExit as stopped:
        if not stopped.code:  # --help
            print(_explained(shown.getvalue(), prog, len(hidden), examples))
            raise
        raise InputError(f"{_reason(kind, prog, args, said.getvalue())}: see {prog} --help") from None
    return _taken(options)


def asks_help(args: Sequence[str]) -> bool:
    """Whether a command line asks for help."""
    return any(word in args for word in ("-h", "--help", HELP_ALL))


def _explained(text: str, prog: str, hidden: int, examples: Collection[str]) -> str:
    """The help that tyro wrote, the target first, its summary in lines, with what it leaves out and
    examples."""
    usage, _, rest = text.rstrip().partition("\n\n")
    usage = re.sub(r"(\[-h\] \[OPTIONS\]) (.+)", r"\2 \1", _uncoloured(usage), count=1)
    summary, blank, boxes = rest.partition("\n\n")
    width = shutil.get_terminal_size().columns
    usage = textwrap.fill(usage, width, subsequent_indent="    ", break_on_hyphens=False)
    boxes = boxes.replace(none := "(default: )", " " * len(none))  # of several values, none of them
    parts = [usage, textwrap.fill(summary, width), boxes] if blank else [usage, rest]
    if hidden:
        parts.append(f"{hidden} more settings, which few runs need: {prog} {HELP_ALL}")
    if examples:
        parts.append("\n".join(["examples:", *(f"  {example}" for example in examples)]))
    return "\n\n".join(parts)


def _uncoloured(text: str) -> str:
    """The same without what a terminal takes for colours."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def _advanced(kind: Any) -> list[str]:
    """The settings of a command that its groups name in ADVANCED."""
    names = [field.name for field in fields(kind) if field.name in getattr(kind, "ADVANCED", ())]
    for hint in get_type_hints(kind).values():
        names += _advanced(hint) if is_dataclass(hint) else []
    return names


def given(kind: type, args: Sequence[str]) -> dict[str, list[str]]:
    """The options on a command line, by the names of their fields, with the words that follow
    each."""
    known = _options(kind)[0]
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


def _with_defaults(kind: type[T], defaults: Mapping[str, Any]) -> T:
    """The options with these defaults; those that have none still have to be given."""
    known: Any = kind
    required = [f.name for f in fields(known) if f.init and f.default is MISSING and f.default_factory is MISSING]
    return known(**{**dict.fromkeys(required, tyro.MISSING), **defaults})


class _Shown(io.StringIO):
    """What is printed, kept; it looks as on the stream that it is kept from."""

    encoding: Any = None

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self.encoding, self.isatty = stream.encoding, stream.isatty


def _spread(kind: type, args: Sequence[str]) -> list[str]:
    """The same with the values of options that take several one by one: `a,b` is `a b`."""
    several = {name for name, hint in _options(kind)[0].items() if get_origin(_plain(hint)) is tuple}
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


def _parts(value: str) -> list[str]:
    for path in (value, value.rpartition(":")[0]):  # the name of a folder, with or without :STEPS, may hold commas
        if os.path.exists(os.path.expanduser(path)):
            return [value]
    return [part.strip() for part in value.split(",") if part.strip()]


def _field(spec: StructFieldSpec, hidden: Collection[str]) -> StructFieldSpec:
    """A field as tyro is to take it: with its names, its help in one line, whatever the lines of
    the docstring, and nothing said of a default that is none."""
    said, kind, marks = spec.helptext, listed(spec.type), []
    if spec.name in hidden:
        marks.append(tyro.conf.Suppress)
    if spec.default is None or get_origin(_plain(kind)) is tuple:
        marks.append(tyro.conf.arg(metavar=_metavar(kind), help_behavior_hint=""))
    return replace(
        spec,
        type=Annotated[(kind, *marks)] if marks else kind,
        helptext=lambda: " ".join(((said() if callable(said) else said) or "").split()) or None,
    )


def _metavar(hint: Any) -> str | None:
    """What stands for the value of an option that may be left out; None for tyro's own word."""
    said = (
        [each for each in get_args(hint)[1:] if getattr(each, "metavar", None)] if get_origin(hint) is Annotated else []
    )
    if said:
        return said[0].metavar
    kind = _plain(hint)
    if get_origin(kind) is tuple:
        one = _metavar(get_args(kind)[0])
        return None if one is None else f"{one} ..."
    if get_origin(kind) is Literal:
        return f"{{{','.join(map(str, get_args(kind)))}}}"
    return METAVARS.get(kind)


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
        return replace(found, fields=tuple(_field(spec, hidden) for spec in found.fields))

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


def _reason(kind: type, prog: str, args: Sequence[str], said: str) -> str:
    """Why tyro refused a command line: in words of this project where it can be seen, else in
    tyro's own."""
    hints, required, positional = _options(kind)
    found = given(kind, args)
    said = _uncoloured(said)
    for name in found:
        if name not in hints:
            hint = nearest(name, hints)
            meant = hint.replace(near := hint[len("did you mean ") : -2], flag(near)) if hint else ""
            return f"{flag(name)} is no option of this command; {meant}expected one that is"
    targets = list(takewhile(lambda word: not word.startswith("-"), args))
    if "Unrecognized options" in said and positional and len(targets) > 1:
        return f"{targets[1]} was given too; expected one {positional[0]}, and then options"
    if args and not args[0].startswith("-") and not positional:
        return f"{args[0]} was given to {prog}, which takes no input; leave it out"
    if "Required options" in said and positional and (not args or args[0].startswith("-")):
        return f"no {positional[0]} was named; expected one, before the options"
    if missing := [flag(name) for name in required if name not in found]:
        return f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing; expected a value for each"
    for name, values in found.items():
        if flag(name) in said and name in hints:
            return f"{flag(name)} {_unfit(hints[name], values)}"
    plain = " ".join("".join(" " if letter in "│╭╮╰╯─" else letter for letter in said).split())
    return plain.partition(" For full helptext")[0] + "; expected options as the help lists them"


def _plain(hint: Any) -> Any:
    """The type without the None that stands for an option left out."""
    return next(kind for kind in setting_kinds(hint) if kind is not types.NoneType)


def _unfit(hint: Any, values: list[str]) -> str:
    """What is wrong with the values of an option of that type."""
    hint = _plain(hint)
    if get_origin(hint) is tuple:
        hint = get_args(hint)[0]
    choices = get_args(hint) if get_origin(hint) is Literal else ()
    expected = f"one of {', '.join(choices)}" if choices else WORDS.get(hint, "another value")
    if not values:
        return f"was given no value; expected {expected}"
    unfit = [value for value in values if value not in choices] if choices else [" ".join(values)]
    near = nearest(unfit[0], choices) if choices else ""
    return f"is {unfit[0]!r}; {near}expected {expected}"


def _options(kind: type) -> tuple[dict[str, Any], list[str], list[str]]:
    """The type of each option by name, those that have to be given, and the arguments without a
    flag."""
    hints, required, positional = {}, [], []
    marked = get_type_hints(kind, include_extras=True)
    for field in fields(kind):
        if not field.init:
            continue
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


def flag(name: str) -> str:
    """The option of a field: --data-path of data_path."""
    return "--" + name.replace("_", "-")
