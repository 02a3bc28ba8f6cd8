"""What an inference engine minimizes: value, gradient, curvature and proximal step, for a batch of data.

`PoissonEnergy` is the exact free energy of a Poisson posterior under a linear decoder; `SampledEnergy` that of any
decoder, by sampling and automatic differentiation. An engine asks for the same things of either.
"""

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from itervae.distributions import poisson_kl
from itervae.inference.lambertw import log_lambertw_exp
from itervae.model import GaussianLikelihood, GenerativeModel, full_precision


class Point(NamedTuple):
    """An energy evaluated at log-rates u.

    `value` F (B,), without gradient, up to a constant per datum; `rate` λ = exp(u) (B, K); `smooth` the gradient of the
    reconstruction term in λ (B, K), linear in λ for a linear decoder; `gradient` ∂F/∂λ = smooth + β(u − log r) (B, K);
    `diagonal` that of the curvature of the reconstruction term, c/σ² (K,) for a linear decoder.
    """

    value: Float[Tensor, " batch"]
    rate: Float[Tensor, "batch latents"]
    smooth: Float[Tensor, "batch latents"]
    gradient: Float[Tensor, "batch latents"]
    diagonal: Float[Tensor, "*batch latents"]


class Energy(ABC):
    """A function of log-rates u to be minimized, for a batch of data."""

    exact: ClassVar[bool]
    """Whether `evaluate` is free of sampling noise, so that two values can be compared."""
    beta: Tensor
    prior_log_rate: Tensor

    @abstractmethod
    def evaluate(self, log_rate: Float[Tensor, "batch latents"]) -> Point:
        """The energy and its gradients at u (B, K)."""

    def tolerance(self, point: Point) -> Float[Tensor, " batch"]:
        """Rises of F below this (B,) are noise; inf where values cannot be compared."""
        return torch.full_like(point.value, torch.inf)

    def certificate(
        self, log_rate: Float[Tensor, "batch latents"], gradient: Float[Tensor, "batch latents"]
    ) -> Float[Tensor, " batch"]:
        """A proved bound of F − F* (B,), nats; NaN where there is none."""
        return torch.full_like(log_rate[:, 0], torch.nan)


class PoissonEnergy(Energy):
    """F(λ) = (‖x − Φλ‖² + c·λ) / 2σ² + β KL(Pois λ ‖ Pois r), c_k = ‖φ_k‖²: strictly convex in λ.

    ∂F/∂λ = (ΦᵀΦλ − Φᵀx + c/2)/σ² + β(u − log r): lateral inhibition, drive and leak of the LCA. The Gram matrix ΦᵀΦ
    is formed where that is the cheaper way to ΦᵀΦλ (K < 2D), else the residual x − Φλ is.

    The certificate is the gap to the Fenchel dual at ν = (x − Φλ)/σ², an upper bound of F(λ) − F*:
    β Σ_k KL(Pois λ_k ‖ Pois λ̂_k), log λ̂ = u − (∂F/∂λ)/β, the posterior that the residual of λ calls for.
    """

    exact = True

    @full_precision
    def __init__(self, model: GenerativeModel, x: Tensor, prior_log_rate: Tensor) -> None:
        assert isinstance(model.likelihood, GaussianLikelihood)
        dtype = x.dtype
        self.prior_log_rate = prior_log_rate.to(dtype)
        self.beta = model.beta.to(dtype)
        self.x = x
        variance = model.likelihood.variance.to(dtype)
        self.dictionary = model.dictionary.to(dtype)
        self._scaled = self.dictionary / variance
        norms = self.dictionary.square().sum(0)
        self._half_diagonal = norms / (2 * variance)
        self._diagonal = norms / variance
        size, latents = self.dictionary.shape
        self._gram = None
        if latents < 2 * size:
            self._gram = self.dictionary.mT @ self._scaled
            self._drive = x @ self._scaled - self._half_diagonal
        with torch.no_grad():
            self.variance = variance.detach()
            self._offset = x.square().sum(-1) / (2 * variance)
            self._prior_mass = (self.beta * self.prior_log_rate.exp()).sum(-1)

    @full_precision
    def evaluate(self, log_rate: Float[Tensor, "batch latents"]) -> Point:
        """F, λ and the gradients at u = `log_rate` (B, K): two products with Φ, or one with ΦᵀΦ."""
        rate = log_rate.exp()
        if self._gram is not None:
            residual = None
            smooth = rate @ self._gram - self._drive
        else:
            residual = self.x - rate @ self.dictionary.mT
            smooth = self._half_diagonal - residual @ self._scaled
        leak = self.beta * (log_rate - self.prior_log_rate)
        value = self._value(rate.detach(), smooth.detach(), leak.detach(), residual)
        return Point(value, rate, smooth, smooth + leak, self._diagonal)

    @torch.no_grad()
    def _value(self, rate: Tensor, smooth: Tensor, leak: Tensor, residual: Tensor | None) -> Tensor:
        kl = (rate * (leak - self.beta)).sum(-1) + self._prior_mass
        if residual is None:  # ‖x − Φλ‖² = ‖x‖² − 2λᵀΦᵀx + λᵀΦᵀΦλ
            return 0.5 * (rate * (smooth - self._drive)).sum(-1) + self._offset + kl
        return residual.square().sum(-1) / (2 * self.variance) + rate @ self._half_diagonal + kl

    def tolerance(self, point: Point) -> Float[Tensor, " batch"]:
        return 8 * torch.finfo(point.value.dtype).eps * (point.value.abs() + self._offset)

    def proximal_step(
        self,
        rate: Float[Tensor, "batch latents"],
        smooth: Float[Tensor, "batch latents"],
        curvature: Float[Tensor, "#batch latents"],
    ) -> Float[Tensor, "batch latents"]:
        """Log-rates of argmin_λ smooth·(λ − rate) + ½ Σ h_k (λ_k − rate_k)² + β KL(λ ‖ r), a Lambert-W shrinkage.

        λ = a·W(e^s), a = β/h, s = y/a + log r − log a with the gradient step y = rate − smooth/h.

        Args:
            rate: the point of linearization (B, K), of any sign.
            smooth: gradient of the reconstruction term there (B, K).
            curvature: h > 0, the metric, broadcast against (B, K).
        """
        log_a = self.beta.log() - curvature.log()
        s = (curvature * rate - smooth) / self.beta + self.prior_log_rate - log_a
        return log_a + log_lambertw_exp(s)

    def certificate(
        self, log_rate: Float[Tensor, "batch latents"], gradient: Float[Tensor, "batch latents"]
    ) -> Float[Tensor, " batch"]:
        """The duality gap F(λ) − D(ν) ≥ F(λ) − F* (B,), nats, without gradient; inf where exp overflows in it."""
        with torch.no_grad():
            called_for = log_rate - gradient / self.beta
            return self.beta * poisson_kl(log_rate, called_for).sum(-1)


class SampledEnergy(Energy):
    """The free energy of any decoder and likelihood, by sampling and automatic differentiation.

    The gradient of E_q[f(z)], f = −log p(x | z), in a Poisson rate is E_q[f(z + e_k) − f(z)]; to second order in the
    one spike that is E_q[∂_k f + ½ ∂²_kk f], with the Gauss–Newton diagonal ∂²_kk f ≈ Σ_d w_d J_dk², w the curvature
    of the likelihood. It is exact for a linear decoder under a Gaussian likelihood, and its variance does not grow as
    rates become small, as that of pathwise and score gradients in λ does. One Jacobian-vector product gives ∂f at an
    integer sample, a second with random signs an unbiased draw of the diagonal (Hutchinson 1989).

    Gradients are detached: back-propagation goes through the steps but not through second derivatives of the decoder.
    """

    exact = False

    def __init__(
        self,
        model: GenerativeModel,
        x: Tensor,
        prior_log_rate: Tensor,
        generator: torch.Generator | None = None,
    ) -> None:
        self.model = model
        self.x = x
        self.prior_log_rate = prior_log_rate
        self.beta = model.beta
        self.generator = generator

    def evaluate(self, log_rate: Float[Tensor, "batch latents"]) -> Point:
        """A draw of F and of its gradient at u = `log_rate` (B, K), from one integer sample per datum."""
        model, likelihood = self.model, self.model.likelihood
        posterior = model.posterior(log_rate.detach())
        # also under torch.inference_mode, whose tensors are copied because they cannot enter a graph
        with torch.inference_mode(False), torch.enable_grad():
            z = posterior.sample(generator=self.generator).clone().requires_grad_()
            output = model.decoder(z)
            value = likelihood.negative_log_likelihood(self.x.clone(), output)
            (slope,) = torch.autograd.grad(value.sum(), z, retain_graph=True)
            signs = torch.randint(0, 2, output.shape, device=output.device, generator=self.generator) * 2 - 1
            weights = likelihood.curvature(output.detach()).sqrt()
            (projected,) = torch.autograd.grad(output, z, signs * weights)
        leak = self.beta * (log_rate - self.prior_log_rate)
        rate = log_rate.exp()
        smooth = slope + 0.5 * projected.square()
        kl = poisson_kl(log_rate.detach(), self.prior_log_rate.detach()).sum(-1)
        return Point(value.detach() + self.beta * kl, rate, smooth, smooth + leak, projected.square())
