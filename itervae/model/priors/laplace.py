"""Laplace latents."""

from itervae.distributions import Laplace
from itervae.model.priors.location_scale import LocationScalePrior


class LaplacePrior(LocationScalePrior):
    """p(z) = Π_k Laplace(m_k, S_k).

    Args:
        latents: K.
        learned: learn m and log S (K,) from 0; fixed there otherwise.
    """

    family = Laplace
