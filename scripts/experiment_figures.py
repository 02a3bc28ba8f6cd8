"""The atoms that `scripts/reproduce dictionaries` shows, and how local they are."""

import re
from pathlib import Path

import numpy as np
import torch

from itervae.data import load_source
from itervae.distributions import unit_kl
from itervae.inference import infer
from itervae.model import CategoricalPrior, SparsityPrior
from itervae.plotting import dictionaries_figure, save
from itervae.training import load, load_settings, read_checkpoint
from itervae.training.files import find_checkpoint

SHOWN = 100
DATA = 1000


@torch.no_grad()
def atoms_in_order(folder: Path) -> tuple[np.ndarray, tuple[int, ...]]:
    """The first atoms (D, 100) of a run and the shape of one: by the mean KL of their units, those
    of a categorical by the logit of their mean probability, those of sparse coding by their mean
    coefficient."""
    model, engine = load(folder)
    x = load_source(load_settings(read_checkpoint(find_checkpoint(folder))).data, 0).validation[:DATA]
    posterior = infer(model, engine, x).posterior
    if isinstance(model.prior, SparsityPrior | CategoricalPrior):
        weight = posterior.mean.abs().mean(0)
    else:
        weight = unit_kl(posterior, model.prior()).mean(0)
    order = weight.argsort(descending=True)[:SHOWN]
    return model.dictionary[:, order].numpy(), model.shape


def atom_area(atoms: np.ndarray) -> float:
    """(Σa²)² / (D·Σa⁴), the share of pixels that an atom covers; the median over atoms (D, n)."""
    squares = np.square(atoms.astype(float))
    return float(np.median(squares.sum(0) ** 2 / (len(atoms) * np.square(squares).sum(0))))


def title_of(name: str) -> str:
    """poisson-linear of images-poisson-linear-4000x200-s0, and how many patches a run has, if that
    is said."""
    title = "-".join(name.split("-")[1:-2])
    return re.sub(r"-(\d+)patches", r", \1 patches", title)


def draw_dictionaries(dictionaries: dict[str, np.ndarray], shape: tuple[int, ...], path: Path) -> None:
    """The picture of all dictionaries, by the name of their run."""
    titles = {name: title_of(name).replace(", ", "\n") for name in dictionaries}
    notes = {
        titles[name]: f"{atoms.shape[1]} atoms, area {atom_area(atoms):.2f}" for name, atoms in dictionaries.items()
    }
    save(dictionaries_figure({titles[name]: atoms for name, atoms in dictionaries.items()}, shape, notes), path)
