"""The prior over latents: one learned log-rate per unit, or the sparsity cost of classic sparse coding."""

import math

import torch
from torch import Tensor, nn

from itervae.distributions import RelaxedPoisson, SparseCode, SparsityCost
from itervae.errors import InputError


class PoissonPrior(nn.Module):
    """p(z) = Π_k Pois(z_k; r_k), log r a learned parameter of shape (K,).

    Args:
        latents: K.
        low, high: log-rates start uniform in [low, high]; (−6, −4) is the P-VAE's choice for a linear decoder.
    """

    capabilities = frozenset({"Poisson family", "sparsity cost", "convex cost"})
    symbol = "F"
    terms = ("free energy", "KL", "spikes")
    """What the objective, its second part and the activity are called."""

    def __init__(self, latents: int, low: float = -6.0, high: float = -4.0) -> None:
        super().__init__()
        self.latents = latents
        self.log_rate = nn.Parameter(low + (high - low) * torch.rand(latents))

    def posterior(self, log_rate: Tensor, temperature: float = 0.0) -> RelaxedPoisson:
        """A member of the prior's family with these log-rates (B, K)."""
        return RelaxedPoisson(log_rate, temperature)

    def forward(self) -> RelaxedPoisson:
        """The prior, batch shape (K,)."""
        return RelaxedPoisson(self.log_rate)


class SparsityPrior(nn.Module):
    """p(a) ∝ exp(−Σ_k C(a_k)) with the threshold θ of the cost, which is not learned.

    Args:
        latents: K.
        threshold: θ > 0.
        signed: coefficients of any sign.
        hard: the hard threshold (see `SparsityCost`).
    """

    threshold: Tensor
    symbol = "E"
    terms = ("energy", "sparsity cost", "Σ|a|")

    def __init__(self, latents: int, threshold: float, signed: bool = False, hard: bool = False) -> None:
        super().__init__()
        if not (threshold > 0 and math.isfinite(threshold)):
            raise InputError(f"threshold is {threshold}; expected a positive number, in units of the data")
        self.latents = latents
        self.signed = signed
        self.hard = hard
        self.register_buffer("threshold", torch.tensor(float(threshold)))

    @property
    def capabilities(self) -> frozenset[str]:
        """A hard threshold has a cost that is not convex."""
        return frozenset({"sparsity cost"} if self.hard else {"sparsity cost", "convex cost"})

    def posterior(self, u: Tensor, temperature: float = 0.0) -> SparseCode:
        """The sparse code with these membrane potentials (B, K); nothing is drawn, at any temperature."""
        return SparseCode(u, self())

    def forward(self) -> SparsityCost:
        """The cost, batch shape (K,)."""
        return SparsityCost(self.latents, self.threshold, self.signed, self.hard)
