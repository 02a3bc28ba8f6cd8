"""Growth of the peak of memory in one training update, against steps, for each way back through
inference: batch 200, 256 pixels, K = 512, fista-unrolled.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from benchmarks.apart import growth, measured
from benchmarks.figures import Line, exactly, lines_figure
from benchmarks.machine import Setup

from itervae.inference import GRADIENTS, FISTAUnrolled, Truncate, infer
from itervae.model import PoissonVAESettings, build_model

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STEPS = (20, 100, 300, 1000)
BATCH, SIDE, LATENTS, KEPT = 200, 16, 512, 5


def run(setup: Setup) -> Iterator[dict[str, Any]]:
    for name in GRADIENTS:
        for steps in STEPS[:2] if setup.quick else STEPS:
            taken = measured("memory", "update", name, steps, device=setup.device)
            what = f"{name}, {KEPT} steps kept" if name == "truncate" else name
            yield {"suite": "memory", "what": what, "steps": steps, "peak MB": taken / 1e6}


def update(name: str, steps: int, device: str) -> int:
    """Bytes that one update adds to the peak."""
    model = build_model(PoissonVAESettings(latents=LATENTS), (SIDE, SIDE), 0).to(device)
    x = torch.randn(BATCH, SIDE * SIDE, generator=torch.Generator().manual_seed(0)).to(device)
    gradient = Truncate(KEPT) if name == "truncate" else GRADIENTS[name]()

    def once(steps: int, x: torch.Tensor) -> None:
        found = infer(model, FISTAUnrolled(steps), x, gradient=gradient)
        model.free_energy(x, found.posterior).total.mean().backward()

    once(2, x[:2])
    return growth(lambda: once(steps, x), device)


def figure(rows: list[dict[str, Any]]) -> "Figure":
    names = dict.fromkeys(row["what"] for row in rows)
    lines = [
        Line(name, [row["steps"] for row in found], [exactly(row["peak MB"]) for row in found])
        for name in names
        if (found := [row for row in rows if row["what"] == name])
    ]
    return lines_figure({"one training update": lines}, "inference steps", "growth of the peak (MB)")
