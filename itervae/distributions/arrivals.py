"""Reparameterized Poisson counts by exponential arrival times (EAT), drawn only where they matter.

A Poisson process of rate λ has arrivals t_1 < t_2 < …; the number of arrivals before t = 1 is a
Poisson count. A soft indicator s makes the count differentiable (Vafaii, Galor & Yates 2024,
"Poisson variational autoencoder"):

    z = Σ_i s((1 − t_i) / τ),      ∂z/∂log λ = Σ_i s'((1 − t_i) / τ) · t_i / τ

since t = e/λ at fixed unit-rate times e. The published sampler draws enough arrivals for the
largest rate of the batch. Here none is drawn that comes after the window 1 ± hτ (outside it s is 0
or 1), and in the window, since the process has no memory, they are Poisson many at independent
uniform times, whatever happened before: where rates are high, those before the window are only
counted. Same joint law of (z, ∂z/∂log λ); memory O(number of units), work that follows the counts.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from itervae import devices
from itervae.distributions.registry import INDICATORS
from itervae.kernels.launch import operand, run


@dataclass(frozen=True)
class Indicator:
    """A soft step s(v), 0 far below v = 0 and 1 far above, with its slope s'(v).

    `half_width` h: s is 0 or 1 (to float32 rounding) and s' is 0 outside |v| ≤ h.
    """

    half_width: float
    value: Callable[[Tensor], Tensor]
    slope: Callable[[Tensor], Tensor]


def _cubic(v: Tensor) -> Tensor:
    v = v.clamp(-1, 1)
    return 0.5 + v * (0.75 - 0.25 * v.square())


def _cubic_slope(v: Tensor) -> Tensor:
    return 0.75 * (1 - v.clamp(-1, 1).square())


def _sigmoid_slope(v: Tensor) -> Tensor:
    s = torch.sigmoid(v)
    return s * (1 - s)


CUBIC = Indicator(1.0, _cubic, _cubic_slope)
"""s(v) = 1/2 + 3v/4 − v³/4 on |v| ≤ 1: the mean of z is exactly λ for τ ≤ 1, its variance λ(1 −
9τ/35)."""
SIGMOID = Indicator(17.0, torch.sigmoid, _sigmoid_slope)
"""s(v) = 1/(1 + e^{−v}), the P-VAE's: the mean of z is λ·τ·ln(1 + e^{1/τ})."""

KERNELS = "itervae.distributions.arrivals"
ARRIVALS_AT_ONCE = 1 << 18
"""Fewest arrivals handled in one pass; with many units, one pass handles as many arrivals as there
are units."""
SPARSE = 1 / 6
"""Arrivals before the window are drawn one by one where they are fewer than this share of the
units; beyond, a Poisson count for every unit is cheaper."""


def relaxed_poisson_sample(
    log_rate: Tensor,
    temperature: float,
    indicator: str = "cubic",
    generator: torch.Generator | None = None,
    straight_through: bool = False,
) -> Tensor:
    """Draw relaxed Poisson counts, differentiable in `log_rate` (first derivatives).

    Args:
        log_rate: log λ, any shape, finite, at most 10 (checked by `RelaxedPoisson`, not here).
        temperature: τ ≥ 0. 0 gives integer counts without gradient.
        indicator: "cubic" or "sigmoid".
        generator: source of randomness, on the device of `log_rate`.
        straight_through: return the integer count of the same arrivals, with the gradient of the
            relaxed one.

    Returns:
        z, the shape of `log_rate`, non-negative.
    """
    if temperature == 0:
        return torch.poisson(log_rate.detach().exp(), generator=generator)
    return _Relaxed.apply(  # pyright: ignore[reportReturnType]
        log_rate, temperature, INDICATORS[indicator], generator, straight_through
    )


class _Relaxed(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        log_rate: Tensor,
        temperature: float,
        indicator: Indicator,
        generator: torch.Generator | None,
        integer: bool,
    ) -> Tensor:
        z, pathwise = _draw(log_rate, temperature, indicator, generator, integer, slope=ctx.needs_input_grad[0])
        ctx.save_for_backward(log_rate, pathwise)
        return z

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Any, ...]:
        log_rate, pathwise = ctx.saved_tensors
        return _FirstOrder.apply(grad_outputs[0], pathwise, log_rate), None, None, None, None


class _FirstOrder(torch.autograd.Function):
    """grad · ∂z/∂log λ, which refuses to be differentiated again instead of answering zero.

    It takes `log_rate` so that the answer is seen to depend on it, also where the loss is linear in
    z.
    """

    @staticmethod
    def forward(ctx: Any, grad: Tensor, pathwise: Tensor, log_rate: Tensor) -> Tensor:
        return grad * pathwise

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, ...]:
        raise RuntimeError(
            "a relaxed Poisson sample has first derivatives only, and a second one was asked for "
            "(create_graph=True): use the exact free energy of a linear decoder, which can be differentiated twice"
        )


def _in_one_kernel(rate: Tensor) -> bool:
    """Whether the arrivals are drawn by one kernel on a GPU, without a look at their number."""
    return rate.dtype == torch.float32 and devices.takes_triton(rate)


@torch.no_grad()
def _draw(
    log_rate: Tensor,
    temperature: float,
    indicator: Indicator,
    generator: torch.Generator | None,
    integer: bool,
    slope: bool,
) -> tuple[Tensor, Tensor | None]:
    """One draw of z (with `integer`, of the hard count of its arrivals) and, with `slope`, of
    ∂z/∂log λ."""
    # half precision has no Poisson sampler, and could not count beyond 256
    working = torch.promote_types(log_rate.dtype, torch.float32)
    rate = log_rate.detach().to(working).exp().reshape(-1)
    rows = (-1, log_rate.shape[-1] if log_rate.ndim else 1)
    reach = indicator.half_width * temperature
    start, end = max(0.0, 1 - reach), 1 + reach
    if _in_one_kernel(rate):
        from itervae.distributions.arrivals_triton import add_window

        z = torch.poisson(rate * start, generator=generator)
        cubic = indicator is CUBIC
        pathwise = add_window(z, rate, (start, end), temperature, cubic, integer, generator)
        z = z.view_as(log_rate).to(log_rate.dtype)
        return z, pathwise.view_as(log_rate).to(log_rate.dtype) if slope else None
    z = torch.zeros_like(rate)
    if start and rate.numel() and float(rate.sum(dtype=torch.float64)) * start > SPARSE * rate.numel():
        z = torch.poisson(rate * start, generator=generator)
    else:
        start = 0.0
    pathwise = torch.zeros_like(rate) if slope else None
    if rate.numel():
        add = _add_compiled if devices.on_cpu(rate) else _add_in_tensors
        sums = (z.view(rows), None if pathwise is None else pathwise.view(rows))
        add(*sums, rate.view(rows), (start, end), temperature, indicator, integer, generator)
    z = z.view_as(log_rate).to(log_rate.dtype)
    return z, None if pathwise is None else pathwise.view_as(log_rate).to(log_rate.dtype)


def _add_compiled(
    z: Tensor,
    pathwise: Tensor | None,
    rate: Tensor,
    window: tuple[float, float],
    temperature: float,
    indicator: Indicator,
    integer: bool,
    generator: torch.Generator | None,
) -> None:
    """Add the arrivals of a window of time to z and ∂z/∂log λ (B, K), by compiled code."""
    seed = np.uint64(torch.randint(2**63 - 1, (), generator=generator).item())
    cubic, (start, end) = indicator is CUBIC, window
    sums = operand(z), operand(rate[:0] if pathwise is None else pathwise)
    run(KERNELS, "add_window", rate, operand(rate), start, end - start, temperature, cubic, integer, seed, *sums)


def _add_in_tensors(
    z: Tensor,
    pathwise: Tensor | None,
    rate: Tensor,
    window: tuple[float, float],
    temperature: float,
    indicator: Indicator,
    integer: bool,
    generator: torch.Generator | None,
) -> None:
    """The same in tensors, on a device without compiled code."""
    z, rate = z.view(-1), rate.view(-1)
    pathwise = None if pathwise is None else pathwise.view(-1)
    (start, end), axis = window, rate.cumsum(0, dtype=torch.float64)
    length = end - start
    many = len(rate) and float(axis[-1]) * length > len(rate)
    if many:  # then it is cheaper to draw a count for each unit
        count = torch.poisson(rate * length, generator=generator).long()
        passes = _in_passes(count, max(ARRIVALS_AT_ONCE, len(rate)))
    else:
        passes = [_owners(axis, length, generator)]
    for unit in passes:
        time = torch.rand(len(unit), dtype=rate.dtype, device=rate.device, generator=generator)
        time = start + length * time
        v = (1 - time) / temperature
        z.index_add_(0, unit, (time < 1).to(z.dtype) if integer else indicator.value(v))
        if pathwise is not None:
            pathwise.index_add_(0, unit, indicator.slope(v) * time / temperature)


def _owners(axis: Tensor, length: float, generator: torch.Generator | None) -> Tensor:
    """The unit of each arrival within an interval of time of that length, in order.

    The units lie side by side on one axis, unit k from Σ_{j<k} λ_j to axis_k = Σ_{j≤k} λ_j, and the
    arrivals of all of them are one Poisson process along it: no count is drawn for a unit, and the
    work is that of the arrivals.
    """
    if not len(axis):
        return torch.empty(0, dtype=torch.long, device=axis.device)
    count = int(torch.poisson(axis[-1] * length, generator=generator))
    place = torch.rand(count, dtype=axis.dtype, device=axis.device, generator=generator).mul_(axis[-1])
    # from left to right: then neither the search nor the sums jump in memory
    unit = torch.searchsorted(axis, place.sort().values, right=True)
    return unit.clamp_max_(len(axis) - 1)  # of a place that was rounded up to the end


def _in_passes(count: Tensor, limit: int) -> Iterator[Tensor]:
    """Yield the number of each unit, repeated `count` times, in pieces of at most `limit`
    entries."""
    unit, upto = torch.arange(len(count), device=count.device), count.cumsum(0)
    total = int(upto[-1]) if len(count) else 0
    for first in range(0, total, limit):
        length = min(limit, total - first)
        here = (upto - first).clamp(0, length)
        here = torch.diff(here, prepend=here.new_zeros(1))
        yield torch.repeat_interleave(unit, here, output_size=length)
