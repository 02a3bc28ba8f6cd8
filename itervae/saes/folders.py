"""Which folders hold a sparse autoencoder, and of which library."""

import os
from pathlib import Path

KINDS = {
    "sae_weights.safetensors": "SAELens",
    "ae.pt": "dictionary_learning",
    "sae.safetensors": "sparsify",
    "params.npz": "Gemma Scope",
}
"""The file of the weights, and whose it is."""


def is_sae(path: Path) -> bool:
    """Whether a path is the folder of a sparse autoencoder, by the names of its files."""
    return weights_in(path) is not None


def weights_in(folder: Path) -> Path | None:
    """The file of the weights in a folder; None where there is none."""
    return next((folder / name for name in KINDS if os.path.isfile(folder / name)), None)
