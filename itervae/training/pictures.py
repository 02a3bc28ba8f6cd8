"""The pictures of a run: dictionary, reconstructions of held-out data, samples of the prior,
curves."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from itervae.inference import Engine, infer
from itervae.model import GenerativeModel
from itervae.plotting import (
    dictionary_figure,
    reconstructions_figure,
    samples_figure,
    save,
    spikes_figure,
    tile_atoms,
    training_figure,
)
from itervae.training.tasks import evaluation_batch

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN = 16
"""Number of data of which reconstructions are drawn."""


def draw_pictures(
    run_dir: Path, model: GenerativeModel, engine: Engine, x: Tensor, records: list[dict[str, Any]], seed: int
) -> list[str]:
    """Write the pictures of a run, `dictionary.png` and so on; the names of those that there
    are."""
    drawn = []
    for name, figure in pictures(model, engine, x, records, seed):
        save(figure, run_dir / f"{name}.png")
        drawn.append(f"{name}.png")
    return drawn


@torch.no_grad()
def pictures(
    model: GenerativeModel, engine: Engine, x: Tensor, records: list[dict[str, Any]], seed: int
) -> Iterator[tuple[str, "Figure"]]:
    """The pictures of a run by name: `dictionary` (linear decoders), `reconstructions`, `samples`
    (VAEs) and `curves`."""
    generator = torch.Generator(x.device).manual_seed(seed)
    x = x[: evaluation_batch(model)]
    inference = infer(model, engine, x, generator=generator)
    if model.atoms is not None:
        atoms, shape = model.atoms
        usage = model.per_atom(inference.posterior.mean.abs().mean(0))
        yield "dictionary", dictionary_figure(_numpy(atoms), shape, _numpy(usage))
    shown = torch.linspace(0, len(x) - 1, min(SHOWN, len(x)), device=x.device).long()
    posterior = model.posterior(inference.posterior.u[shown])
    reconstruction = model.decode(posterior.mean)
    energy = model.free_energy(x[shown], posterior, generator=generator).total
    captions = [f"{model.prior.symbol} {value:.0f} {model.prior.unit}".rstrip() for value in energy.tolist()]
    yield (
        "reconstructions",
        reconstructions_figure(_numpy(x[shown]), _numpy(reconstruction), model.shape, captions=captions),
    )
    if "variational posterior" in model.capabilities:  # sparse coding has no prior to draw from
        samples = model.sample(64, generator)
        yield "samples", samples_figure(_numpy(samples), model.shape, "Samples of the prior")
    if records:
        yield "curves", training_figure(records, model.prior.terms, model.prior.unit)


def draw_sequence(
    run_dir: Path, model: GenerativeModel, x: Tensor, counts: Tensor, reconstruction: Tensor
) -> list[str]:
    """Write `spikes.png`: frames (T, D), spikes (T, K) and reconstructions (T, D) of a sequence of
    images."""
    if len(model.shape) != 2:
        return []
    save(spikes_figure(_numpy(x), _numpy(counts), _numpy(reconstruction), model.shape), run_dir / "spikes.png")
    return ["spikes.png"]


def atoms_image(model: GenerativeModel, rates: Tensor) -> np.ndarray | None:
    """The atoms as one image, most used first; None where there are none or data are not
    images."""
    if model.atoms is None or len(model.shape) == 1:
        return None
    atoms, shape = model.atoms
    order = model.per_atom(rates.mean(0)).argsort(descending=True).cpu().numpy()
    return np.nan_to_num(tile_atoms(_numpy(atoms.detach()), shape, order), nan=0.0)


def _numpy(value: Tensor) -> np.ndarray:
    return value.float().cpu().numpy()
