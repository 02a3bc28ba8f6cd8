"""One-shot amortized inference: the published Poisson VAE.

Vafaii, Galor & Yates (2024): log λ = log r + encoder(x), the encoder giving the residual log δr on the prior.
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from itervae.inference.base import Engine, Problem
from itervae.inference.encoders import build_encoder
from itervae.inference.state import State
from itervae.model import GenerativeModel

CLAMP = 5.0
"""Log-rates above this are bent: 5 + tanh(u − 5), so that no rate exceeds e^6."""


@dataclass
class AmortizedSettings:
    """Settings of `amortized`."""

    encoder: Literal["linear", "mlp", "conv"] = "linear"
    """Encoder from x to log δr."""


def soft_clamp(log_rate: Tensor) -> Tensor:
    """u where u ≤ 5, else 5 + tanh(u − 5): slope and curvature continuous, below 6 everywhere."""
    excess = (log_rate - CLAMP).clamp_min(0)
    return log_rate.clamp_max(CLAMP) + torch.tanh(excess)


class Amortized(Engine):
    """One pass of an encoder that gives the residual log δr on the prior.

    log λ = soft_clamp(log r + encoder(x)). The clamp is applied once, so KL and sample see the same rates;
    `stats["clamped"]` counts, per datum, the units that hit it.
    """

    requires = frozenset({"Poisson family"})
    learned = True
    Settings = AmortizedSettings

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    @classmethod
    def build(cls, settings: Any, model: GenerativeModel, shape: tuple[int, ...]) -> "Amortized":
        return cls(build_encoder(settings.encoder, shape, model.latents))

    def init(self, problem: Problem, state: State | None) -> State:
        weight = next(self.encoder.parameters())
        log_rate = problem.start() + self.encoder(problem.x.to(weight.dtype)).to(problem.x.dtype)
        clamped = (log_rate.detach() > CLAMP).sum(-1)
        log_rate = soft_clamp(log_rate)
        return State(log_rate, counts={"clamped": clamped})
