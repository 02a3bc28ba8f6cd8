"""The static prior over spike counts: one learned log-rate per unit."""

import torch
from torch import Tensor, nn

from itervae.distributions import RelaxedPoisson


class PoissonPrior(nn.Module):
    """p(z) = Π_k Pois(z_k; r_k), log r a learned parameter of shape (K,).

    Args:
        latents: K.
        low, high: log-rates start uniform in [low, high]; (−6, −4) is the P-VAE's choice for a linear decoder.
    """

    def __init__(self, latents: int, low: float = -6.0, high: float = -4.0) -> None:
        super().__init__()
        self.log_rate = nn.Parameter(low + (high - low) * torch.rand(latents))

    def posterior(self, log_rate: Tensor, temperature: float = 0.0) -> RelaxedPoisson:
        """A member of the prior's family with these log-rates (B, K)."""
        return RelaxedPoisson(log_rate, temperature)

    def forward(self) -> RelaxedPoisson:
        """The prior, batch shape (K,)."""
        return RelaxedPoisson(self.log_rate)
