"""The work of `itervae sequence`."""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from rich import box
from rich.table import Table
from torch import Tensor

from itervae.cli.runs import Target, check_whole_data, common_fitted, described, match_data
from itervae.cli.sequence import Sequence
from itervae.cli.show import console, print_table, progress
from itervae.data import TubeSource, load_source, typical
from itervae.errors import InputError
from itervae.evaluation.filters import MOST_STEPS
from itervae.evaluation.sequences import (
    CarryoverReport,
    OverSequences,
    SequenceReport,
    frames_to_filter,
    measure_sequences,
)
from itervae.files import write_json
from itervae.inference import Engine
from itervae.model import GenerativeModel
from itervae.plotting import save, save_animation, sequence_animation, sequence_figure, spikes_figure
from itervae.sequence import Carryover, NoCarryover, filter_sequence
from itervae.training import LoadedRun

NONE, TUBES = "none", 16
SCHEMA = 2
"""Version of the report."""
DIFFERENCES = {
    "gain": "gain",
    "beyond_level": "beyond level",
    "other_clip": "past of another clip",
    "within_clip": "shuffled within the clip",
}
"""What is told over sequences, and its heading."""
Candidate = tuple[GenerativeModel, Engine, Carryover]
Filtered = tuple[np.ndarray, np.ndarray, np.ndarray, tuple[int, ...]]
"""Frames (T, D), spikes (T, K) and reconstructions (T, D) of a sequence, and the shape of a
frame."""


class Measured(NamedTuple):
    """What was found: the report, in words what was measured, frames of a sequence, how many were
    drawn of each, the shape of a frame, and of the first sequence its name and what a figure shows
    of it."""

    report: SequenceReport
    data: str
    frames: int
    tubes: int
    shape: tuple[int, ...]
    name: str
    filtered: Filtered | None


def work(options: Sequence) -> Measured:
    runs = {name: _on_sequences(target) for name, target in options.targets.items()}
    steps = _steps(options)
    source = _source(options)
    tubes, shape = _tubes(options, source)
    runs = {name: replace(run, model=options.targets[name].at(shape).model) for name, run in runs.items()}
    first, each = next(iter(runs.values())), len(next(iter(tubes.values())))
    rows = each * len(tubes)
    candidates = _candidates(runs, options.device)
    with progress() as bar:
        tasks = {
            name: bar.add_task(name, total=rows * frames_to_filter(engine, steps, source.frames))
            for name, (_, engine, _) in candidates.items()
        }
        report = measure_sequences(
            candidates,
            tubes,
            steps=steps,
            start=first.settings.sequence.start,
            seed=options.seed,
            certificate=options.certificate,
            advance=lambda name, frames: bar.advance(tasks[name], frames),
        )
    name, tube = next(iter(tubes.items()))
    filtered = None if options.spikes is None and options.animation is None else _filtered(first, tube, options.seed)
    data = described(source, "validation") + ", whole frames" * options.whole
    return Measured(report, data, source.frames, each, shape, name, filtered)


def _steps(options: Sequence) -> list[int]:
    """Numbers of steps, each once; none where the optima alone are measured."""
    return [] if options.optima else list(dict.fromkeys(options.steps))


def _tubes(options: Sequence, source: TubeSource) -> tuple[dict[str, Tensor], tuple[int, ...]]:
    """The sequences (n, T, D) of each that is held out, and the shape of a frame."""
    match_data(source, options.targets.values())
    if not options.whole:
        found, shape = source.sequences(options.tubes or TUBES), source.shape
    else:
        check_whole_data(options.targets.values())
        found = source.whole_sequences(options.tubes or 1)
        shape = tuple(next(iter(found.values())).shape[2:])
    return {name: tube.flatten(2).to(options.device) for name, tube in found.items()}, shape


def _source(options: Sequence) -> TubeSource:
    """The data of the runs, prepared as they prepared theirs."""
    path, fitted = options.runs[0], common_fitted(options.targets.values())
    if not options.data.sequential:
        raise InputError(f"--data {options.data.data} has no order; use --data video or --data drift")
    if options.data.frames == 1:
        raise InputError("sequences of one frame have no past; give --frames 2 or more")
    if options.data.data == "video" and "scale" not in fitted:
        raise InputError(
            f"{path} does not hold the scale of the frames that it was trained on, as runs of earlier versions; "
            f"resume it once to have it saved: itervae train --resume {path} with a larger --updates or --minutes"
        )
    source = load_source(options.data, options.seed, fitted=fitted)
    assert isinstance(source, TubeSource)
    return source


def files(options: Sequence, found: Measured) -> Mapping[str, Callable[[Path], object]]:
    report = asdict(found.report)
    about = {"schema": SCHEMA, "data": found.data, "frames": found.frames, "tubes": found.tubes, "shape": found.shape}
    return {
        "json": lambda path: write_json(path, about | report),
        "figure": lambda path: save(sequence_figure(report), path),
        "spikes": lambda path: save(spikes_figure(*_filtered_of(found), found.name), path),
        "animation": lambda path: save_animation(sequence_animation(*_filtered_of(found)), path),
    }


def tell(options: Sequence, found: Measured) -> None:
    _print(found.report, found.data, _steps(options), found.shape if options.whole else ())


def _on_sequences(target: Target) -> LoadedRun:
    if target.run is None or target.run.carryover is None:
        raise InputError(f"{target.path} was not trained on sequences; expected a run of --data video or --data drift")
    return target.run


def _filtered_of(found: Measured) -> Filtered:
    assert found.filtered is not None
    return found.filtered


def _candidates(runs: Mapping[str, LoadedRun], device: torch.device) -> dict[str, Candidate]:
    """Every run's own carryover, and none with each model that differs from the others; by the
    carryover's name, with that of the run where two would be the same."""
    found: dict[str, Candidate] = {}
    models: list[GenerativeModel] = []
    plain: dict[str, Candidate] = {}
    names = [run.settings.sequence.carryover for run in runs.values()]
    for (short, run), name in zip(runs.items(), names, strict=True):
        model, engine = run.model.to(device), run.engine.to(device)
        if not any(_same(model, other) for other in models):
            plain[f"{NONE} ({short})" if models else NONE] = (model, engine, NoCarryover())
            models.append(model)
        if name != NONE:
            assert run.carryover is not None
            own = run.carryover.to(device)
            found[name if names.count(name) == 1 else f"{name} ({short})"] = (model, engine, own)
    return plain | found


def _same(one: GenerativeModel, other: GenerativeModel) -> bool:
    first, second = one.state_dict(), other.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def _print(report: SequenceReport, data: str, steps: list[int], shape: tuple[int, ...]) -> None:
    """Show the report; `shape`: of a frame that is whole, of which there is a column of nats a
    pixel."""
    table = Table(title=f"nats per frame, frames 2 to T ({data})", title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("sequence", no_wrap=True)
    table.add_column("carryover", no_wrap=True)
    pixel = ("a pixel",) if shape else ()
    for heading in ("optimum", *pixel, "gain", "± s.e.", "beyond level", "other clip", "within clip"):
        table.add_column(heading, justify="right", no_wrap=True)
    numbers = [str(number) for number in (*steps, 0) if any(str(number) in f.at_steps for f in report.mean.values())]
    for number in numbers:
        heading = "one pass" if number == "0" else f"{number} step{'s' * (number != '1')}"
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("to 1 nat", justify="right", no_wrap=True)
    table.add_column("to 0.1", justify="right", no_wrap=True)
    table.add_column("spikes", justify="right", no_wrap=True)
    table.add_column("persistence", justify="right", no_wrap=True)
    for sequence, each in {**report.sequences, "mean": report.mean}.items():
        for name, found in each.items():
            table.add_row(
                sequence,
                name,
                f"{found.optimum:.2f}",
                *(f"{found.optimum / math.prod(shape):.5f}" for _ in pixel),
                f"{found.gain:.2f}",
                _number(found.gain_standard_error, ".2g"),
                _number(found.beyond_level, ".2f"),
                _number(found.shuffled_optimum, ".2f"),
                _number(found.within_optimum, ".2f"),
                *(f"{found.at_steps[number]:.2f}" if number in found.at_steps else "-" for number in numbers),
                _starts(found, "1.0"),
                _starts(found, "0.1"),
                f"{found.spikes:.1f}",
                f"{found.persistence:.2f}",
            )
            sequence = ""
        table.add_section()
    inner = [column.header for column in table.columns[8 + len(pixel) : -4]][1:-1]
    less = (
        "persistence",
        "spikes",
        *map(str, inner),
        "to 0.1",
        "to 1 nat",
        "within clip",
        "other clip",
        "beyond level",
    )
    print_table(table, (*less, "± s.e."))
    out = console()
    out.print(_told_of_level(report), soft_wrap=True)
    if len(report.sequences) > 1:
        _print_over_sequences(report)
    proof = f"largest certificate of the optima: {report.certificate_max:.2g} nats"
    if report.certificate_max != report.certificate_max:
        proof = "the optima are estimates, by 200 steps of the LCA"
    out.print(
        f"{proof}; ± s.e. is over the tubes of a sequence, in the mean over sequences; steps are means from a start at "
        f"the prior / the previous posterior / the safer of both, at most {MOST_STEPS}",
        soft_wrap=True,
    )


def _told_of_level(report: SequenceReport) -> str:
    if report.level is None:
        return "gain beyond level: not measured; name a run of itervae train --carryover level too"
    return f"gain beyond level: below the optimum of '{report.level}', the first run with --carryover level"


def _print_over_sequences(report: SequenceReport) -> None:
    """What holds over sequences, each counted once, against the optimum of the first candidate."""
    first, *others = report.over_sequences
    shown = [what for what in DIFFERENCES if any(what in report.over_sequences[name] for name in others)]
    if not shown:
        return
    title = f"nats per frame below {first}, mean over {len(report.sequences)} sequences ± s.e. (on how many above 0)"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("carryover", no_wrap=True)
    for what in shown:
        table.add_column(DIFFERENCES[what], justify="right", no_wrap=True)
    for name in others:
        found = report.over_sequences[name]
        table.add_row(name, *(_over(found[what]) if what in found else "-" for what in shown))
    print_table(table)


def _over(found: OverSequences) -> str:
    return f"{found.mean:.2f} ± {found.standard_error:.2g} ({found.above_zero} of {found.sequences})"


def _number(value: float, form: str) -> str:
    return "-" if math.isnan(value) else format(value, form)


def _starts(found: CarryoverReport, threshold: str) -> str:
    steps = found.steps_to.get(threshold)
    return " / ".join(f"{value:.1f}" for value in steps.values()) if steps else "-"


@torch.no_grad()
def _filtered(run: LoadedRun, tube: Tensor, seed: int) -> Filtered:
    """A typical one of some sequences (N, T, D), filtered by a run."""
    x, model, carryover = tube[typical(tube)][None], run.model, run.carryover
    assert carryover is not None
    generator = torch.Generator(x.device).manual_seed(seed)
    start = run.settings.sequence.start
    posterior = model.posterior(
        filter_sequence(model, run.engine, x, carryover, start=start, generator=generator).u.flatten(0, 1)
    )
    counts = posterior.sample((), generator)
    frames, spikes, decoded = (value.float().cpu().numpy() for value in (x[0], counts, model.decode(posterior.mean)))
    return frames, spikes, decoded, model.shape
