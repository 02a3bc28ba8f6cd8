"""The kernels of `programs_triton.py` as operations of torch: with them tensors without numbers
(`FakeTensorMode`) go the way of a GPU, and modes of dispatch see what is launched.

The functions have the names and the arguments of those in `descent_numba.py`, as tensors in place
of arrays. Imported where there is a GPU.
"""

import math
from typing import Any

import torch
import triton
from torch import Tensor

from itervae.inference.kernels.programs_triton import _gaps, _propose, _settle

Arrays = tuple[Tensor, ...]
MOST = 2048
"""Largest block of latents."""
PER_WARP = 128
"""Latents of a block for each warp."""
ARRAYS = "Tensor[] given, Tensor(a!)[] changed"
"""What every operation takes first, in the language of schemas: older versions of torch do not read
it off the annotations."""


def _launch(kernel: Any, given: list[Tensor], changed: list[Tensor], strides: list[int], **constants: Any) -> None:
    """A program for each datum; the latents are those of the first tensor."""
    size, latents = given[0].shape
    block = min(MOST, triton.next_power_of_2(latents))
    warps = max(1, min(8, block // PER_WARP))
    with torch.cuda.device_of(given[0]):  # which need not be the current one
        kernel[(size,)](*given, *changed, *strides, LATENTS=latents, BLOCK=block, num_warps=warps, **constants)


def _stride(rows: Tensor) -> int:
    """Numbers from one datum to the next, of an array (1 or B, K)."""
    return rows.shape[1] if len(rows) > 1 else 0


def _bounds(like: Tensor, leak: float, largest: float) -> dict[str, float]:
    return {"LEAK": leak, "LARGEST": largest, "LEAST": 0.9 * math.log(torch.finfo(like.dtype).tiny)}


@torch.library.custom_op(
    "itervae::propose",
    mutates_args={"changed"},
    schema=f"({ARRAYS}, bool flow, bool inertial, float leak, float largest) -> ()",
)
def _run_propose(
    given: list[Tensor], changed: list[Tensor], flow: bool, inertial: bool, leak: float, largest: float
) -> None:
    bounds = _bounds(given[0], leak, largest)
    _launch(_propose, given, changed, [_stride(given[10])], FLOW=flow, INERTIAL=inertial, **bounds)


@torch.library.custom_op(
    "itervae::settle",
    mutates_args={"changed"},
    schema=f"({ARRAYS}, bool[] rule, float[] limits, float leak, float largest) -> ()",
)
def _run_settle(
    given: list[Tensor], changed: list[Tensor], rule: list[bool], limits: list[float], leak: float, largest: float
) -> None:
    named = zip(("LCA", "FLOW", "INERTIAL", "REPEATED", "NEXT"), rule, strict=True)
    bounds = zip(("DECAY", "LOWEST", "HIGHEST", "STILL", "ROUNDING"), limits, strict=True)
    constants = {"SIZE": given[16].shape[1], "TINY": torch.finfo(given[0].dtype).tiny, "LEAST_SQUARE": 1e-30}
    constants |= dict(named) | dict(bounds) | _bounds(given[0], leak, largest)
    _launch(_settle, given, changed, [_stride(given[9]), _stride(given[13])], **constants)


@torch.library.custom_op("itervae::gaps", mutates_args={"changed"}, schema=f"({ARRAYS}, float single) -> ()")
def _run_gaps(given: list[Tensor], changed: list[Tensor], single: float) -> None:
    _launch(_gaps, given, changed, [_stride(given[4])], SINGLE=single)


for _op in (_run_propose, _run_settle, _run_gaps):
    _op.register_fake(lambda *given: None)  # what changes was there before


def propose(
    flow: bool, inertial: bool, point: Arrays, memory: Arrays, terms: tuple[Any, ...], new_u: Tensor, new_mean: Tensor
) -> None:
    """Put the log-rates to try, and the rates, into `new_u` and `new_mean`."""
    *arrays, leak, largest = terms
    _run_propose([*point, *memory, *arrays], [new_u, new_mean], flow, inertial, float(leak), float(largest))


def settle(
    rule: tuple[bool, ...], point: Arrays, memory: Arrays, terms: Arrays, residual: Tensor, limits: tuple[float, ...],
    new: Arrays, new_memory: Arrays, rejected: Tensor, then: tuple[Any, ...] | None = None,
) -> None:  # fmt: skip
    """Cut the steps that overshoot, take back those that raise F, and find κ and momentum of the
    next step.

    Args:
        then: where a step follows, the metric of proximal steps and the constants `LEAK` and
            `LARGEST`, and where its log-rates to try, and the rates, are put. The gradient, and the
            velocity of the LCA, are not put anywhere then: only that step would read them.
    """
    u, mean, slope, _, value = point  # the gradient is made again of the slope: fewer bytes to read
    metric, leak, largest, *tried = (terms[0], 0.0, 0.0, *new[:2]) if then is None else then  # what is not looked at
    given = [u, mean, slope, value, *memory, *terms, residual, metric]
    changed = [*new, *new_memory, rejected, *tried]
    _run_settle(given, changed, [*rule, then is not None], list(limits), float(leak), float(largest))


def gaps(*given: Any) -> None:
    """Put Σ_k KL(Pois λ_k ‖ Pois λ_k e^−d_k) into the last argument (B,), all float64."""
    *arrays, single, gap = given
    _run_gaps(arrays, [gap], single)
