"""Loops as CUDA graphs: what a loop launches is recorded once and launched by one call after that.

Some 100 µs of the host go into a step, launch by launch, and as many of the device into a step of
some thousand data; with fewer the device would wait for the host. A graph reads and writes the
tensors that it was recorded with. So these are copies, made for it, and a call copies what it is
given into them and what they hold out of them: nothing depends on where the caller's tensors lie.

A loop is recorded at its second use with tensors of the same shapes. Where that fails a warning
says why, once, and loops go on launch by launch.
"""

import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

LARGEST = 2**21
"""Numbers (B, K) from which on the host is ahead of the device anyway."""
KEPT = 4
"""Graphs that are kept: those used last. Each has its own memory, some 20 arrays (B, K)."""

Loop = Callable[[Any], Any]
_kept: OrderedDict[Hashable, Loop | None] = OrderedDict()  # None: used once
_one_at_a_time = threading.Lock()
_failed = False


def fits(like: Tensor) -> bool:
    """Whether a loop over such a tensor (B, K) is worth a graph, and can be one: it is on a GPU, is
    small, has numbers, and nothing is being recorded."""
    plain = type(like) is Tensor and like.is_cuda and like.numel() <= LARGEST and not _failed
    return plain and not torch.cuda.is_current_stream_capturing()


def run(loop: Loop, given: Any, about: Hashable) -> Any:
    """What `loop` makes of `given`, both any nesting of tensors: as a graph, where it has been used
    before.

    Args:
        loop: reads no tensors but those of `given`, changes none of them, and waits for nothing.
        about: all else that it depends on.
    """
    global _failed
    tensors, form = pytree.tree_flatten(given)
    key = about, str(form), _precision(), _stream(tensors[0]), *((v.dtype, v.shape, v.stride()) for v in tensors)
    with _one_at_a_time, torch.cuda.device_of(tensors[0]):
        used, graph = key in _kept, _kept.pop(key, None)
        if used and graph is None and not _failed:
            try:
                graph = _recorded(loop, given)
            except Exception as error:
                _failed = True
                cause = error.__context__ or error  # of a recording that broke off, which is an error of its own
                first = (str(cause).strip().splitlines() or [type(cause).__name__])[0]
                warnings.warn(f"steps are not made a CUDA graph, and go on launch by launch: {first}", stacklevel=2)
        _kept[key] = graph
        while len(_kept) > KEPT:
            _kept.popitem(last=False)
        if graph is not None:
            return graph(given)
    return loop(given)


def _precision() -> Hashable:
    """That of products, which is part of what is recorded."""
    matmul = torch.backends.cuda.matmul
    return matmul.fp32_precision if hasattr(matmul, "fp32_precision") else torch.get_float32_matmul_precision()


def _stream(like: Tensor) -> Hashable:
    """Where it runs: one graph on two streams would write over its own numbers."""
    return like.device, torch.cuda.current_stream(like.device) if like.is_cuda else None


def _recorded(loop: Loop, given: Any) -> Loop:
    with torch.inference_mode(False), torch.no_grad():  # what is made here outlives the caller's mode
        held = pytree.tree_map(lambda value: value.detach().clone(), given)
        replay, found = _capture(lambda: loop(held))
    into = pytree.tree_leaves(held)

    def graph(given: Any) -> Any:
        torch._foreach_copy_(into, pytree.tree_leaves(given))  # pyright: ignore[reportPrivateImportUsage]
        replay()
        return pytree.tree_map(Tensor.clone, found)

    return graph


def _capture(call: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
    """What launches all that the call launched, and what the call gave, which that fills anew."""
    side, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # what is done once is not to be recorded
        call()
    torch.cuda.current_stream().wait_stream(side)
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # other threads may cut batches meanwhile
        found = call()
    return graph.replay, found
