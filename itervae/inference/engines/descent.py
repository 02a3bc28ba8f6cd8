"""Safeguarded descent: what makes a fixed number of steps safe for every datum, whatever its scale.

A step rule proposes a point. It is evaluated, and per datum
- a proposal at whose end the free energy of a Poisson model rises again is shortened along the
  step, where E is convex and its gradient known: that takes no product with Φ;
- a proposal that still raises E is taken back, with the damping κ doubled and the momentum dropped;
- κ follows the curvature seen along the step, decaying slowly between (`damping`);
- momentum (Nesterov's sequence) restarts where the gradient points against the step (O'Donoghue &
  Candès 2015).

So E never rises beyond rounding, there is no step size to set, and steps cost one evaluation each.
"""

from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from itervae import devices
from itervae.arguments import check_whole
from itervae.inference.energies.base import Point, choose, pick, without
from itervae.inference.energies.linear import LinearEnergy, metric, rises
from itervae.inference.energies.poisson import PoissonEnergy
from itervae.inference.engine import Engine, State
from itervae.inference.engines.damping import (
    DECAY,
    LEAST,
    MOST,
    START_CURVATURE,
    STILL,
    at_places,
    everywhere,
    followed,
)
from itervae.inference.engines.fused import Rule, fused_steps
from itervae.inference.problem import Problem
from itervae.kernels.launch import fusible

LIMITS = DECAY, LEAST, MOST, STILL
"""What compiled code takes of these."""


class Descent(Engine):
    """A step rule with the safeguards of this module. Subclasses write `propose` and `velocity`.

    The memory of each datum is `damping` κ (B, P), one for all of it or for each of P places,
    `momentum` t (B, 1) of Nesterov's sequence and, after the first step, the last step taken, in
    the coordinates of the rule: what `velocity` gives.
    """

    requires = frozenset({"Poisson family or sparse coding", "linear decoder", "Gaussian likelihood"})
    rule: ClassVar[Rule]
    """How compiled code takes the steps of this very class, if it does (`fused`); no subclass
    inherits it."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        check_whole("steps", steps, 1)
        self.steps = steps

    def propose(self, energy: LinearEnergy, state: State, inertia: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The u to try (B, K), and the mean and the data gradient (B, K) of the point that the step
        was made from.

        Args:
            energy: what is minimized.
            state: where inference stands, with `state.point`, the energy there.
            inertia: share of the last step to repeat (B, 1); 0 after a restart.
        """
        raise NotImplementedError

    def candidate(self, energy: LinearEnergy, state: State, inertia: Tensor) -> "Proposal":
        """The step that `propose` says, evaluated, and shortened where it overshoots."""
        u, mean, data_gradient = self.propose(energy, state, inertia)
        return shortened(energy, state, u, mean, data_gradient)

    def turns_back(self, old: Point, proposal: "Proposal") -> Tensor:
        """Whether momentum is to restart (B, 1): the gradient at the end of the step points against
        it. Here that of the whole step, which momentum would repeat."""
        return proposal.slope > 0

    def places(self, energy: LinearEnergy) -> int:
        """How many κ a datum has, P: here one; else one for each place of a map."""
        return 1

    def velocity(self, old: State, u: Tensor, new: Point) -> dict[str, Tensor]:
        """The step from `old` to the new u and point, by name (B, K), as memory for the next
        `propose`."""
        raise NotImplementedError

    def init(self, problem: Problem, state: State | None) -> State:
        energy = problem.energy
        assert isinstance(energy, LinearEnergy)
        u = problem.start() if state is None else state.u
        return self.begin(energy, u, energy.evaluate(u), {} if state is None else dict(state.memory))

    def begin(self, energy: LinearEnergy, u: Tensor, point: Point, memory: dict[str, Tensor]) -> State:
        """The state at u and the energy there; a memory that is empty is filled with that of a
        first step."""
        one, places = torch.ones_like(point.value)[:, None], self.places(energy)
        damping = memory.get("damping", START_CURVATURE * one)
        if damping.shape[1] != places:  # of an engine that has another number
            damping = damping.amax(1, keepdim=True).repeat(1, places)
        memory = {"momentum": one} | memory | {"damping": damping}
        return State(u, memory, point, {"rejected": torch.zeros_like(point.value)})

    def fuses(self, problem: Problem, state: State) -> bool:
        if "rule" not in vars(type(self)) or not isinstance(problem.energy, PoissonEnergy):
            return False
        # the code for a GPU has one diagonal for all data, and one κ for a datum
        shared = (state.point.diagonal.ndim == 1 and self.places(problem.energy) == 1) or devices.on_cpu(state.u)
        return shared and fusible(state.point.gradient)

    def step(self, problem: Problem, state: State) -> State:
        energy, old, memory = problem.energy, state.point, state.memory
        assert isinstance(energy, LinearEnergy)
        if isinstance(energy, PoissonEnergy) and self.fuses(problem, state):
            return fused_steps(vars(type(self))["rule"], energy, state, LIMITS, 1)
        momentum = memory["momentum"]
        longer = 0.5 + (0.25 + momentum.square()).sqrt()
        proposal = self.candidate(energy, state, (momentum - 1) / longer)
        u, new = proposal.u, proposal.point
        with torch.no_grad():
            rejected = rises(energy, old, new)[:, None]
            moved = new.mean - proposal.mean
            bent = (new.data_gradient - proposal.data_gradient).mul_(moved)
            parts = bent, *(part.square().mul_(new.diagonal) for part in (new.mean, moved))
            seen = torch.stack([at_places(part, self.places(energy)) for part in parts])
            damping, arrived = followed(energy, memory["damping"], seen, rejected)
            restart = rejected | arrived | self.turns_back(old, proposal)
            momentum = torch.where(restart, 1, longer)

        velocity = {name: without(restart, value) for name, value in self.velocity(state, u, new).items()}
        return State(
            pick(rejected, state.u, u),
            {"damping": damping, "momentum": momentum, **velocity},
            choose(rejected, old, new),
            {"rejected": state.diagnostics["rejected"] + rejected[:, 0]},
        )

    def repeat(self, problem: Problem, state: State, steps: int) -> State:
        energy = problem.energy
        if steps and isinstance(energy, PoissonEnergy) and self.fuses(problem, state) and not devices.on_cpu(state.u):
            return fused_steps(vars(type(self))["rule"], energy, state, LIMITS, steps)
        return super().repeat(problem, state, steps)

    def metric(self, state: State) -> Tensor:
        """The metric h = κ·c/σ² (B, K), positive."""
        return everywhere(state.memory["damping"], state.u) * metric(state.point.diagonal)


class Proposal(NamedTuple):
    """A step that was tried.

    Attributes:
        u: what it comes to (B, K), and `point`, the energy there.
        whole: the energy at the end of the whole step, which is `point` where it was not shortened.
        slope: dE/dt at the end of the whole step (B, 1).
        mean: of the point that the step was made from (B, K), and `data_gradient`, the gradient of
            its reconstruction term.
        shortened: whether the energy lets a step be shortened, whole as it may have been left.
    """

    u: Tensor
    point: Point
    whole: Point
    slope: Tensor
    mean: Tensor
    data_gradient: Tensor
    shortened: bool


def unshortened(state: State, u: Tensor, point: Point, mean: Tensor, data_gradient: Tensor) -> Proposal:
    """The step to u, as it is."""
    with torch.no_grad():
        slope = (point.gradient * (point.mean - state.point.mean)).sum(-1, keepdim=True)
    return Proposal(u, point, point, slope, mean, data_gradient, False)


def shortened(energy: LinearEnergy, state: State, u: Tensor, mean: Tensor, data_gradient: Tensor) -> Proposal:
    """The step to u, cut per datum where the free energy of a Poisson model rises again at its end.

    F'(t) is the slope of F at a fraction t of the step. Where F'(0) < 0 < F'(1) the step is cut at
    the zero of the secant, t = F'(0)/(F'(0) − F'(1)); elsewhere it is whole. t counts as a constant
    in back-propagation.
    """
    old, whole = state.point, energy.evaluate(u)
    if not isinstance(energy, PoissonEnergy):
        return unshortened(state, u, whole, mean, data_gradient)
    with torch.no_grad():
        moved = whole.mean - old.mean
        first, last = ((point.gradient * moved).sum(-1, keepdim=True) for point in (old, whole))
        fraction = torch.where((first < 0) & (last > 0), first / (first - last), 1)
    u, point = energy.between(state.u, old, u, whole, fraction)
    return Proposal(u, point, whole, last, mean, data_gradient, True)
