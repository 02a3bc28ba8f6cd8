"""The exact free energy's pass over (B, K): one forward and one back, in compiled code.

Under a linear decoder Φ and a Gaussian likelihood, all that the exact free energy needs of a
posterior is its mean μ (B, K), which is multiplied by Φ, and two numbers a datum: the spread Σ_k
c_k v_k, v the variances and c_k = ‖φ_k‖², and the KL. Their equations, with d of posterior and
prior:

    Poisson    μ = v = λ,            KL = λ(e^d − 1 − d),                 d = log r − log λ
    Gaussian   μ, v = s²,            KL = ½(e^d − 1 − d) + (μ − m)²/2S²,  d = 2 log(s/S)
    Laplace    μ, v = 2s²,           KL = s/S·(e^−t − 1 + t) + (e^d − 1 − d),
                                     t = |μ − m|/s,                       d = log(s/S)

In tensors each of them takes a dozen passes over memory, and as many back. They are asked for by
`Family.moments`; where these cannot be used (another precision, a second derivative, or a GPU
without Triton), they are in tensors.
"""

import math
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import Tensor

from itervae import devices
from itervae.kernels.launch import compilable, operand, run

KERNELS = "itervae.distributions.moments"
Moments = tuple[Tensor, Tensor, Tensor]
"""Mean (B, K), spread (B,) and KL (B,)."""
InTensors = Callable[[Tensor, Tensor, Tensor], Moments]
"""The moments from parameters of posterior and prior, and c (K,)."""
SERIES = {
    dtype: tuple(kind(1 / math.factorial(n)) for n in range(2, 13))
    for dtype, kind in ((torch.float32, np.float32), (torch.float64, np.float64))
}
"""Of (e^d − 1 − d)/d², where the difference would cancel."""


def fused(kind: str, u: Tensor, prior: Tensor, norms: Tensor | None, in_tensors: InTensors) -> Moments | None:
    """The moments of a posterior by one pass over its parameters; None where that is not to be had.

    Args:
        kind: "poisson", "gaussian" or "laplace".
        u: parameters of the posterior (B, parts · K).
        prior: those of the prior, (parts · K,) or as `u`.
        norms: c (K,); None where the spread does not matter.
        in_tensors: the same in tensors, for the derivatives that compiled code does not have.
    """
    if u.ndim != 2 or not (compilable(u) and compilable(prior)) or _kind(prior) != _kind(u):
        return None
    latents = u.shape[1] if kind == "poisson" else u.shape[1] // 2
    norms = u.new_zeros(latents) if norms is None else norms
    if prior.shape not in (u.shape, u.shape[1:]) or norms.shape != (latents,) or _kind(norms) != _kind(u):
        return None  # compiled code would read beyond them, where tensors are broadcast or refused
    return _Moments.apply(u, prior, norms, kind, in_tensors)  # pyright: ignore[reportReturnType]


def _kind(value: Tensor) -> tuple[torch.dtype, torch.device]:
    return value.dtype, value.device


class _Moments(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, u: Tensor, prior: Tensor, norms: Tensor, kind: str, in_tensors: InTensors) -> Moments:
        ctx.set_materialize_grads(False)
        ctx.kind, ctx.in_tensors = kind, in_tensors
        if not devices.on_cpu(u):
            ctx.save_for_backward(u, prior, norms)
            return _on_gpu().moments(u, prior, norms, kind)
        mean, arrays = ARRAYS[kind](u, torch.atleast_2d(prior))
        spread, kl = u.new_empty(len(u)), u.new_empty(len(u))
        given = map(operand, (u, *arrays, norms))
        run(KERNELS, kind, mean, *given, SERIES[u.dtype], operand(spread), operand(kl))
        ctx.save_for_backward(u, prior, norms, *arrays)
        return mean, spread, kl

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor | None) -> tuple[Tensor | None, ...]:
        u, prior, norms, *arrays = ctx.saved_tensors
        kind, needed = ctx.kind, ctx.needs_input_grad[:3]
        if torch.is_grad_enabled():  # what is found here will be differentiated
            return *_gradient(ctx.in_tensors, (u, prior, norms), needed, grad_outputs, again=True), None, None
        if not devices.on_cpu(u):
            to_u, each, sums = _on_gpu().moments_back(u, prior, norms, *grad_outputs, kind, *needed[1:])
            total = sums.sum(0) if sums.shape[1] else sums
            to_prior = each if prior.ndim == 2 else total[: len(prior) // len(norms)].flatten()
            return to_u, to_prior if needed[1] else None, total[-1] if needed[2] else None, None, None
        to_mean, to_spread, to_kl = (u.new_zeros(()) if grad is None else grad for grad in grad_outputs)
        to_spread, to_kl = to_spread.expand(len(u)), to_kl.expand(len(u))
        to_u = to_prior = to_norms = None
        if needed[0]:
            to_u = torch.empty_like(u, memory_format=torch.contiguous_format)
            pull = to_mean if to_mean.ndim else to_mean.expand(1, len(norms))
            given = (u, *arrays, norms, pull, to_spread, to_kl, to_u)
            run(KERNELS, f"{kind}_back", arrays[0], *map(operand, given))
        if needed[1] and kind == "poisson":  # r − λ
            rate, _, start = arrays
            to_prior = to_kl[:, None] * (start - rate) if prior.ndim == 2 else to_kl.sum() * start[0] - to_kl @ rate
        elif needed[1]:
            _, to_prior, _ = _gradient(ctx.in_tensors, (u, prior, norms), (False, True, False), grad_outputs)
        if needed[2]:
            to_norms = to_spread @ (2 * arrays[0].square() if kind == "laplace" else arrays[0])
        return to_u, to_prior, to_norms, None, None


def _on_gpu() -> Any:
    """The kernels of a GPU, as operations of torch."""
    return import_module(f"{KERNELS}_triton")


def _gradient(
    in_tensors: InTensors,
    inputs: tuple[Tensor, Tensor, Tensor],
    needed: tuple[bool, ...],
    grads: tuple[Tensor | None, ...],
    again: bool = False,
) -> list[Tensor | None]:
    """The gradient in tensors; with `again`, such that it can be differentiated."""
    if not again:
        inputs = tuple(value.detach().requires_grad_() for value in inputs)  # pyright: ignore[reportAssignmentType]
    with torch.enable_grad():
        outputs = in_tensors(*inputs)
        wanted = [value for value, need in zip(inputs, needed, strict=True) if need]
        given = [torch.zeros_like(out) if grad is None else grad for out, grad in zip(outputs, grads, strict=True)]
        found = iter(torch.autograd.grad(outputs, wanted, given, create_graph=again, allow_unused=True))
    return [next(found) if need else None for need in needed]


def _poisson(u: Tensor, start: Tensor) -> tuple[Tensor, list[Tensor]]:
    rate = u.exp()
    return rate, [rate, start, start.exp()]


def _gaussian(u: Tensor, start: Tensor) -> tuple[Tensor, list[Tensor]]:
    location, log_scale = u.chunk(2, -1)
    return location.contiguous(), [torch.exp(2 * log_scale), start, torch.exp(-2 * start.chunk(2, -1)[1])]


def _laplace(u: Tensor, start: Tensor) -> tuple[Tensor, list[Tensor]]:
    location, log_scale = u.chunk(2, -1)
    own, scale = start.chunk(2, -1)
    decay = (location - own).abs_().mul_(torch.exp(-log_scale)).neg_().exp_()
    return location.contiguous(), [log_scale.exp(), decay, start, torch.exp(-scale)]


ARRAYS: dict[str, Callable[[Tensor, Tensor], tuple[Tensor, list[Tensor]]]] = {
    "poisson": _poisson,
    "gaussian": _gaussian,
    "laplace": _laplace,
}
"""The mean, and the arrays that the kernels are given beside the parameters."""
