"""The generative model: prior, decoder, likelihood, and the free energy of a posterior under them."""

from itervae.model.decoders import DECODERS, ConvDecoder, LinearDecoder, MLPDecoder
from itervae.model.dictionary import load_dictionary, save_dictionary
from itervae.model.generative import ESTIMATORS, FreeEnergy, GenerativeModel
from itervae.model.likelihood import BernoulliLikelihood, GaussianLikelihood
from itervae.model.precision import full_precision
from itervae.model.prior import PoissonPrior, SparsityPrior
from itervae.model.settings import (
    MODELS,
    ModelSettings,
    PoissonVAESettings,
    SparseCodingSettings,
    build_model,
    sparse_coding_model,
)

__all__ = [
    "DECODERS",
    "ESTIMATORS",
    "MODELS",
    "BernoulliLikelihood",
    "ConvDecoder",
    "FreeEnergy",
    "GaussianLikelihood",
    "GenerativeModel",
    "LinearDecoder",
    "MLPDecoder",
    "ModelSettings",
    "PoissonPrior",
    "PoissonVAESettings",
    "SparseCodingSettings",
    "SparsityPrior",
    "build_model",
    "full_precision",
    "load_dictionary",
    "save_dictionary",
    "sparse_coding_model",
]
