"""The figures of `itervae figure` by name. A new one is a file here and a line below."""

from itervae.cli.figures.base import Figure, FigureOf
from itervae.cli.figures.gap_distribution import GapDistribution
from itervae.cli.figures.gap_steps import GapSteps
from itervae.cli.figures.kl_residual import KLResidual
from itervae.cli.figures.rate_distortion import RateDistortion
from itervae.cli.figures.relaxed_poisson import RelaxedPoisson
from itervae.cli.figures.training import Training

FIGURES: dict[str, type[Figure]] = {
    "gap-steps": GapSteps,
    "gap-distribution": GapDistribution,
    "rate-distortion": RateDistortion,
    "training": Training,
    "kl-residual": KLResidual,
    "relaxed-poisson": RelaxedPoisson,
}

__all__ = ["FIGURES", "Figure", "FigureOf"]
