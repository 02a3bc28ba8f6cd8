"""An iteration of each solver over the bare matrix products in it, K from 512 to 4096 and batches
from 1 to 65536; and seconds per 1000 data until every datum has its certificate. `over the device`:
over the larger of two floors, the products at the device's speed in float32 and the engine's state
read and written once at its bandwidth. Steps without gradient are compiled code, by numba on a CPU
and by Triton on a GPU; `in tensors` are the same steps without it, `compiled` those by
torch.compile.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from benchmarks.figures import Point, ratios_figure
from benchmarks.machine import Setup, achieved
from benchmarks.problems import random_problem, real_problem, steps_in_tensors
from benchmarks.timing import alternate, ratio, spread

from itervae.inference import (
    Engine,
    FISTAUnrolled,
    ISTAUnrolled,
    LCAUnrolled,
    LinearEnergy,
    Optimal,
    certificate,
    compile_steps,
    infer,
)
from itervae.inference.problem import Problem
from itervae.model import GenerativeModel

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STEPS = 20
CELLS = [(512, 1), (512, 64), (512, 1024), (512, 16384), (512, 65536), (1024, 1024), (2048, 1024), (4096, 1024)]
KINDS = {LCAUnrolled: 11, ISTAUnrolled: 9, FISTAUnrolled: 13}
"""Arrays (B, K) that a step reads and writes: u, mean, smooth and ∂E/∂μ, velocities, each both
ways, and the drive."""
TOLERANCES = (1e-2, 1e-3, 1e-4, 1e-6)
LATENTS, DATA = 512, 1000
ITERATION, CERTIFICATE = "an iteration over its matrix products", "all data certified, over Optimal"


def run(setup: Setup) -> Iterator[dict[str, Any]]:
    torch._dynamo.config.recompile_limit = 64  # by default the steps of later cells would stay as they are
    for latents, batch in [cell for cell in CELLS if not setup.quick or cell[0] * cell[1] <= 512 * 1024]:
        yield from _iterations(latents, batch, setup)
    yield from _certificates(setup)


def _iterations(latents: int, batch: int, setup: Setup) -> Iterator[dict[str, Any]]:
    """A row an engine."""
    model, x = random_problem(latents, batch)
    model, x = model.to(setup.device), x.to(setup.device)
    problem = Problem(model, x, model.prior())
    gram = isinstance(problem.energy, LinearEnergy) and problem.energy.quadratic.gram is not None
    rates = model.prior().rate.detach().expand(batch, -1).contiguous()
    matrix = model.dictionary.detach()
    square = matrix.mT @ matrix if gram else None
    del problem

    def products() -> None:
        for _ in range(STEPS):
            _ = rates @ square if square is not None else (rates @ matrix.mT) @ matrix

    sides: dict[str, Callable[[], object]] = {"products": products}
    kinds = {}
    for kind in KINDS:
        name = kind.__name__
        kinds[name], sides[name] = kind, partial(_solve, model, kind(STEPS), x)
        name = f"{kind.__name__}, in tensors"
        kinds[name], sides[name] = kind, partial(_solve_in_tensors, model, kind(STEPS), x)
        if kind is LCAUnrolled or (setup.device == "cpu" and not setup.quick):  # compiling takes a GPU minutes
            name = f"{kind.__name__}, compiled"
            kinds[name], sides[name] = kind, partial(_solve_in_tensors, model, compile_steps(kind(STEPS)), x)
    times = alternate(sides, setup.rounds, setup.device)
    operations = 2.0 * batch * latents * latents if gram else 4.0 * batch * latents * len(matrix)
    for name, kind in kinds.items():
        moved = 4.0 * (KINDS[kind] * batch * latents + (latents**2 if gram else 2 * matrix.numel()))
        each = [value / STEPS for value in times[name]]
        yield {
            "suite": "solve",
            "part": ITERATION,
            "what": name,
            "K": latents,
            "batch": batch,
            "ms": spread(each, 1e3),
            "over its products": ratio(times, name, "products"),
            **achieved(each, moved, operations, setup),
            "rounds": len(each),
        }


def _certificates(setup: Setup) -> Iterator[dict[str, Any]]:
    """A row for each engine and tolerance, with the fewest steps that reach it."""
    found = real_problem(DATA)
    model, x = found or random_problem(LATENTS, DATA)
    model, x = model.to(setup.device), x.to(setup.device)
    for tolerance in TOLERANCES[:2] if setup.quick else TOLERANCES:
        sides: dict[str, Callable[[], object]] = {"Optimal": partial(_solve, model, Optimal(tolerance=tolerance), x)}
        steps = {}
        for kind in (LCAUnrolled, FISTAUnrolled):
            needed = _steps_to(model, kind, x, tolerance)
            if needed is not None:
                steps[kind.__name__] = needed
                sides[kind.__name__] = partial(_solve, model, kind(needed), x)
        times = alternate(sides, setup.rounds, setup.device)
        for name, seconds in times.items():
            yield {
                "suite": "solve",
                "part": CERTIFICATE,
                "what": f"{name} to {tolerance:g} nats, {'learned' if found else 'random'} dictionary",
                "K": LATENTS,
                "batch": DATA,
                "steps": steps.get(name),
                "s per 1000": spread(seconds, 1e3 / DATA),
                "over Optimal": ratio(times, name, "Optimal"),
                "rounds": len(seconds),
                "detail": {"engine": name, "tolerance": tolerance},
            }


@torch.no_grad()
def _solve(model: GenerativeModel, engine: Engine, x: torch.Tensor) -> None:
    infer(model, engine, x)


def _solve_in_tensors(model: GenerativeModel, engine: Engine, x: torch.Tensor) -> None:
    """Without compiled code."""
    with steps_in_tensors():
        _solve(model, engine, x)


def _steps_to(model: GenerativeModel, kind, x: torch.Tensor, tolerance: float) -> int | None:
    """Fewest steps after which every certificate is below the tolerance, by multiples of 5; None
    beyond 200. In float32 a certificate is known to some 1e-5 nats, and 1e-6 may never be seen."""
    state, done = None, 0
    while done < 200:
        with torch.no_grad():
            found = infer(model, kind(5), x, state=state)
        state, done = found.state, done + 5
        if bool((certificate(model, x, found.posterior) <= tolerance).all()):
            return done
    return None


def figure(rows: list[dict[str, Any]]) -> "Figure":
    panels: dict[str, list[Point]] = {}
    for row in rows:
        if row["part"] == ITERATION:
            name, _, how = row["what"].partition(", ")
            if how == "compiled":
                continue
            point = Point(f"K {row['K']}, batch {row['batch']}", name, row["over its products"], hollow=bool(how))
        else:
            detail = row["detail"]
            point = Point(f"to {detail['tolerance']:g} nats", detail["engine"], row["over Optimal"])
        panels.setdefault(row["part"], []).append(point)
    return ratios_figure(panels, "ratio of times", "hollow: steps in tensors")
