"""What a command is pointed at, before any of it is read: what a dictionary file is taken for,
whether a target is there, and engines by name."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from itervae.errors import InputError
from itervae.formats import check_file, is_array_file
from itervae.inference.registry import ENGINES, check_engine_name, split_steps
from itervae.options import flag
from itervae.own import Module, import_class
from itervae.paths import check_path
from itervae.saes.folders import is_sae
from itervae.training.files import check_there, find_checkpoint

if TYPE_CHECKING:
    from itervae.model import GenerativeModel

ENCODER = "encoder"
"""The encoder of a sparse autoencoder, as engines are named."""


@dataclass(frozen=True)
class DictionaryLayout:
    """Where the dictionary lies in a file."""

    dictionary_key: str | None = None
    """Name of the dictionary among the arrays of a file (.npz, .mat, .h5); by default dictionary,
    or the only array."""
    atoms: Literal["columns", "rows"] = "columns"
    """Where the atoms lie in the array of a dictionary: columns (D, K), or rows (K, D), as those of
    scikit-learn do."""
    stride: int | None = None
    """Pixels from one place of small atoms (K, C, H, W) to the next, in a file of a convolutional
    dictionary that does not say."""

    def load(self, path: Path, shape: tuple[int, ...] | None = None) -> "GenerativeModel":
        """The model of a file, with atoms of a shape.

        Raises:
            InputError: as `load_dictionary`.
        """
        from itervae.model import load_dictionary

        return load_dictionary(path, key=self.dictionary_key, atoms=self.atoms, shape=shape, stride=self.stride)


@dataclass(frozen=True)
class DictionarySettings(DictionaryLayout):
    """What a dictionary file is taken for, where it does not say."""

    model: Literal["poisson-vae", "sparse-coding"] | None = None
    """Model of a dictionary file: a Poisson VAE by default, or sparse coding, which needs
    --threshold."""
    log_rate: float | None = None
    """Prior log-rate of a Poisson dictionary that has none; -5 by default."""
    observation_variance: float | None = None
    """Observation variance of a Poisson dictionary that has none; 0.5 by default."""
    threshold: float | None = None
    """Threshold of sparse coding: E(a) = ½‖x − Φa‖² + threshold Σ|a|, atoms as they are in the
    file; of a sparse autoencoder they have unit norm."""
    shrinkage: Literal["soft", "hard"] | None = None
    """Soft threshold (the lasso) by default, or hard."""
    signed: bool = False
    """Coefficients of any sign, of sparse coding; by default they are non-negative."""

    def load(self, path: Path, shape: tuple[int, ...] | None = None) -> "GenerativeModel":
        """The model of a file, with atoms of a shape.

        Raises:
            InputError: as `load_dictionary`; settings of the other model.
        """
        from itervae.model import SparsityPrior, load_dictionary

        sparse = {"threshold": self.threshold, "shrinkage": self.shrinkage, "signed": self.signed or None}
        if self.model != "sparse-coding":
            for name, value in sparse.items():
                if value is not None:
                    raise InputError(f"{flag(name)} {value} is of sparse coding; use --model sparse-coding with it")
        layout: Any = {"key": self.dictionary_key, "atoms": self.atoms, "shape": shape, "stride": self.stride}
        model = load_dictionary(path, self.log_rate, self.observation_variance, **sparse, **layout)
        found = "sparse-coding" if isinstance(model.prior, SparsityPrior) else "poisson-vae"
        if self.model not in (None, found):
            if found == "poisson-vae":
                raise InputError(
                    f"--model sparse-coding was given for {path}, which has no threshold; give one with --threshold"
                )
            raise InputError(f"--model {self.model} was given for {path}, a dictionary of sparse coding; leave it out")
        return model


def check_target(path: Path, saes: bool = False) -> None:
    """Refuse a target that is not there, before anything takes time; the folder of a sparse
    autoencoder is one where they are taken."""
    if saes and is_sae(path):
        return
    if is_array_file(path):
        check_file(path, "dictionary file")
    else:
        check_there(find_checkpoint(path), ", a dictionary file or the folder of a sparse autoencoder" if saes else "")


def check_engine(text: str) -> None:
    """Refuse ENGINE:STEPS of a name that no engine and no run can have."""
    name, _ = split_engine(text)
    if name != ENCODER and not is_run(name):
        check_engine_name(name)


def own_classes(names: Sequence[str], engines: Sequence[str] = ()) -> list[type]:
    """The classes that a user names with --own, and those among the engines, each ENGINE:STEPS,
    that are the user's.

    Raises:
        InputError: no such class.
    """
    named = [name for name, _ in map(split_engine, engines) if ":" in name and not is_run(name)]
    return [import_class(name, Module) for name in dict.fromkeys([*names, *named])]


def split_engine(text: str) -> tuple[str, int | None]:
    """ENGINE, MODULE:CLASS or the folder of a run, each with or without :STEPS, as a name and a
    number of steps."""
    return (text.strip(), None) if is_run(text) else split_steps(text)  # the name of a folder may hold a colon


def is_run(name: str) -> bool:
    """Whether a name stands for the folder or the checkpoint of a run, with or without :STEPS."""
    if name.strip().partition(":")[0] in ("", *ENGINES):  # a folder of that name is ./NAME
        return False
    path = check_path(name)
    return path.is_dir() or path.suffix == ".pt"
