"""The posterior of least free energy where it can be written down: Gaussian and categorical posteriors.

Linear decoder x̂ = Φz, Gaussian likelihood of variance σ², KL weighted by β > 0; c_k = ‖φ_k‖². In both families the
distance to the best posterior has a closed form too, without cancellation: the certificate is exact.
"""

from abc import abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor

from itervae.distributions import Categorical, Gaussian
from itervae.inference.energies import Energy, Point
from itervae.model import GaussianLikelihood, GenerativeModel, full_precision


class ClosedFormEnergy(Energy):
    """The free energy of a family whose best posterior is known."""

    exact = True

    @full_precision
    def __init__(self, model: GenerativeModel, x: Tensor) -> None:
        assert isinstance(model.likelihood, GaussianLikelihood)
        self.x = x
        self.dictionary = model.dictionary.to(x.dtype)
        self.variance = model.likelihood.variance.to(x.dtype)
        self.beta = model.beta.to(x.dtype)

    @abstractmethod
    def optimum(self) -> Tensor:
        """The parameters u (B, parts · K) of the best posterior."""

    @abstractmethod
    def certificate(self, u: Tensor, point: Point | None = None) -> Tensor:
        """F(u) − F* (B,), nats, exact."""


class GaussianEnergy(ClosedFormEnergy):
    """F of the factorized Gaussian posterior N(μ, diag v) under the prior N(m, diag S):

        F = (‖x − Φμ‖² + c·v) / 2σ² + β Σ_k ½((v_k + (μ_k − m_k)²)/S_k − 1 + log S_k − log v_k)
        v* = 1 / (1/S + c/βσ²),      μ* = m + H⁻¹Φᵀ(x − Φm)/σ²,      H = ΦᵀΦ/σ² + βS⁻¹
        F − F* = ½(μ − μ*)ᵀH(μ − μ*) + (β/2) Σ_k (v_k/v*_k − 1 − log v_k/v*_k)

    v* is the same for all data.
    """

    @full_precision
    def __init__(self, model: GenerativeModel, x: Tensor, prior: Gaussian) -> None:
        super().__init__(model, x)
        dictionary, beta, variance = self.dictionary, self.beta, self.variance
        location, spread = prior.location.to(x.dtype), prior.variance.to(x.dtype)
        self._log_scale = -0.5 * (1 / spread + dictionary.square().sum(0) / (beta * variance)).log()
        # with Z = (μ − m)/√S the system is the same for all data where S is, and well scaled
        scale = spread.sqrt()
        atoms = dictionary * scale if scale.ndim == 1 else dictionary * scale[:, None, :]  # (D, K) or (B, D, K)
        eye = torch.eye(dictionary.shape[1], dtype=x.dtype, device=x.device)
        factor = torch.linalg.cholesky(atoms.mT @ atoms / variance + beta * eye)
        residual = (x - location @ dictionary.mT) / variance
        right = residual @ atoms if scale.ndim == 1 else (residual[:, None, :] @ atoms)[:, 0]
        solved = torch.cholesky_solve(right.mT if scale.ndim == 1 else right[..., None], factor)
        self._location = location + scale * (solved.mT if scale.ndim == 1 else solved[..., 0])
        self._precision = beta / spread

    def optimum(self) -> Float[Tensor, "batch parameters"]:
        return torch.cat([self._location, self._log_scale.expand_as(self._location)], -1)

    @torch.no_grad()
    def certificate(self, u: Tensor, point: Point | None = None) -> Float[Tensor, " batch"]:
        location, log_scale = u.chunk(2, -1)
        away = location - self._location
        quadratic = (away @ self.dictionary.mT).square().sum(-1) / self.variance
        quadratic = quadratic + (self._precision * away.square()).sum(-1)
        log_ratio = 2 * (log_scale - self._log_scale)
        return 0.5 * (quadratic + self.beta * (torch.expm1(log_ratio) - log_ratio).sum(-1))


class CategoricalEnergy(ClosedFormEnergy):
    """F of a categorical posterior p of a one-hot z under the prior π:

    F = Σ_k p_k ‖x − φ_k‖² / 2σ² + β Σ_k p_k log(p_k / π_k)
    p* ∝ π·exp(−‖x − φ_k‖²/2σ²β),      F − F* = β KL(p ‖ p*)
    """

    @full_precision
    def __init__(self, model: GenerativeModel, x: Tensor, prior: Categorical) -> None:
        super().__init__(model, x)
        # ‖x‖² is common to all k
        squares = self.dictionary.square().sum(0) - 2 * x @ self.dictionary
        scores = prior.location.to(x.dtype) - squares / (2 * self.variance * self.beta)
        self._log_p = scores.log_softmax(-1)

    def optimum(self) -> Float[Tensor, "batch latents"]:
        return self._log_p

    @torch.no_grad()
    def certificate(self, u: Tensor, point: Point | None = None) -> Float[Tensor, " batch"]:
        log_p = u.log_softmax(-1)
        return self.beta * (log_p.exp() * (log_p - self._log_p)).sum(-1).clamp_min(0)
