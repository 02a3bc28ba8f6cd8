"""`itervae rate-distortion`: reconstruction error against sparsity, of Poisson VAEs and of sparse coding."""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import tyro
from rich import box
from rich.progress import track
from rich.table import Table

from itervae.cli.outputs import check_outputs
from itervae.cli.runs import chosen_data, data_given, described, open_target
from itervae.cli.show import console
from itervae.data import DataSettings, load_stills
from itervae.errors import InputError
from itervae.evaluation.rate_distortion import RatePoint, curves, matched_error, rate_points, report, total_variance
from itervae.files import write_json
from itervae.inference import ENGINES, Optimal
from itervae.model import PoissonVAESettings, SparseCodingSettings, sparse_coding_model
from itervae.options import parse
from itervae.plotting import Curve, rate_distortion_figure, save
from itervae.training import LoadedRun, RunSettings, choose_device, load

STEPS = 200
"""Inference steps of sparse-coding runs when they are measured: near the optimum, as the coders are."""
CODERS = f"lca-unrolled:{STEPS}:hard,lca-unrolled:{STEPS}:soft,ista-unrolled:{STEPS}:soft"


@dataclass
class RateDistortion:
    """Measure reconstruction error against sparsity: of each Poisson VAE run with its own inference and with the best
    posterior, of each sparse-coding run with its own engine at 200 steps, and of sparse coding over thresholds on the
    dictionary of a Poisson VAE."""

    runs: tyro.conf.Positional[list[Path]]
    """Run folders or checkpoints of itervae train: Poisson VAEs over beta, sparse coding over thresholds."""
    data: DataSettings
    dictionary: Path | None = None
    """Run or dictionary file whose atoms, scaled to unit norm, the coders use; by default the Poisson VAE among the
    runs whose beta is nearest to 1."""
    coders: str = CODERS
    """Comma-separated ENGINE:STEPS:hard or ENGINE:STEPS:soft, sparse coding with non-negative coefficients."""
    thresholds: tuple[float, ...] = (0.2, 0.4, 0.8, 1.2, 1.6, 2.4, 3.2)
    """Thresholds of the coders, units of the data."""
    split: Literal["train", "validation"] = "validation"
    """Which data of the runs."""
    num: int = 1000
    """Number of data."""
    json: Path | None = None
    """File for the report."""
    figure: Path | None = None
    """File (.png) for the picture."""
    seed: int = 0
    """Seed of the counts, and of the data drawn from the training split."""
    device: str = "auto"
    """cpu, cuda, or auto."""


def run(args: list[str]) -> None:
    options = parse(RateDistortion, "itervae rate-distortion", args)
    check_outputs(options, {"json": "", "figure": ".png"}, [*options.runs, *filter(None, [options.dictionary])])
    if options.num < 2:
        raise InputError(f"--num is {options.num}; expected at least 2, over which sparsity is measured")
    if not options.runs:
        raise InputError("no run was named; expected run folders or checkpoints of itervae train")
    for path in options.runs:
        if path.suffix in (".npz", ".npy"):
            raise InputError(f"{path} is a dictionary file; name runs, and the file with --dictionary")
    for threshold in options.thresholds:
        if not 0 < threshold < math.inf:
            raise InputError(f"--thresholds has {threshold}; expected positive numbers")
    device = choose_device(options.device)
    coders = [_coder(coder) for coder in options.coders.split(",") if coder.strip()]
    runs = {path: load(path, device) for path in options.runs}
    settings = {path: run.settings for path, run in runs.items()}
    x, data = _data(options, args, runs, device)

    jobs = [(path, None) for path in settings]  # each once
    dictionary = options.dictionary or _reference(settings)
    if dictionary is not None:
        size = len(open_target(dictionary).model.dictionary)  # refused now and not after the runs
        if size != x.shape[1]:
            raise InputError(
                f"the atoms of {dictionary} have {size} values and the data {x.shape[1]}; name one that fits"
            )
        jobs += [(dictionary, coder) for coder in coders]
    points: list[RatePoint] = []
    out = console(stderr=True)
    for path, coder in track(jobs, "measuring", console=out, transient=True, disable=not out.is_terminal):
        if coder is None:
            points += _of_run(runs[path], x, options.seed)
        else:
            points += _of_coder(path, *coder, options.thresholds, x)
    if options.json is not None:
        write_json(options.json, report(points, data, len(x), total_variance(x)))
    if options.figure is not None:
        save(rate_distortion_figure(_drawn(points), total_variance(x)), options.figure)
    _print(points, data, len(x))


def _of_run(run: LoadedRun, x: torch.Tensor, seed: int) -> list[RatePoint]:
    """The points of a run with its own engine and, for a linear Poisson VAE, with the best posterior."""
    model, engine, settings = run.model, run.engine, run.settings
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


def _of_coder(
    path: Path, name: str, steps: int, shrinkage: str, thresholds: tuple[float, ...], x: torch.Tensor
) -> list[RatePoint]:
    """The points of sparse coding over thresholds on the dictionary of `path`."""
    model = open_target(path).model.to(x.device)
    kind = ENGINES[name]
    points: list[RatePoint] = []
    for threshold in thresholds:
        settings = SparseCodingSettings(model.latents, threshold, "hard" if shrinkage == "hard" else "soft")
        coder = sparse_coding_model(model.dictionary.detach(), settings, model.shape)
        points += rate_points(
            coder,
            kind.build(kind.Settings(), coder, coder.shape),
            x,
            family=f"{_short(name)} {shrinkage}, P-VAE dictionary",
            setting=f"θ {threshold:g}",
            order=threshold,
            steps=steps,
        )
    return points


def _coder(text: str) -> tuple[str, int, str]:
    """(engine, steps, shrinkage) of ENGINE:STEPS:SHRINKAGE."""
    name, _, rest = text.strip().partition(":")
    steps, _, shrinkage = rest.partition(":")
    fitting = [
        key
        for key, kind in ENGINES.items()
        if "Poisson family or sparse coding" in kind.requires
        and "certifiable optimum" not in kind.requires
        and not kind.learned
    ]
    if name not in fitting or not steps.isdecimal() or shrinkage not in ("soft", "hard"):
        raise InputError(
            f"coder {text.strip()!r} is not ENGINE:STEPS:soft or ENGINE:STEPS:hard with one of {', '.join(fitting)}; "
            "write, say, lca-unrolled:200:soft"
        )
    return name, int(steps), shrinkage


def _short(name: str) -> str:
    """LCA of lca-unrolled."""
    return name.split("-")[0].upper()


def _reference(settings: dict[Path, RunSettings]) -> Path | None:
    """The Poisson VAE with a linear decoder whose beta is nearest to 1; None where there is none."""
    betas = {
        path: abs(found.model.beta - 1)
        for path, found in settings.items()
        if isinstance(found.model, PoissonVAESettings) and found.model.decoder == "linear"
    }
    return min(betas, key=lambda path: betas[path]) if betas else None


def _data(
    options: RateDistortion, args: list[str], runs: dict[Path, LoadedRun], device: torch.device
) -> tuple[torch.Tensor, str]:
    """The data (N, D) of the runs, or those asked for, and their description."""
    given = data_given(args, options.data)
    each = [replace(chosen_data(found.settings.data, given), download=True) for found in runs.values()]
    fitted = next(iter(runs.values())).prepare.fitted
    if any(other != each[0] for other in each) or any(run.prepare.fitted != fitted for run in runs.values()):
        raise InputError("the runs were trained on different data; name those to measure on with --data")
    source = load_stills(each[0], options.seed, fitted=fitted)
    x = source.validation[: options.num] if options.split == "validation" else source.batch(0, options.num)
    return x.to(device), described(source, options.split)


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
