"""What an inference engine minimizes: value, gradient, curvature and proximal step, for a batch of data.

An energy is a function of unconstrained parameters u, log-rates or membrane potentials, that give latents of mean μ(u):

    E(u) = reconstruction(μ) + cost(u),        ∂E/∂μ = smooth + leak

The flow of the LCA is du/dt = −∂E/∂μ. `PoissonEnergy` here, `LassoEnergy` and `SampledEnergy` in files of their own.
"""

from abc import ABC, abstractmethod
from copy import copy
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from itervae.distributions import RelaxedPoisson, poisson_kl
from itervae.inference.decoder_terms import decoder_terms
from itervae.inference.lambertw import log_lambertw_exp
from itervae.inference.numba_code import fusible, numbers, run
from itervae.inference.rounding import HALF, SPARE, residual
from itervae.model import GenerativeModel, full_precision

LEAK = 4.0
"""Damping of the leak of a log-rate: a step of the leak alone goes 1/4 of the way."""
LARGEST = 4.0
"""No log-rate changes by more in one step of the LCA, before momentum."""
ROUNDING = 8.0
"""Units in the last place by which energies may rise."""
FLOOR = 1e-12
"""Smallest metric of a unit, relative to the largest: atoms of zero norm take no quadratic term."""


def dense(value: Tensor) -> bool:
    """Whether to treat all data alike rather than look for those that a case concerns: on a GPU a look would
    synchronize, in compiled code break the graph."""
    return value.device.type != "cpu" or torch.compiler.is_compiling()


def metric(diagonal: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """The metric of proximal steps up to κ: the diagonal c/σ², positive."""
    return diagonal.clamp_min(FLOOR * diagonal.max().clamp_min(FLOOR))


class Point(NamedTuple):
    """An energy evaluated at u.

    `value` (B,), without gradient, up to a constant per datum; `mean` μ (B, K), a rate or a coefficient; `smooth` the
    gradient of the reconstruction term in μ (B, K), linear in μ for a linear decoder; `gradient` ∂E/∂μ = smooth + leak
    (B, K); `diagonal` that of the curvature of the reconstruction term, c/σ² (K,) for a linear decoder.
    """

    value: Float[Tensor, " batch"]
    mean: Float[Tensor, "batch latents"]
    smooth: Float[Tensor, "batch latents"]
    gradient: Float[Tensor, "batch latents"]
    diagonal: Float[Tensor, "*batch latents"]


class Energy(ABC):
    """A function of unconstrained parameters u to be minimized, for a batch of data."""

    exact: ClassVar[bool]
    """Whether `evaluate` is free of sampling noise, so that two values can be compared."""

    def certificate(self, u: Tensor) -> Float[Tensor, " batch"]:
        """A proved bound of E(u) − E* (B,), float64, without gradient; NaN where there is none.

        It is computed anew, in float64, and includes what rounding can have done to it."""
        return torch.full_like(u[:, 0], torch.nan, dtype=torch.float64)

    def handed_on(self, u: Tensor, certificate: Tensor, given: Tensor) -> Float[Tensor, " batch"]:
        """A proved bound at `given` (B, P), which is u in a lower precision, where `certificate` (B,) is one at u."""
        return self.certificate(given)


class SolvableEnergy(Energy):
    """An energy that a solver goes down on."""

    @abstractmethod
    def evaluate(self, u: Float[Tensor, "batch latents"]) -> Point:
        """The energy and its gradients at u (B, K)."""


class LinearEnergy(SolvableEnergy):
    """An energy with the reconstruction term of a linear decoder under a Gaussian likelihood, in closed form:

        reconstruction = E‖x − Φz‖² / 2σ² = ‖x − Φμ‖² / 2σ² + s·μ
        smooth = (ΦᵀΦμ − Φᵀx)/σ² + s

    where s_k μ_k is the part that the variance of z_k adds. The Gram matrix ΦᵀΦ is formed where that is the cheaper way
    to ΦᵀΦμ (K < 2D), else the residual x − Φμ is.

    Subclasses write `activation` and `cost`, and what a step needs: `proximal_step` and `flow_metric`.
    """

    exact = True

    @full_precision
    def __init__(self, model: GenerativeModel, x: Tensor, spread: bool) -> None:
        terms = decoder_terms(model, x.dtype)
        self.x = x
        self.dictionary, self._scaled, self.diagonal = terms.dictionary, terms.scaled, terms.diagonal
        self._spread = 0.5 * self.diagonal if spread else torch.zeros_like(self.diagonal)
        size, latents = self.dictionary.shape
        self._gram = None
        if latents < 2 * size:
            self._gram = terms.gram
            self._drive = self.drive()
        with torch.no_grad():
            self.variance = terms.variance.detach()
            self.offset = x.square().sum(-1) / (2 * self.variance)

    @abstractmethod
    def activation(self, u: Float[Tensor, "batch latents"]) -> Float[Tensor, "batch latents"]:
        """μ(u)."""

    @abstractmethod
    def cost(
        self, u: Float[Tensor, "batch latents"], mean: Float[Tensor, "batch latents"]
    ) -> tuple[Float[Tensor, " batch"], Float[Tensor, "batch latents"]]:
        """The cost (B,), without gradient, and the leak (B, K), its (sub)gradient in μ."""

    @abstractmethod
    def proximal_step(
        self,
        mean: Float[Tensor, "batch latents"],
        smooth: Float[Tensor, "batch latents"],
        curvature: Float[Tensor, "#batch latents"],
    ) -> Float[Tensor, "batch latents"]:
        """u of argmin_μ smooth·(μ − mean) + ½ Σ h_k (μ_k − mean_k)² + cost(μ).

        Args:
            mean: the point of linearization (B, K), of any sign.
            smooth: gradient of the reconstruction term there (B, K).
            curvature: h > 0, the metric, broadcast against (B, K).
        """

    @abstractmethod
    def flow_step(self, point: Point, damping: Float[Tensor, "batch 1"]) -> Float[Tensor, "batch latents"]:
        """A step along the flow of the LCA (B, K), with damping κ (B, 1) in units of the diagonal."""

    def flow(self, point: Point, damping: Float[Tensor, "batch 1"]) -> Float[Tensor, "batch latents"]:
        """du/dt of the LCA (B, K), with each latent's time in units of its own relaxation time."""
        return self.flow_step(point, damping)

    @full_precision
    def evaluate(self, u: Float[Tensor, "batch latents"]) -> Point:
        """The energy and its gradients at u (B, K): two products with Φ, or one with ΦᵀΦ."""
        mean = self.activation(u)
        smooth, residual = self.smooth(mean)
        cost, leak = self.cost(u, mean)
        value = self._reconstruction(mean.detach(), smooth.detach(), residual) + cost
        return Point(value, mean, smooth, smooth + leak, self.diagonal)

    @full_precision
    def smooth(self, mean: Float[Tensor, "batch latents"]) -> tuple[Float[Tensor, "batch latents"], Tensor | None]:
        """(ΦᵀΦμ − Φᵀx)/σ² + s (B, K), at a mean μ or at counts, and the residual x − Φμ (B, D) where it is formed."""
        if self._gram is not None:
            return torch.addmm(self._drive, mean, self._gram, beta=-1), None
        residual = torch.addmm(self.x, mean, self.dictionary.mT, alpha=-1)
        return torch.addmm(self._spread, residual, self._scaled, alpha=-1), residual

    @full_precision
    def product(self, mean: Float[Tensor, "batch latents"]) -> tuple[Float[Tensor, "batch latents"], Tensor]:
        """A product P (B, K) and Φμ − x (B, D), or (B, 0) by Gram, of which smooth = P − `shift` and, with `share`,
        reconstruction = misfit + Σ_k (share·P − shift)_k μ_k; the misfit is ‖Φμ − x‖²/2σ², by Gram ‖x‖²/2σ²."""
        if self._gram is not None:
            return mean @ self._gram, mean[:, :0]
        residual = (mean @ self.dictionary.mT).sub_(self.x)
        return residual @ self._scaled, residual

    def shift(self) -> Float[Tensor, "#batch latents"]:
        """Of `product` (1 or B, K)."""
        return -self._spread[None] if self._gram is None else self._drive

    def share(self) -> Float[Tensor, ""]:
        """Of `product`: ½ of a quadratic form, or nothing where the misfit has it all."""
        return self.offset.new_tensor(0.0 if self._gram is None else 0.5)

    def drive(self) -> Float[Tensor, "batch latents"]:
        """Φᵀx/σ² − s (B, K): minus the gradient of the reconstruction term at μ = 0."""
        return self.x @ self._scaled - self._spread

    def separated(self) -> tuple["LinearEnergy", list[Tensor]]:
        """This energy on aliases of its own tensors, and those of them that carry gradient: no alias depends on
        another, so that derivatives in one leave out the ways through the others."""
        own = copy(self)
        vars(own).update(
            {name: value.view_as(value) for name, value in vars(self).items() if isinstance(value, Tensor)}
        )
        return own, [value for value in vars(own).values() if isinstance(value, Tensor) and value.requires_grad]

    @torch.no_grad()
    def _reconstruction(self, mean: Tensor, smooth: Tensor, residual: Tensor | None) -> Tensor:
        if residual is None:  # ‖x − Φμ‖² = ‖x‖² − 2μᵀΦᵀx + μᵀΦᵀΦμ
            return 0.5 * (smooth - self._drive).mul_(mean).sum(-1) + self.offset
        return residual.square().sum(-1) / (2 * self.variance) + mean @ self._spread

    def tolerance(self, point: Point) -> Float[Tensor, " batch"]:
        """Rises of the energy below this (B,) are rounding."""
        return ROUNDING * torch.finfo(point.value.dtype).eps * (point.value.abs() + self.offset)


class PoissonEnergy(LinearEnergy):
    """F(λ) = (‖x − Φλ‖² + c·λ) / 2σ² + β KL(Pois λ ‖ Pois r), c_k = ‖φ_k‖²: strictly convex in λ.

    ∂F/∂λ = (ΦᵀΦλ − Φᵀx + c/2)/σ² + β(u − log r): lateral inhibition, drive and leak of the LCA.

    The certificate is the gap to the Fenchel dual at ν = (x − Φλ)/σ², an upper bound of F(λ) − F*:
    β Σ_k KL(Pois λ_k ‖ Pois λ̂_k), log λ̂ = u − (∂F/∂λ)/β, the posterior that the residual of λ calls for, and what
    rounding adds.
    """

    def __init__(self, model: GenerativeModel, x: Tensor, prior: RelaxedPoisson) -> None:
        super().__init__(model, x, spread=True)
        self._model, self._prior = model, prior
        self.prior_log_rate = prior.log_rate.to(x.dtype)
        self.beta = model.beta.to(x.dtype)
        with torch.no_grad():
            self._prior_mass = (self.beta * self.prior_log_rate.exp()).sum(-1)

    @cached_property
    def constants(self) -> tuple[Any, ...]:
        """For compiled code: c/σ² (K,), the metric of proximal steps (K,), log r (1 or B, K), β, ‖x‖²/2σ² (B,),
        β Σ r (B,), and `shift` (1 or B, K) and `share` of products, and 1/2σ²."""
        prior, mass = self.prior_log_rate.view(-1, len(self.diagonal)), self._prior_mass.expand_as(self.offset)
        products = self.shift(), self.share(), 0.5 / self.variance
        return tuple(
            map(numbers, (self.diagonal, metric(self.diagonal), prior, self.beta, self.offset, mass, *products))
        )

    def activation(self, u: Float[Tensor, "batch latents"]) -> Float[Tensor, "batch latents"]:
        return u.exp()

    def cost(self, u: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:
        leak = self.beta * (u - self.prior_log_rate)
        with torch.no_grad():
            return (leak - self.beta).mul_(mean).sum(-1) + self._prior_mass, leak

    def proximal_step(self, mean: Tensor, smooth: Tensor, curvature: Tensor) -> Tensor:
        """A Lambert-W shrinkage: λ = a·W(e^s), a = β/h, s = y/a + log r − log a, y = mean − smooth/h; answers log λ."""
        log_a = self.beta.log() - curvature.log()
        s = (curvature * mean - smooth) / self.beta + self.prior_log_rate - log_a
        return log_a + log_lambertw_exp(s)

    def between(self, u: Tensor, one: Point, v: Tensor, other: Point, share: Tensor) -> tuple[Tensor, Point]:
        """log-rates of (1 − t)λ + tλ' and the energy there, for t (B, 1) in [0, 1]: no product with Φ, as the gradient
        of the reconstruction term is linear in λ. Where t = 1, the other point as it is, if it is finite."""
        rows = None
        if not dense(share):
            rows = (share[:, 0] < 1).nonzero()[:, 0]
            if not len(rows):
                return v, other

        def of(*given: Tensor) -> list[Tensor]:
            return [part if rows is None else part.index_select(0, rows) for part in given]

        mean, smooth = torch.lerp(one.mean, other.mean, share), torch.lerp(one.smooth, other.smooth, share)
        t, before, after, rate = of(share, u, v, mean)
        tiny = torch.finfo(rate.dtype).tiny  # rates below it are known by their logarithms alone
        larger = torch.maximum((1 - t).log() + before, t.log() + after)
        log_rate = torch.where(rate > tiny, rate.clamp_min(tiny).log(), larger)
        log_rate = torch.where(t < 1, log_rate, v) if rows is None else v.index_copy(0, rows, log_rate)
        leak = self.beta * (log_rate - self.prior_log_rate)
        with torch.no_grad():
            rate, slope, gradient, value = of(one.mean, one.smooth, one.gradient, one.value)
            new_rate, new_slope, new_leak = of(mean, smooth, leak)
            # the trapezium rule is exact for the reconstruction term
            gained = (new_rate - rate).mul_(new_slope + slope).mul_(0.5)
            gained += (new_leak - self.beta).mul_(new_rate)
            gained -= (gradient - slope).sub_(self.beta).mul_(rate)
            value = value + gained.sum(-1)
            if rows is None:
                value = torch.where(share[:, 0] < 1, value, other.value)
            else:
                value = other.value.index_copy(0, rows, value)
        return log_rate, Point(value, mean, smooth, smooth + leak, one.diagonal)

    def flow_step(self, point: Point, damping: Tensor) -> Tensor:
        """Δu = clip( −∂F/∂λ / (4β + κ·c·λ/σ²), ±4 ): the Jacobian of the flow has the diagonal β + cλ/σ²."""
        return self._relaxation(point, damping, LEAK).clamp(-LARGEST, LARGEST)

    def flow(self, point: Point, damping: Tensor) -> Tensor:
        """du/dt = 4 tanh(v/4), v = −∂F/∂λ / (β + κ·c·λ/σ²): smooth, and no faster than 4 per unit of time."""
        return LARGEST * (self._relaxation(point, damping, 1.0) / LARGEST).tanh()

    def _relaxation(self, point: Point, damping: Tensor, leak: float) -> Tensor:
        return -point.gradient / (leak * self.beta + damping * point.diagonal * point.mean)

    @full_precision
    @torch.no_grad()
    def certificate(self, u: Tensor) -> Tensor:
        """The duality gap F(λ) − D(ν) ≥ F(λ) − F* (B,), nats, at ν = r/σ² with the residual r as it was computed:

            F(λ) − D(ν) = ‖(x − Φλ) − r‖²/2σ² + β Σ_k KL(Pois λ_k ‖ Pois λ̂_k)

        Of the λ̂_k that the rounding of φ_kᵀr may stand for, that which gives the larger gap; inf where exp
        overflows."""
        u, x, prior = u.double(), self.x.double(), self._prior.log_rate.double()
        terms, beta = decoder_terms(self._model, torch.float64), self._model.beta.double()
        rate, variance, diagonal = u.exp(), terms.variance, terms.diagonal
        r = residual(x, rate, terms.dictionary, u.shape[1])
        # of λ̂, before β: what it has by the variance of counts, and of rounding in the same place
        spread, share, single = 0.5 * diagonal / beta, r.share / (variance * beta), HALF * SPARE
        if fusible(u):
            gap = torch.empty_like(r.norm)
            given = u, rate, r.slope, r.norm, prior.view(-1, len(share)), spread, share, 1 / (variance * beta)
            run("gaps", u, *map(numbers, given), single, gap.numpy())
        else:
            d = spread - r.slope / (variance * beta) + (u - prior)
            error = r.norm[:, None] * share + single * (2 * spread + u.abs() + prior.abs())
            away = d.abs() + error
            gap = poisson_kl(u, u - torch.where(d > error, away, -away)).sum(-1)  # larger at d < 0
        exact = 1 + HALF * (SPARE * SPARE + u.shape[1])  # where terms of a divergence cancel
        return exact * (beta * gap + r.off.square() / (2 * variance))
