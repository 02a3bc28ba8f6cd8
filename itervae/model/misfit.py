"""‖x − Φz‖² (B,) in as few passes as there can be, forward and back: on a CPU with the product, on
a GPU after it, in compiled code."""

from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from itervae import devices
from itervae.kernels.launch import compilable

KERNELS = "itervae.model.misfit_triton"


def squared_distance(x: Tensor, y: Tensor) -> Tensor:
    """‖x − y‖² (..., ), x and y (..., D)."""
    return _Distance.apply(x, y) if _on_gpu(x, y) else (x - y).square().sum(-1)  # pyright: ignore[reportReturnType]


def squared_misfit(x: Tensor, z: Tensor, dictionary: Tensor) -> Tensor:
    """‖x − Φz‖² (..., ), x (..., D), z (..., K), Φ (D, K)."""
    if x.dtype != dictionary.dtype or z.ndim != 2 or (not devices.on_cpu(x) and compilable(x)):
        return squared_distance(x, z @ dictionary.mT)
    return _Misfit.apply(x, z, dictionary)  # pyright: ignore[reportReturnType]


def _on_gpu(x: Tensor, y: Tensor) -> bool:
    """Whether compiled code of a GPU can be given the two."""
    if x.ndim != 2 or (x.shape, x.dtype, x.device) != (y.shape, y.dtype, y.device) or devices.on_cpu(x):
        return False
    return compilable(x) and compilable(y)


class _Distance(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor) -> Tensor:
        ctx.save_for_backward(x, y)
        return import_module(KERNELS).misfit(x, y)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        x, y = ctx.saved_tensors
        if torch.is_grad_enabled():  # what is found here will be differentiated
            pull = (x - y) * (-2 * grad_outputs[0])[:, None]
        else:
            pull = import_module(KERNELS).misfit_back(x, y, grad_outputs[0])
        return -pull if ctx.needs_input_grad[0] else None, pull


class _Misfit(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, z: Tensor, dictionary: Tensor) -> Tensor:
        residual = torch.addmm(x, z, dictionary.mT, alpha=-1)
        ctx.save_for_backward(x, z, dictionary, residual)
        return residual.square().sum(-1)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        x, z, dictionary, residual = ctx.saved_tensors
        if torch.is_grad_enabled():  # what is found here will be differentiated
            residual = torch.addmm(x, z, dictionary.mT, alpha=-1)
        pull = residual * (-2 * grad_outputs[0])[:, None]
        needs_x, needs_z, needs_dictionary = ctx.needs_input_grad
        return (
            -pull if needs_x else None,
            pull @ dictionary if needs_z else None,
            pull.mT @ z if needs_dictionary else None,
        )
