"""`itervae infer`: codes of a user's data."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, NamedTuple

import numpy as np
import torch
import tyro
from rich.progress import track
from torch import Tensor

from itervae.arguments import check_whole
from itervae.cli.command import FIGURE, Measurement, Output
from itervae.cli.runs import DictionarySettings, Target, named_engine, open_target
from itervae.cli.show import console
from itervae.data import Inputs
from itervae.distributions import Family, RelaxedPoisson, SparseCode
from itervae.errors import InputError
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


@dataclass(kw_only=True)
class Infer(Measurement):
    """Encode data: log-rates and sampled counts (of sparse coding: coefficients; of other families:
    parameters, mean and a sample), reconstructions of the mean, free energy and certificate (a
    proved bound of the distance to the best; NaN where there is no proof), one row a datum."""

    EXAMPLES = (
        "itervae infer runs/my-run --input x.npy --output codes.npz",
        "itervae infer runs/my-run --input photograph.png --output codes.npz --inference optimal",
        "itervae infer phi.npy --model sparse-coding --threshold 0.1 --input x.npy --output codes.npz",
    )

    OUTPUTS: ClassVar[Mapping[str, Output]] = {"output": Output("codes", ".npz"), "figure": FIGURE}

    target: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="TARGET")]
    """Run folder, checkpoint, or dictionary file (.npz, .npy, .mat, ...)."""
    reading: DictionarySettings = field(default_factory=DictionarySettings)
    input: Path
    """An array (N, D), or (N, H, W) of the size of a datum, taken as it is; or pictures and video,
    for a run that saw such, prepared and tiled as in the run: a file, a folder, a stack (N, H, W).
    What it was taken for is said."""
    output: Path
    """File to write, .npz."""
    figure: Path | None = None
    """File (.png, .pdf, .svg) for a picture of the first data beside their reconstructions."""
    data_key: str | None = None
    """Name of the array in an input (.npz, .mat, .h5) that holds several."""
    shape: tuple[int, ...] | None = None
    """Shape of a datum, H W or C H W, for a dictionary file that has none; inputs may then be
    images, and are drawn so."""
    as_: Annotated[Literal["rows", "images", "video"] | None, tyro.conf.arg(name="as")] = None
    """What to take the input for, where that is not what its suffix or shape says: one picture in
    an array, say."""
    inference: Annotated[str | None, tyro.conf.arg(metavar="ENGINE:STEPS")] = None
    """ENGINE, MODULE:CLASS or the folder of another run, with or without :STEPS; by default the
    run's own engine, lca-unrolled for a dictionary."""
    steps: int | None = None
    """Number of inference steps of the run's own engine, in place of what it was trained with."""
    seed: int = 0
    """Seed of the sampled counts."""

    @property
    def paths(self) -> Sequence[Path]:
        return [self.target]

    @property
    def named(self) -> Sequence[str]:
        return [] if self.inference is None else [self.inference]

    def reads(self) -> Sequence[Path]:
        return [self.target, self.input]

    def check(self) -> None:
        if self.steps is None:
            return
        check_whole("--steps", self.steps)
        if self.inference is not None:
            raise InputError(
                f"--steps {self.steps} was given beside --inference {self.inference}, and is for the run's own engine; "
                "write the number of steps after the engine: --inference ENGINE:STEPS"
            )

    def open_targets(self) -> dict[str, Target]:
        return {str(self.target): open_target(self.target, self.own(), self.reading, self.shape)}

    def work(self) -> Encoded:
        (target,) = self.targets.values()
        model, engine, steps = target.model, target.engine, self.steps
        if self.inference is not None:
            engine, steps = named_engine(self.inference, target, self.own())
        model, engine = model.to(self.device), engine.to(self.device)
        inputs = target.prepare(self.input, self.as_, self.data_key)
        model.likelihood.check(inputs.x, lambda row: f"row {row} of {self.input}")
        for taken in filter(None, (target.taken, inputs.taken)):
            print(taken, file=sys.stderr)
        generator = torch.Generator(self.device).manual_seed(self.seed)
        out, total, worst, known = console(stderr=True), 0.0, 0.0, 0
        shown: dict[str, np.ndarray] = {}
        with torch.no_grad(), Columns(self.output) as columns:
            parts = _posteriors(target, engine, inputs, steps, self.device, generator)
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
        if worst > 1 and self.inference is None:
            bound += ": a bound, which more --steps or --inference optimal lower"
        said = f"{num} data, {energy} {total / num:.2f}{unit} in the mean{bound}"
        return Encoded(said, model.shape, model.prior.symbol, shown)

    def files(self, found: Encoded) -> Mapping[str, Callable[[Path], object]]:
        return {"figure": lambda path: save(found.picture(), path)}

    def tell(self, found: Encoded) -> None:
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


run = partial(Infer.run, "itervae infer")
