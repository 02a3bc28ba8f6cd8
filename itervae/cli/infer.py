"""`itervae infer`: codes of a user's data."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro
from rich.progress import track
from torch import Tensor

from itervae.arguments import check_whole
from itervae.cli.outputs import check_outputs
from itervae.cli.runs import Target, named_engine, open_target
from itervae.cli.show import console
from itervae.data import Inputs
from itervae.distributions import Family, RelaxedPoisson, SparseCode
from itervae.files import Columns
from itervae.inference import Engine, infer
from itervae.options import parse
from itervae.sequence import FilterState, filter_step
from itervae.training import choose_device

BATCH = 1000


@dataclass
class Infer:
    """Encode data: log-rates and sampled counts (of sparse coding: coefficients; of other families: parameters, mean
    and a sample), reconstructions of the mean and free energy, one row a datum."""

    target: tyro.conf.Positional[Path]
    """Run folder, checkpoint, or dictionary file (.npz, .npy)."""
    input: Path
    """An array (N, D), or (N, H, W) of the size of a datum, taken as it is; or pictures and video, for a run that saw
    such, prepared and tiled as in the run: a file, a folder, a stack (N, H, W). What it was taken for is said."""
    output: Path
    """File to write, .npz."""
    key: str | None = None
    """Array inside an .npz input."""
    as_: Annotated[Literal["rows", "images", "video"] | None, tyro.conf.arg(name="as")] = None
    """What to take the input for, where that is not what its suffix or shape says: one picture in an array, say."""
    inference: str | None = None
    """Another engine than the run's own; lca-unrolled for a dictionary."""
    steps: int | None = None
    """Number of inference steps; the engine's own by default."""
    seed: int = 0
    """Seed of the sampled counts."""
    device: str = "auto"
    """cpu, cuda, or auto."""


def codes(posterior: Family, generator: torch.Generator) -> dict[str, torch.Tensor]:
    """The code of each datum: log-rates and sampled counts, the coefficients of a sparse code, or the parameters
    (location and log-scale, one after the other, or log-probabilities), mean and a sample of another family."""
    if isinstance(posterior, SparseCode):
        return {"coefficients": posterior.mean}
    sample = posterior.sample(generator=generator)
    if isinstance(posterior, RelaxedPoisson):
        return {"log_rate": posterior.log_rate, "counts": sample.int()}
    return {"parameters": posterior.u, "mean": posterior.mean, "sample": sample}


def run(args: list[str]) -> None:
    options = parse(Infer, "itervae infer", args)
    check_outputs(options, {"output": ".npz"}, [options.target, options.input])
    if options.steps is not None:
        check_whole("--steps", options.steps)
    device = choose_device(options.device)
    target = open_target(options.target)
    model = target.model
    engine = target.engine if options.inference is None else named_engine(options.inference, target)
    model, engine = model.to(device), engine.to(device)
    inputs = target.prepare(options.input, options.as_, options.key)
    print(inputs.taken, file=sys.stderr)
    generator = torch.Generator(device).manual_seed(options.seed)
    out, total = console(stderr=True), 0.0
    with torch.no_grad(), Columns(options.output) as columns:
        parts = _posteriors(target, engine, inputs, options.steps, device, generator)
        size = BATCH if inputs.scenes is None else len(inputs.x) // _frames(inputs)
        count = -(-len(inputs.x) // size)
        quick = count < 5 or not out.is_terminal
        for x, posterior, prior in track(parts, "inferring", total=count, console=out, disable=quick, transient=True):
            found = codes(posterior, generator) | {
                "reconstruction": model.decode(posterior.mean),
                "free_energy": model.free_energy(x, posterior, prior, generator=generator).total,
            }
            total += found["free_energy"].double().sum().item()
            columns.add({name: value.cpu().numpy() for name, value in found.items()})
        if inputs.positions is not None:
            columns.add({"positions": inputs.positions.numpy()})
    energy, unit = target.model.prior.terms[0], target.model.prior.unit
    print(
        f"{len(inputs.x)} data, {energy} {total / len(inputs.x):.2f}{unit and ' ' + unit} in the mean, written to "
        f"{options.output}"
    )


def _frames(inputs: Inputs) -> int:
    assert inputs.positions is not None
    return int(inputs.positions[-1, 0]) + 1


def _posteriors(
    target: Target,
    engine: Engine,
    inputs: Inputs,
    steps: int | None,
    device: torch.device,
    generator: torch.Generator,
) -> Iterator[tuple[Tensor, Family, Family | None]]:
    """Data, posterior, and the prior where it is not the static one, part by part: film of a run on sequences frame by
    frame, each with the prior that the run carries over, from the start of every scene; all else in batches."""
    model, carryover = target.model, target.carryover
    if inputs.scenes is None or carryover is None:
        for start in range(0, len(inputs.x), BATCH):
            x = inputs.x[start : start + BATCH].to(device)
            yield x, infer(model, engine, x, steps=steps, generator=generator).posterior, None
        return
    carryover = carryover.to(device)
    state: FilterState | None = None
    for number, frame in enumerate(inputs.x.chunk(_frames(inputs))):
        x, before = frame.to(device), None if number in inputs.scenes else state
        found, prior, state = filter_step(
            model, engine, x, carryover, before, start=target.start, steps=steps, generator=generator
        )
        yield x, found.posterior, model.posterior(prior)
