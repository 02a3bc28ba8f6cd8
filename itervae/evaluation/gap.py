"""The amortization gap: F(engine) − F*, per datum, in nats; certified where the decoder is linear.

For a linear decoder under a Gaussian likelihood the free energy is strictly convex in the Poisson
rates, so the best posterior of the family is unique; `optimal` finds it and the duality gap proves
it (see `PoissonEnergy.certificate`). Engines run in the precision of the model; everything is
scored in float64. The gap that others estimate (Cremer, Li & Duvenaud 2018, "Inference
suboptimality in variational autoencoders") is here exact to the certificate. For other decoders and
likelihoods F* is an estimate, and says so (`itervae.evaluation.estimate`). Gaussian and categorical
posteriors have their optimum in closed form under a linear decoder; Laplace posteriors and
Gaussians under an activation have an estimate.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from itervae.arguments import check_kind, check_positive, check_seed, check_whole
from itervae.distributions import RelaxedPoisson
from itervae.errors import InputError, described
from itervae.evaluation.checks import batches, check_measured, check_varied
from itervae.evaluation.gap_report import ApproximationReport, EngineGap, GapReport, GapTrace
from itervae.evaluation.marginal import marginal_likelihood
from itervae.evaluation.optimum import Scorer, certified_optimum, estimated_optimum, joined
from itervae.inference import Engine, Optimal, infer
from itervae.model import GaussianLikelihood, GenerativeModel

OPTIMAL, APPROXIMATION = "optimal", "approximation"
"""What `advance` is told while the optimum is found, and while the marginal likelihood is
estimated."""


@torch.no_grad()
def amortization_gap(
    model: GenerativeModel,
    engines: Mapping[str, tuple[Engine, int | None]],
    x: Tensor | Sequence[Tensor],
    *,
    tolerance: float = 1e-6,
    trace: bool = False,
    approximation: bool = False,
    seed: int = 0,
    advance: Callable[[str, int], None] = lambda what, count: None,
) -> GapReport:
    """Measure how far each engine's posterior is from the best one.

    Args:
        model: a generative model. The optimum is certified for a linear decoder under a Gaussian
            likelihood and a Poisson, Gaussian or categorical posterior, and for sparse coding with
            a soft threshold, whose energy E stands for F; it is an estimate otherwise.
        engines: name → (engine, number of steps; its own default where None).
        x: data (N, D), on the device of the model; of a convolutional dictionary also (N, *shape),
            or a tuple of such, one of each size.
        tolerance: certificate of F* per datum, nats; of E* in squared units of the data.
        trace: also give the gap after every step.
        approximation: also give the approximation gap (β = 1 only).
        seed: of engines that sample.
        advance: called with what has been done and for how many data, for a progress bar.

    Raises:
        InputError: no data, data that do not fit or are all the same, engines that come without a
            number of steps, or sparse coding with a hard threshold.
    """
    check_kind("engines", engines, Mapping, "a dict of name → (engine, steps), steps None for the engine's own")
    for name, pair in engines.items():
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise InputError(
                f"engines[{name!r}] is {described(pair)}; expected a pair (engine, steps), steps None for the engine's "
                "own"
            )
        if pair[1] is not None:
            check_whole("steps", pair[1])
    parts = [
        check_measured(model, (engine for engine, _ in engines.values()), part)
        for part in (x if isinstance(x, tuple) else (x,))
    ]
    if len(parts) == 1:
        check_varied(parts[0][1])
    check_positive("tolerance", tolerance, " of nats")
    check_seed(seed)
    certifiable = Optimal.requires <= model.capabilities
    if "variational posterior" not in model.capabilities and not certifiable:
        raise InputError(
            "the gap was asked of sparse coding with a hard threshold, whose cost is not convex, so its least energy "
            "cannot be proved; use a soft threshold"
        )
    if approximation and "Poisson family" not in model.capabilities:
        raise InputError(
            f"the approximation gap was asked of a model with a {type(model.prior).__name__}; it is there for the "
            "Poisson family only: leave it out"
        )
    if approximation and len(parts) > 1:
        raise InputError(
            f"the approximation gap was asked of data of {len(parts)} sizes; expected one: measure those of each size "
            "apart, or leave it out"
        )
    runs, optima = [], []
    for fitting, data in parts:
        score = Scorer(fitting, seed)
        found = {
            name: _run(fitting, engine, engine.steps if n is None else n, data, score, trace, seed, name, advance)
            for name, (engine, n) in engines.items()
        }
        if certifiable:
            optima.append(certified_optimum(fitting, data, score, tolerance, lambda n: advance(OPTIMAL, n)))
        else:
            answers = {name: run.columns["u"] for name, run in found.items()}
            optima.append(estimated_optimum(fitting, data, answers, seed, lambda n: advance(OPTIMAL, n)))
        runs.append(found)
    measured, best = {name: _joined([run[name] for run in runs]) for name in engines}, joined(optima)
    gaps = {name: _gap(run, best.free_energy, model.prior.unit) for name, run in measured.items()}
    arrays = best.arrays | {f"free_energy {name}": run.columns["total"] for name, run in measured.items()}
    beyond = None
    if approximation:
        (fitting, data), step = parts[0], lambda n: advance(APPROXIMATION, n)
        proposal = RelaxedPoisson(best.u.to(data.dtype))
        marginal, bounds = marginal_likelihood(fitting, data, proposal, seed=seed, advance=step)
        gap = best.free_energy - bounds[-1]
        beyond = ApproximationReport(**vars(marginal), gap_mean=gap.mean().item(), gap_se=_standard_error(gap))
        arrays["marginal"] = bounds[-1]
    variance = model.likelihood.variance if isinstance(model.likelihood, GaussianLikelihood) else None
    variance = None if variance is None or variance.ndim else variance.item()
    return GapReport(len(best.free_energy), variance, model.beta.item(), best.report, gaps, arrays, beyond)


@dataclass(frozen=True)
class _Run:
    """What an engine answered: per datum (N, …), and how long it took."""

    steps: int
    columns: dict[str, Tensor]
    trace: Tensor | None
    seconds: float
    start_seconds: float


def _joined(runs: Sequence[_Run]) -> _Run:
    """The answers for all data, from those for parts of them."""
    columns = {name: torch.cat([run.columns[name] for run in runs]) for name in runs[0].columns if name != "u"}
    traces = [run.trace for run in runs if run.trace is not None]
    seconds, start = sum(run.seconds for run in runs), sum(run.start_seconds for run in runs)
    return _Run(runs[0].steps, columns, torch.cat(traces, 1) if traces else None, seconds, start)


def _run(
    model: GenerativeModel,
    engine: Engine,
    steps: int,
    x: Tensor,
    score: Scorer,
    trace: bool,
    seed: int,
    name: str,
    advance: Callable[[str, int], None],
) -> _Run:
    """Run an engine on the data, timed, and score its answers."""
    columns: dict[str, list[Tensor]] = {}
    traces: list[Tensor] = []
    seconds, start_seconds = 0.0, 0.0
    for batch in batches(model, x):
        if not columns:  # the first call of an engine pays for what the later ones find ready
            _timed(model, engine, batch, steps, seed)
        u, spent = _timed(model, engine, batch, steps, seed)
        seconds += spent
        energy = score(u, batch)
        found = {
            "u": u,
            "total": energy.total,
            "reconstruction": energy.reconstruction,
            "kl": energy.kl,
            "spikes": model.posterior(u.double()).mean.abs().sum(-1),
        }
        for label, value in found.items():
            columns.setdefault(label, []).append(value)
        if trace and engine.tolerance is None:
            start_seconds += _timed(model, engine, batch, 0, seed)[1]
            traces.append(_trace(model, engine, batch, steps, score, torch.Generator(x.device).manual_seed(seed)))
        advance(name, len(batch))
    joined = {label: torch.cat(values) for label, values in columns.items()}
    return _Run(steps, joined, torch.cat(traces, 1) if traces else None, seconds, start_seconds)


def _timed(model: GenerativeModel, engine: Engine, x: Tensor, steps: int, seed: int) -> tuple[Tensor, float]:
    """The parameters u that an engine infers, and the seconds it took."""
    generator = torch.Generator(x.device).manual_seed(seed)
    _synchronize(x)
    begun = time.perf_counter()
    u = infer(model, engine, x, steps=steps, generator=generator).posterior.u
    _synchronize(x)
    return u, time.perf_counter() - begun


def _gap(run: _Run, optimum: Tensor, unit: str) -> EngineGap:
    """The statistics of an engine's answers against the optimum (N,), in a unit."""
    columns, num = run.columns, len(optimum)
    gap = columns["total"] - optimum
    fine = gap.isfinite()
    return EngineGap(
        run.steps,
        columns["total"][fine].double().mean().item(),
        *_statistics(gap.double(), unit),
        1000 * run.seconds / num,
        columns["reconstruction"][fine].double().mean().item(),
        columns["kl"][fine].double().mean().item(),
        columns["spikes"][fine].mean().item(),
        None if run.trace is None else _gap_trace((run.trace - optimum).double(), run.start_seconds, run.seconds),
    )


def _statistics(gap: Tensor, unit: str) -> tuple[float, float, float, float, float, float | None, int]:
    """Mean, standard error, median, p99, max, share above 1 nat (None for energies that are no
    nats) over finite gaps; the number of others."""
    finite = gap[gap.isfinite()]
    if not len(finite):
        return (float("nan"),) * 6 + (len(gap),)  # pyright: ignore[reportReturnType]
    return (
        finite.mean().item(),
        _standard_error(finite),
        finite.median().item(),
        finite.quantile(0.99).item(),
        finite.max().item(),
        (finite > 1).double().mean().item() if unit == "nats" else None,
        len(gap) - len(finite),
    )


def _standard_error(values: Tensor) -> float:
    return values.std().item() / len(values) ** 0.5 if len(values) > 1 else float("nan")


def _trace(
    model: GenerativeModel,
    engine: Engine,
    x: Tensor,
    steps: int,
    score: Scorer,
    generator: torch.Generator,
) -> Tensor:
    """Free energy (steps + 1, B) before the first step and after each.

    One step at a time, the state handed over, which is the same as all at once.
    """
    result = infer(model, engine, x, steps=0, generator=generator)
    values = [score(result.posterior.u, x).total]
    for _ in range(steps):
        result = infer(model, engine, x, steps=1, state=result.state, generator=generator)
        values.append(score(result.posterior.u, x).total)
    return torch.stack(values)


def _gap_trace(gaps: Tensor, start_seconds: float, seconds: float) -> GapTrace:
    """The trace of gaps (steps + 1, N)."""
    steps, num = len(gaps) - 1, gaps.shape[1]
    shares = torch.tensor([0.1, 0.9], dtype=gaps.dtype, device=gaps.device)
    low, high = torch.stack([row.quantile(shares) for row in gaps], 1).tolist()
    each = (max(seconds - start_seconds, 0) / steps) if steps else 0.0
    times = [1000 / num * (start_seconds + each * k) if steps else 1000 / num * seconds for k in range(steps + 1)]
    return GapTrace(gaps.mean(1).tolist(), low, high, times)


def _synchronize(x: Tensor) -> None:
    if x.is_cuda:
        torch.cuda.synchronize(x.device)
