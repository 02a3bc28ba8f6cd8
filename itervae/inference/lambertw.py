"""The Lambert W function of an exponential, in logarithms, with gradients: the shrinkage of the Poisson KL.

W(e^s) solves w + log w = s. It is computed as ℓ = log w, so that nothing overflows for large s and nothing is lost for
very negative s (where ℓ → s). Iteration: Fritsch, Shafer & Crowley (1973), fourth order.
"""

import math
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
        info = torch.finfo(s.dtype)
        # far below zero ℓ = s − e^s to rounding: where e^s would vanish, the line goes on
        inside = s.clamp_min(0.9 * math.log(info.tiny))
        # Winitzki's w ≈ p − p·log(1 + p)/(2 + p), p = softplus(s), is within 2%; a round takes that to the fourth power
        w = functional.softplus(inside)
        w -= (w + 2).reciprocal_().mul_(w).mul_(w.log1p())
        ell = w.log()
        for left in reversed(range(1 if info.eps > 1e-8 else 2)):
            slope = (w + 1).reciprocal_()
            step = (inside - ell).sub_(w).mul_(slope)
            bend = slope.mul_(step)
            above = (4 / 3 * step).add_(2).sub_(bend)
            ell += step.mul_(above).div_(above - bend).log1p_()
            if left:
                w = ell.exp()
        ell += s - inside
        ctx.save_for_backward(ell)
        return ell

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Tensor:
        (ell,) = ctx.saved_tensors
        return grad_outputs[0] * _slope(ell)


def _slope(ell: Tensor) -> Tensor:
    return 1 / (1 + ell.exp())
