"""Families of posterior: how to sample them with gradients, their mean, variance and KL."""

from itervae.distributions.arrivals import INDICATORS, Indicator, relaxed_poisson_sample
from itervae.distributions.categorical import Categorical
from itervae.distributions.family import Family, total_kl, unit_kl
from itervae.distributions.gaussian import ACTIVATIONS, Gaussian, LogNormal, RectifiedGaussian
from itervae.distributions.laplace import Laplace
from itervae.distributions.poisson import RelaxedPoisson, poisson_kl
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
