"""Carryovers: what each of them is and has."""

import math
from copy import copy
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from itervae.arguments import check_fields, check_whole
from itervae.distributions import Family, RelaxedPoisson
from itervae.errors import InputError, described
from itervae.model import GenerativeModel
from itervae.sequence.settings import NoSettings
from itervae.sequence.state import FilterState

START_WEIGHT = 0.2
"""Weight of the past in the prior, before training."""


def check_carryover(carryover: Any) -> None:
    """Refuse a name, a class or anything else for a carryover."""
    if isinstance(carryover, Carryover):
        return
    what = f"{carryover!r}, a name" if isinstance(carryover, str) else described(carryover)
    how = "a carryover, such as Leaky(latents) or NoCarryover()"
    if isinstance(carryover, type):
        how = f"one of its objects: {carryover.__name__}(...)"
    raise InputError(f"carryover is {what}; expected {how}")


class Carryover(nn.Module):
    """The prior of the next frame, a function of the static prior and of the posterior of this
    frame.

    What it learns is of units. Under a convolutional dictionary a unit is a map, and all of its
    places share that: a carryover learned on crops goes with whole frames.

    Args:
        size: parameters of the units that it is made for, P of a posterior without places; None
            where it is for any number.
    """

    Settings: ClassVar[type] = NoSettings
    """Its fields are options of `itervae train --carryover NAME` and of no other carryover."""

    poisson: ClassVar[bool] = False
    """Whether it mixes rates, and so is for Poisson posteriors alone."""
    lr: ClassVar[float] = 0.2
    """Peak learning rate by default: of logits and logarithms of rates, which have a long way to
    go."""

    def __init__(self, size: int | None = None) -> None:
        super().__init__()
        if size is not None:
            check_whole("size", size, 1)
        self.size, self.places = size, ()

    @classmethod
    def build(cls, settings: Any, model: GenerativeModel) -> "Carryover":
        """The carryover with these settings, for a model.

        Raises:
            InputError: it does not fit the model.
        """
        check_fields(settings, cls.Settings)
        carryover = cls(units(model), **vars(settings)).at(model)
        carryover.check(check_family(model.prior()))
        return carryover

    def at(self, model: GenerativeModel) -> Self:
        """The same carryover, with the same parameters, for a model of other places."""
        if self.places == model.places:
            return self
        found = copy(self)
        found.places = model.places
        return found

    def everywhere(self, value: Tensor) -> Tensor:
        """What is of units (..., P) at all of their places."""
        count = math.prod(self.places)
        return value if count == 1 else value.repeat_interleave(count, -1)

    def forward(self, static: Family, state: FilterState) -> Family:
        """p(z_t | past) over (B, K) latents.

        Args:
            static: the prior without a past, over (K,) latents.
            state: of the frame before.

        Raises:
            InputError: another family, or another number of parameters, than it is for.
        """
        self.check(static)
        carried = self.parameters_of(static.u.to(state.u.dtype), state.u, state.memory)
        return static.like(torch.where((state.age > 0)[:, None], carried, static.u.to(carried.dtype)))

    def check(self, static: Family) -> None:
        """Refuse a family that it is not for, and one of another size."""
        check_family(static)
        if self.poisson and not isinstance(static, RelaxedPoisson):
            raise InputError(
                f"carryover {type(self).__name__} mixes rates, and this model has a {type(static).__name__}; use "
                "none, posterior or leaky"
            )
        count = math.prod(self.places)
        if self.size is not None and self.size * count != static.u.shape[-1]:
            name, size = type(self).__name__, static.u.shape[-1] // count
            raise InputError(
                f"carryover {name} is for {self.size} parameters and this model has {size}; make it {name}({size})"
            )

    def parameters_of(self, static: Tensor, past: Tensor, memory: dict[str, Tensor]) -> Tensor:
        """The parameters u of the prior (B, P), from those of the static prior (P,) and of the
        posterior (B, P)."""
        raise NotImplementedError

    def remember(self, static: Family, state: FilterState | None, posterior: Tensor) -> dict[str, Tensor]:
        """What to keep beside the posterior, for the next prior: nothing, unless a subclass says
        so.

        Args:
            static: the prior without a past, over (K,) latents.
            state: before this frame; None, or an age of 0, where there is no past.
            posterior: the parameters (B, P) of this frame's posterior.
        """
        return {}


def units(model: GenerativeModel) -> int:
    """The parameters of a prior over units: of maps, without their places."""
    return check_family(model.prior()).u.shape[-1] // model.prior.places


def check_family(static: Any) -> Family:
    """The static prior, refused where it is the cost of a sparse code."""
    if not isinstance(static, Family):
        raise InputError(
            "a sparse code has no posterior to hand to the next frame; use a VAE, such as `model=poisson-vae`"
        )
    return static
