"""What a command is pointed at: a run folder, a checkpoint, or a dictionary file."""

from dataclasses import dataclass
from pathlib import Path

from itervae.data import DataSettings
from itervae.errors import InputError
from itervae.inference import ENGINES, Engine, check_fit
from itervae.model import GenerativeModel, load_dictionary
from itervae.training import load, load_settings, read_checkpoint
from itervae.training.checkpoint import find_checkpoint


@dataclass(frozen=True)
class Target:
    """A model, the engine that came with it, the name of that engine, and the data settings of the run if it is one."""

    model: GenerativeModel
    engine: Engine
    inference: str
    data: DataSettings | None


def open_target(path: Path, log_rate: float | None = None, observation_variance: float | None = None) -> Target:
    """A trained run with its engine, or a dictionary file (.npz, .npy) with the default one.

    Raises:
        InputError: nothing there, or something that is neither.
    """
    if path.suffix in (".npz", ".npy"):
        model = load_dictionary(path, log_rate, observation_variance)
        return Target(model, ENGINES["lca-unrolled"](), "lca-unrolled", None)
    for name, value in (("--log-rate", log_rate), ("--observation-variance", observation_variance)):
        if value is not None:
            raise InputError(f"{name} {value} was given for {path}, a run that has its own; leave it out")
    settings = load_settings(read_checkpoint(find_checkpoint(path)))
    return Target(*load(path), settings.inference, settings.data)


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
    check_fit(kind, target.model)
    if kind.learned:
        raise InputError(f"engine {name} has to be trained, and this target brings none; use a run that trained one")
    return kind.build(kind.Settings(), target.model, target.model.shape)
