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


def _replayed(step: Step, generator: torch.Generator | None) -> Callable[[State, int], State]:
    """`_repeat`, which draws the same numbers from `generator` when it is run again in the backward pass."""
    drawn_from = None if generator is None else generator.get_state()
    again = False

    def run(state: State, steps: int) -> State:
        nonlocal again
        if generator is None or drawn_from is None or not again:
            again = True
            return _repeat(step, state, steps)
        now = generator.get_state()
        generator.set_state(drawn_from)
        try:
            return _repeat(step, state, steps)
        finally:
            generator.set_state(now)

    return run


@dataclass(frozen=True)
class Unroll:
    """Back-propagate through every step; memory grows with the number of steps."""

    def run(self, init: Init, step: Step, steps: int, generator: torch.Generator | None = None) -> State:
        return _repeat(step, init(None), steps)


@dataclass(frozen=True)
class Checkpoint:
    """The gradient of `Unroll`, recomputing segments of about √steps steps in the backward pass: memory O(√steps)."""

    def run(self, init: Init, step: Step, steps: int, generator: torch.Generator | None = None) -> State:
        state = init(None)
        segment = max(1, math.isqrt(steps))
        for first in range(0, steps, segment):
            length = min(segment, steps - first)
            state = checkpoint(_replayed(step, generator), state, length, use_reentrant=False)
        return state


@dataclass(frozen=True)
class Truncate:
    """Back-propagate through the last `steps` steps only."""

    steps: int = 1

    def run(self, init: Init, step: Step, steps: int, generator: torch.Generator | None = None) -> State:
        if self.steps >= steps:
            return _repeat(step, init(None), steps)
        with torch.no_grad():
            state = _repeat(step, init(None), steps - self.steps)
        return _repeat(step, init(state), self.steps)


@dataclass(frozen=True)
class Envelope:
    """Detach the posterior. At the optimum of F itself ∂F/∂λ = 0, so the gradient of F* in the model's parameters is
    the partial derivative at fixed λ (the envelope theorem): exact there, off by O(gap) near it, free of memory."""

    def run(self, init: Init, step: Step, steps: int, generator: torch.Generator | None = None) -> State:
        with torch.no_grad():
            return _repeat(step, init(None), steps)


Gradient = Unroll | Checkpoint | Truncate | Envelope
GRADIENTS = {"unroll": Unroll, "checkpoint": Checkpoint, "truncate": Truncate, "envelope": Envelope}
