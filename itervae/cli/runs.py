"""What a command is pointed at: a run folder, a checkpoint, or a dictionary file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from itervae.config import options_given
from itervae.data import DataSettings, Preparation, Source
from itervae.errors import InputError
from itervae.inference import ENGINES, Engine, check_named
from itervae.model import GenerativeModel, load_dictionary
from itervae.sequence import Carryover
from itervae.training import load


@dataclass(frozen=True)
class Target:
    """A model, the engine that came with it, the name of that engine; of a run also the settings of its data, and of a
    run on sequences its carryover; and how inputs are prepared for it."""

    model: GenerativeModel
    engine: Engine
    inference: str
    prepare: Preparation
    data: DataSettings | None = None
    carryover: Carryover | None = None
    start: str = "safer"


def open_target(path: Path, log_rate: float | None = None, observation_variance: float | None = None) -> Target:
    """A trained run with its engine, or a dictionary file (.npz, .npy) with the default one.

    Raises:
        InputError: nothing there, or something that is neither.
    """
    if path.suffix in (".npz", ".npy"):
        model = load_dictionary(path, log_rate, observation_variance)
        return Target(model, ENGINES["lca-unrolled"](), "lca-unrolled", Preparation(DataSettings(), model.shape))
    for name, value in (("--log-rate", log_rate), ("--observation-variance", observation_variance)):
        if value is not None:
            raise InputError(f"{name} {value} was given for {path}, a run that has its own; leave it out")
    run = load(path)
    settings = run.settings
    start = settings.sequence.start
    return Target(run.model, run.engine, settings.engine_name, run.prepare, settings.data, run.carryover, start)


def data_given(args: Sequence[str], data: DataSettings) -> dict[str, Any]:
    """The settings of data on a command line, by name, with the values that were read there."""
    names = {setting.name for setting in fields(DataSettings)} & set(options_given(args))
    return {name: getattr(data, name) for name in names}


def chosen_data(own: DataSettings | None, given: Mapping[str, Any]) -> DataSettings:
    """The data to measure on: the run's own, with what is given in place of its settings.

    All of another video is held out, as none of it was trained on."""
    if own is None:
        return DataSettings().overlaid(given)
    chosen = own.overlaid(given)
    if own.data == chosen.data == "video" and "data_path" in given and "val_sequences" not in given:
        return replace(chosen, val_sequences="all")
    return chosen


def described(source: Source, split: str) -> str:
    """The data measured on, in words: kind, split, place and content."""
    facts = source.describe()
    parts = (source.name, split, facts.get("path", ""), facts.get("content", ""))
    return " ".join(str(part) for part in parts if part)


def check_width(source: Source, model: GenerativeModel, what: object) -> None:
    """Refuse data of another size than the model explains."""
    width, facts = source.dim, source.describe()
    if width == model.size:
        return
    if facts.get("train_rows", 0) + facts.get("validation_rows", 0) == model.size:  # pyright: ignore[reportOperatorIssue]
        raise InputError(
            f"the data are {model.size} rows of {width} values and {what} explains {model.size} values per datum; "
            "transpose them, so that each datum is a row"
        )
    if width == model.latents:
        raise InputError(
            f"the data have {width} values per datum and {what} explains {model.size} with {width} latents; if the "
            "atoms of its dictionary lie in rows, transpose it"
        )
    raise InputError(
        f"the data have {width} values per datum and {what} explains {model.size}; name data that fit with --data and "
        "--data-path, or another --patch-size"
    )


def named_engine(name: str, target: Target) -> Engine:
    """The target's own engine if it has that name, else a new one with its default settings.

    Raises:
        InputError: an unknown name, an engine that does not fit the model, or one that would have to be trained.
    """
    if name == target.inference:
        return target.engine
    if name not in ENGINES:
        raise InputError(f"inference engine {name!r} is unknown; expected one of {', '.join(ENGINES)}")
    kind = ENGINES[name]
    check_named(name, target.model)
    if kind.learned:
        raise InputError(f"engine {name} has to be trained, and this target brings none; use a run that trained one")
    return kind.build(kind.Settings(), target.model, target.model.shape)
