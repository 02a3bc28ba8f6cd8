"""`itervae gap`: the amortization gap of any engines on any model, certified where the decoder is linear."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import tyro
from rich import box
from rich.table import Table

from itervae.arguments import check_finite, check_positive
from itervae.cli.outputs import check_outputs
from itervae.cli.runs import Target, check_width, chosen_data, data_given, described, named_engine, open_target
from itervae.cli.show import console, progress
from itervae.data import DataSettings, Source, load_stills
from itervae.errors import InputError
from itervae.evaluation import GapReport, amortization_gap
from itervae.evaluation.gap import APPROXIMATION
from itervae.files import write_arrays, write_json
from itervae.inference import ENGINES, Engine
from itervae.options import parse
from itervae.paths import check_path
from itervae.plotting import gap_figure, save
from itervae.training import choose_device, load

DEFAULT_ENGINES = ("lca-unrolled:20", "fista-unrolled:20")
ESTIMATE_FLOOR = 1e-2
"""Gaps to an estimate are drawn from here on, nats."""


@dataclass
class Gap:
    """Measure the amortization gap: the free energy of each engine's posterior above the best one, per datum in nats,
    proved by a duality certificate where the decoder is linear, else against the best of several starts."""

    target: tyro.conf.Positional[Path]
    """Run folder, checkpoint, or dictionary file (.npz, .npy)."""
    data: DataSettings
    engines: str | None = None
    """Comma-separated: an engine of the registry, or the run's own, with :STEPS; or the folder of another run, whose
    trained engine is brought here. By default the run's own, lca-unrolled:20 and, where it fits, fista-unrolled:20."""
    split: Literal["train", "validation", "all"] | None = None
    """Which data; by default validation for a run, all for a dictionary."""
    num: int | None = None
    """Number of data; by default 1000, or 100 where the optimum is an estimate, which takes long."""
    contrast: float = 1.0
    """Factor on the data: 2 is a test outside the distribution that engines were trained on."""
    certificate: float = 1e-6
    """Largest certificate of the optimum, nats."""
    log_rate: float | None = None
    """Prior log-rate of a dictionary file that has none; -5 by default."""
    observation_variance: float | None = None
    """Observation variance of a dictionary file that has none; 0.5 by default."""
    trace: bool = False
    """Also the gap after every step."""
    approximation: bool = False
    """Also the approximation gap F* − (−log p(x)), by importance weighting with up to 5000 samples per datum."""
    json: Path | None = None
    """File for the report."""
    save: Path | None = None
    """File (.npz) for the free energies and certificates per datum."""
    figure: Path | None = None
    """File (.png) for a picture of the gaps over the data."""
    seed: int = 0
    """Seed of the data drawn and of engines that sample."""
    device: str = "auto"
    """cpu, cuda, or auto."""


def run(args: list[str]) -> None:
    options = parse(Gap, "itervae gap", args)
    check_outputs(options, {"json": "", "save": ".npz", "figure": ".png"}, [options.target])
    check_finite("--contrast", options.contrast)
    check_positive("--certificate", options.certificate, " of nats")
    if options.num is not None and options.num < 1:
        raise InputError(f"--num is {options.num}; expected a number ≥ 1")
    device = choose_device(options.device)
    target = open_target(options.target, options.log_rate, options.observation_variance)
    engines = _engines(options.engines, target)
    x, data = _data(options, target, chosen_data(target.data, data_given(args, options.data)))
    x, model = x.to(device), target.model.to(device)

    stages = ("optimal", *engines, *((APPROXIMATION,) if options.approximation else ()))
    with progress() as bar:
        tasks = {name: bar.add_task(name, total=len(x)) for name in stages}
        report = amortization_gap(
            model,
            {name: (engine.to(device), steps) for name, (engine, steps) in engines.items()},
            x,
            tolerance=options.certificate,
            trace=options.trace,
            approximation=options.approximation,
            seed=options.seed,
            advance=lambda name, count: bar.advance(tasks[name], count),
        )
    if options.json is not None:
        write_json(options.json, report.to_dict(data))
    if options.save is not None:
        write_arrays(options.save, {name: value.cpu().numpy() for name, value in report.arrays.items()})
    if options.figure is not None:
        optimum = report.arrays["free_energy_optimal"]
        gaps = {name: (report.arrays[f"free_energy {name}"] - optimum).cpu().numpy() for name in report.engines}
        certified = report.optimal.method == "certified"
        save(gap_figure(gaps, options.certificate if certified else ESTIMATE_FLOOR, certified), options.figure)
    _print(report, data)


def _data(options: Gap, target: Target, settings: DataSettings) -> tuple[torch.Tensor, str]:
    """The data (N, D) to measure on, and their description."""
    source = load_stills(settings, options.seed, fitted=target.prepare.fitted)
    split = options.split or ("validation" if target.data is not None else "all")
    x = _rows(source, split, options.num or (1000 if target.model.exact else 100))
    check_width(source, target.model, options.target)
    return options.contrast * x, described(source, split) + (
        f" x {options.contrast:g}" if options.contrast != 1 else ""
    )


def _rows(source: Source, split: str, num: int) -> torch.Tensor:
    """`num` data of the split, or all of it where it is smaller; `all` mixes both in their own proportion."""
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


def _engines(names: str | None, target: Target) -> dict[str, tuple[Engine, int | None]]:
    """The engines asked for, by the names given."""
    own = () if target.data is None else (target.inference,)
    fitting = [name for name in DEFAULT_ENGINES if ENGINES[name.split(":")[0]].requires <= target.model.capabilities]
    asked = (*own, *fitting) if names is None else names.split(",")
    found: dict[str, tuple[Engine, int | None]] = {}
    for name in filter(None, (name.strip() for name in asked)):
        whole = ":" not in name or os.path.isdir(check_path(name))  # a folder's name may hold a colon
        base, _, number = (name, "", "") if whole else name.rpartition(":")
        if number and not number.isdecimal():
            raise InputError(f"{name!r} asks for {number!r} steps; expected ENGINE:STEPS with a whole number")
        path = check_path(base)
        engine = load(path).engine if path.is_dir() or path.suffix == ".pt" else named_engine(base, target)
        found[name] = (engine, int(number) if number else None)
    if not found:
        raise InputError(f"--engines {names!r} names no engine; expected a list such as {','.join(DEFAULT_ENGINES)}")
    return found


def _print(report: GapReport, data: str) -> None:
    table = Table(
        title=f"amortization gap, nats per datum ({report.num} data: {data})", title_justify="left", box=box.SIMPLE_HEAD
    )
    table.add_column("engine", no_wrap=True)
    for heading in ("steps", "free energy", "gap", "± s.e.", "median", "p99", "max", "> 1 nat", "s/1000"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, gap in report.engines.items():
        numbers = (gap.gap_mean, gap.gap_se, gap.gap_median, gap.gap_p99, gap.gap_max)
        table.add_row(
            name,
            str(gap.steps),
            f"{gap.free_energy_mean:.3f}",
            *(f"{value:.2g}" for value in numbers),
            f"{100 * gap.share_above_1_nat:.1f}%",
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
        proof = f"certificate of the optimum: largest {best.certificate_max:.2g}, mean {best.certificate_mean:.2g} nats"
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
