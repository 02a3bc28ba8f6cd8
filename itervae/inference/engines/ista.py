"""Proximal gradient inference, unrolled: ISTA and FISTA.

Beck & Teboulle (2009), "A fast iterative shrinkage-thresholding algorithm". The reconstruction term
is linearized at y; the cost is kept exact, by its proximal operator: of the Poisson KL, which plays
the part of the sparsity penalty, λ = a·W(e^s), a Lambert-W shrinkage
(`PoissonEnergy.proximal_step`); of sparse coding soft or hard thresholding
(`LassoEnergy.proximal_step`). The metric is diagonal, h = κ·c/σ², with κ per datum or, of a Poisson
model on maps, per place.
"""

import math
from typing import ClassVar

import torch
from torch import Tensor

from itervae.inference.energies.base import Point
from itervae.inference.energies.linear import LinearEnergy
from itervae.inference.energies.poisson import PoissonEnergy
from itervae.inference.engine import State
from itervae.inference.engines.descent import Descent, Proposal
from itervae.inference.engines.fused import Rule
from itervae.inference.settings import ISTASettings


class ProximalDescent(Descent):
    """Proximal steps from the extrapolated point y = μ + inertia·(last Δμ), μ the mean: a rate or a
    coefficient.

    The reconstruction term is quadratic, so its gradient at y is extrapolated with y, and the
    energy is evaluated at the iterates themselves.
    """

    extrapolates: ClassVar[bool] = True
    """Whether a share of the last step is repeated."""

    def __init__(self, steps: int = ISTASettings.steps) -> None:
        super().__init__(steps)

    def propose(self, energy: LinearEnergy, state: State, inertia: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, data_gradient = state.point.mean, state.point.data_gradient
        if "velocity" in state.memory:
            mean = mean + inertia * state.memory["velocity"]
            data_gradient = data_gradient + inertia * state.memory["velocity_data_gradient"]
        return energy.proximal_step(mean, data_gradient, self.metric(state)), mean, data_gradient

    def turns_back(self, old: Point, proposal: Proposal) -> Tensor:
        # it extrapolates the point of linearization alone: a step that can be shortened is no
        # reason to start again
        if proposal.shortened:
            return torch.zeros_like(old.value[:, None], dtype=torch.bool)
        return super().turns_back(old, proposal)

    def places(self, energy: LinearEnergy) -> int:
        # under a threshold κ falls where nothing moves: a place would be far off when it is reached
        return math.prod(energy.quadratic.operator.places) if isinstance(energy, PoissonEnergy) else 1

    def velocity(self, old: State, u: Tensor, new: Point) -> dict[str, Tensor]:
        if not self.extrapolates:
            return {}
        moved = new.data_gradient - old.point.data_gradient
        return {"velocity": new.mean - old.point.mean, "velocity_data_gradient": moved}


class FISTAUnrolled(ProximalDescent):
    """Accelerated proximal gradient steps, a Lambert-W or threshold shrinkage, safeguarded."""

    Settings = ISTASettings
    rule = Rule(lca=False, momentum=True)


class ISTAUnrolled(ProximalDescent):
    """Proximal gradient steps, a Lambert-W or threshold shrinkage, safeguarded: FISTA without
    momentum."""

    Settings = ISTASettings
    rule = Rule(lca=False, momentum=False)
    extrapolates = False
