"""The Lambert W function of an exponential, in logarithms, with gradients: the shrinkage of the
Poisson KL.

W(e^s) solves w + log w = s. It is computed as ℓ = log w, so that nothing overflows for large s and
nothing is lost for very negative s (where ℓ → s). Iteration: Fritsch, Shafer & Crowley (1973),
fourth order.
"""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from itervae import devices

BELOW, ABOVE = (0.2621, 1.2209), (7.4401, 34.930, 11.5723)
"""Coefficients of the first guess, b₁ and b₂ below s = 0, a₁ to a₃ above:

    W(e^s) ≈ e^s(1 + b₁e^s)/(1 + b₂e^s),      W(e^s) ≈ s + a₁ − a₃ + a₂/(s + a₁)
"""
PART = 65536
"""Numbers taken at a time on a CPU, so that intermediate results stay in its caches."""


def log_lambertw_exp(s: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """The logarithm ℓ of w = W(e^s), elementwise: the solution of ℓ + e^ℓ = s, for any finite s.

    It can be differentiated to any order; dℓ/ds = 1 / (1 + e^ℓ).
    """
    return _LogLambertW.apply(s)  # pyright: ignore[reportReturnType]


def _guess(s: Tensor) -> Tensor:
    """A first guess of W(e^s), within 1.2%: a rational function of e^s fitted below s = 0 and one
    of s fitted above. Each soon becomes too large on the other side of 0, so the smaller is
    taken."""
    (b1, b2), (a1, a2, a3) = BELOW, ABOVE
    power = s.clamp_max(80).exp_()
    low = power.mul(b1).add_(1).mul_(power).div_(power.mul_(b2).add_(1))
    pole = s.clamp_min(-1).add_(a1)
    high = pole.reciprocal().mul_(a2).add_(pole).sub_(a3)
    return torch.minimum(low, high)


def _solve(s: Tensor) -> Tensor:
    info = torch.finfo(s.dtype)
    # far below zero ℓ = s − e^s to rounding: where e^s would vanish, the line goes on
    inside = s.clamp_min(0.9 * math.log(info.tiny))
    w = _guess(inside)
    ell = w.log()
    for left in reversed(range(1 if info.eps > 1e-8 else 2)):
        slope = (w + 1).reciprocal_()
        step = (inside - ell).sub_(w).mul_(slope)
        bend = slope.mul_(step)
        above = (4 / 3 * step).add_(2).sub_(bend)
        share = step.mul_(above).div_(bend.neg_().add_(above))  # by which w grows, at most 1.2%
        ell += (share / 3).sub_(0.5).mul_(share).add_(1).mul_(share)  # log(1 + share)
        if left:
            w = ell.exp()
    return ell.add_(inside.neg_().add_(s))


class _LogLambertW(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, s: Tensor) -> Tensor:
        if not devices.on_cpu(s) or torch.compiler.is_compiling() or s.numel() <= PART:
            ell = _solve(s)
        else:
            ell = torch.cat([_solve(part) for part in s.reshape(-1).split(PART)]).view(s.shape)
        ctx.save_for_backward(ell)
        return ell

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Tensor:
        (ell,) = ctx.saved_tensors
        return grad_outputs[0] * _slope(ell)


def _slope(ell: Tensor) -> Tensor:
    return 1 / (1 + ell.exp())
