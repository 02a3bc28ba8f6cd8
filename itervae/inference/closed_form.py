"""The posterior of least free energy where it can be written down: Gaussian and categorical posteriors.

Linear decoder x̂ = Φz, Gaussian likelihood of variance σ², KL weighted by β > 0; c_k = ‖φ_k‖². In both families the
distance to the best posterior has a closed form too, without cancellation. Everything is computed in float64.
"""

from abc import abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor

from itervae.distributions import Categorical, Gaussian, poisson_kl
from itervae.inference.energies import Energy, Point
from itervae.model import GaussianLikelihood, GenerativeModel, full_precision

SYSTEM_BYTES = 1 << 28
"""Memory for a batch of linear systems, where each datum has its own; larger batches are solved in pieces."""


class ClosedFormEnergy(Energy):
    """The free energy of a family whose best posterior is known."""

    exact = True

    @full_precision
    def __init__(self, model: GenerativeModel, x: Tensor) -> None:
        assert isinstance(model.likelihood, GaussianLikelihood)
        self.dtype = x.dtype
        self.x = x.double()
        with torch.no_grad():
            self.dictionary = model.dictionary.double()
            self.variance = model.likelihood.variance.double()
            self.beta = model.beta.double()

    @abstractmethod
    def optimum(self) -> Tensor:
        """The parameters u (B, parts · K) of the best posterior, float64, without gradient."""

    @abstractmethod
    def certificate(self, u: Tensor, point: Point | None = None) -> Tensor:
        """F(u) − F* (B,), nats, exact; without gradient."""


class GaussianEnergy(ClosedFormEnergy):
    """F of the factorized Gaussian posterior N(μ, diag v) under the prior N(m, diag S):

        F = (‖x − Φμ‖² + c·v) / 2σ² + β Σ_k ½((v_k + (μ_k − m_k)²)/S_k − 1 + log S_k − log v_k)
        v* = 1 / (1/S + c/βσ²),      μ* = m + SΦᵀ(ΦSΦᵀ + σ²βI)⁻¹(x − Φm)
        F − F* = ½ gᵀH⁻¹g + (β/2) Σ_k (v_k/v*_k − 1 − log v_k/v*_k),      g = ∂F/∂μ,      H = ΦᵀΦ/σ² + βS⁻¹

    v* is the same for all data. The certificate uses the gradient g at the μ in question and not μ*, so that it would
    show an error in solving for μ*. NaN where the system is singular in float64.
    """

    @full_precision
    @torch.no_grad()
    def __init__(self, model: GenerativeModel, x: Tensor, prior: Gaussian) -> None:
        super().__init__(model, x)
        self._location, log_scale = prior.u.double().chunk(2, -1)
        self._scale = log_scale.exp()
        coupling = self.dictionary.square().sum(0) / (self.beta * self.variance)
        self._log_scale = -0.5 * (torch.exp(-2 * log_scale) + coupling).log()

    @torch.no_grad()
    def optimum(self) -> Float[Tensor, "batch parameters"]:
        residual = self.x - self._location @ self.dictionary.mT
        location = self._location + self._scale * self._through_system(residual, None)
        return torch.cat([location, self._log_scale.expand_as(location)], -1)

    @torch.no_grad()
    def certificate(self, u: Tensor, point: Point | None = None) -> Float[Tensor, " batch"]:
        location, log_scale = u.double().chunk(2, -1)
        residual = self.x - location @ self.dictionary.mT
        gradient = self._scale * (residual @ self.dictionary) / self.variance
        gradient = self.beta * (location - self._location) / self._scale - gradient  # of (μ − m)/√S
        solved = (gradient - self._through_system(None, gradient)) / self.beta
        log_ratio = 2 * (log_scale - self._log_scale)
        spread = self.beta * (torch.expm1(log_ratio) - log_ratio).sum(-1)
        return (0.5 * ((gradient * solved).sum(-1).clamp_min(0) + spread)).to(self.dtype)

    def _through_system(self, residual: Tensor | None, latent: Tensor | None) -> Tensor:
        """Aᵀ(AAᵀ + σ²βI)⁻¹y, A = Φ√S, for y (B, D) = `residual`, or y = A·`latent` (B, K)."""
        if self._scale.ndim == 1:
            atoms = self.dictionary * self._scale  # (D, K)
            right = residual if latent is None else latent @ atoms.mT
            assert right is not None
            return torch.cholesky_solve(right.mT, self._factor(atoms)).mT @ atoms
        size, latents = self.dictionary.shape
        at_once = max(1, SYSTEM_BYTES // (8 * size * (size + latents)))
        pieces = []
        for rows in torch.arange(len(self.x), device=self.x.device).split(at_once):
            atoms = self.dictionary * self._scale[rows, None, :]  # (b, D, K)
            right = residual[rows] if residual is not None else (atoms @ latent[rows, :, None])[..., 0]  # pyright: ignore
            pieces.append((torch.cholesky_solve(right[..., None], self._factor(atoms)).mT @ atoms)[:, 0])
        return torch.cat(pieces)

    def _factor(self, atoms: Tensor) -> Tensor:
        eye = torch.eye(atoms.shape[-2], dtype=atoms.dtype, device=atoms.device)
        factor, failed = torch.linalg.cholesky_ex(atoms @ atoms.mT + self.variance * self.beta * eye)
        return factor.where(failed[..., None, None] == 0, torch.nan)


class CategoricalEnergy(ClosedFormEnergy):
    """F of a categorical posterior p of a one-hot z under the prior π:

    F = Σ_k p_k ‖x − φ_k‖² / 2σ² + β Σ_k p_k log(p_k / π_k)
    p* ∝ π·exp(−‖x − φ_k‖²/2σ²β),      F − F* = β KL(p ‖ p*)
    """

    @full_precision
    @torch.no_grad()
    def __init__(self, model: GenerativeModel, x: Tensor, prior: Categorical) -> None:
        super().__init__(model, x)
        # ‖x‖² is common to all k
        squares = self.dictionary.square().sum(0) - 2 * self.x @ self.dictionary
        scores = prior.u.double().log_softmax(-1) - squares / (2 * self.variance * self.beta)
        self._log_p = scores.log_softmax(-1)

    def optimum(self) -> Float[Tensor, "batch latents"]:
        return self._log_p

    @torch.no_grad()
    def certificate(self, u: Tensor, point: Point | None = None) -> Float[Tensor, " batch"]:
        # Σ(p log(p/p*) − p + p*), of which no term is negative
        return (self.beta * poisson_kl(u.double().log_softmax(-1), self._log_p).sum(-1)).to(self.dtype)
