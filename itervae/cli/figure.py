"""`itervae figure`: figures from the reports that other commands write."""

import json
import math
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import numpy as np
import torch
import tyro

from itervae.arguments import nearest
from itervae.cli.gap import ESTIMATE_FLOOR
from itervae.cli.outputs import check_outputs
from itervae.config import options_given
from itervae.distributions import RelaxedPoisson
from itervae.distributions.poisson import MAX_LOG_RATE
from itervae.errors import InputError
from itervae.options import parse
from itervae.plotting import (
    Curve,
    Trace,
    gap_figure,
    gap_steps_figure,
    kl_residual_figure,
    rate_distortion_figure,
    relaxed_poisson_figure,
    runs_figure,
    save,
)
from itervae.training.metrics import read_metrics

if TYPE_CHECKING:
    import matplotlib.figure

T = TypeVar("T")

SCHEMA = 1
"""Version of the JSON reports that are understood."""
LEAST_FLOOR = 1e-12
"""Nats that float64 resolves of a free energy of some hundreds; a smaller certificate says no more."""


@dataclass
class Sampling:
    """Settings of `relaxed-poisson`."""

    rate: float = 3.0
    """Rate of the samples, spikes (relaxed-poisson only)."""
    temperatures: tuple[float, ...] = (0.02, 0.05, 0.1, 0.5, 1.0)
    """Temperatures, one panel each (relaxed-poisson only)."""
    num: int = 20000
    """Number of draws at each temperature (relaxed-poisson only)."""
    seed: int = 0
    """Seed of the draws (relaxed-poisson only)."""


@dataclass
class Figure:
    """Draw a figure.

    gap-steps REPORT.json ...: the gap of engines against steps and time, from `itervae gap --trace --json`.

    gap-distribution ENERGIES.npz ...: the share of data above a gap, from `itervae gap --save`.

    rate-distortion REPORT.json: reconstruction error against sparsity, from `itervae rate-distortion --json`.

    training RUN ...: held-out free energy against seconds of training, from run folders of `itervae train`.

    kl-residual: what a rate costs in KL, by its ratio to the prior rate.

    relaxed-poisson: relaxed Poisson samples at several temperatures."""

    name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="NAME")]
    """Which figure."""
    inputs: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="[INPUT ...]")]
    """Reports or run folders to draw, where the figure takes any."""
    output: Path
    """File to write, .png."""
    log_time: bool = False
    """Logarithmic axis of seconds (training only)."""
    sampling: Sampling = field(default_factory=Sampling)


def run(args: list[str]) -> None:
    options = parse(Figure, "itervae figure", args)
    if options.name not in FIGURES:
        hint = nearest(options.name, FIGURES)
        raise InputError(f"figure {options.name!r} is unknown; {hint}expected one of {', '.join(FIGURES)}")
    check_outputs(options, {"output": ".png"}, options.inputs)
    for setting in fields(Sampling):
        if options.name != "relaxed-poisson" and setting.name in options_given(args):
            raise InputError(f"--{setting.name} does not apply to figure {options.name}; leave it out")
    if options.log_time and options.name != "training":
        raise InputError(f"--log-time does not apply to figure {options.name}; leave it out")
    save(FIGURES[options.name](options), options.output)
    print(f"figure {options.name} written to {options.output}")


def _gap_steps(options: Figure) -> "matplotlib.figure.Figure":
    _expect(options, "the JSON report of itervae gap --trace --json")
    found, certificates = {}, {}
    for path in options.inputs:
        report = _report(path, "gap", "itervae gap --trace --json")
        found[path], certificates[path] = _complete(path, lambda report=report, path=path: _traces(report, path))
    return gap_steps_figure(_merged(found), *_floor(certificates))


def _traces(report: dict[str, Any], path: Path) -> tuple[dict[str, Trace], float | None]:
    """The trace of every engine of a gap report that has one, and its largest certificate; None for an estimate."""
    engines = report["engines"]
    # a bare list is the trace of an older version
    without = [name for name, engine in engines.items() if not isinstance(engine.get("trace"), dict)]
    if len(without) == len(engines):
        raise InputError(f"{path} has no trace of its engines; make it again with itervae gap --trace --json")
    if without:  # such as optimal, which takes another number of steps for every datum
        print(f"{path} has no trace of {', '.join(without)}: left out")
    traces = {}
    for name, engine in engines.items():
        if name in without:
            continue
        trace = engine["trace"]
        columns = (_numbers(trace[key]) for key in ("mean", "p10", "p90"))
        seconds = None if trace.get("seconds_per_1000") is None else _numbers(trace["seconds_per_1000"])
        traces[name] = Trace(np.arange(len(trace["mean"])), *columns, seconds=seconds)
    optimal = report["optimal"]
    estimated = optimal.get("method") == "estimate"
    return traces, None if estimated else float(_numbers([optimal["certificate_max"]])[0])


def _gap_distribution(options: Figure) -> "matplotlib.figure.Figure":
    _expect(options, "an .npz file of itervae gap --save")
    found, certificates = {}, {}
    for path in options.inputs:
        arrays = _arrays(path)
        found[path], certificates[path] = _complete(path, lambda arrays=arrays: _gaps(arrays))
    return gap_figure(_merged(found), *_floor(certificates))


def _gaps(arrays: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], float | None]:
    """The gap of every engine, (N,) nats, and the largest certificate; None for an estimate."""
    optimum = arrays["free_energy_optimal"]
    named = {key.removeprefix("free_energy "): value for key, value in arrays.items() if key.startswith("free_energy ")}
    largest = float(np.max(arrays["certificate"])) if "certificate" in arrays else None
    return {name: value - optimum for name, value in named.items()}, largest


def _rate_distortion(options: Figure) -> "matplotlib.figure.Figure":
    _expect(options, "the JSON report of itervae rate-distortion --json", most=1)
    (path,) = options.inputs
    report = _report(path, "rate-distortion", "itervae rate-distortion --json")
    curves, variance = _complete(path, lambda: (_curves(report["points"]), float(report["variance"])))
    return rate_distortion_figure(curves, variance)


def _curves(points: list[dict[str, Any]]) -> dict[str, Curve]:
    """Points with the same `curve`, by their `order`."""
    together: dict[str, list[dict[str, Any]]] = {}
    for point in points:
        together.setdefault(point["curve"], []).append(point)
    curves = {}
    for name, members in together.items():
        members.sort(key=lambda point: point["order"])
        columns = {
            key: _numbers([point[key] for point in members])
            for key in ("lifetime_sparsity", "share_zero", "error", "error_se")
        }
        setting = [str(point["setting"]) for point in members]
        curves[name] = Curve(**columns, setting=setting, kind=members[0]["kind"], family=members[0]["family"])
    return curves


def _training(options: Figure) -> "matplotlib.figure.Figure":
    _expect(options, "run folders of itervae train")
    times = Counter(path.resolve().name for path in options.inputs)
    runs = {}
    for path in options.inputs:
        name = path.resolve().name
        runs[name if times[name] == 1 else str(path)] = _validations(path)
    return runs_figure(runs, options.log_time)


def _validations(run_dir: Path) -> tuple[np.ndarray, np.ndarray]:
    """Seconds and free energy, nats, of each validation of a run."""
    path = run_dir / "metrics.jsonl"
    if not path.is_file():
        raise InputError(f"there is no metrics.jsonl in {run_dir}; name a run folder of itervae train")
    found = [record for record in read_metrics(path) if record["split"] == "validation"]
    if not found:
        raise InputError(f"{path} has no validation yet; wait for the first, or leave {run_dir} out")
    seconds, energy = (
        _complete(path, lambda key=key: _numbers([record[key] for record in found]))
        for key in ("seconds", "free_energy")
    )
    return seconds, energy


def _kl_residual(options: Figure) -> "matplotlib.figure.Figure":
    _expect(options, None)
    return kl_residual_figure()


def _relaxed_poisson(options: Figure) -> "matplotlib.figure.Figure":
    _expect(options, None)
    sampling = options.sampling
    if not 0 < sampling.rate <= math.exp(MAX_LOG_RATE):
        most = int(math.exp(MAX_LOG_RATE))
        raise InputError(f"--rate is {sampling.rate:g}; expected a positive number of spikes, at most {most}")
    if sampling.num < 1:
        raise InputError(f"--num is {sampling.num}; expected a number ≥ 1")
    generator = torch.Generator().manual_seed(sampling.seed)
    log_rate = torch.full((sampling.num,), math.log(sampling.rate))
    samples = {}
    for temperature in sampling.temperatures:
        if not 0 < temperature < math.inf:
            raise InputError(f"--temperatures has {temperature}; expected positive numbers, such as 0.1")
        samples[temperature] = RelaxedPoisson(log_rate, temperature).rsample(generator=generator).numpy()
    return relaxed_poisson_figure(samples, sampling.rate)


FIGURES: dict[str, Callable[[Figure], "matplotlib.figure.Figure"]] = {
    "gap-steps": _gap_steps,
    "gap-distribution": _gap_distribution,
    "rate-distortion": _rate_distortion,
    "training": _training,
    "kl-residual": _kl_residual,
    "relaxed-poisson": _relaxed_poisson,
}


def _expect(options: Figure, what: str | None, most: int | None = None) -> None:
    """Check the number of inputs: at least one of `what`, or none."""
    given = len(options.inputs)
    if what is None and given:
        raise InputError(f"{options.inputs[0]} was given to figure {options.name}, which takes no input; leave it out")
    if what is not None and not given:
        raise InputError(f"figure {options.name} was given no input; name {what}")
    if most is not None and given > most:
        raise InputError(f"figure {options.name} was given {given} inputs; expected {most}: {what}")


def _report(path: Path, kind: str, command: str) -> dict[str, Any]:
    """A JSON report, checked to be one of this kind and schema."""
    if not path.is_file():
        raise InputError(f"there is no report at {path}; write it with {command}")
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        raise InputError(f"{path} cannot be read as JSON ({error}); write it again with {command}") from error
    if not isinstance(report, dict) or _kind(report) != kind:
        raise InputError(f"{path} is no {kind} report; expected what {command} writes")
    if report.get("schema") != SCHEMA:
        raise InputError(
            f"{path} is a {kind} report of schema {report.get('schema')}; expected {SCHEMA}: write it again with "
            f"{command} of this version"
        )
    return report


def _kind(report: dict[str, Any]) -> str | None:
    """The kind that a report says it is; those of `itervae gap` are known by their content."""
    return report.get("kind", "gap" if {"optimal", "engines"} <= report.keys() else None)


def _arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of `itervae gap --save`."""
    if not path.is_file():
        raise InputError(f"there is no file at {path}; write it with itervae gap --save")
    try:
        with np.load(path, allow_pickle=False) as content:
            arrays = {name: content[name] for name in content.files}
    except (ValueError, OSError, EOFError, AttributeError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{path} cannot be read as .npz ({error}); write it again with itervae gap --save") from error
    optimum = arrays.get("free_energy_optimal")
    if optimum is None or optimum.ndim != 1 or not optimum.size:
        raise InputError(f"{path} has no array free_energy_optimal (N,); expected what itervae gap --save writes")
    return arrays


def _complete(path: Path, read: Callable[[], T]) -> T:
    """What `read` finds in a file; a sentence where the file lacks something."""
    try:
        return read()
    except InputError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise InputError(f"{path} is not whole ({what}); write it again with the command that made it") from error


def _numbers(values: list[Any]) -> np.ndarray:
    """A list of a report as floats: null, which stands for a number that is not finite, is NaN."""
    return np.array([math.nan if value is None else value for value in values], dtype=np.float64)


def _merged(found: Mapping[Path, Mapping[str, T]]) -> dict[str, T]:
    """What several files hold by name; names that repeat get the file's stem in front."""
    times = Counter(name for named in found.values() for name in named)
    stems = Counter(path.stem for path in found)
    merged = {}
    for path, named in found.items():
        prefix = path.stem if stems[path.stem] == 1 else str(path.with_suffix(""))
        merged |= {name if times[name] == 1 else f"{prefix} {name}": value for name, value in named.items()}
    return merged


def _floor(certificates: Mapping[Path, float | None]) -> tuple[float, bool]:
    """The largest certificate, nats, and whether all optima have one: None stands for an estimate."""
    for path, certificate in certificates.items():
        if certificate is not None and not math.isfinite(certificate):
            raise InputError(
                f"the largest certificate in {path} is not finite, so its optimum is not known; measure again on data "
                "and a dictionary that are finite"
            )
    certified = None not in certificates.values()
    known = [certificate for certificate in certificates.values() if certificate is not None]
    return max([*known, LEAST_FLOOR if certified else ESTIMATE_FLOOR]), certified
