"""How compiled code is found and run: modules `*_numba` on a CPU, `*_triton` on a GPU, imported
where they are needed."""

import threading
from functools import cache
from importlib import import_module
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from itervae import devices
from itervae.kernels.cache import import_compiled

SERIAL = 2**15
"""Numbers (B, K) up to which a second thread is not worth it."""
_one_at_a_time = threading.Lock()  # some of numba's pools of threads end the process where two callers meet


@cache
def numba_module(name: str) -> Any:
    """The module of that full name, whose functions numba compiles."""
    return import_compiled(name)


def compilable(value: Tensor) -> bool:
    """Whether compiled code can be given a tensor: numbers, float32 or float64, on a CPU, or on a
    GPU for which there is Triton, and no derivative of forward mode."""
    if torch.compiler.is_compiling() or not (devices.on_cpu(value) or devices.takes_triton(value)):
        return False
    if value.dtype not in (torch.float32, torch.float64):
        return False
    return forward_ad.unpack_dual(value).tangent is None


def fusible(value: Tensor) -> bool:
    """Whether a step on this tensor can be one of compiled code: it is `compilable`, and no
    gradient goes back through it."""
    return compilable(value) and not (torch.is_grad_enabled() and value.requires_grad)


def operand(value: Tensor) -> Any:
    """What compiled code takes of a tensor: on a CPU its numbers in a contiguous NumPy array, or
    the number where it is only one; on a GPU a contiguous tensor."""
    value = value.detach().contiguous()
    return value.numpy()[()] if devices.on_cpu(value) else value


def rows(value: Tensor) -> Tensor:
    """A tensor whose rows have their numbers side by side, for a kernel that is told the distance
    from row to row."""
    return value if value.stride(-1) == 1 else value.contiguous()


def run(module: str, name: str, like: Tensor, *given: Any) -> None:
    """Run a kernel on all data: on a GPU the one of that name in `module`_triton; on a CPU that of
    `module`_numba, in as many threads as torch has where `like` (B, K) is worth it, or else its
    `name`_rows."""
    if not devices.on_cpu(like):
        getattr(import_module(f"{module}_triton"), name)(*given)
        return
    code = numba_module(f"{module}_numba")
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
