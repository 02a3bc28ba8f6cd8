"""Safeguarded descent: what makes a fixed number of steps safe for every datum, whatever its scale.

A step rule proposes a point. It is evaluated, and per datum
- a proposal that raises F is taken back, with the damping κ doubled and the momentum dropped;
- κ follows the curvature seen along the step, ΔλᵀΦᵀΦΔλ / Σ_k c_k Δλ_k², decaying slowly between;
- momentum (Nesterov's sequence) restarts where the gradient points against the step (O'Donoghue & Candès 2015).

So F never rises beyond rounding, there is no step size to set, and steps cost one evaluation each.
"""

import torch
from torch import Tensor

from itervae.errors import InputError
from itervae.inference.base import Engine, Problem
from itervae.inference.energies import Point, PoissonEnergy
from itervae.inference.state import State

START_CURVATURE = 4.0
"""κ of the first step: in units of the diagonal c/σ², between 1 (orthogonal atoms) and the largest eigenvalue."""
DECAY = 0.8
"""κ falls by this factor per step where the curvature allows."""
FLOOR = 1e-12
"""Smallest metric of a unit, relative to the largest: atoms of zero norm take no quadratic term."""


class Descent(Engine):
    """A step rule with the safeguards of this module. Subclasses write `propose` and `velocity`.

    Memory per datum: `damping` κ (B, 1), `momentum` t (B, 1) of Nesterov's sequence, and the last step taken, as
    `velocity` (B, K) in the coordinates of the rule; there is none before the first step.
    """

    requires = frozenset({"Poisson family", "linear decoder", "Gaussian likelihood"})

    def __init__(self, steps: int = 20) -> None:
        super().__init__()
        if steps < 1:
            raise InputError(f"steps is {steps}; expected a number ≥ 1")
        self.steps = steps

    def propose(self, energy: PoissonEnergy, state: State, inertia: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Log-rates to try, and the rate and smooth gradient of the point that the step was made from.

        `inertia` (B, 1) is the share of the last step to repeat, 0 after a restart.
        """
        raise NotImplementedError

    def velocity(self, old: State, log_rate: Tensor, new: Point) -> dict[str, Tensor]:
        """The step from `old` to the new point, for the next extrapolation."""
        raise NotImplementedError

    def init(self, problem: Problem, state: State | None) -> State:
        log_rate = problem.start() if state is None else state.log_rate
        point = problem.energy.evaluate(log_rate)
        memory = {} if state is None else dict(state.memory)
        if "damping" not in memory:
            one = torch.ones_like(point.value)[:, None]
            memory = {"damping": START_CURVATURE * one, "momentum": one}
        return State(log_rate, memory, point, {"rejected": torch.zeros_like(point.value)})

    def step(self, problem: Problem, state: State) -> State:
        energy, old, memory = problem.energy, state.point, state.memory
        assert isinstance(energy, PoissonEnergy)
        momentum = memory["momentum"]
        longer = 0.5 + (0.25 + momentum.square()).sqrt()
        log_rate, base_rate, base_smooth = self.propose(energy, state, (momentum - 1) / longer)
        new = energy.evaluate(log_rate)
        with torch.no_grad():
            # NaN counts as a rise
            rejected = ~(new.value <= old.value + energy.tolerance(old))[:, None]
            along = new.rate - base_rate
            seen = (along * (new.smooth - base_smooth)).sum(-1, keepdim=True)
            seen = seen / (new.diagonal * along.square()).sum(-1, keepdim=True).clamp_min(1e-30)
            damping = memory["damping"]
            damping = torch.where(rejected, 2 * damping, DECAY * damping)
            damping = torch.maximum(damping, torch.where(seen.isfinite(), seen, 0))
            against = (new.gradient * (new.rate - old.rate)).sum(-1, keepdim=True) > 0
            restart = rejected | against
            momentum = torch.where(restart, 1, longer)

        def choose(before: Tensor, after: Tensor) -> Tensor:
            return torch.where(rejected if before.ndim > 1 else rejected[:, 0], before, after)

        velocity = {name: torch.where(restart, 0, value) for name, value in self.velocity(state, log_rate, new).items()}
        return State(
            choose(state.log_rate, log_rate),
            {"damping": damping, "momentum": momentum, **velocity},
            Point(
                choose(old.value, new.value),
                choose(old.rate, new.rate),
                choose(old.smooth, new.smooth),
                choose(old.gradient, new.gradient),
                new.diagonal,
            ),
            {"rejected": state.counts["rejected"] + rejected[:, 0]},
        )

    def metric(self, state: State) -> Tensor:
        """h = κ·c/σ² (B, K), positive."""
        diagonal = state.point.diagonal
        return state.memory["damping"] * diagonal.clamp_min(FLOOR * diagonal.max().clamp_min(FLOOR))
