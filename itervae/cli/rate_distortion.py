"""`itervae rate-distortion`: reconstruction error against sparsity, of Poisson VAEs and of sparse
coding."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import tyro

from itervae.cli.command import FIGURE, REPORT, Measurement, Output
from itervae.cli.targets import DictionaryLayout
from itervae.data import DataSettings
from itervae.errors import InputError
from itervae.formats import is_array_file
from itervae.inference import ENGINES, split_steps

STEPS = 200
"""Inference steps of sparse-coding runs when they are measured: near the optimum, as the coders
are."""
CODERS = (f"lca-unrolled:{STEPS}:hard", f"lca-unrolled:{STEPS}:soft", f"ista-unrolled:{STEPS}:soft")


@dataclass(kw_only=True)
class RateDistortion(Measurement):
    """Measure reconstruction error against sparsity: of each Poisson VAE run with its own inference
    and with the best posterior, of each sparse-coding run with its own engine at 200 steps, and of
    sparse coding over thresholds on the dictionary of a Poisson VAE."""

    EXAMPLES = (
        "itervae rate-distortion runs/beta-* runs/threshold-* --json rd.json --figure rd.png",
        "itervae rate-distortion phi.npy --data images --data-path photographs/",
    )

    WORK = "itervae.cli.work.rate_distortion"
    OUTPUTS: ClassVar[Mapping[str, Output]] = {"json": REPORT, "figure": FIGURE}

    runs: Annotated[tyro.conf.Positional[list[Path]], tyro.conf.arg(metavar="RUN ...")]
    """Run folders or checkpoints of itervae train: Poisson VAEs over beta, sparse coding over
    thresholds; or a dictionary file alone, for the coders."""
    data: DataSettings
    dictionary: Path | None = None
    """Run or dictionary file whose atoms, scaled to unit norm, the coders use; by default the
    Poisson VAE among the runs whose beta is nearest to 1."""
    reading: DictionaryLayout = field(default_factory=DictionaryLayout)
    coders: Annotated[tuple[str, ...], tyro.conf.arg(metavar="ENGINE:STEPS:hard|soft ...")] = CODERS
    """Sparse coding with non-negative coefficients, each an engine of the registry or MODULE:CLASS
    of your own, a number of steps, and hard or soft."""
    thresholds: tuple[float, ...] = (0.2, 0.4, 0.8, 1.2, 1.6, 2.4, 3.2)
    """Thresholds of the coders, units of the data."""
    split: Literal["train", "validation"] = "validation"
    """Which data of the runs."""
    num: int = 1000
    """Number of data."""
    json: Path | None = None
    """File for the report."""
    figure: Path | None = None
    """File (.png, .pdf, .svg) for the picture."""
    seed: int = 0
    """Seed of the counts, and of the data drawn from the training split."""

    @property
    def paths(self) -> Sequence[Path]:
        return [path for path in self.runs if not is_array_file(path)]

    @property
    def named(self) -> Sequence[str]:
        return [coder.rpartition(":")[0] for coder in self.coders]

    def reads(self) -> Sequence[Path]:
        return [*self.runs, *filter(None, [self.dictionary])]

    def check(self) -> None:
        if self.num < 2:
            raise InputError(f"--num is {self.num}; expected at least 2, over which sparsity is measured")
        if not self.runs:
            raise InputError("no run was named; expected run folders or checkpoints of itervae train")
        if len(files := self.dictionaries()) > 1:
            raise InputError(
                f"{' and '.join(map(str, files))} were named as dictionaries; expected one, which all coders use"
            )
        for threshold in self.thresholds:
            if not 0 < threshold < math.inf:
                raise InputError(f"--thresholds has {threshold}; expected positive numbers")
        for coder in self.coders:
            check_coder(coder)

    def dictionaries(self) -> list[Path]:
        return [*filter(is_array_file, self.runs), *filter(None, [self.dictionary])]


def split_coder(text: str) -> tuple[str, int | None, str]:
    """Engine, steps and shrinkage of ENGINE:STEPS:SHRINKAGE."""
    engine, _, shrinkage = text.rpartition(":")
    return *split_steps(engine), shrinkage


def check_coder(text: str) -> None:
    """Refuse what does not have the form of a coder."""
    name, steps, shrinkage = split_coder(text)
    if shrinkage not in ("soft", "hard") or steps is None or not (name in ENGINES or ":" in name):
        raise unfit(text)


def unfit(text: str) -> InputError:
    """The error of a coder that is none."""
    return InputError(
        f"coder {text!r} is not ENGINE:STEPS:soft or ENGINE:STEPS:hard with one of {', '.join(fitting())}; write, "
        "say, lca-unrolled:200:soft"
    )


def fitting() -> list[str]:
    """The engines that sparse coding on a given dictionary can be done with."""
    return [
        name
        for name, kind in ENGINES.items()
        if "Poisson family or sparse coding" in kind.requires
        and "certifiable optimum" not in kind.requires
        and not kind.learned
    ]


run = partial(RateDistortion.run, "itervae rate-distortion")
