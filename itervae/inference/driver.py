"""The driver of inference: one loop for every engine; problem, method, gradient mode and record are separate."""

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from itervae.arguments import check_devices, check_kind
from itervae.distributions import Family, PriorDistribution
from itervae.errors import InputError
from itervae.inference.checks import check_data, check_implicit, check_inputs, check_kinds
from itervae.inference.energies.base import Point
from itervae.inference.energies.linear import LinearEnergy
from itervae.inference.engine import Engine, State
from itervae.inference.gradients import Envelope, Gradient, Implicit, Unroll
from itervae.inference.problem import Problem
from itervae.inference.systems.implicit import attach
from itervae.model import GenerativeModel

PROGRESS = 0.9
"""A certificate below this share of the best so far is progress."""
ROWS_AT_ONCE = 2048
"""Data that go through the steps together on a CPU, at most, where no gradient goes back: the arrays of a step stay in
its caches."""


@dataclass(frozen=True)
class Inference:
    """The answer of `infer`, the same for every engine.

    `posterior`, of the model's family (`RelaxedPoisson`, say), is over (B, K) latents; `state` continues or
    warm-starts the next call. `stats` holds per datum (B,) what happened: `steps`, `certificate` (nats; NaN where the
    engine has not looked at the energy), and what the engine counts. A certificate is that of the posterior handed
    back, computed in float64, and includes what rounding can have done to it. `trace` holds what `record` asked for,
    (steps + 1, B, …) each, and is empty otherwise.
    """

    posterior: Any
    state: State
    stats: dict[str, Tensor]
    trace: dict[str, Tensor] = field(default_factory=dict)


def infer(
    model: GenerativeModel,
    engine: Engine,
    x: Tensor,
    *,
    prior: PriorDistribution | None = None,
    state: State | None = None,
    steps: int | None = None,
    gradient: Gradient = Unroll(),  # noqa: B008 (immutable)
    record: Collection[str] = (),
    generator: torch.Generator | None = None,
) -> Inference:
    """Infer the posterior of each datum.

    Args:
        model: generative model with K latents and data of dimension D.
        engine: the method (see `itervae.inference.ENGINES`).
        x: data (B, D), finite, of any floating-point type. The answer has its precision, float32 or float64; that of
            the model where the decoder is a network, or x is of half precision.
        prior: p(z), over (K,) or (B, K) latents; the model's static prior where None.
        state: where to go on from; `State(u)` warm-starts on new data.
        steps: number of iterations; the engine's own default where None.
        gradient: how the gradient goes back through the steps. An engine with a tolerance knows Implicit and Envelope,
            both exact at the optimum that it certifies; it takes Envelope where another is given.
        record: what to keep at every step, of "free_energy" (nats, (steps + 1, B)), "certificate" and "u", the last
            with its gradient, where `gradient` lets it through, for losses of every step.
        generator: source of randomness for engines that sample.

    Raises:
        InputError: the engine does not fit the model, shapes do not fit, or x is not finite.
    """
    check_kinds(model, engine, x, prior, state, steps, gradient, record, generator)
    given: PriorDistribution = model.prior() if prior is None else prior
    check_inputs(model, engine, x, given, state, steps, record)
    if isinstance(gradient, Implicit):
        check_implicit(model, engine)
    x, state = _in_one_precision(model, x, state)
    apart = x.device.type == "cpu" and model.exact and not engine.stochastic
    if apart and len(x) > ROWS_AT_ONCE and (isinstance(gradient, Envelope) or not torch.is_grad_enabled()):
        options = {"steps": steps, "gradient": gradient, "record": record, "generator": generator}
        return _in_parts(model, engine, x, given, state, options)
    steps = engine.steps if steps is None else steps
    caller_dtype = x.dtype
    if engine.dtype is not None:
        x = x.to(engine.dtype)
        state = state.map(lambda value: value.to(engine.dtype)) if state is not None else None
    problem = Problem(model, x, given, generator)
    if state is not None and state.engine != type(engine).__name__:
        state = State(state.u)  # the memory of another engine means nothing to this one

    trace: dict[str, list[Tensor]] = {name: [] for name in record}

    def keep(state: State) -> State:
        for name, kept in trace.items():
            kept.append(_read(problem, state, name))
        return state

    def init(reached: State | None) -> State:
        if reached is None:
            return keep(engine.init(problem, state))
        return replace(engine.init(problem, reached), counts=reached.counts)

    if engine.tolerance is None:
        state = gradient.run(init, lambda state: keep(engine.step(problem, state)), steps, generator)
        taken = torch.full((len(x),), steps, device=x.device)
        certificate = _certificate(problem, engine, state)
    else:
        state, taken, certificate = _until_certified(problem, engine, state, steps)
    counts = state.counts
    if isinstance(gradient, Envelope):
        state = state.detach()
    if isinstance(gradient, Implicit):
        state = replace(state, u=attach(problem.energy, state.u))
    if caller_dtype != x.dtype and (certified := problem.certified) is not None:
        with torch.no_grad():  # what is handed back is not quite what was certified
            certificate = certified.handed_on(state.u, certificate, state.u.to(caller_dtype))
    state = replace(state.map(lambda value: value.to(caller_dtype)), engine=type(engine).__name__)
    return Inference(
        posterior=model.posterior(state.u),
        state=state,
        stats={"steps": taken, "certificate": certificate, **counts},
        trace={name: torch.stack(kept) for name, kept in trace.items()},
    )


def _in_one_precision(model: GenerativeModel, x: Tensor, state: State | None) -> tuple[Tensor, State | None]:
    """Data that the model can work on, and a state in their precision: half precision is taken to that of the model,
    and so is any other where the decoder is a network."""
    own = model.beta.dtype
    if x.dtype != own and (not model.exact or x.dtype not in (torch.float32, torch.float64)):
        x = x.to(own)
    if state is not None:
        state = state.map(lambda value: value.to(x.dtype) if value.is_floating_point() else value)
    return x, state


@torch.no_grad()
def _in_parts(
    model: GenerativeModel,
    engine: Engine,
    x: Tensor,
    prior: PriorDistribution,
    state: State | None,
    options: dict[str, Any],
) -> Inference:
    """`infer` of some data after the other."""
    parts = []
    for rows in torch.arange(len(x)).split(ROWS_AT_ONCE):
        own = prior.like(prior.u[rows]) if isinstance(prior, Family) and prior.u.ndim == 2 else prior
        start = None if state is None else state.map(lambda value, rows=rows: value[rows])
        parts.append(infer(model, engine, x[rows], prior=own, state=start, **options))

    def joined(values: list[dict[str, Tensor]], dim: int = 0) -> dict[str, Tensor]:
        return {name: torch.cat([value[name] for value in values], dim) for name in values[0]}

    reached = replace(
        parts[0].state,
        u=torch.cat([part.state.u for part in parts]),
        memory=joined([part.state.memory for part in parts]),
        age=max(part.state.age for part in parts),
    )
    stats, trace = joined([part.stats for part in parts]), joined([part.trace for part in parts], 1)
    return Inference(model.posterior(reached.u), reached, stats, trace)


@torch.no_grad()
def _until_certified(problem: Problem, engine: Engine, state: State | None, steps: int) -> tuple[State, Tensor, Tensor]:
    """Step until each datum's certificate is below the engine's tolerance; finished data leave the batch."""
    size, device = len(problem.x), problem.x.device
    tolerance, patience = engine.tolerance, engine.patience
    assert tolerance is not None
    finished: dict[str, Tensor] = {}
    rows = torch.arange(size, device=device)
    state = engine.init(problem, state)
    taken = torch.zeros(size, dtype=torch.long, device=device)
    best = problem.x.new_full((size, 2), torch.inf)  # certificate and energy at the last progress
    waited = torch.zeros(size, dtype=torch.long, device=device)  # looks since
    least = problem.x.new_full((size,), torch.inf)  # energy of what is to be handed back
    done = 0
    while True:
        proof, energy = _certificate(problem, engine, state), _energy(state, rows)
        taken[rows] = done
        here = {
            "u": state.u,
            "certificate": proof,
            **{f"memory {name}": value for name, value in state.memory.items()},
            **{f"count {name}": value for name, value in state.counts.items()},
        }
        # what is handed back has the least energy and, of what rounding cannot tell apart, the least certificate
        resolution, seen = _resolution(problem, state), finished.get("certificate")
        if seen is None:
            better = torch.ones_like(rows, dtype=torch.bool)
        else:
            falls = energy < least[rows] - resolution
            level = (proof < seen[rows]) & (energy <= least[rows] + resolution)
            better = falls | level | ~seen[rows].isfinite()
        least[rows[better]] = energy[better]
        for name, value in here.items():
            kept = finished.setdefault(name, value.new_zeros(size, *value.shape[1:]))
            kept[rows[better]] = value[better]
        progress = (proof < PROGRESS * best[rows, 0]) | (energy < best[rows, 1] - resolution)
        best[rows[progress]] = torch.stack([proof, energy], 1)[progress]
        waited[rows] = torch.where(progress, 0, waited[rows] + 1)
        unfinished = ~(proof <= tolerance)
        if patience is not None:
            unfinished &= waited[rows] < patience
        left = unfinished.nonzero().squeeze(1)
        if not len(left) or done >= steps:
            break
        if len(left) < len(rows):
            rows, problem = rows[left], problem.select(left)
            counts = {name: value[left] for name, value in state.counts.items()}
            state = _again(problem, engine, state.map(lambda value, left=left: value[left]), counts)
        stride = min(engine.stride(problem, state), steps - done)
        dtype, whole = engine.precision(problem, state), problem
        if dtype != whole.x.dtype:
            problem = whole.to(dtype)
            state = _again(problem, engine, state.map(lambda value, dtype=dtype: value.to(dtype)), state.counts)
        for _ in range(stride):
            state = engine.step(problem, state)
        done += stride
        if problem is not whole:
            problem, dtype = whole, whole.x.dtype
            state = _again(problem, engine, state.map(lambda value, dtype=dtype: value.to(dtype)), state.counts)

    def named(prefix: str) -> dict[str, Tensor]:
        return {name.removeprefix(prefix): value for name, value in finished.items() if name.startswith(prefix)}

    counts = named("count ")
    if patience is not None:
        counts["stalled"] = ~(finished["certificate"] <= tolerance) & (waited >= patience)
    return State(finished["u"], named("memory "), counts=counts, age=state.age), taken, finished["certificate"]


def _energy(state: State, rows: Tensor) -> Tensor:
    """E at the state (B,); inf where the engine keeps none."""
    if isinstance(state.point, Point):
        return state.point.value
    return state.u.new_full((len(rows),), torch.inf)


def _resolution(problem: Problem, state: State) -> Tensor | float:
    """Falls of E below this (B,) are rounding."""
    return problem.energy.tolerance(state.point) if isinstance(problem.energy, LinearEnergy) and state.point else 0.0


def _again(problem: Problem, engine: Engine, state: State, counts: dict[str, Tensor]) -> State:
    """The state as the engine begins with it on another problem, nothing counted anew."""
    return replace(engine.init(problem, state), counts=counts)


def certificate(model: GenerativeModel, x: Tensor, posterior: Family, prior: PriorDistribution | None = None) -> Tensor:
    """A proved upper bound of F(posterior) − F* (B,), nats, computed in float64, with what rounding can have done to
    it: see the `certificate` of `PoissonEnergy`, `LassoEnergy`, `GaussianEnergy` and `CategoricalEnergy`.

    NaN for models whose optimum cannot be proved: those without a linear decoder and a Gaussian likelihood, sparse
    codes under a hard threshold, Laplace posteriors and Gaussians under an activation.

    Raises:
        InputError: x or the posterior is of another kind, width or device than the model.
    """
    check_data(model, x)
    check_kind("posterior", posterior, Family, "a distribution: infer(model, engine, x).posterior")
    check_devices(x, {"the posterior": posterior.u, "the prior": None if prior is None else prior.u})
    own = model.prior()
    expected = (len(x), len(own.u))
    if posterior.u.shape != expected:
        raise InputError(
            f"the posterior has parameters of shape {tuple(posterior.u.shape)}; expected {expected}, a row for each "
            "datum: pass that of these data"
        )
    problem = Problem(model, x, own if prior is None else prior)
    with torch.no_grad():
        return _proved(problem, posterior.u)


def _proved(problem: Problem, u: Tensor) -> Tensor:
    energy = problem.certified
    return u.new_full((len(u),), torch.nan, dtype=torch.float64) if energy is None else energy.certificate(u)


def _certificate(problem: Problem, engine: Engine, state: State) -> Tensor:
    """That of the state (B,); NaN for an engine that has not looked at its energy, and is not made to."""
    looked = state.point is not None or engine.tolerance is not None
    return (
        _proved(problem, state.u.detach()) if looked else torch.full_like(state.u[:, 0], torch.nan, dtype=torch.float64)
    )


def _read(problem: Problem, state: State, name: str) -> Tensor:
    if name == "u":
        return state.u
    posterior = problem.model.posterior(state.u.detach())
    with torch.no_grad():
        if name == "certificate":
            return _proved(problem, posterior.u)
        return problem.model.free_energy(problem.x, posterior, problem.prior, generator=problem.generator).total
