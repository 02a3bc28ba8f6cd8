"""What learned engines share: a solver's step with a learned modulation, safeguarded by the solver
itself.

A learned step has the form of the solver's own, with step size, threshold and momentum modulated
for each latent; a modulation of zero is the solver. It is made safe per datum, where F is known
exactly: a step at whose end F rises again is shortened (`descent.shortened`), and where F would
still rise the solver's own step from the same point is taken in its place. So F never rises,
whatever was learned. Iterative amortized inference: Marino, Yue & Mandt (2018).
"""

from abc import abstractmethod
from dataclasses import replace

import torch
from torch import Tensor

from itervae import devices
from itervae.inference.energies.base import choose, pick
from itervae.inference.energies.linear import LinearEnergy, rises
from itervae.inference.engine import Recipe, State
from itervae.inference.engines.descent import Descent, Proposal, shortened
from itervae.inference.engines.ista import ProximalDescent
from itervae.inference.engines.lca import LCADescent
from itervae.inference.problem import Problem
from itervae.model import CERTIFIABLE

FEATURES = 6
"""Number of features that `proximal_features` gives of each latent."""
MODULATIONS = 3
"""Number of modulations of each parameter: log-curvature α, threshold δ and momentum γ."""
REACH = (2.0, 3.0, 1.0)
"""Largest modulation of log-curvature, threshold and momentum by a network."""


class LearnedProximal(ProximalDescent):
    """Proximal steps on the Poisson free energy or the lasso with learned α, δ, γ for each latent,
    where they lower it:

        h = e^α·κ·c/σ²,      y = μ + (inertia + γ)·(last Δμ),      μ' = prox_h(y)

    where the prior log-rate of prox_h is log r + δ in place of log r, or the threshold (1 − δ)θ in
    place of θ.

    κ, one for a datum, and the inertia are those of `fista-unrolled`, whose step it is at α = δ =
    γ = 0, and which it falls back on. After `steps` steps, those that it is trained for, it goes on
    with steps of the LCA. Subclasses write `modulate`.
    """

    requires = Descent.requires | CERTIFIABLE
    learned = True
    recipe = Recipe(lr=0.01)

    def __init__(self, steps: int) -> None:
        super().__init__(steps)
        self._solver = LCADescent(steps)

    @abstractmethod
    def modulate(self, energy: LinearEnergy, state: State) -> tuple[Tensor, dict[str, Tensor]]:
        """The modulations (α, δ, γ) of each latent (B, K, 3), and memory to carry on besides."""

    def places(self, energy: LinearEnergy) -> int:
        return 1

    def init(self, problem: Problem, state: State | None) -> State:
        return replace(super().init(problem, state), step_count=0 if state is None else state.step_count)

    def step(self, problem: Problem, state: State) -> State:
        assert isinstance(problem.energy, LinearEnergy)
        if state.step_count >= self.steps:
            return self._solver_step(problem, state)
        modulation, kept = self.modulate(problem.energy, state)
        state = replace(state, memory=state.memory | {"modulation": modulation.to(state.u.dtype)})
        new = super().step(problem, state)
        return replace(new, memory=new.memory | kept, step_count=state.step_count + 1)

    def _solver_step(self, problem: Problem, state: State) -> State:
        memory = state.memory
        if (
            state.step_count == self.steps
        ):  # the solver takes over: what curvature was seen it knows, but it has not moved yet
            damping = memory["damping"]
            memory = {"damping": damping, "momentum": torch.ones_like(damping), "velocity": torch.zeros_like(state.u)}
        return replace(self._solver.step(problem, replace(state, memory=memory)), step_count=state.step_count + 1)

    def candidate(self, energy: LinearEnergy, state: State, inertia: Tensor) -> Proposal:
        learned = shortened(energy, state, *self._learned_step(energy, state, inertia))
        risen = rises(energy, state.point, learned.point)[:, None]
        if devices.on_cpu(risen) and not risen.any():  # elsewhere a look would synchronize
            return learned
        own = super().candidate(energy, state, inertia)
        return Proposal(
            pick(risen, own.u, learned.u),
            choose(risen, own.point, learned.point),
            choose(risen, own.whole, learned.whole),
            pick(risen, own.slope, learned.slope),
            pick(risen, own.mean, learned.mean),
            pick(risen, own.data_gradient, learned.data_gradient),
            own.shortened,
        )

    def corrected(self, energy: LinearEnergy, state: State, data_gradient: Tensor) -> Tensor:
        """The gradient of the reconstruction term that a learned step is made from (B, K), given
        that at y; here the same."""
        return data_gradient

    def _learned_step(self, energy: LinearEnergy, state: State, inertia: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The u to try, and the mean and the data gradient (B, K) of the point that the step is
        made from."""
        log_curvature, threshold, momentum = state.memory["modulation"].unbind(-1)
        mean, data_gradient = state.point.mean, state.point.data_gradient
        if "velocity" in state.memory:
            mean = mean + (inertia + momentum) * state.memory["velocity"]
            data_gradient = data_gradient + (inertia + momentum) * state.memory["velocity_data_gradient"]
        slope, curvature = self.corrected(energy, state, data_gradient), log_curvature.exp() * self.metric(state)
        return energy.proximal_step(mean, slope, curvature, threshold), mean, data_gradient


def squash(value: Tensor) -> Tensor:
    """The value divided by (1 + |value|/3): a feature of order one, whatever its scale."""
    return value / (1 + value.abs() / 3)


def proximal_features(energy: LinearEnergy, state: State) -> Tensor:
    """The features of each latent that a network sees (B, K, 6), each of order one.

    They are its u relative to that at rest, its gradient, its curvature and its last step, in
    units of the leak; and, the same for all latents of a datum, the curvature of all and κ. Of a
    convolutional dictionary the curvature is that of a window of the size of an atom, in the mean,
    so that it does not grow with the datum.
    """
    point, unit = state.point, energy.unit
    curvature = point.diagonal * point.mean.abs() / unit
    moved = state.memory.get("velocity", torch.zeros_like(point.mean))
    operator = energy.quadratic.operator
    load = curvature.sum(-1, keepdim=True) * (operator.summands / operator.size)
    return torch.stack(
        [
            (state.u - energy.rest) / 5,
            squash(point.gradient / unit) / 2,
            torch.log1p(curvature),
            squash(point.diagonal * moved / unit),
            (torch.log1p(load) / 3).expand_as(state.u),
            state.memory["damping"].log().expand_as(state.u),
        ],
        -1,
    )
