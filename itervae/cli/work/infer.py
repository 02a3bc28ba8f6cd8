"""The work of `itervae infer`."""

import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from rich.progress import track
from torch import Tensor

from itervae.cli.infer import Infer
from itervae.cli.runs import Target, named_engine
from itervae.cli.show import console
from itervae.data import Inputs
from itervae.distributions import Family, RelaxedPoisson, SparseCode
from itervae.files import Columns
from itervae.inference import Engine, Inference, infer
from itervae.plotting import reconstructions_figure, save
from itervae.sequence import FilterState, filter_step

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BATCH = 1000
SHOWN = 16
"""Number of data of which reconstructions are drawn."""


class Encoded(NamedTuple):
    """What was found: in a sentence, and the first data with their codes."""

    said: str
    shape: tuple[int, ...]
    symbol: str
    shown: dict[str, np.ndarray]

    def picture(self) -> "Figure":
        """The first data beside their reconstructions."""
        captions = [f"{self.symbol} {value:.1f}" for value in self.shown["free_energy"]]
        return reconstructions_figure(self.shown["x"], self.shown["reconstruction"], self.shape, captions=captions)


def work(options: Infer) -> Encoded:
    (target,) = options.targets.values()
    model, engine, steps = target.model, target.engine, options.steps
    if options.inference is not None:
        engine, steps = named_engine(options.inference, target, options.own())
    model, engine = model.to(options.device), engine.to(options.device)
    inputs = target.prepare(options.input, options.as_, options.data_key)
    model.likelihood.check(inputs.x, lambda row: f"row {row} of {options.input}")
    for taken in filter(None, (target.taken, inputs.taken)):
        print(taken, file=sys.stderr)
    generator = torch.Generator(options.device).manual_seed(options.seed)
    out, total, worst, known = console(stderr=True), 0.0, 0.0, 0
    shown: dict[str, np.ndarray] = {}
    with torch.no_grad(), Columns(options.output) as columns:
        parts = _posteriors(target, engine, inputs, steps, options.device, generator)
        size = BATCH if inputs.scenes is None else len(inputs.x) // _frames(inputs)
        count = -(-len(inputs.x) // size)
        quick = count < 5 or not out.is_terminal
        for x, result, prior in track(parts, "inferring", total=count, console=out, disable=quick, transient=True):
            posterior = result.posterior
            found = codes(posterior, generator) | {
                "reconstruction": model.decode(posterior.mean),
                "free_energy": model.free_energy(x, posterior, prior, generator=generator).total,
            }
            total += found["free_energy"].double().sum().item()
            found["certificate"] = result.stats["certificate"]
            proved = found["certificate"][found["certificate"].isfinite()]
            known, worst = known + len(proved), max([worst, *proved.tolist()])
            arrays = {name: value.cpu().numpy() for name, value in found.items()}
            columns.add(arrays)
            shown = shown or {name: value[:SHOWN] for name, value in {**arrays, "x": x.cpu().numpy()}.items()}
        if inputs.positions is not None:
            columns.add({"positions": inputs.positions.numpy()})
    energy, unit = model.prior.terms[0], model.prior.unit
    unit = unit and " " + unit
    num = len(inputs.x)
    which = "none" if known == num else f"of {known} none"
    bound = f"; {which} is more than {worst:.2g}{unit} above its least, which is proved" if known else ""
    if worst > 1 and options.inference is None:
        bound += ": a bound, which more --steps or --inference optimal lower"
    said = f"{num} data, {energy} {total / num:.2f}{unit} in the mean{bound}"
    return Encoded(said, model.shape, model.prior.symbol, shown)


def files(options: Infer, found: Encoded) -> Mapping[str, Callable[[Path], object]]:
    return {"figure": lambda path: save(found.picture(), path)}


def tell(options: Infer, found: Encoded) -> None:
    print(found.said)


def codes(posterior: Family, generator: torch.Generator) -> dict[str, torch.Tensor]:
    """The code of each datum: log-rates and sampled counts, the coefficients of a sparse code, or
    the parameters (location and log-scale, one after the other, or log-probabilities), mean and a
    sample of another family."""
    if isinstance(posterior, SparseCode):
        return {"coefficients": posterior.mean}
    sample = posterior.sample(generator=generator)
    if isinstance(posterior, RelaxedPoisson):
        return {"log_rate": posterior.log_rate, "counts": sample.int()}
    return {"parameters": posterior.u, "mean": posterior.mean, "sample": sample}


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
) -> Iterator[tuple[Tensor, Inference, Family | None]]:
    """Data, what was inferred, and the prior where it is not the static one, part by part: film of
    a run on sequences frame by frame, each with the prior that the run carries over, from the start
    of every scene; all else in batches."""
    model, run = target.model, target.run
    if inputs.scenes is None or run is None or run.carryover is None:
        for start in range(0, len(inputs.x), BATCH):
            x = inputs.x[start : start + BATCH].to(device)
            yield x, infer(model, engine, x, steps=steps, generator=generator), None
        return
    carryover, first = run.carryover.to(device), run.settings.sequence.start
    state: FilterState | None = None
    for number, frame in enumerate(inputs.x.chunk(_frames(inputs))):
        x, before = frame.to(device), None if number in inputs.scenes else state
        found, prior, state = filter_step(
            model, engine, x, carryover, before, start=first, steps=steps, generator=generator
        )
        yield x, found, prior
