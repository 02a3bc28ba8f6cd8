"""The work of `itervae infer`."""

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
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
from itervae.errors import InputError
from itervae.files import Columns
from itervae.formats import read_array
from itervae.inference import Engine, Inference, infer
from itervae.model import GenerativeModel
from itervae.plotting import reconstructions_figure, save
from itervae.sequence import FilterState, filter_step

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BATCH = 1000
LATENTS = 2**20
"""Latents of the data that are inferred together, at most."""
SHOWN, SHOWN_WHOLE = 16, 4
"""Number of data, and of whole pictures, of which reconstructions are drawn."""
SHARE = 0.995
"""Share of the values of a whole picture that the grey scale holds."""


class Encoded(NamedTuple):
    """What was found: in a sentence, and the first data with their codes."""

    said: str
    shape: tuple[int, ...]
    symbol: str
    shown: dict[str, np.ndarray]
    filled: list[np.ndarray]
    share: float = 1.0

    def picture(self) -> "Figure":
        """The first data beside their reconstructions."""
        captions = [f"{self.symbol} {value:.1f}" for value in self.shown["free_energy"]]
        x, reconstruction, filled = self.shown["x"], self.shown["reconstruction"], self.shown.get("filled")
        return reconstructions_figure(
            x, reconstruction, self.shape, filled is None, captions, filled=filled, share=self.share
        )


def work(options: Infer) -> Encoded:
    (target,) = options.targets.values()
    model, engine, steps = target.model, target.engine, options.steps
    if options.inference is not None:
        engine, steps = named_engine(options.inference, target, options.own())
    model, engine = model.to(options.device), engine.to(options.device)
    given = _prepared(options, target)
    for inputs in given:
        rows = inputs.x if inputs.x.ndim == 2 else inputs.x.flatten(1)
        model.likelihood.check(rows, lambda row: f"row {row} of {options.input}", model.missing)
    for taken in filter(None, dict.fromkeys((target.taken, *(inputs.taken for inputs in given)))):
        print(taken, file=sys.stderr)
    generator = torch.Generator(options.device).manual_seed(options.seed)
    out, total, worst, known, num = console(stderr=True), 0.0, 0.0, 0, 0
    shape, shown, filled, lost, values = model.shape, {}, [], 0, 0
    with torch.no_grad(), Columns(options.output) as columns:
        parts = (
            part for inputs in given for part in _posteriors(target, engine, inputs, steps, options.device, generator)
        )
        count = sum(_count(model, inputs) for inputs in given)
        quick = (count < 5 and given[0].x.ndim == 2) or not out.is_terminal
        for part in track(parts, "inferring", total=count, console=out, disable=quick, transient=True):
            found = codes(part.model, part.found.posterior, generator)
            if model.missing:
                x = part.x.view_as(found["reconstruction"])
                lost, values = lost + int(x.isnan().sum()), values + x.numel()
                found["filled"] = torch.where(x.isnan(), found["reconstruction"].to(x.dtype), x)
                filled.append(found["filled"].cpu().numpy())
            energy = part.model.free_energy(part.x, part.found.posterior, part.prior, generator=generator).total
            certificate = part.found.stats["certificate"]
            total += energy.double().sum().item()
            proved = certificate[certificate.isfinite()]
            known, worst = known + len(proved), max([worst, *proved.tolist()])
            arrays = {name: value.cpu().numpy() for name, value in found.items()}
            measured = {"free_energy": energy.cpu().numpy(), "certificate": certificate.cpu().numpy()}
            columns.add(measured if len(given) > 1 else arrays | measured)
            if len(given) > 1:  # of several sizes, which make no one array
                for row in range(len(part.x)):
                    columns.put({f"{name}_{num + row}": value[row] for name, value in arrays.items()})
            num += len(part.x)
            if not shown:
                rows = {"x": part.x, "reconstruction": found["reconstruction"].flatten(1), "free_energy": energy}
                rows |= {name: value.flatten(1) for name, value in found.items() if name == "filled"}
                most = SHOWN if part.model is model else SHOWN_WHOLE
                shape, shown = part.model.shape, {name: value[:most].cpu().numpy() for name, value in rows.items()}
        if given[0].positions is not None:
            columns.add({"positions": torch.cat([inputs.positions for inputs in given]).numpy()})  # pyright: ignore
    energy, unit = model.prior.terms[0], model.prior.unit
    unit = unit and " " + unit
    which = "none" if known == num else f"of {known} none"
    bound = f"; {which} is more than {worst:.2g}{unit} above its least, which is proved" if known else ""
    if worst > 1 and options.inference is None:
        bound += ": a bound, which more --steps or --inference optimal lower"
    said = f"{num} data, {energy} {total / num:.2f}{unit} in the mean{bound}"
    if model.missing:
        said += f"; {lost} of {values} values were not seen"
    return Encoded(said, shape, model.prior.symbol, shown, filled, 1.0 if shape == model.shape else SHARE)


def _prepared(options: Infer, target: Target) -> list[Inputs]:
    """The input, of each size together, NaN where it was not seen."""
    prepare, model = target.prepare, target.model
    if options.missing is not None:
        model.missing = True
        prepare = replace(prepare, settings=replace(prepare.settings, missing="nan"))
    if options.fill is not None and not model.missing:
        raise InputError("--fill was given, and nothing is missing; say with --missing what is, or leave it out")
    if not target.priced:
        raise InputError(
            f"no threshold was named for {target.path}, a sparse autoencoder; give one with --threshold: it prices "
            "codes, and does not change those of its encoder"
        )
    given = prepare.each(options.input, options.as_, options.data_key)
    if target.sae is not None:
        given = [replace(inputs, x=target.sae.normalize(inputs.x[:])) for inputs in given]
    if options.fill is not None and len(given) > 1:
        raise InputError(
            f"--fill was given for pictures of {len(given)} sizes; expected one size: give them apart, or leave it "
            "out, as the codes hold them too"
        )
    if options.mask is None:
        return given
    first, *others = given
    mask = np.asarray(read_array(options.mask))
    lost = mask[None] if mask.ndim == first.x.ndim - 1 and len(first.x) == 1 else mask
    if others or lost.reshape(len(lost), -1).shape != first.x.flatten(1).shape:
        sizes = " and ".join(str(tuple(inputs.x.shape)) for inputs in given)
        raise InputError(
            f"{options.mask} has shape {mask.shape}, and the input {sizes} once it is prepared; expected the same: "
            "mask rows, or whole pictures of one size"
        )
    hidden = torch.from_numpy(np.ascontiguousarray(lost != 0)).view(first.x.shape)
    return [replace(first, x=first.x[:].masked_fill(hidden, torch.nan))]


def files(options: Infer, found: Encoded) -> Mapping[str, Callable[[Path], object]]:
    return {
        "figure": lambda path: save(found.picture(), path),
        "fill": lambda path: np.save(path, np.concatenate(found.filled)),
    }


def tell(options: Infer, found: Encoded) -> None:
    print(found.said)


def codes(model: GenerativeModel, posterior: Family, generator: torch.Generator) -> dict[str, torch.Tensor]:
    """The code of each datum: log-rates and sampled counts, the coefficients of a sparse code, or
    the parameters (location and log-scale, one after the other, or log-probabilities), mean and a
    sample of another family; and the reconstruction of the mean. Of a convolutional dictionary all
    have their natural shape: maps (B, K, *places) and (B, *shape)."""
    if isinstance(posterior, SparseCode):
        found = {"coefficients": posterior.mean}
    else:
        sample = posterior.sample(generator=generator)
        if isinstance(posterior, RelaxedPoisson):
            found = {"log_rate": posterior.log_rate, "counts": sample.int()}
        else:
            found = {"parameters": posterior.u, "mean": posterior.mean, "sample": sample}
    reconstruction = model.decode(posterior.mean)
    if not model.convolutional:
        return found | {"reconstruction": reconstruction}
    parts = {name: value.unflatten(1, (-1, model.latents)) for name, value in found.items()}
    maps = {name: model.maps(value[:, 0] if value.shape[1] == 1 else value) for name, value in parts.items()}
    return maps | {"reconstruction": model.signal(reconstruction)}


class Part(NamedTuple):
    """Data, the model for their shape, what was inferred of them, and the prior where it is not the
    static one."""

    x: Tensor
    model: GenerativeModel
    found: Inference
    prior: Family | None = None


def _frames(inputs: Inputs) -> int:
    assert inputs.positions is not None
    return int(inputs.positions[-1, 0]) + 1


def _at_once(model: GenerativeModel, inputs: Inputs) -> int:
    """Data that are inferred together: pictures as many as memory bears, of film the patches of a
    frame."""
    if inputs.scenes is not None:
        return len(inputs.x) // _frames(inputs)
    if inputs.x.ndim == 2:
        return BATCH
    return max(1, min(BATCH, LATENTS // model.meet(inputs.x[:1])[0].latents))


def _count(model: GenerativeModel, inputs: Inputs) -> int:
    return -(-len(inputs.x) // _at_once(model, inputs))


def _posteriors(
    target: Target,
    engine: Engine,
    inputs: Inputs,
    steps: int | None,
    device: torch.device,
    generator: torch.Generator,
) -> Iterator[Part]:
    """What was inferred, part by part: film of a run on sequences frame by frame, each with the
    prior that the run carries over, from the start of every scene; all else in batches."""
    model, run, size = target.model, target.run, _at_once(target.model, inputs)
    if inputs.scenes is None or run is None or run.carryover is None:
        for start in range(0, len(inputs.x), size):
            fitting, x = model.meet(inputs.x[start : start + size].to(device))
            yield Part(x, fitting, infer(fitting, engine, x, steps=steps, generator=generator))
        return
    carryover, first = run.carryover.to(device), run.settings.sequence.start
    state: FilterState | None = None
    for number, frame in enumerate(inputs.x.chunk(_frames(inputs))):
        (fitting, x), before = model.meet(frame.to(device)), None if number in inputs.scenes else state
        found, prior, state = filter_step(
            fitting, engine, x, carryover, before, start=first, steps=steps, generator=generator
        )
        yield Part(x, fitting, found, prior)
