"""Saved dictionaries: the arrays of a linear model in an .npz file, or Φ alone in an .npy file."""

import math
import os
import tokenize
import zipfile
import zlib
from pathlib import Path

import numpy as np
import torch

from itervae.arguments import check_kind, check_positive, check_shape
from itervae.arrays import as_float32
from itervae.errors import InputError
from itervae.files import write_arrays
from itervae.model.families.poisson import PoissonPrior, check_log_rate
from itervae.model.families.sparse_code import SparsityPrior
from itervae.model.generative import GenerativeModel
from itervae.model.likelihood import GaussianLikelihood
from itervae.model.operators import LinearDecoder
from itervae.paths import check_path

DEFAULT_LOG_RATE = -5.0
"""Prior log-rate of every unit, nats, where neither the file nor the caller has one."""
DAMAGED = (
    OSError, EOFError, ValueError, TypeError, KeyError, SyntaxError, OverflowError, NotImplementedError, MemoryError,
    zipfile.BadZipFile, zlib.error, tokenize.TokenError,
)  # fmt: skip
"""What NumPy raises for a damaged file, and for one that claims more values than it holds."""
READ = ("dictionary", "log_rate", "observation_variance", "beta", "shape")
"""Arrays of a file that are read; it may hold others."""


def save_dictionary(model: GenerativeModel, path: str | Path) -> None:
    """Write a linear model to an .npz file: `dictionary` (D, K) and `shape`; `observation_variance`
    and `beta`, but for sparse coding; and `log_rate` (K,) of a Poisson prior.

    The file does not name the family: `load_dictionary` makes a Poisson model of any, with rates to
    be given where the file has none.

    Raises:
        InputError: the decoder is not linear or the likelihood not Gaussian, or the file
            cannot be written.
    """
    check_kind("model", model, GenerativeModel, "a GenerativeModel, the first that itervae.load(RUN) gives")
    path, likelihood = check_path(path), model.likelihood
    if not isinstance(likelihood, GaussianLikelihood):
        raise InputError(
            "this model has a Bernoulli likelihood, and a dictionary file describes a Gaussian one; keep its run"
        )
    arrays = {"dictionary": model.dictionary, "shape": torch.tensor(model.shape)}
    if isinstance(model.prior, PoissonPrior):
        arrays["log_rate"] = model.prior.log_rate
    if not isinstance(model.prior, SparsityPrior):
        arrays["observation_variance"] = likelihood.variance
        arrays["beta"] = model.beta
    write_arrays(path, {name: value.detach().cpu().numpy() for name, value in arrays.items()})


def load_dictionary(
    path: str | Path, log_rate: float | None = None, observation_variance: float | None = None
) -> GenerativeModel:
    """The linear Poisson model of a dictionary file.

    Args:
        path: .npz with `dictionary` (D, K) and, if it has them, `log_rate` (K,),
            `observation_variance` (), `beta` () and `shape`; or a bare .npy (D, K). Numbers of any
            precision and byte order.
        log_rate: log r of every unit where the file has none, from −30 to 5; −5 by default.
        observation_variance: σ² where the file has none; ½ by default.

    Raises:
        InputError: the file is missing or corrupt, an array is missing, not finite, or of a shape
            that does not fit; a log_rate or observation_variance out of range.
    """
    if log_rate is not None:
        log_rate = check_log_rate("log_rate", log_rate)
    if observation_variance is not None:
        observation_variance = check_positive("observation variance", observation_variance)
    arrays = _read(check_path(path))
    if "dictionary" not in arrays:
        raise InputError(f"{path} holds {', '.join(arrays) or 'nothing'}; expected an array named dictionary (D, K)")
    given = {name: as_float32(value, f"array {name} of {path}") for name, value in arrays.items() if name in READ}
    for name, value in (("log_rate", log_rate), ("observation_variance", observation_variance)):
        if value is not None and name in arrays:
            raise InputError(f"{name} {value} was given, but {path} has its own; leave it out")
    dictionary = given["dictionary"]
    if dictionary.ndim != 2 or 0 in dictionary.shape:
        raise InputError(
            f"the dictionary of {path} has shape {tuple(dictionary.shape)}; expected (D, K), one atom a column"
        )
    size, latents = dictionary.shape
    rates = given.get("log_rate", torch.tensor(DEFAULT_LOG_RATE if log_rate is None else log_rate))
    if rates.shape not in ((), (latents,)):
        raise InputError(f"log_rate of {path} has shape {tuple(rates.shape)}; expected ({latents},), one per atom")
    defaults = {"observation_variance": 0.5 if observation_variance is None else observation_variance, "beta": 1.0}
    numbers = {name: given.get(name, torch.tensor(default)) for name, default in defaults.items()}
    for name, value in numbers.items():
        if value.numel() != 1:
            raise InputError(f"{name} of {path} has shape {tuple(value.shape)}; expected one number")
        check_positive(f"{name} of {path}", value.item())
    shape = check_shape(given["shape"].flatten().int().tolist()) if "shape" in given else _guess_shape(size)
    if math.prod(shape) != size:
        remedy = ": transpose the dictionary" if math.prod(shape) == latents else ", as the dictionary has"
        raise InputError(f"shape of {path} is {shape}; expected a shape of {size} values{remedy}")

    prior, decoder = PoissonPrior(latents), LinearDecoder(size, latents)
    model = GenerativeModel(
        prior,
        decoder,
        GaussianLikelihood(numbers["observation_variance"].item()),
        shape,
        numbers["beta"].item(),
    )
    with torch.no_grad():
        decoder.weight.copy_(dictionary)
        prior.log_rate.copy_(rates)
    return model.eval()


def _guess_shape(size: int) -> tuple[int, ...]:
    """(√D, √D) where that is a whole number, else (D,): only pictures depend on it."""
    side = round(size**0.5)
    return (side, side) if side * side == size else (size,)


def _read(path: Path) -> dict[str, np.ndarray]:
    if os.path.isdir(path):
        raise InputError(f"{path} is a folder; expected an .npz or .npy file")
    if not os.path.isfile(path):  # false for names that are too long or hold a NUL, of which Path would raise
        raise InputError(f"there is no dictionary file at {path}; expected an .npz or .npy file")
    try:
        content = np.load(path, allow_pickle=False)
        if isinstance(content, np.ndarray):
            return {"dictionary": content}
        with content:
            return {name: content[name] for name in content.files}
    except DAMAGED as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"{path} cannot be read as .npz or .npy ({reason}); expected a file written by NumPy: make or copy it again"
        ) from error
