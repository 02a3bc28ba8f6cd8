"""Sequences: the posterior of one frame becomes the prior of the next."""

from typing import TYPE_CHECKING

from itervae.lazy import lazily

if TYPE_CHECKING:
    from itervae.sequence.adaptive import Adaptive
    from itervae.sequence.base import Carryover, check_carryover
    from itervae.sequence.carryover import Leaky, LinearMap, Mixing, NoCarryover, PosteriorCarryover
    from itervae.sequence.filtering import Filtered, filter_sequence, filter_step
    from itervae.sequence.gated import Gated
    from itervae.sequence.level import Level
    from itervae.sequence.settings import CARRYOVERS, STARTS, LinearMapSettings, SequenceSettings
    from itervae.sequence.state import FilterState

__all__ = [
    "CARRYOVERS",
    "STARTS",
    "Adaptive",
    "Carryover",
    "FilterState",
    "Filtered",
    "Gated",
    "Leaky",
    "Level",
    "LinearMap",
    "LinearMapSettings",
    "Mixing",
    "NoCarryover",
    "PosteriorCarryover",
    "SequenceSettings",
    "check_carryover",
    "filter_sequence",
    "filter_step",
]
__getattr__, __dir__ = lazily(__name__)
