"""A model that is kept as it is while an engine is trained on it: that of another run, or of a dictionary file."""

import math
from dataclasses import replace
from pathlib import Path

from itervae.errors import InputError
from itervae.model import GenerativeModel, PoissonVAESettings, load_dictionary
from itervae.training.checkpoint import find_checkpoint, load, load_settings, read_checkpoint
from itervae.training.settings import RunSettings


def frozen_model(settings: RunSettings, target: Path, shape: tuple[int, ...]) -> tuple[RunSettings, GenerativeModel]:
    """The model of `target`, for data of `shape`, and the settings of the run with those of that model.

    Raises:
        InputError: nothing there, another shape than the data, or settings of a model beside it.
    """
    if settings.model != type(settings.model)():
        raise InputError(
            f"settings of a model were given beside --freeze {target}, which brings its own model; leave them out"
        )
    if target.suffix in (".npz", ".npy"):
        model = load_dictionary(target)
        variance = model.likelihood.variance.item()  # pyright: ignore[reportCallIssue]
        described = PoissonVAESettings(
            latents=model.latents, observation_variance=round(variance, 6), beta=round(model.beta.item(), 6)
        )
    else:
        model, _ = load(target)
        described = load_settings(read_checkpoint(find_checkpoint(target))).model
    if model.size != math.prod(shape):
        raise InputError(
            f"the model of --freeze {target} explains data of {model.size} values, and these have {math.prod(shape)}; "
            "name data that fit, or another --patch-size"
        )
    return replace(settings, model=described), model
