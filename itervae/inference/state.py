"""What an engine carries from step to step, and from one call of `infer` to the next."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from itervae.arguments import check_kind


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
