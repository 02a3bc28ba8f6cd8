"""Settings of a run on sequences."""

from dataclasses import dataclass
from typing import Annotated

from itervae.arguments import OneOf
from itervae.errors import InputError
from itervae.sequence.carryover import CARRYOVERS
from itervae.sequence.filtering import STARTS


@dataclass(frozen=True)
class SequenceSettings:
    """What one frame hands to the next, and how far training looks back."""

    ADVANCED = ("start", "window", "stream")
    """Settings that few runs need; the help leaves them out, unless it is --help-all."""

    carryover: Annotated[str, OneOf(CARRYOVERS)] = "none"
    """How the prior of a frame comes from the posterior of the frame before: not at all; as the
    static prior times a number that follows the contrast (level); that posterior itself; a geometric or an arithmetic mixture of it with the static prior, with a
    weight for each unit (leaky, mixing); a non-negative linear map of its rates; a mixture with
    weights from a recurrent cell (gated), or with weights that follow, sequence by sequence, how
    well the past has predicted (adaptive). It decides which settings of its own there are."""
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
            raise InputError(f"--window is {self.window}; expected a number ≥ 1")
