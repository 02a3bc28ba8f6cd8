"""Categorical posteriors over one-hot codes, with the Gumbel-softmax relaxation.

Jang, Gu & Poole (2017), "Categorical reparameterization with Gumbel-softmax"; Maddison, Mnih & Teh
(2017), "The concrete distribution".
"""

from typing import Any

import torch
from torch import Tensor
from torch.distributions import kl_divergence, register_kl

from itervae.arguments import as_number
from itervae.arrays import as_tensor
from itervae.distributions.family import Family, spread
from itervae.distributions.gumbel import gumbel_softmax
from itervae.distributions.moments import Moments
from itervae.distributions.poisson import RelaxedPoisson, poisson_kl
from itervae.errors import InputError, described


class Categorical(Family):
    """A one-hot z over K latents with probabilities p = softmax(u).

    `rsample` is relaxed at a temperature τ > 0, softmax((log p + g)/τ) with Gumbel noise g; `mean`,
    `variance`, `log_prob` and the KL are those of the one-hot.

    Args:
        u: logits (..., K).
        temperature: τ ≥ 0; 0 makes `rsample` draw one-hots without gradient.

    Example:
        >>> q = Categorical(torch.zeros(2, 4), temperature=0.5)
        >>> q.rsample().sum(-1).allclose(torch.ones(2)), q.mean[0, 0].item()
        (True, 0.25)
    """

    has_rsample = True
    relaxations = ("gumbel-softmax", "straight-through")
    discrete = True

    def __init__(self, u: Tensor, temperature: float = 0.1) -> None:
        u = as_tensor("u", u, None, "of logits (..., K)")
        value = as_number(temperature)
        if value is None or not value >= 0:
            given = described(temperature)
            raise InputError(f"temperature is {given}; expected a number ≥ 0 (0 gives one-hot samples)")
        self.temperature = value
        super().__init__(u, u.shape[:-1], u.shape[-1:])

    @property
    def location(self) -> Tensor:
        return self.u.log_softmax(-1)

    @property
    def mean(self) -> Tensor:
        """p (..., K)."""
        return self.u.softmax(-1)

    @property
    def variance(self) -> Tensor:
        """p(1 − p) of each coordinate; the coordinates are not independent (see
        `moments`)."""
        return self.mean * (1 - self.mean)

    @property
    def fisher(self) -> Tensor:
        """p; the whole matrix is diag(p) − ppᵀ, but an equal change of all logits changes
        nothing."""
        return self.mean.clamp_min(torch.finfo(self.u.dtype).tiny)

    @property
    def share_zero(self) -> Tensor:
        return 1 - self.mean

    def like(self, u: Tensor) -> "Categorical":
        return Categorical(u, self.temperature)

    def at(self, temperature: float) -> "Categorical":
        return Categorical(self.u, temperature)

    def _in_tensors(self, prior: Any, norms: Tensor) -> Moments:
        mean = self.mean
        return mean, spread(mean, norms), kl_divergence(self, prior)

    def _fused(self, prior: Any, norms: Tensor | None) -> Moments | None:
        """That of Poisson counts of rates p: c·p, and Σ_k p_k log(p_k/π_k) − p_k + π_k."""
        if not isinstance(prior, Categorical):
            return None
        return RelaxedPoisson(self.location)._fused(RelaxedPoisson(prior.location), norms)

    def unit_kl(self, prior: Family) -> Tensor:
        """KL(Bernoulli(p_k) ‖ Bernoulli(π_k)) (..., K): that of the marginals, whose sum is not the
        KL of the whole."""
        here, there = self.location, prior.location
        p = here.exp()
        rest, other = _log_complement(here), _log_complement(there)
        return (p * (here - there) + rest.exp() * (rest - other)).clamp_min(0)

    def log_prob(self, value: Tensor) -> Tensor:
        """log p of the chosen latent (...), at one-hot `value`."""
        return (value * self.location).sum(-1)

    def sample(self, sample_shape: Any = (), generator: torch.Generator | None = None) -> Tensor:
        """One-hots, without gradient; shape `sample_shape + (..., K)`."""
        with torch.no_grad():
            return gumbel_softmax(self.u.expand(self._extended_shape(sample_shape)), 0.0, generator)

    def rsample(
        self, sample_shape: Any = (), generator: torch.Generator | None = None, relaxation: str | None = None
    ) -> Tensor:
        """Relaxed one-hots with pathwise gradient; with "straight-through" the value is the one-hot
        of the same noise."""
        relaxation = relaxation or self.relaxations[0]
        if relaxation not in self.relaxations:
            raise InputError(f"relaxation is {relaxation!r}; expected one of {', '.join(self.relaxations)}")
        logits = self.location.expand(self._extended_shape(sample_shape))
        return gumbel_softmax(logits, self.temperature, generator, hard=relaxation == "straight-through")


def _log_complement(log_p: Tensor) -> Tensor:
    """log(1 − p), accurate for p near 0 and near 1; where p rounds to 1, that of a quarter of the
    rounding unit."""
    small = log_p < -0.7
    return torch.where(
        small,
        torch.log1p(-log_p.where(small, -1.0).exp()),
        torch.log((-torch.expm1(log_p.where(~small, -0.5))).clamp_min(torch.finfo(log_p.dtype).eps / 4)),
    )


@register_kl(Categorical, Categorical)
def categorical_kl(posterior: Categorical, prior: Categorical) -> Tensor:
    """KL = Σ_k p_k log(p_k/π_k) (...), nats; as Σ_k (p_k log(p_k/π_k) − p_k + π_k), of which no
    term is negative."""
    return poisson_kl(posterior.location, prior.location).sum(-1)
