"""itervae: iterative and recurrent amortized inference for Poisson variational autoencoders.

What is named here is imported when it is first used, since torch takes seconds.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from itervae.errors import InputError

if TYPE_CHECKING:
    from itervae.inference import build_engine, infer
    from itervae.model import build_model, load_dictionary
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
    "load_sequence",
    "train",
]
_HOMES = {
    "FilterState": "sequence",
    "build_engine": "inference",
    "build_model": "model",
    "filter_sequence": "sequence",
    "filter_step": "sequence",
    "infer": "inference",
    "load": "training",
    "load_dictionary": "model",
    "load_sequence": "training",
    "train": "training",
}
_PARTS = ("data", "distributions", "evaluation", "inference", "model", "plotting", "sequence", "sklearn", "training")


def __getattr__(name: str) -> Any:
    if name in _PARTS:
        return import_module(f"itervae.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'itervae' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"itervae.{_HOMES[name]}"), name)
    return value
