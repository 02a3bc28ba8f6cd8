"""Poisson counts, with learned rates (Vafaii, Galor & Yates 2024, "Poisson variational
autoencoder")."""

from typing import Any

import torch
from torch import Tensor

from itervae.arguments import as_number, check_choice, check_finite
from itervae.distributions import INDICATORS, RelaxedPoisson
from itervae.errors import InputError, described
from itervae.model.prior import Prior

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
        latents: K, or the number of maps of a convolutional dictionary.
        low, high: log-rates start uniform in [low, high]; (−6, −4) is the P-VAE's choice for a
            linear decoder.
        learned: learn log r (K,), as published; a fixed one is (low + high)/2 for every unit.
        indicator: the soft indicator of relaxed counts, "cubic" or "sigmoid".
        places: of each map, which share its rate.
    """

    capabilities = frozenset(
        {"Poisson family", "variational posterior", "Poisson family or sparse coding", "certifiable optimum"}
    )  # pyright: ignore
    terms = ("free energy", "KL", "spikes")
    log_rate: Tensor

    def __init__(
        self,
        latents: int,
        low: float = -6.0,
        high: float = -4.0,
        learned: bool = True,
        indicator: str = "cubic",
        places: int = 1,
    ) -> None:
        super().__init__(latents, places)
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
        return self.posterior(self.everywhere(self.log_rate))
