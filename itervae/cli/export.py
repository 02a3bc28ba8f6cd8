"""`itervae export`: the dictionary of a run as arrays."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import tyro

from itervae.cli.command import Command, Output
from itervae.cli.targets import check_target, own_classes

if TYPE_CHECKING:
    from itervae.model import GenerativeModel


@dataclass
class Export(Command):
    """Write the dictionary, the prior log-rates and the observation variance of a run with a linear
    decoder. Of sparse coding the threshold is written in their place. The other families have no
    rates; as a target, such a file is read as a Poisson model whose rates --log-rate gives. Of a
    convolutional dictionary the small atoms and their stride are written."""

    EXAMPLES = ("itervae export runs/my-run --output phi.npz",)

    FORMER: ClassVar = {"dictionary": "output"}
    OUTPUTS: ClassVar[Mapping[str, Output]] = {"output": Output("dictionary", (".npz", ".safetensors"))}

    target: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="TARGET")]
    """Run folder or checkpoint."""
    output: Path
    """File to write, .npz or .safetensors."""
    own: Annotated[tuple[str, ...], tyro.conf.arg(metavar="MODULE:CLASS ...")] = ()
    """Classes of your own that the run was trained with; no file is trusted to name code."""

    def reads(self) -> Sequence[Path]:
        return [self.target]

    def work(self) -> "GenerativeModel":
        check_target(self.target)
        from itervae.training import load

        return load(self.target, own=own_classes(self.own)).model

    def files(self, found: "GenerativeModel") -> Mapping[str, Callable[[Path], object]]:
        from itervae.model import save_dictionary

        return {"output": lambda path: save_dictionary(found, path)}

    def tell(self, found: "GenerativeModel") -> None:
        from itervae.cli.runs import what_atoms

        lost = "" if found.prior.name in ("poisson", "sparse code") else f"; its {found.prior.name} prior is left out"
        print(f"{what_atoms(found)}{lost}")


run = partial(Export.run, "itervae export")
