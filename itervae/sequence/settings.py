"""Settings of a run on sequences."""

from dataclasses import dataclass
from typing import Literal

from itervae.arguments import check_fields
from itervae.distributions import Family
from itervae.errors import InputError
from itervae.model import GenerativeModel
from itervae.sequence.carryover import CARRYOVERS, Carryover, LinearMap


@dataclass(frozen=True)
class SequenceSettings:
    """What one frame hands to the next, and how far training looks back."""

    carryover: Literal["none", "posterior", "leaky", "mixing", "linear", "gated", "adaptive"] = "none"
    """How the prior of a frame comes from the posterior of the frame before: not at all; that posterior itself; a
    geometric or an arithmetic mixture of it with the static prior, with a weight for each unit (leaky, mixing); a
    non-negative linear map of its rates; a mixture with weights from a recurrent cell (gated), or with weights that
    follow, sequence by sequence, how well the past has predicted (adaptive)."""
    map: Literal["diagonal", "low-rank", "full"] = "full"
    """carryover linear: form of the map."""
    rank: int = 32
    """carryover linear, map low-rank: its rank."""
    start: Literal["prior", "previous", "safer"] = "safer"
    """Where the iteration of a frame begins: at its prior, at the posterior of the frame before, or at the better."""
    window: int = 8
    """Frames per update: gradients go back to the first of them, the state goes on to the next window."""
    stream: bool = False
    """video: follow each scene to its end, instead of cutting tubes of so many frames."""

    def check(self) -> None:
        """Refuse settings that contradict each other.

        Raises:
            InputError: a number below 1, or a setting of another carryover.
        """
        for name in ("rank", "window"):
            if getattr(self, name) < 1:
                raise InputError(f"--{name} is {getattr(self, name)}; expected a number ≥ 1")
        if self.carryover != "linear" and self.map != SequenceSettings.map:
            raise InputError(f"--map {self.map} needs --carryover linear, and it is {self.carryover}; leave it out")
        if self.rank != SequenceSettings.rank and (self.carryover, self.map) != ("linear", "low-rank"):
            raise InputError(f"--rank {self.rank} needs --carryover linear --map low-rank; add them, or leave it out")


def build_carryover(settings: SequenceSettings, model: GenerativeModel) -> Carryover:
    """The carryover with these settings, for a model.

    Raises:
        InputError: it does not fit the model.
    """
    check_fields(settings, SequenceSettings)
    static = model.prior()
    if not isinstance(static, Family):
        raise InputError(
            "a sparse code has no posterior to hand to the next frame; use a VAE, such as --model poisson-vae"
        )
    size = static.u.shape[-1]
    if settings.carryover == "linear":
        carryover: Carryover = LinearMap(size, settings.map, settings.rank)
    else:
        carryover = CARRYOVERS[settings.carryover](size)
    carryover.check(static)
    return carryover
