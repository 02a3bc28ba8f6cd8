"""The reconstruction term of a linear decoder, energies that have it, and what these share for all
data: the operator Φ, the norms of its atoms, its Gram matrix.

On a CPU the latter are kept per decoder, beside a copy of the numbers that they were made from, and
used again where the model still has exactly those: a stream of frames, or data that are inferred
batch by batch, pay for one comparison. How a parameter was changed (a step of training, `.data`,
another tensor in its place) makes no difference. On a GPU, where a comparison would wait for the
device and a Gram matrix costs little, they are made anew.
"""

from abc import abstractmethod
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor, nn

from itervae import devices
from itervae.distributions.family import spread
from itervae.inference.energies.base import Point, SolvableEnergy
from itervae.model import GaussianLikelihood, GenerativeModel, LinearOperator, full_precision

ROUNDING = 8.0
"""Units in the last place of E below which a rise is rounding."""
FLOOR = 1e-12
"""Smallest metric of a unit as a share of the largest, for atoms of zero norm, which have no
quadratic term."""


@dataclass
class DecoderTerms:
    """The `operator` Φ and the `variance` σ² (), in the precision of the data.

    `scaled` is Φ/σ² and `diagonal` c/σ² (K,), c_k = ‖φ_k‖²; (B, K) where data have weights of their
    own.
    """

    operator: LinearOperator
    variance: Tensor
    scaled: LinearOperator
    diagonal: Tensor

    def weighted(self, root: Tensor) -> "DecoderTerms":
        """The terms of diag(ρ)Φ, with ρ (D,) or (B, D)."""
        return _terms(self.operator.weighted(root), self.variance)

    @cached_property
    def gram(self) -> Tensor | None:
        """ΦᵀΦ/σ² (K, K), where the operator forms it."""
        if any(value.requires_grad for value in self.scaled.tensors()):
            return self.operator.gram(self.scaled)
        with torch.inference_mode(False), torch.no_grad():  # it may outlive the mode that it is first asked for in
            return self.operator.gram(self.scaled)


_kept: "WeakKeyDictionary[nn.Module, dict[torch.dtype, DecoderTerms]]" = WeakKeyDictionary()


def decoder_terms(model: GenerativeModel, dtype: torch.dtype) -> DecoderTerms:
    """The terms of a model with a linear decoder and a Gaussian likelihood, from its parameters as
    they are now; where each value has a variance σ_d² of its own, Φ has its rows over σ_d, and σ²
    is 1."""
    likelihood = model.likelihood
    assert isinstance(likelihood, GaussianLikelihood)
    learned = any(p.requires_grad for p in (*model.decoder.parameters(), likelihood.variance))
    if not devices.on_cpu(model.beta) or (torch.is_grad_enabled() and learned):
        return _terms(model.standard_operator(dtype), likelihood.common(dtype))
    # outside of inference mode, whose tensors could not be saved for a later gradient
    with torch.inference_mode(False), torch.no_grad():
        operator, variance = model.standard_operator(dtype), likelihood.common(dtype)
        kept = _kept.setdefault(model.decoder, {})
        made = kept.get(dtype)
        if made is None or not (made.operator.equals(operator) and torch.equal(made.variance, variance)):
            if not operator.fits:
                kept.clear()  # of many atoms those in one precision alone
            # Φ may be the weight itself, which changes
            kept[dtype] = _terms(operator.copy(), variance.clone())
        return kept[dtype]


def observed(model: GenerativeModel, x: Tensor, precision: Tensor | None) -> tuple[Tensor, DecoderTerms]:
    """The data √w·(x − b) (B, D), and the terms of diag(√w)Φ: all values have the variance σ² then.

    Args:
        model: with a linear decoder x̂ = Φz + b and a Gaussian likelihood.
        x: data (B, D), in the precision that is computed in.
        precision: w (D,) or (B, D); 1 everywhere where None.
    """
    terms = decoder_terms(model, x.dtype)
    if precision is None:
        return model.standard(x), terms
    root = precision.to(x.dtype).sqrt()
    return root * model.standard(x), terms.weighted(root)


def _terms(operator: LinearOperator, variance: Tensor) -> DecoderTerms:
    same = devices.on_cpu(variance) and not variance.requires_grad and bool(variance == 1)  # no second copy
    scaled = operator if same else operator.scaled(variance)
    return DecoderTerms(operator, variance, scaled, operator.atom_norms() / variance)


def metric(diagonal: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """The diagonal c/σ², made positive: the metric of proximal steps up to the factor κ."""
    return diagonal.clamp_min(FLOOR * diagonal.max().clamp_min(FLOOR))


class Quadratic:
    """The reconstruction term of a linear decoder under a Gaussian likelihood, for a batch of data:

        E‖x − Φz‖² / 2σ² = ‖x − Φμ‖² / 2σ² + s·μ,      its gradient in μ: (ΦᵀΦμ − Φᵀx)/σ² + s

    s_k μ_k is what the variance of z_k adds. ΦᵀΦμ is one product with the Gram matrix where that
    is the cheaper way (`LinearOperator.gram_pays`), else Φᵀ of the residual x − Φμ.

    Args:
        terms: of the model, in the precision of the data.
        x: data (B, D).
        counts: whether z is a count, whose variance is its mean, so that s = c/2σ²; else s = 0.
    """

    def __init__(self, terms: DecoderTerms, x: Float[Tensor, "batch size"], counts: bool) -> None:
        self.x, self.terms = x, terms
        self.operator, self.scaled, self.diagonal = terms.operator, terms.scaled, terms.diagonal
        self.slope = 0.5 * self.diagonal if counts else torch.zeros_like(self.diagonal)  # s
        self.gram = None
        if self.operator.gram_pays:
            self.gram = terms.gram
            self._drive = self.drive()
        with torch.no_grad():
            self.variance = terms.variance.detach()
            self.offset = x.square().sum(-1) / (2 * self.variance)  # the term at μ = 0 (B,)

    @full_precision
    def gradient(self, mean: Float[Tensor, "batch latents"]) -> tuple[Float[Tensor, "batch latents"], Tensor | None]:
        """The gradient (B, K) at a mean μ, or at counts, and the residual x − Φμ (B, D); None where
        the Gram matrix serves and no residual is formed."""
        if self.gram is not None:
            return torch.addmm(self._drive, mean, self.gram, beta=-1), None
        residual = self.operator.residual(self.x, mean)
        return self.scaled.adjoint_residual(self.slope, residual), residual

    @torch.no_grad()
    def value(self, mean: Tensor, gradient: Tensor, residual: Tensor | None) -> Float[Tensor, " batch"]:
        """The reconstruction term (B,) at a mean, without gradient, from what `gradient` gave
        there."""
        if residual is None:  # ‖x − Φμ‖² = ‖x‖² − 2μᵀΦᵀx + μᵀΦᵀΦμ
            return 0.5 * (gradient - self._drive).mul_(mean).sum(-1) + self.offset
        return residual.square().sum(-1) / (2 * self.variance) + spread(mean, self.slope)

    @full_precision
    def product(self, mean: Float[Tensor, "batch latents"]) -> tuple[Float[Tensor, "batch latents"], Tensor]:
        """A product P (B, K) and Φμ − x (B, D), or (B, 0) by Gram, from which compiled code makes

            gradient = P − shift,      value = misfit + Σ_k (weight·P − shift)_k μ_k

        with the misfit ‖Φμ − x‖²/2σ², by Gram ‖x‖²/2σ²."""
        if self.gram is not None:
            return mean @ self.gram, mean[:, :0]
        residual = self.operator.forward(mean).sub_(self.x)
        return self.scaled.adjoint(residual), residual

    def shift(self) -> Float[Tensor, "#batch latents"]:
        """The shift (1 or B, K) of `product`."""
        return torch.atleast_2d(-self.slope) if self.gram is None else self._drive

    def weight(self) -> Float[Tensor, ""]:
        """The weight of `product`: ½ with the Gram matrix, where the value is a quadratic form,
        else 0, as the misfit has all of it."""
        return self.offset.new_full((), 0.0 if self.gram is None else 0.5)

    def drive(self) -> Float[Tensor, "batch latents"]:
        """The drive Φᵀx/σ² − s (B, K): minus the gradient at μ = 0."""
        return self.scaled.adjoint(self.x) - self.slope


class LinearEnergy(SolvableEnergy):
    """An energy E(u) = reconstruction(μ(u)) + cost(u) whose reconstruction term is that of a linear
    decoder under a Gaussian likelihood, a `Quadratic` in μ.

    Subclasses write `activation` and `cost`, and what a step needs: `proximal_step` and
    `flow_step`.
    """

    exact = True

    @full_precision
    def __init__(self, model: GenerativeModel, x: Tensor, counts: bool, precision: Tensor | None = None) -> None:
        self._given = model, x, precision
        x, terms = observed(model, x, precision)
        self.quadratic = Quadratic(terms, x, counts)

    @property
    def maps(self) -> int:
        """Atoms, of a convolutional dictionary each at many places; K of another."""
        return self._given[0].prior.maps

    @property
    @abstractmethod
    def unit(self) -> Float[Tensor, ""]:
        """The unit of the leak: β, or the threshold θ."""

    @property
    @abstractmethod
    def rest(self) -> Tensor:
        """u where nothing drives a latent: log r, or 0; broadcast against (B, K)."""

    @cached_property
    def _anew(self) -> tuple[Tensor, DecoderTerms]:
        """Data and terms as `observed` has them, in float64 from what was given, for
        certificates."""
        model, x, precision = self._given
        return observed(model, x.double(), precision)

    @abstractmethod
    def activation(self, u: Float[Tensor, "batch latents"]) -> Float[Tensor, "batch latents"]:
        """The mean μ(u) (B, K)."""

    @abstractmethod
    def cost(
        self, u: Float[Tensor, "batch latents"], mean: Float[Tensor, "batch latents"]
    ) -> tuple[Float[Tensor, " batch"], Float[Tensor, "batch latents"]]:
        """The cost (B,), without gradient, and the leak (B, K), its (sub)gradient in μ."""

    @abstractmethod
    def proximal_step(
        self,
        mean: Float[Tensor, "batch latents"],
        data_gradient: Float[Tensor, "batch latents"],
        curvature: Float[Tensor, "#batch latents"],
        ease: Float[Tensor, "batch latents"] | None = None,
    ) -> Float[Tensor, "batch latents"]:
        """The parameters u (B, K) whose mean minimizes data_gradient·(μ − mean) + ½ Σ_k h_k (μ_k −
        mean_k)² + cost(μ).

        Args:
            mean: the point of linearization (B, K), of any sign.
            data_gradient: gradient of the reconstruction term there (B, K).
            curvature: h > 0, the metric, broadcast against (B, K).
            ease: δ (B, K), by which the leak of each latent is less, in its `unit`: the prior
                log-rate is log r + δ, the threshold (1 − δ)θ; 0 where None.
        """

    @abstractmethod
    def flow_step(self, point: Point, damping: Float[Tensor, "batch 1"]) -> Float[Tensor, "batch latents"]:
        """The step Δu (B, K) along the flow of the LCA, with damping κ (B, 1) in units of the
        diagonal."""

    def flow(self, point: Point, damping: Float[Tensor, "batch 1"]) -> Float[Tensor, "batch latents"]:
        """The velocity du/dt of the LCA (B, K), where the time of each latent runs in units of its
        own relaxation time."""
        return self.flow_step(point, damping)

    @full_precision
    def evaluate(self, u: Float[Tensor, "batch latents"]) -> Point:
        """The energy and its gradients at u (B, K): two products with Φ, or one with ΦᵀΦ."""
        mean = self.activation(u)
        slope, residual = self.quadratic.gradient(mean)
        cost, leak = self.cost(u, mean)
        value = self.quadratic.value(mean.detach(), slope.detach(), residual) + cost
        return Point(value, mean, slope, slope + leak, self.quadratic.diagonal)

    def map(self, f: Callable[[Tensor], Tensor]) -> "LinearEnergy":
        """A copy of this energy with `f` of each tensor in its place."""
        own = copy(self)
        own.quadratic = copy(self.quadratic)
        for part in (own, own.quadratic):
            for name, value in vars(part).items():
                if isinstance(value, Tensor):
                    setattr(part, name, f(value))
                elif isinstance(value, LinearOperator):
                    setattr(part, name, value.map(f))
        return own

    def tensors(self) -> list[Tensor]:
        """The tensors that `map` takes, in its order."""
        found: list[Tensor] = []
        self.map(lambda value: found.append(value) or value)
        return found

    def separated(self) -> tuple["LinearEnergy", list[Tensor]]:
        """A copy of this energy whose tensors are aliases of the originals, and the list of those
        aliases that require gradient.

        Aliases do not depend on each other. So a derivative in one alias is a partial derivative,
        with all the others held fixed.
        """
        own = self.map(lambda value: value.view_as(value))
        return own, [value for value in own.tensors() if value.requires_grad]

    def tolerance(self, point: Point) -> Float[Tensor, " batch"]:
        """The rise of the energy (B,) below which it is rounding."""
        return ROUNDING * torch.finfo(point.value.dtype).eps * (point.value.abs() + self.quadratic.offset)


def rises(energy: LinearEnergy, old: Point, new: Point) -> Tensor:
    """Whether E is higher at the new point than at the old one, beyond rounding (B,); NaN counts as
    a rise."""
    return ~(new.value <= old.value + energy.tolerance(old))
