"""The damping κ of the steps of `Descent`: it follows the curvature that was seen along a step,
ΔμᵀΦᵀΦΔμ / Σ_k c_k Δμ_k², decaying slowly between.

There is one κ for a datum, or for each place of a map one, which follows the curvature among the
latents whose atoms reach that place: a part of a picture that bends more does not slow down all of
it.
"""

import torch
from torch import Tensor

from itervae.inference.energies.linear import LinearEnergy
from itervae.inference.energies.poisson import PoissonEnergy

START_CURVATURE = 4.0
"""The damping κ of the first step, in units of the diagonal c/σ²: between 1 (orthogonal atoms) and
the largest eigenvalue."""
DECAY = 0.65
"""Factor by which κ falls per step where the curvature allows."""
LEAST, MOST = 0.1, 1e6
"""Bounds of κ. Where nothing moves no curvature is seen, and κ would leave the range of numbers."""
LEAST_SQUARE = 1e-30
"""Smallest squared step, in units of the diagonal, that the curvature is divided by."""
STILL = 1.0
"""Squared step of a Poisson model, relative to Σ_k c_k λ_k²/σ² and in units of the machine epsilon,
up to which a datum has arrived. F hardly changes then and the curvature seen is rounding; so κ
stays and momentum restarts. Else both would follow rounding, and an unrolled gradient would grow
with every step after arrival."""


def everywhere(damping: Tensor, u: Tensor) -> Tensor:
    """κ (B, P) for each latent of u (B, K): (B, K), or (B, 1) where a datum has one."""
    count = damping.shape[1]
    return damping if count == 1 else damping.repeat(1, u.shape[1] // count)


def at_places(values: Tensor, places: int) -> Tensor:
    """Sums (B, P) of values (B, K) over the latents at each place."""
    return values.sum(1, keepdim=True) if places == 1 else values.unflatten(1, (-1, places)).sum(1)


def followed(energy: LinearEnergy, damping: Tensor, seen: Tensor, rejected: Tensor) -> tuple[Tensor, Tensor]:
    """The κ (B, P) of the next step, and whether a datum has arrived (B, 1).

    Args:
        energy: what is minimized.
        damping: κ (B, P) of this step.
        seen: sums over the latents at each place (3, B, P), of Δμ·Δgradient, c·μ²/σ² and c·Δμ²/σ².
        rejected: whether the step is taken back (B, 1).
    """
    if seen.shape[2] > 1:  # what atoms overlap with counts too
        seen = energy.quadratic.operator.around(seen.flatten(0, 1)).view_as(seen)
    bent, size, moved = seen
    curvature = bent / moved.clamp_min(LEAST_SQUARE)
    # under a threshold κ has to fall though nothing moves yet
    still = STILL * torch.finfo(moved.dtype).eps if isinstance(energy, PoissonEnergy) else 0.0
    arrived = (moved <= still * size) & (size > 0)
    damping = torch.where(rejected, 2 * damping, torch.where(arrived, damping, DECAY * damping))
    damping = torch.maximum(damping, torch.where(curvature.isfinite() & ~arrived, curvature, 0)).clamp(LEAST, MOST)
    return damping, arrived.all(1, keepdim=True)
