"""One member of each family of posterior, and a linear model for each, for any test."""

import math

import numpy as np
import torch
from scipy.stats import chisquare

from itervae.distributions import (
    Categorical,
    Family,
    Gaussian,
    Laplace,
    LogNormal,
    RectifiedGaussian,
    RelaxedPoisson,
)
from itervae.model import (
    CategoricalPrior,
    GaussianLikelihood,
    GaussianPrior,
    GenerativeModel,
    LaplacePrior,
    LinearDecoder,
    PoissonPrior,
    Prior,
)

FAMILIES: dict[str, type[Family]] = {
    "gaussian": Gaussian,
    "rectified": RectifiedGaussian,
    "log-normal": LogNormal,
    "laplace": Laplace,
    "categorical": Categorical,
    "poisson": RelaxedPoisson,
}
LOCATION_SCALE = ("gaussian", "rectified", "log-normal", "laplace")


def output_variance(q: Family, dictionary: torch.Tensor) -> torch.Tensor:
    """The trace of the covariance of Φz (B,)."""
    mean, spread, _ = q.moments(q, dictionary.square().sum(0))
    return spread - (mean @ dictionary.mT).square().sum(-1) if isinstance(q, Categorical) else spread


def prior_of(name: str, latents: int, learned: bool = False) -> Prior:
    """The prior of that family."""
    if name == "poisson":
        return PoissonPrior(latents, -1.0, 0.0, learned)
    if name == "laplace":
        return LaplacePrior(latents, learned)
    if name == "categorical":
        return CategoricalPrior(latents, learned)
    return GaussianPrior(latents, learned, {"gaussian": "none", "rectified": "relu", "log-normal": "exp"}[name])


def parameters(name: str, *shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """Moderate parameters u of a family over z of this shape: scales from about .2 to .8, rates
    from about .2 to 5."""
    draw = seeded(seed)
    first = torch.randn(shape, generator=draw, dtype=torch.float64)
    if name not in LOCATION_SCALE:
        return first.to(dtype)
    log_scale = -0.9 + 0.4 * torch.rand(shape, generator=draw, dtype=torch.float64).mul(2).sub(1)
    return torch.cat([0.7 * first, log_scale], -1).to(dtype)


def linear_model_of(name: str, size: int = 10, latents: int = 6, variance: float = 0.8) -> GenerativeModel:
    """A linear model of that family, float64, with atoms of norms from about .3 to 2 and this
    observation variance."""
    model = GenerativeModel(
        prior_of(name, latents), LinearDecoder(size, latents), GaussianLikelihood(variance), (size,)
    ).double()
    atoms = torch.randn(size, latents, generator=seeded(1), dtype=torch.float64) / math.sqrt(size)
    with torch.no_grad():
        model.dictionary.copy_(atoms * torch.linspace(0.3, 2, latents))
    return model


def seeded(seed: int = 0) -> torch.Generator:
    """A generator that starts at this seed."""
    return torch.Generator().manual_seed(seed)


def assert_mean(draws: torch.Tensor, expected: torch.Tensor, errors: float = 4, floor: float = 1e-9) -> None:
    """The mean over the first dimension is `expected`, within this many standard errors, estimated
    from the draws."""
    draws = draws.detach().double()
    error = draws.std(0) / math.sqrt(len(draws))
    away = (draws.mean(0) - expected.detach()).abs()
    assert (away <= errors * error + floor).all(), f"{(away / error).max():.1f} standard errors away"


def p_value(counts: torch.Tensor, probabilities: np.ndarray) -> float:
    """Chi-square test of integers 0, 1, … against their probabilities, which sum to 1.

    Cells of fewer than 10 expected are joined, from either end.
    """
    seen = np.bincount(counts.long().numpy(), minlength=len(probabilities)).astype(float)
    assert len(seen) == len(probabilities), f"a count of {int(counts.max())}, beyond the last"
    expected = len(counts) * probabilities / probabilities.sum()
    while expected[0] < 10:
        seen, expected = (np.concatenate([[a[0] + a[1]], a[2:]]) for a in (seen, expected))
    while expected[-1] < 10:
        seen, expected = (np.concatenate([a[:-2], [a[-2] + a[-1]]]) for a in (seen, expected))
    return float(chisquare(seen, expected).pvalue)
