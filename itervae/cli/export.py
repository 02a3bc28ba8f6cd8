"""`itervae export`: the dictionary of a run as arrays."""

from dataclasses import dataclass
from pathlib import Path

import tyro

from itervae.cli.outputs import check_outputs
from itervae.model import save_dictionary
from itervae.options import parse
from itervae.training import load


@dataclass
class Export:
    """Write the dictionary, the prior log-rates and the observation variance of a run with a linear decoder. Other
    families than the Poisson have no rates, and sparse coding the dictionary alone; as a target, such a file is read as
    a Poisson model whose rates --log-rate gives."""

    target: tyro.conf.Positional[Path]
    """Run folder or checkpoint."""
    dictionary: Path
    """File to write, .npz."""


def run(args: list[str]) -> None:
    options = parse(Export, "itervae export", args)
    check_outputs(options, {"dictionary": ".npz"}, [options.target])
    model = load(options.target).model
    save_dictionary(model, options.dictionary)
    size, latents = model.dictionary.shape
    lost = "" if model.prior.name == "poisson" else f", without its {model.prior.name} prior"
    print(f"dictionary of {latents} atoms of {size} values written to {options.dictionary}{lost}")
