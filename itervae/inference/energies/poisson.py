"""The free energy of a Poisson posterior under a linear decoder, in closed form."""

from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from itervae.distributions import RelaxedPoisson, poisson_kl
from itervae.inference.energies.base import Point, dense
from itervae.inference.energies.lambertw import log_lambertw_exp
from itervae.inference.energies.linear import LinearEnergy, metric
from itervae.inference.energies.rounding import HALF, SPARE, residual
from itervae.inference.kernels import DESCENT
from itervae.kernels.launch import fusible, operand, run
from itervae.model import GenerativeModel, full_precision

LEAK = 4.0
"""Damping of the leak of a log-rate: a step of the leak alone goes 1/4 of the way."""
LARGEST = 4.0
"""Largest change of a log-rate in one step of the LCA, nats, before momentum."""


class PoissonEnergy(LinearEnergy):
    """F(λ) = (‖x − Φλ‖² + c·λ) / 2σ² + β KL(Pois λ ‖ Pois r), c_k = ‖φ_k‖²: strictly convex in λ.

    ∂F/∂λ = (ΦᵀΦλ − Φᵀx + c/2)/σ² + β(u − log r): lateral inhibition, drive and leak of the LCA.

    The certificate is the gap to the Fenchel dual at ν = (x − Φλ)/σ², an upper bound of F(λ) − F*:
    β Σ_k KL(Pois λ_k ‖ Pois λ̂_k), log λ̂ = u − (∂F/∂λ)/β, the posterior that the residual of λ
    calls for, and what rounding adds.
    """

    def __init__(
        self, model: GenerativeModel, x: Tensor, prior: RelaxedPoisson, precision: Tensor | None = None
    ) -> None:
        super().__init__(model, x, counts=True, precision=precision)
        self._prior = prior
        self.prior_log_rate = prior.log_rate.to(x.dtype)
        self.beta = model.beta.to(x.dtype)
        with torch.no_grad():
            self._prior_mass = (self.beta * self.prior_log_rate.exp()).sum(-1)

    @property
    def unit(self) -> Tensor:
        return self.beta

    @property
    def rest(self) -> Tensor:
        return self.prior_log_rate

    def map(self, f: Callable[[Tensor], Tensor]) -> "PoissonEnergy":
        own = super().map(f)
        assert isinstance(own, PoissonEnergy)
        vars(own).pop("constants", None)  # of the original's tensors
        return own

    @cached_property
    def constants(self) -> tuple[Any, ...]:
        """What compiled code takes: c/σ², the metric of proximal steps and log r (1 or B, K each),
        β, ‖x‖²/2σ² (B,), β Σ r (B,), `shift` (1 or B, K) and `weight` of `Quadratic.product`, and
        1/2σ²."""
        data = self.quadratic
        diagonal, prior = torch.atleast_2d(data.diagonal), torch.atleast_2d(self.prior_log_rate)
        mass, products = self._prior_mass.expand_as(data.offset), (data.shift(), data.weight(), 0.5 / data.variance)
        return tuple(map(operand, (diagonal, metric(diagonal), prior, self.beta, data.offset, mass, *products)))

    def activation(self, u: Float[Tensor, "batch latents"]) -> Float[Tensor, "batch latents"]:
        return u.exp()

    def cost(self, u: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:
        leak = self.beta * (u - self.prior_log_rate)
        with torch.no_grad():
            return (leak - self.beta).mul_(mean).sum(-1) + self._prior_mass, leak

    def proximal_step(
        self, mean: Tensor, data_gradient: Tensor, curvature: Tensor, ease: Tensor | None = None
    ) -> Tensor:
        """The log-rates of a Lambert-W shrinkage λ = a·W(e^s), with a = β/h, s = y/a + log r − log
        a and y = mean − data_gradient/h."""
        if ease is not None:
            data_gradient = data_gradient - self.beta * ease
        log_a = self.beta.log() - curvature.log()
        s = (curvature * mean - data_gradient) / self.beta + self.prior_log_rate - log_a
        return log_a + log_lambertw_exp(s)

    def between(self, u: Tensor, one: Point, v: Tensor, other: Point, fraction: Tensor) -> tuple[Tensor, Point]:
        """The log-rates of (1 − t)λ + tλ' and the energy there, for t (B, 1) in [0, 1].

        It takes no product with Φ, as the gradient of the reconstruction term is linear in λ. Where
        t = 1 the other point is handed back as it is.

        Args:
            u: log λ (B, K), and `one`, the energy there.
            v: log λ' (B, K), and `other`, the energy there.
            fraction: t.
        """
        rows = None
        if not dense(fraction):
            rows = (fraction[:, 0] < 1).nonzero()[:, 0]
            if not len(rows):
                return v, other

        def of(*given: Tensor) -> list[Tensor]:
            return [part if rows is None else part.index_select(0, rows) for part in given]

        mean, data_gradient = (
            torch.lerp(one.mean, other.mean, fraction),
            torch.lerp(one.data_gradient, other.data_gradient, fraction),
        )
        t, before, after, rate = of(fraction, u, v, mean)
        tiny = torch.finfo(rate.dtype).tiny  # rates below it are known by their logarithms alone
        larger = torch.maximum((1 - t).log() + before, t.log() + after)
        log_rate = torch.where(rate > tiny, rate.clamp_min(tiny).log(), larger)
        log_rate = torch.where(t < 1, log_rate, v) if rows is None else v.index_copy(0, rows, log_rate)
        leak = self.beta * (log_rate - self.prior_log_rate)
        with torch.no_grad():
            rate, slope, gradient, value = of(one.mean, one.data_gradient, one.gradient, one.value)
            new_rate, new_slope, new_leak = of(mean, data_gradient, leak)
            # the trapezium rule is exact for the reconstruction term
            gained = (new_rate - rate).mul_(new_slope + slope).mul_(0.5)
            gained += (new_leak - self.beta).mul_(new_rate)
            gained -= (gradient - slope).sub_(self.beta).mul_(rate)
            value = value + gained.sum(-1)
            if rows is None:
                value = torch.where(fraction[:, 0] < 1, value, other.value)
            else:
                value = other.value.index_copy(0, rows, value)
        return log_rate, Point(value, mean, data_gradient, data_gradient + leak, one.diagonal)

    def flow_step(self, point: Point, damping: Tensor) -> Tensor:
        """The step Δu = clip( −∂F/∂λ / (4β + κ·c·λ/σ²), ±4 ); the Jacobian of the flow has the
        diagonal β + cλ/σ²."""
        return self._relaxation(point, damping, LEAK).clamp(-LARGEST, LARGEST)

    def flow(self, point: Point, damping: Tensor) -> Tensor:
        """The velocity du/dt = 4 tanh(v/4), v = −∂F/∂λ / (β + κ·c·λ/σ²): smooth, and no faster than
        4 nats per unit of time."""
        return LARGEST * (self._relaxation(point, damping, 1.0) / LARGEST).tanh()

    def _relaxation(self, point: Point, damping: Tensor, leak: float) -> Tensor:
        return -point.gradient / (leak * self.beta + damping * point.diagonal * point.mean)

    @full_precision
    @torch.no_grad()
    def certificate(self, u: Tensor) -> Tensor:
        """The duality gap F(λ) − D(ν) ≥ F(λ) − F* (B,), nats, at ν = r/σ² with the residual r as it
        was computed:

            F(λ) − D(ν) = ‖(x − Φλ) − r‖²/2σ² + β Σ_k KL(Pois λ_k ‖ Pois λ̂_k)

        Of the λ̂_k that the rounding of φ_kᵀr may stand for, that which gives the larger gap; inf
        where exp overflows."""
        u, prior, beta = u.double(), self._prior.log_rate.double(), self._given[0].beta.double()
        x, terms = self._anew
        rate, variance, diagonal = u.exp(), terms.variance, terms.diagonal
        r = residual(x, rate, terms.operator, u.shape[1])
        # of λ̂, before β: what it has by the variance of counts, and of rounding in the same place
        spread, relative, single = 0.5 * diagonal / beta, r.relative / (variance * beta), HALF * SPARE
        if fusible(u):
            gap = torch.empty_like(r.norm)
            prior, spread, relative = map(torch.atleast_2d, (prior, spread, relative))
            given = u, rate, r.slope, r.norm, prior, spread, relative, 1 / (variance * beta)
            run(DESCENT, "gaps", u, *map(operand, given), single, operand(gap))
        else:
            d = spread - r.slope / (variance * beta) + (u - prior)
            error = r.norm[:, None] * relative + single * (2 * spread + u.abs() + prior.abs())
            away = d.abs() + error
            gap = poisson_kl(u, u - torch.where(d > error, away, -away)).sum(-1)  # larger at d < 0
        exact = 1 + HALF * (SPARE * SPARE + u.shape[1])  # where terms of a divergence cancel
        return exact * (beta * gap + r.off.square() / (2 * variance))
