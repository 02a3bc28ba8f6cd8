"""The generative model: prior, decoder, likelihood, and the free energy of a posterior under
them."""

from itervae.model.decoders import DECODERS, ConvDecoder, MLPDecoder
from itervae.model.dictionary import load_dictionary, save_dictionary
from itervae.model.estimators import ESTIMATORS
from itervae.model.generative import CAPABILITIES, CERTIFIABLE, FreeEnergy, GenerativeModel
from itervae.model.likelihood import BernoulliLikelihood, GaussianLikelihood
from itervae.model.operators import Dense, LinearDecoder, LinearOperator, OperatorDecoder
from itervae.model.precision import full_precision
from itervae.model.prior import CategoricalPrior, GaussianPrior, LaplacePrior, PoissonPrior, Prior, SparsityPrior
from itervae.model.settings import (
    FAMILIES,
    MODELS,
    CategoricalVAESettings,
    GaussianVAESettings,
    LaplaceVAESettings,
    ModelSettings,
    PoissonVAESettings,
    SparseCodingSettings,
    VAESettings,
    build_model,
    estimators_for,
    sparse_coding_model,
)

__all__ = [
    "CAPABILITIES",
    "CERTIFIABLE",
    "DECODERS",
    "ESTIMATORS",
    "FAMILIES",
    "MODELS",
    "BernoulliLikelihood",
    "CategoricalPrior",
    "CategoricalVAESettings",
    "ConvDecoder",
    "Dense",
    "FreeEnergy",
    "GaussianLikelihood",
    "GaussianPrior",
    "GaussianVAESettings",
    "GenerativeModel",
    "LaplacePrior",
    "LaplaceVAESettings",
    "LinearDecoder",
    "LinearOperator",
    "MLPDecoder",
    "ModelSettings",
    "OperatorDecoder",
    "PoissonPrior",
    "PoissonVAESettings",
    "Prior",
    "SparseCodingSettings",
    "SparsityPrior",
    "VAESettings",
    "build_model",
    "estimators_for",
    "full_precision",
    "load_dictionary",
    "save_dictionary",
    "sparse_coding_model",
]
