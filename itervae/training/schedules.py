"""Schedules of a run, as functions of its progress in [0, 1]: the published ones, in time instead
of epochs."""

import math
from dataclasses import dataclass

WARM_UP = 0.01
"""Share of the run over which the learning rate rises."""
FINAL_LR = 1e-5
"""Learning rate at the end of the run."""
START_TEMPERATURE, TEMPERATURE_RAMP = 1.0, 0.5
"""Temperature at the start of the run, and share of the run over which it falls."""
START_BETA = 1e-4
"""Share of its value that β starts a ramp at."""


@dataclass(frozen=True)
class Schedule:
    """Learning rate, β and temperature at a point of the run.

    lr: linear warm-up over the first 1%, then half a cosine down to 1e-5. β: linear from a
    ten-thousandth over the first `beta_ramp` of the run. τ: linear from 1 over the first half.
    """

    lr: float
    beta: float
    beta_ramp: float
    temperature: float

    def lr_at(self, progress: float) -> float:
        """Learning rate."""
        if progress < WARM_UP:
            return self.lr * (progress / WARM_UP * 0.99 + 0.01)
        down = 0.5 * (1 + math.cos(math.pi * min(1.0, (progress - WARM_UP) / (1 - WARM_UP))))
        return min(self.lr, FINAL_LR) + max(0.0, self.lr - FINAL_LR) * down

    def beta_at(self, progress: float) -> float:
        """Weight of the KL."""
        if progress >= self.beta_ramp:
            return self.beta
        return self.beta * (START_BETA + (1 - START_BETA) * progress / self.beta_ramp)

    def temperature_at(self, progress: float) -> float:
        """Temperature of relaxed samples."""
        done = min(1.0, progress / TEMPERATURE_RAMP)
        return START_TEMPERATURE + (self.temperature - START_TEMPERATURE) * done
