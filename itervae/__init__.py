"""itervae: iterative and recurrent amortized inference for Poisson variational autoencoders.

What is named here is imported when it is first used, since torch takes seconds.
"""

from typing import TYPE_CHECKING

from itervae.errors import InputError
from itervae.lazy import lazily

if TYPE_CHECKING:
    from itervae.inference import build_engine, infer
    from itervae.model import build_model, load_dictionary
    from itervae.saes import load_sae
    from itervae.sequence import FilterState, filter_sequence, filter_step
    from itervae.training import load, load_sequence, train

__version__ = "0.2.0"
__all__ = [
    "FilterState",
    "InputError",
    "build_engine",
    "build_model",
    "filter_sequence",
    "filter_step",
    "infer",
    "load",
    "load_dictionary",
    "load_sae",
    "load_sequence",
    "train",
]
__getattr__, __dir__ = lazily(__name__)
