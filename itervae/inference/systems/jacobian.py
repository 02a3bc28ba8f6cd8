"""Linear systems with the Jacobian J = ∂g/∂u of g = ∂E/∂μ, which is zero at the optimum: of Newton
steps and of the gradient through a fixed point.

- Poisson free energy: J = β(I + WᵀW·S²), W = Φ/σ, S = (λ/β)^½. The Hessian in λ is J·diag(1/λ),
  which may overflow; J does not. By Woodbury's identity the system is of size min(D, K)
  (interior-point practice, e.g. Boyd & Vandenberghe 2004, chapter 11).
- Sparse coding: J = I + (ΦᵀΦ − I)·diag(a ≠ 0), so the system is that of the active set.
- Any other energy: GMRES (Saad & Schultz 1986) on products with J. It is not symmetric, but where μ
  = u, and so conjugate gradients do not apply.
"""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from itervae.inference.energies.lasso import LassoEnergy
from itervae.inference.energies.poisson import PoissonEnergy
from itervae.model import matrix

SYSTEM_BYTES = 1 << 28
"""Memory in bytes for the linear systems that are solved together."""
DEPENDENT = 1e-10
"""Share of an atom's squared norm: the atom is linearly dependent on others if what lies outside
their span is at most that."""
BASIS, CYCLES = 40, 10
"""Products with J from one restart of GMRES to the next, and the largest number of restarts."""


@torch.no_grad()
def solve_poisson(
    energy: PoissonEnergy,
    rate: Float[Tensor, "batch latents"],
    right: Float[Tensor, "batch latents"],
    transposed: bool = False,
) -> tuple[Float[Tensor, "batch latents"], Bool[Tensor, " batch"]]:
    """J⁻¹·right, or J⁻ᵀ·right (B, K), without gradient, in the precision of `right`; and which
    systems are solved (B,): where rounding leaves one that is not positive definite, the answer is
    0.

    No division by λ, which may underflow: J⁻¹ = (I − XY)/β and J⁻ᵀ = (I − YX)/β, with, where A =
    WS,

        D < K      X = Wᵀ(I + AAᵀ)⁻¹W      Y = S²
        else       X = WᵀW                 Y = S(I + AᵀA)⁻¹S
    """
    (dictionary, weights), beta = matrix(energy.quadratic.operator), energy.beta.to(right.dtype)
    whitened = dictionary.to(right.dtype) / energy.quadratic.variance.to(right.dtype).sqrt()
    size, latents = dictionary.shape
    weights = right.new_ones(1, 1) if weights is None else weights.to(right.dtype)  # ρ, where W is diag(ρ)Φ/σ
    width = min(size, latents)
    eye = torch.eye(width, dtype=right.dtype, device=right.device)
    at_once = max(1, SYSTEM_BYTES // (8 * (width * width + size * latents)))
    pieces, fine = [], []
    for rows in torch.arange(len(right), device=right.device).split(at_once):
        scale, root = (rate[rows].to(right.dtype) / beta).sqrt(), weights.expand(len(right), -1)[rows]
        atoms = whitened * scale[:, None, :]  # A (b, D, K)
        if root.shape[1] > 1:
            atoms = atoms * root[:, :, None]
        wide = size < latents
        factor, failed = torch.linalg.cholesky_ex(eye + (atoms @ atoms.mT if wide else atoms.mT @ atoms))
        solved = (failed == 0) & factor.diagonal(dim1=-2, dim2=-1).isfinite().all(-1)
        x, y = _factors(whitened, root, scale, torch.where(solved[:, None, None], factor, eye), wide)
        answer = (right[rows] - (y(x(right[rows])) if transposed else x(y(right[rows])))) / beta
        pieces.append(torch.where(solved[:, None], answer, 0))
        fine.append(solved)
    return torch.cat(pieces), torch.cat(fine)


def _factors(
    whitened: Tensor, root: Tensor, scale: Tensor, factor: Tensor, wide: bool
) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    """Products with X and with Y of `solve_poisson`."""

    def x(v: Tensor) -> Tensor:
        product = root * (v @ whitened.mT)
        return (root * (_solve(factor, product) if wide else product)) @ whitened

    def y(v: Tensor) -> Tensor:
        return scale * (scale * v if wide else _solve(factor, scale * v))

    return x, y


@torch.no_grad()
def solve_active(
    energy: LassoEnergy, mean: Float[Tensor, "batch latents"], right: Float[Tensor, "batch latents"]
) -> tuple[Float[Tensor, "batch latents"], Bool[Tensor, " batch"]]:
    """J⁻ᵀ·right (B, K) of sparse coding at coefficients a = `mean`, without gradient, in the
    precision of `right`.

    With y the answer and v the right side: y_k = v_k where a_k = 0, and Φ_AᵀΦ_A y_A = v_A − Φ_AᵀΦ_I
    v_I on the active set A, I the rest.

    Returns:
        The answer, and whether it is one (B,): where active atoms are linearly dependent there is
        none, and 0 stands for it.
    """
    dictionary = matrix(energy.quadratic.operator)[0].to(right.dtype)
    active = mean != 0
    idle = right.masked_fill(active, 0)
    target = (right - (idle @ dictionary.mT) @ dictionary).masked_fill(~active, 0)
    width = int(active.sum(-1).max()) if len(active) else 0
    at_once = max(1, SYSTEM_BYTES // (8 * width * (width + len(dictionary)) + 1))
    floor = DEPENDENT * dictionary.square().sum(0)
    answers, unique = [], []
    for mask, goal in zip(active.split(at_once), target.split(at_once), strict=True):
        chosen, index = mask.to(torch.uint8).topk(width)  # of the active set, and of others to fill up
        atoms = dictionary.mT[index] * chosen[..., None]  # (b, width, D)
        gram = atoms @ atoms.mT + torch.diag_embed(1 - chosen.to(atoms.dtype))
        factor, failed = torch.linalg.cholesky_ex(gram)
        left = factor.diagonal(dim1=-2, dim2=-1).square() > floor[index]  # of each atom, outside the others' span
        fine = (failed == 0) & (left | (chosen == 0)).all(-1)
        solved = _solve(torch.where(fine[:, None, None], factor, 1), goal.gather(-1, index))
        answers.append(torch.zeros_like(goal).scatter(-1, index, solved * chosen))
        unique.append(fine)
    found = torch.cat(unique)
    return torch.where(found[:, None], idle + torch.cat(answers), 0), found


@torch.no_grad()
def gmres(
    apply: Callable[[Tensor], Tensor], right: Float[Tensor, "batch parameters"]
) -> tuple[Float[Tensor, "batch parameters"], Bool[Tensor, " batch"]]:
    """Solve apply(y) = right (B, P), one linear system per datum, by restarted GMRES: at most 10
    restarts of 40 products.

    The host looks at the residuals once in a restart.

    Args:
        apply: a linear map of (B, P), datum by datum.
        right: the right side.

    Returns:
        The answer y (B, P), and whether the norm of its residual is at most ε^⅔ of that of the
        right side (B,), ε the machine epsilon: 4e-11 in float64, 2e-5 in float32.
    """
    eps = torch.finfo(right.dtype).eps
    count = min(BASIS, right.shape[1])
    goal = eps ** (2 / 3) * right.norm(dim=-1)
    answer, residual = torch.zeros_like(right), right
    done = residual.norm(dim=-1) <= goal
    for _ in range(CYCLES):
        if done.all():
            break
        start = residual.norm(dim=-1)
        basis = right.new_zeros(count + 1, *right.shape)  # orthonormal, or 0 where nothing is left to span
        hessenberg = right.new_zeros(len(right), count + 1, count)
        basis[0] = _unit(residual, 0 * start)
        for column in range(count):
            new = apply(basis[column])
            size = new.norm(dim=-1)
            for _ in range(2):  # Gram–Schmidt, twice against rounding
                along = torch.einsum("nbp,bp->bn", basis[: column + 1], new)
                new = new - torch.einsum("nbp,bn->bp", basis[: column + 1], along)
                hessenberg[:, : column + 1, column] += along
            basis[column + 1] = _unit(new, 10 * eps * size)
            hessenberg[:, column + 1, column] = (basis[column + 1] * new).sum(-1)
        orthogonal, upper = torch.linalg.qr(hessenberg)
        empty = upper.diagonal(dim1=-2, dim2=-1) == 0
        upper = upper + torch.diag_embed(empty.to(upper.dtype))
        weights = torch.linalg.solve_triangular(upper, (start[:, None] * orthogonal[:, 0])[..., None], upper=True)
        answer = answer + torch.where(done[:, None], 0, torch.einsum("nbp,bn->bp", basis[:-1], weights[..., 0]))
        residual = right - apply(answer)
        done = residual.norm(dim=-1) <= goal
    return answer, done


def _solve(factor: Tensor, right: Tensor) -> Tensor:
    """The answers (b, n) to systems of which the Cholesky factors (b, n, n) are given."""
    return torch.cholesky_solve(right[..., None], factor)[..., 0]


def _unit(vector: Tensor, least: Tensor) -> Tensor:
    """The rows scaled to unit norm; 0 where the norm is at most `least`."""
    norm = vector.norm(dim=-1)
    return torch.where((norm > least)[:, None], vector / norm[:, None], 0)
