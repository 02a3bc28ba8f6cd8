"""Sparse codes: a point estimate a = T(u) of the coefficients, and the sparsity cost that stands
for its prior.

Rozell et al. (2008), "Sparse coding via thresholding and local competition in neural circuits": u
are membrane potentials, T the thresholding that turns them into coefficients, and each threshold
belongs to a cost.
"""

from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, register_kl

from itervae.arguments import check_whole
from itervae.arrays import as_tensor
from itervae.distributions.family import Family
from itervae.errors import InputError


class SparsityCost(Distribution):
    """The prior of sparse coding, p(a) ∝ exp(−Σ_k C(a_k)), by its cost C and the threshold function
    T of that cost.

        soft   C(a) = θ|a|              T(u) = sign(u)·max(|u| − θ, 0)    a Laplace prior: the lasso
        hard   C(a) = θ²/2 where a ≠ 0  T(u) = u where |u| > θ, else 0    no normalizable prior

    Args:
        latents: K.
        threshold: θ > 0, units of the data where atoms have unit norm.
        signed: coefficients of any sign; otherwise a ≥ 0.
        hard: the hard threshold.
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012
    parts = 1

    def __init__(self, latents: int, threshold: Tensor, signed: bool = False, hard: bool = False) -> None:
        check_whole("latents", latents, 1)
        threshold = as_tensor("threshold", threshold, None, "of one number")
        self.threshold = threshold
        self.signed = signed
        self.hard = hard
        super().__init__(torch.Size((latents,)), validate_args=False)

    @property
    def u(self) -> Tensor:
        """Membrane potentials at rest (K,): zero."""
        return self.threshold.new_zeros(self.batch_shape)

    def activation(self, u: Tensor) -> Tensor:
        """T(u), elementwise."""
        threshold = self.threshold.to(u.dtype)
        size = u.abs() if self.signed else u
        above = size > threshold
        if self.hard:
            return torch.where(above, u, 0)
        return torch.where(above, u - torch.sign(u) * threshold, 0)

    def clamp(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """u as it is, and that none of it was clamped (B,): potentials have no bound."""
        return u, torch.zeros(u.shape[:-1], device=u.device, dtype=torch.int64)

    def cost(self, a: Tensor) -> Tensor:
        """C(a), elementwise; nats, where the observation variance is 1."""
        threshold = self.threshold.to(a.dtype)
        return 0.5 * threshold**2 * (a != 0) if self.hard else threshold * a.abs()


class SparseCode(Family):
    """A point estimate a = T(u) of sparse coefficients.

    Args:
        u: membrane potentials (B, K).
        cost: the cost that T belongs to.
    """

    def __init__(self, u: Tensor, cost: SparsityCost) -> None:
        self.cost = cost
        super().__init__(u, u.shape)

    @property
    def mean(self) -> Tensor:
        """a (B, K)."""
        return self.cost.activation(self.u)

    @property
    def variance(self) -> Tensor:
        """0: a point estimate has no spread."""
        return torch.zeros_like(self.u)

    @property
    def share_zero(self) -> Tensor:
        """1 where a = 0."""
        return (self.mean == 0).to(self.u.dtype)

    def sample(self, sample_shape: Any = (), generator: torch.Generator | None = None) -> Tensor:
        """a, without gradient: there is nothing to draw."""
        return self.mean.detach().expand(self._extended_shape(sample_shape))

    def like(self, u: Tensor) -> "SparseCode":
        return SparseCode(u, self.cost)

    def rsample(
        self, sample_shape: Any = (), generator: torch.Generator | None = None, relaxation: str | None = None
    ) -> Tensor:
        """Refused: a point estimate has the exact energy only."""
        raise InputError("a sparse code has nothing to sample; use the exact estimator")


PriorDistribution = Family | SparsityCost
"""What a model has for p(z): a distribution or, of sparse coding, a cost."""


@register_kl(SparseCode, SparsityCost)
def _cost_of_sparse_code(posterior: SparseCode, prior: SparsityCost) -> Tensor:
    """C(a), which is −log p(a) up to a constant: what is left of the KL for a point estimate."""
    return prior.cost(posterior.mean)
