"""What an engine carries from step to step, and from one call of `infer` to the next."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class State:
    """The state of inference for a batch.

    `log_rate` u (B, K) is the posterior so far. `memory` holds what the method needs besides, by name, batch first
    (momentum, curvature seen): start from it to continue on the same data, or from `State(log_rate)` to warm-start on
    new data. `point`, the energy evaluated at `log_rate`, and `counts`, what has been counted per datum (B,), belong to
    one call of `infer` and are not carried on. `engine` is the class that the memory belongs to: another engine starts
    from the log-rates alone.
    """

    log_rate: Tensor
    memory: dict[str, Tensor] = field(default_factory=dict)
    point: Any = None
    counts: dict[str, Tensor] = field(default_factory=dict)
    engine: str = ""

    def map(self, f: Callable[[Tensor], Tensor]) -> "State":
        """Apply `f` to the log-rate and to every tensor of the memory."""
        memory = {name: f(value) for name, value in self.memory.items()}
        return State(f(self.log_rate), memory, engine=self.engine)

    def detach(self) -> "State":
        """The state cut from the graph."""
        return self.map(Tensor.detach)
