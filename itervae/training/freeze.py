"""A model that is kept as it is while an engine is trained on it: that of another run, of a
dictionary file, or of a sparse autoencoder."""

import math
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

from itervae.data import NOTHING_FITTED, DataSettings, Fitted
from itervae.errors import InputError
from itervae.inference import Engine
from itervae.model import (
    GaussianLikelihood,
    GenerativeModel,
    ModelSettings,
    PoissonVAESettings,
    SparseCodingSettings,
    SparsityPrior,
    VAESettings,
    is_dictionary,
    load_dictionary,
)
from itervae.model.dictionary import atom_settings
from itervae.saes import is_sae, load_sae
from itervae.saes.saving import start_as
from itervae.training.checkpoint import read_checkpoint
from itervae.training.checks import check_layout
from itervae.training.files import find_checkpoint
from itervae.training.groups import read_group
from itervae.training.loading import load
from itervae.training.settings import RunSettings


def fitted_with(target: Path | None, settings: DataSettings) -> Fitted:
    """What was fitted on the training data of the run `target`, whose model explains data that are
    prepared so; where the data of `settings` are of another kind, only what whitens patches."""
    if target is None or is_dictionary(target) or is_sae(target):
        return NOTHING_FITTED
    content = read_checkpoint(find_checkpoint(target))
    fitted: Fitted = content.get("fitted", NOTHING_FITTED)
    if read_group(DataSettings, content["config"]).data == settings.data:
        return fitted
    return {name: value for name, value in fitted.items() if name == "zca"}


def start_engine(engine: Engine, target: Path, model: GenerativeModel) -> None:
    """Start the linear encoder of an engine as that of the sparse autoencoder `target`, if it is
    one: see `start_as`."""
    if is_sae(target):
        start_as(engine, load_sae(target).engine, model)


def frozen_model(settings: RunSettings, target: Path, shape: tuple[int, ...]) -> tuple[RunSettings, GenerativeModel]:
    """The model of `target`, for data of `shape`, and the settings of the run with those of that
    model.

    Raises:
        InputError: nothing there, another shape than the data, or settings of a model beside it.
    """
    if is_dictionary(target):
        model, described = _of_file(settings, target)
    elif is_sae(target):
        check_layout(settings.training, f"`freeze={target}` is a sparse autoencoder")
        model, described = _of_sae(settings, target)
    else:
        check_layout(settings.training, f"`freeze={target}` is a run")
        run = load(target, own=settings.own)
        model, described = run.model, run.settings.model
    if isinstance(described, VAESettings):  # β as the checkpoint has it, be it from the midst of a ramp
        described = replace(described, beta=model.beta.item())
    asked = settings.model
    if isinstance(asked, SparseCodingSettings) and isinstance(described, SparseCodingSettings):
        of_atoms = ("latents", "unit_norm", "bias", "decoder", "atom_size", "stride", "dimensions")
        asked = replace(asked, **{name: getattr(described, name) for name in of_atoms})
    if asked not in (PoissonVAESettings(), described):
        raise InputError(
            f"settings of a model were given beside `freeze={target}`, which brings its own model; leave them out"
        )
    if model.convolutional:
        model = model.at(shape)
    if model.size != math.prod(shape):
        raise InputError(
            f"the model of `freeze={target}` explains data of {model.size} values, and these have {math.prod(shape)}; "
            "name data that fit, or another `patch_size`"
        )
    return replace(settings, model=described), model


def _of_file(settings: RunSettings, target: Path) -> tuple[GenerativeModel, ModelSettings]:
    """The model of a dictionary file, of sparse coding where the file or the settings say so, and
    its settings."""
    key, atoms = settings.training.dictionary_key, settings.training.atoms or "columns"
    model, asked = load_dictionary(target, key=key, atoms=atoms), settings.model
    atom: dict[str, Any] = atom_settings(model.operator()) | {"bias": getattr(model.decoder, "bias", None) is not None}
    if "atom_size" in atom and atom["atom_size"] is None:
        widths = "x".join(map(str, model.operator().atoms.shape[2:]))  # pyright: ignore[reportAttributeAccessIssue]
        raise InputError(f"the atoms of `freeze={target}` are {widths}; expected square ones, as those of a run are")
    if isinstance(model.prior, SparsityPrior):
        prior, shrinkage = model.prior, "hard" if model.prior.hard else "soft"
        return model, SparseCodingSettings(prior.maps, prior.threshold.item(), shrinkage, prior.signed, False, **atom)
    if isinstance(asked, SparseCodingSettings):
        said = {"threshold": asked.threshold, "shrinkage": asked.shrinkage, "signed": asked.signed}
        model = load_dictionary(target, **said, key=key, atoms=atoms)
        return model, replace(asked, latents=model.prior.maps, unit_norm=False, **atom)
    assert isinstance(model.likelihood, GaussianLikelihood)
    log_variance = model.likelihood.log_variance
    each: dict[str, Any] = {"variances": "each"}
    variance = each if log_variance.ndim else {"observation_variance": log_variance.exp().item()}
    return model, PoissonVAESettings(latents=model.prior.maps, **variance, **atom)


def _of_sae(settings: RunSettings, target: Path) -> tuple[GenerativeModel, ModelSettings]:
    """The model of a sparse autoencoder at the threshold of the settings, and its settings."""
    asked = settings.model
    if not isinstance(asked, SparseCodingSettings):
        raise InputError(
            f"`freeze={target}` is a sparse autoencoder, which has no threshold; name one with `model=sparse-coding` "
            "and `threshold`"
        )
    if asked.signed or asked.shrinkage == "hard":
        raise InputError(
            f"signed codes or a hard threshold were asked of `freeze={target}`, a sparse autoencoder; expected "
            "neither: leave them out"
        )
    sae = load_sae(target, asked.threshold)
    if sae.said:
        warnings.warn(f"{target}: {sae.said}; the data of this run are taken as they are", stacklevel=2)
    return sae.model, SparseCodingSettings(sae.model.latents, asked.threshold, bias=True)
