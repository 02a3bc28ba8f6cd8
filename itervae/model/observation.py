"""What is known of data: how sure each value is, which are not seen, and the mean of the rest."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from itervae.arguments import check_devices
from itervae.arrays import as_tensor
from itervae.devices import check_value
from itervae.errors import InputError

PART = 10_000
"""Data of a whole set that are looked at together."""


def as_precision(precision: Any, x: Tensor) -> Tensor | None:
    """A precision as a tensor (D,) or (B, D) of numbers ≥ 0, for data x (B, D).

    Raises:
        InputError: one of another shape or on another device, negative, or not finite.
    """
    if precision is None:
        return None
    found = as_tensor("precision", precision, x, "(D,) or (B, D), 0 where a value is not seen")
    check_devices(x, {"the precision": found})
    if found.ndim > 1 and found.shape != x.shape:  # of natural shape, of all data or the same for each
        found = found.flatten() if found.numel() == x.shape[1] else found.flatten(1)
    if found.shape not in (x.shape[1:], x.shape):
        raise InputError(
            f"precision has shape {tuple(found.shape)}; expected {tuple(x.shape)}, one for each value of x, or "
            f"{tuple(x.shape[1:])}, the same for all data"
        )

    def error() -> InputError:
        bad = found[~(found.isfinite() & (found >= 0))]
        return InputError(
            f"precision holds {bad[0].item():g}, one of {len(bad)} such; expected finite numbers ≥ 0: use 0 where a "
            "value is not seen"
        )

    check_value((found.isfinite() & (found >= 0)).all(), error)
    return found


def mean_of(x: Tensor) -> Tensor:
    """The mean (D,) of data (N, D), float64, read part by part, of the values that are no NaN; 0
    where there are none."""
    total = count = torch.zeros(x.shape[1], dtype=torch.float64, device=x.device)
    for _, part in parts(x):
        total, count = total + part.double().nansum(0), count + (~part.isnan()).sum(0)
    return total / count.clamp_min(1)


def parts(x: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Data (N, D) part by part, each with the number of its first row: a large set is read from its
    file as it is looked at."""
    return ((start, x[start : start + PART]) for start in range(0, len(x), PART))
