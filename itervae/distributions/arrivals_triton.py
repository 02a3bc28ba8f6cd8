"""The arrivals in the window as one GPU kernel: no tensors of counts, no synchronization.

Each unit goes through its own arrivals, one after the other by exponential waiting times, from the
start of the window to its end (see `itervae.distributions.arrivals`, which counts those before it).
Imported where there is a GPU; under TRITON_INTERPRET=1 it runs on a CPU.
"""

from typing import Any, no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 512


@triton.jit
@no_type_check
def _arrive(bits, time, alive, rate, z, pathwise, end, temperature, CUBIC: tl.constexpr, INTEGER: tl.constexpr):
    """The next arrival of each unit that is alive, if it comes before the end."""
    uniform = tl.uint_to_uniform_float(bits)
    # −log(1 − u), which float32 loses for small u
    series = uniform * (1 + uniform * (0.5 + uniform * (1 / 3 + uniform * 0.25)))
    time += tl.where(uniform < 0.01, series, -tl.log(1 - uniform)) / rate
    alive = alive & (time < end)
    v = (1 - time) / temperature
    if CUBIC:
        inside = tl.minimum(tl.maximum(v, -1.0), 1.0)
        soft = 0.5 + inside * (0.75 - 0.25 * inside * inside)
        slope = 0.75 * (1 - inside * inside)
    else:
        soft = 1 / (1 + tl.exp(-v))
        slope = soft * (1 - soft)
    if INTEGER:
        soft = tl.where(time < 1, 1.0, 0.0)
    z += tl.where(alive, soft, 0.0)
    pathwise += tl.where(alive, slope * time / temperature, 0.0)
    return time, alive, z, pathwise


@triton.jit
@no_type_check
def _window(
    rate_at,
    z_at,
    pathwise_at,
    seed_at,
    units,
    start,
    end,
    temperature,
    CUBIC: tl.constexpr,
    INTEGER: tl.constexpr,
    SIZE: tl.constexpr,
):
    unit = tl.program_id(0) * SIZE + tl.arange(0, SIZE)
    here = unit < units
    rate = tl.load(rate_at + unit, mask=here, other=0.0)
    z = tl.load(z_at + unit, mask=here, other=0.0)
    seed = tl.load(seed_at)
    time = start + 0 * rate
    pathwise = 0 * rate
    alive = here & (rate > 0)
    rate = tl.where(alive, rate, 1.0)
    number = 0
    left = tl.max(alive.to(tl.int32), axis=0)
    while left > 0:  # pyright: ignore[reportOperatorIssue]
        none = unit * 0
        a, b, c, d = tl.philox(seed, unit, none + number, none, none)
        time, alive, z, pathwise = _arrive(a, time, alive, rate, z, pathwise, end, temperature, CUBIC, INTEGER)
        time, alive, z, pathwise = _arrive(b, time, alive, rate, z, pathwise, end, temperature, CUBIC, INTEGER)
        time, alive, z, pathwise = _arrive(c, time, alive, rate, z, pathwise, end, temperature, CUBIC, INTEGER)
        time, alive, z, pathwise = _arrive(d, time, alive, rate, z, pathwise, end, temperature, CUBIC, INTEGER)
        number += 1
        left = tl.max(alive.to(tl.int32), axis=0)
    tl.store(z_at + unit, z, mask=here)
    tl.store(pathwise_at + unit, pathwise, mask=here)


@torch.library.custom_op("itervae::add_window", mutates_args={"z"})
def _add_window(
    z: Tensor, rate: Tensor, seed: Tensor, start: float, end: float, temperature: float, cubic: bool, integer: bool
) -> Tensor:
    pathwise = torch.empty_like(z)
    kernel: Any = _window[(triton.cdiv(len(z), BLOCK),)]
    with torch.cuda.device_of(z):  # which need not be the current one
        kernel(rate, z, pathwise, seed, len(z), start, end, temperature, cubic, integer, BLOCK)
    return pathwise


@_add_window.register_fake
def _fake(
    z: Tensor, rate: Tensor, seed: Tensor, start: float, end: float, temperature: float, cubic: bool, integer: bool
) -> Tensor:
    return torch.empty_like(z)


def add_window(
    z: Tensor,
    rate: Tensor,
    window: tuple[float, float],
    temperature: float,
    cubic: bool,
    integer: bool,
    generator: torch.Generator | None,
) -> Tensor:
    """Add the arrivals in the window to the counts z (N,) before it, in place; answers ∂z/∂log λ
    (N,).

    Args:
        z, rate: float32, contiguous.
        window: its start and end, in units of the time in which λ spikes are expected.
        temperature, integer: as in `relaxed_poisson_sample`.
        cubic: the cubic indicator, else the sigmoid.
        generator: source of randomness, on the device of z.
    """
    seed = torch.randint(2**62, (1,), device=z.device, generator=generator)
    start, end = window
    return _add_window(z, rate, seed, start, end, temperature, cubic, integer)
