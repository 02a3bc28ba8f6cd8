"""Training from Python: a model and an engine as they are there, on data of whatever kind.

What both are made of is kept with the run where it can be told: a model of `build_model`, and an
engine whose settings are its attributes or that `build_engine` made. Such a run is like any other,
for `itervae.load` and on the command line. Of others, composed by hand, a run keeps the values, and
`itervae.load` is given the modules to put them in.
"""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.utils.data import Dataset

from itervae.arguments import check_fields, check_seed, nearest
from itervae.data import DataSettings, Source, as_source
from itervae.errors import InputError
from itervae.inference import Engine
from itervae.inference.checks import check_engine, check_fit, check_model
from itervae.model import (
    MODELS,
    BernoulliLikelihood,
    GenerativeModel,
    ModelSettings,
    SparseCodingSettings,
    SparsityPrior,
    build_model,
)
from itervae.sequence import SequenceSettings
from itervae.training.folder import default_folder
from itervae.training.options import TrainingSettings
from itervae.training.reports import Summary
from itervae.training.settings import Given, RunSettings
from itervae.training.trainer import train_run

NOT_HERE = {"freeze": "model.requires_grad_(False) keeps a model as it is"}
"""Settings of training that a model in Python has no use for, and what does the same."""


def train(
    model: GenerativeModel,
    engine: Engine,
    data: "Source | Dataset[Any] | ArrayLike | Tensor",
    run_dir: str | Path | None = None,
    *,
    resume: bool = False,
    **options: Any,
) -> Summary:
    """Train a model and an engine, both where they are, and keep the run in a folder, as `itervae
    train` does.

    Afterwards they hold the last parameters; `itervae.load(summary.run_dir)` has those that
    explained the held-out data best. Ctrl-C stops after the current update and saves.

    Args:
        model: what is learned; where its parameters ask for no gradient it is kept as it is.
        engine: how it infers; learned too where it has parameters.
        data: rows (N, D), or (N, H, W) as images, as an array, a tensor or lists; a map-style torch
            Dataset of them, or of pairs whose first they are, read by the batch; or a source of
            `itervae.data.load_source`. A fifth of rows is held out for validation.
        run_dir: a new folder; by default one under runs/.
        resume: go on with the run in run_dir, with model and engine made as they were.
        options: settings of training (`itervae.training.TrainingSettings`: updates, minutes,
            batch_size, lr, gradient, seed, device, ...) and, of sequences, of
            `itervae.sequence.SequenceSettings` (carryover, window, ...).

    Returns:
        What the run came to: updates, held-out free energy in nats, its folder.

    Raises:
        InputError: what does not fit, or is no setting; or training that diverged.
    """
    check_model(model)
    check_engine(engine)
    check_fit(type(engine), model)
    groups = [TrainingSettings, SequenceSettings]
    known = {each.name: group for group in groups for each in fields(group) if each.name not in NOT_HERE}
    for name in options:
        if name in NOT_HERE:
            raise InputError(f"{name} is for itervae train; leave it out: {NOT_HERE[name]}")
        if name not in known:
            raise InputError(
                f"train has no setting {name!r}; {nearest(name, known)}expected some of {', '.join(sorted(known))}"
            )
    training, sequence = (
        group(**{name: value for name, value in options.items() if known[name] is group}) for group in groups
    )
    check_fields(training, TrainingSettings)
    check_fields(sequence, SequenceSettings)
    check_seed(training.seed)
    source = as_source(data, model.shape, training.seed)
    settings = run_settings(model, engine, source, training, sequence)
    return train_run(settings, default_folder(settings) if run_dir is None else run_dir, resume)


def run_settings(
    model: GenerativeModel, engine: Engine, source: Source, training: TrainingSettings, sequence: SequenceSettings
) -> RunSettings:
    """The settings of a run with these objects: all that they are made of, where that can be
    told."""
    made_of, engine_made_of = model_settings(model), engine_settings(engine, model)
    return RunSettings(
        type(engine),
        source.settings or DataSettings(data="array"),
        made_of or _alike(model),
        engine_made_of,
        training,
        sequence,
        given=Given(model, engine, source, told=made_of is not None and engine_made_of is not None),
    )


def model_settings(model: GenerativeModel) -> ModelSettings | None:
    """The settings that a model was built with, if it still is what they say."""
    settings = model.settings
    if settings is None or not _same(build_model(settings, model.shape), model):
        return None
    return settings


def engine_settings(engine: Engine, model: GenerativeModel) -> Any:
    """The settings that an engine was built with, or that its attributes are; None where they do
    not make it what it is."""
    kind = type(engine).Settings
    names = [each.name for each in fields(kind)]
    settings = engine.settings
    if settings is None:
        if not all(isinstance(getattr(engine, name, ...), str | int | float | None) for name in names):
            return None
        settings = kind(**{name: getattr(engine, name) for name in names})
    try:
        made = type(engine).build(settings, model, model.shape)
    except InputError:  # a value that no setting may have
        return None
    return settings if _same(made, engine) else None


def _same(one: nn.Module, other: nn.Module) -> bool:
    """Whether two modules are of the same parts, by name, with values of the same shapes."""

    def parts(module: nn.Module) -> Mapping[str, Any]:
        kinds = {name: type(part) for name, part in module.named_modules()}
        return kinds | {f"{name} of": value.shape for name, value in module.state_dict().items()}

    return parts(one) == parts(other)


def _alike(model: GenerativeModel) -> ModelSettings:
    """Settings that say of a model composed by hand what decides about its training."""
    likelihood = "bernoulli" if isinstance(model.likelihood, BernoulliLikelihood) else "gaussian"
    told = {"decoder": type(model.decoder), "likelihood": likelihood, "beta": model.beta.item()}
    for kind in MODELS.values():
        if issubclass(kind, SparseCodingSettings):
            if isinstance(model.prior, SparsityPrior):
                return kind(latents=model.latents)
        elif isinstance(model.prior, type(kind(latents=1).build_prior())):
            return kind(latents=model.latents, **told)
    raise InputError(f"the model has a {type(model.prior).__name__}; expected a prior of one of {', '.join(MODELS)}")
