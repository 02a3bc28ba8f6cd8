"""The driver of inference: one loop for every engine; problem, method, gradient mode and record are
separate."""

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from itervae import devices
from itervae.distributions import Family, PriorDistribution
from itervae.inference.certificates import proved, unproved
from itervae.inference.checks import check_inputs, check_kinds
from itervae.inference.engine import Engine, State
from itervae.inference.gradients import Gradient, Unroll
from itervae.inference.problem import Problem
from itervae.inference.stopping import until_certified
from itervae.model import GenerativeModel
from itervae.showing import Shown

ROWS_AT_ONCE, LATENTS_AT_ONCE = 2048, 2**24
"""Data that go through the steps together on a CPU where no gradient goes back, at most, so that
the arrays of a step stay in its caches; and latents of all of them, so that they stay in its
memory."""


@dataclass(frozen=True, repr=False)
class Inference(Shown):
    """The answer of `infer`, the same for every engine.

    Attributes:
        posterior: of the model's family (`RelaxedPoisson`, say), over (B, K) latents.
        state: continues or warm-starts the next call.
        stats: what happened to each datum (B,): `steps`; `certificate`, in nats, NaN where the
            engine has not looked at the energy; and the diagnostics of the engine. The certificate
            is that of the posterior handed back, computed in float64, and includes what rounding
            can have done.
        trace: what `record` asked for, (steps + 1, B, …) each; empty otherwise.
    """

    posterior: Any
    state: State
    stats: dict[str, Tensor]
    trace: dict[str, Tensor] = field(default_factory=dict)


@devices.put_off()
def infer(
    model: GenerativeModel,
    engine: Engine,
    x: ArrayLike | Tensor,
    *,
    prior: PriorDistribution | None = None,
    state: State | None = None,
    steps: int | None = None,
    gradient: Gradient = Unroll(),  # noqa: B008 (immutable)
    record: Collection[str] = (),
    generator: torch.Generator | None = None,
    precision: ArrayLike | Tensor | None = None,
) -> Inference:
    """Infer the posterior of each datum.

    The answer has a gradient where gradients are on (`torch.enable_grad`) and something that it
    depends on asks for one: a parameter or a buffer of the model or the engine, x, the prior or the
    state. What `itervae.load` and `load_dictionary` give does not ask.

    Args:
        model: generative model with K latents and data of dimension D.
        engine: the method (see `itervae.inference.ENGINES`).
        x: data (B, D), finite: a tensor, an array or lists. The answer has its precision, float32
            or float64; that of the model where the decoder is a network, or x is of another kind.
            Of a convolutional dictionary also in natural shape, (B, H, W) or (B, C, H, W) say, of
            any size: the answer is that of `model.at` this shape.
        prior: p(z), over (K,) or (B, K) latents; the model's static prior where None.
        state: where to go on from; `State(u)` warm-starts on new data.
        steps: number of iterations; the engine's own default where None.
        gradient: how the gradient goes back through the steps. An engine with a tolerance knows
            Implicit and Envelope, both exact at the optimum that it certifies; it takes Envelope
            where another is given.
        record: what to keep at every step, of "free_energy" (nats, (steps + 1, B)), "certificate"
            and "u", the last with its gradient, where `gradient` lets it through, for losses of
            every step.
        generator: source of randomness for engines that sample.
        precision: w ≥ 0, (D,) or (B, D), that divides the variance of each value of x: the free
            energy, and the certificate, weigh its term with w. At 0 a value is not seen, whatever
            stands there: `precision=~x.isnan()` takes NaN for missing. Encoders see the bias of the
            decoder, or 0, in its place. 1 everywhere where None.

    Raises:
        InputError: the engine does not fit the model, shapes do not fit, or x is not finite.
    """
    model, x, precision = check_kinds(model, engine, x, prior, state, steps, gradient, record, generator, precision)
    given: PriorDistribution = model.prior() if prior is None else prior
    check_inputs(model, engine, x, given, state, steps, record)
    gradient.check(model, engine)
    x, state = _in_one_precision(model, x, state)
    options: dict[str, Any] = {"steps": steps, "gradient": gradient, "record": record, "generator": generator}
    if torch.is_grad_enabled() and not _asks_gradient(model, engine, x, given, state, precision):
        with torch.no_grad():
            return infer(model, engine, x, prior=prior, state=state, precision=precision, **options)
    apart = devices.on_cpu(x) and model.exact and not engine.stochastic
    most = max(1, min(ROWS_AT_ONCE, LATENTS_AT_ONCE // given.u.shape[-1]))
    if apart and len(x) > most and (gradient.detached or not torch.is_grad_enabled()):
        return _in_parts(model, engine, x, given, state, precision, options, most)
    steps = engine.steps if steps is None else steps
    caller_dtype = x.dtype
    if engine.dtype is not None:
        x = x.to(engine.dtype)
        state = state.map(lambda value: value.to(engine.dtype)) if state is not None else None
    problem = Problem(model, x, given, generator, precision)
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
        return engine.resume(problem, reached, reached.diagnostics)

    def take(state: State, count: int) -> State:
        if not trace:
            return engine.repeat(problem, state, count)
        for _ in range(count):
            state = keep(engine.step(problem, state))
        return state

    if engine.tolerance is None:
        found = gradient.run(init, take, steps, generator)
        taken = torch.full((len(x),), steps, device=x.device)
        # that of an engine which has not looked at its energy is not made
        certificate = unproved(found.u) if found.point is None else proved(problem, found.u.detach())
    else:
        found, taken, certificate = until_certified(problem, engine, state, steps)
    diagnostics = found.diagnostics
    found = gradient.finish(problem, found)
    if caller_dtype != x.dtype and (certified := problem.certified) is not None:
        with torch.no_grad():  # what is handed back is not quite what was certified
            certificate = certified.handed_on(found.u, certificate, found.u.to(caller_dtype))
    found = replace(found.map(lambda value: value.to(caller_dtype)), engine=type(engine).__name__)
    return Inference(
        posterior=model.posterior(found.u),
        state=found,
        stats={"steps": taken, "certificate": certificate, **diagnostics},
        trace={name: torch.stack(kept) for name, kept in trace.items()},
    )


def _asks_gradient(
    model: GenerativeModel,
    engine: Engine,
    x: Tensor,
    prior: PriorDistribution,
    state: State | None,
    precision: Tensor | None,
) -> bool:
    """Whether anything that the answer depends on has a gradient to come."""
    given = [] if state is None else [state.u, *state.memory.values()]
    given += [] if precision is None else [precision]
    kept = (value for part in (model, engine) for of in (part.parameters, part.buffers) for value in of())
    return any(value.requires_grad for value in chain((x, prior.u, *given), kept))


def _in_one_precision(model: GenerativeModel, x: Tensor, state: State | None) -> tuple[Tensor, State | None]:
    """The data and the state in a precision that the model can work in: their own, float32 or
    float64, where the reconstruction term has a closed form (`GenerativeModel.exact`); else that of
    the model, as for half precision."""
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
    precision: Tensor | None,
    options: dict[str, Any],
    most: int,
) -> Inference:
    """The answer of `infer`, computed for so many data at a time, at most, and joined."""
    parts = []
    for rows in torch.arange(len(x)).split(most):
        own = prior.like(prior.u[rows]) if isinstance(prior, Family) and prior.u.ndim == 2 else prior
        start = None if state is None else state.map(lambda value, rows=rows: value[rows])
        weights = precision[rows] if precision is not None and precision.ndim == 2 else precision
        parts.append(infer(model, engine, x[rows], prior=own, state=start, precision=weights, **options))

    def joined(values: list[dict[str, Tensor]], dim: int = 0) -> dict[str, Tensor]:
        return {name: torch.cat([value[name] for value in values], dim) for name in values[0]}

    reached = replace(
        parts[0].state,
        u=torch.cat([part.state.u for part in parts]),
        memory=joined([part.state.memory for part in parts]),
        step_count=max(part.state.step_count for part in parts),
    )
    stats, trace = joined([part.stats for part in parts]), joined([part.trace for part in parts], 1)
    return Inference(model.posterior(reached.u), reached, stats, trace)


def _read(problem: Problem, state: State, name: str) -> Tensor:
    if name == "u":
        return state.u
    posterior = problem.model.posterior(state.u.detach())
    with torch.no_grad():
        if name == "certificate":
            return proved(problem, posterior.u)
        return problem.model.free_energy(
            problem.x, posterior, problem.prior, precision=problem.precision, generator=problem.generator
        ).total
