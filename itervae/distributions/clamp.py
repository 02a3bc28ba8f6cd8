"""The soft clamp of what an encoder gives, so that no rate or scale overflows:

    u where u ≤ limit, else limit + tanh(u − limit)

Slope and curvature are continuous, and it is below limit + 1 everywhere. On a GPU it is compiled
code; on a CPU tensors are only gone through where a number is above the limit.
"""

from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from itervae import devices
from itervae.kernels.launch import compilable

KERNELS = "itervae.distributions.clamp_triton"


def clamped(u: Tensor, limit: float) -> tuple[Tensor, Tensor]:
    """`soft_clamp` of u (..., K), and how many numbers of each datum are above the limit (...)."""
    if _within(u, limit):
        return u, torch.zeros(u.shape[:-1], device=u.device, dtype=torch.long)
    if u.ndim == 2 and not devices.on_cpu(u) and compilable(u):
        return _Clamp.apply(u, limit)  # pyright: ignore[reportReturnType]
    return soft_clamp(u, limit), (u.detach() > limit).sum(-1)


def soft_clamp(u: Tensor, limit: float) -> Tensor:
    """u, bent above the limit."""
    excess = (u - limit).clamp_min(0)
    return u.clamp_max(limit) + torch.tanh(excess)


def _within(u: Tensor, limit: float) -> bool:
    """Whether it is known that no number is above a limit; to look would be to wait on a GPU."""
    if not devices.on_cpu(u) or torch.compiler.is_compiling():
        return False
    return not u.numel() or bool(u.detach().amax() <= limit)


class _Clamp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, u: Tensor, limit: float) -> tuple[Tensor, Tensor]:
        bent, hits = import_module(KERNELS).clamp(u, limit)
        ctx.save_for_backward(u)
        ctx.mark_non_differentiable(hits)
        ctx.set_materialize_grads(False)
        ctx.limit = limit
        return bent, hits

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor | None) -> tuple[Tensor | None, None]:
        (u,), pull = ctx.saved_tensors, grad_outputs[0]
        if pull is None:
            return None, None
        if torch.is_grad_enabled():  # what is found here will be differentiated
            slope = 1 - torch.tanh(u - ctx.limit).square()
            return torch.where(u > ctx.limit, pull * slope, pull), None
        return import_module(KERNELS).clamp_back(u, pull, ctx.limit), None
