"""The posterior of least free energy, with a proof.

For a linear decoder under a Gaussian likelihood F is strictly convex in the rates, so its minimizer is unique; the gap
to the Fenchel dual bounds, per datum, what is left to gain (`PoissonEnergy.certificate`).
"""

from dataclasses import dataclass

import torch

from itervae.errors import InputError
from itervae.inference.ista import FISTAUnrolled


@dataclass
class OptimalSettings:
    """Settings of `optimal`."""

    steps: int = 5000
    """Largest number of inference steps."""
    tolerance: float = 1e-6
    """Certificate in nats at which a datum is finished."""


class Optimal(FISTAUnrolled):
    """The certified optimum: proximal steps in float64 until each datum's duality gap is below the tolerance.

    `Inference.stats["certificate"]` holds what was reached. Data that need more than `steps` steps are returned with a
    larger certificate, never silently.
    """

    Settings = OptimalSettings
    dtype = torch.float64

    def __init__(self, steps: int = 5000, tolerance: float = 1e-6) -> None:
        super().__init__(steps)
        if not tolerance > 0:
            raise InputError(f"tolerance is {tolerance}; expected a positive number of nats")
        self.tolerance = tolerance
