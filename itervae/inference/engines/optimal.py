"""The posterior of least free energy, with a proof; and the optimum of the lasso.

For a linear decoder under a Gaussian likelihood F is strictly convex in the rates, so its minimizer
is unique; the gap to the Fenchel dual bounds, per datum, what is left to gain
(`PoissonEnergy.certificate`, `LassoEnergy.certificate`). Gaussian and categorical posteriors have
their optimum in closed form (`ClosedFormEnergy`).
"""

from dataclasses import replace

import torch

from itervae import devices
from itervae.arguments import check_positive
from itervae.inference.energies.closed_form import ClosedFormEnergy
from itervae.inference.energies.lasso import LassoEnergy
from itervae.inference.energies.linear import LinearEnergy
from itervae.inference.energies.poisson import PoissonEnergy
from itervae.inference.engine import LOOK_EVERY, State
from itervae.inference.engines.descent import Descent
from itervae.inference.engines.ista import FISTAUnrolled
from itervae.inference.engines.lca import LCADescent
from itervae.inference.problem import Problem
from itervae.inference.settings import OptimalSettings
from itervae.inference.systems.active_set import active_set_step
from itervae.inference.systems.convolutional_descent import convolution, minimize_maps
from itervae.inference.systems.coordinate_descent import minimize
from itervae.inference.systems.newton import newton_step
from itervae.model import CERTIFIABLE, is_matrix

SINGLE = 20
"""Number of first steps of a cold start, taken in float32 at half the cost, with no check for
finished data between them."""
FIRST_ORDER = 100
"""Steps of first order before Newton steps: most data are finished by then, at a fraction of the
cost."""
CYCLE, ACTIVE_SET = 10, 3
"""Number of steps in a cycle of batched steps on the lasso, and how many of them, the first, are
active-set steps. The others are steps of the LCA: they bring data near their support that are still
far from it."""


class Optimal(Descent):
    """The certified optimum: steps until each datum's duality gap, computed in float64, is below
    the tolerance.

    Poisson: from a cold start 20 steps of the LCA in float32; then, in float64, accelerated
    proximal steps, which small σ² or small β slow down less, and from step 100 on, with a dense
    dictionary, Newton steps for the data that are left. The lasso: on a CPU by compiled
    code, which counts as no step (`coordinate_descent`, `convolutional_descent`), else by
    active-set steps among those of the LCA. Gaussian and categorical posteriors take no step.

    `Inference.stats["certificate"]` holds what was reached. Data that need more than `steps` steps,
    or that rounding lets come no nearer (`stats["stalled"]`), are returned with a larger
    certificate, never silently.
    """

    requires = CERTIFIABLE
    Settings = OptimalSettings
    dtype = torch.float64
    patience = 8
    tolerance: float

    def __init__(self, steps: int = OptimalSettings.steps, tolerance: float = OptimalSettings.tolerance) -> None:
        super().__init__(steps)
        self.tolerance = check_positive("tolerance", tolerance, " of nats")
        self._lca, self._fista = LCADescent(steps), FISTAUnrolled(steps)

    def init(self, problem: Problem, state: State | None) -> State:
        energy = problem.certified
        if isinstance(energy, ClosedFormEnergy):
            return State(energy.optimum())
        memory = {} if state is None else dict(state.memory)
        begun = SINGLE if state is not None else 0  # a warm start is not to be rounded
        count = state.step_count if state is not None and memory else begun
        if isinstance(energy, LassoEnergy) and _compiled(energy):
            solve = minimize if is_matrix(energy.quadratic.operator) else minimize_maps
            u, point = solve(energy, problem.start() if state is None else state.u, self.tolerance)
            return replace(self.begin(energy, u, point, memory), step_count=max(count, SINGLE))
        return replace(super().init(problem, state), step_count=count)

    def advance(self, problem: Problem, state: State, most: int) -> tuple[State, int]:
        steps = min(self._stride(problem, state), most)
        if state.step_count >= SINGLE or isinstance(problem.certified, ClosedFormEnergy):
            for _ in range(steps):
                state = self.step(problem, state)
            return state, steps
        single, own = problem.to(torch.float32), problem.x.dtype
        state = self.resume(single, state.map(lambda value: value.to(single.x.dtype)), state.diagnostics)
        for _ in range(steps):
            state = self.step(single, state)
        return self.resume(problem, state.map(lambda value: value.to(own)), state.diagnostics), steps

    def _stride(self, problem: Problem, state: State) -> int:
        """The number of steps until it is looked whether data are finished."""
        count = state.step_count
        if isinstance(problem.certified, ClosedFormEnergy) or count < SINGLE:
            return SINGLE
        if isinstance(problem.energy, PoissonEnergy):
            return max(1, min(LOOK_EVERY, FIRST_ORDER - count))
        return 1 if _in_active_set(count) else CYCLE - (count - SINGLE) % CYCLE

    def fuses(self, problem: Problem, state: State) -> bool:
        return state.step_count < FIRST_ORDER and self._lca.fuses(problem, state)

    def step(self, problem: Problem, state: State) -> State:
        if isinstance(problem.certified, ClosedFormEnergy):
            return state  # certified at once, but for rounding where the tolerance asks for less than that
        energy, count = problem.energy, state.step_count
        if isinstance(energy, PoissonEnergy) and count >= FIRST_ORDER and is_matrix(energy.quadratic.operator):
            u, point = newton_step(energy, state.u, state.point)
        elif isinstance(energy, LassoEnergy) and _in_active_set(count) and is_matrix(energy.quadratic.operator):
            u, point = active_set_step(energy, state.u, state.point)
        elif isinstance(energy, PoissonEnergy) and count >= SINGLE:
            if count == SINGLE:  # another rule takes over, which has not moved yet
                damping = state.memory["damping"]
                state = replace(state, memory={"damping": damping, "momentum": torch.ones_like(damping[:, :1])})
            return replace(self._fista.step(problem, state), step_count=count + 1)
        else:
            return replace(self._lca_step(problem, state), step_count=count + 1)
        return State(u, state.memory, point, state.diagnostics, step_count=count + 1)

    def places(self, energy: LinearEnergy) -> int:
        return self._fista.places(energy)

    def _lca_step(self, problem: Problem, state: State) -> State:
        """A step of the LCA, with one κ for a datum."""
        damping = state.memory["damping"]
        new = self._lca.step(problem, replace(state, memory=state.memory | {"damping": damping[:, :1]}))
        return replace(new, memory=new.memory | {"damping": new.memory["damping"].expand_as(damping)})


def _compiled(energy: LassoEnergy) -> bool:
    """Whether the lasso is solved in compiled code."""
    operator = energy.quadratic.operator
    return (is_matrix(operator) or convolution(operator) is not None) and devices.on_cpu(energy.quadratic.x)


def _in_active_set(count: int) -> bool:
    return count >= SINGLE and (count - SINGLE) % CYCLE < ACTIVE_SET
