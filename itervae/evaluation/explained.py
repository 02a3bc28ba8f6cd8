"""R², the share of the variance that a reconstruction explains, by its two definitions, which are
far apart where data differ in contrast:

    pooled      1 − Σ_i ‖x_i − x̂_i‖² / Σ_i ‖x_i − x̄‖²
    per datum   mean over i of 1 − ‖x_i − x̂_i‖² / ‖x_i − m_i‖²

x̄ (D,) is the mean of all data, and m_i one number, the mean of a datum's own values. Pooled, data
of high contrast decide; per datum all count alike, so that noise of one size for all data costs
those of low contrast most. A few data of hardly any contrast can take the mean far below 0; the
median over data, which they do not move, stands beside it. Values that are NaN were not seen, and
count nowhere. The figures of Vafaii, Galor & Yates
(2025) on the iterative P-VAE are per datum, of one draw, the mean.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from itervae.errors import InputError


@dataclass(frozen=True)
class RSquared:
    """R² of some reconstructions by both definitions, each with its standard error over data; None
    where it is not defined.

    Attributes:
        pooled: about the mean of all data; None where the data are all alike.
        pooled_se: the standard error of the error, over the variance.
        per_datum: mean over data of the R² of each about its own mean. Data whose values are all
            equal have none and are left out of it; None where no data are left.
        per_datum_se: its standard error.
        per_datum_median: the median over the same data.
    """

    pooled: float | None
    pooled_se: float | None
    per_datum: float | None
    per_datum_se: float | None
    per_datum_median: float | None


def r_squared(error: Tensor, x: Tensor) -> RSquared:
    """R² by both definitions, see above.

    Args:
        error: ‖x − x̂‖² of each datum (N,), summed over dimensions: of decoded mean rates or of
            decoded draws, such as `Codes.error` and `Codes.sample_error`.
        x: the data (N, D), N ≥ 2.

    Raises:
        InputError: not one error for each datum, or fewer than two data.
    """
    if x.ndim != 2 or len(x) < 2 or error.shape != x.shape[:1]:
        raise InputError(
            f"error has shape {tuple(error.shape)} and x {tuple(x.shape)}; expected (N,), one of each datum, and "
            "(N, D) with N ≥ 2"
        )
    error, variance = error.double(), total_variance(x)
    own = _centred(x, 1).double().square().sum(1)
    unseen = x.isnan()
    varied = x.masked_fill(unseen, -torch.inf).amax(1) > x.masked_fill(unseen, torch.inf).amin(1)
    each = 1 - error[varied] / own[varied]
    return RSquared(
        pooled=1 - error.mean().item() / variance if variance > 0 else None,
        pooled_se=standard_error(error) / variance if variance > 0 else None,
        per_datum=each.mean().item() if len(each) else None,
        per_datum_se=standard_error(each) if len(each) > 1 else None,
        per_datum_median=each.quantile(0.5).item() if len(each) else None,
    )


def total_variance(x: Tensor) -> float:
    """Mean of ‖x − x̄‖² over data (N, D), summed over dimensions: the error at a pooled R² of 0."""
    return _centred(x, 0).double().square().sum(-1).mean().item()


def _centred(x: Tensor, dim: int) -> Tensor:
    """Data (N, D) about their mean over a dimension; 0 where they are NaN."""
    return (x - x.nanmean(dim, keepdim=True)).nan_to_num(0)


def standard_error(value: Tensor) -> float:
    """The standard error of the mean of values (N,), N ≥ 2."""
    return value.double().std().item() / len(value) ** 0.5
