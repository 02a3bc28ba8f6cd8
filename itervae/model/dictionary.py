"""Saved dictionaries: the arrays of a linear model in an .npz file, or Φ alone in any file of an
array."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from itervae.arguments import check_choice, check_kind, check_positive, check_shape
from itervae.arrays import as_float32
from itervae.errors import InputError
from itervae.files import write_arrays
from itervae.formats import array_names, check_file, is_array_file, read_array
from itervae.model.build import sparse_coding_model
from itervae.model.generative import GenerativeModel
from itervae.model.likelihood import GaussianLikelihood
from itervae.model.operators import LinearDecoder
from itervae.model.priors.poisson import PoissonPrior, check_log_rate
from itervae.model.priors.sparse_code import SparsityPrior
from itervae.model.settings import SparseCodingSettings
from itervae.paths import check_path

DEFAULT_LOG_RATE = -5.0
"""Prior log-rate of every unit, nats, where neither the file nor the caller has one."""
READ = ("dictionary", "log_rate", "observation_variance", "beta", "shape", "bias", "threshold", "signed", "hard")
"""Arrays of a file that are read; it may hold others."""


def save_dictionary(model: GenerativeModel, path: str | Path) -> None:
    """Write a linear model to an .npz file: `dictionary` (D, K) and `shape`, and `bias` (D,) if it
    has one; `threshold`, `signed` and `hard` of sparse coding; `observation_variance` and `beta` of
    the others; and `log_rate` (K,) of a Poisson prior.

    `load_dictionary` reads sparse coding as such. It makes a Poisson model of any other file, with
    rates to be given where the file has none.

    Raises:
        InputError: the decoder is not linear or the likelihood not Gaussian, or the file
            cannot be written.
    """
    check_kind("model", model, GenerativeModel, "a GenerativeModel, the first that itervae.load(RUN) gives")
    path, likelihood = check_path(path), model.likelihood
    if not isinstance(likelihood, GaussianLikelihood):
        raise InputError(
            f"this model has a {likelihood.name.title()} likelihood, and a dictionary file describes a Gaussian one; "
            "keep its run"
        )
    arrays = {"dictionary": model.dictionary, "shape": torch.tensor(model.shape)}
    if isinstance(model.decoder, LinearDecoder) and model.decoder.bias is not None:
        arrays["bias"] = model.decoder.bias
    if isinstance(model.prior, PoissonPrior):
        arrays["log_rate"] = model.prior.log_rate
    if isinstance(model.prior, SparsityPrior):
        arrays["threshold"] = model.prior.threshold
        arrays |= {"signed": torch.tensor(int(model.prior.signed)), "hard": torch.tensor(int(model.prior.hard))}
    else:
        arrays["observation_variance"] = likelihood.variance
        arrays["beta"] = model.beta
    write_arrays(path, {name: value.detach().cpu().numpy() for name, value in arrays.items()})


def load_dictionary(
    path: str | Path,
    log_rate: float | None = None,
    observation_variance: float | None = None,
    *,
    threshold: float | None = None,
    shrinkage: Literal["soft", "hard"] | None = None,
    signed: bool | None = None,
    key: str | None = None,
    atoms: Literal["columns", "rows"] = "columns",
    shape: tuple[int, ...] | None = None,
) -> GenerativeModel:
    """The linear model of a dictionary file: a Poisson VAE or, with a threshold θ, sparse coding,

        E(a) = ½‖x − Φa‖² + Σ_k C(a_k),    C(a) = θ|a| (soft) or θ²/2 where a ≠ 0 (hard),

    with the atoms as they are in the file, of whatever norm.

    Args:
        path: .npz, .mat or .h5 with `dictionary` (D, K) and, if it has them, `log_rate` (K,),
            `bias` (D,), `observation_variance` (), `beta` (), `threshold` (), `signed` (), `hard`
            () and `shape`; or a file of one array (D, K), such as .npy or .csv. Numbers of any
            precision and byte order.
        log_rate: log r of every unit where the file has none, from −30 to 5; −5 by default.
        observation_variance: σ² where the file has none; ½ by default.
        threshold: θ of sparse coding, units of the data where atoms have unit norm; where the file
            has none, and none is given, the model is a Poisson VAE.
        shrinkage: soft (by default) or hard, of sparse coding.
        signed: coefficients of any sign; by default they are non-negative.
        key: name of the dictionary in the file, by default `dictionary`, or that of the only array
            with another name than those above.
        atoms: where the atoms lie in the array: its columns (D, K), or its rows (K, D), as in
            `components_` of scikit-learn. Nothing is guessed from sizes.
        shape: of an atom, where the file has none: (H, W) or (C, H, W), D values in all; (D,) by
            default. Pictures and inputs of images follow it.

    Raises:
        InputError: the file is missing or corrupt, an array is missing, not finite, or of a shape
            that does not fit; a number out of range, or one of the other model.
    """
    if log_rate is not None:
        log_rate = check_log_rate("log_rate", log_rate)
    if observation_variance is not None:
        observation_variance = check_positive("observation variance", observation_variance)
    arrays = _read(check_path(path), key)
    given = {name: as_float32(value, f"array {name} of {path}") for name, value in arrays.items() if name in READ}
    asked = {"threshold": threshold, "shrinkage": shrinkage, "signed": signed}
    asked |= {"log_rate": log_rate, "observation_variance": observation_variance}
    for name, value in {**asked, "shape": shape}.items():
        if value is not None and {"shrinkage": "hard"}.get(name, name) in arrays:
            raise InputError(f"{name} {value} was given, but {path} has its own; leave it out")
    check_choice("atoms", atoms, ("columns", "rows"))
    dictionary = given["dictionary"]
    if dictionary.ndim != 2 or 0 in dictionary.shape:
        raise InputError(
            f"the dictionary of {path} has shape {tuple(dictionary.shape)}; expected (D, K), one atom a column"
        )
    dictionary = dictionary.T if atoms == "rows" else dictionary
    size, latents = dictionary.shape
    if "shape" in given:
        shape = tuple(given["shape"].flatten().int().tolist())
    shape = (size,) if shape is None else check_shape(shape)
    if math.prod(shape) != size:
        other = "rows" if atoms == "columns" else "columns"
        remedy = f": its atoms may lie in its {other}, atoms={other!r}" if math.prod(shape) == latents else ""
        raise InputError(f"shape of {path} is {shape}; expected one of {size} values, as its atoms have{remedy}")
    numbers = {
        name: check_positive(f"{name} of {path}", _number(given[name], name, path))
        for name in ("observation_variance", "beta", "threshold")
        if name in given
    }
    bias = given.get("bias")
    if bias is not None and bias.shape != (size,):
        raise InputError(f"bias of {path} has shape {tuple(bias.shape)}; expected ({size},), one per value of a datum")
    sparse = threshold is not None or "threshold" in given
    for name in ("log_rate", "observation_variance") if sparse else ("shrinkage", "signed"):
        if asked[name] is not None:
            other = "a Poisson model, and a threshold makes it sparse coding" if sparse else "sparse coding"
            raise InputError(
                f"{name} {asked[name]} was given for {path}, and is of {other}"
                + ("; leave one out" if sparse else "; give a threshold too")
            )
    if sparse:
        hard = shrinkage == "hard" if shrinkage is not None else _flag(given, "hard", path)
        settings = SparseCodingSettings(
            latents,
            numbers["threshold"] if threshold is None else check_positive("threshold", threshold),
            "hard" if hard else "soft",
            _flag(given, "signed", path) if signed is None else signed,
            unit_norm=False,
            bias=bias is not None,
        )
        return _with_bias(sparse_coding_model(dictionary, settings, shape), bias)
    rates = given.get("log_rate", torch.tensor(DEFAULT_LOG_RATE if log_rate is None else log_rate))
    if rates.shape not in ((), (latents,)):
        raise InputError(f"log_rate of {path} has shape {tuple(rates.shape)}; expected ({latents},), one per atom")
    variance = numbers.get("observation_variance", 0.5 if observation_variance is None else observation_variance)
    prior, decoder = PoissonPrior(latents), LinearDecoder(size, latents, bias=bias is not None)
    model = GenerativeModel(prior, decoder, GaussianLikelihood(variance), shape, numbers.get("beta", 1.0))
    with torch.no_grad():
        decoder.weight.copy_(dictionary)
        prior.log_rate.copy_(rates)
    return _with_bias(model, bias)


def _with_bias(model: GenerativeModel, bias: torch.Tensor | None) -> GenerativeModel:
    """A model as it is handed on, with its bias, if it has one, in place."""
    decoder = model.decoder
    assert isinstance(decoder, LinearDecoder)
    with torch.no_grad():
        if decoder.bias is not None and bias is not None:
            decoder.bias.copy_(bias)
    return model.eval().requires_grad_(False)


def is_dictionary(path: Path) -> bool:
    """Whether a target is a dictionary file, by its name."""
    return is_array_file(path)


def _number(value: torch.Tensor, name: str, path: str | Path) -> float:
    """The one number that an array of a file holds."""
    if value.numel() != 1:
        raise InputError(f"{name} of {path} has shape {tuple(value.shape)}; expected one number")
    return value.item()


def _flag(given: Mapping[str, torch.Tensor], name: str, path: str | Path) -> bool:
    """Whether a file says 1 for `name`; where it says nothing, no."""
    value = _number(given[name], name, path) if name in given else 0
    if value not in (0, 1):
        raise InputError(f"{name} of {path} is {value:g}; expected 0 or 1")
    return value == 1


def _read(path: Path, key: str | None) -> dict[str, np.ndarray]:
    """The arrays of a file by what they are: that called `key` is the dictionary or, where none is
    called so, the only one that is nothing else."""
    check_file(path, "dictionary file")
    names = array_names(path)
    if names is None:
        return {"dictionary": read_array(path, key)}
    found = {name: read_array(path, name) for name in names if name in (*READ, key)}
    if path.suffix.lower() == ".mat":  # where numbers and vectors are matrices
        found = {name: value if name in ("dictionary", key) else value.squeeze() for name, value in found.items()}
    if key is not None:
        if key not in found:
            raise InputError(f"{path} has no array '{key}'; it holds {', '.join(names)}: name one of them as the key")
        found["dictionary"] = found[key]
    elif "dictionary" not in found:
        rest = [name for name in names if name not in READ]
        if len(rest) != 1:
            raise InputError(
                f"{path} holds {', '.join(names) or 'nothing'}; expected an array named dictionary (D, K), or one "
                "alone: name it with `dictionary_key`, in Python key"
            )
        found["dictionary"] = read_array(path, rest[0])
    return found
