"""The free energy against sampling, published constants and elementary cases."""

import math

import pytest
import torch
from problems import any_model, random_data, random_model

from itervae import InputError
from itervae.distributions import RelaxedPoisson
from itervae.model import (
    GaussianLikelihood,
    GenerativeModel,
    LinearDecoder,
    PoissonPrior,
    PoissonVAESettings,
    build_model,
)


def test_exact_is_the_mean_of_samples():
    """E‖x − Φz‖² = ‖x − Φλ‖² + c·λ, against 40,000 integer draws, within 4 standard errors."""
    model = random_model(size=16, latents=24, log_rate=-1.0)
    x = random_data(model, 2)
    log_rate = torch.linspace(-3, 2, 48, dtype=torch.float64).reshape(2, 24)
    exact = model.free_energy(x, model.posterior(log_rate))
    z = model.posterior(log_rate).sample((40_000,), torch.Generator().manual_seed(0))
    draws = (x - z @ model.dictionary.mT).square().sum(-1)  # σ² = 1/2: the factor 1/2σ² is 1
    error = draws.mean(0) - exact.reconstruction
    assert (error.abs() < 4 * draws.std(0) / 40_000**0.5).all()
    r = model.prior.log_rate.exp()
    kl = (r - log_rate.exp() + log_rate.exp() * (log_rate - model.prior.log_rate)).sum(-1)
    torch.testing.assert_close(exact.kl, kl)
    torch.testing.assert_close(exact.total, exact.reconstruction + kl)


@pytest.mark.parametrize(
    ("estimator", "temperature"),
    [
        pytest.param("eat", 0.0, marks=pytest.mark.slow),
        ("eat", 0.5),
        pytest.param("straight-through", 0.5, marks=pytest.mark.slow),
    ],
)
def test_sampled_estimators_agree_with_the_exact_value(estimator, temperature):
    model = random_model(size=16, latents=24)
    x = random_data(model, 2)
    posterior = RelaxedPoisson(torch.full((2, 24), 0.3, dtype=torch.float64), temperature)
    generator = torch.Generator().manual_seed(1)
    draws = torch.stack(
        [model.free_energy(x, posterior, estimator=estimator, generator=generator).reconstruction for _ in range(4000)]
    )
    relaxation = 0.0 if estimator == "straight-through" else 9 * temperature / 35  # variance λ(1 − 9τ/35)
    norms = model.dictionary.square().sum(0)
    expected = (x - posterior.mean @ model.dictionary.mT).square().sum(-1) + (1 - relaxation) * posterior.mean @ norms
    assert ((draws.mean(0) - expected).abs() < 4 * draws.std(0) / 4000**0.5).all()


def test_several_samples_are_averaged():
    model = random_model(size=8, latents=4)
    x = random_data(model, 3)
    posterior = RelaxedPoisson(torch.zeros(3, 4, dtype=torch.float64), 0.0)
    generator = torch.Generator().manual_seed(2)
    found = model.free_energy(x, posterior, estimator="eat", samples=5, generator=generator).reconstruction
    z = posterior.rsample((5,), torch.Generator().manual_seed(2))
    torch.testing.assert_close(found, (x - z @ model.dictionary.mT).square().sum(-1).mean(0))


def test_beta_enters_once():
    x = torch.randn(3, 64, dtype=torch.float64)
    log_rate = torch.zeros(3, 128, dtype=torch.float64)
    one, three = random_model(), random_model(beta=3.0)
    a, b = one.free_energy(x, one.posterior(log_rate)), three.free_energy(x, three.posterior(log_rate))
    torch.testing.assert_close(b.kl, a.kl)
    torch.testing.assert_close(b.total - a.total, 2 * a.kl)


def test_default_variance_gives_the_published_loss():
    """σ² = 1/2: the summed squared error; σ² learned: with the normalizer (D/2) log 2πσ²."""
    x, output = torch.randn(4, 9), torch.randn(4, 9)
    squares = (x - output).square().sum(-1)
    torch.testing.assert_close(GaussianLikelihood().negative_log_likelihood(x, output), squares)
    learned = GaussianLikelihood(0.3, learned=True).negative_log_likelihood(x, output)
    normal = torch.distributions.Normal(output, math.sqrt(0.3))
    torch.testing.assert_close(learned, -normal.log_prob(x).sum(-1))


def test_learned_variance_gets_a_gradient_on_the_exact_path():
    model = build_model(PoissonVAESettings(latents=5, learn_variance=True), (4, 4))
    model.free_energy(torch.randn(3, 16), model.posterior(torch.zeros(3, 5))).total.sum().backward()
    gradient = model.likelihood.log_variance.grad
    assert gradient is not None
    assert gradient != 0


@pytest.mark.parametrize("decoder", ["linear", "mlp", "conv"])
@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli"])
def test_every_decoder_and_likelihood(decoder, likelihood):
    model = any_model(decoder, likelihood)
    x = torch.rand(3, 64)
    posterior = model.posterior(torch.zeros(3, 24), temperature=0.3)
    energy = model.free_energy(x, posterior, samples=2, generator=torch.Generator().manual_seed(0))
    assert energy.total.shape == energy.kl.shape == energy.reconstruction.shape == (3,)
    energy.total.sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
    samples = model.sample(10, torch.Generator().manual_seed(0))
    assert samples.shape == (10, 64)
    if likelihood == "bernoulli":
        assert ((samples >= 0) & (samples <= 1)).all()
        output = model.decoder(posterior.sample(generator=torch.Generator().manual_seed(0)))
        expected = -torch.distributions.Bernoulli(logits=output).log_prob(x.round()).sum(-1)
        torch.testing.assert_close(model.likelihood.negative_log_likelihood(x.round(), output), expected)


def test_unit_norm_atoms_stay_so():
    model = build_model(PoissonVAESettings(latents=6, unit_norm=True), (3, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    model.free_energy(torch.randn(2, 9), model.posterior(torch.zeros(2, 6))).total.sum().backward()
    optimizer.step()
    torch.testing.assert_close(model.dictionary.norm(dim=0), torch.ones(6))


def test_the_start_depends_on_the_seed_alone():
    state = torch.random.get_rng_state()
    first, again, other = (build_model(PoissonVAESettings(latents=4), (2, 2), seed) for seed in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(first.dictionary, again.dictionary)
    assert not torch.equal(first.dictionary, other.dictionary)


def test_full_precision_inside_mixed_precision():
    model = random_model().float()
    x = random_data(model, 3)
    posterior = model.posterior(torch.zeros(3, 128))
    expected = model.free_energy(x, posterior).total
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(model.free_energy(x, posterior).total, expected)


def test_errors():
    model = random_model()
    x = random_data(model, 3)
    with pytest.raises(InputError, match=r"expected \(B, 64\) and \(B, 128\)"):
        model.free_energy(x, model.posterior(torch.zeros(2, 128)))
    with pytest.raises(InputError, match="estimator is 'magic'; this model has exact, eat, straight-through"):
        model.free_energy(x, model.posterior(torch.zeros(3, 128, dtype=torch.float64)), estimator="magic")
    nonlinear = any_model("mlp")
    with pytest.raises(InputError, match="use estimator eat"):
        nonlinear.free_energy(torch.rand(2, 64), nonlinear.posterior(torch.zeros(2, 24)), estimator="exact")
    with pytest.raises(InputError, match=r"beta is 0\.0; expected a positive number"):
        GenerativeModel(PoissonPrior(3), LinearDecoder(4, 3), GaussianLikelihood(), (4,), 0.0)
    with pytest.raises(InputError, match="observation variance is -1"):
        GaussianLikelihood(-1.0)
    with pytest.raises(InputError, match="MLPDecoder, which has no dictionary"):
        _ = any_model("mlp").dictionary
    with pytest.raises(InputError, match="sides multiples of 4"):
        build_model(PoissonVAESettings(decoder="conv"), (10, 10))
    with pytest.raises(InputError, match="unit-norm atoms were asked of decoder mlp"):
        build_model(PoissonVAESettings(decoder="mlp", unit_norm=True), (4, 4))
    with pytest.raises(InputError, match="`latents` is 0"):
        build_model(PoissonVAESettings(latents=0), (4, 4))
    with pytest.raises(InputError, match="likelihood bernoulli, which has none"):
        build_model(PoissonVAESettings(likelihood="bernoulli", observation_variance=2.0), (4, 4))


def test_a_linear_dictionary_starts_at_the_scale_that_is_asked_for():
    """Published: 0.05 with encoders, 1e-4 of the iterative P-VAE."""
    for given, scale in ((None, 0.05), (1e-4, 1e-4)):
        model = build_model(PoissonVAESettings(latents=64, start_scale=given), (16, 16))
        assert model.dictionary.std().item() == pytest.approx(scale, rel=0.05)
    with pytest.raises(InputError, match=r"start_scale=0\.1` is of a linear dictionary, and the decoder is mlp; leave"):
        build_model(PoissonVAESettings(latents=4, decoder="mlp", start_scale=0.1), (16, 16))
    with pytest.raises(InputError, match="scale"):
        build_model(PoissonVAESettings(latents=4, start_scale=-1.0), (16, 16))
