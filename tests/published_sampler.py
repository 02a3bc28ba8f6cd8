"""The published sampler of relaxed Poisson counts, written plainly: the reference of the tests and
of the benchmark.

Vafaii, Galor & Yates (2024), "Poisson variational autoencoder": draw `n_exp` exponential
inter-arrival times for every unit, add them up to arrival times t_i, and count softly, z = Σ_i s((1
− t_i) / τ). Gradients are those of autograd through the rate. Nothing here is shared with
`itervae.distributions`.
"""

import math

import torch
from torch import Tensor


def _smoothstep(v: Tensor) -> Tensor:
    u = (0.5 * v + 0.5).clamp(0, 1)
    return u * u * (3 - 2 * u)


SOFT_INDICATORS = {"cubic": _smoothstep, "sigmoid": torch.sigmoid}
"""s(v): 0 far below v = 0, 1 far above."""

REACH = {"cubic": 1.0, "sigmoid": 20.0}
"""s(v) is below 3e-9 for v < −REACH: arrivals after 1 + REACH·τ do not count."""


def published_sample(
    log_rate: Tensor,
    temperature: float,
    indicator: str = "cubic",
    *,
    n_exp: int,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draw relaxed counts z from the first `n_exp` arrivals of every unit; the shape of
    `log_rate`."""
    waiting = torch.empty((n_exp, *log_rate.shape), dtype=log_rate.dtype, device=log_rate.device)
    waiting = waiting.exponential_(generator=generator)
    times = (waiting / log_rate.exp()).cumsum(0)  # (n_exp, *shape)
    return SOFT_INDICATORS[indicator]((1 - times) / temperature).sum(0)


def published_n_exp(max_rate: float, p: float = 1e-3) -> int:
    """The published rule: the 1 − p quantile of a Poisson count at the largest rate of the batch.

    p = 1e-3 is the published default. Arrivals after t = 1 count too (up to 1 + REACH·τ), so the
    rule truncates.
    """
    return max(1, _poisson_quantile(max_rate, p))


def sufficient_n_exp(max_rate: float, temperature: float, indicator: str = "cubic", p: float = 1e-9) -> int:
    """Enough arrivals for a sample without truncation: all that count are drawn, but for a
    probability p per unit."""
    return max(1, _poisson_quantile(max_rate * (1 + REACH[indicator] * temperature), p))


def _poisson_quantile(mean: float, p: float) -> int:
    """The smallest n with P(N > n) ≤ p, N ~ Poisson(mean)."""
    n = torch.arange(math.ceil(mean + 10 * math.sqrt(mean) + 30), dtype=torch.float64)
    beyond = torch.special.gammainc(n + 1, torch.full_like(n, mean))  # P(N ≥ n + 1)
    return int((beyond > p).sum())
