"""The energy of sparse coding: the lasso, or its hard-threshold relative.

Rozell et al. (2008), "Sparse coding via thresholding and local competition in neural circuits";
Beck & Teboulle (2009).
"""

import torch
from torch import Tensor

from itervae import devices
from itervae.distributions import SparsityCost
from itervae.distributions.family import spread
from itervae.inference.energies.base import Point
from itervae.inference.energies.linear import LinearEnergy
from itervae.inference.energies.rounding import HALF, SPARE, Residual, residual
from itervae.model import GenerativeModel, full_precision


class LassoEnergy(LinearEnergy):
    """E(a) = ½‖x − Φa‖² + Σ_k C(a_k), a = T(u), with the cost C and threshold T of a
    `SparsityCost`.

    The LCA carries the (sub)gradient of the cost as u − a. With a soft threshold that is θ·sign(a)
    where a ≠ 0, with a hard one 0 there; where a = 0 it is u itself, at most θ in size (without a
    lower bound where a ≥ 0). So ∂E/∂a = ΦᵀΦa − Φᵀx + (u − a), and du/dt = −∂E/∂a is the LCA: du/dt
    = Φᵀx − u − (ΦᵀΦ − I)a.

    With a soft threshold E is convex. The certificate is the gap to the dual at ν = s·(x − Φa),
    where the scale s ≤ 1 makes ν feasible: |φ_kᵀν| ≤ θ, or φ_kᵀν ≤ θ where a ≥ 0. Written without
    cancellation:

        E(a) − D(ν) = ½(1 − s)²‖x − Φa‖² + Σ_k (θ|a_k| − a_k φ_kᵀν)

    With a hard threshold there is no certificate: E has many local minima.
    """

    def __init__(self, model: GenerativeModel, x: Tensor, prior: SparsityCost, precision: Tensor | None = None) -> None:
        super().__init__(model, x, counts=False, precision=precision)
        self.sparsity = prior
        self.threshold = prior.threshold.to(x.dtype)
        self._last: tuple[Tensor, tuple[Tensor, Residual, Tensor]] | None = None

    @property
    def unit(self) -> Tensor:
        return self.threshold

    @property
    def rest(self) -> Tensor:
        return torch.zeros_like(self.threshold)

    def activation(self, u: Tensor) -> Tensor:
        return self.sparsity.activation(u)

    def cost(self, u: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:
        return self.sparsity.cost(mean.detach()).sum(-1), u - mean

    def proximal_step(
        self, mean: Tensor, data_gradient: Tensor, curvature: Tensor, ease: Tensor | None = None
    ) -> Tensor:
        """Soft or hard thresholding of the gradient step y = mean − data_gradient/h; the potentials
        u (B, K).

            soft   a = T_{θ/h}(y), and u = a + h(y − a): the potential with T(u) = a, whose
                   difference u − a is the subgradient of the cost; eased by δ the size of hy is
                   larger by δθ, and not below 0 of codes with a sign
            hard   u = y with h ≥ c, so a = T(u) keeps what exceeds θ. The exact proximal step
                   keeps all above θ/√h, but that has no u with T(u) = a. E does not rise if one
                   coefficient moves; if several move it may, and `Descent` takes the step back
        """
        if self.sparsity.hard:
            return mean - data_gradient / torch.maximum(curvature, self.quadratic.diagonal)
        scaled = curvature * mean - data_gradient  # h·y
        size = scaled.abs() if self.sparsity.signed else scaled
        if ease is not None:
            size = size + self.threshold * ease
            scaled = torch.sign(scaled) * size.clamp_min(0) if self.sparsity.signed else size
        a = torch.where(size > self.threshold, (scaled - torch.sign(scaled) * self.threshold) / curvature, 0)
        return torch.where(a == 0, scaled, a + torch.sign(scaled) * self.threshold)

    def flow_step(self, point: Point, damping: Tensor) -> Tensor:
        """The Euler step Δu = −∂E/∂a / max(κ·c, 1) (B, K) of the LCA, with the time constant
        max(κ·c, 1)."""
        return -point.gradient / (damping * point.diagonal).clamp_min(1)

    @torch.no_grad()
    def at(self, mean: Tensor, data_gradient: Tensor, misfit: Tensor) -> tuple[Tensor, Point]:
        """The potentials u (B, K) of given codes under a soft threshold, T(u) = mean, and the
        energy there.

        The potential of a silent unit is that of the LCA at rest, φ_kᵀ(x − Φa), limited to the
        threshold.

        Args:
            mean: codes a (B, K).
            data_gradient: gradient of the reconstruction term at a (B, K).
            misfit: ½‖x − Φa‖² (B,).
        """
        least = -self.threshold if self.sparsity.signed else None  # below θ anything is silent where a ≥ 0
        u = mean.sign().mul_(self.threshold).add_(mean)
        u = torch.where(mean == 0, data_gradient.neg().clamp_(least, self.threshold), u)
        cost, leak = self.cost(u, mean)
        return u, Point(misfit + cost, mean, data_gradient, leak.add_(data_gradient), self.quadratic.diagonal)

    @full_precision
    @torch.no_grad()
    def certificate(self, u: Tensor) -> Tensor:
        """The duality gap E(a) − D(ν) ≥ E(a) − E* (B,), in float64; NaN for a hard threshold.

        The dual point is ν = s·r, with r the residual as computed, rounding included. As r is not
        quite x − Φa, the term ½(1 − s)²‖x − Φa‖² becomes ½‖(x − Φa) − s·r‖². The scale s is small
        enough that ν is feasible whatever the rounding error of φ_kᵀr.
        """
        if self.sparsity.hard:
            return super().certificate(u)
        a, r, _ = self._residual(u)
        threshold, size = self.sparsity.threshold.double(), a.abs()
        violation = ((r.slope.abs() if self.sparsity.signed else r.slope) + r.error).amax(-1)
        scale = ((1 - SPARE * HALF) * threshold / violation.clamp_min(threshold))[:, None]
        cost = threshold * size
        slack = (cost - scale * (a * r.slope)).sum(-1)
        rounded = (scale * (size * r.error)).sum(-1) + HALF * (SPARE + 2 * a.shape[1]) * cost.sum(-1)
        apart = (1 - scale[:, 0]) * (1 + HALF * (SPARE + self.quadratic.x.shape[1])) * r.norm + r.off
        return 0.5 * apart.square() + slack + rounded

    @full_precision
    @torch.no_grad()
    def handed_on(self, u: Tensor, certificate: Tensor, given: Tensor) -> Tensor:
        """A proved bound of E(given) − E*: the certificate at u, and the rise of E from there to
        `given`. Rounding moves E by its square, and a duality gap in the first order."""
        a, r, norms = self._residual(u)
        moved = self.sparsity.activation(given).double() - a
        threshold = self.sparsity.threshold.double()
        cost = threshold * ((a + moved).abs() - a.abs())
        error = r.error + r.off[:, None] * norms + HALF * SPARE * (threshold + r.slope.abs())
        rise = (cost - moved * r.slope + moved.abs() * error).sum(-1) + 0.5 * spread(moved.abs(), norms).square()
        return certificate + rise.clamp_min(0)

    def _residual(self, u: Tensor) -> tuple[Tensor, Residual, Tensor]:
        """The codes a = T(u) (B, K), rounded as those who take them see them, in the precision of
        u, their residual, and the norms of the atoms, float64. On a CPU those of the last u are
        kept: a product with all atoms costs more than a comparison."""
        if self._last is None or not torch.equal(self._last[0], u):
            a = self.sparsity.activation(u).double()
            x, terms = self._anew
            found = residual(x, a, terms.operator, (a != 0).sum(-1).double())
            last = u.clone(), (a, found, terms.operator.atom_norms().sqrt())
            if not devices.on_cpu(u):
                return last[1]
            self._last = last
        return self._last[1]
