"""The free energy of any decoder, by sampling and automatic differentiation."""

import torch
from jaxtyping import Float
from torch import Tensor

from itervae.distributions import RelaxedPoisson, poisson_kl
from itervae.inference.energies.base import Point, SolvableEnergy
from itervae.model import GenerativeModel


class SampledEnergy(SolvableEnergy):
    """The free energy of a Poisson posterior under any decoder and likelihood, by sampling and
    automatic differentiation.

    Write f = −log p(x | z). The gradient of E_q[f(z)] in a Poisson rate λ_k is E_q[f(z + e_k) −
    f(z)]. To second order in the added spike it is

        E_q[∂_k f + ½ ∂²_kk f],      ∂²_kk f ≈ Σ_d w_d J_dk²      (Gauss–Newton)

    with J the Jacobian of the decoder and w the curvature of the likelihood. This is exact for a
    linear decoder under a Gaussian likelihood. Its variance does not grow as rates become small,
    unlike that of pathwise and score gradients in λ. One backward pass (a product with Jᵀ) gives ∂f
    at an integer sample; a second one, with random signs, gives an unbiased draw of the diagonal
    (Hutchinson 1989).

    Gradients are detached: back-propagation goes through the steps but not through second
    derivatives of the decoder.
    """

    exact = False

    def __init__(
        self,
        model: GenerativeModel,
        x: Tensor,
        prior: RelaxedPoisson,
        generator: torch.Generator | None = None,
        precision: Tensor | None = None,
    ) -> None:
        self.model = model
        self.x = x
        self.precision = precision
        self.prior_log_rate = prior.log_rate
        self.beta = model.beta
        self.generator = generator

    def evaluate(self, u: Float[Tensor, "batch latents"]) -> Point:
        """A draw of the free energy and of its gradient at log-rates u (B, K), from one integer
        sample per datum."""
        model, likelihood = self.model, self.model.likelihood
        posterior = model.posterior(u.detach())
        # also under torch.inference_mode, whose tensors are copied because they cannot enter a
        # graph
        with torch.inference_mode(False), torch.enable_grad():
            z = posterior.sample(generator=self.generator).clone().requires_grad_()
            output = model.output(z)
            value = likelihood.negative_log_likelihood(self.x.clone(), output, self.precision)
            (slope,) = torch.autograd.grad(value.sum(), z, retain_graph=True)
            signs = torch.randint(0, 2, output.shape, device=output.device, generator=self.generator) * 2 - 1
            weights = likelihood.curvature(output.detach())
            weights = (weights if self.precision is None else self.precision * weights).sqrt()
            (projected,) = torch.autograd.grad(output, z, signs * weights)
        leak = self.beta * (u - self.prior_log_rate)
        rate = u.exp()
        data_gradient = slope + 0.5 * projected.square()
        kl = poisson_kl(u.detach(), self.prior_log_rate.detach()).sum(-1)
        return Point(value.detach() + self.beta * kl, rate, data_gradient, data_gradient + leak, projected.square())
