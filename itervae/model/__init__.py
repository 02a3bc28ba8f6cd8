"""The generative model: prior, decoder, likelihood, and the free energy of a posterior under
them."""

from typing import TYPE_CHECKING

from itervae.lazy import lazily

if TYPE_CHECKING:
    from itervae.model.build import build_model, estimators_for, sparse_coding_model
    from itervae.model.convolution import Convolution, ConvolutionalDecoder
    from itervae.model.decoders import ConvDecoder, MLPDecoder
    from itervae.model.dictionary import is_dictionary, load_dictionary, save_dictionary
    from itervae.model.generative import CAPABILITIES, CERTIFIABLE, FreeEnergy, GenerativeModel
    from itervae.model.likelihood import BernoulliLikelihood, GaussianLikelihood, PoissonLikelihood
    from itervae.model.observation import as_precision
    from itervae.model.operators import (
        Dense,
        LinearDecoder,
        LinearOperator,
        OperatorDecoder,
        Weighted,
        is_matrix,
        matrix,
    )
    from itervae.model.precision import full_precision
    from itervae.model.prior import Prior
    from itervae.model.priors.categorical import CategoricalPrior
    from itervae.model.priors.gaussian import GaussianPrior
    from itervae.model.priors.laplace import LaplacePrior
    from itervae.model.priors.poisson import PoissonPrior
    from itervae.model.priors.sparse_code import SparsityPrior
    from itervae.model.settings import (
        DECODERS,
        ESTIMATORS,
        LINKS,
        MODELS,
        CategoricalVAESettings,
        GaussianVAESettings,
        LaplaceVAESettings,
        ModelSettings,
        PoissonVAESettings,
        SparseCodingSettings,
        VAESettings,
        families,
    )

__all__ = [
    "CAPABILITIES",
    "CERTIFIABLE",
    "DECODERS",
    "ESTIMATORS",
    "LINKS",
    "MODELS",
    "BernoulliLikelihood",
    "CategoricalPrior",
    "CategoricalVAESettings",
    "ConvDecoder",
    "Convolution",
    "ConvolutionalDecoder",
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
    "PoissonLikelihood",
    "PoissonPrior",
    "PoissonVAESettings",
    "Prior",
    "SparseCodingSettings",
    "SparsityPrior",
    "VAESettings",
    "Weighted",
    "as_precision",
    "build_model",
    "estimators_for",
    "families",
    "full_precision",
    "is_dictionary",
    "is_matrix",
    "load_dictionary",
    "matrix",
    "save_dictionary",
    "sparse_coding_model",
]
__getattr__, __dir__ = lazily(__name__)
