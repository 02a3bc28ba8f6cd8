"""One-hot latents."""

from dataclasses import dataclass

import torch
from torch import Tensor

from itervae.distributions import Categorical
from itervae.model.prior import Prior, VAESettings


class CategoricalPrior(Prior):
    """p(z) = softmax(logits) over one-hot z.

    Args:
        latents: K.
        learned: learn the logits (K,) from 0; uniform otherwise.
    """

    capabilities = frozenset({"Categorical family", "variational posterior", "certifiable optimum"})  # pyright: ignore
    logits: Tensor

    def __init__(self, latents: int, learned: bool = False) -> None:
        super().__init__(latents)
        self._own("logits", torch.zeros(latents), learned)

    def posterior(self, u: Tensor, temperature: float = 0.0) -> Categorical:
        return Categorical(u, temperature)

    def forward(self) -> Categorical:
        return self.posterior(self.logits)


@dataclass
class CategoricalVAESettings(VAESettings):
    """The generative model of a categorical variational autoencoder: a one-hot code."""

    def build_prior(self) -> Prior:
        return CategoricalPrior(self.latents, self.prior == "learned")
