"""What a measurement refuses before it begins: arguments of the wrong kind, and data that nothing
is measured on."""

from typing import Any

import torch
from torch import Tensor

from itervae.arrays import as_tensor
from itervae.errors import InputError
from itervae.inference.checks import as_data, check_engine
from itervae.model import GenerativeModel

BATCH, LATENTS = 1000, 2**22
"""Data that are measured together, and latents of all of them, at most."""


def check_measured(model: Any, engines: Any, x: Any) -> tuple[GenerativeModel, Tensor]:
    """The model for data of this shape, and the data as a tensor (N, D); what is no model, no
    engines or no data is refused."""
    met, _, _ = as_data(model, x)
    x = as_tensor("x", x, model.beta).reshape(-1, met.size)
    for engine in engines:
        check_engine(engine)
    if len(x) == 0:
        raise InputError("there are no data to measure on; expected at least one row")
    return met, x


def batches(model: GenerativeModel, x: Tensor) -> tuple[Tensor, ...]:
    """The data (N, D) in batches that are measured together."""
    return x.split(max(1, min(BATCH, LATENTS // model.latents)))


def check_varied(x: Tensor) -> None:
    """Refuse data (N, D) that are all the same, of which no mean has a standard error and nothing
    can be compared."""
    if len(x) > 1 and torch.equal(x, x[:1].expand_as(x)):
        raise InputError(f"all {len(x)} data are the same; expected some that differ: measure one of them, or others")
