"""The steps of `Descent` on a Poisson model, without gradient: in compiled code.

Each function of `kernels/descent_numba.py`, for a CPU, and of the same name in
`kernels/programs_triton.py`, for a GPU, is one in tensors, and a change of one is one of all:

    in tensors                                                      in compiled code
    LCADescent.propose, PoissonEnergy.flow_step                     propose, where `flow`
    ProximalDescent.propose, PoissonEnergy.proximal_step            propose, otherwise
    log_lambertw_exp (energies/lambertw.py)                         log_lambertw_exp
    Descent.step, PoissonEnergy.cost, Quadratic.value               settle
    descent.shortened, PoissonEnergy.between                        _cut and _gained, in settle
    LCADescent.velocity, ProximalDescent.velocity                   _repeat, in settle
    poisson_kl (distributions/poisson.py), in the certificate       gaps

Where a datum has a κ for each place of a map, `settle` leaves the sums that they are found from, on
a CPU (`damping.followed`); on a GPU such steps are in tensors.

On a GPU `settle` also does what `propose` does of the step that follows, so that a step is its
products and one kernel; and the steps of a small batch are one graph (`itervae/kernels/graphs.py`).
"""

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from itervae import devices
from itervae.inference.energies.base import Point
from itervae.inference.energies.linear import ROUNDING
from itervae.inference.energies.poisson import LARGEST, LEAK, PoissonEnergy
from itervae.inference.engine import State
from itervae.inference.engines.damping import followed
from itervae.inference.kernels import DESCENT
from itervae.kernels import graphs
from itervae.kernels.launch import operand, run
from itervae.model import Dense


class Rule(NamedTuple):
    """A kind of step: of the LCA or proximal, and whether a share of the last step is repeated."""

    lca: bool
    momentum: bool


@torch.no_grad()
def fused_steps(rule: Rule, energy: PoissonEnergy, state: State, limits: tuple[float, ...], steps: int) -> State:
    """The state after some steps of `Descent`, from compiled code; it differs by rounding from that
    in tensors.

    Args:
        rule: kind of step.
        energy: of the problem.
        state: before the steps.
        limits: the constants `DECAY`, `LEAST`, `MOST` and `STILL` of `descent`.
        steps: how many; on a CPU one.
    """
    if steps == 1 or type(energy.quadratic.operator) is not Dense or not graphs.fits(state.u):
        return _stepped(rule, energy, state, limits, steps)

    def loop(given: Any) -> Any:  # reads no tensor but those
        numbers, u, memory, point, diagnostics = given
        left = iter(numbers)
        own, begun = energy.map(lambda _: next(left)), State(u, memory, point, diagnostics)
        new = _stepped(rule, own, begun, limits, steps)
        return new.u, new.memory, new.point, new.diagnostics

    given = energy.tensors(), state.u, state.memory, state.point, state.diagnostics
    u, memory, point, diagnostics = graphs.run(loop, given, (rule, limits, steps))
    return replace(state, u=u, memory=memory, point=point, diagnostics=diagnostics)


def _stepped(rule: Rule, energy: PoissonEnergy, state: State, limits: tuple[float, ...], steps: int) -> State:
    """The state after the steps, one kernel after the other."""
    size, latents = state.u.shape
    diagonal, metric, prior, beta, *products = energy.constants
    decay, least, most, still = limits
    eps = torch.finfo(state.u.dtype).eps
    largest = np.float32(LEAK), np.float32(LARGEST)

    def rows(*shape: int) -> Tensor:
        return state.point.value.new_empty(shape)

    repeats = rule.momentum and "velocity" in state.memory
    rejected = state.diagnostics["rejected"].clone()
    point, memory = _point(state), _memory(state.memory, state.u)
    u, mean = rows(size, latents), rows(size, latents)
    terms = diagonal, metric, prior, beta, *largest
    run(DESCENT, "propose", u, rule.lca and repeats, repeats, point, memory, terms, operand(u), operand(mean))
    for left in reversed(range(steps)):
        product, residual = energy.quadratic.product(mean)
        data_gradient = product.contiguous()  # else what is put into it would be put into a copy
        gradient, value = data_gradient if left else rows(size, latents), rows(size)
        damping = state.memory["damping"]
        found = {"damping": rows(*damping.shape), "momentum": rows(size, 1)}
        if rule.momentum and not (rule.lca and left):  # else the kernel itself begins the step that repeats it
            found["velocity"] = rows(size, latents)
        if rule.momentum and not rule.lca:
            found["velocity_data_gradient"] = rows(size, latents)
        tried = [rows(size, latents), rows(size, latents)] if left else []
        seen = rows(3, size, damping.shape[1] if damping.shape[1] > 1 else 0)
        run(
            DESCENT,
            "settle",
            u,
            (rule.lca, rule.lca and repeats, repeats, rule.momentum),
            (*point, operand(state.point.value)),
            memory,
            (diagonal, prior, beta, *products),
            operand(residual),
            (decay, least, most, still * eps, ROUNDING * eps),
            tuple(map(operand, (u, mean, data_gradient, gradient, value))),
            _memory(found, mean),
            operand(rejected),
            *([(metric, *largest, *tried)] if left else []),
            *([operand(seen)] if devices.on_cpu(u) else []),
        )
        if seen.shape[2]:
            _several(energy, state, found, seen, rejected)
        reached = Point(value, mean, data_gradient, gradient, energy.quadratic.diagonal)
        state = replace(state, u=u, memory=found, point=reached, diagnostics=state.diagnostics | {"rejected": rejected})
        if left:
            point, memory, repeats = _point(state), _memory(found, mean), rule.momentum
            u, mean = tried
    return state


def _several(energy: PoissonEnergy, old: State, found: dict[str, Tensor], seen: Tensor, rejected: Tensor) -> None:
    """Put κ (B, P) of the next step into a memory, and begin anew what has arrived."""
    worse = (rejected > old.diagnostics["rejected"])[:, None]
    damping, arrived = followed(energy, old.memory["damping"], seen, worse)
    found["damping"].copy_(damping)
    if arrived.any():
        found["momentum"].masked_fill_(arrived, 1)
        for name in found.keys() & {"velocity", "velocity_data_gradient"}:
            found[name].masked_fill_(arrived, 0)


def _point(state: State) -> tuple[Any, ...]:
    """u, mean, data gradient and gradient of a state, as arrays."""
    return tuple(map(operand, (state.u, *state.point[1:4])))


def _memory(memory: dict[str, Tensor], stand_in: Tensor) -> tuple[Any, ...]:
    """Damping, momentum and the last step of a memory, as arrays; `stand_in` for what is not
    there."""
    size, found = len(stand_in), []
    for name in ("damping", "momentum", "velocity", "velocity_data_gradient"):
        value = memory.get(name, stand_in)
        if len(value) != size or value.dtype != stand_in.dtype:  # compiled code would read on regardless
            raise ValueError(
                f"{name} is {value.dtype} of {len(value)} data; expected {stand_in.dtype} of {size}, those of the state"
            )
        found.append(operand(value))
    damping = found[0] if devices.on_cpu(stand_in) else found[0][:, 0]
    return damping, found[1][:, 0], found[2], found[3]
