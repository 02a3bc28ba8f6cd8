"""How code compiled by numba is found and run: the `*_numba.py` of this package, imported where
they are needed."""

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
    """Whether a step on this tensor can be one of `descent_numba`: numbers on a CPU through which
    no gradient goes back."""
    if not devices.on_cpu(value) or torch.compiler.is_compiling():
        return False
    if value.dtype not in (torch.float32, torch.float64) or (torch.is_grad_enabled() and value.requires_grad):
        return False
    return forward_ad.unpack_dual(value).tangent is None


def numbers(value: Tensor) -> Any:
    """The numbers of a tensor in a contiguous NumPy array, or the number where it is only one."""
    return value.detach().contiguous().numpy()[()]


def run(name: str, like: Tensor, *given: Any) -> None:
    """Run a kernel of `descent_numba` on all data, in as many threads as torch has where (B, K) is
    worth it."""
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
