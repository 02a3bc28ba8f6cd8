"""Saved dictionaries: a linear model as three arrays, or one."""

import tokenize
import zipfile
import zlib
from pathlib import Path

import numpy as np
import torch

from itervae.errors import InputError
from itervae.files import write_arrays
from itervae.model.decoders import LinearDecoder
from itervae.model.generative import GenerativeModel
from itervae.model.likelihood import GaussianLikelihood
from itervae.model.prior import PoissonPrior, SparsityPrior

DEFAULT_LOG_RATE = -5.0


def save_dictionary(model: GenerativeModel, path: str | Path) -> None:
    """Write `dictionary` (D, K), `log_rate` (K,) and `observation_variance` of a linear model to an .npz file.

    Other families than the Poisson have no rates to write, and sparse coding the dictionary alone: read again, the file
    is that of a Poisson model with rates to be given.

    Raises:
        InputError: the decoder is not linear or the likelihood not Gaussian, or the file cannot be written.
    """
    likelihood = model.likelihood
    if not isinstance(likelihood, GaussianLikelihood):
        raise InputError("this model has a Bernoulli likelihood; a dictionary file describes a Gaussian one")
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
        path: .npz with `dictionary` (D, K) and, if it has them, `log_rate` (K,), `observation_variance` (), `beta` ()
            and `shape`; or a bare .npy (D, K).
        log_rate: log r of every unit where the file has none; −5 by default.
        observation_variance: σ² where the file has none; ½ by default.

    Raises:
        InputError: the file is missing or corrupt, an array is missing, not finite, or of a shape that does not fit.
    """
    arrays = _read(Path(path))
    if "dictionary" not in arrays:
        raise InputError(f"{path} holds {', '.join(arrays) or 'nothing'}; expected an array named dictionary (D, K)")
    for name, value in arrays.items():
        if value.dtype.kind not in "fiu" or not np.isfinite(value).all():
            raise InputError(f"array {name} of {path} has values that are not finite numbers; expected real numbers")
    for name, value in (("log_rate", log_rate), ("observation_variance", observation_variance)):
        if value is not None and name in arrays:
            raise InputError(f"{name} {value} was given, but {path} has its own; leave it out")
    dictionary = arrays["dictionary"]
    if dictionary.ndim != 2 or 0 in dictionary.shape:
        raise InputError(f"the dictionary of {path} has shape {dictionary.shape}; expected (D, K), one atom a column")
    size, latents = dictionary.shape
    rates = arrays.get("log_rate", np.asarray(DEFAULT_LOG_RATE if log_rate is None else log_rate))
    if rates.shape not in ((), (latents,)):
        raise InputError(f"log_rate of {path} has shape {rates.shape}; expected ({latents},), one per atom")
    variance = arrays.get("observation_variance")
    if variance is None:
        variance = np.asarray(0.5 if observation_variance is None else observation_variance)
    for name, value in (("observation_variance", variance), ("beta", arrays.get("beta", np.asarray(1.0)))):
        if value.size != 1:
            raise InputError(f"{name} of {path} has shape {value.shape}; expected one number")
    shape = tuple(int(n) for n in arrays["shape"].ravel()) if "shape" in arrays else _guess_shape(size)
    if int(np.prod(shape)) != size:
        raise InputError(f"shape of {path} is {shape}; expected a shape of {size} values, as the dictionary has")

    prior = PoissonPrior(latents)
    model = GenerativeModel(
        prior,
        LinearDecoder(size, latents),
        GaussianLikelihood(variance.item()),
        shape,
        arrays["beta"].item() if "beta" in arrays else 1.0,
    )
    with torch.no_grad():
        model.dictionary.copy_(torch.as_tensor(dictionary))
        prior.log_rate.copy_(torch.as_tensor(rates))
    return model.eval()


def _guess_shape(size: int) -> tuple[int, ...]:
    """(√D, √D) where that is a whole number, else (D,): only pictures depend on it."""
    side = round(size**0.5)
    return (side, side) if side * side == size else (size,)


def _read(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise InputError(f"there is no dictionary file at {path}; expected an .npz or .npy file")
    try:
        content = np.load(path, allow_pickle=False)
        if isinstance(content, np.ndarray):
            return {"dictionary": content}
        with content:
            return {name: content[name] for name in content.files}
    except (ValueError, OSError, EOFError, SyntaxError, zipfile.BadZipFile, zlib.error, tokenize.TokenError) as error:
        raise InputError(
            f"{path} cannot be read as .npz or .npy ({error}); expected a file written by NumPy"
        ) from error
