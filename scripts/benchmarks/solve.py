"""An iteration of each solver over the bare matrix products in it, and the time to a certificate."""

from collections.abc import Iterator
from functools import partial

import torch
from benchmarks.timing import alternate, ratio

from itervae.inference import (
    Engine,
    FISTAUnrolled,
    ISTAUnrolled,
    LCAUnrolled,
    Optimal,
    certificate,
    compile_steps,
    infer,
)
from itervae.inference.problem import Problem
from itervae.model import GenerativeModel, PoissonVAESettings, build_model

STEPS = 20
CELLS = [(512, 1), (512, 64), (512, 1024), (512, 16384), (1024, 1024), (2048, 1024), (4096, 1024)]
TOLERANCES = (1e-2, 1e-4, 1e-6)
CERTIFIED = (512, 1000)


def run(device: str, rounds: int, quick: bool) -> Iterator[dict[str, object]]:
    """One row a cell: K, batch, engine, ratio to the products; then the times to certificates."""
    for latents, batch in [cell for cell in CELLS if not quick or cell[0] * cell[1] <= 512 * 1024]:
        model, x = _problem(latents, batch, device)
        problem = Problem(model, x, model.prior())
        gram = getattr(problem.energy, "_gram", None) is not None
        rates = model.prior().rate.detach().expand(batch, -1).contiguous()
        matrix = model.dictionary.detach()
        square = matrix.mT @ matrix if gram else None

        def products(rates=rates, matrix=matrix, square=square) -> None:
            for _ in range(STEPS):
                _ = rates @ square if square is not None else (rates @ matrix.mT) @ matrix

        sides = {"products": products}
        for kind in (LCAUnrolled, ISTAUnrolled, FISTAUnrolled):
            sides[kind.__name__] = partial(_solve, model, kind(STEPS), x)
            sides[f"{kind.__name__}, compiled"] = partial(_solve, model, compile_steps(kind(STEPS)), x)
        times = alternate(sides, rounds if latents * batch <= 2**20 else max(2, rounds // 3), device)
        for name in list(sides)[1:]:
            yield {
                "suite": "solve",
                "what": name,
                "K": latents,
                "batch": batch,
                "ms per iteration": 1e3 * min(times[name]) / STEPS,
                "over its products": ratio(times, name, "products"),
            }
    yield from _certificates(device, rounds)


def _certificates(device: str, rounds: int) -> Iterator[dict[str, object]]:
    """Seconds until every datum of a batch has its certificate, with the fewest steps that do."""
    latents, batch = CERTIFIED
    model, x = _problem(latents, batch, device)
    for tolerance in TOLERANCES:
        sides = {"Optimal": lambda tolerance=tolerance: infer(model, Optimal(tolerance=tolerance), x)}
        steps = {"Optimal": None}
        for kind in (LCAUnrolled, FISTAUnrolled):
            needed = _steps_to(model, kind, x, tolerance)
            if needed is None:
                continue
            steps[kind.__name__] = needed
            sides[kind.__name__] = partial(_solve, model, kind(needed), x)
        times = alternate(sides, rounds, device)
        for name, found in times.items():
            yield {
                "suite": "solve",
                "what": f"{name} to {tolerance:g} nats",
                "K": latents,
                "batch": batch,
                "steps": steps[name],
                "s per 1000": 1e3 * sorted(found)[len(found) // 2] / batch,
            }


@torch.no_grad()
def _solve(model: GenerativeModel, engine: Engine, x: torch.Tensor) -> None:
    infer(model, engine, x)


def _steps_to(model: GenerativeModel, kind, x: torch.Tensor, tolerance: float) -> int | None:
    """Fewest steps after which every certificate is below the tolerance, by multiples of 5; None beyond 200. In
    float32 a certificate is known to some 1e-5 nats, and 1e-6 may never be seen."""
    state, done = None, 0
    while done < 200:
        with torch.no_grad():
            found = infer(model, kind(5), x, state=state)
        state, done = found.state, done + 5
        if bool((certificate(model, x, found.posterior) <= tolerance).all()):
            return done
    return None


def _problem(latents: int, batch: int, device: str) -> tuple[GenerativeModel, torch.Tensor]:
    """A random dictionary of twice as many atoms as pixels, and data drawn from its model: some 20 active."""
    generator = torch.Generator().manual_seed(0)
    model = build_model(PoissonVAESettings(latents=latents), (latents // 2,), 0).requires_grad_(False)
    with torch.no_grad():
        model.prior.log_rate.copy_(torch.randn(latents, generator=generator) - 0.5 - torch.tensor(latents / 20).log())
    counts = torch.poisson(model.prior().rate.expand(batch, -1), generator=generator)
    noise = model.likelihood.variance.sqrt() * torch.randn(batch, latents // 2, generator=generator)
    x = 3 * counts @ model.dictionary.mT + noise
    return model.to(device), x.to(device)
