"""Settings of the generative models, and the model they describe."""

import math
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import torch
from torch import nn
from torch.nn import functional

from itervae.arguments import OneOf, check_fields, check_kind, check_seed, check_shape, check_tensor
from itervae.errors import InputError
from itervae.model.decoders import DECODERS, build_decoder
from itervae.model.estimators import estimators_of
from itervae.model.generative import GenerativeModel
from itervae.model.likelihood import BernoulliLikelihood, GaussianLikelihood
from itervae.model.operators import LinearDecoder
from itervae.model.prior import (
    CategoricalPrior,
    GaussianPrior,
    LaplacePrior,
    PoissonPrior,
    Prior,
    SparsityPrior,
    check_log_rate,
)


@dataclass
class VAESettings:
    """What the generative models of all variational autoencoders have."""

    latents: int = 512
    """Number of latent units K."""
    decoder: Annotated[str, OneOf(DECODERS)] | type[nn.Module] = "linear"
    """Decoder from latents to data; the linear one is a dictionary and has an exact free energy. A module class of your
    own, on the command line MODULE:CLASS, is made as CLASS(shape, latents) and maps z (..., K) to (..., D), D the
    product of shape."""
    likelihood: Literal["gaussian", "bernoulli"] = "gaussian"
    """Gaussian for any data, Bernoulli for data in [0, 1]."""
    observation_variance: float = 0.5
    """Variance of the Gaussian likelihood, squared units of the data."""
    learn_variance: bool = False
    """Learn the observation variance; its normalizer then enters the free energy."""
    unit_norm: bool = False
    """Atoms of unit norm (linear decoder)."""
    beta: float = 1.0
    """Weight of the KL in the free energy."""
    prior: Literal["fixed", "learned"] = "fixed"
    """Parameters of the prior: as they start, or learned. Published: learned rates, and fixed N(0, 1), Laplace(0, 1)
    and uniform priors for the others."""

    @property
    def linear(self) -> bool:
        """Whether the decoder is a dictionary."""
        own = isinstance(self.decoder, type) and issubclass(self.decoder, LinearDecoder)
        return own or self.decoder == "linear"

    @property
    def decoder_name(self) -> str:
        """The decoder in words: its name, or that of its class."""
        return self.decoder if isinstance(self.decoder, str) else self.decoder.__name__

    def build_prior(self) -> Prior:
        """The prior of this family, over `latents` units."""
        raise NotImplementedError(f"{type(self).__name__} is listed in MODELS and does not say what its prior is")


@dataclass
class PoissonVAESettings(VAESettings):
    """The generative model of a Poisson variational autoencoder."""

    prior: Literal["fixed", "learned"] = "learned"
    """Prior rates: learned, as published, or fixed at the start."""
    start_log_rate: float | None = None
    """Prior log-rates start uniform within 1 of this; by default -5 for a dictionary under a solver, and -1 where an
    encoder is trained or the decoder is a network; fixed ones are all equal to it."""
    indicator: Literal["cubic", "sigmoid"] = "cubic"
    """Soft indicator of relaxed counts (--estimator eat and straight-through); sigmoid is the first published one."""

    def build_prior(self) -> Prior:
        start = self.start_log_rate
        if start is None:
            start = -5.0 if self.linear else -1.0
        check_log_rate("start_log_rate", start)
        return PoissonPrior(self.latents, start - 1, start + 1, self.prior == "learned", self.indicator)


@dataclass
class GaussianVAESettings(VAESettings):
    """The generative model of a Gaussian variational autoencoder."""

    activation: Literal["none", "relu", "exp"] = "none"
    """Applied to the sample: the latents are then non-negative."""

    def build_prior(self) -> Prior:
        return GaussianPrior(self.latents, self.prior == "learned", self.activation)


@dataclass
class LaplaceVAESettings(VAESettings):
    """The generative model of a Laplace variational autoencoder."""

    def build_prior(self) -> Prior:
        return LaplacePrior(self.latents, self.prior == "learned")


@dataclass
class CategoricalVAESettings(VAESettings):
    """The generative model of a categorical variational autoencoder: a one-hot code."""

    def build_prior(self) -> Prior:
        return CategoricalPrior(self.latents, self.prior == "learned")


@dataclass
class SparseCodingSettings:
    """Classic sparse coding: E(a) = ½‖x − Φa‖² + cost(a), with atoms of unit norm."""

    latents: int = 512
    """Number of coefficients K."""
    threshold: float = 1.0
    """Threshold θ, units of the data; the cost of a coefficient is θ|a|, or θ²/2 with a hard threshold."""
    shrinkage: Literal["soft", "hard"] = "soft"
    """Soft threshold (the lasso, convex) or hard."""
    signed: bool = False
    """Coefficients of any sign; otherwise they are non-negative."""


ModelSettings = VAESettings | SparseCodingSettings
MODELS: dict[str, type[ModelSettings]] = {
    "poisson-vae": PoissonVAESettings,
    "gaussian-vae": GaussianVAESettings,
    "laplace-vae": LaplaceVAESettings,
    "categorical-vae": CategoricalVAESettings,
    "sparse-coding": SparseCodingSettings,
}
"""The models by name; only the command line and configurations use these strings."""
FAMILIES = tuple(name.removesuffix("-vae") for name in MODELS if name.endswith("-vae"))
"""Families of variational autoencoders."""


def build_model(settings: ModelSettings, shape: tuple[int, ...], seed: int = 0) -> GenerativeModel:
    """A new model for data of `shape`, its start decided by `seed`; the global random state is left as it was.

    Prior log-rates start in (−6, −4) for a linear decoder, as published, and in (−2, 0) for the others, unless the
    settings say otherwise.

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
        start = torch.randn(math.prod(shape), settings.latents, generator=torch.Generator().manual_seed(seed))
        return sparse_coding_model(start, settings, shape)
    if settings.likelihood == "bernoulli" and (settings.learn_variance or settings.observation_variance != 0.5):
        raise InputError(
            "an observation variance was given with likelihood bernoulli, which has none; leave it out or use gaussian"
        )
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        prior = settings.build_prior()
        decoder = build_decoder(settings.decoder, shape, settings.latents, settings.unit_norm)
        likelihood: nn.Module
        if settings.likelihood == "gaussian":
            likelihood = GaussianLikelihood(settings.observation_variance, settings.learn_variance)
        else:
            likelihood = BernoulliLikelihood()
        return GenerativeModel(prior, decoder, likelihood, shape, settings.beta)


def estimators_for(settings: VAESettings) -> tuple[str, ...]:
    """The estimators that a model with these settings will have, the default first."""
    with torch.random.fork_rng(devices=()):
        family = type(replace(settings, latents=1).build_prior()())
    return estimators_of(family, settings.linear and settings.likelihood == "gaussian")


def sparse_coding_model(
    dictionary: torch.Tensor, settings: SparseCodingSettings, shape: tuple[int, ...]
) -> GenerativeModel:
    """Sparse coding with the atoms of a given dictionary (D, K), which are scaled to unit norm.

    Raises:
        InputError: a dictionary that is no tensor (D, K) of finite numbers, D the values of a datum of `shape`.
    """
    check_fields(settings, SparseCodingSettings)
    check_tensor("dictionary", dictionary, "(D, K), one atom a column")
    expected = math.prod(check_shape(shape))
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
    prior = SparsityPrior(latents, settings.threshold, settings.signed, settings.shrinkage == "hard")
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):  # its random start is not used
        decoder = LinearDecoder(size, latents, unit_norm=True)
    model = GenerativeModel(prior, decoder, GaussianLikelihood(1.0), shape).to(dictionary)
    with torch.no_grad():
        decoder.weight.copy_(functional.normalize(dictionary, dim=0))
    return model
