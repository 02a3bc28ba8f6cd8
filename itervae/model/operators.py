"""Linear decoders: x̂ = Φz, the generative model of sparse coding."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from itervae.arguments import check_whole
from itervae.model.precision import full_precision


class LinearDecoder(nn.Module):
    """x̂ = Φz: the dictionary Φ (D, K) of sparse coding, one atom a column, no bias.

    Args:
        size: D.
        latents: K.
        unit_norm: atoms are Φ_k / ‖Φ_k‖ of the stored weight, at every use.

    The weight starts as N(0, .05²), as published.
    """

    def __init__(self, size: int, latents: int, unit_norm: bool = False) -> None:
        super().__init__()
        check_whole("size", size, 1)
        check_whole("latents", latents, 1)
        self.unit_norm = unit_norm
        self.weight = nn.Parameter(0.05 * torch.randn(size, latents))

    @property
    def dictionary(self) -> Tensor:
        """Φ (D, K)."""
        return self.dictionary_in(self.weight.dtype)

    def dictionary_in(self, dtype: torch.dtype) -> Tensor:
        """Φ (D, K), computed in another precision."""
        weight = self.weight.to(dtype)
        return functional.normalize(weight, dim=0) if self.unit_norm else weight

    @full_precision  # bfloat16 would round counts above 256
    def forward(self, z: Tensor) -> Tensor:
        return z @ self.dictionary.mT
