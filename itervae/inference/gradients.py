"""How the gradient goes back through the steps of inference: an argument of `infer`, not a property of an engine."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.utils.checkpoint import checkpoint

from itervae.inference.state import State

Init = Callable[[State | None], State]
"""Makes the first state from None, or looks at a later one anew (with gradient, where it was reached without)."""
Step = Callable[[State], State]


def _repeat(step: Step, state: State, steps: int) -> State:
    for _ in range(steps):
        state = step(state)
    return state


@dataclass(frozen=True)
class Unroll:
    """Back-propagate through every step; memory grows with the number of steps."""

    def run(self, init: Init, step: Step, steps: int) -> State:
        return _repeat(step, init(None), steps)


@dataclass(frozen=True)
class Checkpoint:
    """The gradient of `Unroll`, recomputing segments of about √steps steps in the backward pass: memory O(√steps)."""

    def run(self, init: Init, step: Step, steps: int) -> State:
        state = init(None)
        segment = max(1, math.isqrt(steps))
        for first in range(0, steps, segment):
            length = min(segment, steps - first)
            state = checkpoint(_repeat, step, state, length, use_reentrant=False)
        return state


@dataclass(frozen=True)
class Truncate:
    """Back-propagate through the last `steps` steps only."""

    steps: int = 1

    def run(self, init: Init, step: Step, steps: int) -> State:
        if self.steps >= steps:
            return _repeat(step, init(None), steps)
        with torch.no_grad():
            state = _repeat(step, init(None), steps - self.steps)
        return _repeat(step, init(state), self.steps)


@dataclass(frozen=True)
class Envelope:
    """Detach the posterior. At the optimum of F itself ∂F/∂λ = 0, so the gradient of F* in the model's parameters is
    the partial derivative at fixed λ (the envelope theorem): exact there, off by O(gap) near it, free of memory."""

    def run(self, init: Init, step: Step, steps: int) -> State:
        with torch.no_grad():
            return _repeat(step, init(None), steps)


Gradient = Unroll | Checkpoint | Truncate | Envelope
GRADIENTS = {"unroll": Unroll, "checkpoint": Checkpoint, "truncate": Truncate, "envelope": Envelope}
