"""The command line of `itervae train`.

A first pass reads what decides which settings there are: `--config`, `--resume`, `--inference`,
`--model`, `--family`, `--data` and `--carryover`; the rest is parsed into the settings classes of
those. `--family gaussian` is another way to say `--model gaussian-vae`, `--inference lista:5` to
say `--inference lista --steps 5`.

An engine or a decoder of a user's own is MODULE:CLASS, which is imported where the command line
says it. A file that says it is answered with a class that the command line names too, with `--own`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import field, fields, make_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Optional

import tyro

from itervae.config.files import CHANGEABLE, OWN, base_of, read_yaml, resumed
from itervae.config.kinds import Kinds, named_model, spell_steps
from itervae.data import DataSettings
from itervae.errors import InputError
from itervae.inference import ENGINES, engine_name
from itervae.inference.registry import engine_settings
from itervae.model import MODELS, families
from itervae.options import HELP_ALL, asks_help, flag, parse
from itervae.own import Module, import_class, is_class_name
from itervae.paths import check_path
from itervae.sequence import CARRYOVERS, SequenceSettings
from itervae.training import RunSettings, TrainingSettings

SEQUENTIAL = {"frames", *(setting.name for setting in fields(SequenceSettings))}
"""Settings that mean sequences: where no data are named, those of `drift`."""
SAID = {"threshold", "shrinkage", "signed"}
"""Settings of sparse coding that hold for a dictionary file, which does not say them."""
METAVARS = {"inference": "NAME|MODULE:CLASS[:STEPS]", "own": "MODULE:CLASS ..."}
"""What the help has for the values of options that are text."""

EXAMPLES = (
    "itervae train",
    "itervae train --inference lca-unrolled --steps 20 --data images --data-path photographs/ --minutes 60",
    "itervae train --inference amortized --encoder conv --decoder conv --latents 50 --data mnist",
    "itervae train --family gaussian --inference amortized --encoder mlp --decoder mlp --data mnist",
    "itervae train --model sparse-coding --threshold 1",
    "itervae train --data video --data-path clips/ --carryover adaptive",
    "itervae train --config configs/images-lca.yaml --beta 2",
    "itervae train --resume runs/my-run",
)
"""Command lines that the help ends with."""


def parse_train(args: Sequence[str]) -> tuple[RunSettings, Path | None, Path | None]:
    """(settings, run_dir, run to resume) of `itervae train ARGS`.

    Raises:
        InputError: an unknown or unfitting option or YAML key, a missing or malformed file.
    """
    given = _given(args)
    short = spell_steps(given, flag)
    own = _classes(args, given)
    resume = _path(given, "resume")
    config = _path(given, "config")
    if resume is not None:
        changed = {name for name in given if name not in ("resume", "own", *CHANGEABLE) and given[name] not in own}
        if changed and not asks_help(args):
            raise InputError(
                f"{flag(sorted(changed)[0])} cannot change when a run is resumed; only "
                f"{', '.join(map(flag, CHANGEABLE))} can: leave it out, or start a new run"
            )
        base = resumed(resume, own)
        for name in OWN:
            if name in given and given[name] != base.get(name):
                raise InputError(f"{flag(name)} is {given[name]} and the run has {base.get(name)}; leave it out")
    elif config is not None:
        base = read_yaml(config, own)
    else:
        base = {}
    if "data" not in {*given, *base} and SEQUENTIAL & {*given, *base}:
        base["data"] = "drift"
    chosen = base | {name: value for name, value in given.items() if value is not None}
    if (model := named_model(given)) is not None:
        chosen["model"] = model
    kinds = Kinds.of(chosen, own)
    for name in given:
        kinds.check_option(name, flag)

    if "freeze" in given:
        beside = {"model", "family", *(setting.name for setting in fields(MODELS[kinds.model]))} & set(given)
        if kinds.model == "sparse-coding" and beside & {"model", *SAID}:
            from itervae.model import is_dictionary
            from itervae.saes import is_sae

            if is_dictionary(target := Path(str(given["freeze"]))) or is_sae(target):
                beside -= {"model", *SAID}  # what a file of a dictionary does not say
        if beside:
            raise InputError(
                f"{flag(sorted(beside)[0])} was given beside --freeze {given['freeze']}, which brings its own model; "
                "leave it out"
            )

    # What YAML (or the resumed run) says comes in front of what the command line says, option by
    # option.
    kept = {name: value for name, value in base.items() if name in kinds.names and name not in given}
    command: Any = command_of(kinds)
    settings = parse(
        command, "itervae train", [*_tokens(kept | {"model": kinds.model}), *args, *_tokens(short)], examples=EXAMPLES
    )
    settings.data.check_read(given)
    run = RunSettings(
        kinds.engine,
        settings.data,
        settings.generative_model,
        settings.engine,
        settings.training,
        settings.sequence,
        settings.carried,
        own=tuple(own.values()),
    )
    return run, settings.run_dir, resume


def _classes(args: Sequence[str], given: Mapping[str, Any]) -> dict[str, type]:
    """The classes of a user's own that a command line names, by their names."""
    named: dict[str, type] = {name: Module for name in _values(args, "own")}
    for option in OWN:
        if is_class_name(given.get(option)):
            named[given[option]] = base_of(option)
    return {name: import_class(name, base) for name, base in named.items()}


def _values(args: Sequence[str], name: str) -> list[str]:
    """All that follows an option, up to the next."""
    if flag(name) not in args:
        return []
    after = list(args[args.index(flag(name)) + 1 :])
    return after[: next((place for place, token in enumerate(after) if token.startswith("-")), len(after))]


def command_of(kinds: Kinds) -> type:
    """The dataclass of everything that `itervae train` takes with an engine, a model and a
    carryover."""
    model, engine, carryover = MODELS[kinds.model], engine_settings(kinds.engine), CARRYOVERS.settings(kinds.carryover)
    options = [
        ("inference", str, engine_name(kinds.engine)),
        ("model", Literal[tuple(MODELS)], kinds.model),
        ("family", Optional[Literal[tuple(families())]], None),  # noqa: UP045 (| fails at run time)
        ("config", Path | None, None),
        ("resume", Path | None, None),
        ("run_dir", Path | None, None),
        ("own", tuple[str, ...], ()),
        ("engine", engine, engine()),
        ("data", DataSettings, DataSettings()),
        ("generative_model", model, model()),
        ("training", TrainingSettings, TrainingSettings()),
        ("sequence", SequenceSettings, SequenceSettings()),
        ("carried", carryover, carryover()),
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
        said = tyro.conf.arg(help=helps.get(name), metavar=METAVARS.get(name))
        documented = Annotated[kind, said] if name in helps else kind
        annotated.append((name, documented, field(default_factory=lambda default=default: default)))
    command = make_dataclass("Train", annotated)
    command.__doc__ = (
        "Train a variational autoencoder, Poisson by default, or a dictionary for sparse coding, together with its "
        "inference engine. With no options: patches of two photographs, a linear decoder, 2.5 minutes."
    )
    return command


def _path(given: dict[str, str | None], name: str) -> Path | None:
    value = given.get(name)
    return None if value is None else check_path(value)


def _given(args: Sequence[str]) -> dict[str, str | None]:
    """The options on a command line: name → the value that follows, or None."""
    found: dict[str, str | None] = {}
    for position, token in enumerate(args):
        if not token.startswith("--") or token in ("--help", HELP_ALL):
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
            tokens.append(flag(name) if value else "--no-" + name.replace("_", "-"))
        elif isinstance(value, list | tuple):
            tokens += [flag(name), *map(str, value)]
        elif value is not None:
            tokens += [flag(name), str(value)]
    return tokens
