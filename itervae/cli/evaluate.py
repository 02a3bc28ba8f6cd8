"""`itervae evaluate`: active units, sparsity, reconstruction, and what can be read out of the codes of many runs."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
import tyro

from itervae.arguments import nearest
from itervae.cli.evaluated import draw, print_tables
from itervae.cli.outputs import check_outputs
from itervae.cli.runs import Target, check_width, chosen_data, data_given, described, named_engine, open_target
from itervae.cli.show import progress
from itervae.data import NOTHING_FITTED, DataSettings, Fitted, Source, load_stills
from itervae.errors import InputError
from itervae.evaluation.codes import CODE_READOUTS, PIXELS, POINT_READOUTS, READOUTS, encode
from itervae.evaluation.halves import halves
from itervae.evaluation.neighbours import BUDGETS, fitting_budgets
from itervae.evaluation.suites import LABELLED, SUITES, measure, measure_features, report
from itervae.files import write_json
from itervae.inference import Engine
from itervae.model import SparsityPrior
from itervae.options import parse
from itervae.plotting import save
from itervae.training import choose_device

DRAWN = ("units", *LABELLED)
"""Suites that the figure shows."""


@dataclass
class Evaluate:
    """Measure the codes of runs: active units, sparsity, reconstruction, and what nearest neighbours and linear
    classifiers read out of them. One rule and one list of read-outs for every family; see docs/evaluate.md."""

    runs: tyro.conf.Positional[list[Path]]
    """Run folders, checkpoints, or dictionary files (.npz, .npy)."""
    data: DataSettings
    suite: str | None = None
    """Comma-separated: units, sparsity, knn, shattering, readout, reconstruction; by default all that fit the data
    (knn, shattering and readout need labels)."""
    readouts: str | None = None
    """Comma-separated, what is classified: residual, clamped, mean, root, sample, and pixels for reference; by default
    all. The figure shows the neighbours of the first."""
    inference: str | None = None
    """ENGINE or ENGINE:STEPS to infer with; by default each run's own."""
    split: Literal["validation", "test"] = "validation"
    """Which data. Everything that is chosen, a model or a setting, is chosen by validation; test is for the last
    report of what was chosen, and nothing else ever reads it."""
    num: int | None = None
    """Number of data, the first so many; by default all."""
    json: Path | None = None
    """File for the report."""
    figure: Path | None = None
    """File (.png) for the picture."""
    seed: int = 0
    """Seed of samples and of the labelled data drawn."""
    device: str = "auto"
    """cpu, cuda, or auto."""


@dataclass(frozen=True)
class Job:
    """A run with the engine that infers its codes, and that engine's steps and name."""

    target: Target
    engine: Engine
    steps: int | None
    inference: str


def run(args: list[str]) -> None:
    options = parse(Evaluate, "itervae evaluate", args)
    suites = _chosen(options.suite, SUITES, "suite")
    readouts = _chosen(options.readouts, READOUTS, "read-out")
    if options.num is not None and options.num < 2:
        raise InputError(f"--num is {options.num}; expected at least 2, over which sparsity is measured")
    if not options.runs:
        raise InputError("no run was named; expected run folders or checkpoints of itervae train, or dictionary files")
    check_outputs(options, {"json": "", "figure": ".png"}, options.runs)
    if options.figure is not None and not set(suites) & set(DRAWN):
        raise InputError(f"--figure draws the suites {', '.join(DRAWN)}, and none of them was asked for; add one")
    device = choose_device(options.device)
    jobs = _jobs(options)
    given = data_given(args, options.data)
    settings, fitted = _data_of_runs(jobs, given)
    source = load_stills(settings, options.seed, fitted=fitted)
    x, labels = _split(source, options, jobs, device)
    suites, notes = _fitting(suites, options, source, x, labels)
    notes += _lacking(jobs, suites, readouts)

    found, pixels = _measure_all(jobs, x, labels, suites, readouts, options.seed)
    data = described(source, options.split)
    result = report(found, pixels, data, options.split, len(x))
    if options.json is not None:
        write_json(options.json, result)
    if options.figure is not None:
        save(draw(result, readouts), options.figure)
    print_tables(result)
    for note in notes:
        print(note)


def _measure_all(
    jobs: dict[str, Job],
    x: torch.Tensor,
    labels: torch.Tensor | None,
    suites: tuple[str, ...],
    readouts: tuple[str, ...],
    seed: int,
) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """The measures of each run, and those of the pixels."""
    labelled = tuple(suite for suite in suites if suite in LABELLED and labels is not None)
    found: dict[str, dict[str, Any]] = {}
    with progress() as bar:

        def classify(name: str, features: dict[str, Callable[[], torch.Tensor]]) -> dict[str, Any]:
            """suite → read-out → scores"""
            if labels is None or not labelled:
                return {}
            task = bar.add_task(f"{name}: read-outs", total=len(features) * len(labelled))
            scores: dict[str, Any] = {suite: {} for suite in labelled}
            for readout, make in features.items():
                for suite, score in measure_features(make(), labels, labelled, seed, partial(bar.advance, task)):
                    scores[suite][readout] = score
            return scores

        for name, job in jobs.items():
            model, engine = job.target.model.to(x.device), job.engine.to(x.device)
            advance = partial(bar.advance, bar.add_task(f"{name}: codes", total=len(x)))
            codes = encode(model, engine, x, steps=job.steps, seed=seed, advance=advance)
            features = {readout: partial(codes.readout, readout) for readout in readouts if readout in codes.readouts}
            described = {"family": codes.family, "inference": job.inference}
            found[name] = described | measure(codes, x, suites) | classify(name, features)
        pixels = classify(PIXELS, {PIXELS: lambda: x}) if PIXELS in readouts else {}
    return found, {suite: score[PIXELS] for suite, score in pixels.items()}


def _lacking(jobs: dict[str, Job], suites: tuple[str, ...], readouts: tuple[str, ...]) -> list[str]:
    """A line for each run that is a sparse code, on what it has not; refused where nothing asked for is left of it."""
    notes = []
    wanted = [readout for readout in readouts if readout in CODE_READOUTS] if set(suites) & set(LABELLED) else []
    for name, job in jobs.items():
        if not isinstance(job.target.model.prior, SparsityPrior):
            continue
        without = [readout for readout in wanted if readout not in POINT_READOUTS]
        for option, asked, missing in (("suite", suites, ["units"]), ("readouts", wanted, without)):
            if missing and set(asked) <= set(missing):
                raise InputError(
                    f"--{option} is {','.join(asked)}, and {name} is a sparse code: a point estimate, which has no KL "
                    "and no samples; leave out this run, or ask for more"
                )
        if missing := ["units"] * ("units" in suites) + without:
            notes.append(f"{name} is a sparse code, a point estimate: {', '.join(missing)} left out")
    return notes


def _chosen(text: str | None, known: Collection[str], what: str) -> tuple[str, ...]:
    """The names in a comma-separated list, each once; all of them where there is no list."""
    if text is None:
        return tuple(known)
    names = tuple(dict.fromkeys(filter(None, (name.strip() for name in text.split(",")))))
    for name in names:
        if name not in known:
            raise InputError(f"{what} {name!r} is unknown; {nearest(name, known)}expected some of {', '.join(known)}")
    if not names:
        raise InputError(f"{text!r} names no {what}; expected some of {', '.join(known)}")
    return names


def _jobs(options: Evaluate) -> dict[str, Job]:
    """What to do for each run, by a short name."""
    paths = list(dict.fromkeys(options.runs))
    short = [str(Path(*path.parts[-2:])) if path.suffix == ".pt" else path.name for path in paths]
    names = short if len(set(short)) == len(short) else [str(path) for path in paths]
    base, _, number = options.inference.partition(":") if options.inference is not None else ("", "", "")
    if number and not number.isdecimal():
        raise InputError(
            f"--inference {options.inference!r} asks for {number!r} steps; expected ENGINE:STEPS with a whole number"
        )
    found = {}
    for name, path in zip(names, paths, strict=True):
        target = open_target(path)
        engine = named_engine(base, target) if base else target.engine
        found[name] = Job(target, engine, int(number) if number else None, options.inference or target.inference)
    return found


def _data_of_runs(jobs: dict[str, Job], given: dict[str, Any]) -> tuple[DataSettings, Fitted]:
    """The data that all runs were trained on, with what is given in place of their settings, and what was fitted on it;
    the default for dictionary files."""
    runs = {name: job.target for name, job in jobs.items() if job.target.data is not None}
    if not runs:
        return chosen_data(None, given), NOTHING_FITTED
    (first, target), *others = runs.items()
    data = chosen_data(target.data, given)
    for name, other in others:
        theirs = chosen_data(other.data, given)
        if replace(theirs, download=True) != replace(data, download=True):
            raise InputError(
                f"{first} was trained on {_described(data)} and {name} on {_described(theirs)}; name the data to "
                "measure all of them on with --data"
            )
        if other.prepare.fitted != target.prepare.fitted:
            raise InputError(
                f"{first} prepares its data with {_fitted(target.prepare.fitted)} and {name} with "
                f"{_fitted(other.prepare.fitted)}, which were fitted on what each was trained on; evaluate them apart"
            )
    return data, target.prepare.fitted


def _fitted(values: Fitted) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in values.items()) or "nothing fitted"


def _described(data: DataSettings) -> str:
    changed = [
        f"{setting.name} {getattr(data, setting.name)}"
        for setting in fields(data)
        if setting.name not in ("data", "download") and getattr(data, setting.name) != setting.default
    ]
    return f"{data.data} ({', '.join(changed)})" if changed else data.data


def _split(
    source: Source, options: Evaluate, jobs: dict[str, Job], device: torch.device
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The data (N, D) asked for and their labels (N,), if any."""
    x, labels = (source.validation, source.validation_labels) if options.split == "validation" else source.load_test()
    x = x[: options.num].to(device)
    for name, job in jobs.items():
        check_width(source, job.target.model, name)
    if len(x) < 2:
        raise InputError(f"there are {len(x)} data in {source.name} {options.split}; expected at least 2: use others")
    return x, None if labels is None else labels[: options.num].to(device)


def _fitting(
    suites: tuple[str, ...],
    options: Evaluate,
    source: Source,
    x: torch.Tensor,
    labels: torch.Tensor | None,
) -> tuple[tuple[str, ...], list[str]]:
    """The suites that the data allow, and a line on what they do not; refused where that was asked for by name."""
    notes = []
    needing = [suite for suite in suites if suite in LABELLED]
    if labels is None and needing:
        if options.suite is not None:
            raise InputError(
                f"--suite {', '.join(needing)} needs labels, and --data {source.name} has none; leave it out, or use "
                "--data mnist"
            )
        notes.append(f"--data {source.name} has no labels: {', '.join(needing)} left out")
        suites = tuple(suite for suite in suites if suite not in needing)
    elif labels is not None and needing:
        halves(x, labels)  # refuses labels that nothing can be learned from, before the work and not after
    num = len(x)
    unfit = [str(budget) for budget in BUDGETS if budget not in fitting_budgets(num)] if "knn" in suites else []
    if unfit:
        notes.append(f"{num} data leave a pool of {num // 2} to draw labels from: {', '.join(unfit)} labels left out")
    return suites, notes
