"""How the gradient goes back through the steps of inference: an argument of `infer`, not a property
of an engine.

A mode writes `run`, which takes the steps, and `finish`, which says what gradient the state that
they reached has.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch.utils.checkpoint import checkpoint

from itervae.arguments import check_whole
from itervae.inference.checks import check_implicit
from itervae.inference.engine import Engine, State
from itervae.inference.problem import Problem
from itervae.inference.systems.implicit import attach
from itervae.model import GenerativeModel

Init = Callable[[State | None], State]
"""A function that makes the first state. Given None, it starts inference; given a state that was
reached without gradient, it makes of it one from which the steps go on with gradient."""
Steps = Callable[[State, int], State]
"""A function that takes so many steps from a state."""


class Gradient(ABC):
    """A way back through the steps of inference."""

    detached: ClassVar[bool] = False
    """Whether what the steps reach has no gradient."""

    def check(self, model: GenerativeModel, engine: Engine) -> None:
        """Refuse a model or an engine that has no such gradient."""
        return

    @abstractmethod
    def run(self, init: Init, take: Steps, steps: int, generator: torch.Generator | None = None) -> State:
        """The state after `steps` steps from init(None).

        A step that is run again in the backward pass draws the same numbers from `generator`.
        """

    def finish(self, problem: Problem, state: State) -> State:
        """The state that the steps reached, with the gradient of this mode."""
        return state


def _replayed(take: Steps, generator: torch.Generator | None) -> Steps:
    """A function that takes steps, and draws the same numbers from `generator` when it is run again
    in the backward pass."""
    drawn_from = None if generator is None else generator.get_state()
    again = False

    def run(state: State, steps: int) -> State:
        nonlocal again
        if generator is None or drawn_from is None or not again:
            again = True
            return take(state, steps)
        now = generator.get_state()
        generator.set_state(drawn_from)
        try:
            return take(state, steps)
        finally:
            generator.set_state(now)

    return run


@dataclass(frozen=True)
class Unroll(Gradient):
    """Back-propagate through every step; memory grows with the number of steps."""

    def run(self, init: Init, take: Steps, steps: int, generator: torch.Generator | None = None) -> State:
        return take(init(None), steps)


@dataclass(frozen=True)
class Checkpoint(Gradient):
    """The gradient of `Unroll`, recomputing segments of about √steps steps in the backward pass:
    memory O(√steps)."""

    def run(self, init: Init, take: Steps, steps: int, generator: torch.Generator | None = None) -> State:
        state = init(None)
        segment = max(1, math.isqrt(steps))
        for first in range(0, steps, segment):
            length = min(segment, steps - first)
            state = checkpoint(_replayed(take, generator), state, length, use_reentrant=False)
        return state


@dataclass(frozen=True)
class Truncate(Gradient):
    """Back-propagate through the last `steps` steps only."""

    steps: int = 1

    def __post_init__(self) -> None:
        check_whole("steps", self.steps)

    def run(self, init: Init, take: Steps, steps: int, generator: torch.Generator | None = None) -> State:
        if self.steps >= steps:
            return take(init(None), steps)
        with torch.no_grad():
            state = take(init(None), steps - self.steps)
        return take(init(state), self.steps)


@dataclass(frozen=True)
class Envelope(Gradient):
    """Detach the posterior. At the optimum of F itself ∂F/∂λ = 0, so the gradient of F* in the
    model's parameters is the partial derivative at fixed λ (the envelope theorem). That is exact at
    the optimum, off by O(|λ − λ*|) near it, and takes no memory."""

    detached = True

    def run(self, init: Init, take: Steps, steps: int, generator: torch.Generator | None = None) -> State:
        with torch.no_grad():
            return take(init(None), steps)

    def finish(self, problem: Problem, state: State) -> State:
        return state.detach()


@dataclass(frozen=True)
class Implicit(Gradient):
    """Differentiate the optimum itself, u* of ∂E/∂μ(u*, θ) = 0, by one linear system per datum in
    the backward pass:

        du/dθ = −(∂g/∂u)⁻¹ ∂g/∂θ,      g = ∂E/∂μ

    The steps run without gradient, their number costs no memory, and u stays what they reached. The
    gradient is exact at the fixed point, and off by O(|u − u*|), so by O(√gap), elsewhere.

    Use it for losses of the posterior other than F: a read-out of the code, later frames of a
    sequence, a part of the data that was held out. For F itself take `Envelope`, which is exact at
    the same point and has no system to solve.
    """

    def check(self, model: GenerativeModel, engine: Engine) -> None:
        check_implicit(model, engine)

    def run(self, init: Init, take: Steps, steps: int, generator: torch.Generator | None = None) -> State:
        return Envelope().run(init, take, steps, generator)

    def finish(self, problem: Problem, state: State) -> State:
        return replace(state, u=attach(problem.energy, state.u))
