"""`itervae sequence`: what carryover buys on sequences, in nats per frame and in steps per
frame."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, ClassVar

import tyro

from itervae.arguments import check_positive, check_whole
from itervae.cli.command import FIGURE, REPORT, Measurement, Output
from itervae.data import DataSettings
from itervae.errors import InputError
from itervae.plotting.formats import FORMATS

STEPS = (1, 2, 3, 5, 10)


@dataclass(kw_only=True)
class Sequence(Measurement):
    """Measure what carryover buys on held-out sequences: nats per frame over frames 2 to T, at the
    optimum of every frame and at a few steps, for each run and for the same model without
    carryover; the steps that a frame needs from each start; and controls with the past of another
    clip, and of the same clip in another order. Where one of the runs has the carryover level, also
    what the others gain beyond it, and so beyond contrast. See docs/sequence.md."""

    EXAMPLES = (
        "itervae sequence runs/my-video --figure sequence.png --animation sequence.gif --json sequence.json",
        "itervae sequence runs/my-level runs/my-adaptive runs/my-gated",
        "itervae sequence runs/my-whole-level runs/my-whole-linear --whole --frames 8",
    )

    WORK = "itervae.cli.work.sequence"
    OUTPUTS: ClassVar[Mapping[str, Output]] = {
        "json": REPORT,
        "figure": FIGURE,
        "spikes": Output("figure of spikes", FORMATS),
        "animation": Output("animation", ".gif"),
    }

    runs: Annotated[tyro.conf.Positional[list[Path]], tyro.conf.arg(metavar="RUN ...")]
    """Run folders or checkpoints of itervae train --data video or --data drift."""
    data: DataSettings
    steps: tuple[int, ...] = STEPS
    """Numbers of steps per frame."""
    optima: bool = False
    """Measure the optima alone, and no steps, which take half of the time."""
    whole: bool = False
    """Measure on whole frames, in place of crops of them; for a convolutional dictionary."""
    certificate: float = 1e-6
    """Largest certificate of the optima, nats."""
    tubes: int | None = None
    """Sequences drawn from each held-out one, by default 16; of whole frames as many evenly spaced
    ones, by default its beginning alone."""
    json: Path | None = None
    """File for the report."""
    figure: Path | None = None
    """File (.png, .pdf, .svg): free energy over frames and against steps."""
    spikes: Path | None = None
    """File (.png, .pdf, .svg): frames, spikes and reconstructions of one sequence."""
    animation: Path | None = None
    """File (.gif): the same, moving."""
    seed: int = 0
    """Seed of engines that sample."""

    @property
    def paths(self) -> list[Path]:
        return self.runs

    def check(self) -> None:
        if not self.steps:
            raise InputError("--steps was given no value; expected numbers ≥ 1 such as 1 2 3 5 10")
        for number in self.steps:
            check_whole("--steps", number, 1)
        if self.optima and self.steps != STEPS:
            raise InputError(f"--optima takes no steps, and --steps is {' '.join(map(str, self.steps))}; leave one out")
        check_positive("--certificate", self.certificate, " of nats")
        if self.tubes is not None:
            check_whole("--tubes", self.tubes, 1)
        if not self.runs:
            raise InputError("no run was named; expected run folders of itervae train --data video or --data drift")


run = partial(Sequence.run, "itervae sequence")
