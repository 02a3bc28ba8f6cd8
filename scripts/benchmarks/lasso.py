"""Sparse coding to a true primal-dual gap, against scikit-learn: ours and theirs, recomputed here in float64."""

import statistics
from collections.abc import Iterator
from functools import partial

import numpy as np
import torch
from benchmarks.timing import alternate
from sklearn.decomposition import sparse_encode

from itervae.inference import FISTAUnrolled, LCAUnrolled, infer
from itervae.model import SparseCodingSettings, build_model

SIZE, LATENTS, BATCH = 256, 512, 500
TOLERANCES = (1e-2, 1e-4, 1e-6)
THRESHOLDS = {"about 3% active": 1.4, "about 10% active": 0.5}


def run(device: str, rounds: int, quick: bool) -> Iterator[dict[str, object]]:
    """One row for each sparsity, sign and tolerance: milliseconds of each side, and the share of active units."""
    generator = torch.Generator().manual_seed(0)
    atoms = torch.nn.functional.normalize(torch.randn(SIZE, LATENTS, generator=generator), dim=0)
    active = (torch.rand(BATCH, LATENTS, generator=generator) < 0.04) * torch.randn(BATCH, LATENTS, generator=generator)
    noise = 0.3 * torch.randn(BATCH, SIZE, generator=generator)
    for label, threshold in THRESHOLDS.items():
        for signed in (False, True):
            x = (4 * (active if signed else active.abs()) @ atoms.mT + noise).to(device)
            settings = SparseCodingSettings(latents=LATENTS, threshold=threshold, shrinkage="soft", signed=signed)
            model = build_model(settings, (SIZE,), 0).requires_grad_(False).to(device)
            with torch.no_grad():
                model.dictionary.copy_(atoms)
            theirs, best = _sklearn(x, atoms, threshold, signed)
            for tolerance in TOLERANCES[:2] if quick else TOLERANCES:
                sides = {"scikit-learn cd": theirs}
                steps = {}
                for kind in (LCAUnrolled, FISTAUnrolled):
                    needed = _steps_to(model, kind, x, atoms, threshold, signed, tolerance)
                    if needed is not None:
                        steps[kind.__name__] = needed
                        sides[kind.__name__] = partial(_solve, model, kind(needed), x)
                times = alternate(sides, rounds, device)
                yield {
                    "suite": "lasso",
                    "what": f"{label}, {'signed' if signed else 'non-negative'}",
                    "gap": tolerance,
                    "active": float((best != 0).mean()),
                    "steps": steps,
                    "ms": {name: 1e3 * statistics.median(found) for name, found in times.items()},
                }


def _solve(model, engine, x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return infer(model, engine, x).posterior.mean


def _sklearn(x: torch.Tensor, atoms: torch.Tensor, threshold: float, signed: bool):
    """Coordinate descent; its alpha is λ, its objective ½‖x − Φa‖² + λ‖a‖₁."""
    data, dictionary = x.double().cpu().numpy(), np.ascontiguousarray(atoms.double().numpy().T)

    def solve() -> np.ndarray:
        options = {"algorithm": "lasso_cd", "alpha": threshold, "positive": not signed, "max_iter": 1000}
        return sparse_encode(data, dictionary, **options)

    return solve, solve()


def largest_gap(x, atoms, a, threshold: float, signed: bool) -> float:
    """Largest duality gap over data, float64: P(a) − D(ν), with ν = s(x − Φa) scaled into the dual's constraints."""
    x, atoms, a = (value.double() for value in (x, atoms.to(x.device), a))
    residual = x - a @ atoms.mT
    inner = residual @ atoms
    most = (inner.abs() if signed else inner).amax(1).clamp_min(threshold)
    dual_point = residual * (threshold / most)[:, None]
    primal = 0.5 * residual.square().sum(1) + threshold * a.abs().sum(1)
    dual = 0.5 * x.square().sum(1) - 0.5 * (x - dual_point).square().sum(1)
    return float((primal - dual).max())


def _steps_to(model, kind, x, atoms, threshold, signed, tolerance) -> int | None:
    """Fewest steps, by multiples of 10, after which every gap is below the tolerance; None beyond 1000."""
    state, done = None, 0
    while done < 1000:
        with torch.no_grad():
            found = infer(model, kind(10), x, state=state)
        state, done = found.state, done + 10
        if largest_gap(x, atoms, found.posterior.mean, threshold, signed) <= tolerance:
            return done
    return None
