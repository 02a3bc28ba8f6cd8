"""The energy of sparse coding: the lasso, or its hard-threshold relative.

Rozell et al. (2008), "Sparse coding via thresholding and local competition in neural circuits"; Beck & Teboulle (2009).
"""

import torch
from torch import Tensor

from itervae.distributions import SparsityCost
from itervae.inference.decoder_terms import decoder_terms
from itervae.inference.energies import LinearEnergy, Point
from itervae.model import GenerativeModel


class LassoEnergy(LinearEnergy):
    """E(a) = ½‖x − Φa‖² + Σ_k C(a_k), a = T(u), with the cost C and threshold T of a `SparsityCost`.

    u − a is the (sub)gradient of the cost that the LCA carries: θ·sign(a) where a ≠ 0, and within [−θ, θ] elsewhere. So
    ∂E/∂a = ΦᵀΦa − Φᵀx + (u − a), and du/dt = −∂E/∂a is the LCA: du/dt = Φᵀx − u − (ΦᵀΦ − I)a.

    With a soft threshold E is convex, and the certificate is the gap to the dual at ν = s·(x − Φa), s ≤ 1 the scale
    that makes it feasible (|φ_kᵀν| ≤ θ; φ_kᵀν ≤ θ where a ≥ 0); written without cancellation:

        E(a) − D(ν) = ½(1 − s)²‖x − Φa‖² + Σ_k (θ|a_k| − a_k φ_kᵀν)

    With a hard threshold there is none: E has many local minima.
    """

    def __init__(self, model: GenerativeModel, x: Tensor, prior: SparsityCost) -> None:
        super().__init__(model, x, spread=False)
        self.terms = decoder_terms(model, x.dtype)
        self.sparsity = prior
        self.threshold = prior.threshold.to(x.dtype)

    def activation(self, u: Tensor) -> Tensor:
        return self.sparsity.activation(u)

    def cost(self, u: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:
        return self.sparsity.cost(mean.detach()).sum(-1), u - mean

    def proximal_step(self, mean: Tensor, smooth: Tensor, curvature: Tensor) -> Tensor:
        """Soft or hard thresholding of the gradient step y = mean − smooth/h.

        soft   a = T_{θ/h}(y), and u = a + h(y − a), the potential with T(u) = a that carries its subgradient
        hard   u = y: y survives above θ, not only θ/√h, so that T(u) = a. For one coefficient and h ≥ c, E does not
               rise; where several go at once it may, and `Descent` takes the step back
        """
        if self.sparsity.hard:
            return mean - smooth / torch.maximum(curvature, self.diagonal)
        scaled = curvature * mean - smooth  # h·y
        size = scaled.abs() if self.sparsity.signed else scaled
        a = torch.where(size > self.threshold, (scaled - torch.sign(scaled) * self.threshold) / curvature, 0)
        return torch.where(a == 0, scaled, a + torch.sign(scaled) * self.threshold)

    def flow_step(self, point: Point, damping: Tensor) -> Tensor:
        """Δu = −∂E/∂a / max(κ·c, 1): an Euler step of the LCA with the time constant max(κ·c, 1)."""
        return -point.gradient / (damping * point.diagonal).clamp_min(1)

    @torch.no_grad()
    def at(self, mean: Tensor, smooth: Tensor, drive: Tensor) -> tuple[Tensor, Point]:
        """Potentials u with T(u) = mean under a soft threshold, and the energy there, of codes, smooth gradient and
        `drive()`.

        Where a unit is silent its potential is that of the LCA at rest, φ_kᵀ(x − Φa), as far as it is below θ.
        """
        least = -self.threshold if self.sparsity.signed else None  # below θ anything is silent where a ≥ 0
        u = mean.sign().mul_(self.threshold).add_(mean)
        u = torch.where(mean == 0, smooth.neg().clamp_(least, self.threshold), u)
        cost, leak = self.cost(u, mean)
        value = 0.5 * (smooth - drive).mul_(mean).sum(-1) + self.offset + cost
        return u, Point(value, mean, smooth, leak.add_(smooth), self.diagonal)

    def certificate(self, u: Tensor, point: Point | None = None) -> Tensor:
        """The duality gap E(a) − D(ν) ≥ E(a) − E* (B,), without gradient; NaN for a hard threshold."""
        with torch.no_grad():
            here: Point = self.evaluate(u) if point is None else point
            if self.sparsity.hard:
                return torch.full_like(here.value, torch.nan)
            smooth = here.smooth  # −φ_kᵀ(x − Φa), as the observation variance is 1
            violation = smooth.abs().amax(-1) if self.sparsity.signed else -smooth.amin(-1)
            scale = (self.threshold / violation.clamp_min(self.threshold))[:, None]
            cost = here.mean.abs().mul_(self.threshold)
            misfit = (here.value - cost.sum(-1)).clamp_min(0)  # ½‖x − Φa‖²
            slack = (here.mean * smooth).mul_(scale).add_(cost).sum(-1)
            return (1 - scale[:, 0]).square() * misfit + slack
