"""Arguments of another kind than they should be, or out of range: refused in one sentence, by every
layer alike."""

import difflib
import math
import numbers
import types
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np

from itervae.errors import InputError, described

if TYPE_CHECKING:
    from torch import Tensor

SEEDS = 2**63
"""So many seeds are taken: what is made beside the model has the seeds that follow, and torch knows
2^64."""


def check_kind(name: str, value: Any, kind: Any, expected: str) -> None:
    """Refuse what is no object of `kind`, a class or several; `expected` says what is, and how it
    is made."""
    if not isinstance(value, kind):
        raise InputError(f"{name} is {described(value)}; expected {expected}")


def check_whole(name: str, value: Any, least: int = 0) -> None:
    """Refuse what is no whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise InputError(f"{name} is {described(value)}; expected a whole number ≥ {least}")
    if value < least:
        raise InputError(f"{name} is {value}; expected a number ≥ {least}")


def check_seed(seed: Any, name: str = "seed") -> None:
    """Refuse what is no seed of a generator of torch."""
    whole = isinstance(seed, int | np.integer) and not isinstance(seed, bool)
    if not whole or not 0 <= seed < SEEDS:
        raise InputError(f"{name} is {described(seed)}; expected a whole number from 0 to 2^63 - 1")


def check_positive(name: str, value: Any, more: str = "") -> float:
    """The number, refused where it is not positive and finite; `more` ends the message."""
    number = as_number(value)
    if number is None or not 0 < number < math.inf:
        raise InputError(f"{name} is {described(value)}; expected a positive number{more}")
    return number


def check_finite(name: str, value: Any) -> float:
    """The number, refused where it is none or not finite."""
    number = as_number(value)
    if number is None or not math.isfinite(number):
        raise InputError(f"{name} is {described(value)}; expected a finite number")
    return number


def as_number(value: Any) -> float | None:
    """A real number, or an array or tensor of one without dimensions, as a float; None for anything
    else."""
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):  # of NumPy or torch
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return None
    return float(value)


def check_choice(name: str, value: Any, known: Collection[str], more: str = "") -> None:
    """Refuse a name that is not among the known ones, and say which is near; `more` ends the
    message."""
    if not isinstance(value, str) or value not in known:
        hint = nearest(value, known)
        raise InputError(f"{name} is {described(value)}; {hint}expected one of {', '.join(known)}{more}")


def nearest(value: Any, known: Collection[str]) -> str:
    """'did you mean NAME? ', or nothing where no known name is near."""
    near = difflib.get_close_matches(str(value), known, 1)
    return f"did you mean {near[0]}? " if near else ""


def check_shape(shape: Any) -> tuple[int, ...]:
    """The shape of a datum, (H, W) or (D,), as a tuple."""
    if not isinstance(shape, Collection) or isinstance(shape, str) or not len(shape):
        such = f"({shape},)" if isinstance(shape, int) else "(16, 16)"
        raise InputError(f"shape is {described(shape)}; expected the sizes of a datum, such as {such}")
    for size in shape:
        if isinstance(size, bool) or not isinstance(size, int | np.integer) or size < 1:
            raise InputError(f"shape is {tuple(shape)}; expected whole numbers ≥ 1, such as (16, 16)")
    return tuple(int(size) for size in shape)


def check_devices(x: "Tensor", others: Mapping[str, Any]) -> None:
    """Refuse tensors and generators on another device than x, by what they are called; None
    passes."""
    for name, other in others.items():
        device = x.device if other is None else other.device
        if device.type != x.device.type or (device.index or 0) != (x.device.index or 0):
            raise InputError(f"x is on {x.device} and {name} is on {device}; expected all on one: move one with .to()")
    if x.is_meta:
        raise InputError("x is on meta, a device that holds no values; expected cpu or cuda: move all with .to()")


def check_generator(generator: Any) -> None:
    """Refuse a seed, or anything else, for a generator."""
    if generator is not None:
        import torch

        how = "a torch.Generator: use torch.Generator().manual_seed(seed)"
        check_kind("generator", generator, torch.Generator, how)


@dataclass(frozen=True, eq=False)  # hashed as itself
class OneOf:
    """What the annotation of a setting says where its names are the keys of a registry:
    Annotated[str, OneOf(ENGINES)].

    The names are looked up when they are needed, so that what is added to the registry is one of
    them.
    """

    known: Collection[str]
    members: bool = False
    """Whether a name may be followed by a colon and the name of a member: NAME:MEMBER."""


@dataclass(frozen=True)
class AtLeast:
    """What the annotation of a setting says of a whole number: Annotated[int, AtLeast(1)]."""

    least: int

    def check(self, name: str, value: Any) -> None:
        check_whole(name, value, self.least)


@dataclass(frozen=True)
class Positive:
    """What the annotation of a setting says of a positive number: Annotated[float, Positive()];
    `more` ends the message."""

    more: str = ""

    def check(self, name: str, value: Any) -> None:
        check_positive(name, value, self.more)


def listed(hint: Any) -> Any:
    """The annotation of a setting, with Literal[NAMES] for a name of a registry, and text beside it
    for one with members."""
    if get_origin(hint) is Annotated:
        one = next((each for each in get_args(hint)[1:] if isinstance(each, OneOf)), None)
        if one is None:
            return hint
        names = Literal[tuple(one.known)]  # pyright: ignore[reportInvalidTypeForm]
        return Union[names, str] if one.members else names  # noqa: UP007 (of a value)
    if get_origin(hint) is tuple:  # of several names
        return tuple[tuple(map(listed, get_args(hint)))]  # pyright: ignore[reportInvalidTypeArguments]
    if get_origin(hint) in (Union, types.UnionType):
        return Union[tuple(map(listed, get_args(hint)))]  # noqa: UP007 (of a tuple)
    return hint


def setting_kinds(hint: Any) -> tuple[Any, ...]:
    """The kinds of value that the annotation of a setting allows."""
    hint = listed(hint)
    if get_origin(hint) is Annotated:  # of other words beside it
        hint = get_args(hint)[0]
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def _bounds(hint: Any) -> list[AtLeast | Positive]:
    """What the annotation of a setting says of its numbers."""
    found = [each for each in get_args(hint) if isinstance(each, AtLeast | Positive)]
    return found + [bound for each in get_args(hint) for bound in _bounds(each)]


def check_fields(settings: Any, kind: type) -> None:
    """Refuse what is no object of a settings class, or has a value that its annotation does not
    allow."""
    check_kind("settings", settings, kind, f"{kind.__name__}(...)")
    for field, annotation in get_type_hints(type(settings), include_extras=True).items():
        name, value, kinds = f"`{field}`", getattr(settings, field), setting_kinds(annotation)
        if value is None and types.NoneType in kinds:
            continue
        bases = [get_args(each)[0] for each in kinds if get_origin(each) is type]  # classes of a user's own
        if isinstance(value, type) and any(issubclass(value, base) for base in bases):
            continue
        hint = next(each for each in kinds if each is not types.NoneType)
        if get_origin(hint) is Literal:
            check_choice(name, value, get_args(hint), ", or a class of your own" if bases else "")
        elif hint is bool:
            check_kind(name, value, bool, "True or False")
        elif hint is int and (isinstance(value, bool) or not isinstance(value, int | np.integer)):
            raise InputError(f"{name} is {described(value)}; expected a whole number")
        elif hint is float and as_number(value) is None:
            raise InputError(f"{name} is {described(value)}; expected a number")
        for bound in _bounds(annotation):
            bound.check(name, value)
