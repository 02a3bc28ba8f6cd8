"""What the families share: the prior over latents, and the settings of a variational
autoencoder."""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from torch import Tensor, nn

from itervae.arguments import OneOf, check_whole
from itervae.model.decoders import DECODERS
from itervae.model.operators import OperatorDecoder


class Prior(nn.Module):
    """The static prior p(z). `forward` gives it as a distribution; `posterior` gives members of the
    family that belongs to it."""

    symbol: ClassVar[str] = "F"
    """Symbol of the objective in tables and pictures."""
    terms: ClassVar[tuple[str, str, str]] = ("free energy", "KL", "Σ|mean|")
    """What the objective, its second part and the activity are called."""
    unit: ClassVar[str] = "nats"
    """Unit of the objective and its parts; empty where they are no log-probabilities."""
    dense_optimum: ClassVar[bool] = False
    """Whether the best posterior is found by systems with the dictionary as a matrix."""

    def __init__(self, latents: int) -> None:
        super().__init__()
        check_whole("latents", latents, 1)
        self.latents = latents

    @property
    def name(self) -> str:
        """The family, as on the command line, with its activation if it has one:
        "gaussian-relu"."""
        return type(self).__name__.removesuffix("Prior").lower()

    @property
    def capabilities(self) -> frozenset[str]:
        """What an engine may require, as far as the prior decides it."""
        raise NotImplementedError

    def posterior(self, u: Tensor, temperature: float = 0.0) -> Any:
        """A member of the prior's family with these parameters (B, parts · K)."""
        raise NotImplementedError

    def forward(self) -> Any:
        """The prior, over K latents."""
        raise NotImplementedError

    def _own(self, name: str, value: Tensor, learned: bool) -> None:
        """Keep parameters of the prior, learned or fixed."""
        if learned:
            setattr(self, name, nn.Parameter(value))
        else:
            self.register_buffer(name, value)


@dataclass
class VAESettings:
    """What the generative models of all variational autoencoders have."""

    ADVANCED = ("learn_variance", "unit_norm", "start_log_rate", "indicator", "prior")
    """Settings that few runs need; the help leaves them out, unless it is --help-all."""

    latents: int = 512
    """Number of latent units K."""
    decoder: Annotated[str, OneOf(DECODERS)] | type[nn.Module] = "linear"
    """Decoder from latents to data; the linear one is a dictionary and has an exact free energy. A
    module class of your own, on the command line MODULE:CLASS, is made as CLASS(shape, latents) and
    maps z (..., K) to (..., D), D the product of shape."""
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
    """Parameters of the prior: as they start, or learned. Published: learned rates, and fixed N(0,
    1), Laplace(0, 1) and uniform priors for the others."""

    @property
    def linear(self) -> bool:
        """Whether the decoder is a dictionary."""
        own = isinstance(self.decoder, type) and issubclass(self.decoder, OperatorDecoder)
        return own or self.decoder == "linear"

    @property
    def decoder_name(self) -> str:
        """The decoder in words: its name, or that of its class."""
        return self.decoder if isinstance(self.decoder, str) else self.decoder.__name__

    def build_prior(self) -> Prior:
        """The prior of this family, over `latents` units."""
        raise NotImplementedError(f"{type(self).__name__} is listed in MODELS and does not say what its prior is")
