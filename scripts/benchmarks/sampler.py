"""Forward and backward pass of relaxed Poisson counts over log-normal rates of mean 0.1:
`RelaxedPoisson.rsample` against the plain published algorithm with its own n_exp, against
Gumbel-softmax, and against a floor (one `torch.poisson` and one elementwise pass, no gradient: less
than any sampler can do). Memory is the growth of the peak, in a process of its own. A side that
would take more than a share of the free memory is left out, with the reason. GB/s is of 24 bytes a
unit, which any sampler with a gradient reads and writes.
"""

import math
from collections.abc import Iterator
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from benchmarks.apart import growth, measured
from benchmarks.figures import Point, ratios_figure
from benchmarks.machine import Setup, achieved, free_memory
from benchmarks.timing import alternate, ratio, spread
from published_sampler import published_n_exp, published_sample
from torch import Tensor

from itervae.distributions import RelaxedPoisson
from itervae.distributions.gumbel import MOST, support_size

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MEAN = 0.1
SIZES = ((1000, 512), (4096, 1024), (4096, 4096))
SIGMAS = (1.0, 1.5, 2.2)
TEMPERATURES = (1.0, 0.5, 0.05)
SIDES = ("ours", "published", "gumbel-softmax", "floor")
COPIES = {"published": 16, "gumbel-softmax": 8}
"""Arrays of n_exp (or the size of the support) numbers a unit that a pass holds at once, as
measured."""
SHARE = 0.75
"""Of the free memory, that one pass may take."""
BYTES = 24
"""A unit: log λ read and z written, the gradient read and another written, ∂z/∂log λ kept and
read."""


class Cell(NamedTuple):
    """Rates (B, K) whose logarithms have a spread of sigma."""

    batch: int
    latents: int
    sigma: float
    temperature: float
    indicator: str


def cells(quick: bool) -> list[Cell]:
    if quick:
        return [Cell(200, 512, 1.5, 0.05, "cubic"), Cell(200, 512, 1.0, 1.0, "cubic")]
    grid = [Cell(*size, *rest, "cubic") for size, *rest in product(SIZES, SIGMAS, TEMPERATURES)]
    return grid + [Cell(*SIZES[0], 1.5, temperature, "sigmoid") for temperature in TEMPERATURES]


def run(setup: Setup) -> Iterator[dict[str, Any]]:
    for cell in cells(setup.quick):
        log_rate, gradient = inputs(cell, setup.device)
        n_exp = published_n_exp(log_rate.detach().max().exp().item())
        support = support_size(log_rate)
        left_out = too_large(log_rate.numel(), n_exp, support, free_memory(setup.device))
        kept = [side for side in SIDES if side not in left_out]
        generator = torch.Generator(setup.device).manual_seed(0)

        def once(side: str, cell=cell, log_rate=log_rate, gradient=gradient, n_exp=n_exp, generator=generator) -> None:
            sample(side, cell, log_rate, gradient, n_exp, generator)

        times = alternate({side: lambda side=side: once(side) for side in kept}, setup.rounds, setup.device)
        taken = {}
        if cell.temperature == min(TEMPERATURES) or (cell.batch, cell.latents) == SIZES[0]:
            taken = {side: measured("sampler", "peak", side, cell, n_exp, device=setup.device) for side in kept}
        yield {
            "suite": "sampler",
            "what": f"{cell.batch} × {cell.latents}, σ {cell.sigma:g}, τ {cell.temperature:g}, {cell.indicator}",
            "n_exp": n_exp,
            "support": support,
            "ms": spread(times["ours"], 1e3),
            **{
                f"{side} over ours": left_out.get(side) or ratio(times, side, "ours")
                for side in ("published", "gumbel-softmax")
            },
            "ours over floor": ratio(times, "ours", "floor"),
            **{f"{side} MB": taken[side] / 1e6 for side in taken},
            **achieved(times["ours"], BYTES * log_rate.numel(), 0, setup),
            "rounds": len(times["ours"]),
            "detail": {"cell": cell._asdict(), "ms": {side: spread(times[side], 1e3) for side in times}},
        }


def inputs(cell: Cell, device: str) -> tuple[Tensor, Tensor]:
    """Log-rates (B, K), and the gradient that comes back to z."""
    generator = torch.Generator().manual_seed(0)
    shape = (cell.batch, cell.latents)
    # in place, so that no freed memory hides growth later
    log_rate = torch.randn(shape, generator=generator).mul_(cell.sigma).add_(math.log(MEAN) - cell.sigma**2 / 2)
    gradient = torch.randn(shape, generator=generator)
    return log_rate.to(device).requires_grad_(), gradient.to(device)


def sample(side: str, cell: Cell, log_rate: Tensor, gradient: Tensor, n_exp: int, generator: torch.Generator) -> None:
    """One forward and backward pass."""
    if side == "floor":
        torch.poisson(log_rate.detach().exp(), generator=generator)
        return
    if side == "published":
        z = published_sample(log_rate, cell.temperature, cell.indicator, n_exp=n_exp, generator=generator)
    else:
        relaxation = "eat" if side == "ours" else side
        family = RelaxedPoisson(log_rate, cell.temperature, cell.indicator)
        z = family.rsample(generator=generator, relaxation=relaxation)
    torch.autograd.grad(z, log_rate, gradient)


def peak(side: str, cell: list[Any], n_exp: int, device: str) -> int:
    """Bytes that one pass adds to the peak."""
    own = Cell(*cell)
    log_rate, gradient = inputs(own, device)
    generator = torch.Generator(device).manual_seed(0)
    few = log_rate.detach()[:2].clone().requires_grad_()
    sample(side, own, few, gradient[:2], n_exp, generator)
    return growth(lambda: sample(side, own, log_rate, gradient, n_exp, generator), device)


def too_large(units: int, n_exp: int, support: int, free: float) -> dict[str, str]:
    """The sides that would not fit, and why."""
    found = {}
    for side, length in (("published", n_exp), ("gumbel-softmax", support)):
        need = 4 * COPIES[side] * length * units
        if need > SHARE * free:
            found[side] = f"left out: {need / 1e9:.0f} GB, more than {SHARE:g} of {free / 1e9:.0f} GB free"
        elif side == "gumbel-softmax" and length * units > MOST:
            found[side] = f"left out: refused, more than {MOST} choices"
    return found


def figure(rows: list[dict[str, Any]]) -> "Figure":
    panels: dict[str, list[Point]] = {}
    for row in rows:
        cell = row["detail"]["cell"]
        label = f"σ {cell['sigma']:g}, τ {cell['temperature']:g}, {cell['indicator']}"
        points = panels.setdefault(f"{cell['batch']} × {cell['latents']}", [])
        for name in ("published over ours", "gumbel-softmax over ours", "ours over floor"):
            if isinstance(row[name], dict):
                points.append(Point(label, name, row[name]))
    return ratios_figure(panels, "ratio of times")
