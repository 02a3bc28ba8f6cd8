"""The locally competitive algorithm, unrolled.

Rozell et al. (2008), "Sparse coding via thresholding and local competition in neural circuits", and
the same with the exponential activation and the free energy of the Poisson VAE. The continuous flow
is

    du/dt = −∂F/∂λ = [Φᵀx − c/2 − ΦᵀΦλ]/σ² − β(u − log r),      λ = e^u

drive, lateral inhibition and leak: the natural gradient of F, since the Fisher information of a
Poisson rate cancels the Jacobian. Its fixed point is the posterior of least free energy. For sparse
coding, du/dt = Φᵀx − u − (ΦᵀΦ − I)a, a = T(u) (`LassoEnergy`).
"""

import torch
from torch import Tensor

from itervae.arguments import check_whole
from itervae.distributions.registry import MAX_LOG_RATE
from itervae.inference.energies.base import Point
from itervae.inference.energies.linear import LinearEnergy
from itervae.inference.energies.poisson import LEAK
from itervae.inference.energies.sampled import SampledEnergy
from itervae.inference.engine import Engine, State
from itervae.inference.engines.descent import START_CURVATURE, Descent
from itervae.inference.engines.fused import Rule
from itervae.inference.problem import Problem
from itervae.inference.settings import LCASettings

LARGEST_SAMPLED = 2.0
"""Largest change of a log-rate in one step, nats, where the gradient is sampled."""
NEWEST = 0.2
"""Weight of the newest draw in the running means of sampled gradients."""


class LCADescent(Descent):
    """The locally competitive algorithm on an energy in closed form, with the safeguards and the
    momentum of `Descent`. The steps of a Poisson model are semi-implicit:

        Δu = clip( −∂F/∂λ / (4β + κ·c·λ/σ²), ±4 ) + inertia·(last Δu)

    since the diagonal of the Jacobian of the flow is β + cλ/σ²; κ, one per datum, stands for the
    rest of it. Those of sparse coding are Δu = −∂E/∂a / max(κ·c, 1) + inertia·(last Δu). The first
    step, from which rates may have to grow a thousandfold, is a proximal one.
    """

    rule = Rule(lca=True, momentum=True)

    def propose(self, energy: LinearEnergy, state: State, inertia: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        point, memory = state.point, state.memory
        if "velocity" not in memory:
            u = energy.proximal_step(point.mean, point.data_gradient, self.metric(state))
        else:
            u = state.u + energy.flow_step(point, memory["damping"]) + inertia * memory["velocity"]
        return u, point.mean, point.data_gradient

    def velocity(self, old: State, u: Tensor, new: Point) -> dict[str, Tensor]:
        step = u - old.u
        # the proximal step is no direction to go on in
        return {"velocity": step if "velocity" in old.memory else torch.zeros_like(step)}


class SampledLCA(Engine):
    """The locally competitive algorithm on a sampled free energy (`SampledEnergy`): that of a
    network decoder, say, or of a Bernoulli likelihood.

    There is no exact value to compare, so nothing is taken back and there is no momentum: κ stays
    at 4, and gradient and curvature are means over the last few draws. Log-rates stay below 10,
    where counts can be drawn.
    """

    requires = frozenset({"Poisson family"})

    def init(self, problem: Problem, state: State | None) -> State:
        u, memory = (problem.start(), {}) if state is None else (state.u, dict(state.memory))
        return State(u, memory, diagnostics={"clamped": torch.zeros_like(u[:, 0], dtype=torch.long)})

    def step(self, problem: Problem, state: State) -> State:
        energy, memory = problem.energy, state.memory
        assert isinstance(energy, SampledEnergy)
        draw = energy.evaluate(state.u)
        draws = memory.get("draws", torch.zeros_like(draw.value)[:, None]) + 1
        weight = (1 / draws).clamp_min(NEWEST)
        data_gradient = torch.lerp(memory.get("data_gradient", draw.data_gradient), draw.data_gradient, weight)
        diagonal = torch.lerp(memory.get("diagonal", draw.diagonal), draw.diagonal, weight)
        gradient = data_gradient + energy.beta * (state.u - energy.prior_log_rate)
        flow = -gradient / (LEAK * energy.beta + START_CURVATURE * diagonal * draw.mean)
        u = state.u + flow.clamp(-LARGEST_SAMPLED, LARGEST_SAMPLED)
        clamped = (u > MAX_LOG_RATE).sum(-1)
        memory = {"draws": draws, "data_gradient": data_gradient, "diagonal": diagonal}
        return State(u.clamp_max(MAX_LOG_RATE), memory, diagnostics={"clamped": clamped})


class LCAUnrolled(Engine):
    """The locally competitive algorithm: Euler steps of log-rates or membrane potentials,
    safeguarded.

    Where the energy has a closed form the steps are those of `LCADescent`, else those of
    `SampledLCA`, and `stats["clamped"]` counts the units that the last step would have taken beyond
    log-rates of 10.
    """

    requires = frozenset({"Poisson family or sparse coding"})
    Settings = LCASettings

    def __init__(self, steps: int = LCASettings.steps) -> None:
        super().__init__()
        check_whole("steps", steps, 1)
        self.steps = steps
        self._exact, self._sampled = LCADescent(steps), SampledLCA()

    def init(self, problem: Problem, state: State | None) -> State:
        return self._rule(problem).init(problem, state)

    def step(self, problem: Problem, state: State) -> State:
        return self._rule(problem).step(problem, state)

    def repeat(self, problem: Problem, state: State, steps: int) -> State:
        if type(self).step is LCAUnrolled.step and self.fuses(problem, state):
            return self._rule(problem).repeat(problem, state, steps)
        return super().repeat(problem, state, steps)

    def fuses(self, problem: Problem, state: State) -> bool:
        return self._rule(problem).fuses(problem, state)

    def _rule(self, problem: Problem) -> Engine:
        return self._exact if problem.energy.exact else self._sampled
