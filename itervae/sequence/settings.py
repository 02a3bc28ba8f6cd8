"""Settings of a run on sequences, and the carryovers by name, which are read before torch is
imported."""

from dataclasses import dataclass
from typing import Annotated, Any

from itervae.arguments import AtLeast, OneOf
from itervae.errors import InputError
from itervae.registry import Listed, Registry

STARTS = ("prior", "previous", "safer")
"""Where the iteration of a frame can begin: at its own prior, at the posterior of the frame before,
or, datum by datum, at the one of them with the lower free energy."""
MAPS = ("diagonal", "low-rank", "full")
"""Forms of a linear map."""


@dataclass
class NoSettings:
    """Settings of a carryover that has none of its own."""


@dataclass
class LinearMapSettings:
    """Settings of `linear`."""

    map: Annotated[str, OneOf(MAPS)] = "full"
    """Form of the map."""
    rank: Annotated[int | None, AtLeast(1)] = None
    """Rank of a map that is low-rank, by default 32."""
    reach: Annotated[int | None, AtLeast(1)] = None
    """--decoder convolutional: places in each direction from which a map is predicted, such as 2;
    by default its own place alone."""


HERE = "itervae.sequence"
CARRYOVERS: Registry[Any] = Registry(
    {
        "none": Listed(f"{HERE}.carryover:NoCarryover", NoSettings),
        "level": Listed(f"{HERE}.level:Level", NoSettings),
        "posterior": Listed(f"{HERE}.carryover:PosteriorCarryover", NoSettings),
        "leaky": Listed(f"{HERE}.carryover:Leaky", NoSettings),
        "mixing": Listed(f"{HERE}.carryover:Mixing", NoSettings),
        "linear": Listed(f"{HERE}.carryover:LinearMap", LinearMapSettings),
        "gated": Listed(f"{HERE}.gated:Gated", NoSettings),
        "adaptive": Listed(f"{HERE}.adaptive:Adaptive", NoSettings),
    }
)
"""The carryovers by name, for command lines and configurations."""


@dataclass(frozen=True)
class SequenceSettings:
    """What one frame hands to the next, and how far training looks back."""

    ADVANCED = ("start", "window", "stream")
    """Settings that few runs need; the help leaves them out, unless it is --help-all."""

    carryover: Annotated[str, OneOf(CARRYOVERS)] = "none"
    """How the prior of a frame comes from the posterior of the frame before: not at all; the static
    prior times one number, that follows the contrast (level); that posterior itself; a geometric
    or an arithmetic mixture of it with the static prior, with a weight for each unit (leaky,
    mixing); a non-negative linear map of its rates; a mixture with weights from a recurrent cell
    (gated), or with weights that follow, sequence by sequence, how well the past has predicted
    (adaptive). It decides which settings of its own there are."""
    start: Annotated[str, OneOf(STARTS)] = "safer"
    """Where the iteration of a frame begins: at its prior, at the posterior of the frame before, or
    at the better."""
    window: int = 8
    """Frames per update: gradients go back to the first of them, the state goes on to the next
    window."""
    stream: bool = False
    """video: follow each scene to its end, instead of cutting tubes of so many frames."""

    def check(self) -> None:
        """Refuse what cannot be.

        Raises:
            InputError: a window below 1.
        """
        if self.window < 1:
            raise InputError(f"`window` is {self.window}; expected a number ≥ 1")
