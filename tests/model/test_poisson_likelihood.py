"""The Poisson likelihood of counts, against SciPy's distribution and finite differences."""

import numpy as np
import pytest
import torch
from scipy import special, stats

import itervae
from itervae import InputError
from itervae.inference import Amortized
from itervae.model import (
    LINKS,
    GenerativeModel,
    LinearDecoder,
    PoissonLikelihood,
    PoissonPrior,
    PoissonVAESettings,
    build_model,
    save_dictionary,
)

D, K = 6, 4


def made(link, seed=0):
    """A likelihood with offsets, outputs (3, 5, D), and counts (5, D) of its own."""
    generator = torch.Generator().manual_seed(seed)
    likelihood = PoissonLikelihood(D, link).double()
    likelihood.bias.data.normal_(generator=generator)
    output = torch.randn(3, 5, D, generator=generator, dtype=torch.float64)
    return likelihood, output, torch.poisson(likelihood.mean(output[0]).detach() * 3, generator=generator)


def rates(likelihood, output):
    at = (output + likelihood.bias).detach().numpy()
    return np.exp(at) if likelihood.link == "exp" else np.logaddexp(0, at)


@pytest.mark.parametrize("link", LINKS)
def test_it_is_the_distribution_of_scipy_with_all_its_terms(link):
    likelihood, output, x = made(link)
    expected = -stats.poisson.logpmf(x.numpy(), rates(likelihood, output)).sum(-1)
    np.testing.assert_allclose(likelihood.negative_log_likelihood(x, output).detach().numpy(), expected, rtol=1e-12)
    np.testing.assert_allclose(likelihood.mean(output).detach().numpy(), rates(likelihood, output), rtol=1e-12)


@pytest.mark.parametrize("link", LINKS)
def test_its_gradient_is_that_of_finite_differences(link):
    likelihood, output, x = made(link)
    bias = likelihood.bias.detach().clone().requires_grad_()

    def loss(output, bias):
        likelihood.bias.data.copy_(bias)
        return torch.func.functional_call(likelihood, {"bias": bias}, (x, output))

    likelihood.forward = likelihood.negative_log_likelihood
    assert torch.autograd.gradcheck(loss, (output[0].requires_grad_(), bias))


@pytest.mark.parametrize("link", LINKS)
def test_its_curvature_is_the_mean_second_derivative_over_counts(link):
    likelihood, output, _ = made(link)
    output = output[0, :1].detach().requires_grad_()
    mean = torch.zeros(D, dtype=torch.float64)
    for count in range(200):
        x = torch.full((1, D), float(count), dtype=torch.float64)
        value = likelihood.negative_log_likelihood(x, output).sum()
        (slope,) = torch.autograd.grad(value, output, create_graph=True)
        (second,) = torch.autograd.grad(slope.sum(), output)
        mean += torch.from_numpy(stats.poisson.pmf(count, rates(likelihood, output))[0]) * second[0]
    torch.testing.assert_close(likelihood.curvature(output.detach())[0].detach(), mean, rtol=1e-9, atol=1e-12)


def test_rates_near_zero_keep_their_digits():
    """log log(1 + e^a) in float32 against float64, by log1p."""
    likelihood = PoissonLikelihood(9)
    output = torch.tensor([[-80.0, -30.0, -17.0, -12.5, -12.0, -11.5, -3.0, 0.0, 40.0]])
    x = torch.ones(1, 9)
    exact = np.log(np.log1p(np.exp(output.double().numpy())))
    found = -(likelihood.negative_log_likelihood(x, output) - likelihood.mean(output).sum(-1))
    assert found.item() == pytest.approx(exact.sum(), rel=1e-6)
    assert torch.autograd.grad(found.sum(), likelihood.bias)[0].isfinite().all()


@pytest.mark.parametrize("link", LINKS)
def test_training_starts_where_rates_are_mean_counts(link):
    x = torch.poisson(torch.rand(25_000, D, generator=torch.Generator().manual_seed(0)) * 60)  # more than one part
    x[:, 0] = 0
    likelihood = PoissonLikelihood(D, link)
    likelihood.start_at(x)
    mean = likelihood.mean(torch.zeros(D))
    torch.testing.assert_close(mean[1:], x.mean(0)[1:], rtol=1e-5, atol=0)
    assert mean[0].item() == pytest.approx(1e-3, rel=1e-4)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return GenerativeModel(PoissonPrior(K), LinearDecoder(D, K), PoissonLikelihood(D), (D,))


def test_the_free_energy_bounds_the_log_evidence(model):
    """−log p(x), summed over all counts of two units, is at most F of any posterior."""
    model = GenerativeModel(PoissonPrior(2), LinearDecoder(D, 2), PoissonLikelihood(D), (D,)).double()
    x = torch.tensor([[0.0, 1, 2, 0, 1, 3]], dtype=torch.float64)
    with torch.no_grad():
        model.prior.log_rate.fill_(0.0)
        z = torch.cartesian_prod(torch.arange(40.0), torch.arange(40.0)).double()
        joint = stats.poisson.logpmf(z.numpy(), 1.0).sum(-1)
        joint -= model.likelihood.negative_log_likelihood(x, model.output(z)[:, None])[:, 0].numpy()
        evidence = -special.logsumexp(joint)
        for u in (-1.0, 0.0, 0.5):
            posterior = model.posterior(torch.full((1, 2), u, dtype=torch.float64))
            draws = [
                model.free_energy(x, posterior, generator=torch.Generator().manual_seed(n), samples=500).total.item()
                for n in range(8)
            ]
            assert np.mean(draws) + 4 * np.std(draws) / 8**0.5 > evidence


def test_what_needs_a_gaussian_likelihood_is_refused(model, tmp_path):
    x = torch.ones(2, D)
    with pytest.raises(InputError, match=r"exact free energy was asked of a model without one; .* use estimator eat"):
        model.free_energy(x, model.posterior(torch.zeros(2, K)), estimator="exact")
    with pytest.raises(InputError, match="this model has a Poisson likelihood, and a dictionary file describes a Gau"):
        save_dictionary(model, tmp_path / "phi.npz")
    with pytest.raises(InputError, match="link is 'log'"):
        PoissonLikelihood(D, "log")
    with pytest.raises(InputError, match="an observation variance was given with likelihood poisson, which has none"):
        build_model(PoissonVAESettings(likelihood="poisson", observation_variance=1.0), (D,))
    with pytest.raises(InputError, match="link exp was given with likelihood gaussian, which has none; leave it out"):
        build_model(PoissonVAESettings(link="exp"), (D,))


@pytest.mark.parametrize("value", [0.5, -1.0])
def test_data_that_are_no_counts_are_named_with_their_place(model, value):
    x = torch.ones(12_000, D)
    x[11_003, 2] = value
    with pytest.raises(InputError, match=rf"row 11003 of x holds {value:g} in column 2; use gaussian, or other data"):
        model.likelihood.check(x)
    encoder = torch.nn.Linear(D, K)
    with pytest.raises(InputError, match="needs counts: whole numbers ≥ 0, and row 3 of x holds"):
        itervae.infer(model, Amortized(encoder), x[11_000:])


def test_an_encoder_sees_logarithms_of_counts(model):
    encoder = torch.nn.Linear(D, K, bias=False)
    x = torch.tensor([[0.0, 1, 2, 3, 100, 5000]])
    found = itervae.infer(model, Amortized(encoder), x).posterior.log_rate
    expected = model.prior().log_rate + encoder(torch.log(1 + x))
    torch.testing.assert_close(found, expected)
