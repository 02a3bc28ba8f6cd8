"""Damped Newton steps on the Poisson free energy, for the data that first-order steps leave
unfinished.

The Hessian in λ is diag(β/λ) + ΦᵀΦ/σ²; a system with it is solved by `solve_poisson`.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from itervae.inference.energies.base import Point, choose
from itervae.inference.energies.poisson import PoissonEnergy
from itervae.inference.systems.jacobian import solve_poisson

HALVINGS = 30
"""Number of step sizes tried, 1, ½, ¼ and so on, before a datum stays where it is."""
SUFFICIENT = 1e-4
"""Share of the promised fall of F that a step has to bring (Armijo's rule)."""
NEGLIGIBLE = 1e-3
"""Share of the leak β below which the curvature λc/σ² of a unit makes its rate negligible."""


def newton_step(
    energy: PoissonEnergy, log_rate: Float[Tensor, "batch latents"], point: Point
) -> tuple[Float[Tensor, "batch latents"], Point]:
    """One Newton step per datum with backtracking: F falls, or the datum stays.

    The relative step p = Δλ/λ is taken in log-rates. Downward Δu = p, which is exact for a unit of
    negligible rate; upward Δu = log(1 + p), so that λ becomes λ(1 + p). As that is slow from a tiny
    rate, a unit whose rate is negligible (λc/σ² < β/1000) may go up by the whole p, as far as the
    rate where it no longer is.

    Args:
        energy: the problem, float64.
        log_rate: u (B, K).
        point: the energy evaluated there.

    Returns:
        The next log-rates (B, K) and the energy there.
    """
    relative = newton_direction(energy, point)
    slope = (point.gradient * point.mean * relative).sum(-1)  # of F along the step, negative
    negligible = (NEGLIGIBLE * energy.beta / point.diagonal.clamp_min(torch.finfo(slope.dtype).tiny)).log()
    size = torch.ones_like(slope)
    best, best_point = log_rate, point
    waiting = torch.ones_like(slope, dtype=torch.bool)
    for _ in range(HALVINGS):
        scaled = size[:, None] * relative
        upward = torch.maximum(scaled.clamp_min(0).log1p(), torch.minimum(scaled, negligible - log_rate))
        trial = log_rate + torch.where(scaled > 0, upward, scaled)
        new = energy.evaluate(trial)
        falls = new.value <= point.value + SUFFICIENT * size * slope + energy.tolerance(point)
        accepted = waiting & falls
        best, best_point = torch.where(accepted[:, None], trial, best), choose(accepted[:, None], new, best_point)
        waiting = waiting & ~accepted
        if not waiting.any():
            break
        size = torch.where(waiting, size / 2, size)
    return best, best_point


def newton_direction(energy: PoissonEnergy, point: Point) -> Float[Tensor, "batch latents"]:
    """The relative step p = Δλ/λ = −(diag(β/λ) + ΦᵀΦ/σ²)⁻¹ (∂F/∂λ) / λ (B, K); 0 where rounding
    spoils the system."""
    return -solve_poisson(energy, point.mean, point.gradient)[0]
