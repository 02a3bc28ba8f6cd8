"""What carryover buys: the free energy of frames under priors that know the past, against the
static prior.

For each carryover a filter goes over the sequences with every frame at its optimum, and one more
for each number of steps. Each carries its own posterior, so that the difference of two filters is
no amortization gap. Starts are compared on the path of the optimal filter, where all have the same
past and the same prior. The controls are in `filters`. Tubes of one sequence share a clip, so the
errors of what holds on the whole are over sequences.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from itervae.arguments import check_choice, check_kind, check_seed, check_whole
from itervae.arrays import as_tensor
from itervae.errors import InputError, described
from itervae.evaluation.filters import Measured, best_engine, energy_at, optimal_filter
from itervae.inference import Engine
from itervae.inference.checks import check_engine, check_model
from itervae.inference.settings import OptimalSettings
from itervae.model import GenerativeModel
from itervae.sequence import STARTS, Carryover, Level, check_carryover
from itervae.showing import Shown


@dataclass(frozen=True, repr=False)
class CarryoverReport(Shown):
    """What a carryover does on some sequences: nats per frame over frames 2 to T, each frame under
    its own prior.

    Attributes:
        frames: how many were averaged.
        optimum: F of every frame at its best posterior.
        gain: nats by which it is below that of the first candidate, and `gain_standard_error` of
            it: over the tubes of one sequence, and over sequences in the mean; NaN of a single one.
        beyond_level: nats by which it is below that of the `level` of the report; NaN where there
            is none.
        at_steps: F of the filter with so many steps per frame.
        steps_to: threshold in nats → start → mean number of steps until F − F* of the frame is
            below it; empty for an engine without steps, or one that stops by itself.
        shuffled_optimum: the optimum where the past is that of another clip; NaN where there is no
            other.
        within_optimum: the optimum where the past is that of other frames of the same clip, not of
            the frame before; NaN below five frames.
        spikes: Σ_k λ_k per frame, at the optimum.
        persistence: autocorrelation of the rate from one frame to the next, weighted over units by
            its variance.
        free_energy: F* of each frame from the first (T,), mean over sequences.
    """

    frames: int
    optimum: float
    gain: float
    gain_standard_error: float
    beyond_level: float
    at_steps: dict[str, float]
    steps_to: dict[str, dict[str, float]]
    shuffled_optimum: float
    within_optimum: float
    spikes: float
    persistence: float
    free_energy: list[float]


@dataclass(frozen=True, repr=False)
class OverSequences(Shown):
    """A difference over sequences, each of which counts once whatever its tubes: mean, nats, its
    standard error (NaN of one sequence), and on how many of them it is above 0."""

    mean: float
    standard_error: float
    above_zero: int
    sequences: int

    @classmethod
    def of(cls, values: Sequence[float]) -> "OverSequences":
        """What holds of one value for each sequence; NaN where one of them is."""
        each = torch.tensor(values, dtype=torch.float64)
        error = each.std().item() / len(each) ** 0.5 if len(each) > 1 else math.nan
        return cls(each.mean().item(), error, int((each > 0).sum()), len(each))


@dataclass(frozen=True, repr=False)
class SequenceReport(Shown):
    """What `measure_sequences` found.

    Attributes:
        sequences: name → carryover → report.
        mean: over all of them.
        over_sequences: carryover → what, against the optimum of the first candidate: `gain`, and
            the same with the past of `other_clip` and of frames shuffled `within_clip`; and
            `beyond_level`, against that of `level`. What cannot be measured is left out.
        level: the candidate that was taken for the level, the first whose carryover is a `Level`;
            None where there is none.
        units: carryover → autocorrelation of each unit's rate (K,), NaN where it never changes; a
            unit is a map where there are maps.
        certificate_max: the largest of the optima, nats; NaN where they are not proved.
    """

    sequences: dict[str, dict[str, CarryoverReport]]
    mean: dict[str, CarryoverReport]
    over_sequences: dict[str, dict[str, OverSequences]]
    level: str | None
    units: dict[str, list[float]]
    certificate_max: float


def measure_sequences(
    candidates: Mapping[str, tuple[GenerativeModel, Engine, Carryover]],
    tubes: Mapping[str, Tensor],
    *,
    steps: Sequence[int] = (1, 2, 3, 5, 10),
    start: str = "safer",
    seed: int = 0,
    certificate: float = OptimalSettings.tolerance,
    advance: Callable[[str, int], None] = lambda name, frames: None,
) -> SequenceReport:
    """Measure carryovers on sequences.

    Args:
        candidates: name → model, engine and carryover.
        tubes: name → sequences (n, T, D), the same n and T of each.
        steps: numbers of steps per frame of the filters beside the optimum; ignored for an engine
            without steps. Where there are none the optima alone are measured.
        start: of these filters, one of `itervae.sequence.STARTS`.
        seed: of engines and models that sample.
        certificate: largest one of the optima, nats.
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

        measured = optimal_filter(model, engine if steps else None, carryover, x, each, seed, certificate, told)
        limited = {}
        for number in steps if engine.steps else ():
            limited[number] = energy_at(model, engine, carryover, x, number, start, seed, told)
        if steps and not engine.steps:
            limited[0] = energy_at(model, engine, carryover, x, None, start, seed, told)
        found[name] = measured, limited
    rows = {name: slice(index * each, (index + 1) * each) for index, name in enumerate(tubes)}
    base = next(iter(found.values()))[0].free_energy
    level = next((name for name, (_, _, carryover) in candidates.items() if isinstance(carryover, Level)), None)
    flat = None if level is None else found[level][0].free_energy

    def reports(chosen: slice) -> dict[str, CarryoverReport]:
        return {name: _report(*found[name], base, flat, candidates[name][0], chosen) for name in found}

    sequences, mean = {sequence: reports(chosen) for sequence, chosen in rows.items()}, reports(slice(None))
    over = {name: over_sequences(sequences, next(iter(found)), name, level) for name in found}
    return SequenceReport(
        sequences,
        {name: replace(mean[name], gain_standard_error=over[name]["gain"].standard_error) for name in found},
        over,
        level,
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
        best_engine(model)
    return tubes


def frames_to_filter(engine: Engine, steps: Sequence[int], frames: int) -> int:
    """How many frames `measure_sequences` filters for each sequence and carryover, for a progress
    bar."""
    return frames * (1 + (len(steps) if engine.steps else min(1, len(steps))))


def over_sequences(
    sequences: Mapping[str, Mapping[str, CarryoverReport]], first: str, name: str, level: str | None
) -> dict[str, OverSequences]:
    """What `SequenceReport.over_sequences` says of a carryover."""
    each = [(found[first].optimum, found[name]) for found in sequences.values()]
    values = {
        "gain": [found.gain for _, found in each],
        "beyond_level": [math.nan if name == level else found.beyond_level for _, found in each],
        "other_clip": [base - found.shuffled_optimum for base, found in each],
        "within_clip": [base - found.within_optimum for base, found in each],
    }
    return {what: OverSequences.of(of) for what, of in values.items() if not any(map(math.isnan, of))}


def _report(
    measured: Measured,
    limited: dict[int, Tensor],
    base: Tensor,
    level: Tensor | None,
    model: GenerativeModel,
    rows: slice,
) -> CarryoverReport:
    later = measured.free_energy[rows, 1:].double()
    posterior = model.posterior(measured.u[rows, 1:].to(model.beta.dtype).flatten(0, 1))
    steps_to: dict[str, dict[str, float]] = {}
    for (threshold, start), needed in measured.steps_to.items():
        steps_to.setdefault(str(threshold), {})[start] = needed[rows].double().mean().item()
    gain = (base[rows, 1:].double() - later).mean(1)
    rates = posterior.mean.double().detach()
    unit = _persistence(model, measured.u[rows])
    weight = torch.where(unit.isfinite(), _by_unit(model, rates).var(0, correction=0), 0)
    return CarryoverReport(
        later.numel(),
        later.mean().item(),
        gain.mean().item(),
        gain.std().item() / len(gain) ** 0.5 if len(gain) > 1 else math.nan,
        math.nan if level is None else (level[rows, 1:].double() - later).mean().item(),
        {str(number): energy[rows, 1:].double().mean().item() for number, energy in limited.items()},
        steps_to,
        measured.shuffled[rows, 1:].double().mean().item(),
        measured.within[rows, 1:].double().mean().item(),
        rates.abs().sum(-1).mean().item(),
        float((weight * unit.nan_to_num()).sum() / weight.sum()),
        measured.free_energy[rows].double().mean(0).tolist(),
    )


def _persistence(model: GenerativeModel, u: Tensor) -> Tensor:
    """Correlation of each unit's mean with that of the frame before (K,), over sequences and
    frames."""
    with torch.no_grad():
        mean = model.posterior(u.flatten(0, 1)).mean.unflatten(0, u.shape[:2]).double()
    before, after = (_by_unit(model, part.flatten(0, 1)) for part in (mean[:, :-1], mean[:, 1:]))
    before, after = before - before.mean(0), after - after.mean(0)
    return (before * after).sum(0) / (before.square().sum(0) * after.square().sum(0)).sqrt()


def _by_unit(model: GenerativeModel, mean: Tensor) -> Tensor:
    """Means of latents (N, K), of maps each place apart: (N · places, maps)."""
    places = model.prior.places
    return mean if places == 1 else mean.unflatten(1, (-1, places)).mT.flatten(0, 1)
