"""`itervae rate-distortion`: reconstruction error against sparsity, of Poisson VAEs and of sparse
coding."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, ClassVar, Literal, NamedTuple

import numpy as np
import torch
import tyro
from rich import box
from rich.progress import track
from rich.table import Table

from itervae.cli.command import FIGURE, REPORT, Measurement, Output
from itervae.cli.runs import Target, common_fitted, described, open_target
from itervae.cli.show import console
from itervae.data import DataSettings, load_stills
from itervae.errors import InputError
from itervae.evaluation.rate_distortion import RatePoint, curves, matched_error, rate_points, report, total_variance
from itervae.files import write_json
from itervae.inference import ENGINES, Engine, Optimal, check_named, engine_class, split_steps
from itervae.model import PoissonVAESettings, SparseCodingSettings, is_dictionary, sparse_coding_model
from itervae.plotting import Curve, rate_distortion_figure, save

STEPS = 200
"""Inference steps of sparse-coding runs when they are measured: near the optimum, as the coders
are."""
CODERS = (f"lca-unrolled:{STEPS}:hard", f"lca-unrolled:{STEPS}:soft", f"ista-unrolled:{STEPS}:soft")


class Coder(NamedTuple):
    """Sparse coding by an engine."""

    name: str
    kind: type[Engine]
    steps: int
    shrinkage: Literal["soft", "hard"]


class Measured(NamedTuple):
    """What was found: points of curves, in words what they were measured on, of how many data, of
    which variance."""

    points: list[RatePoint]
    data: str
    num: int
    variance: float


@dataclass(kw_only=True)
class RateDistortion(Measurement):
    """Measure reconstruction error against sparsity: of each Poisson VAE run with its own inference
    and with the best posterior, of each sparse-coding run with its own engine at 200 steps, and of
    sparse coding over thresholds on the dictionary of a Poisson VAE."""

    EXAMPLES = (
        "itervae rate-distortion runs/beta-* runs/threshold-* --json rd.json --figure rd.png",
        "itervae rate-distortion phi.npy --data images --data-path photographs/",
    )

    OUTPUTS: ClassVar[Mapping[str, Output]] = {"json": REPORT, "figure": FIGURE}

    runs: Annotated[tyro.conf.Positional[list[Path]], tyro.conf.arg(metavar="RUN ...")]
    """Run folders or checkpoints of itervae train: Poisson VAEs over beta, sparse coding over
    thresholds; or a dictionary file alone, for the coders."""
    data: DataSettings
    dictionary: Path | None = None
    """Run or dictionary file whose atoms, scaled to unit norm, the coders use; by default the
    Poisson VAE among the runs whose beta is nearest to 1."""
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
        return [path for path in self.runs if not is_dictionary(path)]

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
        if len(files := self._files()) > 1:
            raise InputError(
                f"{' and '.join(map(str, files))} were named as dictionaries; expected one, which all coders use"
            )
        for threshold in self.thresholds:
            if not 0 < threshold < math.inf:
                raise InputError(f"--thresholds has {threshold}; expected positive numbers")
        for coder in self.coders:
            _coder(coder)

    def work(self) -> Measured:
        coders = [_coder(coder) for coder in self.coders]
        x, data = self._data()
        jobs: list[tuple[Target, Coder | None]] = [(target, None) for target in self.targets.values()]
        dictionary = self._dictionary()
        if dictionary is not None:
            size = len(dictionary.model.dictionary)  # refused now and not after the runs
            if size != x.shape[1]:
                raise InputError(
                    f"the atoms of {dictionary.path} have {size} values and the data {x.shape[1]}; name one that fits"
                )
            jobs += [(dictionary, coder) for coder in coders]
        points: list[RatePoint] = []
        out = console(stderr=True)
        for target, coder in track(jobs, "measuring", console=out, transient=True, disable=not out.is_terminal):
            target.model.to(self.device)
            if coder is None:
                points += _of_run(target, x, self.seed)
            else:
                points += _of_coder(target, coder, self.thresholds, x)
        return Measured(points, data, len(x), total_variance(x))

    def _files(self) -> list[Path]:
        """The dictionaries that were named."""
        return [*filter(is_dictionary, self.runs), *filter(None, [self.dictionary])]

    def _dictionary(self) -> Target | None:
        """What the coders use: what was named, or the Poisson VAE with a linear decoder whose beta
        is nearest to 1."""
        if files := self._files():
            return open_target(files[0], self.own())
        betas = {
            name: abs(run.settings.model.beta - 1)
            for name, target in self.targets.items()
            if (run := target.run) is not None
            and isinstance(run.settings.model, PoissonVAESettings)
            and run.settings.model.decoder == "linear"
        }
        return self.targets[min(betas, key=lambda name: betas[name])] if betas else None

    def _data(self) -> tuple[torch.Tensor, str]:
        """The data (N, D) of the runs, or those asked for, and their description."""
        source = load_stills(self.data, self.seed, fitted=common_fitted(self.targets.values()))
        x = source.validation[: self.num] if self.split == "validation" else source.batch(0, self.num)
        return x.to(self.device), described(source, self.split)

    def files(self, found: Measured) -> Mapping[str, Callable[[Path], object]]:
        points, data, num, variance = found
        return {
            "json": lambda path: write_json(path, report(points, data, num, variance)),
            "figure": lambda path: save(rate_distortion_figure(_drawn(points), variance), path),
        }

    def tell(self, found: Measured) -> None:
        _print(found.points, found.data, found.num)


def _of_run(target: Target, x: torch.Tensor, seed: int) -> list[RatePoint]:
    """The points of a run with its own engine and, for a linear Poisson VAE, with the best
    posterior."""
    assert target.run is not None
    model, engine, settings = target.model, target.engine.to(x.device), target.run.settings
    if isinstance(settings.model, SparseCodingSettings):
        threshold = settings.model.threshold
        signed = " signed" if settings.model.signed else ""
        family = f"{_short(settings.engine_name)} {settings.model.shrinkage}{signed}, own dictionary"
        varied = {"setting": f"θ {threshold:g}", "order": threshold}
        return rate_points(model, engine, x, family=family, steps=STEPS, **varied)
    beta = settings.model.beta
    encoder = getattr(settings.engine, "encoder", None)
    name = f"{encoder} encoder" if encoder else _short(settings.engine_name)
    if settings.model.decoder != "linear":
        name += f", {settings.model.decoder_name} decoder"
    varied = {"setting": f"β {beta:g}", "order": beta, "seed": seed}
    points = rate_points(model, engine, x, family=f"P-VAE, {name}", **varied)
    if model.exact:
        points += rate_points(model, Optimal(), x, family=f"best posterior, {name}'s model", **varied)
    return points


def _of_coder(target: Target, coder: Coder, thresholds: tuple[float, ...], x: torch.Tensor) -> list[RatePoint]:
    """The points of sparse coding over thresholds on the dictionary of a target."""
    model, atoms = target.model, "P-VAE dictionary" if target.run is not None else f"atoms of {target.path.name}"
    name, kind, steps, shrinkage = coder
    points: list[RatePoint] = []
    for threshold in thresholds:
        settings = SparseCodingSettings(model.latents, threshold, "hard" if shrinkage == "hard" else "soft")
        coding = sparse_coding_model(model.dictionary.detach(), settings, model.shape)
        check_named(name, coding)
        points += rate_points(
            coding,
            kind.build(kind.Settings(), coding, coding.shape),
            x,
            family=f"{_short(name)} {shrinkage}, {atoms}",
            setting=f"θ {threshold:g}",
            order=threshold,
            steps=steps,
        )
    return points


def _coder(text: str) -> Coder:
    """The coder of ENGINE:STEPS:SHRINKAGE."""
    engine, _, shrinkage = text.rpartition(":")
    fitting = [
        name
        for name, kind in ENGINES.items()
        if "Poisson family or sparse coding" in kind.requires
        and "certifiable optimum" not in kind.requires
        and not kind.learned
    ]
    name, steps = split_steps(engine)
    if shrinkage not in ("soft", "hard") or steps is None or not (name in fitting or ":" in name):
        raise InputError(
            f"coder {text!r} is not ENGINE:STEPS:soft or ENGINE:STEPS:hard with one of {', '.join(fitting)}; write, "
            "say, lca-unrolled:200:soft"
        )
    kind = engine_class(name)
    if kind.learned:
        raise InputError(f"coder {text!r} has to be trained; use an engine that has nothing to learn")
    return Coder(name, kind, steps, shrinkage)


def _short(name: str) -> str:
    """LCA of lca-unrolled."""
    return name.split("-")[0].upper()


def _print(points: list[RatePoint], data: str, num: int) -> None:
    table = Table(title=f"rate and distortion ({num} data: {data})", title_justify="left", box=box.SIMPLE_HEAD)
    for heading in ("curve", "setting", "lifetime sparsity", "zeros", "error", "± s.e.", "R²"):
        table.add_column(heading, justify="left" if heading in ("curve", "setting") else "right", no_wrap=True)
    by_curve = curves(points)
    for name, members in by_curve.items():
        for point in members:
            zeros = "" if point.share_zero is None else f"{point.share_zero:.3f}"
            numbers = (f"{point.error:.2f}", f"{point.error_se:.2g}", f"{point.r2:.3f}")
            table.add_row(name, point.setting, f"{point.lifetime_sparsity:.3f}", zeros, *numbers)
        table.add_section()
    out = console()
    out.width = max(out.width, 124)
    out.print(table)
    coded = {name: members for name, members in by_curve.items() if members[0].setting.startswith("θ")}
    for point in points:
        if not point.family.startswith("P-VAE") or point.order != 1:
            continue
        for name, members in coded.items():
            error = matched_error(members, point.lifetime_sparsity)
            if error is not None:
                change = 100 * (error / point.error - 1)
                side = f"{abs(change):.0f}% {'below' if change < 0 else 'above'} the {point.error:.1f} of {point.curve}"
                out.print(f"{name}: {error:.1f} at {point.lifetime_sparsity:.3f}, {side}, β 1", soft_wrap=True)


def _drawn(points: list[RatePoint]) -> dict[str, Curve]:
    """The points as the curves of the figure."""
    return {
        name: Curve(
            lifetime_sparsity=np.array([point.lifetime_sparsity for point in members]),
            share_zero=np.array([np.nan if point.share_zero is None else point.share_zero for point in members]),
            error=np.array([point.error for point in members]),
            error_se=np.array([point.error_se for point in members]),
            setting=[point.setting for point in members],
            kind=members[0].kind,
            family=members[0].family,
        )
        for name, members in curves(points).items()
    }


run = partial(RateDistortion.run, "itervae rate-distortion")
