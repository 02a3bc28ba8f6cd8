"""Laplace posteriors: a factorized VAE with a sparse prior, without counts.

A control of Vafaii, Galor & Yates (2024), "Poisson variational autoencoder".
"""

import math

import torch
from torch import Tensor
from torch.distributions import register_kl

from itervae.distributions.location_scale import LocationScale, relative


class Laplace(LocationScale):
    """z ~ Laplace(μ, s) with density e^{−|z − μ|/s} / 2s, u = (μ, log s); the variance is 2s².

    Example:
        >>> q = Laplace(torch.zeros(2, 6))
        >>> q.rsample().shape, q.variance[0, 0].item()
        (torch.Size([2, 3]), 2.0)
    """

    scale_information = 1.0
    compiled = "laplace"

    @property
    def variance(self) -> Tensor:
        return 2 * torch.exp(2 * self.log_scale)

    def noise(self, like: Tensor, generator: torch.Generator | None) -> Tensor:
        sign = torch.randint(0, 2, like.shape, device=like.device, generator=generator) * 2 - 1
        return sign * torch.empty_like(like).exponential_(generator=generator)

    def log_prob(self, value: Tensor) -> Tensor:
        """log of the density, elementwise."""
        return -(value - self.location).abs() * torch.exp(-self.log_scale) - self.log_scale - math.log(2)


@register_kl(Laplace, Laplace)
def laplace_kl(posterior: Laplace, prior: Laplace) -> Tensor:
    """KL(Laplace(μ, s) ‖ Laplace(m, S)) = |μ − m|/S + (s/S)e^{−|μ − m|/s} − 1 − log(s/S),
    elementwise, nats.

    Written as h(t)·s/S + (s/S − 1 − log(s/S)), t = |μ − m|/s, h(t) = t + e^{−t} − 1, so that
    nothing cancels; its gradient at μ = m is 0, as it should be. Where t is large, as |μ − m|/S −
    (1 − e^{−t})s/S, for a scale may underflow.
    """
    distance, log_ratio = relative(posterior, prior)
    far, ratio = distance.abs(), log_ratio.exp()
    t = far * torch.exp(-log_ratio.clamp_min(-60.0))  # its slope at 0 is multiplied by h'(0) = 0
    moved = torch.where(t > 1, far + ratio * torch.expm1(-t), ratio * (t + torch.expm1(-t)))
    return moved + torch.expm1(log_ratio) - log_ratio
