"""The work of `itervae evaluate`."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

from itervae.cli.evaluate import Evaluate, chosen
from itervae.cli.evaluated import draw, print_tables
from itervae.cli.runs import Target, common_fitted, described, held_pictures, match_data, named_engine
from itervae.cli.show import progress
from itervae.cli.suites import SUITES, comparing, labelled, measure
from itervae.data import Source, Truth, load_stills
from itervae.errors import InputError
from itervae.evaluation.codes import encode
from itervae.evaluation.halves import halves
from itervae.evaluation.readouts import CODE_READOUTS, PIXELS, POINT_READOUTS, READOUTS
from itervae.files import write_json
from itervae.inference import Engine
from itervae.model import SparsityPrior
from itervae.plotting import save

SCHEMA, KIND = 2, "evaluation"
"""Version and kind of the report."""


class Job(NamedTuple):
    """A run with the engine that infers its codes, and that engine's steps and name."""

    target: Target
    engine: Engine
    steps: int | None
    inference: str


def work(options: Evaluate) -> tuple[dict[str, Any], list[str]]:
    readouts = chosen("--readouts", options.readouts, READOUTS)
    jobs = {name: _job(options, target) for name, target in options.targets.items()}
    source = load_stills(options.data, options.seed, fitted=common_fitted(options.targets.values()))
    x, labels, shape = _split(options, source)
    jobs = {name: job._replace(target=job.target.at(shape)) for name, job in jobs.items()}
    suites, notes = _fitting(options, source, x, labels)
    notes += _lacking(jobs, suites, readouts)
    truth = source.truth(options.split) if comparing(suites) else None
    found, pixels = _measure_all(jobs, x, labels, truth, suites, readouts, options.seed)
    result = {
        "schema": SCHEMA,
        "kind": KIND,
        "data": described(source, options.split) + ", whole pictures" * options.whole,
        "split": options.split,
        "num": len(x),
        **({PIXELS: pixels} if pixels else {}),
        "runs": found,
    }
    return result, notes


def _job(options: Evaluate, target: Target) -> Job:
    if options.inference is None:
        return Job(target, target.engine, None, target.inference)
    return Job(target, *named_engine(options.inference, target, options.own()), options.inference)


def files(options: Evaluate, found: tuple[dict[str, Any], list[str]]) -> Mapping[str, Callable[[Path], object]]:
    result, _ = found
    readouts = chosen("--readouts", options.readouts, READOUTS)
    return {
        "json": lambda path: write_json(path, result),
        "figure": lambda path: save(draw(result, readouts), path),
    }


def tell(options: Evaluate, found: tuple[dict[str, Any], list[str]]) -> None:
    result, notes = found
    print_tables(result)
    for note in notes:
        print(note)


def _split(options: Evaluate, source: Source) -> tuple[torch.Tensor, torch.Tensor | None, tuple[int, ...]]:
    """The data (N, D) asked for, their labels (N,), if any, and the shape of a datum."""
    if options.whole:
        first, *others = parts = held_pictures(source, options.targets.values(), options.num)
        if others or len(first) < 2:
            sizes = ", ".join(f"{len(part)} of {'x'.join(map(str, part.shape[-2:]))}" for part in parts)
            raise InputError(f"the held-out pictures are {sizes} pixels; expected at least 2, of one size: name others")
        return first.flatten(1).to(options.device), None, tuple(first.shape[1:])
    x, labels = (source.validation, source.validation_labels) if options.split == "validation" else source.load_test()
    x = x[: options.num].to(options.device)
    match_data(source, options.targets.values())
    if len(x) < 2:
        raise InputError(f"there are {len(x)} data in {source.name} {options.split}; expected at least 2: use others")
    return x, None if labels is None else labels[: options.num].to(options.device), source.shape


def _fitting(
    options: Evaluate, source: Source, x: torch.Tensor, labels: torch.Tensor | None
) -> tuple[tuple[str, ...], list[str]]:
    """The suites that the data allow, and a line on what they do not; refused where that was
    asked for by name."""
    notes: list[str] = []
    suites = chosen("--suite", options.asked, SUITES)
    if source.truth(options.split) is None and (known := comparing(suites)):
        if options.asked is not None:
            raise InputError(
                f"--suite {' '.join(known)} needs the dictionary that data were made of, and --data {source.name} has "
                "none; leave it out, or use --data synthetic"
            )
        suites = tuple(suite for suite in suites if suite not in known)
    needing = [name for name in suites if SUITES[name].labelled]
    if labels is None and needing:
        if options.asked is not None:
            raise InputError(
                f"--suite {' '.join(needing)} needs labels, and --data {source.name} has none; leave it out, or "
                "use --data mnist"
            )
        notes.append(f"--data {source.name} has no labels: {', '.join(needing)} left out")
        suites = tuple(suite for suite in suites if suite not in needing)
    elif labels is not None and needing:
        halves(x, labels)  # refuses labels that nothing can be learned from, before the work and not after
    found = [SUITES[name].note(len(x)) for name in suites]
    return suites, [*notes, *filter(None, found)]


def _measure_all(
    jobs: dict[str, Job],
    x: torch.Tensor,
    labels: torch.Tensor | None,
    truth: Truth | None,
    suites: tuple[str, ...],
    readouts: tuple[str, ...],
    seed: int,
) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """The measures of each run, and those of the pixels."""
    scored = labelled(suites) if labels is not None else {}
    found: dict[str, dict[str, Any]] = {}
    with progress() as bar:

        def classify(run: str, features: dict[str, Callable[[], torch.Tensor]]) -> dict[str, Any]:
            """suite → read-out → scores"""
            if labels is None or not scored:
                return {}
            task = bar.add_task(f"{run}: read-outs", total=len(features) * len(scored))
            scores: dict[str, Any] = {suite: {} for suite in scored}
            for readout, make in features.items():
                made = make()
                for name, suite in scored.items():
                    scores[name][readout] = suite.score(made, labels, seed)
                    bar.advance(task)
            return scores

        for name, job in jobs.items():
            model, engine = job.target.model.to(x.device), job.engine.to(x.device)
            advance = partial(bar.advance, bar.add_task(f"{name}: codes", total=len(x)))
            codes = encode(model, engine, x, steps=job.steps, seed=seed, advance=advance)
            features = {readout: partial(codes.readout, readout) for readout in readouts if readout in codes.readouts}
            about = {"family": codes.family, "inference": job.inference}
            found[name] = about | measure(codes, x, suites) | classify(name, features)
            if truth is not None and _has_matrix(job.target):
                parts = model.dictionary.detach(), codes.mean, truth.atoms, truth.codes[: len(x)]
                found[name] |= {suite: compared.compare(*parts) for suite, compared in comparing(suites).items()}
        pixels = classify(PIXELS, {PIXELS: lambda: x}) if PIXELS in readouts else {}
    return found, {suite: score[PIXELS] for suite, score in pixels.items()}


def _has_matrix(target: Target) -> bool:
    """Whether a run has a dictionary of atoms of the size of a datum."""
    return target.model.atoms is not None and not target.model.convolutional


def _lacking(jobs: dict[str, Job], suites: tuple[str, ...], readouts: tuple[str, ...]) -> list[str]:
    """A line for each run on what it has not, as a sparse code, or without a dictionary; refused
    where nothing asked for is left of it."""
    notes = []
    known = [*comparing(suites)]
    for name, job in jobs.items():
        if known and not _has_matrix(job.target):
            if set(suites) <= set(known):
                raise InputError(
                    f"--suite is {' '.join(suites)}, and {name} has no dictionary of atoms of the size of a datum; "
                    "leave out this run, or ask for more"
                )
            notes.append(f"{name} has no dictionary of atoms of the size of a datum: {', '.join(known)} left out")
    wanted = [readout for readout in readouts if readout in CODE_READOUTS] if labelled(suites) else []
    lacking = [name for name in suites if not SUITES[name].of_points]
    for name, job in jobs.items():
        if not isinstance(job.target.model.prior, SparsityPrior):
            continue
        without = [readout for readout in wanted if readout not in POINT_READOUTS]
        for option, asked, missing in (("suite", suites, lacking), ("readouts", wanted, without)):
            if missing and set(asked) <= set(missing):
                raise InputError(
                    f"--{option} is {' '.join(asked)}, and {name} is a sparse code: a point estimate, which has no KL "
                    "and no samples; leave out this run, or ask for more"
                )
        if missing := lacking + without:
            notes.append(f"{name} is a sparse code, a point estimate: {', '.join(missing)} left out")
    return notes
