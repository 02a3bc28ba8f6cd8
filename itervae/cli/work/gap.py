"""The work of `itervae gap`."""

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from rich import box
from rich.table import Table

from itervae.cli.gap import DEFAULT_ENGINES, ESTIMATE_FLOOR, Gap
from itervae.cli.runs import Target, described, held_pictures, match_data, named_engine
from itervae.cli.show import begin, console, print_table, progress
from itervae.cli.work.sae import frontier_drawn, loss_of, priced, print_loss
from itervae.data import Source, load_stills
from itervae.errors import InputError
from itervae.evaluation import EncoderLoss, GapReport, amortization_gap
from itervae.evaluation.gap import APPROXIMATION
from itervae.files import write_arrays, write_json
from itervae.inference import fitting as fitting_engines
from itervae.inference import split_steps
from itervae.plotting import gap_figure, save

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LOSS = "at no larger L1"
"""The stage at which an encoder is measured against the least error."""


class Found(NamedTuple):
    """The gaps, what they were measured on, and of a sparse autoencoder what was set and what its
    encoder loses."""

    report: GapReport
    data: str
    threshold: str = ""
    loss: EncoderLoss | None = None


def work(options: Gap) -> Found:
    (target,) = options.targets.values()
    if options.frontier is not None and target.sae is None:
        raise InputError(f"--frontier was given for {target.path}, which is no sparse autoencoder; leave it out")
    engines = {name: named_engine(name, target, options.own()) for name in _names(options, target)}
    begin("reading the data")
    parts, data = _data(options, target)
    x, model = tuple(part.to(options.device) for part in parts), target.model.to(options.device)
    threshold, loss = "", None
    if target.sae is not None:
        x = tuple(map(target.sae.normalize, x))
        target.engine.to(options.device)
        threshold = priced(target, x[0])
    stages = ("optimal", *engines, *((APPROXIMATION,) if options.approximation else ()))
    stages += (LOSS,) if target.sae is not None else ()
    with progress() as bar:
        tasks = {name: bar.add_task(name, total=sum(map(len, x))) for name in stages}
        report = amortization_gap(
            model,
            {name: (engine.to(options.device), steps) for name, (engine, steps) in engines.items()},
            x,
            tolerance=options.certificate,
            trace=options.trace,
            approximation=options.approximation,
            seed=options.seed,
            advance=lambda name, count: bar.advance(tasks[name], count),
        )
        if target.sae is not None:
            loss = loss_of(target, x[0], lambda count: bar.advance(tasks[LOSS], count))
    return Found(report, data, threshold, loss)


def files(options: Gap, found: Found) -> Mapping[str, Callable[[Path], object]]:
    report, loss = found.report, found.loss
    (target,) = options.targets.values()
    told, arrays = report.to_dict(found.data), report.arrays
    written: dict[str, Callable[[Path], object]] = {
        "figure": lambda path: save(gaps_drawn(report, target, options.certificate), path),
    }
    if loss is not None:
        told |= {"threshold": target.model.prior.threshold.item(), "encoder": loss.to_dict()}  # pyright: ignore
        arrays = arrays | loss.arrays
        written["frontier"] = lambda path: save(frontier_drawn(loss), path)
    return written | {
        "json": lambda path: write_json(path, told),
        "save": lambda path: write_arrays(path, {n: value.cpu().numpy() for n, value in arrays.items()}),
    }


def tell(options: Gap, found: Found) -> None:
    (target,) = options.targets.values()
    for said in filter(None, (target.taken, found.threshold)):
        print(said, file=sys.stderr)
    _print(found.report, found.data, target.model.prior.symbol, target.model.prior.unit)
    if found.loss is not None:
        print_loss(found.loss)


def _names(options: Gap, target: Target) -> Sequence[str]:
    """The engines to measure."""
    return default_engines(target) if options.engines is None else options.engines


def _data(options: Gap, target: Target) -> tuple[Sequence[torch.Tensor], str]:
    """The data to measure on, those of each size together, and their description."""
    source = load_stills(options.data, options.seed, fitted=target.prepare.fitted)
    split = options.split or ("all" if target.run is None and not options.whole else "validation")
    num = options.num or (1000 if target.model.exact else 100)
    contrast = f" x {options.contrast:g}" if options.contrast != 1 else ""
    if options.whole:
        parts = held_pictures(source, [target], num)
        return [options.contrast * part for part in parts], f"{described(source, split)}, whole pictures{contrast}"
    x = options.contrast * _rows(source, split, num)
    match_data(source, [target])
    if target.model.convolutional:
        x = x.unflatten(1, source.shape)
    return [x], described(source, split) + contrast


def default_engines(target: Target) -> list[str]:
    """The engines whose gap is measured where none are named: the target's own, and solvers that
    fit."""
    fitting = fitting_engines(target.model)
    solvers = [name for name in DEFAULT_ENGINES if split_steps(name)[0] in fitting]
    if target.sae is not None:
        return [target.inference, *solvers]
    if target.run is None:
        return solvers
    own = target.inference
    return [own, *(name for name in solvers if name != f"{own}:{target.engine.steps}")]


def gaps_drawn(report: GapReport, target: Target, certificate: float = Gap.certificate) -> "Figure":
    """The figure of a report: how large the gaps of each engine are, over the data."""
    optimum = report.arrays["free_energy_optimal"]
    gaps = {name: (report.arrays[f"free_energy {name}"] - optimum).cpu().numpy() for name in report.engines}
    certified = report.optimal.method == "certified"
    prior = target.model.prior
    return gap_figure(gaps, certificate if certified else ESTIMATE_FLOOR, certified, prior.symbol, prior.unit)


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
    print_table(table, ("median", "> 1 nat", "s/1000", "steps", "± s.e."))
    out = console()
    if best.method == "certified":
        largest, mean = f"{best.certificate_max:.2g}", f"{best.certificate_mean:.2g}{unit and ' ' + unit}"
        proof = (
            f"certificate of the optimum, a proved bound of its distance to the best: largest {largest}, mean {mean}"
        )
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
