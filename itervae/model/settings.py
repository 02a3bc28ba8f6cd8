"""The models by name, and the settings of each, which are read before torch is imported."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from itervae.arguments import AtLeast, OneOf, Positive
from itervae.distributions.registry import ACTIVATIONS, INDICATORS
from itervae.own import Module
from itervae.registry import Registry

DECODERS = ("linear", "convolutional", "mlp", "conv")
"""Names of the decoders."""
LINKS = ("softplus", "exp")
"""Names of what makes rates of a decoder's output."""
ESTIMATORS = ("exact", "eat", "straight-through", "gumbel-softmax", "pathwise", "score")
"""Names of the estimators (`itervae.model.estimators`)."""


@dataclass
class VAESettings:
    """What the generative models of all variational autoencoders have."""

    ADVANCED = (
        "atom_size",
        "stride",
        "dimensions",
        "bias",
        "learn_variance",
        "variances",
        "unit_norm",
        "start_scale",
        "start_log_rate",
        "indicator",
        "prior",
    )
    """Settings that few runs need; the help leaves them out, unless it is --help-all."""

    latents: Annotated[int, AtLeast(1)] = 512
    """Number of latent units K, or of maps of --decoder convolutional."""
    decoder: Annotated[str, OneOf(DECODERS)] | type[Module] = "linear"
    """Decoder from latents to data; the linear one is a dictionary and has an exact free energy,
    and so has the convolutional one, whose atoms may lie anywhere. A module class of your own, on
    the command line MODULE:CLASS, is made as CLASS(shape, latents) and maps z (..., K) to (..., D),
    D the product of shape."""
    atom_size: int | None = None
    """Side of the atoms of --decoder convolutional, by default 16, or that of the data where it is
    smaller."""
    stride: int | None = None
    """Pixels from one place of such an atom to the next, by default a quarter of its side."""
    dimensions: int | None = None
    """Dimensions of such an atom: 1 of recordings (C, T), 2 of pictures (C, H, W), 3 of film (C, T,
    H, W); by default those of a datum or, where it has three or more, all but the first, which is
    of channels."""
    likelihood: Literal["gaussian", "bernoulli", "poisson"] = "gaussian"
    """Of the data, whatever the latents are: Gaussian for any, Bernoulli for data in [0, 1],
    Poisson for counts."""
    link: Annotated[str, OneOf(LINKS)] | None = None
    """What makes rates of the decoder's output under --likelihood poisson: softplus by default, or
    exp."""
    observation_variance: Annotated[float, Positive(" (the default is 0.5)")] = 0.5
    """Variance of the Gaussian likelihood, squared units of the data."""
    learn_variance: bool = False
    """Learn the observation variance; its normalizer then enters the free energy."""
    variances: Literal["one", "each"] = "one"
    """One observation variance for all values of a datum, or one for each."""
    unit_norm: bool = False
    """Atoms of unit norm (linear decoder)."""
    start_scale: Annotated[float | None, Positive()] = None
    """Standard deviation of the values of a linear dictionary before training: 0.05 by default, as
    published with encoders; the published iterative P-VAE has 1e-4."""
    bias: bool = False
    """A bias b of a linear decoder, x̂ = Φz + b, for data whose mean is not 0; it starts at their
    mean."""
    beta: Annotated[float, Positive(" (the free energy has no optimum at 0)")] = 1.0
    """Weight of the KL in the free energy."""
    prior: Literal["fixed", "learned"] = "fixed"
    """Parameters of the prior: as they start, or learned. Published: learned rates, and fixed N(0,
    1), Laplace(0, 1) and uniform priors for the others."""

    @property
    def linear(self) -> bool:
        """Whether the decoder is a dictionary."""
        if isinstance(self.decoder, str):
            return self.decoder in ("linear", "convolutional")
        from itervae.model.operators import OperatorDecoder

        return issubclass(self.decoder, OperatorDecoder)

    @property
    def decoder_name(self) -> str:
        """The decoder in words: its name, or that of its class."""
        return self.decoder if isinstance(self.decoder, str) else self.decoder.__name__

    def build_prior(self) -> Any:
        """The `Prior` of this family, over `latents` units."""
        raise NotImplementedError(f"{type(self).__name__} is listed in MODELS and does not say what its prior is")


@dataclass
class PoissonVAESettings(VAESettings):
    """The generative model of a Poisson variational autoencoder."""

    prior: Literal["fixed", "learned"] = "learned"
    """Prior rates: learned, as published, or fixed at the start."""
    start_log_rate: float | None = None
    """Prior log-rates start uniform within 1 of this; by default -5 for a dictionary under a
    solver, and -1 where an encoder is trained or the decoder is a network; fixed ones are all equal
    to it."""
    indicator: Annotated[str, OneOf(INDICATORS)] | None = None
    """Soft indicator of relaxed counts (--estimator eat, straight-through, or one after the other),
    by default cubic; sigmoid is the first published one."""

    def build_prior(self) -> Any:
        from itervae.model.priors.poisson import PoissonPrior, check_log_rate

        start = self.start_log_rate
        if start is None:
            start = -5.0 if self.linear else -1.0
        check_log_rate("`start_log_rate`", start)
        return PoissonPrior(self.latents, start - 1, start + 1, self.prior == "learned", self.indicator or "cubic")


@dataclass
class GaussianVAESettings(VAESettings):
    """The generative model of a Gaussian variational autoencoder."""

    activation: Annotated[str, OneOf(ACTIVATIONS)] = "none"
    """Function applied to the sample; relu and exp make the latents non-negative."""

    def build_prior(self) -> Any:
        from itervae.model.priors.gaussian import GaussianPrior

        return GaussianPrior(self.latents, self.prior == "learned", self.activation)


@dataclass
class LaplaceVAESettings(VAESettings):
    """The generative model of a Laplace variational autoencoder."""

    def build_prior(self) -> Any:
        from itervae.model.priors.laplace import LaplacePrior

        return LaplacePrior(self.latents, self.prior == "learned")


@dataclass
class CategoricalVAESettings(VAESettings):
    """The generative model of a categorical variational autoencoder: a one-hot code."""

    def build_prior(self) -> Any:
        from itervae.model.priors.categorical import CategoricalPrior

        return CategoricalPrior(self.latents, self.prior == "learned")


@dataclass
class SparseCodingSettings:
    """Classic sparse coding: E(a) = ½‖x − Φa‖² + cost(a)."""

    ADVANCED = ("atom_size", "stride", "dimensions")

    latents: Annotated[int, AtLeast(1)] = 512
    """Number of coefficients K, or of maps of --decoder convolutional."""
    threshold: Annotated[float, Positive(", in units of the data")] = 1.0
    """Threshold θ, units of the data; the cost of a coefficient is θ|a|, or θ²/2 with a hard
    threshold."""
    shrinkage: Literal["soft", "hard"] = "soft"
    """Soft threshold (the lasso, convex) or hard."""
    signed: bool = False
    """Coefficients of any sign; otherwise they are non-negative."""
    unit_norm: bool = True
    """Atoms of unit norm; without it they are taken as they are, which is for a dictionary that
    --freeze keeps."""
    bias: bool = False
    """A bias b, x̂ = Φa + b, for data whose mean is not 0; it starts at their mean."""
    decoder: Literal["linear", "convolutional"] = "linear"
    """Dictionary of atoms of the size of a datum, or of smaller ones that may lie anywhere."""
    atom_size: int | None = None
    """Side of the atoms of --decoder convolutional, by default 16, or that of the data where it is
    smaller."""
    stride: int | None = None
    """Pixels from one place of such an atom to the next, by default a quarter of its side."""
    dimensions: int | None = None
    """Dimensions of such an atom: 1 of recordings (C, T), 2 of pictures (C, H, W), 3 of film (C, T,
    H, W); by default those of a datum or, where it has three or more, all but the first, which is
    of channels."""

    @property
    def decoder_name(self) -> str:
        """The decoder by name."""
        return self.decoder


ModelSettings = VAESettings | SparseCodingSettings
MODELS: Registry[type[ModelSettings]] = Registry(
    {
        "poisson-vae": PoissonVAESettings,
        "gaussian-vae": GaussianVAESettings,
        "laplace-vae": LaplaceVAESettings,
        "categorical-vae": CategoricalVAESettings,
        "sparse-coding": SparseCodingSettings,
    }
)
"""The models by name; only the command line and configurations use these strings. NAME-vae makes
--family NAME."""


def families() -> list[str]:
    """The families of variational autoencoders, by name."""
    return [name.removesuffix("-vae") for name in MODELS if name.endswith("-vae")]
