"""Linear decoders x̂ = Φz, the generative model of sparse coding, and the operator Φ that each of
them is.

The energies, the solvers, the certificate and the compiled steps see a `LinearOperator`, never a
matrix: they need Φz, Φᵀr and the squared norms of the atoms. What does need the matrix, a solver
for systems with it, say, asks the model for the capability "dense dictionary".
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from itervae.arguments import check_whole
from itervae.model.misfit import squared_distance, squared_misfit
from itervae.model.precision import full_precision


class LinearOperator(ABC):
    """A linear map Φ from K latents to D values, its numbers in one precision: a dataclass of
    tensors.

    Shapes are z (B, K) and r (B, D).
    """

    @property
    @abstractmethod
    def size(self) -> int:
        """D."""

    @property
    @abstractmethod
    def latents(self) -> int:
        """K."""

    @property
    @abstractmethod
    def summands(self) -> int:
        """Products that are summed to one value of Φᵀr, at most: what its rounding grows with."""

    @abstractmethod
    def forward(self, z: Tensor) -> Tensor:
        """Φz (..., D), z (..., K)."""

    @abstractmethod
    def adjoint(self, r: Tensor) -> Tensor:
        """Φᵀr (B, K)."""

    @abstractmethod
    def atom_norms(self) -> Tensor:
        """c_k = ‖φ_k‖² (K,)."""

    @abstractmethod
    def scaled(self, divisor: Tensor) -> "LinearOperator":
        """Φ / `divisor`, a number ()."""

    def gram(self, other: "LinearOperator") -> Tensor | None:
        """ΦᵀΨ (K, K) with another operator Ψ of this kind; None where it is not to be formed."""
        return None

    @property
    def gram_pays(self) -> bool:
        """Whether one product with ΦᵀΦ costs less than one with Φ and one with Φᵀ."""
        return False

    def residual(self, x: Tensor, z: Tensor) -> Tensor:
        """x − Φz (B, D)."""
        return x - self.forward(z)

    def misfit(self, x: Tensor, z: Tensor) -> Tensor:
        """‖x − Φz‖² (B,)."""
        return squared_distance(x, self.forward(z))

    def adjoint_residual(self, s: Tensor, r: Tensor) -> Tensor:
        """s − Φᵀr (B, K), s (K,) or (B, K)."""
        return s - self.adjoint(r)

    def tensors(self) -> list[Tensor]:
        """The numbers that it is made of."""
        values = (getattr(self, field.name) for field in fields(self))  # pyright: ignore[reportArgumentType]
        return [value for value in values if isinstance(value, Tensor)]

    def map(self, f: Callable[[Tensor], Tensor]) -> "LinearOperator":
        """The operator with `f` of each tensor in its place."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}  # pyright: ignore
        changed = {name: f(value) for name, value in values.items() if isinstance(value, Tensor)}
        return replace(self, **changed)  # pyright: ignore[reportArgumentType]

    def to(self, dtype: torch.dtype) -> "LinearOperator":
        """The operator in another precision."""
        return self.map(lambda value: value.to(dtype))

    def equals(self, other: "LinearOperator") -> bool:
        """Whether the other has exactly these numbers, and all else that it is made of."""
        if type(other) is not type(self):
            return False
        names = [field.name for field in fields(self)]  # pyright: ignore[reportArgumentType]
        pairs = [(getattr(self, name), getattr(other, name)) for name in names]
        return all(torch.equal(a, b) if isinstance(a, Tensor) else a == b for a, b in pairs)


@dataclass(frozen=True, eq=False)
class Dense(LinearOperator):
    """The operator of a matrix: the dictionary Φ (D, K), one atom a column.

    The Gram matrix ΦᵀΦ pays where K < 2D.
    """

    dictionary: Tensor

    @property
    def size(self) -> int:
        return self.dictionary.shape[0]

    @property
    def latents(self) -> int:
        return self.dictionary.shape[1]

    @property
    def summands(self) -> int:
        return self.size

    def forward(self, z: Tensor) -> Tensor:
        return z @ self.dictionary.mT

    def adjoint(self, r: Tensor) -> Tensor:
        return r @ self.dictionary

    def atom_norms(self) -> Tensor:
        return self.dictionary.square().sum(0)

    def scaled(self, divisor: Tensor) -> "Dense":
        return Dense(self.dictionary / divisor)

    def gram(self, other: LinearOperator) -> Tensor:
        assert isinstance(other, Dense)
        return self.dictionary.mT @ other.dictionary

    @property
    def gram_pays(self) -> bool:
        return self.latents < 2 * self.size

    def residual(self, x: Tensor, z: Tensor) -> Tensor:
        return torch.addmm(x, z, self.dictionary.mT, alpha=-1)

    def misfit(self, x: Tensor, z: Tensor) -> Tensor:
        return squared_misfit(x, z, self.dictionary)

    def adjoint_residual(self, s: Tensor, r: Tensor) -> Tensor:
        return torch.addmm(s, r, self.dictionary, alpha=-1)


class OperatorDecoder(nn.Module, ABC):
    """A linear decoder x̂ = Φz: its parameters, and the operator Φ that they make.

    A linear decoder of your own writes `operator` and says what `kind` of one it makes; all that is
    exact or certified for linear decoders then holds for it.
    """

    kind: ClassVar[type[LinearOperator]]
    """The operator that it makes."""

    @abstractmethod
    def operator(self, dtype: torch.dtype | None = None) -> LinearOperator:
        """Φ as the parameters are now, computed in the precision asked for, or in their own."""

    @full_precision  # bfloat16 would round counts above 256
    def forward(self, z: Tensor) -> Tensor:
        """Φz (..., D), z (..., K)."""
        return self.operator().forward(z)


class LinearDecoder(OperatorDecoder):
    """x̂ = Φz: the dictionary Φ (D, K) of sparse coding, one atom a column, no bias.

    Args:
        size: D.
        latents: K.
        unit_norm: atoms are Φ_k / ‖Φ_k‖ of the stored weight, at every use.

    The weight starts as N(0, .05²), as published.
    """

    kind = Dense

    def __init__(self, size: int, latents: int, unit_norm: bool = False) -> None:
        super().__init__()
        check_whole("size", size, 1)
        check_whole("latents", latents, 1)
        self.unit_norm = unit_norm
        self.weight = nn.Parameter(0.05 * torch.randn(size, latents))

    def operator(self, dtype: torch.dtype | None = None) -> Dense:
        weight = self.weight.to(dtype or self.weight.dtype)
        return Dense(functional.normalize(weight, dim=0) if self.unit_norm else weight)
