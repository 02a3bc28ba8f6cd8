"""The best posterior of each datum: proved where the free energy has a closed form, estimated
elsewhere."""

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from itervae.evaluation.checks import batches
from itervae.evaluation.estimate import estimate_optimum, scored_free_energy
from itervae.inference import LCAUnrolled, Optimal, infer
from itervae.model import FreeEnergy, GenerativeModel
from itervae.showing import Shown

LONG = 200
"""Steps of the LCA that an estimate starts from."""
PERTURBATION = 1.0
"""Standard deviation of the perturbed start, in log-rate or the unit of the other parameters."""


@dataclass(frozen=True, repr=False)
class OptimalReport(Shown):
    """The best posterior: F* in nats, how it is known, and what it cost.

    `method` is "certified" or "estimate". Certificates (nats) are None for an estimate;
    `not_certified` counts the data whose certificate is above the tolerance. `spread_mean` and
    `spread_max` (nats) are the distance between the highest and the lowest of the improved starts
    of an estimate, over data, and `won` the share of data that each start won.
    """

    method: str
    free_energy_mean: float
    certificate_max: float | None
    certificate_mean: float | None
    not_certified: int
    steps: int
    seconds: float
    spread_mean: float | None = None
    spread_max: float | None = None
    won: dict[str, float] | None = None


@dataclass(frozen=True)
class Optimum:
    """The best posterior of each datum: parameters u (N, P), free energy (N,) in nats, and the
    arrays to be saved."""

    report: OptimalReport
    u: Tensor
    free_energy: Tensor
    arrays: dict[str, Tensor]


def joined(parts: Sequence[Optimum]) -> Optimum:
    """The optima of all data, from those of parts of them; u is of the first alone, as latents may
    be as many as there are sizes."""
    if len(parts) == 1:
        return parts[0]
    arrays = {name: torch.cat([part.arrays[name] for part in parts]) for name in parts[0].arrays}
    value, first, reports = arrays["free_energy_optimal"].double(), parts[0].report, [part.report for part in parts]
    shares = [len(part.free_energy) / len(value) for part in parts]
    certificate, spread = arrays.get("certificate"), arrays.get("spread")
    won = None
    if first.won is not None:
        won = {name: sum(s * (r.won or {})[name] for s, r in zip(shares, reports, strict=True)) for name in first.won}
    report = OptimalReport(
        first.method,
        value.mean().item(),
        None if certificate is None else certificate.max().item(),
        None if certificate is None else certificate.mean().item(),
        sum(report.not_certified for report in reports),
        max(report.steps for report in reports),
        sum(report.seconds for report in reports),
        None if spread is None else spread.double().mean().item(),
        None if spread is None else spread.max().item(),
        won,
    )
    return Optimum(report, parts[0].u, arrays["free_energy_optimal"], arrays)


class Scorer:
    """The free energy of parameters u under a model: in float64 where it is exact, else the mean of
    100 draws."""

    def __init__(self, model: GenerativeModel, seed: int) -> None:
        self.model = copy.deepcopy(model).double() if model.exact else model
        self._generator = torch.Generator(model.beta.device).manual_seed(seed)

    def __call__(self, u: Tensor, x: Tensor) -> FreeEnergy:
        dtype = self.model.beta.dtype
        return scored_free_energy(self.model, x.to(dtype), u.to(dtype), self._generator)


def certified_optimum(
    model: GenerativeModel, x: Tensor, score: Scorer, tolerance: float, advance: Callable[[int], None]
) -> Optimum:
    """The certified optimum of each datum (`Optimal`), for a model that it fits."""
    started = time.perf_counter()
    answers, values, certificates, steps = [], [], [], 0
    for batch in batches(model, x):
        found = infer(model, Optimal(tolerance=tolerance), batch.double())
        answers.append(found.posterior.u)
        values.append(score(found.posterior.u, batch).total)
        certificates.append(found.stats["certificate"])
        steps = max(steps, int(found.stats["steps"].max()))
        advance(len(batch))
    value, certificate = torch.cat(values), torch.cat(certificates)
    report = OptimalReport(
        "certified",
        value.mean().item(),
        certificate.max().item(),
        certificate.mean().item(),
        int((~(certificate <= tolerance)).sum()),
        steps,
        time.perf_counter() - started,
    )
    return Optimum(report, torch.cat(answers), value, {"free_energy_optimal": value, "certificate": certificate})


def estimated_optimum(
    model: GenerativeModel, x: Tensor, answers: Mapping[str, Tensor], seed: int, advance: Callable[[int], None]
) -> Optimum:
    """The best of several starts: the prior, a long run of the LCA where it fits, a perturbation of
    that, and the engines' `answers`."""
    started = time.perf_counter()
    generator = torch.Generator(x.device).manual_seed(seed)
    prior = model.prior().u.to(x.dtype).expand(len(x), -1)  # pyright: ignore[reportAttributeAccessIssue]
    starts, solved, steps = {"prior": prior}, prior, 0
    if LCAUnrolled.requires <= model.capabilities:
        engine, steps = LCAUnrolled(), LONG
        parts = [infer(model, engine, b, steps=steps, generator=generator).posterior.u for b in batches(model, x)]
        starts["lca"] = solved = torch.cat(parts)
    noise = torch.randn(solved.shape, device=x.device, dtype=x.dtype, generator=generator)
    starts["perturbed"] = solved + PERTURBATION * noise
    starts |= {name: found.where(found.isfinite().all(-1, keepdim=True), prior) for name, found in answers.items()}
    found = estimate_optimum(model, x, starts, seed, advance)
    report = OptimalReport(
        "estimate",
        found.free_energy.double().mean().item(),
        None,
        None,
        len(x),
        steps,
        time.perf_counter() - started,
        found.spread.double().mean().item(),
        found.spread.max().item(),
        found.won,
    )
    arrays = {"free_energy_optimal": found.free_energy, "spread": found.spread}
    return Optimum(report, found.u, found.free_energy, arrays)
