"""Closed-form optima against the free energy written out with torch.distributions, its gradient and its convexity."""

import pytest
import torch
from torch.distributions import Categorical, Normal, kl_divergence

from itervae import InputError
from itervae.inference import categorical_optimum, gaussian_optimum


def draw(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


X, PHI = 2 * draw(5, 8, seed=0), draw(8, 12, seed=1)


@pytest.mark.parametrize("beta", [0.3, 1.0, 4.0])
def test_gaussian(beta):
    prior = Normal(draw(12, seed=2), draw(12, seed=3).exp())

    def free_energy(mean, variance):
        """E‖x − Φz‖² by its mean and its spread."""
        squares = (X - mean @ PHI.mT).square().sum(-1) + (variance * PHI.square().sum(0)).sum(-1)
        return squares / (2 * 0.7) + beta * kl_divergence(Normal(mean, variance.sqrt()), prior).sum(-1)

    mean, variance = gaussian_optimum(
        X, PHI, observation_variance=0.7, beta=beta, prior_mean=prior.mean, prior_variance=prior.variance
    )
    mean.requires_grad_()
    spread = variance.expand(5, -1).clone().requires_grad_()
    at_optimum = free_energy(mean, spread)
    for slope in torch.autograd.grad(at_optimum.sum(), (mean, spread)):
        assert slope.abs().max() < 1e-9
    for seed in range(5):  # F is convex in the mean and the variance: a stationary point is the optimum
        other = free_energy(mean + 0.1 * draw(5, 12, seed=seed), spread * (0.1 * draw(5, 12, seed=seed + 9)).exp())
        assert (other > at_optimum).all()


@pytest.mark.parametrize("beta", [0.3, 1.0, 4.0])
def test_categorical(beta):
    prior = Categorical(logits=draw(12, seed=2))
    squares = (X[:, :, None] - PHI).square().sum(1)

    def free_energy(logits):
        posterior = Categorical(logits=logits)
        return (posterior.probs * squares).sum(-1) / (2 * 0.7) + beta * kl_divergence(posterior, prior)

    log_p, least = categorical_optimum(X, PHI, observation_variance=0.7, beta=beta, prior_logits=prior.logits + 3)
    torch.testing.assert_close(log_p.exp().sum(-1), torch.ones(5, dtype=torch.float64))
    torch.testing.assert_close(free_energy(log_p), least)
    for seed in range(5):
        assert (free_energy(log_p + 0.1 * draw(5, 12, seed=seed)) > least).all()
    # far from every atom, still finite
    far, _ = categorical_optimum(1e4 * X, PHI, observation_variance=1e-3, beta=beta, prior_logits=prior.logits)
    assert (far.exp().sum(-1) - 1).abs().max() < 1e-9


def test_errors():
    given = {"prior_mean": torch.zeros(12), "prior_variance": torch.ones(12)}
    with pytest.raises(InputError, match="beta is 0"):
        gaussian_optimum(X, PHI, observation_variance=1.0, beta=0.0, **given)
    with pytest.raises(InputError, match="observation_variance is -1"):
        categorical_optimum(X, PHI, observation_variance=-1.0, beta=1.0, prior_logits=torch.zeros(12))
