"""The free energy of any family, and its natural gradient by automatic differentiation.

Amari (1998), "Natural gradient works efficiently in learning": the gradient in the parameters u of
a posterior, divided by the diagonal of their Fisher information, so that a step has the same
meaning for every family and scale.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from itervae.distributions import Family
from itervae.inference.energies.base import Energy
from itervae.model import GenerativeModel


class Slope(NamedTuple):
    """A free energy evaluated at u.

    Attributes:
        value: F (B,), nats, without gradient.
        gradient: natural gradient (B, P).
        curvature: diagonal of the Jacobian of `gradient`, less the leak β (B, P); zeros (1, 1)
            where it is not known.
        noise: standard deviation of `value` (B,), nats, to first order; 0 where F is exact.
    """

    value: Float[Tensor, " batch"]
    gradient: Float[Tensor, "batch parameters"]
    curvature: Tensor
    noise: Float[Tensor, " batch"]


class FamilyEnergy(Energy):
    """The free energy of any family as a function of u, with its natural gradient.

    For a linear decoder under a Gaussian likelihood it is exact, and its gradient can be
    differentiated again. Otherwise value and gradient come from one differentiable sample per datum
    (`GenerativeModel.free_energy` with the family's default estimator, at the temperature
    `TEMPERATURE` where that is relaxed), and the gradient is detached.
    """

    TEMPERATURE = 0.3
    """Temperature of relaxed samples."""

    def __init__(
        self,
        model: GenerativeModel,
        x: Tensor,
        prior: Family,
        generator: torch.Generator | None = None,
        precision: Tensor | None = None,
    ) -> None:
        self.model = model
        self.x = x
        self.precision = precision
        self.prior = prior
        self.generator = generator
        self.exact = model.exact  # pyright: ignore[reportAttributeAccessIssue]

    def evaluate(self, u: Float[Tensor, "batch parameters"]) -> Slope:
        """The free energy and its natural gradient at u (B, P)."""
        differentiable = self.exact and torch.is_grad_enabled()
        # also under torch.inference_mode, whose tensors are copied because they cannot enter a
        # graph
        with torch.inference_mode(False), torch.enable_grad():
            at = u if differentiable and u.requires_grad else u.detach().clone().requires_grad_()
            posterior = self.model.posterior(at, self.TEMPERATURE)
            x = self.x.clone() if self.x.is_inference() else self.x
            prior = self.prior.like(self.prior.u.clone()) if self.prior.u.is_inference() else self.prior
            value = self.model.free_energy(
                x, posterior, prior, precision=self.precision, generator=self.generator
            ).total
            (gradient,) = torch.autograd.grad(value.sum(), at, create_graph=differentiable)
            natural = gradient / posterior.fisher
        if not differentiable:
            natural = natural.detach()
        noise = torch.zeros_like(value) if self.exact else (natural * gradient.detach()).sum(-1).clamp_min(0).sqrt()
        return Slope(value.detach(), natural, torch.zeros_like(u[:1, :1]), noise.detach())
