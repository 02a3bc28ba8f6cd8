"""Linear decoders x̂ = Φz, the generative model of sparse coding, and the operator Φ that each of
them is.

The energies, the solvers, the certificate and the compiled steps see a `LinearOperator`, never a
matrix: they need Φz, Φᵀr and the squared norms of the atoms. What does need the matrix, a solver
for systems with it, say, asks the model for the capability "dense dictionary".
"""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from itervae import devices
from itervae.arguments import check_positive, check_whole
from itervae.model.misfit import squared_distance, squared_misfit
from itervae.model.observation import mean_of
from itervae.model.precision import full_precision

GRAM_BYTES = 2**28
"""Size of the largest Gram matrix that is formed. Beyond it atoms are many: they are kept each in
one piece, and codes of which most are 0 are multiplied as such."""
FEW = 0.03
"""Share of numbers that are not 0 up to which codes are multiplied as sparse ones."""


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
    def atom_norms(self, precision: Tensor | None = None) -> Tensor:
        """c_k = ‖φ_k‖² (K,); with a `precision` w (D,) or (B, D), Σ_d w_d Φ_dk² (K,) or (B, K)."""

    @abstractmethod
    def scaled(self, divisor: Tensor) -> "LinearOperator":
        """Φ / `divisor`, a number ()."""

    def gram(self, other: "LinearOperator") -> Tensor | None:
        """ΦᵀΨ (K, K) with another operator Ψ of this kind; None where it is not to be formed."""
        return None

    @property
    def fits(self) -> bool:
        """Whether it is small enough for what grows with the square of K."""
        return True

    def copy(self) -> "LinearOperator":
        """The same numbers in memory of its own, laid out as solvers read them."""
        return self.map(Tensor.clone)

    @property
    def gram_pays(self) -> bool:
        """Whether one product with ΦᵀΦ costs less than one with Φ and one with Φᵀ."""
        return False

    @property
    def places(self) -> tuple[int, ...]:
        """Places of atoms that overlap with those around alone; () where there are no such."""
        return ()

    def around(self, values: Tensor) -> Tensor:
        """Sums over what overlaps: of values (B, P) at P places, at each of them over those from
        which atoms reach it; where there are no places the values themselves, P = 1."""
        return values

    def residual(self, x: Tensor, z: Tensor) -> Tensor:
        """x − Φz (B, D)."""
        return x - self.forward(z)

    def misfit(self, x: Tensor, z: Tensor) -> Tensor:
        """‖x − Φz‖² (B,)."""
        return squared_distance(x, self.forward(z))

    def adjoint_residual(self, s: Tensor, r: Tensor) -> Tensor:
        """s − Φᵀr (B, K), s (K,) or (B, K)."""
        return s - self.adjoint(r)

    def weighted(self, root: Tensor) -> "LinearOperator":
        """diag(ρ)Φ, ρ (D,), or (B, D) with one for each datum."""
        return Weighted(self, root)

    def tensors(self) -> list[Tensor]:
        """The numbers that it is made of."""
        found: list[Tensor] = []
        self.map(lambda value: found.append(value) or value)
        return found

    def map(self, f: Callable[[Tensor], Tensor]) -> "LinearOperator":
        """The operator with `f` of each tensor in its place."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}  # pyright: ignore
        changed = {name: f(value) for name, value in values.items() if isinstance(value, Tensor)}
        changed |= {name: value.map(f) for name, value in values.items() if isinstance(value, LinearOperator)}
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
        return all(_equal(*pair) for pair in pairs)


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, LinearOperator):
        return a.equals(b)
    return torch.equal(a, b) if isinstance(a, Tensor) else a == b


@dataclass(frozen=True, eq=False)
class Dense(LinearOperator):
    """The operator of a matrix: the dictionary Φ (D, K), one atom a column.

    The Gram matrix ΦᵀΦ is formed where it `fits`, at most `GRAM_BYTES`, and pays where K < 2D too.
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

    def atom_norms(self, precision: Tensor | None = None) -> Tensor:
        if precision is None and not self.fits:  # nothing as large as Φ beside it
            return torch.linalg.vector_norm(self.dictionary, dim=0).square()
        squares = self.dictionary.square()
        return squares.sum(0) if precision is None else precision @ squares

    def weighted(self, root: Tensor) -> LinearOperator:
        return Dense(root[:, None] * self.dictionary) if root.ndim == 1 else super().weighted(root)

    def scaled(self, divisor: Tensor) -> "Dense":
        return Dense(self.dictionary / divisor)

    @property
    def fits(self) -> bool:
        return self.latents**2 * self.dictionary.element_size() <= GRAM_BYTES

    def gram(self, other: LinearOperator) -> Tensor | None:
        assert isinstance(other, Dense)
        return self.dictionary.mT @ other.dictionary if self.fits else None

    @property
    def gram_pays(self) -> bool:
        return self.latents < 2 * self.size and self.fits

    def copy(self) -> "Dense":
        """The same numbers in memory of its own; of many atoms each in one piece, as working sets
        gather them."""
        if self.fits:
            return Dense(self.dictionary.clone())
        return Dense(self.dictionary.mT.clone(memory_format=torch.contiguous_format).mT)

    def residual(self, x: Tensor, z: Tensor) -> Tensor:
        if not self.fits and self._few(z):
            with warnings.catch_warnings(action="ignore"):  # that torch may change what it calls sparse
                return x - z.to_sparse_csr() @ self.dictionary.mT
        return torch.addmm(x, z, self.dictionary.mT, alpha=-1)

    def _few(self, z: Tensor) -> bool:
        """Whether nearly all codes are 0, where one may look, and no gradient goes back."""
        learned = torch.is_grad_enabled() and (z.requires_grad or self.dictionary.requires_grad)
        if learned or torch.compiler.is_compiling() or not devices.on_cpu(z):
            return False
        return int(z.count_nonzero()) <= FEW * z.numel()

    def misfit(self, x: Tensor, z: Tensor) -> Tensor:
        return squared_misfit(x, z, self.dictionary)

    def adjoint_residual(self, s: Tensor, r: Tensor) -> Tensor:
        return torch.addmm(s, r, self.dictionary, alpha=-1)


@dataclass(frozen=True, eq=False)
class Weighted(LinearOperator):
    """The operator diag(ρ)Φ, with a weight for each value: the square roots of precisions, in
    units of which all values of a datum have the same variance.

    Attributes:
        inner: Φ.
        root: ρ (D,), or (B, D) with those of each datum. 0 leaves a value out.
    """

    inner: LinearOperator
    root: Tensor

    @property
    def size(self) -> int:
        return self.inner.size

    @property
    def latents(self) -> int:
        return self.inner.latents

    @property
    def summands(self) -> int:
        return self.inner.summands

    def forward(self, z: Tensor) -> Tensor:
        return self.root * self.inner.forward(z)

    def adjoint(self, r: Tensor) -> Tensor:
        return self.inner.adjoint(self.root * r)

    def atom_norms(self, precision: Tensor | None = None) -> Tensor:
        squares = self.root.square()
        return self.inner.atom_norms(squares if precision is None else squares * precision)

    def scaled(self, divisor: Tensor) -> LinearOperator:
        return Weighted(self.inner.scaled(divisor), self.root)

    @property
    def places(self) -> tuple[int, ...]:
        return self.inner.places

    def around(self, values: Tensor) -> Tensor:
        return self.inner.around(values)


def is_matrix(operator: LinearOperator) -> bool:
    """Whether an operator is a matrix, if with weights for each datum."""
    return isinstance(operator.inner if isinstance(operator, Weighted) else operator, Dense)


def matrix(operator: LinearOperator) -> tuple[Tensor, Tensor | None]:
    """Φ (D, K) of an operator that is a matrix, and the weights ρ (B, D) of its values with which
    each datum has diag(ρ)Φ; None where no datum has weights of its own."""
    inner, root = (operator.inner, operator.root) if isinstance(operator, Weighted) else (operator, None)
    assert isinstance(inner, Dense), "a system with the matrix Φ was asked of an operator that has none"
    return inner.dictionary, root


class OperatorDecoder(nn.Module, ABC):
    """A linear decoder x̂ = Φz + b: its parameters, the operator Φ that they make, and the bias b,
    if it has one.

    A linear decoder of your own writes `operator` and says what `kind` of one it makes; all that is
    exact or certified for linear decoders then holds for it.
    """

    kind: ClassVar[type[LinearOperator]]
    """The operator that it makes."""

    @abstractmethod
    def operator(self, dtype: torch.dtype | None = None) -> LinearOperator:
        """Φ as the parameters are now, computed in the precision asked for, or in their own."""

    def offset(self, dtype: torch.dtype | None = None) -> Tensor | None:
        """b (D,), in the precision asked for, or in its own; None where there is none."""
        return None

    @full_precision  # bfloat16 would round counts above 256
    def forward(self, z: Tensor) -> Tensor:
        """Φz + b (..., D), z (..., K)."""
        explained, offset = self.operator().forward(z), self.offset()
        return explained if offset is None else explained + offset

    @torch.no_grad()
    def start_at(self, x: Tensor) -> None:
        """Let the bias, if there is one, be the mean of data (N, D), for training to start from."""


class LinearDecoder(OperatorDecoder):
    """x̂ = Φz + b: the dictionary Φ (D, K) of sparse coding, one atom a column; without a bias b,
    unless asked for.

    Args:
        size: D.
        latents: K.
        unit_norm: atoms are Φ_k / ‖Φ_k‖ of the stored weight, at every use.
        bias: whether there is a bias b (D,), which starts at 0.
        scale: s > 0; the weight starts as N(0, s²), by default as published.
    """

    kind = Dense

    def __init__(
        self, size: int, latents: int, unit_norm: bool = False, bias: bool = False, scale: float = 0.05
    ) -> None:
        super().__init__()
        check_whole("size", size, 1)
        check_whole("latents", latents, 1)
        self.unit_norm = unit_norm
        self.weight = nn.Parameter(check_positive("scale", scale) * torch.randn(size, latents))
        self.bias = nn.Parameter(torch.zeros(size)) if bias else None

    def operator(self, dtype: torch.dtype | None = None) -> Dense:
        weight = self.weight.to(dtype or self.weight.dtype)
        return Dense(functional.normalize(weight, dim=0) if self.unit_norm else weight)

    def offset(self, dtype: torch.dtype | None = None) -> Tensor | None:
        return None if self.bias is None else self.bias.to(dtype or self.bias.dtype)

    @torch.no_grad()
    def start_at(self, x: Tensor) -> None:
        if self.bias is not None:
            self.bias.copy_(mean_of(x))
