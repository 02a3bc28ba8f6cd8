"""Filtering a sequence: inference frame by frame, the prior of each from the posterior of the one
before.

State and prior are separate choices: `carryover` makes the prior that a frame is held against,
`start` says where the iteration of a frame begins.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from itervae.arguments import check_choice, check_devices, check_kind
from itervae.arrays import as_tensor
from itervae.devices import put_off
from itervae.distributions import Family
from itervae.errors import InputError, described
from itervae.inference import Engine, Gradient, Inference, Problem, State, Unroll, infer
from itervae.inference.checks import as_data, check_engine, check_finite_rows, check_model
from itervae.model import GenerativeModel
from itervae.sequence.base import Carryover, check_carryover
from itervae.sequence.settings import STARTS
from itervae.sequence.state import FilterState
from itervae.showing import Shown


@dataclass(frozen=True, repr=False)
class Filtered(Shown):
    """The answer of `filter_sequence`, time second: parameters `u` of the posteriors and `prior` of
    the priors (B, T, P), the free energy of each frame under its own prior (B, T), nats; and the
    state to go on from."""

    u: Tensor
    prior: Tensor
    free_energy: Tensor
    state: FilterState


@put_off()
def filter_step(
    model: GenerativeModel,
    engine: Engine,
    x: ArrayLike | Tensor,
    carryover: Carryover,
    state: FilterState | None = None,
    *,
    start: str = "safer",
    steps: int | None = None,
    gradient: Gradient = Unroll(),  # noqa: B008 (immutable)
    record: Collection[str] = (),
    generator: torch.Generator | None = None,
) -> tuple[Inference, Family, FilterState]:
    """Infer one frame: for online use, a frame at a time.

    Memory is constant under `torch.no_grad()`, or with `state.detach()` handed on: gradients go
    back through the state.

    Args:
        x: a frame of each sequence (B, D).
        state: of the frame before; None for the first frame, which has the static prior.
        start: one of `STARTS`.
        model, engine, steps, gradient, record, generator: as of `infer`.

    Returns:
        The inference of this frame, its prior, p(z) over (B, K) latents, which
        `model.free_energy(x, inference.posterior, prior)` takes, and the state to go on from.

    Raises:
        InputError: an unknown start, a state of other sequences, or what `infer` and the carryover
            refuse.
    """
    model, x, precision = as_data(model, x)
    check_engine(engine)
    check_choice("start", start, STARTS)
    static = model.prior()
    check_carryover(carryover)
    carryover = carryover.at(model)
    carryover.check(static)
    if state is not None:
        check_kind("state", state, FilterState, "a FilterState: what filter_step gives last, or `state` of Filtered")
    check_devices(
        x, {"the carryover": next(carryover.parameters(), None), "the state": None if state is None else state.u}
    )
    if state is not None and state.u.shape != (len(x), len(static.u)):
        raise InputError(
            f"the state is that of {len(state.u)} sequences with {state.u.shape[1]} parameters each, this frame of "
            f"{len(x)} and the model has {len(static.u)}; pass the state of these sequences, or select its rows"
        )
    if state is not None:
        check_finite_rows("the state", state.u, "parameters", "ones: begin anew")
    if state is None:
        prior, begin = static.like(static.u.to(x.dtype).expand(len(x), -1)), None
    else:
        prior = carryover(static, state)
        begin = None if start == "prior" else State(_start(model, x, precision, prior, state, start, generator))
    options = {"steps": steps, "gradient": gradient, "record": record, "generator": generator, "precision": precision}
    found = infer(model, engine, x, prior=prior, state=begin, **options)
    u = found.posterior.u
    age = torch.ones(len(x), dtype=torch.int64, device=x.device) if state is None else state.age + 1
    return found, prior, FilterState(u, age, carryover.remember(static, state, u))


def _start(
    model: GenerativeModel,
    x: Tensor,
    precision: Tensor | None,
    prior: Family,
    state: FilterState,
    start: str,
    generator: torch.Generator | None,
) -> Tensor:
    """Where the iteration of a frame that has a past begins (B, P)."""
    previous = (state.age > 0)[:, None]
    if start == "safer":
        problem = Problem(model, x, prior, generator, precision)
        previous = previous & (problem.free_energy(state.u) < problem.free_energy(prior.u))[:, None]
    return torch.where(previous, state.u, prior.u)


def filter_sequence(
    model: GenerativeModel,
    engine: Engine,
    frames: np.ndarray | Tensor | Iterable[ArrayLike | Tensor],
    carryover: Carryover,
    state: FilterState | None = None,
    *,
    start: str = "safer",
    steps: int | None = None,
    gradient: Gradient = Unroll(),  # noqa: B008 (immutable)
    generator: torch.Generator | None = None,
) -> Filtered:
    """Infer the posterior of every frame of sequences.

    Args:
        model, engine: as of `infer`.
        frames: a tensor or array (B, T, D), or an iterable of T frames (B, D), of which one is held
            at a time; of a convolutional dictionary also (B, T, *shape), of any size.
        carryover: how the prior of a frame comes from the posterior before.
        state: where an earlier call ended: 12 frames and 12 frames more are 24.
        start: one of `STARTS`: where the iteration of a frame begins.
        steps, gradient, generator: as of `infer`, for each frame.

    The answer grows with T, and outside `torch.no_grad()` so does the graph of all steps;
    `filter_step` keeps the state alone.

    Raises:
        InputError: no frame, frames that are not finite, or what `filter_step` refuses.
    """
    check_model(model)
    if isinstance(frames, str | Mapping) or not isinstance(frames, Iterable):
        raise InputError(
            f"frames is {described(frames)}; expected a tensor or array (B, T, D), or an iterable of T frames (B, D)"
        )
    if isinstance(frames, list | tuple) and len(frames) and isinstance(frames[0], list | tuple):
        raise InputError(
            f"frames is {described(frames)} of lists, which does not say which of them is time; expected an array "
            "(B, T, D): use numpy.asarray(frames)"
        )
    if isinstance(frames, np.ndarray):
        frames = as_tensor("frames", frames, model.beta, "(B, T, D)")
    if isinstance(frames, Tensor):
        check_devices(frames, {"the model": model.beta})
        _check(frames.flatten(2) if model.convolutional and frames.ndim > 3 else frames, model.missing)
    each = frames.unbind(1) if isinstance(frames, Tensor) else frames
    posteriors, priors, energies = [], [], []
    for x in each:
        found, prior, state = filter_step(
            model, engine, x, carryover, state, start=start, steps=steps, gradient=gradient, generator=generator
        )
        energy = model.free_energy(x, found.posterior, prior, generator=generator)
        posteriors.append(found.posterior.u)
        priors.append(prior.u)
        energies.append(energy.total)
    if state is None:
        raise InputError("there is no frame to filter; expected at least one")
    return Filtered(torch.stack(posteriors, 1), torch.stack(priors, 1), torch.stack(energies, 1), state)


def _check(frames: Tensor, missing: bool) -> None:
    """Refuse frames of another shape, and say where they are not finite; NaN may be `missing`."""
    if frames.ndim != 3:
        raise InputError(f"frames have the shape {tuple(frames.shape)}; expected (B, T, D): flatten each frame")
    bad = (frames.isinf() if missing else ~frames.isfinite()).any(2).any(0)
    if bad.any():
        first = int(bad.int().argmax())
        raise InputError(
            f"{int(bad.sum())} of {len(bad)} frames have NaN or infinite values, the first at time {first} (from 0); "
            "expected finite values: clean them, or leave them out"
        )
