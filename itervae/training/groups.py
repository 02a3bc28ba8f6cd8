"""The groups of settings of a run, side by side: their classes, and what files say of them."""

from collections.abc import Collection, Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from itervae.arguments import setting_kinds
from itervae.data import DataSettings
from itervae.errors import InputError, described
from itervae.inference.registry import engine_settings
from itervae.model import MODELS, PoissonVAESettings
from itervae.own import class_name, given_class, is_class_name
from itervae.sequence import CARRYOVERS, LinearMapSettings, SequenceSettings
from itervae.training.options import DEFAULTS, TrainingSettings

COMMAND_NAMES = ("inference", "model", "family", "config", "resume", "run_dir", "own")
"""Options of `itervae train` that belong to no group of settings."""
T = TypeVar("T")


def groups_of(engine: str | type, model: str, carryover: str) -> list[type]:
    """The settings classes of a run, whose names all differ; an engine of a user's own is given as
    its class."""
    own = (engine_settings(engine), CARRYOVERS.settings(carryover))
    return [DataSettings, SequenceSettings, MODELS[model], *own, TrainingSettings]


def read_group(kind: type[T], values: Mapping[str, Any], own: Collection[type] = ()) -> T:
    """One group of settings, from the flat values of all.

    Raises:
        InputError: a class of a user's own that is not in `own`.
    """
    chosen: dict[str, Any] = {}
    for name, hint in get_type_hints(kind, include_extras=True).items():
        if name not in values:
            continue
        chosen[name], kinds = values[name], setting_kinds(hint)
        if isinstance(values[name], str) and Path in kinds:
            chosen[name] = Path(values[name])
        if isinstance(values[name], list):  # of a tuple, as YAML has it
            chosen[name] = tuple(values[name])
        bases = [get_args(each)[0] for each in kinds if get_origin(each) is type]
        if bases and is_class_name(values[name]):
            chosen[name] = given_class(values[name], own, bases[0])
    return kind(**chosen)


WRITTEN_DEFAULTS: dict[type, dict[str, Any]] = {
    TrainingSettings: DEFAULTS,
    PoissonVAESettings: {"indicator": "cubic"},
    LinearMapSettings: {"map": "full", "rank": 32},
}
"""What files of earlier versions say where nothing was given (of `linear`, with any carryover); it
is left out."""


def without_defaults(values: Mapping[str, Any], groups: Collection[type]) -> dict[str, Any]:
    """The settings in a file, of a run with these groups, without those that an earlier version
    wrote unasked."""
    kept = dict(values)
    for owner, defaults in WRITTEN_DEFAULTS.items():
        others = {setting.name for group in groups if group is not owner for setting in fields(group)}
        if owner in (*groups, LinearMapSettings):
            for name in defaults.keys() - others:
                if name in kept and kept[name] == defaults[name]:
                    del kept[name]
    return kept


def check_names(kind: type, groups: Collection[type]) -> None:
    """Refuse an engine of a user's own with a setting that is another group's too: all of a run are
    written side by side.

    Raises:
        InputError: names the setting.
    """
    name, settings = class_name(kind), engine_settings(kind)
    if not is_dataclass(settings):
        raise InputError(f"{name}.Settings is {described(settings)}; expected a dataclass with a default for each")
    others = [group for group in groups if group is not settings]
    taken = {setting.name for group in others for setting in fields(group)} | set(COMMAND_NAMES)
    for setting in fields(settings):
        if setting.name in taken:
            raise InputError(
                f"{name} has a setting {setting.name!r}, which is an option of itervae train already; rename it"
            )
        if setting.default is MISSING and setting.default_factory is MISSING:
            raise InputError(f"the setting {setting.name!r} of {name} has no default; expected one for each")
