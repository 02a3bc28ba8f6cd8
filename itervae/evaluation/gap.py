"""The amortization gap, certified: F(engine) − F*, per datum, in nats.

For a linear decoder under a Gaussian likelihood the free energy is strictly convex in the Poisson rates, so the best
posterior of the family is unique; `optimal` finds it and the duality gap proves it (see `PoissonEnergy.certificate`).
Engines run in the precision of the model; everything is scored in float64. The gap that others estimate (Cremer, Li &
Duvenaud 2018, "Inference suboptimality in variational autoencoders") is here exact to the certificate.
"""

import copy
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from itervae.distributions import RelaxedPoisson
from itervae.errors import InputError
from itervae.evaluation.marginal import MarginalReport, marginal_likelihood
from itervae.inference import Engine, Optimal, infer
from itervae.model import GenerativeModel

SCHEMA = 1
"""Version of the JSON report."""
BATCH = 1000
APPROXIMATION = "approximation"
"""What `advance` is told while the marginal likelihood is estimated."""


@dataclass(frozen=True)
class OptimalReport:
    """The best posterior: F* in nats, what its certificate says, and what it cost."""

    free_energy_mean: float
    certificate_max: float
    certificate_mean: float
    not_certified: int
    """Data whose certificate is above the tolerance."""
    steps: int
    seconds: float


@dataclass(frozen=True)
class EngineGap:
    """One engine against the best posterior. Gaps in nats per datum; `gap_se` is the standard error of the mean. All
    statistics are over the data whose free energy is finite; `non_finite` counts the others."""

    steps: int
    free_energy_mean: float
    gap_mean: float
    gap_se: float
    gap_median: float
    gap_p99: float
    gap_max: float
    share_above_1_nat: float
    non_finite: int
    seconds_per_1000: float
    reconstruction_mean: float
    kl_mean: float
    spikes_mean: float
    trace: list[float] | None = None
    """Mean gap before the first step and after each, where a trace was asked for."""


@dataclass(frozen=True)
class ApproximationReport(MarginalReport):
    """The bounds of −log p(x) with the best posterior as proposal, and the approximation gap F* − (−log p(x)), nats,
    from the last of them: a lower bound, since the last bound is still above −log p(x)."""

    gap_mean: float
    gap_se: float


@dataclass(frozen=True)
class GapReport:
    """The report of `amortization_gap`; `arrays` holds free energies and certificates per datum."""

    num: int
    observation_variance: float
    beta: float
    optimal: OptimalReport
    engines: dict[str, EngineGap]
    arrays: dict[str, Tensor] = field(repr=False)
    approximation: ApproximationReport | None = None

    def to_dict(self, data: str) -> dict[str, Any]:
        """The JSON report, schema 1: plain values, `data` naming what was measured on."""
        engines = {name: {k: v for k, v in asdict(gap).items() if v is not None} for name, gap in self.engines.items()}
        return {
            "schema": SCHEMA,
            "data": data,
            "num": self.num,
            "observation_variance": self.observation_variance,
            "beta": self.beta,
            "optimal": asdict(self.optimal),
            "engines": engines,
            "approximation": None if self.approximation is None else asdict(self.approximation),
        }


@torch.no_grad()
def amortization_gap(
    model: GenerativeModel,
    engines: Mapping[str, tuple[Engine, int | None]],
    x: Tensor,
    *,
    tolerance: float = 1e-6,
    trace: bool = False,
    approximation: bool = False,
    seed: int = 0,
    advance: Callable[[str, int], None] = lambda what, count: None,
) -> GapReport:
    """Measure how far each engine's posterior is from the best one.

    Args:
        model: a generative model with a linear decoder and a Gaussian likelihood.
        engines: name → (engine, number of steps; its own default where None).
        x: data (N, D), on the device of the model.
        tolerance: certificate of F* in nats, per datum.
        trace: also give the mean gap after every step.
        approximation: also give the approximation gap (β = 1 only).
        seed: of engines that sample.
        advance: called with what has been done and for how many data, for a progress bar.

    Raises:
        InputError: no data, data that do not fit, or a model whose optimum cannot be proved.
    """
    if "Poisson family" not in model.capabilities:
        raise InputError(
            "the amortization gap is one of a posterior, and sparse coding has none; measure a Poisson model of its "
            "dictionary (itervae export)"
        )
    if not model.exact:
        raise InputError(
            f"the gap of a model with a {type(model.decoder).__name__} under a {type(model.likelihood).__name__} "
            "cannot be proved; expected a linear decoder and a Gaussian likelihood"
        )
    if len(x) == 0:
        raise InputError("there are no data to measure on; expected at least one row")
    scorer = copy.deepcopy(model).double()

    def score(log_rate: Tensor, batch: Tensor) -> Any:
        return scorer.free_energy(batch.double(), RelaxedPoisson(log_rate.double()))

    started = time.perf_counter()
    best, rates, certificates, steps = [], [], [], 0
    for batch in x.split(BATCH):
        found = infer(model, Optimal(tolerance=tolerance), batch.double())
        rates.append(found.posterior.log_rate)
        best.append(score(found.posterior.log_rate, batch).total)
        certificates.append(found.stats["certificate"])
        steps = max(steps, int(found.stats["steps"].max()))
        advance("optimal", len(batch))
    optimum, certificate = torch.cat(best), torch.cat(certificates)
    optimal = OptimalReport(
        optimum.mean().item(),
        certificate.max().item(),
        certificate.mean().item(),
        int((~(certificate <= tolerance)).sum()),
        steps,
        time.perf_counter() - started,
    )

    arrays = {"free_energy_optimal": optimum, "certificate": certificate}
    gaps = {}
    for name, (engine, number) in engines.items():
        number = engine.steps if number is None else number
        columns: dict[str, list[Tensor]] = {}
        traces: list[Tensor] = []
        seconds = 0.0
        for batch in x.split(BATCH):
            generator = torch.Generator(x.device).manual_seed(seed)
            if not columns:  # the first call of an engine pays for what the later ones find ready
                infer(model, engine, batch, steps=number, generator=generator)
            _synchronize(x)
            begun = time.perf_counter()
            log_rate = infer(model, engine, batch, steps=number, generator=generator).posterior.log_rate
            _synchronize(x)
            seconds += time.perf_counter() - begun
            energy = score(log_rate, batch)
            for label, value in (
                ("total", energy.total),
                ("reconstruction", energy.reconstruction),
                ("kl", energy.kl),
                ("spikes", log_rate.double().exp().sum(-1)),
            ):
                columns.setdefault(label, []).append(value)
            if trace and number:
                generator.manual_seed(seed)
                traces.append(_trace(model, engine, batch, number, score, generator))
            advance(name, len(batch))
        joined = {label: torch.cat(values) for label, values in columns.items()}
        gap = joined["total"] - optimum
        fine = gap.isfinite()
        arrays[f"free_energy {name}"] = joined["total"]
        gaps[name] = EngineGap(
            number,
            joined["total"][fine].mean().item(),
            *_statistics(gap),
            1000 * seconds / len(x),
            joined["reconstruction"][fine].mean().item(),
            joined["kl"][fine].mean().item(),
            joined["spikes"][fine].mean().item(),
            (torch.cat(traces, 1) - optimum).mean(1).tolist() if traces else None,
        )
    beyond = None
    if approximation:
        proposal = RelaxedPoisson(torch.cat(rates).to(x.dtype))
        marginal, bounds = marginal_likelihood(
            model, x, proposal, seed=seed, advance=lambda n: advance(APPROXIMATION, n)
        )
        gap = optimum - bounds[-1]
        beyond = ApproximationReport(**vars(marginal), gap_mean=gap.mean().item(), gap_se=_standard_error(gap))
        arrays["marginal"] = bounds[-1]
    likelihood: Any = model.likelihood
    return GapReport(len(x), likelihood.variance.item(), model.beta.item(), optimal, gaps, arrays, beyond)


def _statistics(gap: Tensor) -> tuple[float, float, float, float, float, float, int]:
    """Mean, standard error, median, p99, max, share above 1 nat over finite gaps; the number of others."""
    finite = gap[gap.isfinite()]
    if not len(finite):
        return (float("nan"),) * 6 + (len(gap),)  # pyright: ignore[reportReturnType]
    return (
        finite.mean().item(),
        _standard_error(finite),
        finite.median().item(),
        finite.quantile(0.99).item(),
        finite.max().item(),
        (finite > 1).double().mean().item(),
        len(gap) - len(finite),
    )


def _standard_error(values: Tensor) -> float:
    return values.std().item() / len(values) ** 0.5 if len(values) > 1 else float("nan")


def _trace(
    model: GenerativeModel,
    engine: Engine,
    x: Tensor,
    steps: int,
    score: Callable[[Tensor, Tensor], Any],
    generator: torch.Generator,
) -> Tensor:
    """Free energy (steps + 1, B) before the first step and after each, scored in float64.

    One step at a time, the state handed over, which is the same as all at once.
    """
    result = infer(model, engine, x, steps=0, generator=generator)
    values = [score(result.posterior.log_rate, x).total]
    for _ in range(steps):
        result = infer(model, engine, x, steps=1, state=result.state, generator=generator)
        values.append(score(result.posterior.log_rate, x).total)
    return torch.stack(values)


def _synchronize(x: Tensor) -> None:
    if x.is_cuda:
        torch.cuda.synchronize(x.device)
