"""The prior over latents: one for each family of posterior, or the sparsity cost of classic sparse coding."""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from itervae.arguments import as_number, check_choice, check_finite, check_positive, check_whole
from itervae.distributions import (
    ACTIVATIONS,
    Categorical,
    Gaussian,
    Laplace,
    RelaxedPoisson,
    SparseCode,
    SparsityCost,
)
from itervae.distributions.arrivals import INDICATORS
from itervae.distributions.location_scale import LocationScale
from itervae.errors import InputError, described

LOG_RATES = (-30.0, 5.0)
"""Between these a prior log-rate can be set."""


def check_log_rate(name: str, value: Any) -> float:
    """The log-rate, refused where it is no number between `LOG_RATES`."""
    low, high = LOG_RATES
    number = as_number(value)
    if number is None or not low <= number <= high:
        raise InputError(f"{name} is {described(value)}; expected a log-rate from {low:g} to {high:g}")
    return number


class Prior(nn.Module):
    """p(z), static. `forward` gives the distribution, and `posterior` members of the family that belongs to it."""

    symbol: ClassVar[str] = "F"
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
        """The family, as on the command line, with its activation if it has one: "gaussian-relu"."""
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


class PoissonPrior(Prior):
    """p(z) = Π_k Pois(z_k; r_k).

    Args:
        latents: K.
        low, high: log-rates start uniform in [low, high]; (−6, −4) is the P-VAE's choice for a linear decoder.
        learned: learn log r (K,), as published; a fixed one is (low + high)/2 for every unit.
        indicator: the soft indicator of relaxed counts, "cubic" or "sigmoid".
    """

    capabilities = frozenset(
        {"Poisson family", "variational posterior", "Poisson family or sparse coding", "certifiable optimum"}
    )  # pyright: ignore
    terms = ("free energy", "KL", "spikes")
    log_rate: Tensor

    def __init__(
        self, latents: int, low: float = -6.0, high: float = -4.0, learned: bool = True, indicator: str = "cubic"
    ) -> None:
        super().__init__(latents)
        low, high = check_finite("low", low), check_finite("high", high)
        if low > high:
            raise InputError(f"low is {low} and high {high}; expected log-rates with low ≤ high: swap them")
        check_choice("indicator", indicator, INDICATORS)
        self.indicator = indicator
        start = torch.rand(latents) if learned else torch.full((latents,), 0.5)
        self._own("log_rate", low + (high - low) * start, learned)

    def posterior(self, u: Tensor, temperature: float = 0.0) -> RelaxedPoisson:
        return RelaxedPoisson(u, temperature, self.indicator)

    def forward(self) -> RelaxedPoisson:
        return self.posterior(self.log_rate)


class LocationScalePrior(Prior):
    """p(z) = Π_k p(z_k; m_k, S_k), location 0 and scale 1, or learned from there. Subclasses name the family."""

    family: type[LocationScale]

    def __init__(self, latents: int, learned: bool = False) -> None:
        super().__init__(latents)
        self._own("location", torch.zeros(latents), learned)
        self._own("log_scale", torch.zeros(latents), learned)

    @property
    def capabilities(self) -> frozenset[str]:
        return frozenset({f"{self.family.__name__} family", "variational posterior"})

    def posterior(self, u: Tensor, temperature: float = 0.0) -> LocationScale:
        return self.family(u)

    def forward(self) -> LocationScale:
        return self.family(torch.cat([self.location, self.log_scale]))  # pyright: ignore[reportArgumentType]


class GaussianPrior(LocationScalePrior):
    """p(z) = N(m, diag S²), or the law of relu(y) or e^y for such a y.

    Args:
        latents: K.
        learned: learn m and log S (K,) from 0; fixed there otherwise.
        activation: "none", "relu" or "exp".
    """

    dense_optimum = True

    def __init__(self, latents: int, learned: bool = False, activation: str = "none") -> None:
        super().__init__(latents, learned)
        check_choice("activation", activation, ACTIVATIONS)
        self.activation = activation
        self.family = ACTIVATIONS[activation]

    @property
    def name(self) -> str:
        return "gaussian" if self.activation == "none" else f"gaussian-{self.activation}"

    @property
    def capabilities(self) -> frozenset[str]:
        """Without an activation the best posterior has a closed form."""
        return super().capabilities | ({"certifiable optimum"} if self.family is Gaussian else set())


class LaplacePrior(LocationScalePrior):
    """p(z) = Π_k Laplace(m_k, S_k).

    Args:
        latents: K.
        learned: learn m and log S (K,) from 0; fixed there otherwise.
    """

    family = Laplace


class CategoricalPrior(Prior):
    """p(z) = softmax(logits) over one-hot z.

    Args:
        latents: K.
        learned: learn the logits (K,) from 0; uniform otherwise.
    """

    capabilities = frozenset({"Categorical family", "variational posterior", "certifiable optimum"})  # pyright: ignore
    logits: Tensor

    def __init__(self, latents: int, learned: bool = False) -> None:
        super().__init__(latents)
        self._own("logits", torch.zeros(latents), learned)

    def posterior(self, u: Tensor, temperature: float = 0.0) -> Categorical:
        return Categorical(u, temperature)

    def forward(self) -> Categorical:
        return self.posterior(self.logits)


class SparsityPrior(Prior):
    """p(a) ∝ exp(−Σ_k C(a_k)) with the threshold θ of the cost, which is not learned.

    Args:
        latents: K.
        threshold: θ > 0.
        signed: coefficients of any sign.
        hard: the hard threshold (see `SparsityCost`).
    """

    name = "sparse code"  # pyright: ignore[reportAssignmentType]
    threshold: Tensor
    symbol = "E"
    terms = ("energy", "sparsity cost", "Σ|a|")
    unit = ""

    def __init__(self, latents: int, threshold: float, signed: bool = False, hard: bool = False) -> None:
        super().__init__(latents)
        threshold = check_positive("threshold", threshold, ", in units of the data")
        self.signed = signed
        self.hard = hard
        self.register_buffer("threshold", torch.tensor(threshold))

    @property
    def capabilities(self) -> frozenset[str]:
        """A hard threshold has a cost that is not convex, so its optimum cannot be proved."""
        return frozenset(
            {"Poisson family or sparse coding"}
            if self.hard
            else {"Poisson family or sparse coding", "certifiable optimum"}
        )

    def posterior(self, u: Tensor, temperature: float = 0.0) -> SparseCode:
        """The sparse code with these membrane potentials (B, K); nothing is drawn, at any temperature."""
        return SparseCode(u, self())

    def forward(self) -> SparsityCost:
        """The cost, over K coefficients."""
        return SparsityCost(self.latents, self.threshold, self.signed, self.hard)
