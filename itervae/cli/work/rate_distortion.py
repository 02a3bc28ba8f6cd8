"""The work of `itervae rate-distortion`."""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from rich import box
from rich.progress import track
from rich.table import Table

from itervae.cli.rate_distortion import STEPS, RateDistortion, fitting, split_coder, unfit
from itervae.cli.runs import Target, common_fitted, described, open_target
from itervae.cli.show import console, print_table
from itervae.data import load_stills
from itervae.errors import InputError
from itervae.evaluation.explained import total_variance
from itervae.evaluation.rate_distortion import RatePoint, curves, matched_error, rate_points, report
from itervae.files import write_json
from itervae.formats import is_array_file
from itervae.inference import Engine, Optimal, check_named, engine_class
from itervae.model import PoissonVAESettings, SparseCodingSettings, sparse_coding_model
from itervae.model.convolution import Convolution
from itervae.plotting import Curve, rate_distortion_figure, save


class Coder(NamedTuple):
    """Sparse coding by an engine."""

    name: str
    kind: type[Engine]
    steps: int
    shrinkage: Literal["soft", "hard"]


def _coder(text: str) -> Coder:
    """The coder of ENGINE:STEPS:SHRINKAGE."""
    name, steps, shrinkage = split_coder(text)
    if name not in fitting() and ":" not in name:
        raise unfit(text)
    kind = engine_class(name)
    if kind.learned:
        raise InputError(f"coder {text!r} has to be trained; use an engine that has nothing to learn")
    return Coder(name, kind, steps or 0, "hard" if shrinkage == "hard" else "soft")


class Measured(NamedTuple):
    """What was found: points of curves, in words what they were measured on, of how many data, of
    which variance, and what a dictionary file was taken for."""

    points: list[RatePoint]
    data: str
    num: int
    variance: float
    taken: str


def work(options: RateDistortion) -> Measured:
    coders = [_coder(coder) for coder in options.coders]
    x, data, shape = _data(options)
    jobs: list[tuple[Target, Coder | None]] = [(target.at(shape), None) for target in options.targets.values()]
    dictionary = _dictionary(options)
    if dictionary is not None:
        dictionary = dictionary.at(shape)
        size = dictionary.model.operator().size  # refused now and not after the runs
        if size != x.shape[1]:
            raise InputError(
                f"the atoms of {dictionary.path} have {size} values and the data {x.shape[1]}; name one that fits"
            )
        jobs += [(dictionary, coder) for coder in coders]
    points: list[RatePoint] = []
    out = console(stderr=True)
    for target, coder in track(jobs, "measuring", console=out, transient=True, disable=not out.is_terminal):
        target.model.to(options.device)
        if coder is None:
            points += _of_run(target, x, options.seed)
        else:
            points += _of_coder(target, coder, options.thresholds, x)
    return Measured(points, data, len(x), total_variance(x), "" if dictionary is None else dictionary.taken)


def _dictionary(options: RateDistortion) -> Target | None:
    """What the coders use: what was named, or the Poisson VAE with a linear decoder and a
    Gaussian likelihood whose beta is nearest to 1."""
    if files := options.dictionaries():
        return open_target(files[0], options.own(), options.reading if is_array_file(files[0]) else None)
    betas = {
        name: abs(run.settings.model.beta - 1)
        for name, target in options.targets.items()
        if (run := target.run) is not None
        and isinstance(run.settings.model, PoissonVAESettings)
        and run.settings.model.decoder in ("linear", "convolutional")
        and run.settings.model.likelihood == "gaussian"  # under others Φz is no mean
    }
    return options.targets[min(betas, key=lambda name: betas[name])] if betas else None


def _data(options: RateDistortion) -> tuple[torch.Tensor, str, tuple[int, ...]]:
    """The data (N, D) of the runs, or those asked for, their description, and their shape."""
    source = load_stills(options.data, options.seed, fitted=common_fitted(options.targets.values()))
    x = source.validation[: options.num] if options.split == "validation" else source.batch(0, options.num)
    return x.to(options.device), described(source, options.split), source.shape


def files(options: RateDistortion, found: Measured) -> Mapping[str, Callable[[Path], object]]:
    told = report(found.points, found.data, found.num, found.variance)
    return {
        "json": lambda path: write_json(path, told),
        "figure": lambda path: save(rate_distortion_figure(_drawn(found.points), found.variance), path),
    }


def tell(options: RateDistortion, found: Measured) -> None:
    if found.taken:
        print(found.taken, file=sys.stderr)
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
    operator = model.operator()
    dictionary = operator if isinstance(operator, Convolution) else model.dictionary.detach()
    points: list[RatePoint] = []
    for threshold in thresholds:
        settings = SparseCodingSettings(model.prior.maps, threshold, "hard" if shrinkage == "hard" else "soft")
        coding = sparse_coding_model(dictionary, settings, model.shape)
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


def _short(name: str) -> str:
    """LCA of lca-unrolled."""
    return name.split("-")[0].upper()


def _print(points: list[RatePoint], data: str, num: int) -> None:
    table = Table(title=f"rate and distortion ({num} data: {data})", title_justify="left", box=box.SIMPLE_HEAD)
    for heading in ("curve", "setting", "lifetime sparsity", "zeros", "error", "± s.e.", "R² pooled", "R² per datum"):
        table.add_column(heading, justify="left" if heading in ("curve", "setting") else "right", no_wrap=True)
    by_curve = curves(points)
    for name, members in by_curve.items():
        for point in members:
            zeros = "" if point.share_zero is None else f"{point.share_zero:.3f}"
            shares = ("" if r2 is None else f"{r2:.3f}" for r2 in (point.r2_pooled, point.r2_per_datum))
            numbers = (f"{point.error:.2f}", f"{point.error_se:.2g}", *shares)
            table.add_row(name, point.setting, f"{point.lifetime_sparsity:.3f}", zeros, *numbers)
        table.add_section()
    print_table(table, ("± s.e.", "R² per datum", "R² pooled", "zeros"))
    out = console()
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
