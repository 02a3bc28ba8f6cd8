"""`itervae gap`: the amortization gap of any engines on any model, certified where the decoder is
linear."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import tyro

from itervae.arguments import check_finite, check_positive, check_whole
from itervae.cli.command import FIGURE, REPORT, Measurement, Output
from itervae.cli.targets import DictionarySettings
from itervae.data import DataSettings
from itervae.errors import InputError

DEFAULT_ENGINES = ("lca-unrolled:20", "fista-unrolled:20")
ESTIMATE_FLOOR = 1e-2
"""Gaps to an estimate are drawn from here on, nats."""


@dataclass(kw_only=True)
class Gap(Measurement):
    """Measure the amortization gap: the free energy of each engine's posterior above the best one,
    per datum in nats, proved by a duality certificate where the decoder is linear, else against the
    best of several starts. Of sparse coding: the energy of each engine's code above the least one,
    by the duality gap of the lasso."""

    EXAMPLES = (
        "itervae gap runs/my-run",
        "itervae gap phi.npz --engines lca-unrolled:20 fista-unrolled:20 --figure gap.png --json gap.json",
        "itervae gap phi.npy --model sparse-coding --threshold 0.1 --data array --data-path x.npy",
        "itervae gap layer_12 --data array --data-path activations.npy --frontier frontier.png",
    )

    WORK = "itervae.cli.work.gap"
    SAES = True
    OUTPUTS: ClassVar[Mapping[str, Output]] = {
        "json": REPORT,
        "save": Output("free energies", ".npz"),
        "figure": FIGURE,
        "frontier": Output("frontier", FIGURE.suffix),
    }

    target: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="TARGET")]
    """Run folder, checkpoint, dictionary file (.npz, .npy, .mat, ...), or folder of a sparse
    autoencoder (SAELens, dictionary_learning, sparsify, Gemma Scope)."""
    data: DataSettings
    reading: DictionarySettings = field(default_factory=DictionarySettings)
    engines: Annotated[tuple[str, ...] | None, tyro.conf.arg(metavar="ENGINE:STEPS ...")] = None
    """Engines of the registry, MODULE:CLASS of your own, or the run's own, with or without :STEPS;
    or folders of other runs, whose trained engines are brought here. By default the run's own,
    lca-unrolled:20 and, where it fits, fista-unrolled:20; of a sparse autoencoder its own is called
    encoder."""
    split: Literal["train", "validation", "all"] | None = None
    """Which data; by default validation for a run, all for a dictionary."""
    whole: bool = False
    """Measure on the held-out pictures whole, in place of crops of them, of any sizes; for a
    convolutional dictionary."""
    num: int | None = None
    """Number of data; by default 1000, or 100 where the optimum is an estimate, which takes
    long."""
    contrast: float = 1.0
    """Factor on the data: 2 is a test outside the distribution that engines were trained on."""
    certificate: float = 1e-6
    """Largest certificate of the optimum, nats; of sparse coding in squared units of the data."""
    trace: bool = False
    """Also the gap after every step."""
    approximation: bool = False
    """Also the approximation gap F* − (−log p(x)), by importance weighting with up to 5000 samples
    per datum."""
    json: Path | None = None
    """File for the report."""
    save: Path | None = None
    """File (.npz) for the free energies and certificates per datum."""
    figure: Path | None = None
    """File (.png, .pdf, .svg) for a picture of the gaps over the data."""
    frontier: Path | None = None
    """File for a picture of error against L1, of a sparse autoencoder: its encoder, and the least
    error at each L1, which is proved."""
    seed: int = 0
    """Seed of the data drawn and of engines that sample."""

    @property
    def paths(self) -> Sequence[Path]:
        return [self.target]

    @property
    def named(self) -> Sequence[str]:
        return self.engines or ()

    def check(self) -> None:
        check_finite("--contrast", self.contrast)
        check_positive("--certificate", self.certificate, " of nats")
        if self.num is not None:
            check_whole("--num", self.num, 1)
        if self.whole and self.split not in (None, "validation"):
            raise InputError(f"--whole is of pictures that are held out, and --split is {self.split}; leave one out")
        if self.engines == ():
            raise InputError(f"--engines was given no value; expected some such as {' '.join(DEFAULT_ENGINES)}")


run = partial(Gap.run, "itervae gap")
