"""The marginal likelihood by importance weighting, and so the approximation gap F* − (−log p(x)).

Burda, Grosse & Salakhutdinov (2016), "Importance weighted autoencoders": with z_s ~ q and w_s =
p(x, z_s)/q(z_s),

    L_K = −E log( (1/K) Σ_{s ≤ K} w_s )  ≥  −log p(x),      falling to it as K grows.

The proposal q is the posterior of least free energy; samples are integer counts. The normalizer of
the Gaussian is left out where σ² is fixed, as it is from the free energy.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from itervae.arguments import check_kind, check_seed
from itervae.distributions import RelaxedPoisson
from itervae.errors import InputError
from itervae.inference.checks import as_data
from itervae.model import GenerativeModel, PoissonPrior
from itervae.showing import Shown

SAMPLES = (1, 10, 100, 1000, 5000)
ELEMENTS = 1 << 24
"""Counts drawn at once."""


@dataclass(frozen=True, repr=False)
class MarginalReport(Shown):
    """Bounds of −log p(x), nats: for each number of samples K the mean over data, its standard
    error over data, and the standard error over replicates (independent groups of K samples for the
    same data; NaN where there is one group)."""

    samples: list[int]
    bound_mean: list[float]
    bound_se: list[float]
    replicate_se: list[float]


@torch.no_grad()
def marginal_likelihood(
    model: GenerativeModel,
    x: Tensor,
    posterior: RelaxedPoisson,
    samples: Sequence[int] = SAMPLES,
    seed: int = 0,
    advance: Callable[[int], None] = lambda count: None,
) -> tuple[MarginalReport, Tensor]:
    """Importance-weighted bounds of −log p(x).

    Args:
        model: a generative model with β = 1; −log p(x) is no bound of the free energy at another β.
        x: data (N, D).
        posterior: proposal, batch shape (N, K).
        samples: numbers of samples K, increasing; the last is the number drawn per datum, and
            smaller K are averaged over all the groups that it has room for.
        seed: of the counts.
        advance: called with the number of data done.

    Returns:
        The report, and the bounds per datum (len(samples), N).

    Raises:
        InputError: β is not 1, or sample numbers that do not increase.
    """
    model, x, precision = as_data(model, x)
    check_kind("posterior", posterior, RelaxedPoisson, "a distribution: infer(model, engine, x).posterior")
    check_kind("samples", samples, Sequence, f"increasing numbers from 1, such as ({samples},)")
    check_seed(seed)
    if not isinstance(model.prior, PoissonPrior):
        raise InputError(f"the model has a {type(model.prior).__name__}; expected one of the Poisson family")
    if model.beta.item() != 1:
        raise InputError(
            f"the model has beta {model.beta.item():g}; the approximation gap exists only at beta 1: leave it out"
        )
    samples = list(samples)
    if not samples or samples[0] < 1 or samples != sorted(set(samples)):
        raise InputError(f"samples are {samples}; expected increasing numbers from 1")
    generator = torch.Generator(x.device).manual_seed(seed)
    at_once = max(1, ELEMENTS // (samples[-1] * model.latents))
    log_weights = []  # (S, N)
    for rows in torch.arange(len(x), device=x.device).split(at_once):
        known = precision[rows] if precision is not None else None
        log_weights.append(_log_weights(model, x[rows], known, posterior.log_rate[rows], samples[-1], generator))
        advance(len(rows))
    weights = torch.cat(log_weights, 1).double()

    bounds, errors, replicates = [], [], []
    for number in samples:
        groups = weights.shape[0] // number
        grouped = weights[: groups * number].unflatten(0, (groups, number))
        bound = -(grouped.logsumexp(1) - math.log(number))  # (groups, N)
        bounds.append(bound.mean(0))
        errors.append(bounds[-1].std().item() / len(x) ** 0.5 if len(x) > 1 else math.nan)
        replicates.append(bound.mean(1).std().item() / groups**0.5 if groups > 1 else math.nan)
    means = [bound.mean().item() for bound in bounds]
    return MarginalReport(samples, means, errors, replicates), torch.stack(bounds)


def _log_weights(
    model: GenerativeModel,
    x: Tensor,
    precision: Tensor | None,
    log_rate: Tensor,
    count: int,
    generator: torch.Generator,
) -> Tensor:
    """log p(x, z) − log q(z) (S, B) for S = `count` draws z ~ q; the factorials cancel."""
    prior = model.prior().log_rate.to(log_rate.dtype)  # pyright: ignore[reportAttributeAccessIssue]
    normalizer = (log_rate.exp() - prior.exp()).sum(-1)
    pieces = []
    step = max(1, ELEMENTS // log_rate.numel())
    for first in range(0, count, step):
        z = RelaxedPoisson(log_rate).sample((min(step, count - first),), generator=generator)
        likelihood = -model.likelihood.negative_log_likelihood(x, model.output(z), precision)
        pieces.append(likelihood + (z * (prior - log_rate)).sum(-1) + normalizer)
    return torch.cat(pieces)
