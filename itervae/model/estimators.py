"""Estimators of the reconstruction term E_q[−log p(x | z)] and of its gradient in the posterior's
parameters.

    exact            closed form: a linear decoder under a Gaussian likelihood, any family
    eat              Poisson: exponential arrival times, soft counts (Vafaii, Galor & Yates 2024)
    straight-through Poisson, categorical: integer samples forward, the relaxed gradient backward
    gumbel-softmax   Poisson, categorical: a relaxed choice (Jang, Gu & Poole 2017)
    pathwise         Gaussian, Laplace: samples differentiable as they are (Kingma & Welling 2014)
    score            Poisson, categorical: integer samples, unbiased (Williams 1992), with the mean
                     of the others as the baseline of each (Kool, van Hoof & Welling 2019)

All but `exact` are means over `samples` draws. The KL has a closed form and is no part of this.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from itervae.distributions import Family, PriorDistribution
from itervae.errors import InputError
from itervae.model.likelihood import GaussianLikelihood, Likelihood
from itervae.model.operators import LinearOperator
from itervae.model.precision import full_precision


def estimators_of(family: type[Family], exact: bool) -> tuple[str, ...]:
    """The estimators that a family has, the default first; `exact` where the model has a closed
    form."""
    return (("exact",) if exact else ()) + family.relaxations + (("score",) if family.discrete else ())


@full_precision
def exact_terms(
    operator: LinearOperator, likelihood: GaussianLikelihood, x: Tensor, posterior: Family, prior: PriorDistribution
) -> tuple[Tensor, Tensor]:
    """The closed form of the reconstruction term (B,), without the normalizer, and the KL (B,), of
    data and operator in units in which all values have one variance (`GenerativeModel.observed`):

    E‖x − Φz‖²/2σ² = (‖x − Φμ‖² + tr(Φ Cov z Φᵀ))/2σ²
    """
    mean, spread, kl = posterior.moments(prior, operator.atom_norms())
    error = operator.misfit(x, mean) + spread
    if posterior.event_shape:  # of a one-hot the covariance is diag(p) − ppᵀ
        error = error - operator.forward(mean).square().sum(-1)
    return error / (2 * likelihood.common(mean.dtype)), kl


def sampled_reconstruction(
    output: Callable[[Tensor], Tensor],
    likelihood: Likelihood,
    x: Tensor,
    posterior: Family,
    estimator: str,
    samples: int,
    generator: torch.Generator | None,
    precision: Tensor | None = None,
) -> Tensor:
    """The mean of −log p(x | z) over draws of the posterior (B,), with the gradient of the named
    estimator."""
    if estimator == "score":
        if samples < 2:
            raise InputError(f"samples is {samples}; the score estimator needs at least 2, each a baseline of the rest")
        z = posterior.sample((samples,), generator=generator)
    else:
        z = posterior.rsample((samples,), generator, relaxation=estimator)  # pyright: ignore
    values = likelihood.negative_log_likelihood(x, output(z), precision)  # (S, B)
    if estimator != "score":
        return values.mean(0)
    log_prob = posterior.log_prob(z)
    if log_prob.ndim == z.ndim:  # factorized families
        log_prob = log_prob.sum(-1)
    with torch.no_grad():
        advantage = (values - values.mean(0)) * (samples / (samples - 1))  # against the mean of the others
    # the value is the mean; ∇ log q enters the gradient alone
    return (values + advantage * (log_prob - log_prob.detach())).mean(0)
