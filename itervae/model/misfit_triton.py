"""‖x − y‖² of each datum and its gradient, as one GPU kernel each, with a program for each datum.
Under TRITON_INTERPRET=1 they run on a CPU."""

from typing import Any, no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor

from itervae.kernels.launch import rows

MOST, PER_WARP = 1024, 128
"""Largest block of values, and values of a block for each warp."""


@triton.jit
@no_type_check
def _misfit(x_at, y_at, out_at, x_stride, y_stride, SIZE: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    total = tl.zeros([BLOCK], dtype=x_at.dtype.element_ty)
    for first in range(0, SIZE, BLOCK):
        i = first + tl.arange(0, BLOCK)
        x = tl.load(x_at + row * x_stride + i, mask=i < SIZE, other=0.0)
        residual = x - tl.load(y_at + row * y_stride + i, mask=i < SIZE, other=0.0)
        total += residual * residual
    tl.store(out_at + row, tl.sum(total))


@triton.jit
@no_type_check
def _misfit_back(x_at, y_at, pull_at, out_at, x_stride, y_stride, pull_stride, SIZE: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    pull = -2 * tl.load(pull_at + row * pull_stride)
    for first in range(0, SIZE, BLOCK):
        i = first + tl.arange(0, BLOCK)
        x = tl.load(x_at + row * x_stride + i, mask=i < SIZE, other=0.0)
        residual = x - tl.load(y_at + row * y_stride + i, mask=i < SIZE, other=0.0)
        tl.store(out_at + row * SIZE + i, pull * residual, mask=i < SIZE)


def _launch(kernel: Any, x: Tensor, given: list[Tensor], strides: list[int]) -> None:
    size = x.shape[1]
    block = min(MOST, triton.next_power_of_2(size))
    warps = max(1, min(8, block // PER_WARP))
    with torch.cuda.device_of(x):  # which need not be the current one
        kernel[(len(x),)](x, *given, x.stride(0), *strides, SIZE=size, BLOCK=block, num_warps=warps)


@torch.library.custom_op("itervae::misfit", mutates_args=())
def misfit(x: Tensor, y: Tensor) -> Tensor:
    """‖x − y‖² (B,), x and y (B, D)."""
    x, y = rows(x), rows(y)
    out = x.new_empty(len(x))
    _launch(_misfit, x, [y, out], [y.stride(0)])
    return out


@torch.library.custom_op("itervae::misfit_back", mutates_args=())
def misfit_back(x: Tensor, y: Tensor, pull: Tensor) -> Tensor:
    """The gradient in y (B, D), from that in the answer (B,)."""
    x, y = rows(x), rows(y)
    out = x.new_empty(x.shape)
    _launch(_misfit_back, x, [y, pull, out], [y.stride(0), pull.stride(0)])
    return out


@misfit.register_fake
def _empty(x: Tensor, y: Tensor) -> Tensor:
    return x.new_empty(len(x))


@misfit_back.register_fake
def _empty_back(x: Tensor, y: Tensor, pull: Tensor) -> Tensor:
    return x.new_empty(x.shape)
