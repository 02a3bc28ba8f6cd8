"""The gradient through a fixed point: u of g(u, θ) = ∂E/∂μ = 0, as a function of everything that g
depends on.

The implicit function theorem gives du = −J⁻¹ ∂g/∂θ dθ, J = ∂g/∂u, so a gradient v in u goes back as
−J⁻ᵀv in g, and from there to the model, the prior and the data by automatic differentiation. Bai,
Kolter & Koltun (2019), "Deep equilibrium models".
"""

import warnings
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from itervae.inference.energies.base import Energy, SolvableEnergy
from itervae.inference.energies.family import FamilyEnergy
from itervae.inference.energies.lasso import LassoEnergy
from itervae.inference.energies.poisson import PoissonEnergy
from itervae.inference.systems.jacobian import gmres, solve_active, solve_poisson
from itervae.model import Dense, is_matrix


def attach(energy: Energy, u: Float[Tensor, "batch parameters"]) -> Float[Tensor, "batch parameters"]:
    """u (B, P) again, with the gradient of the root of ∂E/∂μ(u, θ) = 0 in everything θ that the
    energy depends on.

    The linear system is solved in the backward pass: directly, in float64, for the Poisson free
    energy and for sparse coding with a dense dictionary; by GMRES for any other energy whose
    `evaluate(u).gradient` (B, P) can be differentiated in u. Warns, in the backward pass, of data
    where that does not converge.

    In sparse coding the root is u = Φᵀ(x − Φa) + a with a = T(u). Units at rest, a_k = 0, have a
    potential too, so a loss of u has a gradient in them; for a loss of a alone that gradient is 0,
    and only the system of the active set is left. Where active atoms are linearly dependent, the
    code is not unique: such a datum gets no gradient, and a warning says so.
    """
    u = u.detach()
    if not torch.is_grad_enabled():
        return u
    assert isinstance(energy, SolvableEnergy | FamilyEnergy)
    return _Root.apply(energy.evaluate(u).gradient, u, energy)  # pyright: ignore[reportReturnType]


class _Root(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gradient: Tensor, u: Tensor, energy: Energy) -> Tensor:
        ctx.save_for_backward(u)
        ctx.energy = energy
        return u.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        (u,) = ctx.saved_tensors
        return -solve_transposed(ctx.energy, u, grad_outputs[0]), None, None


def solve_transposed(energy: Energy, u: Tensor, right: Tensor) -> Tensor:
    """The answer J⁻ᵀ·right (B, P) at u (B, P), J = ∂g/∂u."""
    if isinstance(energy, PoissonEnergy) and is_matrix(energy.quadratic.operator):
        rate = energy.activation(u.double())
        answer, solved = solve_poisson(energy, rate, right.double(), transposed=True)
        _warn(~solved, "have a linear system that is singular to rounding: no gradient")
        return answer.to(right.dtype)
    if isinstance(energy, LassoEnergy) and isinstance(energy.quadratic.operator, Dense):
        answer, unique = solve_active(energy, energy.activation(u), right.double())
        _warn(~unique, "have active atoms that are linearly dependent, so that their code is not unique: no gradient")
        return answer.to(right.dtype)
    return solve_by_products(energy, u, right)


def solve_by_products(energy: Energy, u: Tensor, right: Tensor) -> Tensor:
    """The answer J⁻ᵀ·right (B, P) for any energy, by GMRES: each product of Jᵀ with a vector is one
    backward pass."""
    assert isinstance(energy, SolvableEnergy | FamilyEnergy)
    with torch.enable_grad():
        u = u.detach().requires_grad_()
        gradient = energy.evaluate(u).gradient

    def apply(vector: Tensor) -> Tensor:
        return torch.autograd.grad(gradient, u, vector, retain_graph=True)[0]

    answer, converged = gmres(apply, right)
    _warn(~converged, "have a linear system that GMRES did not solve; their gradient is approximate")
    return answer


def _warn(bad: Tensor, what: str) -> None:
    if count := int(bad.sum()):
        warnings.warn(f"Implicit: {count} of {len(bad)} data {what}", stacklevel=2)
