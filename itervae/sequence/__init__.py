"""Sequences: the posterior of one frame becomes the prior of the next."""

from itervae.sequence.adaptive import Adaptive
from itervae.sequence.base import Carryover, check_carryover
from itervae.sequence.carryover import (
    CARRYOVERS,
    Leaky,
    LinearMap,
    LinearMapSettings,
    Mixing,
    NoCarryover,
    PosteriorCarryover,
)
from itervae.sequence.filtering import STARTS, Filtered, filter_sequence, filter_step
from itervae.sequence.gated import Gated
from itervae.sequence.level import Level
from itervae.sequence.settings import SequenceSettings
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
