"""Closed-form optima against the free energy written out with torch.distributions, its gradient and its convexity."""

import pytest
import torch
from torch.distributions import Categorical, Normal, kl_divergence

from itervae.inference import Optimal, certificate, infer
from itervae.model import CategoricalPrior, GaussianLikelihood, GaussianPrior, GenerativeModel, LinearDecoder

SIZE, LATENTS = 8, 12


def draw(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


X, PHI = 2 * draw(5, SIZE, seed=0), draw(SIZE, LATENTS, seed=1)


def model_with(prior, beta):
    """A linear model of float64 with the dictionary PHI."""
    decoder = LinearDecoder(SIZE, LATENTS)
    model = GenerativeModel(prior, decoder, GaussianLikelihood(0.7), (SIZE,), beta).double()
    with torch.no_grad():
        decoder.weight.copy_(PHI)
        for offset, parameter in enumerate(prior.parameters()):
            parameter.copy_(0.5 * draw(*parameter.shape, seed=2 + offset))
    return model


@pytest.mark.parametrize("per_datum", [False, True])
@pytest.mark.parametrize("beta", [0.3, 1.0, 4.0])
def test_gaussian(beta, per_datum):
    model = model_with(GaussianPrior(LATENTS, learned=True), beta)
    beta, variance = model.beta, model.likelihood.variance  # which were rounded to float32
    prior = model.prior()
    if per_datum:  # as it is when the prior is carried over from the last frame
        prior = prior.like(prior.u + 0.3 * draw(5, 2 * LATENTS, seed=20))
    theirs = Normal(prior.location.detach(), prior.log_scale.detach().exp())

    def free_energy(u):
        """E‖x − Φz‖² by its mean and its spread."""
        mean, scale = u[:, :LATENTS], u[:, LATENTS:].exp()
        squares = (X - mean @ PHI.mT).square().sum(-1) + (scale.square() * PHI.square().sum(0)).sum(-1)
        return squares / (2 * variance) + beta * kl_divergence(Normal(mean, scale), theirs).sum(-1)

    result = infer(model, Optimal(), X, prior=prior)
    u = result.posterior.u.requires_grad_()
    least = free_energy(u)
    torch.testing.assert_close(model.free_energy(X, result.posterior, prior).total, least)
    assert torch.autograd.grad(least.sum(), u)[0].abs().max() < 1e-9
    assert (result.stats["certificate"] < 1e-12).all()
    assert (result.stats["steps"] == 0).all()
    for seed in range(5):  # F is convex in mean and variance: a stationary point is the optimum; its distance is exact
        other = u + 0.1 * draw(5, 2 * LATENTS, seed=seed)
        above = free_energy(other) - least
        assert (above > 0).all()
        torch.testing.assert_close(certificate(model, X, model.posterior(other), prior), above)


@pytest.mark.parametrize("beta", [0.3, 1.0, 4.0])
def test_categorical(beta):
    model = model_with(CategoricalPrior(LATENTS, learned=True), beta)
    beta, variance = model.beta, model.likelihood.variance
    prior = Categorical(logits=model.prior.logits.detach())
    squares = (X[:, :, None] - PHI).square().sum(1)

    def free_energy(logits):
        posterior = Categorical(logits=logits)
        return (posterior.probs * squares).sum(-1) / (2 * variance) + beta * kl_divergence(posterior, prior)

    result = infer(model, Optimal(), X)
    least = free_energy(result.posterior.u)
    torch.testing.assert_close(model.free_energy(X, result.posterior).total, least)
    # the free energy of the best posterior is a log-sum-exp
    expected = -beta * (prior.logits - squares / (2 * variance * beta)).logsumexp(-1)
    torch.testing.assert_close(least, expected)
    for seed in range(5):
        other = result.posterior.u + 0.1 * draw(5, LATENTS, seed=seed)
        above = free_energy(other) - least
        assert (above > 0).all()
        torch.testing.assert_close(certificate(model, X, model.posterior(other + 3)), above)
    # far from every atom, still finite
    far = infer(model, Optimal(), 1e4 * X).posterior
    assert (far.mean.sum(-1) - 1).abs().max() < 1e-9


def test_certificates_in_float32_are_those_of_float64():
    """Large atoms and a small variance: single precision would see nothing but rounding, or fail."""
    prior = GaussianPrior(LATENTS)
    decoder = LinearDecoder(SIZE, LATENTS)
    model = GenerativeModel(prior, decoder, GaussianLikelihood(1e-3), (SIZE,)).float()
    with torch.no_grad():
        decoder.weight.copy_(100 * PHI)
    x = X.float()
    assert (infer(model, Optimal(), x).stats["certificate"] < 1e-9).all()
    u = infer(model, Optimal(), x.double()).posterior.u
    near = (u + 1e-3 * draw(5, 2 * LATENTS, seed=0)).float()
    found = certificate(model, x, model.posterior(near))
    exact = certificate(model.double(), x.double(), model.posterior(near.double()))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), exact, rtol=1e-3, atol=0)


def test_the_categorical_kl_near_the_prior_does_not_cancel():
    logits = 0.1 * draw(512, seed=0)
    near = logits + 1e-4 * draw(20, 512, seed=1)
    model = CategoricalPrior(512)
    found = kl_divergence_of(model, near.float(), logits.float())
    exact = kl_divergence_of(model, near, logits)
    assert (found >= 0).all()
    torch.testing.assert_close(found.double(), exact, rtol=0.02, atol=0)


def kl_divergence_of(prior, u, v):
    return kl_divergence(prior.posterior(u), prior.posterior(v))
