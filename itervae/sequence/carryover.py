"""How the prior of the next frame is made from the posterior of this one.

    none         r_t = r
    level        log r_t = log r + a log s_t                      a level s_t, of contrast alone
    posterior    r_t = λ_{t−1}                                    Vafaii, Galor & Yates (2025)
    leaky        log r_t = a log λ_{t−1} + (1 − a) log r          any family, in its parameters u
    mixing       r_t = (1 − w) r + w λ_{t−1}                      in rates
    linear       r_t = e^b r + A λ_{t−1}, A ≥ 0                   A diagonal, of low rank, or full
    gated        r_t = (1 − w_t) e^{g_t} r + w_t λ_{t−1}          w_t and g_t of a recurrent cell
    adaptive     r_t = Σ_j π_j ((1 − w_j) s_t r + w_j λ_{t−1})    π_j as w_j did so far; a level s_t

A prior that depends on the past is still a prior: the sum over frames of F_t, with the KL to that
frame's own prior, bounds −log p(x_1..x_T), so that all of these are compared in nats per frame.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from itervae.arguments import check_choice, check_fields, check_whole
from itervae.errors import InputError
from itervae.model import GenerativeModel
from itervae.model.convolution import CONVOLVE
from itervae.sequence.base import START_WEIGHT, Carryover, check_family, units
from itervae.sequence.settings import MAPS, LinearMapSettings

RANK = 32
"""Rank of a low-rank map by default."""
START_SPREAD = 0.3
"""Sum of a row of A before training, without the diagonal: entries that begin at almost nothing
take very long to grow."""


class NoCarryover(Carryover):
    """Every frame has the static prior."""

    def parameters_of(self, static: Tensor, past: Tensor, memory: dict[str, Tensor]) -> Tensor:
        return static.expand_as(past)


class PosteriorCarryover(Carryover):
    """The posterior of a frame is the prior of the next."""

    def parameters_of(self, static: Tensor, past: Tensor, memory: dict[str, Tensor]) -> Tensor:
        return past


class Leaky(Carryover):
    """u_t = a u_{t−1} + (1 − a) u_static for each parameter, a in (0, 1) learned: a geometric
    mixture of rates."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.logit = nn.Parameter(torch.full((size,), START_WEIGHT).logit())

    def parameters_of(self, static: Tensor, past: Tensor, memory: dict[str, Tensor]) -> Tensor:
        return torch.lerp(static.expand_as(past), past, self.everywhere(self.logit.sigmoid()).to(past.dtype))


class Mixing(Carryover):
    """r_t = (1 − w) r + w λ_{t−1} for each unit, w in (0, 1) learned: the mixture of rates.

    A unit that fell silent keeps (1 − w) r, and one that starts to fire pays against it, not
    against almost nothing; so it does not fail on fast sequences, as the geometric mixture does.
    """

    poisson = True

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.logit = nn.Parameter(torch.full((size,), START_WEIGHT).logit())

    def parameters_of(self, static: Tensor, past: Tensor, memory: dict[str, Tensor]) -> Tensor:
        logit = self.everywhere(self.logit).to(past.dtype)
        return torch.logaddexp(functional.logsigmoid(-logit) + static, functional.logsigmoid(logit) + past)


class LinearMap(Carryover):
    """r_t = e^b r + A λ_{t−1} with A ≥ 0: rates, not negative by construction. What the past
    explains, e^b takes from r.

    On maps A is the same at every place or, with a reach, a convolution: each map is predicted by
    the maps (the diagonal kind: by itself) at places up to so many steps away, so that what moves
    is predicted around where it was.

    Args:
        size: K, of maps.
        kind: A is `diagonal`, of `low-rank` (a product of K × rank and rank × K, both ≥ 0), or
            `full`.
        rank: of the low-rank kind.
        reach: places in each direction, along each of `dimensions`; 0 for the same place alone.
        dimensions: of the maps.
    """

    poisson = True

    Settings = LinearMapSettings

    def __init__(
        self,
        size: int,
        kind: str = LinearMapSettings.map,
        rank: int = RANK,
        reach: int = 0,
        dimensions: int = 2,
    ) -> None:
        super().__init__(size)
        check_choice("kind", kind, MAPS)
        check_whole("rank", rank, 1)
        check_whole("reach", reach)
        if reach and kind == "low-rank":
            raise InputError(f"reach is {reach} and the map low-rank; expected a full or diagonal one: change one")
        self.kind, self.reach = kind, reach
        self.log_share = nn.Parameter(torch.full((size,), 1 - START_WEIGHT).log())  # b
        # every entry of A starts at about START_SPREAD / K but for the diagonal, at START_WEIGHT
        self.diagonal = nn.Parameter(_inverse_softplus(torch.full((size,), START_WEIGHT)))
        self.left = self.right = self.matrix = self.moves = None
        if reach:
            shape = (size, size if kind == "full" else 1, *(2 * reach + 1,) * dimensions)
            self.moves = nn.Parameter(_inverse_softplus(torch.full(shape, START_SPREAD / math.prod(shape[1:]))))
        elif kind == "full":
            self.matrix = nn.Parameter(_inverse_softplus(torch.full((size, size), START_SPREAD / size)))
        if kind == "low-rank":
            each = (START_SPREAD / (size * rank)) ** 0.5
            spread = torch.linspace(-0.5, 0.5, rank).exp()[:, None]  # or all ranks would learn the same
            self.left = nn.Parameter(_inverse_softplus(each * spread.mT.expand(size, rank)))
            self.right = nn.Parameter(_inverse_softplus(each * spread.expand(rank, size)))

    @classmethod
    def build(cls, settings: LinearMapSettings, model: GenerativeModel) -> "LinearMap":
        check_fields(settings, LinearMapSettings)
        if settings.rank is not None and settings.map != "low-rank":
            raise InputError(f"`rank={settings.rank}` needs `carryover=linear` `map=low-rank`; add it, or leave it out")
        reach, places = settings.reach or 0, model.places
        if reach and not places:
            raise InputError(f"`reach={reach}` is of maps; use `decoder=convolutional`, or leave it out")
        rank = RANK if settings.rank is None else settings.rank
        carryover = cls(units(model), settings.map, rank, reach, len(places)).at(model)
        carryover.check(check_family(model.prior()))
        return carryover

    def parameters_of(self, static: Tensor, past: Tensor, memory: dict[str, Tensor]) -> Tensor:
        dtype, rate = past.dtype, past.exp()
        carried = self.everywhere(functional.softplus(self.diagonal)).to(dtype) * rate
        if self.matrix is not None:
            carried = carried + self._mixed(rate, functional.softplus(self.matrix).to(dtype))
        if self.left is not None and self.right is not None:
            within = self._mixed(rate, functional.softplus(self.right).to(dtype))
            carried = carried + self._mixed(within, functional.softplus(self.left).to(dtype))
        if self.moves is not None:
            weight = functional.softplus(self.moves).to(dtype)
            maps = rate.view(len(rate), -1, *self.places)
            groups = len(weight) // weight.shape[1] if self.kind == "diagonal" else 1
            moved = CONVOLVE[len(self.places)](maps, weight, padding=self.reach, groups=groups)
            carried = carried + moved.flatten(1)
        return ((static + self.everywhere(self.log_share).to(dtype)).exp() + carried).log()

    def _mixed(self, rate: Tensor, matrix: Tensor) -> Tensor:
        """The rates (B, K) of units, each place apart, times a matrix (K', K)."""
        if not self.places:
            return rate @ matrix.mT
        maps = rate.view(len(rate), matrix.shape[1], -1)
        return (matrix @ maps).flatten(1)


def _inverse_softplus(value: Tensor) -> Tensor:
    return value + torch.log(-torch.expm1(-value))
