"""Semi-amortized inference: the better of two starts, then the steps of another engine."""

import pytest
import torch
from problems import any_model, random_data, random_model

from itervae import InputError
from itervae.inference import FISTAUnrolled, LCAUnrolled, Recurrent, SemiAmortized, State, infer
from itervae.model import GaussianVAESettings, build_model

pytestmark = pytest.mark.usefixtures("unchecked")  # of shapes, which the contract of all engines checks


def made(model, scale=1.0, **settings):
    torch.manual_seed(0)
    engine = SemiAmortized.build(SemiAmortized.Settings(**settings), model, model.shape).to(model.beta.dtype).eval()
    with torch.no_grad():
        for parameter in list(engine.encoder.parameters())[-2:]:
            parameter.mul_(scale)
    return engine


def test_a_silent_encoder_leaves_the_refiner():
    model = random_model()
    x = random_data(model, 6)
    found = infer(model, made(model, 0.0), x, steps=3)
    assert torch.equal(found.posterior.u, infer(model, FISTAUnrolled(), x, steps=3).posterior.u)


def test_it_is_the_refiner_from_the_encoder_where_that_is_better_and_from_the_prior_elsewhere():
    model = random_model()
    x = random_data(model, 40)
    engine = made(model, 3.0, steps=2, refine="lca-unrolled")
    found = infer(model, engine, x)
    guess = infer(model, engine.encoder, x).posterior
    prior = model.posterior(model.prior.log_rate.expand(40, -1))
    worse = model.free_energy(x, guess).total > model.free_energy(x, prior).total
    assert worse.any()
    assert not worse.all()
    assert torch.equal(found.stats["from_prior"], worse.long())
    for rows, start in ((worse, None), (~worse, State(guess.u[~worse]))):
        alone = infer(model, LCAUnrolled(), x[rows], steps=2, state=start).posterior.u
        torch.testing.assert_close(found.posterior.u[rows], alone)


def test_a_catastrophic_encoder_costs_nothing():
    model = random_model()
    x = random_data(model, 10)
    engine = made(model, 1e4)
    found = infer(model, engine, x)
    assert found.stats["from_prior"].all()
    assert (found.stats["clamped"] > 0).all()
    assert torch.equal(found.posterior.u, infer(model, FISTAUnrolled(), x, steps=3).posterior.u)


def test_the_refiner_by_default_is_the_first_that_fits():
    gaussian = build_model(GaussianVAESettings(latents=6), (4, 4))
    for model, kind in ((random_model(), FISTAUnrolled), (any_model("mlp"), Recurrent), (gaussian, Recurrent)):
        assert type(made(model).refine) is kind
    with pytest.raises(InputError, match=r"FISTAUnrolled needs a model with .*the engines that fit"):
        made(gaussian, refine="fista-unrolled")
    with pytest.raises(InputError, match="`steps` is 0"):
        made(random_model(), steps=0)


def trained(model, engine, x, updates=150):
    """The engine after training on the mean of F over its start and its steps."""
    optimizer = torch.optim.Adam(engine.parameters(), lr=0.002)
    generator = torch.Generator().manual_seed(0)
    for _ in range(updates):
        path = infer(model, engine.train(), x, record=("u",), generator=generator).trace["u"].flatten(0, 1)
        posterior = model.posterior(path, temperature=0.3)
        loss = model.free_energy(x.repeat(engine.steps + 1, 1), posterior, generator=generator).total.mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(engine.parameters(), 100.0)  # a few draws would decide of the outcome
        optimizer.step()
    return engine.eval()


@pytest.mark.usefixtures("unchecked")
def drawn(model):
    """Data (300, D) that the model, its weights enlarged, can make."""
    with torch.no_grad():
        for parameter in model.decoder.parameters():
            parameter.mul_(3)
        counts = torch.poisson(torch.full((300, 12), 1.0), generator=torch.Generator().manual_seed(0))
        return model.decode(counts)


@pytest.mark.slow
def test_trained_with_a_linear_decoder_it_needs_fewer_steps():
    model = any_model("linear", latents=12).requires_grad_(False)
    x = drawn(model)
    gap = [model.free_energy(x, infer(model, FISTAUnrolled(), x, steps=k).posterior).total for k in (2, 300)]
    engine = trained(model, made(model, steps=2), x)
    found = model.free_energy(x, infer(model, engine, x).posterior).total
    assert (found - gap[1]).mean() < 0.3 * (gap[0] - gap[1]).mean()


@pytest.mark.slow
def test_trained_with_a_network_as_decoder_it_is_better_than_its_encoder():
    model = any_model("mlp", latents=12).requires_grad_(False)
    x = drawn(model)
    engine = trained(model, made(model, steps=2), x, updates=80)
    with torch.no_grad():
        found = infer(model, engine, x, generator=torch.Generator().manual_seed(1))
        encoded = infer(model, engine, x, steps=0, generator=torch.Generator().manual_seed(1))
        refined, start = (
            model.free_energy(x, q.posterior, samples=20, generator=torch.Generator().manual_seed(2)).total.mean()
            for q in (found, encoded)
        )
    assert found.stats["from_prior"].float().mean() < 0.2
    assert refined < start
