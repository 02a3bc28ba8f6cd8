"""`itervae gap`: the amortization gap of any engines on any model, certified where the decoder is
linear."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import torch
import tyro
from rich import box
from rich.table import Table

from itervae.arguments import check_finite, check_positive, check_whole
from itervae.cli.command import FIGURE, REPORT, Measurement, Output
from itervae.cli.runs import DictionarySettings, Target, check_widths, described, named_engine, open_target
from itervae.cli.show import console, progress
from itervae.data import DataSettings, Source, load_stills
from itervae.errors import InputError
from itervae.evaluation import GapReport, amortization_gap
from itervae.evaluation.gap import APPROXIMATION
from itervae.files import write_arrays, write_json
from itervae.inference import fitting as fitting_engines
from itervae.inference import split_steps
from itervae.plotting import gap_figure, save

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DEFAULT_ENGINES = ("lca-unrolled:20", "fista-unrolled:20")
ESTIMATE_FLOOR = 1e-2
"""Gaps to an estimate are drawn from here on, nats."""


@dataclass(kw_only=True)
class Gap(Measurement):
    """Measure the amortization gap: the free energy of each engine's posterior above the best one,
    per datum in nats, proved by a duality certificate where the decoder is linear, else against the
    best of several starts. Of sparse coding: the energy of each engine's code above the least one,
    by the duality gap of the lasso."""

    EXAMPLES = (
        "itervae gap runs/my-run",
        "itervae gap phi.npz --engines lca-unrolled:20 fista-unrolled:20 --figure gap.png --json gap.json",
        "itervae gap phi.npy --model sparse-coding --threshold 0.1 --data array --data-path x.npy",
    )

    OUTPUTS: ClassVar[Mapping[str, Output]] = {
        "json": REPORT,
        "save": Output("free energies", ".npz"),
        "figure": FIGURE,
    }

    target: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="TARGET")]
    """Run folder, checkpoint, or dictionary file (.npz, .npy)."""
    data: DataSettings
    reading: DictionarySettings = field(default_factory=DictionarySettings)
    engines: Annotated[tuple[str, ...] | None, tyro.conf.arg(metavar="ENGINE:STEPS ...")] = None
    """Engines of the registry, MODULE:CLASS of your own, or the run's own, with or without :STEPS;
    or folders of other runs, whose trained engines are brought here. By default the run's own,
    lca-unrolled:20 and, where it fits, fista-unrolled:20."""
    split: Literal["train", "validation", "all"] | None = None
    """Which data; by default validation for a run, all for a dictionary."""
    num: int | None = None
    """Number of data; by default 1000, or 100 where the optimum is an estimate, which takes
    long."""
    contrast: float = 1.0
    """Factor on the data: 2 is a test outside the distribution that engines were trained on."""
    certificate: float = 1e-6
    """Largest certificate of the optimum, nats; of sparse coding in squared units of the data."""
    trace: bool = False
    """Also the gap after every step."""
    approximation: bool = False
    """Also the approximation gap F* − (−log p(x)), by importance weighting with up to 5000 samples
    per datum."""
    json: Path | None = None
    """File for the report."""
    save: Path | None = None
    """File (.npz) for the free energies and certificates per datum."""
    figure: Path | None = None
    """File (.png, .pdf, .svg) for a picture of the gaps over the data."""
    seed: int = 0
    """Seed of the data drawn and of engines that sample."""

    @property
    def paths(self) -> Sequence[Path]:
        return [self.target]

    @property
    def named(self) -> Sequence[str]:
        return self.engines or ()

    def check(self) -> None:
        check_finite("--contrast", self.contrast)
        check_positive("--certificate", self.certificate, " of nats")
        if self.num is not None:
            check_whole("--num", self.num, 1)
        if self.engines == ():
            raise InputError(f"--engines was given no value; expected some such as {' '.join(DEFAULT_ENGINES)}")

    def open_targets(self) -> dict[str, Target]:
        target = open_target(self.target, self.own(), self.reading)
        return {str(self.target): target}

    def work(self) -> tuple[GapReport, str]:
        (target,) = self.targets.values()
        engines = {name: named_engine(name, target, self.own()) for name in self._names(target)}
        x, data = self._data(target)
        stages = ("optimal", *engines, *((APPROXIMATION,) if self.approximation else ()))
        with progress() as bar:
            tasks = {name: bar.add_task(name, total=len(x)) for name in stages}
            report = amortization_gap(
                target.model.to(self.device),
                {name: (engine.to(self.device), steps) for name, (engine, steps) in engines.items()},
                x.to(self.device),
                tolerance=self.certificate,
                trace=self.trace,
                approximation=self.approximation,
                seed=self.seed,
                advance=lambda name, count: bar.advance(tasks[name], count),
            )
        return report, data

    def _names(self, target: Target) -> Sequence[str]:
        """The engines to measure."""
        if self.engines is not None:
            return self.engines
        own = () if target.run is None else (target.inference,)
        fitting = (name for name in DEFAULT_ENGINES if split_steps(name)[0] in fitting_engines(target.model))
        return list(dict.fromkeys([*own, *fitting]))

    def _data(self, target: Target) -> tuple[torch.Tensor, str]:
        """The data (N, D) to measure on, and their description."""
        source = load_stills(self.data, self.seed, fitted=target.prepare.fitted)
        split = self.split or ("all" if target.run is None else "validation")
        x = _rows(source, split, self.num or (1000 if target.model.exact else 100))
        check_widths(source, [target])
        contrast = f" x {self.contrast:g}" if self.contrast != 1 else ""
        return self.contrast * x, described(source, split) + contrast

    def files(self, found: tuple[GapReport, str]) -> Mapping[str, Callable[[Path], object]]:
        report, data = found
        return {
            "json": lambda path: write_json(path, report.to_dict(data)),
            "save": lambda path: write_arrays(path, {n: value.cpu().numpy() for n, value in report.arrays.items()}),
            "figure": lambda path: save(self._figure(report), path),
        }

    def _figure(self, report: GapReport) -> "Figure":
        optimum = report.arrays["free_energy_optimal"]
        gaps = {name: (report.arrays[f"free_energy {name}"] - optimum).cpu().numpy() for name in report.engines}
        certified = report.optimal.method == "certified"
        (target,) = self.targets.values()
        floor = self.certificate if certified else ESTIMATE_FLOOR
        return gap_figure(gaps, floor, certified, target.model.prior.symbol, target.model.prior.unit)

    def tell(self, found: tuple[GapReport, str]) -> None:
        (target,) = self.targets.values()
        if target.taken:
            print(target.taken, file=sys.stderr)
        _print(*found, target.model.prior.symbol, target.model.prior.unit)


def _rows(source: Source, split: str, num: int) -> torch.Tensor:
    """`num` data of the split, or all of it where it is smaller; `all` mixes both in their own
    proportion."""
    if split == "validation" or (split == "all" and source.held_share == 1):
        return source.validation[:num]
    if source.train is not None:
        trained = len(source.train)
        number = trained + (len(source.validation) if split == "all" else 0)
        chosen = torch.randperm(number, generator=torch.Generator().manual_seed(0))[:num].sort().values
        held = chosen[chosen >= trained] - trained
        return torch.cat([source.train[chosen[chosen < trained]], source.validation[held]])
    if split == "train":
        return source.batch(0, num)
    held = min(len(source.validation), round(num * source.held_share))
    return torch.cat([source.batch(0, num - held), source.validation[:held]])


def _print(report: GapReport, data: str, symbol: str, unit: str) -> None:
    """The report, of F in nats or of the energy E of sparse coding, in squared units of the
    data."""
    nats = unit == "nats"
    what = "amortization gap, nats per datum" if nats else "gap of sparse coding, E − E* per datum"
    table = Table(title=f"{what} ({report.num} data: {data})", title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("engine", no_wrap=True)
    energy = "free energy" if nats else f"energy {symbol}"
    for heading in ("steps", energy, "gap", "± s.e.", "median", "p99", "max", *(["> 1 nat"] * nats), "s/1000"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, gap in report.engines.items():
        numbers = (gap.gap_mean, gap.gap_se, gap.gap_median, gap.gap_p99, gap.gap_max)
        table.add_row(
            name,
            str(gap.steps),
            f"{gap.free_energy_mean:.3f}",
            *(f"{value:.2g}" for value in numbers),
            *([] if gap.share_above_1_nat is None else [f"{100 * gap.share_above_1_nat:.1f}%"]),
            f"{gap.seconds_per_1000:.3f}",
        )
        if gap.non_finite:
            table.add_row(f"  {gap.non_finite} data are not finite")
    best = report.optimal
    table.add_section()
    name = "optimal" if best.method == "certified" else "estimate"
    table.add_row(name, f"≤ {best.steps}", f"{best.free_energy_mean:.3f}")
    out = console()
    longest = max(map(len, report.engines))
    out.width = max(out.width, 106 + longest)  # a narrower table would lose digits, in files and pipes above all
    out.print(table)
    if best.method == "certified":
        largest, mean = f"{best.certificate_max:.2g}", f"{best.certificate_mean:.2g}{unit and ' ' + unit}"
        proof = f"certificate of the optimum: largest {largest}, mean {mean}"
    else:
        won = ", ".join(f"{name} {100 * share:.0f}%" for name, share in (best.won or {}).items())
        proof = (
            f"the optimum is an estimate, the best of several starts ({won} of the data), which lie "
            f"{best.spread_mean:.2g} nats apart in the mean, {best.spread_max:.2g} at most"
        )
    out.print(proof + f"; {best.seconds:.1f} s", soft_wrap=True)
    if (beyond := report.approximation) is not None:
        bounds = ", ".join(f"{k}: {b:.2f}" for k, b in zip(beyond.samples, beyond.bound_mean, strict=True))
        out.print(f"bounds of −log p(x) by number of samples: {bounds} nats")
        gap = f"{beyond.gap_mean:.2f} ± {beyond.gap_se:.2f} nats"
        much = "at least" if best.method == "certified" else "about"
        out.print(f"approximation gap: {much} {gap}, to the last of these")
    if best.method == "certified" and best.not_certified:
        out.print(f"{best.not_certified} of {report.num} data did not reach the certificate asked for", style="red")


run = partial(Gap.run, "itervae gap")
