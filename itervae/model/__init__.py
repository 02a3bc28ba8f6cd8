"""The generative model: prior, decoder, likelihood, and the free energy of a posterior under them."""

from itervae.model.decoders import DECODERS, ConvDecoder, LinearDecoder, MLPDecoder
from itervae.model.generative import ESTIMATORS, FreeEnergy, GenerativeModel
from itervae.model.likelihood import BernoulliLikelihood, GaussianLikelihood
from itervae.model.prior import PoissonPrior

__all__ = [
    "DECODERS",
    "ESTIMATORS",
    "BernoulliLikelihood",
    "ConvDecoder",
    "FreeEnergy",
    "GaussianLikelihood",
    "GenerativeModel",
    "LinearDecoder",
    "MLPDecoder",
    "PoissonPrior",
]
