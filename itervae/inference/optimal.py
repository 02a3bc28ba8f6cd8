"""The posterior of least free energy, with a proof; and the optimum of the lasso.

For a linear decoder under a Gaussian likelihood F is strictly convex in the rates, so its minimizer is unique; the gap
to the Fenchel dual bounds, per datum, what is left to gain (`PoissonEnergy.certificate`, `LassoEnergy.certificate`).
Gaussian and categorical posteriors have their optimum in closed form (`ClosedFormEnergy`).
"""

from dataclasses import dataclass

import torch

from itervae.errors import InputError
from itervae.inference.checks import CERTIFIABLE
from itervae.inference.closed_form import ClosedFormEnergy
from itervae.inference.descent import Descent
from itervae.inference.energies import PoissonEnergy
from itervae.inference.ista import FISTAUnrolled
from itervae.inference.lca import LCAUnrolled
from itervae.inference.newton import newton_step
from itervae.inference.problem import Problem
from itervae.inference.state import State

FIRST_ORDER = 50
"""Proximal steps before Newton steps: most data are finished by then, at a fraction of the cost."""


@dataclass
class OptimalSettings:
    """Settings of `optimal`."""

    steps: int = 1000
    """Largest number of inference steps."""
    tolerance: float = 1e-6
    """Certificate in nats at which a datum is finished."""


class Optimal(Descent):
    """The certified optimum: float64 steps until each datum's duality gap is below the tolerance.

    Accelerated proximal steps first, then Newton steps for the data that are left: those of high contrast, small σ² or
    small β. For the lasso, steps of the LCA. Gaussian and categorical posteriors take no step.
    `Inference.stats["certificate"]` holds what was reached. Data that need more than `steps` steps are returned with a
    larger certificate, never silently.
    """

    requires = CERTIFIABLE
    Settings = OptimalSettings
    dtype = torch.float64

    def __init__(self, steps: int = 1000, tolerance: float = 1e-6) -> None:
        super().__init__(steps)
        if not tolerance > 0:
            raise InputError(f"tolerance is {tolerance}; expected a positive number of nats")
        self.tolerance = tolerance
        self._fista, self._lca = FISTAUnrolled(), LCAUnrolled()

    def init(self, problem: Problem, state: State | None) -> State:
        if isinstance(problem.certified, ClosedFormEnergy):
            return State(problem.certified.optimum())
        return super().init(problem, state)

    def stride(self, problem: Problem, done: int) -> int:
        newton = isinstance(problem.energy, PoissonEnergy) and done >= FIRST_ORDER
        return 1 if newton else super().stride(problem, done)

    def step(self, problem: Problem, state: State) -> State:
        if isinstance(problem.certified, ClosedFormEnergy):
            return state  # certified at once, but for rounding where the tolerance asks for less than that
        if not isinstance(problem.energy, PoissonEnergy):
            return self._lca.step(problem, state)
        if problem.taken < FIRST_ORDER:
            return self._fista.step(problem, state)
        u, point = newton_step(problem.energy, state.u, state.point)
        return State(u, state.memory, point, state.counts)
