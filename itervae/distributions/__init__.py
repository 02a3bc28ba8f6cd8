"""Families of posterior: how to sample them with gradients, their mean, variance and KL."""

from typing import TYPE_CHECKING

from itervae.lazy import lazily

if TYPE_CHECKING:
    from itervae.distributions.arrivals import Indicator, relaxed_poisson_sample
    from itervae.distributions.categorical import Categorical
    from itervae.distributions.family import Family, total_kl, unit_kl
    from itervae.distributions.gaussian import Gaussian, LogNormal, RectifiedGaussian
    from itervae.distributions.laplace import Laplace
    from itervae.distributions.poisson import RelaxedPoisson, poisson_kl
    from itervae.distributions.registry import ACTIVATIONS, INDICATORS
    from itervae.distributions.sparse_code import PriorDistribution, SparseCode, SparsityCost

__all__ = [
    "ACTIVATIONS",
    "INDICATORS",
    "Categorical",
    "Family",
    "Gaussian",
    "Indicator",
    "Laplace",
    "LogNormal",
    "PriorDistribution",
    "RectifiedGaussian",
    "RelaxedPoisson",
    "SparseCode",
    "SparsityCost",
    "poisson_kl",
    "relaxed_poisson_sample",
    "total_kl",
    "unit_kl",
]
__getattr__, __dir__ = lazily(__name__)
