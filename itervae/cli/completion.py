"""`itervae completion SHELL`: a script by which a shell completes commands, options and files."""

import argparse
import types
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import shtab

from itervae.arguments import check_choice, listed, setting_kinds
from itervae.cli.figures import FIGURES
from itervae.config.command import command_of
from itervae.config.kinds import Kinds
from itervae.errors import InputError
from itervae.inference import ENGINES
from itervae.model import MODELS
from itervae.options import flag
from itervae.sequence import CARRYOVERS
from itervae.training.groups import groups_of

HOW = {
    "bash": "itervae completion bash > ~/.local/share/bash-completion/completions/itervae",
    "zsh": "itervae completion zsh > ~/.zfunc/_itervae    # a folder of $fpath, before compinit",
    "tcsh": "itervae completion tcsh >> ~/.cshrc",
}
"""How the script of each shell is put in its place."""
USAGE = (
    "usage: itervae completion SHELL\n\nPrint a script by which a shell completes commands, options, choices and files."
)


def run(args: Sequence[str]) -> None:
    """Print the script of the shell that the first word names."""
    if args and args[0] in ("-h", "--help", "--help-all"):
        print("\n".join([USAGE, "", *(f"  {shell:5} {line}" for shell, line in HOW.items())]))
        raise SystemExit(0)
    if len(args) != 1:
        found = f"{len(args)} shells were named" if args else "no shell was named"
        raise InputError(f"{found}; expected one of {', '.join(HOW)}")
    check_choice("the shell", args[0], HOW)
    print(shtab.complete(parser(), args[0]))


def parser() -> argparse.ArgumentParser:
    """A parser of all commands, with the options that each takes with some engine, model and data;
    for its script alone."""
    from itervae.cli import COMMANDS

    whole = argparse.ArgumentParser("itervae")
    whole.add_argument("--version", action="store_true")
    commands = whole.add_subparsers()
    for name, what in COMMANDS.items():
        command = commands.add_parser(name, help=what)
        if name == "figure":
            kinds = command.add_subparsers()
            for kind, figure in FIGURES.items():
                _add(kinds.add_parser(kind, help=""), [figure])
        elif name == "completion":
            command.add_argument("shell", choices=list(HOW))
        else:
            _add(command, _train() if name == "train" else [_kind(name)])
    return whole


def _train() -> list[type]:
    """All groups of settings that `itervae train` can have."""
    kinds = [command_of(Kinds.of({}, {}))]
    for engine in ENGINES:
        for model in MODELS:
            for carryover in CARRYOVERS:
                kinds += groups_of(engine, model, carryover)
    return list(dict.fromkeys(kinds))


def _kind(name: str) -> type:
    """The dataclass of a command's options."""
    return import_module(f"itervae.cli.{name.replace('-', '_')}").run.func.__self__


def _add(command: argparse.ArgumentParser, kinds: Sequence[type]) -> None:
    """Give a command the options of some dataclasses, each name once."""
    seen = set()
    for kind in kinds:
        for name, hint, positional in _options(kind):
            if name in seen:
                continue
            seen.add(name)
            words = [name] if positional else [flag(name)]
            found = [listed(each) for each in setting_kinds(hint) if each is not types.NoneType]
            more: dict[str, Any] = {}
            inner = [get_args(each)[0] if get_origin(each) is tuple else each for each in found]
            choices = [choice for each in inner if get_origin(each) is Literal for choice in get_args(each)]
            if bool in inner:
                command.add_argument(*words, flag(f"no_{name}"), action="store_true")
                continue
            if any(get_origin(each) is tuple for each in found):
                more["nargs"] = "*"
            action = command.add_argument(*words, choices=choices or None, **more)
            if Path in inner or positional:
                action.complete = shtab.FILE  # pyright: ignore[reportAttributeAccessIssue]


def _options(kind: type) -> Iterator[tuple[str, Any, bool]]:
    """Name, type and whether it has no flag, of each option of a dataclass and the groups in it."""
    hints, marked = get_type_hints(kind), get_type_hints(kind, include_extras=True)
    for field in fields(kind):
        if not field.init:
            continue
        if is_dataclass(hints[field.name]):
            yield from _options(hints[field.name])
        else:
            yield field.name.rstrip("_"), hints[field.name], "Positional" in str(marked[field.name])
