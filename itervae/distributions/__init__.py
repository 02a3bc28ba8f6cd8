"""Families of posterior: how to sample them with gradients, their mean, variance and KL."""

from itervae.distributions.arrivals import INDICATORS, Indicator, relaxed_poisson_sample
from itervae.distributions.poisson import RelaxedPoisson, poisson_kl

__all__ = ["INDICATORS", "Indicator", "RelaxedPoisson", "poisson_kl", "relaxed_poisson_sample"]
