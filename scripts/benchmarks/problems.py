"""What is solved: real patches and a learned dictionary where ITERVAE_DATA names their folder,
random ones else."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import torch
from torch import Tensor

from itervae import load_dictionary
from itervae.data import DataSettings, load_source
from itervae.model import GenerativeModel, PoissonVAESettings, build_model

DICTIONARY, STACK = "dictionary_256x512.npz", "bsds_gray.npz"


def real_problem(count: int) -> tuple[GenerativeModel, Tensor] | None:
    """The Poisson model of the learned dictionary (256, 512) and whitened patches of held-out
    images (count, 256); None where the folder is not named or has no such files."""
    folder = Path(os.environ.get("ITERVAE_DATA", ""))
    if not ((folder / DICTIONARY).is_file() and (folder / STACK).is_file()):
        return None
    settings = DataSettings(data="images", data_path=folder / STACK, data_key="train", val_key="val")
    model = load_dictionary(folder / DICTIONARY).requires_grad_(False)
    return model, load_source(settings, seed=0).validation[:count]


def random_problem(latents: int, batch: int) -> tuple[GenerativeModel, Tensor]:
    """A random dictionary of twice as many atoms as pixels, and data drawn from its model: some 20
    active."""
    generator = torch.Generator().manual_seed(0)
    model = build_model(PoissonVAESettings(latents=latents), (latents // 2,), 0).requires_grad_(False)
    with torch.no_grad():
        model.prior.log_rate.copy_(torch.randn(latents, generator=generator) - 0.5 - torch.tensor(latents / 20).log())
    counts = torch.poisson(model.prior().rate.expand(batch, -1), generator=generator)
    noise = model.likelihood.variance.sqrt() * torch.randn(batch, latents // 2, generator=generator)
    return model, 3 * counts @ model.dictionary.mT + noise


@contextmanager
def steps_in_tensors() -> Iterator[None]:
    """Steps and certificates are those in tensors, without compiled code."""
    with (
        patch("itervae.inference.engines.descent.fusible", lambda value: False),
        patch("itervae.inference.energies.poisson.fusible", lambda value: False),
    ):
        yield
