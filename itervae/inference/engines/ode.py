"""The flow of the locally competitive algorithm, integrated by fixed steps or, adaptively, by
torchdiffeq.

Rozell et al. (2008), "Sparse coding via thresholding and local competition in neural circuits";
Chen et al. (2018), "Neural ordinary differential equations". Each latent's time runs in units of
its own relaxation time:

    du/dt = 4 tanh(v/4),      v = −∂F/∂λ / (β + κ·c·λ/σ²)      (sparse coding: −∂E/∂a / max(κ·c, 1))

since at κ = 1 the divisor is the diagonal of the Jacobian of the plain flow du/dt = −∂F/∂λ; the
tanh bounds the speed at which a rate grows. A positive factor on each velocity moves no fixed
point: the flow rests at the posterior of least free energy, and F falls along it.
"""

from dataclasses import replace
from functools import partial
from typing import Any, get_args

import torch
from torch import Tensor

from itervae.arguments import check_choice, check_positive
from itervae.errors import InputError
from itervae.inference.energies.base import Point
from itervae.inference.energies.linear import LinearEnergy
from itervae.inference.engine import State
from itervae.inference.engines import runge_kutta
from itervae.inference.engines.descent import Descent, Proposal, unshortened
from itervae.inference.problem import Problem
from itervae.inference.settings import AdaptiveMethod, FixedMethod, LCAODESettings

FALLBACK = "heun3"
"""Method of fixed steps for what an adaptive one cannot integrate."""
MOST_SUBSTEPS = 1000
"""Substeps of an adaptive method in one step, rejected ones too, before it gives up."""
GAVE_UP = ("underflow in dt", "max_num_steps exceeded", "non-finite values in state")
"""Beginnings of the assertions by which an adaptive method of torchdiffeq gives up."""
RTOL, ATOL = 1e-3, 1e-4
"""Default tolerances of adaptive methods: relative, and absolute in nats of log-rate or units of
potential."""


class StepSizeFailure(RuntimeError):
    """An adaptive method found no step size that meets its tolerance."""


class LCAODE(Descent):
    """The locally competitive algorithm as a differential equation, integrated by Runge–Kutta
    methods.

    A step is one unit of time, with the κ of `Descent` per datum as the time constant of lateral
    inhibition. Where F has risen, the step is taken back and the datum goes on with κ doubled, a
    slower flow; so any method is stable for every datum. The step of a fixed method that overshoots
    is shortened first, as any of `Descent`. The very first step, in which rates may have to grow a
    thousandfold, is a proximal one; a call that goes on from a whole state has none, so 10 steps
    and then 10 more are the same as 20.

    Adaptive methods choose one sequence of substeps for the whole batch, by the error of the worst
    datum (the largest root mean square over latents); so an answer depends on the rest of the
    batch, within rtol and atol. Where they find no step size, the batch takes that step by `heun3`
    instead, which `stats["fallback"]` counts.

    `adjoint` solves the adjoint equation backwards within each step, by the same adaptive method.
    That is the gradient of the flow and not of its discretization; the two become equal as rtol and
    atol go to 0. Its substeps are at least 1/1000 of the step, whatever their error.
    """

    Settings = LCAODESettings

    def __init__(
        self,
        steps: int = LCAODESettings.steps,
        method: str = LCAODESettings.method,
        rtol: float | None = LCAODESettings.rtol,
        atol: float | None = LCAODESettings.atol,
        adjoint: bool = LCAODESettings.adjoint,
        tolerance: float | None = LCAODESettings.tolerance,
    ) -> None:
        super().__init__(steps)
        fixed, adaptive = get_args(FixedMethod), get_args(AdaptiveMethod)
        check_choice("method", method, (*fixed, *adaptive))
        for name, value in (("rtol", rtol), ("atol", atol), ("tolerance", tolerance)):
            if value is not None:
                check_positive(name, value)
            if name != "tolerance" and value is not None and method in fixed:
                raise InputError(
                    f"{name} is {value}, but {method} takes fixed steps; leave it out, or use one of "
                    f"{', '.join(adaptive)}"
                )
        if adjoint and method in fixed:
            raise InputError(
                f"adjoint was asked for with {method}, whose one step back is too coarse for the adjoint equation; "
                f"leave it out, or use one of {', '.join(adaptive)}"
            )
        if adjoint and tolerance is not None:
            raise InputError(
                f"adjoint was asked for with tolerance {tolerance}, whose gradient is that at the optimum and goes "
                "back through no step; leave one of them out"
            )
        self.method: Any = method
        self.adjoint, self.tolerance = adjoint, tolerance
        self.rtol, self.atol = rtol or RTOL, atol or ATOL
        self._fallback = LCAODE(method=FALLBACK) if method in adaptive else None

    def init(self, problem: Problem, state: State | None) -> State:
        found = super().init(problem, state)
        diagnostics = found.diagnostics
        if self._fallback is not None:
            diagnostics = {**diagnostics, "fallback": torch.zeros_like(diagnostics["rejected"])}
        return replace(found, diagnostics=diagnostics, step_count=0 if state is None else state.step_count)

    def advance(self, problem: Problem, state: State, most: int) -> tuple[State, int]:
        return self.step(problem, state), 1  # a look costs less than any step

    def step(self, problem: Problem, state: State) -> State:
        if self._fallback is None:
            return replace(super().step(problem, state), step_count=state.step_count + 1)
        try:
            new, failed = super().step(problem, state), 0
        except StepSizeFailure:
            new, failed = self._fallback.step(problem, state), 1
        diagnostics = {**new.diagnostics, "fallback": state.diagnostics["fallback"] + failed}
        return replace(new, diagnostics=diagnostics, step_count=state.step_count + 1)

    def candidate(self, energy: LinearEnergy, state: State, inertia: Tensor) -> Proposal:
        if self._fallback is None:
            return super().candidate(energy, state, inertia)
        u, mean, data_gradient = self.propose(energy, state, inertia)
        point = energy.evaluate(u)  # as it is: what is shortened along a straight line leaves the flow
        return unshortened(state, u, point, mean, data_gradient)

    def propose(self, energy: LinearEnergy, state: State, inertia: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        point = state.point
        if not state.step_count:
            return (
                energy.proximal_step(point.mean, point.data_gradient, self.metric(state)),
                point.mean,
                point.data_gradient,
            )
        return self.integrate(energy, state.u, state.memory["damping"]), point.mean, point.data_gradient

    def velocity(self, old: State, u: Tensor, new: Point) -> dict[str, Tensor]:
        return {}

    def integrate(self, energy: LinearEnergy, u: Tensor, damping: Tensor) -> Tensor:
        """The u (B, K) after one unit of time, with damping κ (B, 1).

        Raises:
            StepSizeFailure: an adaptive method gave up.
        """
        if self._fallback is None:
            return runge_kutta.step(self.method, partial(velocity, energy, damping), u)
        from torchdiffeq import odeint, odeint_adjoint  # not at the top: it takes half a second, for scipy

        times = torch.arange(2, dtype=u.dtype, device=u.device)
        tolerances = {"rtol": self.rtol, "atol": self.atol}
        # substeps end where the unit of time does: torchdiffeq would interpolate
        options = {"norm": worst_datum, "max_num_steps": MOST_SUBSTEPS, "step_t": times[1:]}
        try:
            if self.adjoint and torch.is_grad_enabled():
                own, tensors = energy.separated()
                path = odeint_adjoint(
                    partial(_at_any_time, own, damping),
                    u,
                    times,
                    method=self.method,
                    options=options,
                    adjoint_options={"min_step": 1 / MOST_SUBSTEPS, "step_t": times[:1]},
                    adjoint_params=tensors,
                    **tolerances,
                )
            else:
                path = odeint(
                    partial(_at_any_time, energy, damping), u, times, method=self.method, options=options, **tolerances
                )
        except AssertionError as error:
            if not str(error).startswith(GAVE_UP):
                raise
            raise StepSizeFailure(str(error)) from error
        assert isinstance(path, Tensor)
        return path[-1]


def velocity(energy: LinearEnergy, damping: Tensor, u: Tensor) -> Tensor:
    """The velocity du/dt of the flow at u (B, K)."""
    return energy.flow(energy.evaluate(u), damping)


def _at_any_time(energy: LinearEnergy, damping: Tensor, time: Tensor, u: Tensor) -> Tensor:
    return velocity(energy, damping, u)


@torch.no_grad()
def worst_datum(error: Tensor) -> Tensor:
    """The size of `error` (B, K): the largest root mean square over latents of any datum."""
    return error.square().mean(-1).sqrt().max()
