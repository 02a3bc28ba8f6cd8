"""Safeguarded descent: what makes a fixed number of steps safe for every datum, whatever its scale.

A step rule proposes a point. It is evaluated, and per datum
- a proposal that raises E is taken back, with the damping κ doubled and the momentum dropped;
- κ follows the curvature seen along the step, ΔμᵀΦᵀΦΔμ / Σ_k c_k Δμ_k², decaying slowly between;
- momentum (Nesterov's sequence) restarts where the gradient points against the step (O'Donoghue & Candès 2015).

So E never rises beyond rounding, there is no step size to set, and steps cost one evaluation each.
"""

import torch
from torch import Tensor

from itervae.errors import InputError
from itervae.inference.base import Engine, Problem
from itervae.inference.energies import LinearEnergy, Point
from itervae.inference.state import State

START_CURVATURE = 4.0
"""κ of the first step: in units of the diagonal c/σ², between 1 (orthogonal atoms) and the largest eigenvalue."""
DECAY = 0.8
"""κ falls by this factor per step where the curvature allows."""
LEAST, MOST = 0.1, 1e6
"""Bounds of κ: where nothing moves, no curvature is seen, and κ would leave the range of numbers."""
FLOOR = 1e-12
"""Smallest metric of a unit, relative to the largest: atoms of zero norm take no quadratic term."""


class Descent(Engine):
    """A step rule with the safeguards of this module. Subclasses write `propose` and `velocity`.

    Memory per datum: `damping` κ (B, 1), `momentum` t (B, 1) of Nesterov's sequence, and the last step taken, as
    `velocity` (B, K) in the coordinates of the rule; there is none before the first step.
    """

    requires = frozenset({"Poisson family or sparse coding", "linear decoder", "Gaussian likelihood"})

    def __init__(self, steps: int = 20) -> None:
        super().__init__()
        if steps < 1:
            raise InputError(f"steps is {steps}; expected a number ≥ 1")
        self.steps = steps

    def propose(self, energy: LinearEnergy, state: State, inertia: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The u to try, and the mean and smooth gradient of the point that the step was made from.

        `inertia` (B, 1) is the share of the last step to repeat, 0 after a restart.
        """
        raise NotImplementedError

    def candidate(self, energy: LinearEnergy, state: State, inertia: Tensor) -> tuple[Tensor, Point, Tensor, Tensor]:
        """What `propose` says, with the energy evaluated there in second place."""
        u, mean, smooth = self.propose(energy, state, inertia)
        return u, energy.evaluate(u), mean, smooth

    def velocity(self, old: State, u: Tensor, new: Point) -> dict[str, Tensor]:
        """The step from `old` to the new point, for the next extrapolation."""
        raise NotImplementedError

    def init(self, problem: Problem, state: State | None) -> State:
        energy = problem.energy
        assert isinstance(energy, LinearEnergy)
        u = problem.start() if state is None else state.u
        point = energy.evaluate(u)
        memory = {} if state is None else dict(state.memory)
        if "damping" not in memory:
            one = torch.ones_like(point.value)[:, None]
            memory = {"damping": START_CURVATURE * one, "momentum": one}
        return State(u, memory, point, {"rejected": torch.zeros_like(point.value)})

    def step(self, problem: Problem, state: State) -> State:
        energy, old, memory = problem.energy, state.point, state.memory
        assert isinstance(energy, LinearEnergy)
        momentum = memory["momentum"]
        longer = 0.5 + (0.25 + momentum.square()).sqrt()
        u, new, base_mean, base_smooth = self.candidate(energy, state, (momentum - 1) / longer)
        with torch.no_grad():
            rejected = rises(energy, old, new)[:, None]
            along = new.mean - base_mean
            seen = (along * (new.smooth - base_smooth)).sum(-1, keepdim=True)
            seen = seen / (new.diagonal * along.square()).sum(-1, keepdim=True).clamp_min(1e-30)
            damping = memory["damping"]
            damping = torch.where(rejected, 2 * damping, DECAY * damping)
            damping = torch.maximum(damping, torch.where(seen.isfinite(), seen, 0)).clamp(LEAST, MOST)
            against = (new.gradient * (new.mean - old.mean)).sum(-1, keepdim=True) > 0
            restart = rejected | against
            momentum = torch.where(restart, 1, longer)

        velocity = {name: torch.where(restart, 0, value) for name, value in self.velocity(state, u, new).items()}
        return State(
            torch.where(rejected, state.u, u),
            {"damping": damping, "momentum": momentum, **velocity},
            choose(rejected, old, new),
            {"rejected": state.counts["rejected"] + rejected[:, 0]},
        )

    def metric(self, state: State) -> Tensor:
        """h = κ·c/σ² (B, K), positive."""
        diagonal = state.point.diagonal
        return state.memory["damping"] * diagonal.clamp_min(FLOOR * diagonal.max().clamp_min(FLOOR))


def rises(energy: LinearEnergy, old: Point, new: Point) -> Tensor:
    """Whether E is higher at the new point than at the old one, beyond rounding (B,); NaN counts as a rise."""
    return ~(new.value <= old.value + energy.tolerance(old))


def choose(first: Tensor, one: Point, other: Point) -> Point:
    """Per datum one point where `first` (B, 1), else the other."""
    return Point(
        torch.where(first[:, 0], one.value, other.value),
        torch.where(first, one.mean, other.mean),
        torch.where(first, one.smooth, other.smooth),
        torch.where(first, one.gradient, other.gradient),
        one.diagonal,
    )
