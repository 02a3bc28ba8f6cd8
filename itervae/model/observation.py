"""What is known of data: how sure each value is, and which are not seen at all."""

from typing import Any

from torch import Tensor

from itervae.arguments import check_devices
from itervae.arrays import as_tensor
from itervae.devices import check_value
from itervae.errors import InputError


def as_precision(precision: Any, x: Tensor) -> Tensor | None:
    """A precision as a tensor (D,) or (B, D) of numbers ≥ 0, for data x (B, D).

    Raises:
        InputError: one of another shape or on another device, negative, or not finite.
    """
    if precision is None:
        return None
    found = as_tensor("precision", precision, x, "(D,) or (B, D), 0 where a value is not seen")
    check_devices(x, {"the precision": found})
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
