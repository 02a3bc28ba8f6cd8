"""One-hot latents."""

import torch
from torch import Tensor

from itervae.distributions import Categorical
from itervae.model.prior import Prior


class CategoricalPrior(Prior):
    """p(z) = softmax(logits) over one-hot z.

    Args:
        latents: K.
        learned: learn the logits (K,) from 0; uniform otherwise.
        places: of each map, which share a logit; one of all places is chosen.
    """

    capabilities = frozenset({"Categorical family", "variational posterior", "certifiable optimum"})  # pyright: ignore
    logits: Tensor

    def __init__(self, latents: int, learned: bool = False, places: int = 1) -> None:
        super().__init__(latents, places)
        self._own("logits", torch.zeros(latents), learned)

    def posterior(self, u: Tensor, temperature: float = 0.0) -> Categorical:
        return Categorical(u, temperature)

    def forward(self) -> Categorical:
        return self.posterior(self.everywhere(self.logits))
