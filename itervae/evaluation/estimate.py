"""The best posterior where it cannot be proved: an estimate, by several starts.

For a decoder that is not linear, or a Bernoulli likelihood, F has no closed form and may have
several minima. Each start is improved by Adam (Kingma & Ba 2015) on F itself, in closed form where
it has one, else by relaxed samples whose temperature falls; per datum the best of all starts, as
given and improved, is kept. It is chosen on one set of integer samples and scored on another, so
that choosing does not flatter it. The answer is an upper bound of F*, up to sampling noise; how far
the improved starts lie apart says how much to trust it.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from itervae.model import FreeEnergy, GenerativeModel

STEPS, EXACT_STEPS = 150, 600
LR = 0.1
SAMPLES = 4
"""Relaxed samples per datum and step."""
SCORING = 100
"""Samples per datum that a free energy is measured with."""
BATCH = 250
DECODED = 2000
"""Samples decoded at once when a free energy is measured: networks need memory for each."""
FIRST_TEMPERATURE, LAST_TEMPERATURE = 1.0, 0.3


@dataclass(frozen=True)
class Estimate:
    """Parameters `u` (N, P) of the best start of each datum and `free_energy` (N,) there, nats;
    `spread` (N,), the distance between the highest and the lowest of the improved starts, nats;
    `won`, the share of data that each start won, as given or improved."""

    u: Tensor
    free_energy: Tensor
    spread: Tensor
    won: dict[str, float]


def estimate_optimum(
    model: GenerativeModel,
    x: Tensor,
    starts: Mapping[str, Tensor],
    seed: int = 0,
    advance: Callable[[int], None] = lambda count: None,
) -> Estimate:
    """Estimate the posterior of least free energy.

    Args:
        model: generative model, any family, decoder and likelihood; its parameters stay as they
            are.
        x: data (N, D).
        starts: by name, parameters u (N, P) to start from (log-rates of a Poisson).
        seed: of the samples.
        advance: called with the number of data done.
    """
    generator = torch.Generator(x.device).manual_seed(seed)
    best, spread, chosen = [], [], []
    for rows in torch.arange(len(x), device=x.device).split(BATCH):
        given = [start[rows] for start in starts.values()]
        improved = [_descend(model, x[rows], start, generator) for start in given]
        values = torch.stack([scored_free_energy(model, x[rows], u, generator).total for u in (*improved, *given)])
        winner = values.argmin(0)  # of (2 · starts, B)
        chosen.append(winner % len(starts))
        best.append(torch.stack([*improved, *given])[winner, torch.arange(len(rows), device=x.device)])
        spread.append(values[: len(starts)].amax(0) - values[: len(starts)].amin(0))
        advance(len(rows))
    u = torch.cat(best)
    pairs = zip(x.split(BATCH), u.split(BATCH), strict=True)
    value = torch.cat([scored_free_energy(model, some, found, generator).total for some, found in pairs])
    share = {name: (torch.cat(chosen) == index).double().mean().item() for index, name in enumerate(starts)}
    return Estimate(u, value, torch.cat(spread), share)


@torch.no_grad()
def scored_free_energy(model: GenerativeModel, x: Tensor, u: Tensor, generator: torch.Generator) -> FreeEnergy:
    """F of the posterior with parameters u (N, P): in closed form where it has one, else the mean
    over 100 integer (or exact) draws per datum; inf where nothing can be drawn."""
    if model.exact:
        found = model.free_energy(x, model.posterior(u))
        parts = torch.stack([found.reconstruction, found.kl, found.total])
        return FreeEnergy(*parts.where(parts[2].isfinite(), math.inf))
    drawable = model.posterior(u).drawable
    u = u.where(drawable[:, None], 0.0)
    pieces = []
    for rows in torch.arange(len(x), device=x.device).split(DECODED // SCORING):
        posterior = model.posterior(u[rows], temperature=0.0)
        found = model.free_energy(x[rows], posterior, samples=SCORING, generator=generator)
        pieces.append(torch.stack([found.reconstruction, found.kl, found.total]))
    parts = torch.cat(pieces, 1)
    fine = drawable & parts[2].isfinite()
    return FreeEnergy(*parts.where(fine, math.inf))


def _descend(model: GenerativeModel, x: Tensor, start: Tensor, generator: torch.Generator) -> Tensor:
    """Parameters after Adam on F, each datum on its own.

    Where F is exact, the best of more steps of falling size; else the mean over the second half of
    the steps.
    """
    steps = EXACT_STEPS if model.exact else STEPS
    feasible = model.posterior(start).feasible
    u = feasible(start.detach().clone())
    slow, fast, total = (torch.zeros_like(u) for _ in range(3))
    best, least = u, torch.full_like(u[:, 0], math.inf)
    with torch.enable_grad():
        for step in range(steps):
            temperature = FIRST_TEMPERATURE * (LAST_TEMPERATURE / FIRST_TEMPERATURE) ** (step / steps)
            u.requires_grad_()
            posterior = model.posterior(u, temperature)
            value = model.free_energy(x, posterior, samples=SAMPLES, generator=generator).total
            (slope,) = torch.autograd.grad(value.sum(), u)
            slope = slope.where(slope.isfinite(), 0.0)
            if model.exact:
                better = value < least  # never where it is NaN
                best, least = u.detach().where(better[:, None], best), value.detach().where(better, least)
            # Adam written out, so that parameters of the model get no gradient
            slow = 0.9 * slow + 0.1 * slope
            fast = 0.99 * fast + 0.01 * slope.square()
            scaled = slow / (1 - 0.9 ** (step + 1)) / ((fast / (1 - 0.99 ** (step + 1))).sqrt() + 1e-8)
            u = feasible(u.detach() - LR * scaled * (1 - step / steps if model.exact else 1))
            if step >= steps // 2:
                total += u
    return best if model.exact else total / (steps - steps // 2)
