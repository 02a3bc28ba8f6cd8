"""The filters that `measure_sequences` goes over sequences with: every frame at its optimum, with
two controls beside it, and so many steps per frame.

The controls have a past that is not that of the frame before: the state of the optimal filter of
another clip, and an optimal filter of the same clip whose frames are in another order.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from itervae.errors import InputError
from itervae.inference import Engine, LCAUnrolled, Optimal, certificate
from itervae.inference.settings import OptimalSettings
from itervae.model import GenerativeModel
from itervae.sequence import STARTS, Carryover, FilterState, filter_step

THRESHOLDS = (1.0, 0.1)
"""Gaps to be reached from each start, nats."""
MOST_STEPS = 50
"""Steps tried to reach them; a frame that needs more counts as this many."""
LONG = 200
"""Steps of the LCA that stand in for an optimum that cannot be proved."""
FEWEST_SHUFFLED = 5
"""Frames below which every order of them, the first one kept, has neighbours side by side."""


@dataclass(frozen=True)
class Measured:
    """One filter of N sequences, per frame: (N, T) each, `u` (N, T, P). `shuffled`: free energies
    where the past is that of another clip; `within`: where it is that of other frames of the same
    clip, in the order of `shuffled_orders`."""

    free_energy: Tensor
    u: Tensor
    certificate: Tensor
    shuffled: Tensor
    within: Tensor
    steps_to: dict[tuple[float, str], Tensor]


@torch.no_grad()
def optimal_filter(
    model: GenerativeModel,
    engine: Engine | None,
    carryover: Carryover,
    x: Tensor,
    each: int,
    seed: int,
    tolerance: float,
    advance: Callable[[int], None],
) -> Measured:
    """The filter with every frame at its best posterior, in float64 where that is proved, and the
    controls; `each`: clips of a sequence, one sequence after the other in `x` (N, T, D). Without an
    engine no steps are counted."""
    best, steps = best_engine(model, tolerance)
    exact, solver, carrying = copy.deepcopy(model), copy.deepcopy(engine), copy.deepcopy(carryover)
    if model.exact:  # in float64, as the gap is small beside F
        exact, carrying, x = exact.double(), carrying.double(), x.double()
        solver = None if solver is None else solver.double()
    generator = torch.Generator(x.device).manual_seed(seed)
    order = shuffled_orders(len(x), x.shape[1], seed).to(x.device)
    rows = torch.arange(len(x), device=x.device)
    state: FilterState | None = None
    inside: FilterState | None = None
    energies, answers, proofs, shuffled, within = [], [], [], [], []
    steps_to: dict[tuple[float, str], list[Tensor]] = {(t, s): [] for t in THRESHOLDS for s in STARTS}

    def energy_of(frame: Tensor, before: FilterState | None) -> tuple[Tensor, Tensor, Tensor, FilterState]:
        found, prior, after = filter_step(
            exact, best, frame, carrying, before, start="previous", steps=steps, generator=generator
        )
        energy = exact.free_energy(frame, found.posterior, prior, generator=generator).total
        return energy, found.posterior.u, certificate(exact, frame, found.posterior, prior), after

    for time, frame in enumerate(x.unbind(1)):
        before = state
        energy, u, proof, state = energy_of(frame, before)
        unknown = torch.full_like(energy, torch.nan)
        if x.shape[1] < FEWEST_SHUFFLED:
            within.append(unknown)
        else:
            found, _, _, inside = energy_of(x[rows, order[:, time]], inside)
            within.append(found)
        if before is None:
            shuffled.append(energy)
        else:
            # the clips of another sequence where there is one, else another clip of the same
            other = before.select(rows.roll(each if len(x) > each else 1))
            shuffled.append(energy_of(frame, other)[0] if len(x) > 1 else unknown)
            for key, needed in _steps_to(exact, solver, frame, carrying, before, energy, generator).items():
                steps_to[key].append(needed)
        energies.append(energy)
        answers.append(u.float())
        proofs.append(proof)
        advance(len(x))
    joined = {key: torch.stack(values, 1) for key, values in steps_to.items() if values}
    energy, u, proof, other, same = (torch.stack(e, 1) for e in (energies, answers, proofs, shuffled, within))
    return Measured(energy, u, proof, other, same, joined)


def shuffled_orders(count: int, frames: int, seed: int) -> Tensor:
    """An order of the frames for each of `count` clips (count, frames) int64: the first frame
    stays, and none follows the one before or after it in time. In time where there are fewer than
    five."""
    if frames < FEWEST_SHUFFLED:
        return torch.arange(frames).expand(count, -1)
    generator = torch.Generator().manual_seed(seed)
    order = torch.arange(frames).repeat(count, 1)
    while (wrong := (order.diff(dim=1).abs() == 1).any(1)).any():
        drawn = torch.rand(int(wrong.sum()), frames - 1, generator=generator).argsort(1) + 1
        order[wrong, 1:] = drawn
    return order


def _steps_to(
    model: GenerativeModel,
    engine: Engine | None,
    frame: Tensor,
    carryover: Carryover,
    state: FilterState,
    optimum: Tensor,
    generator: torch.Generator,
) -> dict[tuple[float, str], Tensor]:
    """Steps until each threshold from each start (N,): the first after which F − F* is below it."""
    if engine is None or not engine.steps or engine.tolerance is not None:
        return {}
    found = {}
    for start in STARTS:
        options = {"start": start, "steps": MOST_STEPS, "record": ("free_energy",), "generator": generator}
        trace = filter_step(model, engine, frame, carryover, state, **options)[0].trace["free_energy"]
        for threshold in THRESHOLDS:
            reached = trace - optimum <= threshold  # (steps + 1, N)
            found[threshold, start] = torch.where(reached.any(0), reached.int().argmax(0), MOST_STEPS)
    return found


@torch.no_grad()
def energy_at(
    model: GenerativeModel,
    engine: Engine,
    carryover: Carryover,
    x: Tensor,
    steps: int | None,
    start: str,
    seed: int,
    advance: Callable[[int], None],
) -> Tensor:
    """F of every frame (N, T) of a filter with so many steps."""
    generator = torch.Generator(x.device).manual_seed(seed)
    state, energies = None, []
    for frame in x.unbind(1):
        found, prior, state = filter_step(
            model, engine, frame, carryover, state, start=start, steps=steps, generator=generator
        )
        energies.append(model.free_energy(frame, found.posterior, prior, generator=generator).total)
        advance(len(x))
    return torch.stack(energies, 1)


def best_engine(model: GenerativeModel, tolerance: float = OptimalSettings.tolerance) -> tuple[Engine, int | None]:
    if Optimal.requires <= model.capabilities:
        return Optimal(tolerance=tolerance), None
    if LCAUnrolled.requires <= model.capabilities:
        return LCAUnrolled(), LONG
    raise InputError(
        "the best posterior of a frame is neither proved nor approached by the LCA for this model; use a Poisson VAE, "
        "or a linear decoder under a Gaussian likelihood"
    )
