"""What families with a location and a scale for each latent share."""

import torch
from torch import Tensor

from itervae.distributions.location_scale import LocationScale
from itervae.model.prior import Prior


class LocationScalePrior(Prior):
    """p(z) = Π_k p(z_k; m_k, S_k), location 0 and scale 1, or learned from there. Subclasses name
    the family."""

    family: type[LocationScale]

    def __init__(self, latents: int, learned: bool = False, places: int = 1) -> None:
        super().__init__(latents, places)
        self._own("location", torch.zeros(latents), learned)
        self._own("log_scale", torch.zeros(latents), learned)

    @property
    def capabilities(self) -> frozenset[str]:
        return frozenset({f"{self.family.__name__} family", "variational posterior"})

    def posterior(self, u: Tensor, temperature: float = 0.0) -> LocationScale:
        return self.family(u)

    def forward(self) -> LocationScale:
        parts = [self.everywhere(value) for value in (self.location, self.log_scale)]  # pyright: ignore[reportArgumentType]
        return self.family(torch.cat(parts))
