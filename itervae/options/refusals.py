"""Why a command line is refused, in words of this project."""

from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from itervae.arguments import nearest
from itervae.options.fields import flag, given, options_of, plain
from itervae.options.help import uncoloured

WORDS = {int: "a whole number", float: "a number", Path: "a path", str: "text", bool: "no value, or --no- before it"}


def reason(kind: type, prog: str, args: Sequence[str], said: str) -> str:
    """Why tyro refused a command line: in words of this project where it can be seen, else in
    tyro's own."""
    hints, required, positional = options_of(kind)
    found = given(kind, args)
    said = uncoloured(said)
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


def _unfit(hint: Any, values: list[str]) -> str:
    """What is wrong with the values of an option of that type."""
    hint = plain(hint)
    if get_origin(hint) is tuple:
        hint = get_args(hint)[0]
    choices = get_args(hint) if get_origin(hint) is Literal else ()
    expected = f"one of {', '.join(choices)}" if choices else WORDS.get(hint, "another value")
    if not values:
        return f"was given no value; expected {expected}"
    unfit = [value for value in values if value not in choices] if choices else [" ".join(values)]
    near = nearest(unfit[0], choices) if choices else ""
    return f"is {unfit[0]!r}; {near}expected {expected}"
