"""The marginal likelihood against exact enumeration over counts."""

import itertools

import pytest
import torch
from problems import random_data, random_model

from itervae import InputError
from itervae.evaluation import marginal_likelihood
from itervae.inference import Optimal, infer


def enumerated(model, x, largest=25):
    """−log p(x) by summing p(z)p(x|z) over all counts up to `largest`."""
    z = torch.tensor(list(itertools.product(range(largest + 1), repeat=model.latents)), dtype=torch.float64)
    prior = model.prior().log_prob(z).sum(-1)
    likelihood = -(x[:, None] - model.decoder(z)).square().sum(-1) / (2 * model.likelihood.variance)
    return -(prior + likelihood).logsumexp(-1).detach()


@pytest.mark.parametrize("latents", [2, 3])
def test_bounds_fall_to_the_enumerated_value(latents):
    model = random_model(6, latents, log_rate=-0.5)
    x = random_data(model, 20, scale=1.5)
    exact = enumerated(model, x)
    best = infer(model, Optimal(), x)
    optimum = model.free_energy(x, best.posterior).total.detach()
    report, bounds = marginal_likelihood(model, x, best.posterior, (1, 10, 100, 2000))
    assert (optimum > exact).all()  # the approximation gap is positive
    assert report.bound_mean == sorted(report.bound_mean, reverse=True)
    # K = 1 is the free energy itself, sampled; many samples are the enumerated value
    assert abs(report.bound_mean[0] - optimum.mean().item()) < 4 * report.replicate_se[0]
    error = bounds[-1] - exact
    assert error.abs().max() < 0.15
    assert abs(error.mean()) < 0.02


def test_errors():
    model = random_model(6, 2, beta=2.0)
    x = random_data(model, 3)
    posterior = infer(model, Optimal(), x).posterior
    with pytest.raises(InputError, match="beta 2; the approximation gap exists only at beta 1"):
        marginal_likelihood(model, x, posterior)
    with pytest.raises(InputError, match="expected increasing numbers"):
        marginal_likelihood(random_model(6, 2), x, posterior, (10, 1))
