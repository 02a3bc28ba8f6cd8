"""A frame of `itervae.filter_step` with each carryover over `infer` of that frame by itself, with
the same engine: lca- unrolled, 10 steps, K = 512, batch 200, 16 frames. And what a stream of 1000
frames keeps, in a process of its own: the state, and the growth of the peak of memory since the
first of its ten parts.
"""

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from benchmarks.apart import measured, peak
from benchmarks.figures import Point, ratios_figure
from benchmarks.machine import Setup
from benchmarks.problems import random_problem
from benchmarks.timing import alternate, ratio, spread
from torch import Tensor

from itervae.inference import LCAUnrolled, infer
from itervae.model import GenerativeModel
from itervae.sequence import CARRYOVERS, Adaptive, Carryover, filter_step

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LATENTS, BATCH, FRAMES, STEPS = 512, 200, 16, 10
STREAM, STREAM_BATCH = 1000, 16
ALONE = "no carryover: infer"


def run(setup: Setup) -> Iterator[dict[str, Any]]:
    model, x = random_problem(LATENTS, BATCH)
    model = model.to(setup.device)
    x = x.to(setup.device)
    change = 0.1 * torch.randn(FRAMES, *x.shape, generator=torch.Generator().manual_seed(1)).to(x)
    frames = list(x + change.cumsum(0))
    sides = {ALONE: partial(_alone, model, frames)}
    for name, make in CARRYOVERS.items():
        sides[name] = partial(_filtered, model, frames, make(LATENTS).requires_grad_(False).to(setup.device))
    times = alternate(sides, setup.rounds, setup.device)
    for name, seconds in times.items():
        yield {
            "suite": "sequence",
            "part": "a frame",
            "what": name,
            "ms per frame": spread(seconds, 1e3 / FRAMES),
            "ms per step": spread(seconds, 1e3 / FRAMES / STEPS),
            "over infer": ratio(times, name, ALONE),
            "rounds": len(seconds),
        }
    frames = STREAM // 10 if setup.quick else STREAM
    for frame, state, growth in measured("sequence", "stream", frames, device=setup.device):
        yield {
            "suite": "sequence",
            "part": "a stream",
            "what": f"{frame} frames",
            "state KB": state,
            "peak MB": growth,
        }


@torch.no_grad()
def _alone(model: GenerativeModel, frames: list[Tensor]) -> None:
    for x in frames:
        infer(model, LCAUnrolled(STEPS), x)


@torch.no_grad()
def _filtered(model: GenerativeModel, frames: list[Tensor], carryover: Carryover) -> None:
    state = None
    for x in frames:
        _, _, state = filter_step(model, LCAUnrolled(STEPS), x, carryover, state)


@torch.no_grad()
def stream(frames: int, device: str) -> list[tuple[int, float, float]]:
    """Frames so far, KB of the state, and MB by which the peak has grown since a tenth of the
    frames."""
    model = random_problem(LATENTS, 1)[0].to(device)
    engine, carryover = LCAUnrolled(STEPS), Adaptive(LATENTS).requires_grad_(False).to(device)
    generator = torch.Generator().manual_seed(0)
    state, found, first = None, [], 0
    for frame in range(1, frames + 1):
        x = torch.randn(STREAM_BATCH, model.size, generator=generator).to(device)
        _, _, state = filter_step(model, engine, x, carryover, state)
        if frame % (frames // 10) == 0:
            kept = sum(value.numel() * value.element_size() for value in state.to_dict().values())
            reached = peak(device)
            first = first or reached
            found.append((frame, kept / 1e3, (reached - first) / 1e6))
    return found


def figure(rows: list[dict[str, Any]]) -> "Figure":
    found = [row for row in rows if row["part"] == "a frame" and row["what"] != ALONE]
    points = [Point(row["what"], "", row["over infer"]) for row in found]
    return ratios_figure({"a frame of filtering, by carryover": points}, "time over that of infer by itself")
