"""The figure `relaxed-poisson`: samples of relaxed spike counts."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from itervae.arguments import check_whole
from itervae.cli.figures.base import Figure
from itervae.distributions.registry import MAX_LOG_RATE
from itervae.errors import InputError
from itervae.plotting import relaxed_poisson_figure

if TYPE_CHECKING:
    import matplotlib.figure


@dataclass(kw_only=True)
class RelaxedPoisson(Figure):
    """Relaxed Poisson samples at several temperatures."""

    rate: float = 3.0
    """Rate of the samples, spikes."""
    temperatures: tuple[float, ...] = (0.02, 0.05, 0.1, 0.5, 1.0)
    """Temperatures, one panel each."""
    num: int = 20000
    """Number of draws at each temperature."""
    seed: int = 0
    """Seed of the draws."""

    def check(self) -> None:
        if not 0 < self.rate <= math.exp(MAX_LOG_RATE):
            most = int(math.exp(MAX_LOG_RATE))
            raise InputError(f"--rate is {self.rate:g}; expected a positive number of spikes, at most {most}")
        check_whole("--num", self.num, 1)
        for temperature in self.temperatures:
            if not 0 < temperature < math.inf:
                raise InputError(f"--temperatures has {temperature}; expected positive numbers, such as 0.1")
        if not self.temperatures:
            raise InputError("--temperatures was given no value; expected positive numbers, such as 0.1")

    def draw(self) -> "matplotlib.figure.Figure":
        import torch

        from itervae.distributions import RelaxedPoisson as Relaxed

        generator = torch.Generator().manual_seed(self.seed)
        log_rate = torch.full((self.num,), math.log(self.rate))
        samples = {
            temperature: Relaxed(log_rate, temperature).rsample(generator=generator).numpy()
            for temperature in self.temperatures
        }
        return relaxed_poisson_figure(samples, self.rate)
