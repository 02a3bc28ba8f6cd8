"""How answers show themselves: a few lines with shapes, means and ranges in place of all numbers, a
table in a notebook."""

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from html import escape
from typing import Any

import torch
from torch import Tensor

from itervae.errors import described


class Shown:
    """A dataclass whose `repr` is a line for each field, and which a notebook shows as a table."""

    def __repr__(self) -> str:
        rows = list(rows_of(self))
        width = max((len(name) for name, _ in rows), default=0)
        return "\n".join([type(self).__name__, *(f"  {name:<{width}}  {text}".rstrip() for name, text in rows)])

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th style='text-align:left'>{escape(name)}</th><td style='text-align:left'>{escape(text)}</td></tr>"
            for name, text in rows_of(self)
        )
        return f"<table><caption style='text-align:left'>{escape(type(self).__name__)}</caption>{rows}</table>"


def rows_of(value: Any) -> Iterator[tuple[str, str]]:
    """The fields of a dataclass, or the entries of a mapping, by name, with what there is to see of
    each; what is nested follows its name, a step further in. Nothing is said of what is empty."""
    entries = (
        ((each.name, getattr(value, each.name)) for each in fields(value)) if is_dataclass(value) else value.items()
    )
    for name, held in entries:
        if held is None or (isinstance(held, Mapping) and not held):
            continue
        if isinstance(held, Mapping) or (is_dataclass(held) and not isinstance(held, type)):
            yield str(name), "" if isinstance(held, Mapping) else type(held).__name__
            yield from (("  " + inner, text) for inner, text in rows_of(held))
        else:
            yield str(name), summarized(held)


def summarized(value: Any) -> str:
    """A value in a few words: of a tensor its shape, precision, mean and range."""
    if isinstance(value, Tensor):
        return of_tensor(value)
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, torch.distributions.Distribution | torch.nn.Module):
        return repr(value).splitlines()[0].rstrip("(")
    if isinstance(value, list | tuple) and len(value) > 6:
        return f"{len(value)} values"
    if isinstance(value, type):
        return value.__name__
    if isinstance(value, str | int | list | tuple) or hasattr(value, "__fspath__"):
        return str(value)
    return described(value)


def of_tensor(value: Tensor) -> str:
    """Shape, precision, mean and range of a tensor; the number itself where there is one alone."""
    value = value.detach()
    kind = str(value.dtype).removeprefix("torch.") + ("" if value.device.type == "cpu" else f" on {value.device}")
    shape = f"({', '.join(map(str, value.shape))}{',' * (value.ndim == 1)})"
    if value.is_meta or not value.numel():
        return f"{shape} {kind}"
    if value.numel() == 1:
        return f"{shape} {kind}  {value.item():.6g}"
    numbers = value.double()
    fine = numbers.isfinite()
    if not fine.any():
        return f"{shape} {kind}  no finite value"
    known = numbers[fine]
    strange = int((~fine).sum())
    if not strange and known.min() == known.max():
        return f"{shape} {kind}  all {known[0].item():.6g}"
    return (
        f"{shape} {kind}  mean {known.mean():.6g}, {known.min():.6g} to {known.max():.6g}"
        f"{f', {strange} not finite' if strange else ''}"
    )
