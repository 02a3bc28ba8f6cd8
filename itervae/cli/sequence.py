"""`itervae sequence`: what carryover buys on sequences, in nats per frame and in steps per frame."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from rich import box
from rich.measure import Measurement
from rich.table import Table
from torch import Tensor

from itervae.cli.outputs import check_outputs
from itervae.cli.runs import check_width, chosen_data, data_given, described
from itervae.cli.show import console, progress
from itervae.data import DataSettings, TubeSource, load_source, typical
from itervae.errors import InputError
from itervae.evaluation.sequences import (
    MOST_STEPS,
    CarryoverReport,
    SequenceReport,
    frames_to_filter,
    measure_sequences,
)
from itervae.files import write_json
from itervae.inference import Engine
from itervae.model import GenerativeModel
from itervae.options import parse
from itervae.plotting import save, save_animation, sequence_animation, sequence_figure, spikes_figure
from itervae.sequence import Carryover, NoCarryover, filter_sequence
from itervae.training import LoadedRun, choose_device, load

NONE = "none"
SCHEMA = 1
"""Version of the report."""


@dataclass
class Sequence:
    """Measure what carryover buys on held-out sequences: nats per frame over frames 2 to T, at the optimum of every
    frame and at a few steps, for each run and for the same model without carryover; the steps that a frame needs from
    each start; and the control with the past of another clip. See docs/sequence.md."""

    runs: tyro.conf.Positional[list[Path]]
    """Run folders or checkpoints of itervae train --data video or --data drift."""
    data: DataSettings
    steps: str = "1,2,3,5,10"
    """Comma-separated numbers of steps per frame."""
    tubes: int = 16
    """Sequences drawn from each held-out one."""
    json: Path | None = None
    """File for the report."""
    figure: Path | None = None
    """File (.png): free energy over frames and against steps."""
    spikes: Path | None = None
    """File (.png): frames, spikes and reconstructions of one sequence."""
    animation: Path | None = None
    """File (.gif): the same, moving."""
    seed: int = 0
    """Seed of engines that sample."""
    device: str = "auto"
    """cpu, cuda, or auto."""


def run(args: list[str]) -> None:
    options = parse(Sequence, "itervae sequence", args)
    steps = _numbers(options.steps)
    if options.tubes < 1:
        raise InputError(f"--tubes is {options.tubes}; expected a number ≥ 1")
    if not options.runs:
        raise InputError("no run was named; expected run folders of itervae train --data video or --data drift")
    outputs = {"json": "", "figure": ".png", "spikes": ".png", "animation": ".gif"}
    check_outputs(options, outputs, options.runs)
    device = choose_device(options.device)
    paths = list(dict.fromkeys(options.runs))
    loaded = [load(path, device) for path in paths]
    runs = [_on_sequences(run, path) for run, path in zip(loaded, paths, strict=True)]
    settings = [run.settings for run in loaded]
    candidates = _candidates(_short(paths), runs, [one.sequence.carryover for one in settings])
    source = _source(options, paths, loaded, data_given(args, options.data))
    for path, (model, _, _) in zip(paths, runs, strict=True):
        check_width(source, model, path)
    tubes = {name: tube.to(device) for name, tube in source.sequences(options.tubes).items()}

    rows = options.tubes * len(tubes)
    with progress() as bar:
        tasks = {
            name: bar.add_task(name, total=rows * frames_to_filter(engine, steps, source.frames))
            for name, (_, engine, _) in candidates.items()
        }
        report = measure_sequences(
            candidates,
            tubes,
            steps=steps,
            start=settings[0].sequence.start,
            seed=options.seed,
            advance=lambda name, frames: bar.advance(tasks[name], frames),
        )
    data = described(source, "validation")
    if options.json is not None:
        about = {"schema": SCHEMA, "data": data, "frames": source.frames, "tubes": options.tubes}
        write_json(options.json, about | asdict(report))
    if options.figure is not None:
        save(sequence_figure(asdict(report)), options.figure)
    if options.spikes is not None or options.animation is not None:
        _draw_spikes(options, next(iter(tubes.items())), runs[0], settings[0].sequence.start)
    _print(report, data, steps)


def _numbers(steps: str) -> list[int]:
    parts = [part.strip() for part in steps.split(",") if part.strip()]
    if not parts or not all(part.isdecimal() and int(part) for part in parts):
        raise InputError(f"--steps is {steps!r}; expected numbers ≥ 1 such as 1,2,3,5,10")
    return list(dict.fromkeys(int(part) for part in parts))


def _short(paths: list[Path]) -> list[str]:
    """Names of the runs, as short as tells them apart."""
    whole = [path if path.name not in ("", "..") else path.resolve() for path in paths]
    short = [str(Path(*path.parts[-2:])) if path.suffix == ".pt" else path.name for path in whole]
    return short if len(set(short)) == len(short) else [str(path) for path in paths]


def _candidates(
    runs: list[str], made: list[tuple[GenerativeModel, Engine, Carryover]], names: list[str]
) -> dict[str, tuple[GenerativeModel, Engine, Carryover]]:
    """Every run's own carryover, and none with each model that differs from the others; by the carryover's name, with
    that of the run where two would be the same."""
    found: dict[str, tuple[GenerativeModel, Engine, Carryover]] = {}
    models: list[GenerativeModel] = []
    plain: dict[str, tuple[GenerativeModel, Engine, Carryover]] = {}
    for run, (model, engine, carryover), name in zip(runs, made, names, strict=True):
        if not any(_same(model, other) for other in models):
            plain[f"{NONE} ({run})" if models else NONE] = (model, engine, NoCarryover())
            models.append(model)
        if name != NONE:
            found[name if names.count(name) == 1 else f"{name} ({run})"] = (model, engine, carryover)
    return plain | found


def _same(one: GenerativeModel, other: GenerativeModel) -> bool:
    first, second = one.state_dict(), other.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def _on_sequences(run: LoadedRun, path: Path) -> tuple[GenerativeModel, Engine, Carryover]:
    if run.carryover is None:
        raise InputError(f"{path} was not trained on sequences; expected a run of --data video or --data drift")
    return run.model, run.engine, run.carryover


def _source(options: Sequence, paths: list[Path], runs: list[LoadedRun], given: dict[str, Any]) -> TubeSource:
    """The data of the first run, with what is given in place of its settings, prepared as that run prepared its own;
    all runs have to have prepared theirs so."""
    settings, fitted = chosen_data(runs[0].settings.data, given), runs[0].prepare.fitted
    for path, run in zip(paths, runs, strict=True):
        if settings.data == "video" and run.prepare.fitted != fitted:
            raise InputError(
                f"{paths[0]} scales its frames by {fitted.get('scale', 1):.6g} and {path} by "
                f"{run.prepare.fitted.get('scale', 1):.6g}, as each was trained on other clips; measure them apart"
            )
    if not settings.sequential:
        raise InputError(f"--data {settings.data} has no order; use --data video or --data drift")
    if settings.frames == 1:
        raise InputError("sequences of one frame have no past; give --frames 2 or more")
    if settings.data == "video" and "scale" not in fitted:
        raise InputError(
            f"{paths[0]} does not hold the scale of the frames that it was trained on, as runs of earlier versions; "
            f"resume it once to have it saved: itervae train --resume {paths[0]} with a larger --updates or --minutes"
        )
    source = load_source(settings, options.seed, fitted=fitted)
    assert isinstance(source, TubeSource)
    return source


def _print(report: SequenceReport, data: str, steps: list[int]) -> None:
    table = Table(title=f"nats per frame, frames 2 to T ({data})", title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("sequence", no_wrap=True)
    table.add_column("carryover", no_wrap=True)
    for heading in ("optimum", "gain", "± s.e.", "shuffled"):
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
                f"{found.gain:.2f}",
                f"{found.gain_standard_error:.2g}",
                f"{found.shuffled_optimum:.2f}",
                *(f"{found.at_steps[number]:.2f}" if number in found.at_steps else "-" for number in numbers),
                _starts(found, "1.0"),
                _starts(found, "0.1"),
                f"{found.spikes:.1f}",
                f"{found.persistence:.2f}",
            )
            sequence = ""
        table.add_section()
    out = console()
    # a narrower table would lose digits, in files and pipes above all
    out.width = max(out.width, Measurement.get(out, out.options.update(width=1000), table).maximum)
    out.print(table)
    proof = f"largest certificate of the optima: {report.certificate_max:.2g} nats"
    if report.certificate_max != report.certificate_max:
        proof = "the optima are estimates, by 200 steps of the LCA"
    out.print(
        f"{proof}; steps are means from a start at the prior / the previous posterior / the safer of both, at most "
        f"{MOST_STEPS}",
        soft_wrap=True,
    )


def _starts(found: CarryoverReport, threshold: str) -> str:
    steps = found.steps_to.get(threshold)
    return " / ".join(f"{value:.1f}" for value in steps.values()) if steps else "-"


@torch.no_grad()
def _draw_spikes(
    options: Sequence, tubes: tuple[str, Tensor], run: tuple[GenerativeModel, Engine, Carryover], start: str
) -> None:
    """A typical one of the first sequence that was measured, filtered by the first run."""
    name, x = tubes[0], tubes[1][typical(tubes[1])][None]
    model, engine, carryover = run
    generator = torch.Generator(x.device).manual_seed(options.seed)
    posterior = model.posterior(
        filter_sequence(model, engine, x, carryover, start=start, generator=generator).u.flatten(0, 1)
    )
    counts = posterior.sample((), generator)
    frames, spikes, decoded = (value.float().cpu().numpy() for value in (x[0], counts, model.decode(posterior.mean)))
    if options.spikes is not None:
        save(spikes_figure(frames, spikes, decoded, model.shape, name), options.spikes)
    if options.animation is not None:
        save_animation(sequence_animation(frames, spikes, decoded, model.shape), options.animation)
