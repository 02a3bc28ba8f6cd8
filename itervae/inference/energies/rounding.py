"""What rounding can have done to a residual, so that a certificate includes it.

A sum of n products is off by at most (n + a few)·ε/2·Σ|a_i b_i|, in whatever order it is made; ε is
the distance from 1 to the next number (Higham 2002, "Accuracy and Stability of Numerical
Algorithms", chapter 3). Terms that are 0 do not count.

A dual point may be any vector. So the residual is taken as it was computed, errors and all, for the
dual point, and what it differs by from x − Φμ enters a duality gap by its square alone. In the
first order there is left the rounding of the products of this vector with the atoms.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from itervae.distributions.family import spread
from itervae.model import LinearOperator

SPARE = 64
"""Number of roundings, each of relative size ε/2, that are allowed for beside those of the sums: in
the terms that are summed and in what is done with the result."""
HALF = torch.finfo(torch.float64).eps / 2
"""The rounding unit of float64, ε/2."""


class Residual(NamedTuple):
    """A residual r as float64 computed it, which is not quite x − Φμ.

    Attributes:
        slope: Φᵀr (B, K), as computed.
        norm: ‖r‖ (B,).
        relative: bound of the error of φ_kᵀr, in units of ‖r‖ (K,), or (B, K) where data have
            weights of their own.
        off: bound of ‖r − (x − Φμ)‖ (B,).
    """

    slope: Float[Tensor, "batch latents"]
    norm: Float[Tensor, " batch"]
    relative: Float[Tensor, "*batch latents"]
    off: Float[Tensor, " batch"]

    @property
    def error(self) -> Float[Tensor, "batch latents"]:
        """A bound (B, K) of the error of `slope`."""
        return self.norm[:, None] * self.relative


@torch.no_grad()
def residual(
    x: Float[Tensor, "batch size"],
    mean: Float[Tensor, "batch latents"],
    operator: LinearOperator,
    active: Float[Tensor, " batch"] | int,
) -> Residual:
    """The residual of data x (B, D) at a mean μ (B, K), and what rounding can have done to it; all
    float64.

    Args:
        x: data (B, D); their own relative error is at most 7 roundings, those of √w·(x − b)/σ.
        mean: μ (B, K); its own relative error is at most `SPARE`/2 roundings.
        operator: Φ.
        active: upper bound of the number of nonzero latents, one for all data or one per
            datum (B,).
    """
    found = operator.residual(x, mean)
    norms = operator.atom_norms().sqrt()
    data, norm = (torch.linalg.vector_norm(value, dim=-1) for value in (x, found))
    off = HALF * ((SPARE + active) * spread(mean.abs(), norms) + 8 * data)
    return Residual(operator.adjoint(found), norm, HALF * (SPARE + operator.summands) * norms, off)
