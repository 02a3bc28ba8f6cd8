"""Laplace latents."""

from dataclasses import dataclass

from itervae.distributions import Laplace
from itervae.model.families.location_scale import LocationScalePrior
from itervae.model.prior import Prior, VAESettings


class LaplacePrior(LocationScalePrior):
    """p(z) = Π_k Laplace(m_k, S_k).

    Args:
        latents: K.
        learned: learn m and log S (K,) from 0; fixed there otherwise.
    """

    family = Laplace


@dataclass
class LaplaceVAESettings(VAESettings):
    """The generative model of a Laplace variational autoencoder."""

    def build_prior(self) -> Prior:
        return LaplacePrior(self.latents, self.prior == "learned")
