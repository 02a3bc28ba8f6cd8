"""Closed-form optima against the free energy written out with torch.distributions, its gradient and
its convexity."""

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
    """Large atoms and a small variance: single precision would see nothing but rounding, or
    fail."""
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
    torch.testing.assert_close(found, exact, rtol=1e-9, atol=0)


@pytest.mark.parametrize("per_datum", [False, True])
def test_a_gaussian_whose_data_side_is_singular(per_datum):
    """K < D, long atoms, little variance: ΦSΦᵀ + σ²βI is singular in float64, and H is not."""
    latents = 3
    dictionary = 1e6 * draw(SIZE, latents, seed=1)
    model = GenerativeModel(GaussianPrior(latents), LinearDecoder(SIZE, latents), GaussianLikelihood(1e-6), (SIZE,))
    model = model.double()
    with torch.no_grad():
        model.decoder.weight.copy_(dictionary)
    prior = model.prior()
    prior = prior.like(prior.u.expand(5, -1).clone()) if per_datum else prior
    found = infer(model, Optimal(), X, prior=prior)
    # μ* of the least squares that F is in μ, by the singular values of [Φ/σ; I]
    sigma = model.likelihood.variance.item() ** 0.5
    tall = torch.cat([dictionary / sigma, torch.eye(latents, dtype=torch.float64)])
    right = torch.cat([X.mT / sigma, torch.zeros(latents, 5, dtype=torch.float64)])
    expected = torch.linalg.lstsq(tall, right, driver="gelsd").solution.mT
    torch.testing.assert_close(found.posterior.mean, expected, rtol=1e-6, atol=0)
    assert (found.stats["certificate"] < 0.1).all()  # of energies of 1e6


@pytest.mark.parametrize("per_datum", [False, True])
def test_a_gaussian_whose_systems_are_both_singular_has_an_answer_and_an_honest_certificate(per_datum):
    model = GenerativeModel(GaussianPrior(LATENTS), LinearDecoder(SIZE, LATENTS), GaussianLikelihood(1e-4), (SIZE,))
    model = model.double()
    with torch.no_grad():
        model.decoder.weight.copy_(1e4 * draw(SIZE, 1, seed=1).repeat(1, LATENTS))
    prior = model.prior()
    prior = prior.like(prior.u.expand(5, -1).clone()) if per_datum else prior
    found = infer(model, Optimal(), X, prior=prior)
    unit = model.dictionary[:, :1].detach()
    # by symmetry all μ are equal, and of one unit with K times the atom and 1/K of the prior's
    # variance
    share = (X @ unit) / (LATENTS * unit.square().sum() + model.likelihood.variance)
    better = model.posterior(torch.cat([share.expand(-1, LATENTS), found.posterior.log_scale], 1))
    gap = (model.free_energy(X, found.posterior, prior).total - model.free_energy(X, better, prior).total).detach()
    assert (found.stats["certificate"] >= gap).all()
    assert (found.stats["certificate"] < torch.inf).all()


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
