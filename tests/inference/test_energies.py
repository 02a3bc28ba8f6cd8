"""Energies against the model's free energy, finite differences and the duality theory of section
5."""

import math

import pytest
import torch
from problems import any_model, linear_model, random_data, random_model

from itervae.distributions import RelaxedPoisson
from itervae.inference import PoissonEnergy, SampledEnergy
from itervae.inference.energies import poisson as poisson_module


def energy_of(model, x):
    return PoissonEnergy(model, x, model.prior().detach())


@pytest.fixture(params=[24, 48, 160], ids=["gram", "gram-overcomplete", "residual"])
def problem(request):
    """K below and above 2D: the Gram and the residual form."""
    model = random_model(size=32, latents=request.param, variance=0.3, beta=0.7)
    return model, random_data(model, 5)


def test_value_and_gradient_are_those_of_the_free_energy(problem):
    model, x = problem
    generator = torch.Generator().manual_seed(3)
    log_rate = torch.randn(5, model.latents, generator=generator, dtype=torch.float64).requires_grad_()
    total = model.free_energy(x, model.posterior(log_rate)).total
    (by_autograd,) = torch.autograd.grad(total.sum(), log_rate)
    point = energy_of(model, x).evaluate(log_rate.detach())
    torch.testing.assert_close(point.value, total.detach(), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(point.gradient * point.mean, by_autograd, rtol=1e-9, atol=1e-9)


def test_proximal_step_minimizes_its_subproblem(problem):
    model, x = problem
    energy = energy_of(model, x)
    generator = torch.Generator().manual_seed(4)
    shape = (5, model.latents)
    rate = torch.randn(shape, generator=generator, dtype=torch.float64)  # an extrapolated rate may be negative
    smooth = 5 * torch.randn(shape, generator=generator, dtype=torch.float64)
    curvature = torch.rand(shape, generator=generator, dtype=torch.float64) * 10 + 1e-3
    log_rate = energy.proximal_step(rate, smooth, curvature)
    # stationarity of smooth·λ + h/2 (λ − rate)² + β KL(λ‖r)
    slope = smooth + curvature * (log_rate.exp() - rate) + energy.beta * (log_rate - energy.prior_log_rate)
    scale = smooth.abs() + curvature * (log_rate.exp() + rate.abs()) + 1
    assert (slope.abs() < 1e-12 * scale).all()


def test_certificate_is_primal_minus_dual(problem):
    """D(ν) = νᵀx − σ²‖ν‖²/2 − β Σ r (exp((φᵀν − c/2σ²)/β) − 1) at ν = (x − Φλ)/σ²."""
    model, x = problem
    energy = energy_of(model, x)
    log_rate = 0.1 * torch.randn(5, model.latents, dtype=torch.float64, generator=torch.Generator().manual_seed(5)) - 3
    posterior = model.posterior(log_rate)
    phi, variance, beta = model.dictionary.detach(), model.likelihood.variance, model.beta
    r = model.prior.log_rate.detach().exp()
    nu = (x - posterior.mean @ phi.mT) / variance
    exponent = (nu @ phi - phi.square().sum(0) / (2 * variance)) / beta
    dual = (nu * x).sum(-1) - variance * nu.square().sum(-1) / 2 - beta * (r * torch.expm1(exponent)).sum(-1)
    gap = model.free_energy(x, posterior).total.detach() - dual
    certificate = energy.certificate(log_rate)
    torch.testing.assert_close(certificate, gap, rtol=1e-9, atol=1e-9)


def test_certificate_overflows_to_infinity_not_nan():
    model = random_model(size=8, latents=8, variance=1e-3)
    x = 100 * random_data(model, 3)
    energy = energy_of(model, x)
    log_rate = model.prior.log_rate.detach().expand(3, -1)
    assert (energy.certificate(log_rate) == torch.inf).all()


def test_sampled_gradient_is_the_finite_difference_of_the_expectation():
    """E[f(z + e_k) − f(z)], exact for a linear decoder: its mean is the exact gradient, within
    standard errors."""
    model = random_model(size=12, latents=6, log_rate=-0.5)
    x = random_data(model, 1).expand(20_000, -1)
    log_rate = torch.linspace(-3, 1, 6, dtype=torch.float64).expand(20_000, -1)
    exact = energy_of(model, x[:1]).evaluate(log_rate[:1])
    sampled = SampledEnergy(model, x, model.prior().detach(), torch.Generator().manual_seed(0))
    point = sampled.evaluate(log_rate)
    error = point.data_gradient.mean(0) - exact.data_gradient[0]
    assert (error.abs() < 4 * point.data_gradient.std(0) / 20_000**0.5).all()
    curvature = point.diagonal.mean(0) - exact.diagonal
    assert (curvature.abs() < 4 * point.diagonal.std(0) / 20_000**0.5).all()


@pytest.mark.slow
@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli"])
def test_sampled_gradient_of_a_nonlinear_decoder_points_down(likelihood):
    model = any_model("mlp", likelihood, latents=8)
    x = torch.rand(1, 64, generator=torch.Generator().manual_seed(1)).expand(4000, -1)
    log_rate = torch.full((4000, 8), -1.0)
    generator = torch.Generator().manual_seed(2)
    gradient = SampledEnergy(model, x, model.prior().detach(), generator).evaluate(log_rate).gradient.mean(0)

    def free_energy(change):
        posterior = model.posterior(log_rate + change)
        draws = torch.Generator().manual_seed(3)
        return model.free_energy(x, posterior, samples=20, generator=draws).total.mean().item()

    step = 0.5 * gradient / gradient.norm()
    assert free_energy(-step) < free_energy(0 * step) < free_energy(step)


def test_prior_may_differ_per_datum():
    model = random_model(size=16, latents=8)
    x = random_data(model, 3)
    priors = torch.linspace(-4, -1, 24, dtype=torch.float64).reshape(3, 8)
    log_rate = torch.zeros(3, 8, dtype=torch.float64)
    joint = PoissonEnergy(model, x, RelaxedPoisson(priors)).evaluate(log_rate)
    for row in range(3):
        alone = PoissonEnergy(model, x[row : row + 1], RelaxedPoisson(priors[row])).evaluate(log_rate[row : row + 1])
        torch.testing.assert_close(joint.gradient[row], alone.gradient[0])
        torch.testing.assert_close(joint.value[row], alone.value[0])


def test_orthonormal_dictionary_is_solved_by_one_proximal_step():
    basis = torch.linalg.qr(torch.randn(16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))[0]
    model = linear_model(basis)
    x = random_data(model, 4)
    energy = energy_of(model, x)
    point = energy.evaluate(model.prior.log_rate.detach().expand(4, -1))
    log_rate = energy.proximal_step(point.mean, point.data_gradient, point.diagonal[None])
    assert (energy.evaluate(log_rate).gradient.abs() < 1e-12).all()


@pytest.mark.parametrize("everywhere", [False, True])
def test_between_two_points_the_energy_is_that_of_the_mixed_rates(everywhere, monkeypatch):
    """λ(t) = (1 − t)λ + tλ'; also where rates underflow, which their logarithms survive within log
    2; t = 1 changes nothing."""
    monkeypatch.setattr(poisson_module, "dense", lambda value: everywhere)
    model = random_model(size=12, latents=20).float()
    x = random_data(model, 4).float()
    energy = energy_of(model, x)
    generator = torch.Generator().manual_seed(0)
    u, v = torch.randn(2, 4, 20, generator=generator).unbind()
    u[:, :3], v[:, :3] = -120.0, torch.tensor([-130.0, -119.0, 0.5])
    share = torch.tensor([[0.25], [1.0], [0.5], [0.9]])
    with torch.no_grad():
        found, point = energy.between(u, energy.evaluate(u), v, energy.evaluate(v), share)
        true = torch.logaddexp((1 - share).log() + u, share.log() + v)
        torch.testing.assert_close(found[:, 2:], true[:, 2:])
        assert ((true - found)[:, :2].clamp_min(0) <= math.log(2)).all()
        assert (found <= true + 1e-5).all()
        assert torch.equal(found[1], v[1])
        again = energy.evaluate(found)
        torch.testing.assert_close(point.value, again.value)
        torch.testing.assert_close(point.gradient, again.gradient, atol=1e-3, rtol=1e-4)
