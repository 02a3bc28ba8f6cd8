"""Spikes as drive: against the natural gradient of one step, its mean, and where it should come to
rest."""

import math

import pytest
import torch
from problems import any_model, random_data, random_model
from scipy.optimize import minimize

from itervae import InputError
from itervae.distributions import RelaxedPoisson
from itervae.inference import (
    Checkpoint,
    Envelope,
    PoissonEnergy,
    SampledEnergy,
    SpikingLCA,
    State,
    Truncate,
    Unroll,
    infer,
)
from itervae.inference.engines.spiking import TEMPERATURE, drive


def closed_form(model, x, mean):
    """Φᵀ(x − Φλ)/σ² − c/2σ², written out."""
    phi, variance = model.dictionary.detach(), model.likelihood.variance
    return ((x - mean @ phi.mT) @ phi - phi.square().sum(0) / 2) / variance


def log_rates(count, latents, seed=0):
    return torch.randn(count, latents, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) - 0.5


@pytest.mark.parametrize("beta", [0.5, 2.0])
def test_the_expected_drive_is_the_natural_gradient_of_one_step(beta):
    """−∂F_t/∂λ at u = u_prev, F_t with the posterior of the last step as its prior: whatever β."""
    model = random_model(12, 20, beta=beta)
    x = random_data(model, 4)
    u = log_rates(4, 20).requires_grad_()
    energy = model.free_energy(x, model.posterior(u), RelaxedPoisson(u.detach())).total.sum()
    (slope,) = torch.autograd.grad(energy, u)
    rate = u.detach().exp()
    torch.testing.assert_close(-slope / rate, closed_form(model, x, rate))


@pytest.mark.parametrize("latents", [12, 30])
@pytest.mark.parametrize("sampled", [False, True])
def test_the_mean_of_the_drive_is_the_gradient(latents, sampled):
    """Over many draws, in closed form (Gram and residual) and by automatic differentiation."""
    model, count = random_model(12, latents), 20000
    x = random_data(model, 1).expand(count, -1)
    u = log_rates(1, latents).expand(count, -1)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        prior = model.prior()
        energy = SampledEnergy(model, x, prior, generator) if sampled else PoissonEnergy(model, x, prior)
        draws, _ = drive(energy, model, u, generator)
        expected = closed_form(model, x[:1], u[:1].exp())[0]
    error = draws.std(0) / count**0.5
    assert ((draws.mean(0) - expected).abs() < 4 * error).all()


def test_soft_clamps_are_those_of_the_published_code():
    """As it writes them: softclamp_upper after a clamp from below, of the change and of the
    potential."""
    model = random_model(12, 20)
    x = 30 * random_data(model, 40)  # far off, so that both are met
    u = log_rates(40, 20) * 4
    seeded = [torch.Generator().manual_seed(2) for _ in range(3)]
    start = State(u, {})

    def softclamp_upper(v, c):
        return c - torch.nn.functional.softplus(c - v)

    z_gradient, diagonal = drive(PoissonEnergy(model, x, model.prior()), model, u, seeded[0])
    du = 0.5 * z_gradient / (1 + 0.5 * 4 * diagonal * u.exp())
    expected = softclamp_upper((u + softclamp_upper(du.clamp(min=-8.0), 7.0)).clamp(min=-8.0), 8.0)
    soft = infer(model, SpikingLCA(1, 0.5, clamps="soft"), x, state=start, generator=seeded[1])
    torch.testing.assert_close(soft.state.u, expected.detach())
    assert soft.state.u.max() < 8
    hard = infer(model, SpikingLCA(1, 0.5), x, state=start, generator=seeded[2])
    assert ((hard.state.u - u).abs() <= 2 + 1e-12).all()
    assert (soft.state.u - u).abs().max() > 2.5


def test_one_step_by_hand():
    model = random_model(12, 20)
    x = random_data(model, 5)
    u, size = log_rates(5, 20), 0.07
    found = infer(model, SpikingLCA(step_size=size), x, steps=1, state=State(u), generator=_seeded(3)).posterior.u
    z = model.posterior(u, TEMPERATURE).rsample(generator=_seeded(3), relaxation="straight-through")
    assert torch.equal(z, z.round())
    assert z.sum() > 0
    phi, variance = model.dictionary.detach(), model.likelihood.variance
    divisor = 1 + 4 * size * phi.square().sum(0) * u.exp() / variance
    torch.testing.assert_close(found.detach(), u + size * closed_form(model, x, z) / divisor)


def test_averaged_rates_come_to_rest_at_the_least_reconstruction_term():
    """The mean drive over a long run is 0 for latents that stay: rates average to the minimum over
    λ ≥ 0 of (‖x − Φλ‖² + c·λ)/2σ², found by scipy."""
    model = random_model(16, 24, log_rate=-1.0)
    x = random_data(model, 3)
    phi, variance = model.dictionary.detach(), model.likelihood.variance
    with torch.no_grad():
        engine = SpikingLCA(steps=6000, step_size=0.01)
        u = infer(model, engine, x, generator=_seeded(0), record=("u",)).trace["u"]
    averaged = u[2000:].exp().mean(0)

    def reconstruction(datum, rate):
        return ((datum - phi @ rate).square().sum() + phi.square().sum(0) @ rate) / (2 * variance)

    for datum, rate in zip(x, averaged, strict=True):
        least = minimize(
            lambda value, datum=datum: reconstruction(datum, torch.as_tensor(value)).item(),
            torch.ones(24),
            jac=lambda value, datum=datum: -closed_form(model, datum[None], torch.as_tensor(value)[None])[0].numpy(),
            bounds=[(0, None)] * 24,
            method="L-BFGS-B",
        ).fun
        start = reconstruction(datum, model.prior.log_rate.detach().exp())
        assert reconstruction(datum, rate) - least < 0.01 * (start - least)


def test_potentials_without_a_use_sink_and_nothing_else_does():
    """Zero atoms are driven by nothing; there is no leak."""
    model = random_model(16, 24)
    with torch.no_grad():
        model.dictionary[:, 0] = 0
        found = infer(model, SpikingLCA(), torch.zeros(2, 16, dtype=torch.float64), steps=300, generator=_seeded(0))
    sunk = found.posterior.u - model.prior.log_rate
    assert (sunk[:, 0] == 0).all()
    assert (sunk[:, 1:] < -5).all()


def test_hits_of_the_clamp_are_counted():
    model = random_model()
    x = 1e6 * random_data(model, 3)
    with torch.no_grad():
        found = infer(model, SpikingLCA(), x, generator=_seeded(0))
    assert found.posterior.u.max() == 10
    assert (found.stats["clamped"] > 0).any()


def test_other_decoders_are_followed_downhill():
    """On images that the decoder can make, the reconstruction ends far below its start."""
    model = any_model("mlp")
    with torch.no_grad():
        for parameter in model.decoder.parameters():
            parameter.mul_(3)
        x = model.decode(torch.poisson(torch.full((50, 24), 1.5), generator=_seeded(0)))
        start = model.free_energy(x, model.posterior(model.prior.log_rate.expand(50, -1)), samples=50)
        found = infer(model, SpikingLCA(steps=100), x, generator=_seeded(1)).posterior
        end = model.free_energy(x, found, samples=50, generator=_seeded(2))
    assert end.reconstruction.mean() < 0.9 * start.reconstruction.mean()


def test_five_and_five_steps_are_ten_for_other_decoders():
    model, generator = any_model("mlp"), _seeded(1)
    x = torch.rand(4, 64, generator=_seeded(0))
    with torch.no_grad():
        first = infer(model, SpikingLCA(), x, steps=5, generator=generator)
        second = infer(model, SpikingLCA(), x, steps=5, state=first.state, generator=generator)
        whole = infer(model, SpikingLCA(), x, steps=10, generator=_seeded(1))
    assert torch.equal(second.posterior.u, whole.posterior.u)


def test_every_gradient_mode_draws_the_same_spikes():
    model = random_model(12, 20)
    x = random_data(model, 3)
    answers, slopes = [], []
    for mode in (Unroll(), Checkpoint(), Truncate(3), Envelope()):
        model.zero_grad()
        posterior = infer(model, SpikingLCA(), x, steps=7, gradient=mode, generator=_seeded(0)).posterior
        model.free_energy(x, posterior).total.sum().backward()
        answers.append(posterior.u.detach())
        slopes.append(torch.cat([parameter.grad.flatten() for parameter in model.parameters()]))
    assert all(torch.equal(answer, answers[0]) for answer in answers)
    torch.testing.assert_close(slopes[1], slopes[0])
    assert not torch.allclose(slopes[2], slopes[0])


def test_the_gradient_of_one_step_is_its_derivative():
    """The first spikes do not depend on the dictionary; so central differences with the same spikes
    agree."""
    model = random_model(12, 20)
    x, u = random_data(model, 3), log_rates(3, 20)
    direction = torch.randn(12, 20, generator=torch.Generator().manual_seed(5), dtype=torch.float64)

    def value():
        return infer(model, SpikingLCA(), x, steps=1, state=State(u), generator=_seeded(3)).posterior.u.square().sum()

    (slope,) = torch.autograd.grad(value(), model.decoder.weight)
    ends = []
    for size in (1e-6, -1e-6):
        with torch.no_grad():
            model.decoder.weight.add_(size * direction)
            ends.append(value())
            model.decoder.weight.sub_(size * direction)
    torch.testing.assert_close((slope * direction).sum(), (ends[0] - ends[1]) / 2e-6, rtol=1e-5, atol=1e-5)


def test_errors():
    with pytest.raises(InputError, match="steps is 0"):
        SpikingLCA(steps=0)
    for size in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(InputError, match="step_size is"):
            SpikingLCA(step_size=size)


def _seeded(seed):
    return torch.Generator().manual_seed(seed)


def test_the_published_rule_is_the_published_update():
    """u + η[Φᵀ(x − Φz)/σ² − e^b], z the counts of the same draw."""
    model = random_model(12, 20)
    x, u = random_data(model, 4), log_rates(4, 20)
    engine = SpikingLCA(1, rule="published", clamps="soft", units=20).double()
    with torch.no_grad():
        engine.log_size.fill_(math.log(0.05))
        engine.bias.copy_(torch.linspace(-4, -1, 20))
    found = infer(model, engine, x, state=State(u), steps=1, generator=torch.Generator().manual_seed(5))
    z = model.posterior(u, TEMPERATURE).rsample(
        generator=torch.Generator().manual_seed(5), relaxation="straight-through"
    )
    drive = (x - z @ model.dictionary.mT) @ model.dictionary / model.likelihood.variance - engine.bias.exp()

    def bent(v, limit):
        return limit - torch.log1p(torch.exp(limit - v.clamp_min(-8)))

    torch.testing.assert_close(found.state.u, bent(u + bent(0.05 * drive, 7), 8), rtol=1e-9, atol=1e-9)


def test_clamps_rise_over_the_first_half_of_a_training():
    """From 2 to 10, as published where the decoder is linear; and stay where a checkpoint has
    them."""
    model, engine = random_model(12, 20), SpikingLCA(1, 5.0, clamps="rising").double()
    x, start = 30 * random_data(model, 40), State(log_rates(40, 20) * 4)
    assert engine.limit == 10
    for progress, limit in ((0.0, 2), (0.25, 6), (0.5, 10), (1.0, 10)):
        engine.follow(progress)
        assert engine.limit == limit
        u = infer(model, engine, x, state=start, generator=_seeded(0)).state.u
        assert u.max() < limit
        assert u.max() > limit - 0.2
    engine.follow(0.25)
    other = SpikingLCA(1, clamps="rising").double()
    other.load_state_dict(engine.state_dict())
    assert other.limit == 6


def test_the_published_rule_learns_its_step_and_biases():
    model = any_model(latents=6)
    settings = SpikingLCA.Settings(rule="published", clamps="soft", steps=4)
    engine = SpikingLCA.build(settings, model, model.shape)
    assert engine.log_size.item() == 0
    assert (engine.bias == -3).all()
    x = torch.randn(5, 64, generator=torch.Generator().manual_seed(0))
    found = infer(model, engine, x, generator=torch.Generator().manual_seed(0))
    model.free_energy(x, found.posterior).total.mean().backward()
    assert engine.log_size.grad.abs() > 0
    assert (engine.bias.grad.abs() > 0).any()
    with pytest.raises(InputError, match="biases of SpikingLCA are of 6 units, and this model has 7"):
        infer(any_model(latents=7), engine, x)
    with pytest.raises(InputError, match="units is 0"):
        SpikingLCA(rule="published")
