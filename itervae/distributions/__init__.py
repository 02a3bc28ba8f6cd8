"""Families of posterior: how to sample them with gradients, their mean, variance and KL."""

from itervae.distributions.arrivals import INDICATORS, Indicator, relaxed_poisson_sample
from itervae.distributions.poisson import RelaxedPoisson, poisson_kl
from itervae.distributions.sparse_code import SparseCode, SparsityCost

__all__ = [
    "INDICATORS",
    "Indicator",
    "RelaxedPoisson",
    "SparseCode",
    "SparsityCost",
    "poisson_kl",
    "relaxed_poisson_sample",
]
