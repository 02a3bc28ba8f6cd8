"""What a command is pointed at, a run folder, a checkpoint or a dictionary file; the data of runs;
engines by name."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from itervae.cli.targets import ENCODER, DictionaryLayout, is_run, split_engine
from itervae.data import NOTHING_FITTED, DataSettings, Fitted, Preparation, Source, describe_fitted, fitted_alike
from itervae.errors import InputError
from itervae.formats import named
from itervae.inference import ENGINES, Engine, Optimal, check_named, engine_class
from itervae.model import GenerativeModel, SparsityPrior, is_dictionary
from itervae.model.convolution import Convolution
from itervae.options import flag
from itervae.paths import check_path
from itervae.saes import LoadedSAE, is_sae, load_sae
from itervae.training import LoadedRun, load

DEFAULT_ENGINE = "lca-unrolled"
"""What comes with the dictionary file of a Poisson model."""


def _taken(model: GenerativeModel) -> str:
    """What a dictionary file was taken for, in words."""
    if isinstance(prior := model.prior, SparsityPrior):
        threshold, sign = f"{'hard' if prior.hard else 'soft'} threshold", "signed" if prior.signed else "non-negative"
        assert model.atoms is not None  # it is linear
        norms = model.atoms[0].norm(dim=0)
        low, high = norms.min().item(), norms.max().item()
        norm = "1" if high - 1 < 1e-4 > 1 - low else f"{low:.3g} to {high:.3g}"
        return f"sparse coding, {threshold} {prior.threshold.item():g}, {sign}, atoms of norm {norm}"
    rate = model.prior().u.mean().item()
    low, high = (value.item() for value in model.likelihood.variance.aminmax())  # pyright: ignore
    variance = f"{low:g}" if low == high else f"{low:.3g} to {high:.3g}"
    return f"a Poisson VAE, prior log-rate {rate:.3g} in the mean, observation variance {variance}"


def what_atoms(model: GenerativeModel) -> str:
    """The dictionary of a linear model in words."""
    operator = model.operator()
    if not isinstance(operator, Convolution):
        return f"{model.latents} atoms of {model.size} values"
    count, channels, *widths = operator.atoms.shape
    size = "x".join(map(str, widths)) + (f" in {channels} channels" if channels > 1 else "")
    return f"{count} atoms of {size}, one every {operator.stride}, anywhere"


@dataclass(frozen=True)
class Target:
    """A trained run, the model of a dictionary file with the default engine, or a sparse
    autoencoder with its encoder.

    Attributes:
        path: as it was named.
        model, engine: as trained.
        prepare: how inputs are prepared for it.
        run: all that a run holds; None for a dictionary file.
        taken: what a dictionary file was taken for, in a line.
        sae: all that the folder of a sparse autoencoder holds; None for any other.
        priced: whether a threshold was named, where it takes one.
    """

    path: Path
    model: GenerativeModel
    engine: Engine
    prepare: Preparation
    run: LoadedRun | None = None
    taken: str = ""
    sae: LoadedSAE | None = None
    priced: bool = True

    @property
    def inference(self) -> str:
        """The name of the engine."""
        if self.sae is not None:
            return ENCODER
        return default_engine(self.model) if self.run is None else self.run.settings.engine_name

    def at(self, shape: tuple[int, ...]) -> "Target":
        """The same with a model for data of a shape, where its dictionary is convolutional; flat
        rows are of the shape of its own.

        Raises:
            InputError: it has no such data.
        """
        rows = shape == (self.model.size,)
        other = self.model.convolutional and shape != self.model.shape and not rows
        return replace(self, model=self.model.at(shape)) if other else self

    @property
    def data(self) -> DataSettings | None:
        """The settings of its data; a dictionary file has none."""
        return None if self.run is None else self.run.settings.data


def open_target(
    path: Path,
    own: Collection[type] = (),
    reading: DictionaryLayout | None = None,
    shape: tuple[int, ...] | None = None,
) -> Target:
    """A trained run with its engine, a dictionary file with the default one, or a sparse
    autoencoder.

    Args:
        path: of the run, the checkpoint, the file or the folder.
        own: classes of the user's own that a run may have.
        reading, shape: what a dictionary file is taken for, and the shape of its atoms, where it
            does not say.

    Raises:
        InputError: nothing there, or something that is neither; a reading for a run.
    """
    reading = DictionaryLayout() if reading is None else reading
    if is_dictionary(path):
        model = reading.load(path, shape)
        name = default_engine(model)
        where = what_atoms(model) + ("" if model.convolutional else f", its {reading.atoms}")
        taken = f"{named(path, reading.dictionary_key)}: {where}, {_taken(model)}"
        colour = model.shape[:-2] == (3,)  # its atoms have channels, which grey pictures have not
        prepare = Preparation(DataSettings(colour=colour), model.shape, atoms=model.latents, atom_size=model.atom_size)
        return Target(path, model, ENGINES[name](), prepare, taken=taken)
    if is_sae(path):
        return _open_sae(path, reading, shape)
    for name, value in {**vars(reading), "shape": shape}.items():
        if value != getattr(type(reading), name, None):
            words = " ".join(map(str, value)) if isinstance(value, tuple) else value
            raise InputError(f"{flag(name)} {words} was given for {path}, a run that has its own; leave it out")
    run = load(path, own=own)
    return Target(path, run.model, run.engine, run.prepare, run)


def _open_sae(path: Path, reading: DictionaryLayout, shape: tuple[int, ...] | None) -> Target:
    """The sparse autoencoder of a folder, at a threshold of 1 where none is named."""
    for name, value in {**vars(reading), "shape": shape}.items():
        own = getattr(type(reading), name, None)
        if value != own and name != "threshold" and (name, value) != ("model", "sparse-coding"):
            words = " ".join(map(str, value)) if isinstance(value, tuple) else value
            raise InputError(
                f"{flag(name)} {words} was given for {path}, a sparse autoencoder, whose files say it; leave it out"
            )
    threshold = getattr(reading, "threshold", None)
    sae = load_sae(path, 1.0 if threshold is None else threshold)
    price = "" if threshold is None else f", threshold {threshold:g}"
    said = f"; {sae.said}" if sae.said else ""
    taken = f"{path}: {sae.kind}, {what_atoms(sae.model)}, taken for sparse coding with atoms of norm 1{price}{said}"
    prepare = Preparation(DataSettings(), sae.model.shape, atoms=sae.model.latents)
    return Target(path, sae.model, sae.engine, prepare, taken=taken, sae=sae, priced=threshold is not None)


def default_engine(model: GenerativeModel) -> str:
    """The engine that comes with a dictionary file: the codes of sparse coding are those of least
    energy, where that can be proved."""
    proved = isinstance(model.prior, SparsityPrior) and Optimal.requires <= model.capabilities
    return "optimal" if proved else DEFAULT_ENGINE


def short_names(paths: Sequence[Path]) -> list[str]:
    """Names of targets, as short as tells them apart."""
    whole = [path if path.name not in ("", "..") else path.resolve() for path in paths]
    short = [str(Path(*path.parts[-2:])) if path.suffix == ".pt" else path.name for path in whole]
    return short if len(set(short)) == len(short) else [str(path) for path in paths]


def common_data(targets: Iterable[Target], given: Mapping[str, Any]) -> DataSettings:
    """The data that all runs were trained on, with what is given in place of their settings; the
    default for dictionary files.

    Raises:
        InputError: runs of data that differ, or that were prepared differently.
    """
    runs = [target for target in targets if target.run is not None]
    if not runs:
        return chosen_data(None, given)
    first, *others = runs
    data = chosen_data(first.data, given)
    for other in others:
        if not fitted_alike(first.prepare.fitted, other.prepare.fitted):
            ours, theirs = describe_fitted(first.prepare.fitted), describe_fitted(other.prepare.fitted)
            raise InputError(
                f"{first.path} prepares its data with {ours} and {other.path} with {theirs}, as each "
                "was trained on other data; measure them apart"
            )
        theirs = chosen_data(other.data, given)
        differ = [
            setting.name
            for setting in fields(data)
            if setting.name != "download" and getattr(data, setting.name) != getattr(theirs, setting.name)
        ]
        if differ:
            raise InputError(
                f"{first.path} was trained on {_described(data)} and {other.path} on {_described(theirs)}; name the "
                f"data to measure all of them on with {', '.join(map(flag, differ))}"
            )
    return data


def common_fitted(targets: Iterable[Target]) -> Fitted:
    """What was fitted on the data of the runs; nothing for dictionary files."""
    return next((target.prepare.fitted for target in targets if target.run is not None), NOTHING_FITTED)


def chosen_data(own: DataSettings | None, given: Mapping[str, Any]) -> DataSettings:
    """The data to measure on: the run's own, with what is given in place of its settings.

    All of another video is held out, as none of it was trained on.
    """
    if own is None:
        return DataSettings().overlaid(given)
    chosen = own.overlaid(given)
    if own.data == chosen.data == "video" and "data_path" in given and "val_sequences" not in given:
        return replace(chosen, val_sequences="all")
    return chosen


def _described(data: DataSettings) -> str:
    changed = [
        f"{setting.name} {getattr(data, setting.name)}"
        for setting in fields(data)
        if setting.name not in ("data", "download") and getattr(data, setting.name) != setting.default
    ]
    return f"{data.data} ({', '.join(changed)})" if changed else data.data


def described(source: Source, split: str) -> str:
    """The data measured on, in words: kind, split, place and content."""
    facts = source.describe()
    parts = (source.name, split, facts.get("path", ""), facts.get("content", ""))
    return " ".join(str(part) for part in parts if part)


def held_pictures(source: Source, targets: Iterable[Target], num: int | None) -> tuple[Tensor, ...]:
    """The first `num` pictures that are held out, whole, those of each size together: (n, H, W).

    Raises:
        InputError: data that are cut from none, or a target that takes data of one size.
    """
    check_whole_data(targets)
    groups: dict[tuple[int, ...], list[Tensor]] = {}
    for picture in source.held_pictures()[:num]:
        groups.setdefault(tuple(picture.shape), []).append(picture)
    return tuple(map(torch.stack, groups.values()))


def check_whole_data(targets: Iterable[Target]) -> None:
    """Refuse a target that takes data of one size, where they are to be whole."""
    for target in targets:
        if not target.model.convolutional:
            raise InputError(
                f"--whole was given for {target.path}, which has a {type(target.model.decoder).__name__} for data of "
                "one size; leave it out: a convolutional dictionary takes whole pictures"
            )


def match_data(source: Source, targets: Iterable[Target]) -> None:
    """Refuse data of another size than a target explains; where NaN in them is missing, tell the
    models."""
    width, facts = source.dim, source.describe()
    for target in targets:
        model, what = target.model, target.path
        model.missing = model.missing or getattr(source.settings, "missing", None) == "nan"
        if width == model.size or model.convolutional:
            continue
        if facts.get("train_rows", 0) + facts.get("validation_rows", 0) == model.size:  # pyright: ignore[reportOperatorIssue]
            raise InputError(
                f"the data are {model.size} rows of {width} values and {what} explains {model.size} values per datum; "
                "transpose them, so that each datum is a row"
            )
        if width == model.latents:
            raise InputError(
                f"the data have {width} values per datum and {what} explains {model.size} with {width} latents; if the "
                "atoms of its dictionary lie in rows, transpose it, or say --atoms rows"
            )
        raise InputError(
            f"the data have {width} values per datum and {what} explains {model.size}; name data that fit with --data "
            "and --data-path, or another --patch-size"
        )


def named_engine(text: str, target: Target, own: Collection[type] = ()) -> tuple[Engine, int | None]:
    """The engine and the number of steps that ENGINE:STEPS names for a target; None stands for the
    engine's own number.

    It is the target's own where it has that name, that of another run where it is a folder or a
    checkpoint, else a new one with its default settings.

    Raises:
        InputError: an unknown name, an engine that does not fit the model, or one that would have
            to be trained.
    """
    name, steps = split_engine(text)
    if is_run(name):
        return load(check_path(name), own=own).engine, steps
    if name == target.inference:
        return target.engine, steps
    if name == ENCODER:
        raise InputError(f"engine {ENCODER} was named, and {target.path} is no sparse autoencoder; leave it out")
    kind = engine_class(name)
    check_named(name, target.model)
    if kind.learned:
        raise InputError(f"engine {name} has to be trained, and this target brings none; use a run that trained one")
    return kind.build(kind.Settings(), target.model, target.model.shape), steps
