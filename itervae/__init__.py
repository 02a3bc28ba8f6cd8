"""itervae: iterative and recurrent amortized inference for Poisson variational autoencoders."""

from itervae.errors import InputError
from itervae.inference import infer
from itervae.model import load_dictionary
from itervae.sequence import FilterState, filter_sequence, filter_step
from itervae.training import load, load_sequence

__version__ = "0.1.0"
__all__ = [
    "FilterState",
    "InputError",
    "filter_sequence",
    "filter_step",
    "infer",
    "load",
    "load_dictionary",
    "load_sequence",
]
