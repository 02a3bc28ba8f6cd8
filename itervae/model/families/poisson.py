"""Poisson counts, with learned rates (Vafaii, Galor & Yates 2024, "Poisson variational
autoencoder")."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from torch import Tensor

from itervae.arguments import OneOf, as_number, check_choice, check_finite
from itervae.distributions import RelaxedPoisson
from itervae.distributions.arrivals import INDICATORS
from itervae.errors import InputError, described
from itervae.model.prior import Prior, VAESettings

LOG_RATES = (-30.0, 5.0)
"""Least and largest prior log-rate that can be set, in nats."""


def check_log_rate(name: str, value: Any) -> float:
    """The log-rate, refused where it is no number between `LOG_RATES`."""
    low, high = LOG_RATES
    number = as_number(value)
    if number is None or not low <= number <= high:
        raise InputError(f"{name} is {described(value)}; expected a log-rate from {low:g} to {high:g}")
    return number


class PoissonPrior(Prior):
    """p(z) = Π_k Pois(z_k; r_k).

    Args:
        latents: K.
        low, high: log-rates start uniform in [low, high]; (−6, −4) is the P-VAE's choice for a
            linear decoder.
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
    """Soft indicator of relaxed counts (--estimator eat and straight-through), by default cubic;
    sigmoid is the first published one."""

    def build_prior(self) -> Prior:
        start = self.start_log_rate
        if start is None:
            start = -5.0 if self.linear else -1.0
        check_log_rate("start_log_rate", start)
        return PoissonPrior(self.latents, start - 1, start + 1, self.prior == "learned", self.indicator or "cubic")
