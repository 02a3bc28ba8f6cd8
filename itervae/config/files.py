"""The settings in files: YAML of a user's own, and the `config.yaml` of a run that goes on.

A file that names a class of a user's own, MODULE:CLASS, is answered with one that the user has
handed over; nothing is imported for it.
"""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from itervae.config.kinds import Kinds, named_model, spell_steps
from itervae.errors import InputError
from itervae.own import Module, class_name, given_class, is_class_name
from itervae.training.files import LAST, check_there
from itervae.training.groups import without_defaults

OWN = ("inference", "decoder", "encoder", "start_encoder")
"""Settings that may name a class of a user's own: an engine, or a module."""
CHANGEABLE = (
    "updates",
    "minutes",
    "validate_every",
    "device",
    "threads",
    "data_path",
    "val_path",
    "labels",
    "val_labels",
)
"""Settings that may change when a run is resumed; of the data the place alone, which is checked by
their content."""


def read_yaml(path: Path, own: Mapping[str, type] = MappingProxyType({})) -> dict[str, Any]:
    """The settings in a YAML file: one flat mapping, checked against the engine that it names.

    `own` are the classes of a user's own that it may name, by their names.

    Raises:
        InputError: no such file, not a mapping, an unknown key (the nearest valid one is named), or
            a class that is not in `own`.
    """
    if not path.is_file():
        raise InputError(f"there is no config file at {path}; expected a YAML file, such as those in configs/")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError, OSError, RecursionError) as error:
        place = str(error).replace("\n", " ")
        raise InputError(f"config file {path} is not valid YAML ({place}); expected lines 'name: value'") from error
    if not content:
        raise InputError(
            f"config file {path} is empty; expected lines 'name: value', or leave it out to train with the defaults"
        )
    if not isinstance(content, dict):
        raise InputError(f"config file {path} holds a {type(content).__name__}; expected lines 'name: value'")
    content = {str(name).replace("-", "_"): value for name, value in content.items()}
    if (named := named_model(content)) is not None:
        content["model"] = named
    content.pop("family", None)
    spell_steps(content, str)
    for name in OWN:
        if is_class_name(content.get(name)):
            content[name] = class_name(given_class(content[name], own.values(), base_of(name)))
    kinds = Kinds.of(content, own)
    content = without_defaults(content, kinds.groups)
    for name in content:
        if name not in kinds.names:
            raise InputError(f"in {path}: {kinds.unknown(f'key {name!r}', name, str)}")
    return content


def resumed(run_dir: Path, own: Mapping[str, type]) -> dict[str, Any]:
    """The settings of a run that goes on: those of its checkpoint and, of those that may change,
    what its `config.yaml` says now.

    Raises:
        InputError: no folder with a checkpoint, or another setting was changed in that file.
    """
    if run_dir.is_file():
        raise InputError(f"--resume {run_dir} is a file; name the folder of the run, {run_dir.parent}")
    check_there(run_dir / LAST)
    from itervae.training import resume_settings

    settings = resume_settings(run_dir, own.values()).flat()
    path = run_dir / "config.yaml"
    if not path.is_file():
        return settings  # it will be written again
    try:
        written = read_yaml(path, own)
    except InputError as error:
        raise InputError(
            f"{error}; to resume, the file can also be deleted: the checkpoint has the settings"
        ) from error
    for name, value in written.items():
        if name in CHANGEABLE:
            settings[name] = value
        elif not _same(value, settings.get(name)):
            raise InputError(
                f"{name} is {value} in {path} and {settings.get(name)} in the checkpoint of the run, and cannot change "
                "when a run is resumed; put it back, or start a new run from that file: itervae train --config "
                f"{path} --run-dir NEW"
            )
    return settings


def base_of(name: str) -> type:
    """What a class of a user's own is to be that a setting names."""
    if name != "inference":
        return Module
    from itervae.inference import Engine

    return Engine


def _same(written: Any, value: Any) -> bool:
    """Whether YAML says the same as a setting, be it in other words: 3e-2 is text in YAML."""
    try:
        return written == value or float(written) == float(value)
    except (TypeError, ValueError):
        return str(written) == str(value)
