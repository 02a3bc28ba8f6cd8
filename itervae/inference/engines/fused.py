"""The steps of `Descent` on a Poisson model, without gradient: in compiled code.

Each function of `kernels/descent_numba.py`, for a CPU, and of the same name in
`kernels/descent_triton.py`, for a GPU, is one in tensors, and a change of one is one of all:

    in tensors                                                      in compiled code
    LCADescent.propose, PoissonEnergy.flow_step                     propose, where `flow`
    ProximalDescent.propose, PoissonEnergy.proximal_step            propose, otherwise
    log_lambertw_exp (energies/lambertw.py)                         log_lambertw_exp
    Descent.step, PoissonEnergy.cost, Quadratic.value               settle
    descent.shortened, PoissonEnergy.between                        _cut and _gained, in settle
    LCADescent.velocity, ProximalDescent.velocity                   _repeat, in settle
    poisson_kl (distributions/poisson.py), in the certificate       gaps
"""

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from itervae.inference.energies.base import Point
from itervae.inference.energies.linear import ROUNDING
from itervae.inference.energies.poisson import LARGEST, LEAK, PoissonEnergy
from itervae.inference.engine import State
from itervae.inference.kernels import DESCENT
from itervae.kernels.launch import operand, run


class Rule(NamedTuple):
    """A kind of step: of the LCA or proximal, and whether a share of the last step is repeated."""

    lca: bool
    momentum: bool


@torch.no_grad()
def fused_step(rule: Rule, energy: PoissonEnergy, state: State, limits: tuple[float, ...]) -> State:
    """The state after one step of `Descent`, from compiled code; it differs by rounding from that
    in tensors.

    Args:
        rule: kind of step.
        energy: of the problem.
        state: before the step.
        limits: the constants `DECAY`, `LEAST`, `MOST` and `STILL` of `descent`.
    """
    old, memory, (size, latents) = state.point, state.memory, state.u.shape
    repeats = rule.momentum and "velocity" in memory
    diagonal, metric, prior, beta, offset, mass, shift, weight, precision = energy.constants
    point = tuple(operand(value) for value in (state.u, old.mean, old.data_gradient, old.gradient))
    before = _memory(memory, old.mean)

    def rows(*shape: int) -> Tensor:
        return old.value.new_empty(shape)

    u, mean, gradient, value = rows(size, latents), rows(size, latents), rows(size, latents), rows(size)
    terms = diagonal, metric, prior, beta, np.float32(LEAK), np.float32(LARGEST)
    run(DESCENT, "propose", u, rule.lca and repeats, repeats, point, before, terms, operand(u), operand(mean))
    product, residual = energy.quadratic.product(mean)
    data_gradient = product.contiguous()  # else what is put into it would be put into a copy

    found = {"damping": rows(size, 1), "momentum": rows(size, 1)}
    if rule.momentum:
        found["velocity"] = rows(size, latents)
        if not rule.lca:
            found["velocity_data_gradient"] = rows(size, latents)
    rejected = state.diagnostics["rejected"].clone()
    decay, least, most, still = limits
    eps = torch.finfo(mean.dtype).eps
    run(
        DESCENT,
        "settle",
        u,
        (rule.lca, rule.lca and repeats, repeats, rule.momentum),
        (*point, operand(old.value)),
        before,
        (diagonal, prior, beta, offset, mass, shift, weight, precision),
        operand(residual),
        (decay, least, most, still * eps, ROUNDING * eps),
        tuple(operand(part) for part in (u, mean, data_gradient, gradient, value)),
        _memory(found, mean),
        operand(rejected),
    )
    new = Point(value, mean, data_gradient, gradient, energy.quadratic.diagonal)
    return replace(state, u=u, memory=found, point=new, diagnostics={**state.diagnostics, "rejected": rejected})


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
    return found[0][:, 0], found[1][:, 0], found[2], found[3]
