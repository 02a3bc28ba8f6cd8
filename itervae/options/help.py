"""How a command explains itself."""

import io
import re
import shutil
import textwrap
from collections.abc import Collection, Sequence
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, TextIO, get_args, get_origin, get_type_hints

import tyro
from tyro.constructors import StructFieldSpec

from itervae.arguments import listed
from itervae.options.fields import plain

HELP_ALL = "--help-all"
"""Shows the settings too that few runs need: those which a group of settings names in ADVANCED."""
METAVARS = {int: "INT", float: "FLOAT", Path: "PATH", str: "STR"}


def asks_help(args: Sequence[str]) -> bool:
    """Whether a command line asks for help."""
    return any(word in args for word in ("-h", "--help", HELP_ALL))


def explained(text: str, prog: str, hidden: int, examples: Collection[str]) -> str:
    """The help that tyro wrote, the target first, its summary in lines, with what it leaves out and
    examples."""
    usage, _, rest = text.rstrip().partition("\n\n")
    usage = re.sub(r"(\[-h\] \[OPTIONS\]) (.+)", r"\2 \1", uncoloured(usage), count=1)
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


def uncoloured(text: str) -> str:
    """The same without what a terminal takes for colours."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def advanced(kind: Any) -> list[str]:
    """The settings of a command that its groups name in ADVANCED."""
    names = [field.name for field in fields(kind) if field.name in getattr(kind, "ADVANCED", ())]
    for hint in get_type_hints(kind).values():
        names += advanced(hint) if is_dataclass(hint) else []
    return names


class Kept(io.StringIO):
    """What is printed, kept; it looks as on the stream that it is kept from."""

    encoding: Any = None

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self.encoding, self.isatty = stream.encoding, stream.isatty


def shown_field(spec: StructFieldSpec, hidden: Collection[str]) -> StructFieldSpec:
    """A field as tyro is to take it: with its names, its help in one line, whatever the lines of
    the docstring, and nothing said of a default that is none."""
    said, kind, marks = spec.helptext, listed(spec.type), []
    if spec.name in hidden:
        marks.append(tyro.conf.Suppress)
    if spec.default is None or get_origin(plain(kind)) is tuple:
        marks.append(tyro.conf.arg(metavar=metavar(kind), help_behavior_hint=""))
    return replace(
        spec,
        type=Annotated[(kind, *marks)] if marks else kind,
        helptext=lambda: " ".join(((said() if callable(said) else said) or "").split()) or None,
    )


def metavar(hint: Any) -> str | None:
    """What stands for the value of an option that may be left out; None for tyro's own word."""
    said = (
        [each for each in get_args(hint)[1:] if getattr(each, "metavar", None)] if get_origin(hint) is Annotated else []
    )
    if said:
        return said[0].metavar
    kind = plain(hint)
    if get_origin(kind) is tuple:
        one = metavar(get_args(kind)[0])
        return None if one is None else f"{one} ..."
    if get_origin(kind) is Literal:
        return f"{{{','.join(map(str, get_args(kind)))}}}"
    return METAVARS.get(kind)
