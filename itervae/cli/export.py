"""`itervae export`: the dictionary of a run as arrays."""

from dataclasses import dataclass
from pathlib import Path

import tyro

from itervae.model import save_dictionary
from itervae.training import load


@dataclass
class Export:
    """Write the dictionary, the prior log-rates and the observation variance of a run with a linear decoder; of sparse
    coding, which has no rates, the dictionary alone."""

    target: tyro.conf.Positional[Path]
    """Run folder or checkpoint."""
    dictionary: Path
    """File to write, .npz."""


def run(args: list[str]) -> None:
    options = tyro.cli(Export, prog="itervae export", args=args)
    model, _ = load(options.target)
    save_dictionary(model, options.dictionary)
    size, latents = model.dictionary.shape
    print(f"dictionary of {latents} atoms of {size} values written to {options.dictionary}")
