"""What an engine is, and the state that it carries from step to step and from one call of `infer`
to the next."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from itervae.arguments import check_fields, check_kind
from itervae.inference.problem import Problem
from itervae.inference.settings import NoSettings
from itervae.model import GenerativeModel
from itervae.own import make
from itervae.showing import Shown


@dataclass(frozen=True, repr=False)
class State(Shown):
    """The state of inference for a batch.

    Attributes:
        u: unconstrained parameters (B, P) of the posterior so far (`Family.u`): log-rates of a
            Poisson posterior or membrane potentials of a sparse code, P = K; location and
            log-scale of a Gaussian, P = 2K.
        memory: what the method needs besides, by name, batch first (momentum, curvature seen).
            Pass the whole state to go on with the same data, `State(u)` to warm-start on new
            data.
        point: the energy evaluated at u, if the engine evaluates it. Not carried from one call
            of `infer` to the next.
        diagnostics: numbers of each datum (B,), for `Inference.stats`. Not carried on either.
        step_count: steps taken so far, if the steps of the engine differ from one to the next;
            else 0.
        engine: name of the class that the memory belongs to; any other engine starts from u
            alone.
    """

    u: Tensor
    memory: dict[str, Tensor] = field(default_factory=dict)
    point: Any = None
    diagnostics: dict[str, Tensor] = field(default_factory=dict)
    step_count: int = 0
    engine: str = ""

    def __post_init__(self) -> None:
        check_kind("u", self.u, Tensor, "a tensor of parameters (B, P)")

    def map(self, f: Callable[[Tensor], Tensor]) -> "State":
        """A new state with `f` applied to `u` and to every tensor of the memory, without `point`
        and `diagnostics`."""
        memory = {name: f(value) for name, value in self.memory.items()}
        return State(f(self.u), memory, step_count=self.step_count, engine=self.engine)

    def detach(self) -> "State":
        """The state cut from the graph, without `point` and `diagnostics`."""
        return self.map(Tensor.detach)


LOOK_EVERY = 10
"""Number of steps from one check for finished data to the next, of an engine with a tolerance."""


@dataclass(frozen=True)
class Recipe:
    """How an engine is trained where the user does not say otherwise.

    Attributes:
        lr: peak learning rate of an engine with parameters on a model with an exact free energy.
            With an encoder, rates above 0.002 leave a tail of data that it gets catastrophically
            wrong.
        loss: what of the steps is trained: "final", "steps" or "sequence" (see
            `itervae.training.objective`).
        learned_start: whether the state before the first step is learned too, and counts as a step
            in the loss "steps".
    """

    lr: float = 0.002
    loss: Literal["final", "steps", "sequence"] = "final"
    learned_start: bool = False


class Engine(nn.Module):
    """A method of inference: it writes `init` and `step`, and owns nothing of the model. It
    minimizes `Problem.energy`.

    Attributes:
        steps: number of steps by default; 0 of an engine that infers in one pass.
        tolerance: the certificate in nats at which a datum is finished and leaves the batch; None
            for an engine whose data all take the same number of steps.
    """

    requires: ClassVar[frozenset[str]] = frozenset()
    """Capabilities of a model without which the engine does not work
    (`GenerativeModel.capabilities`)."""
    learned: ClassVar[bool] = False
    """Whether the engine has to be trained."""
    stochastic: ClassVar[bool] = False
    """Whether each step is drawn at random on every model: F may rise, and the engine hovers
    instead of settling."""
    recipe: ClassVar[Recipe] = Recipe()
    """How it is trained by default; read by training alone."""
    Settings: ClassVar[type] = NoSettings
    """The dataclass of its settings, whose fields are options of `itervae train` with this engine
    alone."""
    dtype: ClassVar[torch.dtype | None] = None
    """Precision of the problem that it is given; None for that of the data."""
    patience: ClassVar[int | None] = None
    """Number of checks in a row without progress, in certificate or energy, after which an
    unfinished datum stops: rounding lets it come no nearer. Only for engines with a tolerance;
    `stats["stalled"]` says which data stopped so. None: never."""
    steps: int = 0
    tolerance: float | None = None
    settings: Any = None
    """What `build_engine` made it of; None where it was made as CLASS(...)."""

    @classmethod
    def build(cls, settings: Any, model: GenerativeModel, shape: tuple[int, ...]) -> "Engine":
        """The engine with these settings, for data of `shape`."""
        check_fields(settings, cls.Settings)
        return make(cls, f"one argument for each field of {cls.Settings.__name__}", **vars(settings))

    def follow(self, progress: float) -> None:
        """Take in how much of a training is done, in [0, 1]: called before every update, for an
        engine that has a schedule of its own."""

    def init(self, problem: Problem, state: State | None) -> State:
        """The state before the first step, from nothing or from a given state."""
        raise NotImplementedError

    def step(self, problem: Problem, state: State) -> State:
        """The state after one iteration."""
        raise NotImplementedError

    def repeat(self, problem: Problem, state: State, steps: int) -> State:
        """The state after some steps, of which only the last is looked at."""
        for _ in range(steps):
            state = self.step(problem, state)
        return state

    def resume(self, problem: Problem, state: State, diagnostics: dict[str, Tensor]) -> State:
        """The state with which to go on with another problem: some of the data, or another
        precision or gradient."""
        return replace(self.init(problem, state), diagnostics=diagnostics)

    def advance(self, problem: Problem, state: State, most: int) -> tuple[State, int]:
        """Take steps up to the next check for finished data, at most `most` of them; the new state
        and the number of steps taken. Called of engines with a tolerance only."""
        steps = min(LOOK_EVERY, most)
        return self.repeat(problem, state, steps), steps

    def fuses(self, problem: Problem, state: State) -> bool:
        """Whether compiled code (`engines/fused.py`) will take the next step."""
        return False
