"""`itervae report`: one page about a run, in a file that needs no other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, ClassVar

import tyro

from itervae.arguments import check_whole
from itervae.cli.command import Measurement, Output
from itervae.data import DataSettings
from itervae.errors import InputError
from itervae.formats import is_array_file


@dataclass(kw_only=True)
class Report(Measurement):
    """Write one page about a run: what it is, its curves, dictionary, reconstructions and samples,
    the gap of its engine on held-out data, its codes, and all its settings. The file is HTML with
    its pictures in it."""

    EXAMPLES = ("itervae report runs/my-run", "itervae report runs/my-run --num 2000 --output report.html")
    WORK = "itervae.cli.work.report"
    OUTPUTS: ClassVar[Mapping[str, Output]] = {"output": Output("report", ".html")}

    target: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """Run folder, or checkpoint."""
    data: DataSettings
    output: Path | None = None
    """File to write, .html; by default report.html in the folder of the run."""
    num: int = 500
    """Number of held-out data that are measured."""
    seed: int = 0
    """Seed of samples and of engines that draw."""

    @property
    def paths(self) -> Sequence[Path]:
        return [self.target]

    def check(self) -> None:
        check_whole("--num", self.num, 2)
        if is_array_file(self.target):
            raise InputError(f"{self.target} is a dictionary file; expected a run of itervae train: use itervae gap")
        if self.output is None:
            self.output = self.folder / "report.html"

    @property
    def folder(self) -> Path:
        """The folder of the run."""
        return self.target if self.target.is_dir() else self.target.parent


run = partial(Report.run, "itervae report")
