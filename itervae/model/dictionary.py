"""Saved dictionaries: the arrays of a linear model in an .npz file, or Φ alone in any file of an
array."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from itervae.arguments import check_choice, check_kind, check_positive, check_whole
from itervae.arrays import as_float32
from itervae.errors import InputError
from itervae.files import write_arrays
from itervae.formats import is_array_file
from itervae.model.build import sparse_coding_model
from itervae.model.convolution import Convolution, ConvolutionalDecoder
from itervae.model.dictionary_files import KIND, READ, convolution, is_set, matrix, number, read_arrays
from itervae.model.generative import GenerativeModel
from itervae.model.likelihood import GaussianLikelihood
from itervae.model.operators import LinearDecoder
from itervae.model.priors.poisson import PoissonPrior, check_log_rate
from itervae.model.priors.sparse_code import SparsityPrior
from itervae.model.settings import SparseCodingSettings
from itervae.paths import check_path

DEFAULT_LOG_RATE = -5.0
"""Prior log-rate of every unit, nats, where neither the file nor the caller has one."""


def save_dictionary(model: GenerativeModel, path: str | Path) -> None:
    """Write a linear model to an .npz or .safetensors file: `dictionary` (D, K) and `shape`, and
    `bias` if it has one; `threshold`, `signed` and `hard` of sparse coding; `observation_variance`
    and `beta` of the others; and `log_rate` (K,) of a Poisson prior. A convolutional one, in .npz
    alone, has `kind` (the text convolution), `atoms` (K, C, *widths) and `stride` in place of the
    dictionary, and the shape is that of the data it was trained on; it takes any other.

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
    small: dict[str, np.ndarray] = {}
    if model.convolutional:
        operator = model.operator()
        assert isinstance(operator, Convolution)
        arrays, small = {"atoms": operator.atoms}, {"kind": np.array(KIND), "stride": np.array(operator.stride)}
    else:
        arrays = {"dictionary": model.dictionary}
    arrays["shape"] = torch.tensor(model.shape)
    bias = getattr(model.decoder, "bias", None)
    if bias is not None:
        arrays["bias"] = bias
    if isinstance(model.prior, PoissonPrior):
        arrays["log_rate"] = model.prior.log_rate
    if isinstance(model.prior, SparsityPrior):
        arrays["threshold"] = model.prior.threshold
        arrays |= {"signed": torch.tensor(int(model.prior.signed)), "hard": torch.tensor(int(model.prior.hard))}
    else:
        arrays["observation_variance"] = likelihood.variance
        arrays["beta"] = model.beta
    write_arrays(path, small | {name: value.detach().cpu().numpy() for name, value in arrays.items()})


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
    stride: int | None = None,
) -> GenerativeModel:
    """The linear model of a dictionary file: a Poisson VAE or, with a threshold θ, sparse coding,

        E(a) = ½‖x − Φa‖² + Σ_k C(a_k),    C(a) = θ|a| (soft) or θ²/2 where a ≠ 0 (hard),

    with the atoms as they are in the file, of whatever norm.

    Args:
        path: .npz, .mat or .h5 with `dictionary` (D, K) and, if it has them, `log_rate` (K,),
            `bias` (D,), `observation_variance` () or (D,), `beta` (), `threshold` (), `signed` (),
            `hard` () and `shape`; or a file of one array (D, K), such as .npy or .csv. Numbers of
            any precision and byte order. Of a convolutional dictionary what `save_dictionary`
            writes, or `atoms` (K, C, *widths), or one such array, and a `stride`; its `bias` is
            (C,).
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
            default. Pictures and inputs of images follow it. Of a convolutional dictionary the
            shape of a datum, by default that of an atom; it takes others too.
        stride: from one place of small atoms to the next, where the file does not say; without it
            its array is a matrix.

    Raises:
        InputError: the file is missing or corrupt, an array is missing, not finite, or of a shape
            that does not fit; a number out of range, or one of the other model.
    """
    if log_rate is not None:
        log_rate = check_log_rate("`log_rate`", log_rate)
    if observation_variance is not None:
        observation_variance = check_positive("`observation_variance`", observation_variance)
    if stride is not None:
        check_whole("`stride`", stride, 1)
    path = check_path(path)
    arrays = read_arrays(path, key, stride)
    given = {name: as_float32(value, f"array {name} of {path}") for name, value in arrays.items() if name in READ}
    asked = {"threshold": threshold, "shrinkage": shrinkage, "signed": signed}
    asked |= {"log_rate": log_rate, "observation_variance": observation_variance}
    for name, value in {**asked, "shape": shape, "stride": stride}.items():
        if value is not None and {"shrinkage": "hard"}.get(name, name) in arrays:
            raise InputError(f"{name} {value} was given, but {path} has its own; leave it out")
    check_choice("atoms", atoms, ("columns", "rows"))
    if "atoms" in given:
        if atoms == "rows":
            raise InputError(f"atoms rows was given for {path}, whose atoms are no matrix; leave it out")
        dictionary, shape = convolution(given, stride, shape, path)
        latents = len(dictionary.atoms)
    else:
        dictionary, shape = matrix(given, atoms == "rows", shape, path)
        latents = dictionary.shape[1]
    numbers = {
        name: check_positive(f"{name} of {path}", number(given[name], name, path))
        for name in ("beta", "threshold")
        if name in given
    }
    variances = _variances(given, dictionary, path)
    bias = given.get("bias")
    values = dictionary.atoms.shape[1] if isinstance(dictionary, Convolution) else len(dictionary)
    if bias is not None and bias.shape != (values,):
        raise InputError(
            f"bias of {path} has shape {tuple(bias.shape)}; expected ({values},), one per value or channel"
        )
    sparse = threshold is not None or "threshold" in given
    for name in ("log_rate", "observation_variance") if sparse else ("shrinkage", "signed"):
        if asked[name] is not None:
            other = "a Poisson model, and a threshold makes it sparse coding" if sparse else "sparse coding"
            raise InputError(
                f"{name} {asked[name]} was given for {path}, and is of {other}"
                + ("; leave one out" if sparse else "; give a threshold too")
            )
    if sparse:
        hard = shrinkage == "hard" if shrinkage is not None else is_set(given, "hard", path)
        settings = SparseCodingSettings(
            latents,
            numbers["threshold"] if threshold is None else check_positive("`threshold`", threshold),
            "hard" if hard else "soft",
            is_set(given, "signed", path) if signed is None else signed,
            unit_norm=False,
            bias=bias is not None,
            **atom_settings(dictionary),
        )
        return _with_bias(sparse_coding_model(dictionary, settings, shape), bias)
    rates = given.get("log_rate", torch.tensor(DEFAULT_LOG_RATE if log_rate is None else log_rate))
    if rates.shape not in ((), (latents,)):
        raise InputError(f"log_rate of {path} has shape {tuple(rates.shape)}; expected ({latents},), one per atom")
    each = len(variances) if variances is not None and variances.numel() > 1 else None
    likelihood = GaussianLikelihood(0.5 if observation_variance is None else observation_variance, size=each)
    prior, beta = PoissonPrior(latents), numbers.get("beta", 1.0)
    if isinstance(dictionary, Convolution):
        decoder, weight = ConvolutionalDecoder.like(dictionary, shape, bias is not None), dictionary.atoms
        prior.places = decoder.places
    else:
        decoder, weight = LinearDecoder(len(dictionary), latents, bias=bias is not None), dictionary
    model = GenerativeModel(prior, decoder, likelihood, shape, beta)
    with torch.no_grad():
        decoder.weight.copy_(weight)
        prior.log_rate.copy_(rates)
        if variances is not None:
            likelihood.log_variance.copy_(variances.double().log())
    return _with_bias(model, bias)


def _variances(
    given: dict[str, torch.Tensor], dictionary: torch.Tensor | Convolution, path: str | Path
) -> torch.Tensor | None:
    """The observation variance of a file, () or (D,) of each value; None where it has none."""
    if "observation_variance" not in given:
        return None
    found = given["observation_variance"]
    size = None if isinstance(dictionary, Convolution) else len(dictionary)
    if found.numel() != 1 and found.shape != (size,):
        several = "" if size is None else f", or ({size},), one per value of a datum"
        raise InputError(f"observation_variance of {path} has shape {tuple(found.shape)}; expected one number{several}")
    check_positive(f"observation_variance of {path}", found.min().item())
    return found.squeeze() if found.numel() == 1 else found


def _with_bias(model: GenerativeModel, bias: torch.Tensor | None) -> GenerativeModel:
    """A model as it is handed on, with its bias, if it has one, in place."""
    if bias is not None:
        with torch.no_grad():
            model.decoder.bias.copy_(bias)  # pyright: ignore
    return model.eval().requires_grad_(False)


def atom_settings(operator: object) -> dict[str, Any]:
    """The settings of a model with the atoms of a convolutional operator, where it is one: of atoms
    that are not square no size says what they are."""
    if not isinstance(operator, Convolution):
        return {}
    widths = set(operator.atoms.shape[2:])
    size = widths.pop() if len(widths) == 1 else None
    atom = {"atom_size": size, "stride": operator.stride, "dimensions": len(operator.shape)}
    return {"decoder": "convolutional", **atom}


def is_dictionary(path: Path) -> bool:
    """Whether a target is a dictionary file, by its name."""
    return is_array_file(path)
