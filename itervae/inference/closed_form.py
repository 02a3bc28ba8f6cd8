"""The posterior of least free energy where it can be written down: Gaussian and categorical posteriors.

Linear decoder x̂ = Φz, Gaussian likelihood of variance σ², KL weighted by β > 0. F is that of the factorized Gaussian or
of the one-hot z, in nats per datum, without the normalizer of the likelihood; c_k = ‖φ_k‖².
"""

import torch
from jaxtyping import Float
from torch import Tensor

from itervae.errors import InputError


def gaussian_optimum(
    x: Float[Tensor, "batch size"],
    dictionary: Float[Tensor, "size latents"],
    *,
    observation_variance: float,
    beta: float,
    prior_mean: Float[Tensor, " latents"],
    prior_variance: Float[Tensor, " latents"],
) -> tuple[Float[Tensor, "batch latents"], Float[Tensor, " latents"]]:
    """The best factorized Gaussian posterior N(μ, diag v) under the prior N(m, diag S):

        F = (‖x − Φμ‖² + c·v) / 2σ² + β Σ_k ½((v_k + (μ_k − m_k)²)/S_k − 1 + log S_k − log v_k)
        v = 1 / (1/S + c/βσ²),      μ = (ΦᵀΦ/σ² + βS⁻¹)⁻¹ (Φᵀx/σ² + βS⁻¹m)

    Args:
        x: data (B, D).
        dictionary: Φ (D, K).
        observation_variance: σ² > 0, squared units of x.
        beta: β > 0.
        prior_mean: m (K,).
        prior_variance: S (K,), positive.

    Returns:
        μ (B, K) and v (K,), the same for all data.

    Raises:
        InputError: a variance or β that is not positive.
    """
    _positive(observation_variance, "observation_variance")
    _positive(beta, "beta")
    _positive(prior_variance.min().item(), "the smallest prior variance")
    precision = beta / prior_variance
    variance = 1 / (1 / prior_variance + dictionary.square().sum(0) / (beta * observation_variance))
    hessian = dictionary.mT @ dictionary / observation_variance + torch.diag(precision)
    right = x @ dictionary / observation_variance + precision * prior_mean
    mean = torch.cholesky_solve(right.mT, torch.linalg.cholesky(hessian)).mT
    return mean, variance


def categorical_optimum(
    x: Float[Tensor, "batch size"],
    dictionary: Float[Tensor, "size latents"],
    *,
    observation_variance: float,
    beta: float,
    prior_logits: Float[Tensor, " latents"],
) -> tuple[Float[Tensor, "batch latents"], Float[Tensor, " batch"]]:
    """The best categorical posterior p of a one-hot z under the prior π = softmax(logits), and F* (B,):

        F = Σ_k p_k ‖x − φ_k‖² / 2σ² + β Σ_k p_k log(p_k / π_k)
        p ∝ π·exp(−‖x − φ_k‖²/2σ²β),      F* = −β log Σ_k π_k exp(−‖x − φ_k‖²/2σ²β)

    Args:
        x: data (B, D).
        dictionary: Φ (D, K).
        observation_variance: σ² > 0, squared units of x.
        beta: β > 0.
        prior_logits: log π (K,), up to a constant.

    Returns:
        log p (B, K) and F* (B,).

    Raises:
        InputError: a variance or β that is not positive.
    """
    _positive(observation_variance, "observation_variance")
    _positive(beta, "beta")
    squares = x.square().sum(-1, keepdim=True) - 2 * x @ dictionary + dictionary.square().sum(0)
    scores = prior_logits.log_softmax(0) - squares / (2 * observation_variance * beta)
    return scores.log_softmax(-1), -beta * scores.logsumexp(-1)


def _positive(value: float, name: str) -> None:
    if not value > 0:
        raise InputError(f"{name} is {value}; expected a positive number")
