"""`itervae evaluate`: active units, sparsity, reconstruction, and what can be read out of the codes
of many runs."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import torch
import tyro

from itervae.arguments import OneOf
from itervae.cli.command import FIGURE, REPORT, Measurement, Output
from itervae.cli.evaluated import draw, print_tables
from itervae.cli.runs import Target, check_widths, common_fitted, described, named_engine
from itervae.cli.show import progress
from itervae.cli.suites import SUITES, labelled, measure
from itervae.data import DataSettings, Source, load_stills
from itervae.errors import InputError
from itervae.evaluation.codes import CODE_READOUTS, PIXELS, POINT_READOUTS, READOUTS, encode
from itervae.evaluation.halves import halves
from itervae.files import write_json
from itervae.inference import Engine
from itervae.model import SparsityPrior
from itervae.plotting import save

SCHEMA, KIND = 1, "evaluation"
"""Version and kind of the report."""


class Job(NamedTuple):
    """A run with the engine that infers its codes, and that engine's steps and name."""

    target: Target
    engine: Engine
    steps: int | None
    inference: str


@dataclass(kw_only=True)
class Evaluate(Measurement):
    """Measure the codes of runs: active units, sparsity, reconstruction, and what nearest
    neighbours and linear classifiers read out of them. One rule and one list of read-outs for every
    family; see docs/evaluate.md."""

    EXAMPLES = (
        "itervae evaluate runs/poisson runs/gaussian --json evaluation.json --figure evaluation.png",
        "itervae evaluate runs/poisson --suite knn shattering --readouts residual root --split test",
    )

    OUTPUTS: ClassVar[Mapping[str, Output]] = {"json": REPORT, "figure": FIGURE}

    runs: Annotated[tyro.conf.Positional[list[Path]], tyro.conf.arg(metavar="RUN ...")]
    """Run folders, checkpoints, or dictionary files (.npz, .npy)."""
    data: DataSettings
    suite: tuple[Annotated[str, OneOf(SUITES)], ...] | None = None
    """What is measured; by default all that fit the data (knn, shattering and readout need
    labels)."""
    readouts: tuple[Annotated[str, OneOf(READOUTS)], ...] | None = None
    """What is classified, pixels for reference; by default all. The figure shows the neighbours of
    the first."""
    inference: Annotated[str | None, tyro.conf.arg(metavar="ENGINE:STEPS")] = None
    """ENGINE, MODULE:CLASS or the folder of another run, with or without :STEPS; by default each
    run's own."""
    split: Literal["validation", "test"] = "validation"
    """Which data. Everything that is chosen, a model or a setting, is chosen by validation; test is
    for the last report of what was chosen, and nothing else ever reads it."""
    num: int | None = None
    """Number of data, the first so many; by default all."""
    json: Path | None = None
    """File for the report."""
    figure: Path | None = None
    """File (.png, .pdf, .svg) for the picture."""
    seed: int = 0
    """Seed of samples and of the labelled data drawn."""

    @property
    def paths(self) -> Sequence[Path]:
        return self.runs

    @property
    def named(self) -> Sequence[str]:
        return [] if self.inference is None else [self.inference]

    def check(self) -> None:
        suites = _chosen("--suite", self.suite, SUITES)
        _chosen("--readouts", self.readouts, READOUTS)
        if self.num is not None and self.num < 2:
            raise InputError(f"--num is {self.num}; expected at least 2, over which sparsity is measured")
        if not self.runs:
            raise InputError(
                "no run was named; expected run folders or checkpoints of itervae train, or dictionary files"
            )
        drawn = [name for name, suite in SUITES.items() if suite.drawn]
        if self.figure is not None and not {*suites} & {*drawn}:
            raise InputError(f"--figure draws the suites {', '.join(drawn)}, and none of them was asked for; add one")

    def work(self) -> tuple[dict[str, Any], list[str]]:
        readouts = _chosen("--readouts", self.readouts, READOUTS)
        jobs = {name: self._job(target) for name, target in self.targets.items()}
        source = load_stills(self.data, self.seed, fitted=common_fitted(self.targets.values()))
        x, labels = self._split(source)
        suites, notes = self._fitting(source, x, labels)
        notes += _lacking(jobs, suites, readouts)
        found, pixels = _measure_all(jobs, x, labels, suites, readouts, self.seed)
        result = {
            "schema": SCHEMA,
            "kind": KIND,
            "data": described(source, self.split),
            "split": self.split,
            "num": len(x),
            **({PIXELS: pixels} if pixels else {}),
            "runs": found,
        }
        return result, notes

    def _job(self, target: Target) -> Job:
        if self.inference is None:
            return Job(target, target.engine, None, target.inference)
        return Job(target, *named_engine(self.inference, target, self.own()), self.inference)

    def files(self, found: tuple[dict[str, Any], list[str]]) -> Mapping[str, Callable[[Path], object]]:
        result, _ = found
        readouts = _chosen("--readouts", self.readouts, READOUTS)
        return {
            "json": lambda path: write_json(path, result),
            "figure": lambda path: save(draw(result, readouts), path),
        }

    def tell(self, found: tuple[dict[str, Any], list[str]]) -> None:
        result, notes = found
        print_tables(result)
        for note in notes:
            print(note)

    def _split(self, source: Source) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The data (N, D) asked for and their labels (N,), if any."""
        x, labels = (source.validation, source.validation_labels) if self.split == "validation" else source.load_test()
        x = x[: self.num].to(self.device)
        check_widths(source, self.targets.values())
        if len(x) < 2:
            raise InputError(f"there are {len(x)} data in {source.name} {self.split}; expected at least 2: use others")
        return x, None if labels is None else labels[: self.num].to(self.device)

    def _fitting(
        self, source: Source, x: torch.Tensor, labels: torch.Tensor | None
    ) -> tuple[tuple[str, ...], list[str]]:
        """The suites that the data allow, and a line on what they do not; refused where that was
        asked for by name."""
        notes: list[str] = []
        suites = _chosen("--suite", self.suite, SUITES)
        needing = [name for name in suites if SUITES[name].labelled]
        if labels is None and needing:
            if self.suite is not None:
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
        pixels = classify(PIXELS, {PIXELS: lambda: x}) if PIXELS in readouts else {}
    return found, {suite: score[PIXELS] for suite, score in pixels.items()}


def _lacking(jobs: dict[str, Job], suites: tuple[str, ...], readouts: tuple[str, ...]) -> list[str]:
    """A line for each run that is a sparse code, on what it has not; refused where nothing asked
    for is left of it."""
    notes = []
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


def _chosen(option: str, names: tuple[str, ...] | None, known: Collection[str]) -> tuple[str, ...]:
    """The names that were given, each once; all of them where none was."""
    if names is None:
        return tuple(known)
    if not names:
        raise InputError(f"{option} was given no value; expected some of {', '.join(known)}")
    return tuple(dict.fromkeys(names))


run = partial(Evaluate.run, "itervae evaluate")
