"""The soft clamp of `clamp`, forward and back, as one GPU kernel each, with a program for each
datum. Under TRITON_INTERPRET=1 they run on a CPU."""

from typing import Any, no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor

from itervae.kernels.launch import rows

MOST, PER_WARP = 1024, 128
"""Largest block of latents, and latents of a block for each warp."""


@triton.jit
@no_type_check
def _clamp(u_at, out_at, hits_at, stride, LATENTS: tl.constexpr, LIMIT: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    hits = tl.zeros([BLOCK], dtype=tl.int64)
    for first in range(0, LATENTS, BLOCK):
        k = first + tl.arange(0, BLOCK)
        here = k < LATENTS
        u = tl.load(u_at + row * stride + k, mask=here, other=LIMIT)
        above = u > LIMIT
        small = tl.exp(-2 * tl.where(above, u - LIMIT, 0.0))
        tl.store(out_at + row * LATENTS + k, tl.where(above, LIMIT + (1 - small) / (1 + small), u), mask=here)
        hits += above.to(tl.int64)
    tl.store(hits_at + row, tl.sum(hits))


@triton.jit
@no_type_check
def _clamp_back(
    u_at, pull_at, out_at, stride, pull_stride, LATENTS: tl.constexpr, LIMIT: tl.constexpr, BLOCK: tl.constexpr
):
    row = tl.program_id(0).to(tl.int64)
    for first in range(0, LATENTS, BLOCK):
        k = first + tl.arange(0, BLOCK)
        here = k < LATENTS
        u = tl.load(u_at + row * stride + k, mask=here, other=LIMIT)
        pull = tl.load(pull_at + row * pull_stride + k, mask=here, other=0.0)
        above = u > LIMIT
        small = tl.exp(-2 * tl.where(above, u - LIMIT, 0.0))
        slope = 4 * small / ((1 + small) * (1 + small))  # 1 − tanh²
        tl.store(out_at + row * LATENTS + k, tl.where(above, pull * slope, pull), mask=here)


def _launch(kernel: Any, u: Tensor, given: list[Tensor], strides: list[int], limit: float) -> None:
    latents = u.shape[1]
    block = min(MOST, triton.next_power_of_2(latents))
    warps = max(1, min(8, block // PER_WARP))
    with torch.cuda.device_of(u):  # which need not be the current one
        kernel[(len(u),)](u, *given, *strides, LATENTS=latents, LIMIT=limit, BLOCK=block, num_warps=warps)


@torch.library.custom_op("itervae::clamp", mutates_args=(), schema="(Tensor u, float limit) -> (Tensor, Tensor)")
def clamp(u: Tensor, limit: float) -> tuple[Tensor, Tensor]:
    """`soft_clamp` of u (B, K), and how many numbers of each datum are above the limit (B,)."""
    u = rows(u)
    out, hits = _empty(u, limit)
    _launch(_clamp, u, [out, hits], [u.stride(0)], limit)
    return out, hits


@torch.library.custom_op("itervae::clamp_back", mutates_args=())
def clamp_back(u: Tensor, pull: Tensor, limit: float) -> Tensor:
    """The gradient in u, from that in the answer."""
    u, pull = rows(u), rows(pull)
    out = u.new_empty(u.shape)
    _launch(_clamp_back, u, [pull, out], [u.stride(0), pull.stride(0)], limit)
    return out


@clamp.register_fake
def _empty(u: Tensor, limit: float) -> tuple[Tensor, Tensor]:
    return u.new_empty(u.shape), u.new_empty(len(u), dtype=torch.int64)


@clamp_back.register_fake
def _empty_back(u: Tensor, pull: Tensor, limit: float) -> Tensor:
    return u.new_empty(u.shape)
