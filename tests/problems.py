"""Models and data with known answers, for any test."""

import torch

from itervae.inference import ENGINES, Engine
from itervae.model import (
    GaussianLikelihood,
    GenerativeModel,
    LinearDecoder,
    PoissonPrior,
    PoissonVAESettings,
    build_model,
)


def linear_model(
    dictionary: torch.Tensor, log_rate: float | torch.Tensor = -3.0, variance: float = 0.5, beta: float = 1.0
) -> GenerativeModel:
    """A linear Poisson model with this dictionary (D, K)."""
    size, latents = dictionary.shape
    model = GenerativeModel(
        PoissonPrior(latents), LinearDecoder(size, latents), GaussianLikelihood(variance), (size,), beta
    ).to(dictionary.dtype)
    with torch.no_grad():
        model.dictionary.copy_(dictionary)
        model.prior.log_rate.copy_(torch.as_tensor(log_rate))
    return model


def random_model(size: int = 64, latents: int = 128, seed: int = 0, **settings) -> GenerativeModel:
    """A linear model with Gaussian atoms of about unit norm, float64."""
    generator = torch.Generator().manual_seed(seed)
    dictionary = torch.randn(size, latents, generator=generator, dtype=torch.float64) / size**0.5
    return linear_model(dictionary, **settings)


def random_data(model: GenerativeModel, count: int, seed: int = 1, scale: float = 2.0) -> torch.Tensor:
    """Gaussian data (count, D) in the model's precision."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, model.size, generator=generator, dtype=torch.float64)
    return (scale * x).to(model.beta.dtype)


def any_model(decoder: str = "linear", likelihood: str = "gaussian", latents: int = 24) -> GenerativeModel:
    """A small untrained model on 8×8 images."""
    return build_model(PoissonVAESettings(latents=latents, decoder=decoder, likelihood=likelihood), (8, 8))  # type: ignore


def build_engine(name: str, model: GenerativeModel) -> Engine:
    """The engine of that name with its default settings."""
    torch.manual_seed(0)
    kind = ENGINES[name]
    return kind.build(kind.Settings(), model, model.shape).to(model.beta.dtype)
