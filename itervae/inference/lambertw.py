"""The Lambert W function of an exponential, in logarithms, with gradients: the shrinkage of the Poisson KL.

W(e^s) solves w + log w = s. It is computed as ℓ = log w, so that nothing overflows for large s and nothing is lost for
very negative s (where ℓ → s). Iteration: Fritsch, Shafer & Crowley (1973), fourth order.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional


def log_lambertw_exp(s: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """ℓ with ℓ + e^ℓ = s, elementwise; W(e^s) = e^ℓ. Any finite s; dℓ/ds = 1 / (1 + e^ℓ), any order."""
    return _LogLambertW.apply(s)  # pyright: ignore[reportReturnType]


class _LogLambertW(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, s: Tensor) -> Tensor:
        # Starts: w ≈ softplus(s) shrunk towards its tails, s − log s for large s; both within 15% of the answer.
        w = torch.where(s > 2, s - s.clamp_min(2).log(), 0.8 * functional.softplus(s))
        w = w.clamp_min(torch.finfo(s.dtype).tiny)
        ell = w.log()
        for _ in range(2):
            z = s - ell - w
            q = 2 * (1 + w) * (1 + w + z * (2 / 3))
            ell = ell + torch.log1p(z / (1 + w) * (q - z) / (q - 2 * z))
            w = ell.exp()
        # far below zero W(e^s) = e^s − e^2s + …, so ℓ = s − e^s to rounding
        ell = torch.where(s < -20, s - s.clamp_max(0).exp(), ell)
        ctx.save_for_backward(ell)
        return ell

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Tensor:
        (ell,) = ctx.saved_tensors
        return grad_outputs[0] * _slope(ell)


def _slope(ell: Tensor) -> Tensor:
    return 1 / (1 + ell.exp())
