"""itervae: iterative and recurrent amortized inference for Poisson variational autoencoders."""

from itervae.errors import InputError
from itervae.inference import infer
from itervae.model import load_dictionary
from itervae.training import load

__version__ = "0.1.0"
__all__ = ["InputError", "infer", "load", "load_dictionary"]
