"""`itervae infer`: codes of a user's data."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from rich.progress import track

from itervae.arguments import check_whole
from itervae.cli.outputs import check_outputs
from itervae.cli.target import named_engine, open_target
from itervae.cli.terminal import console
from itervae.data import DataSettings, load_inputs
from itervae.distributions import Family, RelaxedPoisson, SparseCode
from itervae.files import write_arrays
from itervae.inference import infer
from itervae.options import parse
from itervae.training import choose_device

BATCH = 1000


@dataclass
class Infer:
    """Encode data: log-rates and sampled counts (of sparse coding: coefficients; of other families: parameters, mean
    and a sample), reconstructions of the mean and free energy, one row a datum."""

    target: tyro.conf.Positional[Path]
    """Run folder, checkpoint, or dictionary file (.npz, .npy)."""
    input: Path
    """Array (N, D) or (N, H, W), taken as it is, or images larger than the patch, whitened and tiled as in the run."""
    output: Path
    """File to write, .npz."""
    key: str | None = None
    """Array inside an .npz input."""
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
    inputs = load_inputs(options.input, options.key, target.data or DataSettings(), model.shape)
    generator = torch.Generator(device).manual_seed(options.seed)
    columns: dict[str, list[np.ndarray]] = {}
    with torch.no_grad():
        batches = inputs.x.split(BATCH)
        out = console(stderr=True)
        quick = len(batches) < 5 or not out.is_terminal
        for batch in track(batches, "inferring", console=out, disable=quick, transient=True):
            x = batch.to(device)
            posterior = infer(model, engine, x, steps=options.steps, generator=generator).posterior
            found = codes(posterior, generator) | {
                "reconstruction": model.decode(posterior.mean),
                "free_energy": model.free_energy(x, posterior, generator=generator).total,
            }
            for name, value in found.items():
                columns.setdefault(name, []).append(value.cpu().numpy())
    arrays = {name: np.concatenate(values) for name, values in columns.items()}
    if inputs.positions is not None:
        arrays["positions"] = inputs.positions.numpy()
    write_arrays(options.output, arrays)
    mean = arrays["free_energy"].mean()
    print(f"{len(inputs.x)} data, free energy {mean:.2f} nats in the mean, written to {options.output}")
