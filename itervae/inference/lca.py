"""The locally competitive algorithm in log-rates, unrolled.

Rozell et al. (2008), "Sparse coding via thresholding and local competition in neural circuits", with the exponential
activation and the free energy of the Poisson VAE. The continuous flow is

    du/dt = −∂F/∂λ = [Φᵀx − c/2 − ΦᵀΦλ]/σ² − β(u − log r),      λ = e^u

drive, lateral inhibition and leak: the natural gradient of F, since the Fisher information of a Poisson rate cancels
the Jacobian. Its fixed point is the posterior of least free energy.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from itervae.inference.descent import Descent
from itervae.inference.energies import Point, PoissonEnergy
from itervae.inference.state import State

LEAK = 4.0
"""Damping of the leak: a step of the leak alone goes 1/4 of the way."""
LARGEST = 4.0
"""No log-rate changes by more in one step, before momentum."""


@dataclass
class LCASettings:
    """Settings of `lca-unrolled`."""

    steps: int = 20
    """Number of inference steps."""


class LCAUnrolled(Descent):
    """Semi-implicit Euler steps of the LCA with momentum and the safeguards of `Descent`:

        Δu = clip( −∂F/∂λ / (4β + κ·c·λ/σ²), ±4 ) + inertia·(last Δu)

    The diagonal of the Jacobian of the flow is β + cλ/σ²; κ per datum stands for its off-diagonal part. The first
    step, from which rates may have to grow a thousandfold, is a proximal one (`PoissonEnergy.proximal_step`).
    On a model without a closed form the gradient is that of the sampled free energy, κ = 1, and no step is taken back.
    """

    requires = frozenset({"Poisson family"})
    Settings = LCASettings

    def propose(self, energy: PoissonEnergy, state: State, inertia: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        point, memory = state.point, state.memory
        if "velocity" not in memory:
            log_rate = energy.proximal_step(point.rate, point.smooth, self.metric(state))
            return log_rate, point.rate, point.smooth
        flow = -point.gradient / (LEAK * energy.beta + memory["damping"] * point.diagonal * point.rate)
        log_rate = state.log_rate + flow.clamp(-LARGEST, LARGEST) + inertia * memory["velocity"]
        return log_rate, point.rate, point.smooth

    def velocity(self, old: State, log_rate: Tensor, new: Point) -> dict[str, Tensor]:
        step = log_rate - old.log_rate
        # the proximal step is no direction to go on in
        return {"velocity": step if "velocity" in old.memory else torch.zeros_like(step)}
