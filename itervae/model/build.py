"""A model from its settings."""

import math
from dataclasses import replace

import torch
from numpy.typing import ArrayLike
from torch.nn import functional

from itervae.arguments import check_fields, check_kind, check_seed, check_shape
from itervae.arrays import as_tensor
from itervae.errors import InputError
from itervae.model.convolution import Convolution, ConvolutionalDecoder
from itervae.model.decoders import build_decoder
from itervae.model.estimators import estimators_of
from itervae.model.generative import GenerativeModel
from itervae.model.likelihood import BernoulliLikelihood, GaussianLikelihood, Likelihood, PoissonLikelihood
from itervae.model.operators import LinearDecoder
from itervae.model.priors.sparse_code import SparsityPrior
from itervae.model.settings import LINKS, ModelSettings, SparseCodingSettings, VAESettings


def build_model(settings: ModelSettings, shape: tuple[int, ...], seed: int = 0) -> GenerativeModel:
    """A new model for data of `shape`, its start decided by `seed`; the global random state is left
    as it was.

    Prior log-rates start in (−6, −4) for a linear decoder, as published, and in (−2, 0) for the
    others, unless the settings say otherwise.

    Raises:
        InputError: a setting out of range, or a decoder that does not fit the shape.
    """
    check_kind("settings", settings, VAESettings | SparseCodingSettings, "settings such as PoissonVAESettings(...)")
    check_fields(settings, type(settings))
    check_seed(seed)
    shape = check_shape(shape)
    if settings.latents < 1:
        raise InputError(f"latents is {settings.latents}; expected a number ≥ 1")
    if isinstance(settings, SparseCodingSettings):
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            torch.manual_seed(seed)
            decoder = build_decoder(settings, shape)
        if isinstance(decoder, ConvolutionalDecoder):
            return sparse_coding_model(decoder.operator(), settings, shape)
        start = torch.randn(math.prod(shape), settings.latents, generator=torch.Generator().manual_seed(seed))
        return sparse_coding_model(start, settings, shape)
    varies = settings.learn_variance or settings.observation_variance != 0.5 or settings.variances != "one"
    if settings.likelihood != "gaussian" and varies:
        raise InputError(
            f"an observation variance was given with likelihood {settings.likelihood}, which has none; leave it out or "
            "use gaussian"
        )
    if settings.likelihood != "poisson" and settings.link is not None:
        raise InputError(
            f"link {settings.link} was given with likelihood {settings.likelihood}, which has none; leave it out or "
            "use poisson"
        )
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        prior = settings.build_prior()
        decoder = build_decoder(settings, shape)
        if isinstance(decoder, ConvolutionalDecoder):
            prior = prior.at(decoder.places)
        model = GenerativeModel(prior, decoder, _likelihood(settings, math.prod(shape)), shape, settings.beta)
    model.settings = settings
    return model


def _likelihood(settings: VAESettings, size: int) -> Likelihood:
    if settings.likelihood == "poisson":
        return PoissonLikelihood(size, settings.link or LINKS[0])
    if settings.likelihood == "bernoulli":
        return BernoulliLikelihood()
    each = size if settings.variances == "each" else None
    return GaussianLikelihood(settings.observation_variance, settings.learn_variance, each)


def estimators_for(settings: VAESettings) -> tuple[str, ...]:
    """The estimators that a model with these settings will have, the default first."""
    with torch.random.fork_rng(devices=()):
        family = type(replace(settings, latents=1).build_prior()())
    return estimators_of(family, settings.linear and settings.likelihood == "gaussian")


def sparse_coding_model(
    dictionary: ArrayLike | torch.Tensor | Convolution, settings: SparseCodingSettings, shape: tuple[int, ...]
) -> GenerativeModel:
    """Sparse coding with the atoms of a given dictionary (D, K), or of the operator of a
    convolutional one (`model.operator()`), which are scaled to unit norm unless the settings have
    them as they are.

    Raises:
        InputError: a dictionary that is no tensor (D, K) of finite numbers, D the values of a datum
            of `shape`.
    """
    check_fields(settings, SparseCodingSettings)
    shape = check_shape(shape)
    norm, places = settings.unit_norm, 1
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):  # a random start is not used
        if isinstance(dictionary, Convolution):
            decoder, atoms = (
                ConvolutionalDecoder.like(dictionary, shape, norm, settings.bias),
                dictionary.atoms.detach(),
            )
            atoms = functional.normalize(atoms.flatten(1), dim=1).view_as(atoms) if norm else atoms
            maps, places = len(atoms), decoder.places
        else:
            atoms = _checked(dictionary, shape)
            decoder, maps = LinearDecoder(*atoms.shape, unit_norm=norm, bias=settings.bias), atoms.shape[1]
            atoms = functional.normalize(atoms, dim=0) if norm else atoms
    prior = SparsityPrior(maps, settings.threshold, settings.signed, settings.shrinkage == "hard", places)
    model = GenerativeModel(prior, decoder, GaussianLikelihood(1.0), shape).to(atoms)
    with torch.no_grad():
        decoder.weight.copy_(atoms)
    model.settings = settings
    return model


def _checked(dictionary: ArrayLike | torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """The dictionary as a tensor (D, K) of finite numbers."""
    dictionary = as_tensor("dictionary", dictionary, None, "(D, K), one atom a column")
    expected = math.prod(shape)
    if dictionary.ndim != 2 or 0 in dictionary.shape:
        raise InputError(f"dictionary has shape {tuple(dictionary.shape)}; expected (D, K), one atom a column")
    size, latents = dictionary.shape
    if size != expected:
        remedy = "transpose it: dictionary.mT" if latents == expected else "give the shape of a datum that it explains"
        raise InputError(
            f"dictionary has shape {(size, latents)} and data of shape {tuple(shape)} have {expected} values; expected "
            f"({expected}, K), one atom a column: {remedy}"
        )
    if not torch.isfinite(dictionary).all():
        raise InputError("dictionary has NaN or infinite values; expected finite ones: remove or replace such atoms")
    return dictionary
