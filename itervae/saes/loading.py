"""A sparse autoencoder of a folder as a model of sparse coding and an engine."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from itervae.arguments import check_positive
from itervae.model import GenerativeModel, SparseCodingSettings, sparse_coding_model
from itervae.paths import check_path
from itervae.saes.encoder import SAEEncoder
from itervae.saes.libraries import read_parts
from itervae.showing import Shown

SAID = {
    "none": "",
    "expected_average_only_in": "it was trained on inputs scaled to a norm of √D in the mean, which its file does not "
    "say how: scale yours so",
    "constant_norm_rescale": "inputs are scaled to a norm of √D each before",
    "layer_norm": "the mean is taken from each input, and it is divided by its standard deviation, before",
}
"""What is said of a normalization of the inputs."""


@dataclass(frozen=True, repr=False)
class LoadedSAE(Shown):
    """What the folder of a sparse autoencoder holds.

    Attributes:
        model: sparse coding with atoms of unit norm and the bias of the decoder.
        engine: its encoder; `model, engine = sae` too.
        kind: whose format it is, and the architecture.
        normalization: what `normalize` does to inputs: none, expected_average_only_in,
            constant_norm_rescale or layer_norm, as SAELens calls them.
        said: the same in words; empty for none.
    """

    model: GenerativeModel
    engine: SAEEncoder
    kind: str
    normalization: str
    said: str

    def __iter__(self) -> Iterator[Any]:
        yield self.model
        yield self.engine

    def normalize(self, x: Tensor) -> Tensor:
        """Data (B, D) as the model explains them: what the file says is done to inputs before."""
        if self.normalization == "constant_norm_rescale":
            return x * (x.shape[1] ** 0.5 / x.norm(dim=1, keepdim=True).clamp_min(torch.finfo(x.dtype).tiny))
        if self.normalization == "layer_norm":
            apart = x - x.mean(1, keepdim=True)
            return apart / (apart.std(1, keepdim=True) + 1e-5)
        return x


def load_sae(folder: str | Path, threshold: float = 1.0) -> LoadedSAE:
    """The sparse autoencoder of a folder, x̂ = Σ_k a_k w_k + b: sparse coding with its atoms,

        E(a) = ½‖x − b − Φa‖² + θ Σ_k a_k,    φ_k = w_k/‖w_k‖,    a ≥ 0,

    and its encoder as an engine, whose codes are ‖w_k‖ times those that its library gives.

    Example:
        model, engine = itervae.load_sae("layer_12", threshold=0.5)
        a = itervae.infer(model, engine, x).posterior.mean

    Args:
        folder: that SAELens, dictionary_learning or sparsify have written, or of Gemma Scope.
        threshold: θ > 0, the price of a code in units of x; no code of the encoder depends on it.

    Raises:
        InputError: no such folder, a damaged file, or an architecture that is not read here.
    """
    folder = check_path(folder)
    threshold = check_positive("`threshold`", threshold, ", in units of the data")
    parts = read_parts(folder)
    latents, size = parts.atoms.shape
    norms = parts.atoms.norm(dim=1)
    settings = SparseCodingSettings(latents, threshold, bias=True)
    model = sparse_coding_model(parts.atoms.mT, settings, (size,))
    with torch.no_grad():
        model.decoder.bias.copy_(parts.bias)  # pyright: ignore
    centre = parts.bias if parts.centred else torch.zeros_like(parts.bias)
    weight = parts.weight.contiguous()
    engine = SAEEncoder(weight, parts.encoder_bias, centre, norms, parts.rule)
    said = SAID[parts.normalization]
    if parts.normalization == "expected_average_only_in":
        warnings.warn(f"{folder}: {said}", stacklevel=2)
    return LoadedSAE(
        model.eval().requires_grad_(False), engine.eval().requires_grad_(False), parts.kind, parts.normalization, said
    )
