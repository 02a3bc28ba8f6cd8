"""The posterior of least free energy where it can be written down: Gaussian and categorical
posteriors.

Linear decoder x̂ = Φz, Gaussian likelihood of variance σ², KL weighted by β > 0; c_k = ‖φ_k‖². In
both families the distance to the best posterior has a closed form too, without cancellation.
Everything is computed in float64.
"""

from abc import abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor

from itervae.distributions import Categorical, Gaussian, poisson_kl
from itervae.inference.energies.base import Energy
from itervae.inference.energies.linear import observed
from itervae.inference.energies.rounding import HALF, SPARE, residual
from itervae.model import GenerativeModel, full_precision, matrix

SINGULAR = 1e-11
"""Share of the largest entry of a system below which a pivot holds little but rounding."""
SYSTEM_BYTES = 1 << 28
"""Memory in bytes for the linear systems that are solved together, where each datum has its own."""


class ClosedFormEnergy(Energy):
    """The free energy of a family whose best posterior is known."""

    exact = True

    @full_precision
    def __init__(self, model: GenerativeModel, x: Tensor, precision: Tensor | None) -> None:
        self.x, terms = observed(model, x.double(), precision)
        self.operator, self.variance = terms.operator.map(Tensor.detach), terms.variance.detach()
        self.norms = self.operator.atom_norms().sqrt()
        self.beta = model.beta.detach().double()

    @abstractmethod
    def optimum(self) -> Tensor:
        """The parameters u (B, parts · K) of the best posterior, float64, without gradient."""

    @abstractmethod
    def certificate(self, u: Tensor) -> Tensor:
        """F(u) − F* (B,), nats, and what rounding may have hidden of it; without gradient."""


class GaussianEnergy(ClosedFormEnergy):
    """F of the factorized Gaussian posterior N(μ, diag v) under the prior N(m, diag S²):

        F = (‖x − Φμ‖² + c·v) / 2σ² + β Σ_k ½((v_k + (μ_k − m_k)²)/S_k² − 1 + log S_k² − log v_k)
        v* = 1 / (1/S² + c/βσ²),   μ* = m + Sy,   Hy = Aᵀ(x − Φm)/σ²,   A = ΦS,   H = AᵀA/σ² + βI
        F − F* = ½ gᵀH⁻¹g + (β/2) Σ_k (v_k/v*_k − 1 − log v_k/v*_k),      g = ∂F/∂((μ − m)/S)

    v* is the same for all data without weights of their own. The certificate uses the gradient g at
    the μ in question and not μ*, and a solution s of Hs = g only as far as it can be checked: for
    any s, gᵀH⁻¹g ≤ sᵀHs + 2sᵀρ + ‖ρ‖²/β with ρ = g − Hs.
    """

    @full_precision
    @torch.no_grad()
    def __init__(self, model: GenerativeModel, x: Tensor, prior: Gaussian, precision: Tensor | None = None) -> None:
        super().__init__(model, x, precision)
        self._location, log_scale = prior.u.double().chunk(2, -1)
        self._scale = log_scale.exp()
        coupling = self.operator.atom_norms() / (self.beta * self.variance)
        self._log_scale = -0.5 * (torch.exp(-2 * log_scale) + coupling).log()

    @torch.no_grad()
    def optimum(self) -> Float[Tensor, "batch parameters"]:
        y = torch.zeros_like(self._location + self.x[:, :1])
        for _ in range(2):  # once more, for what rounding left
            r = self.x - self.operator.forward(self._location + self._scale * y)
            y = y + self._solve(self._scale * self.operator.adjoint(r) / self.variance - self.beta * y)
        location = self._location + self._scale * y
        return torch.cat([location, self._log_scale.expand_as(location)], -1)

    @torch.no_grad()
    def certificate(self, u: Tensor) -> Float[Tensor, " batch"]:
        location, log_scale = u.double().chunk(2, -1)
        y = (location - self._location) / self._scale
        r = residual(self.x, location, self.operator, location.shape[-1])
        gradient = self.beta * y - self._scale * r.slope / self.variance
        solved = self._solve(gradient).nan_to_num(0, 0, 0)
        product = self._apply(solved)
        left = gradient - product
        # what rounding did to Hs, and to g; √(gᵀH⁻¹g) is a norm of g, at most ‖g‖/√β, and ‖δ‖/σ of
        # g = Aᵀδ/σ²
        atoms = self._scale * self.norms / self.variance.sqrt()
        load = (solved.abs() * atoms).sum(-1, keepdim=True)
        rounded = HALF * (SPARE + self.operator.summands + self.operator.latents)
        doubt = rounded * (load * atoms + self.beta * solved.abs() + gradient.abs())
        error = self._scale * r.error / self.variance
        error = error + HALF * SPARE * (self.beta * y.abs() + self._scale * r.slope.abs() / self.variance)
        square = (solved * (product + 2 * left) + 3 * solved.abs() * doubt).sum(-1)
        square = square + (left.abs() + doubt).square().sum(-1) / self.beta
        size = square.clamp_min(0).sqrt() + torch.linalg.vector_norm(error, dim=-1) / self.beta.sqrt()
        size = size + r.off / self.variance.sqrt()
        log_ratio = 2 * (log_scale - self._log_scale)
        wrong = HALF * SPARE * (1 + log_scale.abs() + self._log_scale.abs())
        log_ratio = torch.where(log_ratio < 0, log_ratio - wrong, log_ratio + wrong)
        scales = self.beta * (torch.expm1(log_ratio) - log_ratio + wrong.square()).sum(-1)
        return (1 + rounded) * 0.5 * (size.square() + scales)

    def _apply(self, y: Tensor) -> Tensor:
        """Hy (B, K)."""
        product = self.operator.adjoint(self.operator.forward(self._scale * y))
        return self._scale * product / self.variance + self.beta * y

    def _solve(self, right: Tensor) -> Tensor:
        """H⁻¹·right (B, K)."""
        dictionary, root = matrix(self.operator)
        if self._scale.ndim == 1 and root is None:
            return self._solved(dictionary * self._scale, right)
        size, latents = dictionary.shape
        at_once = max(1, SYSTEM_BYTES // (8 * size * (size + latents)))
        scale, pieces = self._scale.expand(len(self.x), -1), []
        for rows in torch.arange(len(self.x), device=self.x.device).split(at_once):
            atoms = dictionary * scale[rows, None, :]  # (b, D, K)
            if root is not None:
                atoms = atoms * root[rows, :, None]
            pieces.append(self._solved(atoms, right[rows, None])[:, 0])
        return torch.cat(pieces)

    def _solved(self, atoms: Tensor, right: Tensor) -> Tensor:
        """(AᵀA/σ² + βI)⁻¹ of the rows of `right` (..., n, K), A (..., D, K): by Cholesky on the
        smaller side or, where that fails, by the singular values of A."""
        size, latents = atoms.shape[-2:]
        ridge = self.variance * self.beta
        wide = size < latents
        system = atoms @ atoms.mT if wide else atoms.mT @ atoms
        system.diagonal(dim1=-2, dim2=-1).add_(ridge)
        factor, failed = torch.linalg.cholesky_ex(system)
        pivots, largest = factor.diagonal(dim1=-2, dim2=-1), system.diagonal(dim1=-2, dim2=-1).amax(-1)
        failed = (failed != 0) | ~(pivots.amin(-1).square() > SINGULAR * largest)
        if wide:  # by Woodbury's identity
            answer = (right - torch.cholesky_solve(atoms @ right.mT, factor).mT @ atoms) / self.beta
        else:
            answer = torch.cholesky_solve(right.mT, factor).mT * self.variance
        if not failed.any():
            return answer
        _, values, basis = torch.linalg.svd(atoms[failed] if failed.ndim else atoms, full_matrices=False)
        given = right[failed] if failed.ndim else right
        along = given @ basis.mT
        rest = given - along @ basis
        exact = (along / (values.square() / self.variance + self.beta)[..., None, :]) @ basis + rest / self.beta
        return answer.index_put((failed,), exact) if failed.ndim else exact


class CategoricalEnergy(ClosedFormEnergy):
    """F of a categorical posterior p of a one-hot z under the prior π:

    F = Σ_k p_k ‖x − φ_k‖² / 2σ² + β Σ_k p_k log(p_k / π_k)
    p* ∝ π·exp(−‖x − φ_k‖²/2σ²β),      F − F* = β KL(p ‖ p*)
    """

    @full_precision
    @torch.no_grad()
    def __init__(self, model: GenerativeModel, x: Tensor, prior: Categorical, precision: Tensor | None = None) -> None:
        super().__init__(model, x, precision)
        # ‖x‖² is common to all k
        squares = self.norms.square() - self.operator.adjoint(2 * self.x)
        log_prior, scale = prior.u.double().log_softmax(-1), 2 * self.variance * self.beta
        self._log_p = (log_prior - squares / scale).log_softmax(-1)
        data = torch.linalg.vector_norm(self.x, dim=-1, keepdim=True)
        sizes = self.norms * (self.norms + 2 * data) / scale
        self._rounded = HALF * (SPARE + self.operator.summands + self.operator.latents)
        self._error = self._rounded * sizes + HALF * SPARE * (1 + prior.u.double().abs())

    def optimum(self) -> Float[Tensor, "batch latents"]:
        return self._log_p

    @torch.no_grad()
    def certificate(self, u: Tensor) -> Float[Tensor, " batch"]:
        # Σ(p log(p/p*) − p + p*), of which no term is negative
        log_p = u.double().log_softmax(-1)
        divergence = poisson_kl(log_p, self._log_p).sum(-1)
        # a score that is off moves log p* of its own latent, and the sum of all, which it weighs
        # with p*
        apart = torch.exp(self._log_p + self._error).mul(self._error).sum(-1) + (log_p.exp() * self._error).sum(-1)
        doubt = apart + self._rounded * (1 + divergence) + HALF * SPARE * u.abs().amax(-1).double()
        return self.beta * (divergence + doubt)
