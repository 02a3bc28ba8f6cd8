"""`itervae infer`: codes of a user's data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import tyro

from itervae.arguments import check_whole
from itervae.cli.command import FIGURE, Measurement, Output
from itervae.cli.targets import DictionarySettings
from itervae.errors import InputError
from itervae.formats import check_file, is_array_file


@dataclass(kw_only=True)
class Infer(Measurement):
    """Encode data: log-rates and sampled counts (of sparse coding: coefficients; of other families:
    parameters, mean and a sample), reconstructions of the mean, free energy and certificate (a
    proved bound of the distance to the best; NaN where there is no proof), one row a datum. Of a
    convolutional dictionary the arrays have their natural shape: maps of log-rates and counts."""

    EXAMPLES = (
        "itervae infer runs/my-run --input x.npy --output codes.npz",
        "itervae infer runs/my-run --input photograph.png --output codes.npz --inference optimal",
        "itervae infer phi.npy --model sparse-coding --threshold 0.1 --input x.npy --output codes.npz",
    )

    WORK = "itervae.cli.work.infer"
    SAES = True
    OUTPUTS: ClassVar[Mapping[str, Output]] = {
        "output": Output("codes", ".npz"),
        "figure": FIGURE,
        "fill": Output("data filled in", ".npy"),
    }

    target: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="TARGET")]
    """Run folder, checkpoint, dictionary file (.npz, .npy, .mat, ...), or folder of a sparse
    autoencoder."""
    reading: DictionarySettings = field(default_factory=DictionarySettings)
    input: Path
    """An array (N, D), or (N, H, W) of the size of a datum, taken as it is; or pictures and video,
    for a run that saw such, prepared and tiled as in the run, or whole for a convolutional
    dictionary: a file, a folder, a stack (N, H, W). Rows in several files are read as one array: a
    folder, or a pattern in quotes. What it was taken for is said."""
    output: Path
    """File to write, .npz."""
    figure: Path | None = None
    """File (.png, .pdf, .svg) for a picture of the first data beside their reconstructions."""
    missing: str | None = None
    """Values of the input that were not seen: nan, or a file with an array of its shape, not 0
    where one is missing. By default what the run was trained with; the free energy leaves them
    out."""
    fill: Path | None = None
    """File (.npy) for the data with what is missing filled in, the mean reconstruction in its
    place."""
    data_key: str | None = None
    """Name of the array in an input (.npz, .mat, .h5) that holds several."""
    shape: tuple[int, ...] | None = None
    """Shape of a datum, H W or C H W, for a dictionary file that has none; inputs may then be
    images, and are drawn so."""
    as_: Annotated[Literal["rows", "images", "video"] | None, tyro.conf.arg(name="as")] = None
    """What to take the input for, where that is not what its suffix or shape says: one picture in
    an array, say."""
    inference: Annotated[str | None, tyro.conf.arg(metavar="ENGINE:STEPS")] = None
    """ENGINE, MODULE:CLASS or the folder of another run, with or without :STEPS; by default the
    run's own engine, the encoder of a sparse autoencoder, lca-unrolled for a dictionary."""
    steps: int | None = None
    """Number of inference steps of the run's own engine, in place of what it was trained with."""
    seed: int = 0
    """Seed of the sampled counts."""

    @property
    def paths(self) -> Sequence[Path]:
        return [self.target]

    @property
    def named(self) -> Sequence[str]:
        return [] if self.inference is None else [self.inference]

    def reads(self) -> Sequence[Path]:
        return [self.target, self.input, *([] if self.mask is None else [self.mask])]

    @property
    def mask(self) -> Path | None:
        """The file that says what is missing, if one does."""
        return None if self.missing in (None, "nan") else Path(self.missing)

    def check(self) -> None:
        if self.mask is not None:
            if not is_array_file(self.mask):
                raise InputError(
                    f"--missing is {self.missing}; expected nan, or the file of an array, such as mask.npy"
                )
            check_file(self.mask, "array of what is missing")
        if self.steps is None:
            return
        check_whole("--steps", self.steps)
        if self.inference is not None:
            raise InputError(
                f"--steps {self.steps} was given beside --inference {self.inference}, and is for the run's own engine; "
                "write the number of steps after the engine: --inference ENGINE:STEPS"
            )


run = partial(Infer.run, "itervae infer")
