"""`itervae evaluate`: active units, sparsity, reconstruction, and what can be read out of the codes
of many runs."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import tyro

from itervae.arguments import OneOf
from itervae.cli.command import FIGURE, REPORT, Measurement, Output
from itervae.cli.suites import SUITES
from itervae.cli.targets import DictionarySettings
from itervae.data import DataSettings
from itervae.errors import InputError
from itervae.evaluation.readouts import READOUTS


@dataclass(kw_only=True)
class Evaluate(Measurement):
    """Measure the codes of runs: active units, sparsity, reconstruction, and what nearest
    neighbours and linear classifiers read out of them. One rule and one list of read-outs for every
    family; see docs/evaluate.md."""

    EXAMPLES = (
        "itervae evaluate runs/poisson runs/gaussian --json evaluation.json --figure evaluation.png",
        "itervae evaluate runs/poisson --suite knn shattering --readouts residual root --split test",
        "itervae evaluate runs/synthetic --truth",
    )

    WORK = "itervae.cli.work.evaluate"
    OUTPUTS: ClassVar[Mapping[str, Output]] = {"json": REPORT, "figure": FIGURE}

    runs: Annotated[tyro.conf.Positional[list[Path]], tyro.conf.arg(metavar="RUN ...")]
    """Run folders, checkpoints, or dictionary files (.npz, .npy, .mat, ...)."""
    data: DataSettings
    reading: DictionarySettings = field(default_factory=DictionarySettings)
    suite: tuple[Annotated[str, OneOf(SUITES)], ...] | None = None
    """What is measured; by default all that fit the data (knn, shattering and readout need
    labels, truth synthetic data)."""
    truth: bool = False
    """The dictionary and codes beside those that synthetic data were made of, and nothing else that
    is not asked for: short for --suite truth."""
    readouts: tuple[Annotated[str, OneOf(READOUTS)], ...] | None = None
    """What is classified, pixels for reference; by default all. The figure shows the neighbours of
    the first."""
    inference: Annotated[str | None, tyro.conf.arg(metavar="ENGINE:STEPS")] = None
    """ENGINE, MODULE:CLASS or the folder of another run, with or without :STEPS; by default each
    run's own."""
    split: Literal["validation", "test"] = "validation"
    """Which data. Everything that is chosen, a model or a setting, is chosen by validation; test is
    for the last report of what was chosen, and nothing else ever reads it."""
    whole: bool = False
    """Measure on the held-out pictures whole, which are of one size, in place of crops of them; for
    convolutional dictionaries."""
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

    @property
    def asked(self) -> tuple[str, ...] | None:
        """The suites that were asked for; None where none was."""
        return (*(self.suite or ()), "truth") if self.truth else self.suite

    def check(self) -> None:
        chosen("--suite", self.asked, SUITES)
        chosen("--readouts", self.readouts, READOUTS)
        if self.whole and self.split != "validation":
            raise InputError(f"--whole is of pictures that are held out, and --split is {self.split}; leave one out")
        if self.num is not None and self.num < 2:
            raise InputError(f"--num is {self.num}; expected at least 2, over which sparsity is measured")
        if not self.runs:
            raise InputError(
                "no run was named; expected run folders or checkpoints of itervae train, or dictionary files"
            )
        if self.figure is not None and self.asked is not None:
            drawn = [name for name, suite in SUITES.items() if suite.drawn]
            if not {*self.asked} & {*drawn}:
                raise InputError(
                    f"--figure draws the suites {', '.join(drawn)}, and none of them was asked for; add one"
                )


def chosen(option: str, names: tuple[str, ...] | None, known: Collection[str]) -> tuple[str, ...]:
    """The names that were given, each once; all of them where none was."""
    if names is None:
        return tuple(known)
    if not names:
        raise InputError(f"{option} was given no value; expected some of {', '.join(known)}")
    return tuple(dict.fromkeys(names))


run = partial(Evaluate.run, "itervae evaluate")
