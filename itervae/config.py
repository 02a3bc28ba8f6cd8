"""From YAML files and command lines to `RunSettings`: each engine has its own settings, and a setting that does not
apply is an error.

A first pass reads `--config`, `--resume`, `--inference`, `--model` and `--family`; they decide which settings classes
the rest is parsed into. `--family gaussian` is another way to say `--model gaussian-vae`, `--inference lista:5` to say
`--inference lista --steps 5`.

An engine or a decoder of a user's own is MODULE:CLASS, which is imported where the command line says it. A file (a YAML
file, a checkpoint) that says it is answered with a class that the command line names too: `--own`.
"""

import difflib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import field, fields, make_dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, Optional

import tyro
import yaml
from torch import nn

from itervae.data import DataSettings
from itervae.errors import InputError
from itervae.inference import ENGINES, Engine, engine_class, engine_name, split_steps
from itervae.model import MODELS, families
from itervae.options import parse
from itervae.own import class_name, given_class, import_class, is_class_name
from itervae.paths import check_path
from itervae.sequence import SequenceSettings
from itervae.training import RunSettings, TrainingSettings, resume_settings
from itervae.training.settings import check_names

DEFAULT_INFERENCE, DEFAULT_ENCODED = "lca-unrolled", "amortized"
"""Engines by default, of the Poisson family and sparse coding, and of the others, which have no solver."""
DEFAULT_MODEL = "poisson-vae"
FIRST_PASS = ("config", "resume", "run_dir", "family", "own")
"""Options of the command that are not settings of the run."""
SEQUENTIAL = {"frames", *(setting.name for setting in fields(SequenceSettings))}
"""Settings that mean sequences: where no data are named, those of `drift`."""
CHANGEABLE = ("updates", "minutes", "validate_every", "device", "threads", "data_path", "val_path")
"""Settings that may change when a run is resumed; of the data the place alone, which is checked by their content."""


def setting_names(engine: type[Engine], model: str = DEFAULT_MODEL) -> list[str]:
    """Every setting that applies with this engine and this model, by its name in YAML."""
    groups = (DataSettings, SequenceSettings, MODELS[model], engine.Settings, TrainingSettings)
    return ["inference", "model", *(setting.name for group in groups for setting in fields(group))]


def parse_train(args: Sequence[str]) -> tuple[RunSettings, Path | None, Path | None]:
    """(settings, run_dir, run to resume) of `itervae train ARGS`.

    Raises:
        InputError: an unknown or unfitting option or YAML key, a missing or malformed file.
    """
    given = options_given(args)
    short = _split_steps(given, _flag)
    own = _classes(args, given)
    resume = _path(given, "resume")
    config = _path(given, "config")
    if resume is not None:
        changed = {name for name in given if name not in ("resume", "own", *CHANGEABLE) and given[name] not in own}
        if changed and not _asks_help(args):
            raise InputError(
                f"{_flag(sorted(changed)[0])} cannot change when a run is resumed; only "
                f"{', '.join(map(_flag, CHANGEABLE))} can: leave it out, or start a new run"
            )
        base = _resumed(resume, own)
        for name in ("inference", "decoder"):
            if name in given and given[name] != base.get(name):
                raise InputError(f"{_flag(name)} is {given[name]} and the run has {base.get(name)}; leave it out")
    elif config is not None:
        base = read_yaml(config, own)
    else:
        base = {}
    model = _model(given) or base.get("model", DEFAULT_MODEL)
    inference = given.get("inference") or base.get("inference", _default_inference(model))
    engine = own.get(inference) or engine_class(inference)
    _check_name("model", model, MODELS)
    check_names(engine, MODELS[model])
    names = setting_names(engine, model)
    for name in given:
        if name not in names and name not in FIRST_PASS:
            raise InputError(_unknown(_flag(name), name, engine, model, _flag))

    if "freeze" in given:
        beside = {"model", "family", *(setting.name for setting in fields(MODELS[model]))} & set(given)
        if beside:
            raise InputError(
                f"{_flag(sorted(beside)[0])} was given beside --freeze {given['freeze']}, which brings its own model; "
                "leave it out"
            )

    if "data" not in {*given, *base} and SEQUENTIAL & {*given, *base}:
        base["data"] = "drift"
    # What YAML (or the resumed run) says comes in front of what the command line says, option by option.
    kept = {name: value for name, value in base.items() if name in names and name not in given}
    command: Any = _command(engine, model)
    settings = parse(command, "itervae train", [*_tokens(kept | {"model": model}), *args, *_tokens(short)])
    run = RunSettings(
        engine,
        settings.data,
        settings.generative_model,
        settings.engine,
        settings.training,
        settings.sequence,
        own=tuple(own.values()),
    )
    return run, settings.run_dir, resume


def read_yaml(path: Path, own: Mapping[str, type] = MappingProxyType({})) -> dict[str, Any]:
    """The settings in a YAML file: one flat mapping, checked against the engine that it names.

    `own` are the classes of a user's own that it may name, by their names.

    Raises:
        InputError: no such file, not a mapping, an unknown key (the nearest valid one is named), or a class that is
            not in `own`.
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
    if (named := _model(content)) is not None:
        content["model"] = named
    content.pop("family", None)
    model = content.get("model", DEFAULT_MODEL)
    _split_steps(content, str)
    for name, base in (("inference", Engine), ("decoder", nn.Module)):
        if is_class_name(content.get(name)):
            content[name] = class_name(given_class(content[name], own.values(), base))
    inference = content.get("inference", _default_inference(model))
    engine = own.get(inference) or engine_class(inference)
    _check_name("model", model, MODELS)
    for name in content:
        if name not in setting_names(engine, model):
            raise InputError(f"in {path}: " + _unknown(f"key {name!r}", name, engine, model, str))
    return content


def _split_steps(values: dict[str, Any], show: Callable[[str], str]) -> dict[str, Any]:
    """Write ENGINE:STEPS among the settings as the two that it stands for; what was added."""
    if not isinstance(values.get("inference"), str):
        return {}
    name, steps = split_steps(values["inference"])
    if steps is None:
        return {}
    if "steps" in values:
        raise InputError(
            f"{show('inference')} {values['inference']} was given beside {show('steps')} {values['steps']}; leave one "
            "of the numbers of steps out"
        )
    values |= {"inference": name, "steps": steps}
    return {"steps": steps}


def _classes(args: Sequence[str], given: Mapping[str, Any]) -> dict[str, type]:
    """The classes of a user's own that a command line names, by their names."""
    named = {name: nn.Module for name in _values(args, "own")}
    for option, base in (("inference", Engine), ("decoder", nn.Module)):
        if is_class_name(given.get(option)):
            named[given[option]] = base
    return {name: import_class(name, base) for name, base in named.items()}


def _values(args: Sequence[str], name: str) -> list[str]:
    """All that follows an option, up to the next."""
    if _flag(name) not in args:
        return []
    after = list(args[args.index(_flag(name)) + 1 :])
    return after[: next((place for place, token in enumerate(after) if token.startswith("-")), len(after))]


def _resumed(run_dir: Path, own: Mapping[str, type]) -> dict[str, Any]:
    """The settings of a run that goes on: those of its checkpoint and, of those that may change, what its `config.yaml`
    says now.

    Raises:
        InputError: no folder with a checkpoint, or another setting was changed in that file.
    """
    if run_dir.is_file():
        raise InputError(f"--resume {run_dir} is a file; name the folder of the run, {run_dir.parent}")
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


def _same(written: Any, value: Any) -> bool:
    """Whether YAML says the same as a setting, be it in other words: 3e-2 is text in YAML."""
    try:
        return written == value or float(written) == float(value)
    except (TypeError, ValueError):
        return str(written) == str(value)


def _default_inference(model: Any) -> str:
    return DEFAULT_INFERENCE if model in (DEFAULT_MODEL, "sparse-coding") else DEFAULT_ENCODED


def _model(given: dict[str, Any]) -> Any:
    """The model that is named, by itself or by the family of a VAE; None where neither is."""
    family, model = given.get("family"), given.get("model")
    if family is None:
        return model
    _check_name("family", family, families())
    if model not in (None, f"{family}-vae"):
        raise InputError(f"family {family} was given beside model {model}; leave one of them out")
    return f"{family}-vae"


def _check_name(what: str, name: Any, known: Collection[str]) -> None:
    if not isinstance(name, str) or name not in known:
        near = difflib.get_close_matches(str(name), known, 1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise InputError(f"{what} {name!r} is unknown; {hint}expected one of {', '.join(known)}")


def _unknown(shown: str, name: str, engine: type[Engine], model: str, show: Any) -> str:
    names, inference = setting_names(engine, model), engine_name(engine)
    engines = {other: kind.Settings for other, kind in (ENGINES | {inference: engine}).items()}
    for what, chosen, known in (("inference", inference, engines), ("model", model, MODELS)):
        elsewhere = [other for other, kind in known.items() if name in {setting.name for setting in fields(kind)}]
        if elsewhere:
            own = [setting.name for setting in fields(known[chosen])]
            return (
                f"{shown} does not apply to {what} {chosen}, whose own settings are "
                f"{', '.join(map(show, own)) or 'none'}; leave it out, or use one of {', '.join(elsewhere)}"
            )
    near = difflib.get_close_matches(name, names if show is str else [*names, *FIRST_PASS], 1, cutoff=0.5)
    hint = f"did you mean {show(near[0])}?" if near else "see itervae train --help for the names"
    return f"{shown} is not a setting; {hint}"


def _command(engine: type[Engine], model: str) -> type:
    """The dataclass of everything that `itervae train --inference NAME --model NAME` takes."""
    options = [
        ("inference", str, engine_name(engine)),
        ("model", Literal[tuple(MODELS)], model),
        ("family", Optional[Literal[tuple(families())]], None),  # noqa: UP045 (| fails at run time)
        ("config", Path | None, None),
        ("resume", Path | None, None),
        ("run_dir", Path | None, None),
        ("own", tuple[str, ...], ()),
        ("engine", engine.Settings, engine.Settings()),
        ("data", DataSettings, DataSettings()),
        ("generative_model", MODELS[model], MODELS[model]()),
        ("training", TrainingSettings, TrainingSettings()),
        ("sequence", SequenceSettings, SequenceSettings()),
    ]
    helps = {
        "inference": f"Engine of inference: one of {', '.join(ENGINES)}, or MODULE:CLASS of your own. It decides which "
        "settings of its own there are; ENGINE:STEPS is short for its --steps. By default lca-unrolled, of families "
        "without a solver amortized.",
        "model": "The generative model; it too has settings of its own.",
        "family": "Family of posterior and prior: --family gaussian is short for --model gaussian-vae.",
        "config": "YAML file of settings; the command line overrides it.",
        "resume": "Run folder to go on with.",
        "run_dir": "Folder of the new run; by default runs/ and the date, data and engine.",
        "own": "Classes of your own, MODULE:CLASS, that the run of --resume or --freeze or the file of --config names; "
        "what a file names is never imported for it.",
    }
    annotated = []
    for name, kind, default in options:
        documented = Annotated[kind, tyro.conf.arg(help=helps[name])] if name in helps else kind
        annotated.append((name, documented, field(default_factory=lambda default=default: default)))
    command = make_dataclass("Train", annotated)
    command.__doc__ = (
        "Train a variational autoencoder, Poisson by default, or a dictionary for sparse coding, together with its "
        "inference engine. With no options: patches of two photographs, a linear decoder, 2.5 minutes."
    )
    return command


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _path(given: dict[str, str | None], name: str) -> Path | None:
    value = given.get(name)
    return None if value is None else check_path(value)


def _asks_help(args: Sequence[str]) -> bool:
    return "-h" in args or "--help" in args


def options_given(args: Sequence[str]) -> dict[str, str | None]:
    """The options on a command line: name → the value that follows, or None."""
    found: dict[str, str | None] = {}
    for position, token in enumerate(args):
        if not token.startswith("--") or token == "--help":
            continue
        name, equals, value = token[2:].partition("=")
        following = args[position + 1] if position + 1 < len(args) else None
        name = name.replace("-", "_")
        if name.startswith("no_"):  # --no-whiten
            name = name.removeprefix("no_")
        found[name] = value if equals else following
    return found


def _tokens(values: dict[str, Any]) -> list[str]:
    """Settings as command-line tokens, so that one parser checks both."""
    tokens = []
    for name, value in values.items():
        if isinstance(value, bool):
            tokens.append(_flag(name) if value else "--no-" + name.replace("_", "-"))
        elif value is not None:
            tokens += [_flag(name), str(value)]
    return tokens
