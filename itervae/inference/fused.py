"""The steps of `Descent` on a Poisson model, without gradient on a CPU: in compiled code (`descent_numba`)."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from itervae.inference.energies import LARGEST, LEAK, ROUNDING, Point, PoissonEnergy
from itervae.inference.numba_code import numbers, run
from itervae.inference.state import State


class Rule(NamedTuple):
    """A kind of step: of the LCA or proximal, and whether a share of the last step is repeated."""

    lca: bool
    momentum: bool


@torch.no_grad()
def fused_step(rule: Rule, energy: PoissonEnergy, state: State, limits: tuple[float, ...]) -> State:
    """`Descent.step`, whose answer differs by rounding. `limits`: `DECAY`, `LEAST`, `MOST` and `STILL` there."""
    old, memory = state.point, state.memory
    repeats = rule.momentum and "velocity" in memory
    diagonal, metric, prior, beta, offset, shift = energy.constants
    point = tuple(numbers(value) for value in (state.u, old.mean, old.smooth, old.gradient))
    before = _memory(memory, old.mean)

    u, mean = torch.empty_like(old.mean), torch.empty_like(old.mean)
    terms = diagonal, metric, prior, beta, np.float32(LEAK), np.float32(LARGEST)
    run("propose", mean, rule.lca and repeats, repeats, point, before, terms, u.numpy(), mean.numpy())
    new = Point(torch.empty_like(old.value), mean, energy.product(mean), torch.empty_like(old.mean), energy.diagonal)

    found = {name: torch.empty_like(memory[name]) for name in ("damping", "momentum")}
    if rule.momentum:
        found |= {
            name: torch.empty_like(mean) for name in (("velocity",) if rule.lca else ("velocity", "velocity_smooth"))
        }
    rejected = state.counts["rejected"].clone()
    decay, least, most, still = limits
    eps = torch.finfo(mean.dtype).eps
    run(
        "settle",
        mean,
        (rule.lca, rule.lca and repeats, repeats, rule.momentum),
        (*point, numbers(old.value)),
        before,
        (diagonal, prior, beta, offset, shift),
        (decay, least, most, still * eps, ROUNDING * eps),
        tuple(value.numpy() for value in (u, mean, new.smooth, new.gradient, new.value)),
        _memory(found, mean),
        rejected.numpy(),
    )
    return replace(state, u=u, memory=found, point=new, counts={**state.counts, "rejected": rejected})


def _memory(memory: dict[str, Tensor], stand_in: Tensor) -> tuple[np.ndarray, ...]:
    """Damping, momentum, and the last step, for which something stands in where there is none."""
    momenta = [numbers(memory[name]).reshape(-1) for name in ("damping", "momentum")]
    return (*momenta, *(numbers(memory.get(name, stand_in)) for name in ("velocity", "velocity_smooth")))
