"""The state of a filter: what it needs of the frames that have passed, however many, to go on."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from itervae.arguments import check_kind
from itervae.showing import Shown


@dataclass(frozen=True, repr=False)
class FilterState(Shown):
    """What a filter carries from frame to frame, of B sequences.

    Attributes:
        u: parameters (B, P) of the last posterior.
        age: frames seen (B,), int64. Where it is 0 there is no past, and the next frame has the
            static prior.
        memory: what a carryover keeps beside, (B, …) each; all zeros where there is no past.
    """

    u: Tensor
    age: Tensor
    memory: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_kind("u", self.u, Tensor, "a tensor of parameters (B, P)")
        check_kind("age", self.age, Tensor, "a tensor of numbers of frames (B,)")

    def forget(self, rows: Tensor) -> "FilterState":
        """The state without a past in some rows, (B,) bool: other sequences begin there."""
        memory = {name: torch.where(_beside(rows, value), 0, value) for name, value in self.memory.items()}
        return FilterState(self.u, torch.where(rows, 0, self.age), memory)

    def select(self, index: Tensor) -> "FilterState":
        """The state of some rows, in that order."""
        memory = {name: value[index] for name, value in self.memory.items()}
        return FilterState(self.u[index], self.age[index], memory)

    def detach(self) -> "FilterState":
        """The state cut off from the graph."""
        return FilterState(self.u.detach(), self.age, {name: value.detach() for name, value in self.memory.items()})

    def to_dict(self) -> dict[str, Tensor]:
        """The state as plain tensors by name, to be saved."""
        return {"u": self.u, "age": self.age, **{f"memory {name}": value for name, value in self.memory.items()}}

    @classmethod
    def from_dict(cls, values: dict[str, Tensor]) -> "FilterState":
        """The state that `to_dict` made tensors of."""
        prefix = "memory "
        memory = {name.removeprefix(prefix): value for name, value in values.items() if name.startswith(prefix)}
        return cls(values["u"], values["age"], memory)


def _beside(rows: Tensor, value: Tensor) -> Tensor:
    return rows.reshape(-1, *[1] * (value.ndim - 1))
