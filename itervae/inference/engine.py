"""What an engine is, and the state that it carries from step to step and from one call of `infer` to the next."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from itervae.arguments import check_fields, check_kind
from itervae.inference.problem import Problem
from itervae.model import GenerativeModel
from itervae.own import make


@dataclass(frozen=True)
class State:
    """The state of inference for a batch.

    `u` (B, P) are the unconstrained parameters of the posterior so far (`Family.u`): log-rates of a Poisson posterior,
    membrane potentials of a sparse code, P = K; location and log-scale of a Gaussian, P = 2K. `memory` holds what the
    method needs besides, by name, batch first (momentum, curvature seen): start from it to continue on the same data,
    or from `State(u)` to warm-start on new data. `point`, the energy evaluated at `u`, and `counts`, what has been
    counted per datum (B,), belong to one call of `infer` and are not carried on. `age` counts the steps of an engine
    whose steps differ from one to the next. `engine` is the class that the memory belongs to: another engine starts
    from `u` alone.
    """

    u: Tensor
    memory: dict[str, Tensor] = field(default_factory=dict)
    point: Any = None
    counts: dict[str, Tensor] = field(default_factory=dict)
    age: int = 0
    engine: str = ""

    def __post_init__(self) -> None:
        check_kind("u", self.u, Tensor, "a tensor of parameters (B, P)")

    def map(self, f: Callable[[Tensor], Tensor]) -> "State":
        """Apply `f` to `u` and to every tensor of the memory."""
        memory = {name: f(value) for name, value in self.memory.items()}
        return State(f(self.u), memory, age=self.age, engine=self.engine)

    def detach(self) -> "State":
        """The state cut from the graph."""
        return self.map(Tensor.detach)


LOOK_EVERY = 10
"""Steps between looks for finished data, where an engine stops per datum."""


@dataclass(frozen=True)
class Recipe:
    """How an engine is trained where the user does not say otherwise.

    Attributes:
        lr: peak learning rate of an engine with parameters on a model with an exact free energy. With an encoder,
            rates above 0.002 leave a tail of data that it gets catastrophically wrong.
        loss: what of the steps is trained: "final", "steps" or "sequence" (see `itervae.training.objective`).
        learned_start: whether the state before the first step is learned too, and counts as a step in the loss "steps".
    """

    lr: float = 0.002
    loss: Literal["final", "steps", "sequence"] = "final"
    learned_start: bool = False


@dataclass
class NoSettings:
    """Settings of an engine that names none of its own."""


class Engine(nn.Module):
    """A method of inference: it writes `init` and `step`, and owns nothing of the model.

    `requires` names the capabilities of a model without which the engine does not work (see
    `GenerativeModel.capabilities`). `steps` is the default number of steps and `tolerance`, where not None, the
    certificate in nats at which a datum is finished and leaves the batch. What is minimized is `Problem.energy`.
    """

    requires: ClassVar[frozenset[str]] = frozenset()
    learned: ClassVar[bool] = False
    """Whether the engine has to be trained."""
    recipe: ClassVar[Recipe] = Recipe()
    """How it is trained by default; read by training alone."""
    stochastic: ClassVar[bool] = False
    """Whether each step is drawn at random on every model: F may rise, and the engine hovers instead of settling."""
    Settings: ClassVar[type] = NoSettings
    dtype: ClassVar[torch.dtype | None] = None
    patience: ClassVar[int | None] = None
    """Looks without progress, in certificate or energy, after which a datum that is not finished stops, where the
    engine has a tolerance: rounding lets it come no nearer. `stats["stalled"]` says which did."""
    steps: int = 0
    tolerance: float | None = None

    @classmethod
    def build(cls, settings: Any, model: GenerativeModel, shape: tuple[int, ...]) -> "Engine":
        """The engine with these settings, for data of `shape`."""
        check_fields(settings, cls.Settings)
        return make(cls, f"one argument for each field of {cls.Settings.__name__}", **vars(settings))

    def init(self, problem: Problem, state: State | None) -> State:
        """The state before the first step, from nothing or from a given state."""
        raise NotImplementedError

    def step(self, problem: Problem, state: State) -> State:
        """One iteration."""
        raise NotImplementedError

    def fuses(self, problem: Problem, state: State) -> bool:
        """Whether the next step is one in compiled code (`fused`)."""
        return False

    def stride(self, problem: Problem, state: State) -> int:
        """Steps to take from here before finished data are looked for, where the engine has a tolerance."""
        return LOOK_EVERY

    def precision(self, problem: Problem, state: State) -> torch.dtype:
        """Of these steps; that of the problem, in which it is looked, unless less will do."""
        return problem.x.dtype
