"""The Gumbel-softmax relaxation of a choice, and of a Poisson count as a choice among 0 … M.

Jang, Gu & Poole (2017), "Categorical reparameterization with Gumbel-softmax"; Maddison, Mnih & Teh
(2017), "The concrete distribution". For counts: Joo et al. (2020), "Generalized Gumbel-softmax
gradient estimator".
"""

import torch
from torch import Tensor

from itervae.errors import InputError

MOST = 1 << 28
"""Largest number of relaxed choices at once, 1 GiB for each of the tensors of float32 that it
takes."""
TAIL = 1e-6
"""Largest probability of a count beyond the support, at the largest rate."""


def gumbel_softmax(
    logits: Tensor, temperature: float, generator: torch.Generator | None = None, hard: bool = False
) -> Tensor:
    """softmax((logits + g)/τ) over the last dimension, g Gumbel noise: relaxed one-hots.

    Args:
        logits: (..., K), up to a constant.
        temperature: τ ≥ 0; at 0 one-hots without gradient.
        generator: source of randomness.
        hard: the one-hot of the largest entry, with the gradient of the relaxed one.
    """
    noise = torch.empty_like(logits, requires_grad=False).exponential_(generator=generator)
    scores = logits - noise.clamp_min(torch.finfo(logits.dtype).tiny).log()
    if temperature == 0:
        return _one_hot(scores)
    relaxed = (scores / temperature).softmax(-1)
    return _one_hot(scores) + (relaxed - relaxed.detach()) if hard else relaxed


def gumbel_poisson_sample(log_rate: Tensor, temperature: float, generator: torch.Generator | None = None) -> Tensor:
    """A relaxed Poisson count Σ_m m·y_m, y the relaxed choice among the counts m = 0 … M with their
    probabilities.

    M, which is itself a possible count, is the smallest for which P(z > M) < 1e-6 at the largest
    rate; the law of the count is the Poisson law cut there. Memory O(units · M).

    Args:
        log_rate: log λ, any shape.
        temperature: τ > 0.
        generator: source of randomness.

    Raises:
        InputError: more choices than memory is likely to hold.
    """
    size = support_size(log_rate)
    if size * log_rate.numel() > MOST:
        raise InputError(
            f"gumbel-softmax would hold {size} counts for each of {log_rate.numel()} units, as the largest rate is "
            f"{log_rate.detach().amax().exp().item():.0f}; use a smaller batch, or estimator eat"
        )
    counts = torch.arange(size, dtype=log_rate.dtype, device=log_rate.device)
    logits = counts * log_rate[..., None] - torch.lgamma(counts + 1)
    return gumbel_softmax(logits, temperature, generator) @ counts


def support_size(log_rate: Tensor) -> int:
    """M + 1, the number of counts with P(z > M) < 1e-6 at the largest of the rates."""
    if not log_rate.numel():
        return 1
    rate = log_rate.detach().amax().double().exp()
    last = int(rate + 8 * rate.sqrt()) + 16  # beyond the place looked for
    m = torch.arange(last, dtype=torch.float64, device=rate.device)
    beyond = torch.special.gammainc(m + 1, rate)  # P(z > m)
    return int((beyond >= TAIL).sum().item()) + 1


def _one_hot(scores: Tensor) -> Tensor:
    return torch.zeros_like(scores).scatter_(-1, scores.argmax(-1, keepdim=True), 1.0).detach()
