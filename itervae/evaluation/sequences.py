"""What carryover buys: the free energy of frames under priors that know the past, against the
static prior.

For each carryover a filter goes over the sequences with every frame at its optimum, and one more
for each number of steps. Each carries its own posterior, so that the difference of two filters is
no amortization gap. Starts are compared on the path of the optimal filter, where all have the same
past and the same prior. The control is a past that is not its own: the state of the optimal filter
of another clip.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from itervae.arguments import check_choice, check_kind, check_seed, check_whole
from itervae.arrays import as_tensor
from itervae.errors import InputError, described
from itervae.inference import Engine, LCAUnrolled, Optimal, certificate
from itervae.inference.checks import check_engine, check_model
from itervae.model import GenerativeModel
from itervae.sequence import STARTS, Carryover, FilterState, check_carryover, filter_step
from itervae.showing import Shown

THRESHOLDS = (1.0, 0.1)
"""Gaps to be reached from each start, nats."""
MOST_STEPS = 50
"""Steps tried to reach them; a frame that needs more counts as this many."""
LONG = 200
"""Steps of the LCA that stand in for an optimum that cannot be proved."""


@dataclass(frozen=True, repr=False)
class CarryoverReport(Shown):
    """What a carryover does on some sequences: nats per frame over frames 2 to T, each frame under
    its own prior.

    Attributes:
        frames: how many were averaged.
        optimum: F of every frame at its best posterior.
        gain: nats by which it is below that of the first candidate, and `gain_standard_error` of it
            over sequences.
        at_steps: F of the filter with so many steps per frame.
        steps_to: threshold in nats → start → mean number of steps until F − F* of the frame is
            below it; empty for an engine without steps, or one that stops by itself.
        shuffled_optimum: the optimum where the past is that of another clip; NaN where there is no
            other.
        spikes: Σ_k λ_k per frame, at the optimum.
        persistence: autocorrelation of the rate from one frame to the next, weighted over units by
            its variance.
        free_energy: F* of each frame from the first (T,), mean over sequences.
    """

    frames: int
    optimum: float
    gain: float
    gain_standard_error: float
    at_steps: dict[str, float]
    steps_to: dict[str, dict[str, float]]
    shuffled_optimum: float
    spikes: float
    persistence: float
    free_energy: list[float]


@dataclass(frozen=True, repr=False)
class SequenceReport(Shown):
    """`sequences`: name → carryover → report; `mean` over all of them; `units`: carryover →
    autocorrelation of each unit's rate (K,), NaN where it never changes; and the largest
    certificate of the optima, nats, NaN where they are not proved."""

    sequences: dict[str, dict[str, CarryoverReport]]
    mean: dict[str, CarryoverReport]
    units: dict[str, list[float]]
    certificate_max: float


@dataclass(frozen=True)
class Measured:
    """One filter of N sequences, per frame: (N, T) each, `u` (N, T, P)."""

    free_energy: Tensor
    u: Tensor
    certificate: Tensor
    shuffled: Tensor
    steps_to: dict[tuple[float, str], Tensor]


def measure_sequences(
    candidates: Mapping[str, tuple[GenerativeModel, Engine, Carryover]],
    tubes: Mapping[str, Tensor],
    *,
    steps: Sequence[int] = (1, 2, 3, 5, 10),
    start: str = "safer",
    seed: int = 0,
    advance: Callable[[str, int], None] = lambda name, frames: None,
) -> SequenceReport:
    """Measure carryovers on sequences.

    Args:
        candidates: name → model, engine and carryover.
        tubes: name → sequences (n, T, D), the same n and T of each.
        steps: numbers of steps per frame of the filters beside the optimum; ignored for an engine
            without steps.
        start: of these filters, one of `itervae.sequence.STARTS`.
        seed: of engines and models that sample.
        advance: called with the name of a carryover and the number of filtered frames.

    Raises:
        InputError: no candidate, no sequence, sequences of one frame or of different shapes or for
            another model, a number of steps below 1, or a model whose optimum is neither proved nor
            approached by the LCA.
    """
    tubes = _check(candidates, tubes, steps)
    check_choice("start", start, STARTS)
    check_seed(seed)
    x = torch.cat(list(tubes.values()))
    each = len(next(iter(tubes.values())))
    if x.shape[1] < 2:
        raise InputError("sequences of one frame have no past; give `frames` 2 or more")
    found: dict[str, tuple[Measured, dict[int, Tensor]]] = {}
    for name, (model, engine, carryover) in candidates.items():

        def told(frames: int, name: str = name) -> None:
            advance(name, frames)

        measured = _optimal_filter(model, engine, carryover, x, each, seed, told)
        limited = {}
        for number in steps if engine.steps else ():
            limited[number] = _energy_at(model, engine, carryover, x, number, start, seed, told)
        if not engine.steps:
            limited[0] = _energy_at(model, engine, carryover, x, None, start, seed, told)
        found[name] = measured, limited
    rows = {name: slice(index * each, (index + 1) * each) for index, name in enumerate(tubes)}
    base = next(iter(found.values()))[0].free_energy

    def reports(chosen: slice) -> dict[str, CarryoverReport]:
        return {name: _report(*found[name], base, candidates[name][0], chosen) for name in found}

    return SequenceReport(
        {sequence: reports(chosen) for sequence, chosen in rows.items()},
        reports(slice(None)),
        {name: _persistence(candidates[name][0], measured.u).tolist() for name, (measured, _) in found.items()},
        torch.stack([measured.certificate.max().double() for measured, _ in found.values()]).max().item(),
    )


def _check(
    candidates: Mapping[str, tuple[GenerativeModel, Engine, Carryover]],
    tubes: Mapping[str, Tensor],
    steps: Sequence[int],
) -> dict[str, Tensor]:
    """The sequences as tensors; what cannot be measured is refused before anything is."""
    check_kind("candidates", candidates, Mapping, "a dict of name → (model, engine, carryover)")
    check_kind("tubes", tubes, Mapping, "a dict of name → sequences (n, T, D)")
    check_kind("steps", steps, Sequence, f"numbers of steps per frame, such as ({steps},)")
    for number in steps:
        check_whole("steps", number, 1)
    if not candidates or not tubes:
        raise InputError(f"there are {len(candidates)} carryovers and {len(tubes)} sequences; expected one at least")
    tubes = {name: as_tensor(name, tube, None, "(n, T, D)") for name, tube in tubes.items()}
    shapes = {name: tuple(tube.shape) for name, tube in tubes.items()}
    first = next(iter(shapes.values()))
    for name, shape in shapes.items():
        if len(shape) != 3 or shape != first:
            raise InputError(
                f"the sequence {name} has the shape {shape} and the first {first}; expected the same (n, T, D) of each"
            )
    for name, parts in candidates.items():
        if not isinstance(parts, tuple | list) or len(parts) != 3:
            raise InputError(
                f"candidates[{name!r}] is {described(parts)}; expected what load_sequence gives, (model, engine, "
                "carryover)"
            )
        model, engine, carryover = parts
        check_model(model)
        check_engine(engine)
        check_carryover(carryover)
        if model.size != first[2]:
            raise InputError(
                f"the frames have {first[2]} values each and the model of {name} explains {model.size}; give frames "
                "of that size"
            )
        _best_engine(model)
    return tubes


def frames_to_filter(engine: Engine, steps: Sequence[int], frames: int) -> int:
    """How many frames `measure_sequences` filters for each sequence and carryover, for a progress
    bar."""
    return frames * (1 + (len(steps) if engine.steps else 1))


@torch.no_grad()
def _optimal_filter(
    model: GenerativeModel,
    engine: Engine,
    carryover: Carryover,
    x: Tensor,
    each: int,
    seed: int,
    advance: Callable[[int], None],
) -> Measured:
    best, steps = _best_engine(model)
    exact, solver, carrying = copy.deepcopy(model), copy.deepcopy(engine), copy.deepcopy(carryover)
    if model.exact:  # in float64, as the gap is small beside F
        exact, solver, carrying, x = exact.double(), solver.double(), carrying.double(), x.double()
    generator = torch.Generator(x.device).manual_seed(seed)
    state: FilterState | None = None
    energies, answers, proofs, shuffled = [], [], [], []
    steps_to: dict[tuple[float, str], list[Tensor]] = {(t, s): [] for t in THRESHOLDS for s in STARTS}

    def energy_of(frame: Tensor, before: FilterState | None) -> tuple[Tensor, Tensor, Tensor, FilterState]:
        found, prior, after = filter_step(
            exact, best, frame, carrying, before, start="previous", steps=steps, generator=generator
        )
        energy = exact.free_energy(frame, found.posterior, prior, generator=generator).total
        return energy, found.posterior.u, certificate(exact, frame, found.posterior, prior), after

    for frame in x.unbind(1):
        before = state
        energy, u, proof, state = energy_of(frame, before)
        if before is None:
            shuffled.append(energy)
        else:
            # the clips of another sequence where there is one, else another clip of the same
            other = before.select(torch.arange(len(x), device=x.device).roll(each if len(x) > each else 1))
            alone = torch.full_like(energy, torch.nan)
            shuffled.append(energy_of(frame, other)[0] if len(x) > 1 else alone)
            for key, needed in _steps_to(exact, solver, frame, carrying, before, energy, generator).items():
                steps_to[key].append(needed)
        energies.append(energy)
        answers.append(u.float())
        proofs.append(proof)
        advance(len(x))
    joined = {key: torch.stack(values, 1) for key, values in steps_to.items() if values}
    energy, u, proof, control = (torch.stack(values, 1) for values in (energies, answers, proofs, shuffled))
    return Measured(energy, u, proof, control, joined)


def _steps_to(
    model: GenerativeModel,
    engine: Engine,
    frame: Tensor,
    carryover: Carryover,
    state: FilterState,
    optimum: Tensor,
    generator: torch.Generator,
) -> dict[tuple[float, str], Tensor]:
    """Steps until each threshold from each start (N,): the first after which F − F* is below it."""
    if not engine.steps or engine.tolerance is not None:
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
def _energy_at(
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


def _best_engine(model: GenerativeModel) -> tuple[Engine, int | None]:
    if Optimal.requires <= model.capabilities:
        return Optimal(), None
    if LCAUnrolled.requires <= model.capabilities:
        return LCAUnrolled(), LONG
    raise InputError(
        "the best posterior of a frame is neither proved nor approached by the LCA for this model; use a Poisson VAE, "
        "or a linear decoder under a Gaussian likelihood"
    )


def _report(
    measured: Measured, limited: dict[int, Tensor], base: Tensor, model: GenerativeModel, rows: slice
) -> CarryoverReport:
    later = measured.free_energy[rows, 1:].double()
    posterior = model.posterior(measured.u[rows, 1:].to(model.beta.dtype).flatten(0, 1))
    steps_to: dict[str, dict[str, float]] = {}
    for (threshold, start), needed in measured.steps_to.items():
        steps_to.setdefault(str(threshold), {})[start] = needed[rows].double().mean().item()
    gain = (base[rows, 1:].double() - later).mean(1)
    rates = posterior.mean.double().detach()
    unit = _persistence(model, measured.u[rows])
    weight = torch.where(unit.isfinite(), rates.var(0, correction=0), 0)
    return CarryoverReport(
        later.numel(),
        later.mean().item(),
        gain.mean().item(),
        gain.std().item() / len(gain) ** 0.5 if len(gain) > 1 else float("nan"),
        {str(number): energy[rows, 1:].double().mean().item() for number, energy in limited.items()},
        steps_to,
        measured.shuffled[rows, 1:].double().mean().item(),
        rates.abs().sum(-1).mean().item(),
        float((weight * unit.nan_to_num()).sum() / weight.sum()),
        measured.free_energy[rows].double().mean(0).tolist(),
    )


def _persistence(model: GenerativeModel, u: Tensor) -> Tensor:
    """Correlation of each unit's mean with that of the frame before (K,), over sequences and
    frames."""
    with torch.no_grad():
        mean = model.posterior(u.flatten(0, 1)).mean.unflatten(0, u.shape[:2]).double()
    before, after = mean[:, :-1].flatten(0, 1), mean[:, 1:].flatten(0, 1)
    before, after = before - before.mean(0), after - after.mean(0)
    return (before * after).sum(0) / (before.square().sum(0) * after.square().sum(0)).sqrt()
