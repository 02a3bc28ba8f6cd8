"""How compiled code is found and run: the `*_numba.py` of this package on a CPU, the `*_triton.py`
on a GPU, imported where they are needed."""

import threading
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from itervae import devices
from itervae.inference.kernels.cache import import_compiled

SERIAL = 2**15
"""Numbers (B, K) up to which a second thread is not worth it."""
_one_at_a_time = threading.Lock()  # some of numba's pools of threads end the process where two callers meet


@cache
def numba_module(name: str) -> Any:
    """The module of that name in this package."""
    return import_compiled(f"itervae.inference.kernels.{name}")


def fusible(value: Tensor) -> bool:
    """Whether a step on this tensor can be one of compiled code, `descent_numba` or
    `descent_triton`: numbers on a CPU, or on a GPU for which there is Triton, through which no
    gradient goes back."""
    if torch.compiler.is_compiling() or not (devices.on_cpu(value) or devices.takes_triton(value)):
        return False
    if value.dtype not in (torch.float32, torch.float64) or (torch.is_grad_enabled() and value.requires_grad):
        return False
    return forward_ad.unpack_dual(value).tangent is None


def operand(value: Tensor) -> Any:
    """What compiled code takes of a tensor: on a CPU its numbers in a contiguous NumPy array, or
    the number where it is only one; on a GPU a contiguous tensor."""
    value = value.detach().contiguous()
    return value.numpy()[()] if devices.on_cpu(value) else value


def run(name: str, like: Tensor, *given: Any) -> None:
    """Run a kernel on all data: of `descent_triton` on a GPU; on a CPU of `descent_numba`, in as
    many threads as torch has where (B, K) is worth it."""
    if not devices.on_cpu(like):
        from itervae.inference.kernels import launch_triton

        getattr(launch_triton, name)(*given)
        return
    code = numba_module("descent_numba")
    torch_threads = torch.get_num_threads()
    threads = 1 if like.numel() <= SERIAL else min(torch_threads, len(like))
    if threads == 1:
        getattr(code, f"{name}_rows")(0, len(like), *given)
        return
    from numba import config, get_num_threads, set_num_threads

    with _one_at_a_time:
        own = get_num_threads()
        try:
            set_num_threads(min(threads, config.NUMBA_NUM_THREADS))  # pyright: ignore[reportAttributeAccessIssue]
            getattr(code, name)(threads, *given)
        finally:
            set_num_threads(own)
            if torch.get_num_threads() != torch_threads:  # numba's threads, when they are made, set those of torch
                torch.set_num_threads(torch_threads)
