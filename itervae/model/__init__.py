"""The generative model: prior, decoder, likelihood, and the free energy of a posterior under
them."""

from itervae.model.decoders import DECODERS, ConvDecoder, MLPDecoder
from itervae.model.dictionary import is_dictionary, load_dictionary, save_dictionary
from itervae.model.estimators import ESTIMATORS
from itervae.model.families.categorical import CategoricalPrior, CategoricalVAESettings
from itervae.model.families.gaussian import GaussianPrior, GaussianVAESettings
from itervae.model.families.laplace import LaplacePrior, LaplaceVAESettings
from itervae.model.families.poisson import PoissonPrior, PoissonVAESettings
from itervae.model.families.sparse_code import SparseCodingSettings, SparsityPrior
from itervae.model.generative import CAPABILITIES, CERTIFIABLE, FreeEnergy, GenerativeModel
from itervae.model.likelihood import BernoulliLikelihood, GaussianLikelihood
from itervae.model.operators import Dense, LinearDecoder, LinearOperator, OperatorDecoder
from itervae.model.precision import full_precision
from itervae.model.prior import Prior, VAESettings
from itervae.model.settings import (
    MODELS,
    ModelSettings,
    build_model,
    estimators_for,
    families,
    sparse_coding_model,
)

__all__ = [
    "CAPABILITIES",
    "CERTIFIABLE",
    "DECODERS",
    "ESTIMATORS",
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
    "families",
    "full_precision",
    "is_dictionary",
    "load_dictionary",
    "save_dictionary",
    "sparse_coding_model",
]
