"""Convolutional dictionaries: x̂ = Σ_k z_k ∗ φ_k of maps z_k and small atoms φ_k, as an operator and
as a decoder; 1-D, 2-D and 3-D.

A signal is a window onto a larger scene. So there is a place in the maps for every position from
which an atom touches the signal, and atoms are cut off at its border: c = ‖φ_k‖² is of the part
inside, and differs from place to place. With a stride s there is one such position in s along each
dimension, as many of its steps beyond one border as beyond the other, to one.
"""

import math
import threading
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from itervae.arguments import check_shape, check_whole
from itervae.errors import InputError
from itervae.model.observation import mean_of
from itervae.model.operators import LinearOperator, OperatorDecoder

CONVOLVE = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
SPREAD = {1: functional.conv_transpose1d, 2: functional.conv_transpose2d, 3: functional.conv_transpose3d}
"""Products with Φᵀ, and with Φ, by the number of dimensions."""
POOL: dict[int, Callable[..., Tensor]] = {1: functional.avg_pool1d, 2: functional.avg_pool2d, 3: functional.avg_pool3d}


@dataclass(frozen=True)
class Grid:
    """Where atoms of a width lie along one dimension of a signal.

    Attributes:
        size: of the signal.
        width: of an atom.
        stride: from one place to the next.
    """

    size: int
    width: int
    stride: int

    @property
    def places(self) -> int:
        """How many positions −width < p < size there are, one in `stride`."""
        return (self.size + self.width - 2) // self.stride + 1

    @property
    def before(self) -> int:
        """By how much the first atom begins before the signal."""
        spare = self.size + self.width - 2 - self.stride * (self.places - 1)
        return self.width - 1 - spare // 2

    @property
    def after(self) -> int:
        """By how much the last atom ends after it."""
        return self.stride * (self.places - 1) + self.width - self.before - self.size


@dataclass(frozen=True, eq=False)
class Convolution(LinearOperator):
    """The operator of a convolutional dictionary.

    z (B, K·P) are the maps (B, K, *places) in a row, and values (B, D) the channels of a signal (B,
    C, *size).

    Attributes:
        atoms: (K, C, *widths).
        shape: *size of the signal.
        stride: from one place to the next, at most the smallest width.
    """

    atoms: Tensor
    shape: tuple[int, ...]
    stride: int = 1

    @property
    def grids(self) -> list[Grid]:
        """Where the atoms lie, along each dimension."""
        return [Grid(size, width, self.stride) for size, width in zip(self.shape, self.atoms.shape[2:], strict=True)]

    @property
    def places(self) -> tuple[int, ...]:
        """Places of a map, along each dimension."""
        return tuple(grid.places for grid in self.grids)

    @property
    def size(self) -> int:
        return self.atoms.shape[1] * math.prod(self.shape)

    @property
    def latents(self) -> int:
        return len(self.atoms) * math.prod(self.places)

    @property
    def summands(self) -> int:
        return self.atoms[0].numel()

    def forward(self, z: Tensor) -> Tensor:
        maps = z.reshape(-1, len(self.atoms), *self.places)
        whole = self._joined(_product(SPREAD, maps, self._phases(self._widened(self.atoms))))
        inside = (slice(grid.before, grid.before + grid.size) for grid in self.grids)
        return whole[(..., *inside)].reshape(*z.shape[:-1], self.size)

    def adjoint(self, r: Tensor) -> Tensor:
        return self._correlated(r.reshape(-1, self.atoms.shape[1], *self.shape), self.atoms).flatten(1)

    def atom_norms(self, precision: Tensor | None = None) -> Tensor:
        ones = self.atoms.new_ones(1, self.size) if precision is None else torch.atleast_2d(precision)
        found = self._correlated(ones.reshape(-1, self.atoms.shape[1], *self.shape), self.atoms.square()).flatten(1)
        return found if precision is not None and precision.ndim == 2 else found[0]

    def scaled(self, divisor: Tensor) -> "Convolution":
        return replace(self, atoms=self.atoms / divisor)

    def around(self, values: Tensor) -> Tensor:
        reach = [(width - 1) // self.stride for width in self.atoms.shape[2:]]
        sides = [2 * each + 1 for each in reach]
        return math.prod(sides) * POOL[len(reach)](values.view(-1, 1, *self.places), sides, 1, reach).flatten(1)

    def _correlated(self, signal: Tensor, atoms: Tensor) -> Tensor:
        """The products of atoms with what of a signal they cover, zero outside."""
        extra = [-width % self.stride for width in atoms.shape[2:]]
        sides = [(grid.before, grid.after + more) for grid, more in zip(self.grids, extra, strict=True)]
        signal = functional.pad(signal, [side for pair in reversed(sides) for side in pair])
        return _product(CONVOLVE, self._phases(signal), self._phases(self._widened(atoms)))

    def _widened(self, atoms: Tensor) -> Tensor:
        """Atoms with zeros up to widths that are multiples of the stride."""
        widths = reversed(atoms.shape[2:])
        return functional.pad(atoms, [side for width in widths for side in (0, -width % self.stride)])

    def _phases(self, values: Tensor) -> Tensor:
        """(A, C, *L) as its phases (A, C·sⁿ, *L/s): every s-th value along each dimension, from
        each start, so that a stride of s is one of 1 (and several times as fast)."""
        n, s = len(self.shape), self.stride
        if s == 1:
            return values
        split = values.reshape(*values.shape[:2], *(part for length in values.shape[2:] for part in (length // s, s)))
        whole, phase = [2 + 2 * i for i in range(n)], [3 + 2 * i for i in range(n)]
        return split.permute(0, 1, *phase, *whole).reshape(len(values), -1, *(split.shape[i] for i in whole))

    def _joined(self, phases: Tensor) -> Tensor:
        """The inverse of `_phases`."""
        n, s = len(self.shape), self.stride
        if s == 1:
            return phases
        split = phases.reshape(len(phases), -1, *(s,) * n, *phases.shape[2:])
        order = [index for i in range(n) for index in (2 + n + i, 2 + i)]
        return split.permute(0, 1, *order).reshape(*split.shape[:2], *(s * length for length in phases.shape[2:]))


_one_at_a_time = threading.Lock()


def _product(kinds: dict[int, Callable[..., Tensor]], values: Tensor, atoms: Tensor) -> Tensor:
    """A product of those in `CONVOLVE` or `SPREAD`, in float64 as sums of products, which is what
    certificates count on. cuDNN may take a Fourier transform, or Winograd's algorithm. What torch
    has beside it unfolds the values (im2col) and multiplies matrices."""
    product = kinds[values.ndim - 2]
    if not (values.is_cuda and values.dtype == torch.float64):
        return product(values, atoms)
    cudnn: Any = torch.backends.cudnn
    with _one_at_a_time:  # or one thread might take for the user's what another has set
        before, cudnn.enabled = cudnn.enabled, False
        try:
            return product(values, atoms)
        finally:
            cudnn.enabled = before


class ConvolutionalDecoder(OperatorDecoder):
    """x̂ = Σ_k z_k ∗ φ_k + b: a dictionary of small atoms that may lie anywhere on a signal.

    Example:
        decoder = ConvolutionalDecoder((1, 320, 320), 64, 16, stride=4)
        prior = PoissonPrior(64, places=decoder.places)
        model = GenerativeModel(prior, decoder, GaussianLikelihood(), (320, 320))

    Args:
        shape: of a datum: (N,), (H, W), or with channels in front (C, H, W); (C, T, H, W) of film.
        maps: number of atoms K.
        width: of an atom along each dimension, one number for all, or one for each.
        stride: from one place to the next, along each dimension.
        channels: whether the first number of `shape` is C; by default it is where there are three
            or more.
        unit_norm: atoms are φ_k / ‖φ_k‖ of the stored weight, at every use.
        bias: whether there is a bias b (C,), the same everywhere, which starts at 0.

    The weight (K, C, *widths) starts as N(0, 1/(C · product of widths)), atoms of norm about 1.

    Raises:
        InputError: sizes that do not fit each other.
    """

    kind = Convolution

    def __init__(
        self,
        shape: tuple[int, ...],
        maps: int,
        width: int | tuple[int, ...],
        stride: int = 1,
        channels: bool | None = None,
        unit_norm: bool = False,
        bias: bool = False,
    ) -> None:
        super().__init__()
        shape = check_shape(shape)
        check_whole("maps", maps, 1)
        check_whole("stride", stride, 1)
        channels = len(shape) > 2 if channels is None else channels
        depth, sides = (shape[0], shape[1:]) if channels else (1, shape)
        if not 1 <= len(sides) <= 3:
            raise InputError(f"a signal has {len(sides)} dimensions beside its channels; expected one, two or three")
        widths = (width,) * len(sides) if isinstance(width, int) else tuple(width)
        for each in widths:
            check_whole("width", each, 1)
        if len(widths) != len(sides):
            raise InputError(
                f"width is {widths} for a signal of {len(sides)} dimensions; expected one for each, or one"
            )
        if stride > min(widths):
            raise InputError(
                f"stride is {stride} and atoms are {min(widths)} wide, so that none reaches some values; expected a "
                f"stride of at most {min(widths)}"
            )
        self.sides, self.stride, self.unit_norm = sides, stride, unit_norm
        count = depth * math.prod(widths)
        self.weight = nn.Parameter(torch.randn(maps, depth, *widths) / math.sqrt(count))
        self.bias = nn.Parameter(torch.zeros(depth)) if bias else None

    @classmethod
    def like(
        cls, operator: Convolution, shape: tuple[int, ...], unit_norm: bool = False, bias: bool = False
    ) -> "ConvolutionalDecoder":
        """A decoder with atoms of the number, the size and the stride of those of an operator, for
        data of a shape."""
        count, _, *widths = operator.atoms.shape
        return cls(shape, count, tuple(widths), operator.stride, len(shape) > len(widths), unit_norm, bias)

    def at(self, shape: tuple[int, ...]) -> "ConvolutionalDecoder":
        """The same atoms for data of another shape, of as many dimensions and channels."""
        shape = check_shape(shape)
        dimensions, depth = len(self.sides), self.weight.shape[1]
        given, sides = (1, shape) if len(shape) == dimensions else (shape[0], shape[1:])
        if len(sides) != dimensions or given != depth:
            expected = ", ".join([*([str(depth)] if depth > 1 else []), *("N" for _ in self.sides)])
            raise InputError(
                f"shape is {shape}; expected ({expected}), as the atoms have it; give data of as many channels"
            )
        found = copy(self)
        found.sides = sides
        return found

    @property
    def places(self) -> int:
        """Places of a map, in all dimensions together."""
        return math.prod(self.operator().places)

    def operator(self, dtype: torch.dtype | None = None) -> Convolution:
        weight = self.weight.to(dtype or self.weight.dtype)
        if self.unit_norm:
            weight = functional.normalize(weight.flatten(1), dim=1).view_as(weight)
        return Convolution(weight, self.sides, self.stride)

    def offset(self, dtype: torch.dtype | None = None) -> Tensor | None:
        if self.bias is None:
            return None
        return self.bias.to(dtype or self.bias.dtype).repeat_interleave(math.prod(self.sides))

    @torch.no_grad()
    def start_at(self, x: Tensor) -> None:
        if self.bias is not None:
            self.bias.copy_(mean_of(x).view(len(self.bias), -1).mean(1))
