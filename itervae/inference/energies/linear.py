"""Energies with the reconstruction term of a linear decoder, and what these share for all data: Φ, its norms, its Gram
matrix.

On a CPU the latter are kept per model, beside a copy of the numbers that they were made from, and used again where the
model still has exactly those: a stream of frames, or data that are inferred batch by batch, pay for one comparison. How
a parameter was changed (a step of training, `.data`, another tensor in its place) makes no difference. On a GPU, where
a comparison would wait for the device and a Gram matrix costs little, they are made anew.
"""

from abc import abstractmethod
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor

from itervae.inference.energies.base import Point, SolvableEnergy
from itervae.model import GaussianLikelihood, GenerativeModel, full_precision

ROUNDING = 8.0
"""Units in the last place by which energies may rise."""
FLOOR = 1e-12
"""Smallest metric of a unit, relative to the largest: atoms of zero norm take no quadratic term."""


@dataclass
class DecoderTerms:
    """Φ (D, K) and σ², in the precision of the data.

    `scaled` is Φ/σ² and `diagonal` c/σ² (K,), c_k = ‖φ_k‖².
    """

    dictionary: Tensor
    variance: Tensor
    scaled: Tensor
    diagonal: Tensor

    @cached_property
    def gram(self) -> Tensor:
        """ΦᵀΦ/σ² (K, K)."""
        if self.scaled.requires_grad:
            return self.dictionary.mT @ self.scaled
        with torch.inference_mode(False), torch.no_grad():  # it may outlive the mode that it is first asked for in
            return self.dictionary.mT @ self.scaled

    @cached_property
    def curvature_bound(self) -> Tensor:
        """A number that no eigenvalue of ΦᵀΦ/σ² exceeds: the largest sum of a row of magnitudes."""
        return self.gram.abs().sum(1).amax()


_kept: "WeakKeyDictionary[GenerativeModel, dict[torch.dtype, DecoderTerms]]" = WeakKeyDictionary()


def decoder_terms(model: GenerativeModel, dtype: torch.dtype) -> DecoderTerms:
    """The terms of a model with a linear decoder and a Gaussian likelihood, as its parameters are now."""
    decoder, likelihood = model.linear_decoder, model.likelihood
    assert isinstance(likelihood, GaussianLikelihood)
    on_cpu = decoder.weight.device.type == "cpu"
    if not on_cpu or (torch.is_grad_enabled() and any(p.requires_grad for p in (decoder.weight, likelihood.variance))):
        return _terms(decoder.dictionary_in(dtype), likelihood.variance_in(dtype))
    # outside of inference mode, whose tensors could not be saved for a later gradient
    with torch.inference_mode(False), torch.no_grad():
        dictionary, variance = decoder.dictionary_in(dtype), likelihood.variance_in(dtype)
        kept = _kept.setdefault(model, {})
        made = kept.get(dtype)
        if made is None or not (torch.equal(made.dictionary, dictionary) and torch.equal(made.variance, variance)):
            kept[dtype] = _terms(dictionary.clone(), variance.clone())  # Φ may be the weight itself, which changes
        return kept[dtype]


def _terms(dictionary: Tensor, variance: Tensor) -> DecoderTerms:
    return DecoderTerms(dictionary, variance, dictionary / variance, dictionary.square().sum(0) / variance)


def metric(diagonal: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """The metric of proximal steps up to κ: the diagonal c/σ², positive."""
    return diagonal.clamp_min(FLOOR * diagonal.max().clamp_min(FLOOR))


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


def rises(energy: LinearEnergy, old: Point, new: Point) -> Tensor:
    """Whether E is higher at the new point than at the old one, beyond rounding (B,); NaN counts as a rise."""
    return ~(new.value <= old.value + energy.tolerance(old))
