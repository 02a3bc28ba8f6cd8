"""Every family with every decoder and every estimator learns, and every parameter takes part."""

import pytest
import torch
from families import FAMILIES, LOCATION_SCALE, seeded
from torch import nn

from itervae.distributions import total_kl
from itervae.inference import Amortized, infer
from itervae.model import build_model, estimators_for
from itervae.model.decoders import ConvDecoder, MLPDecoder
from itervae.model.settings import (
    CategoricalVAESettings,
    GaussianVAESettings,
    LaplaceVAESettings,
    PoissonVAESettings,
    VAESettings,
)

LATENTS, SHAPE, BATCH, UPDATES = 16, (8, 8), 32, 200
TEMPERATURE = 0.3  # constant, since the value of a relaxed free energy depends on it


def settings(name: str, decoder: str, prior: str = "learned") -> VAESettings:
    common = {"latents": LATENTS, "decoder": decoder, "prior": prior}
    if name == "poisson":
        return PoissonVAESettings(**common, start_log_rate=-1.0)
    if name == "laplace":
        return LaplaceVAESettings(**common)
    if name == "categorical":
        return CategoricalVAESettings(**common)
    activation = {"gaussian": "none", "rectified": "relu", "log-normal": "exp"}[name]
    return GaussianVAESettings(**common, activation=activation)


def small(name: str, decoder: str, prior: str = "learned"):
    """The model of those settings with a narrower decoder of the same kind, and a narrow encoder of
    two layers."""
    model = build_model(settings(name, decoder, prior), SHAPE)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if decoder == "mlp":
            model.decoder = MLPDecoder(model.size, LATENTS, hidden=(32,))
        elif decoder == "conv":
            model.decoder = ConvDecoder(SHAPE, LATENTS, channels=4)
        outputs = len(model.prior().u)
        encoder = nn.Sequential(nn.Linear(model.size, 32), nn.SiLU(), nn.Linear(32, outputs))
        nn.init.normal_(encoder[-1].weight, std=0.05)
    return model, Amortized(encoder)


@pytest.fixture(scope="module")
def data():
    """256 images 8×8: one of 16 random patterns each, of contrast 1 to 2, in noise (256, 64)."""
    draw = seeded(0)
    patterns = torch.randn(16, 64, generator=draw)
    which = torch.randint(0, 16, (256,), generator=draw)
    contrast = 1 + torch.rand(256, 1, generator=draw)
    return contrast * patterns[which] + 0.3 * torch.randn(256, 64, generator=draw)


def posterior(model, engine, x):
    """What the engine gives, without the driver, whose checked shapes would take most of the time
    of this file."""
    prior = model.prior()
    u, _ = prior.clamp(prior.u + engine.encoder(x))
    return model.posterior(u)


@torch.no_grad()
def free_energy(model, engine, x) -> torch.Tensor:
    """Of each datum, from 32 integer or exact samples and the KL: no estimator of the package
    (N,)."""
    q = infer(model, engine, x).posterior
    z = q.sample((32,), seeded(1))
    return model.likelihood.negative_log_likelihood(x, model.decoder(z)).mean(0) + total_kl(q, model.prior())


EVERY = [
    (name, decoder, estimator)
    for name in FAMILIES
    for decoder in ("linear", "mlp", "conv")
    for estimator in estimators_for(settings(name, decoder))
]


FIRST = ("eat", "pathwise", "gumbel-softmax")
"""Estimators with conv decoders that the fast tests have, one of each kind; others are slow."""


def test_all_are_there():
    """Three decoders, with 4, 1 and 3 sampled estimators for Poisson, location-scale and
    categorical, and `exact`."""
    assert len(EVERY) == 3 * (4 + len(LOCATION_SCALE) + 3) + len(FAMILIES)


@pytest.mark.parametrize(
    ("name", "decoder", "estimator"),
    [
        pytest.param(*each, marks=pytest.mark.slow) if each[1] == "conv" and each[2] not in FIRST else each
        for each in EVERY
    ],
)
def test_it_learns_and_every_parameter_takes_part(data, name, decoder, estimator):
    model, engine = small(name, decoder)
    named = dict(model.named_parameters()) | {f"engine.{key}": value for key, value in engine.named_parameters()}
    optimizer = torch.optim.Adam(named.values(), lr=0.01, foreach=True)
    before = free_energy(model, engine, data)
    draw, sizes, energies = seeded(2), [], []
    samples = 2 if estimator == "score" else 1
    for _ in range(UPDATES):
        x = data[torch.randint(0, len(data), (BATCH,), generator=draw)]
        q = posterior(model, engine, x).at(TEMPERATURE)
        energy = model.free_energy(x, q, estimator=estimator, samples=samples, generator=draw).total.mean()
        optimizer.zero_grad()
        energy.backward()
        missing = [key for key, parameter in named.items() if parameter.grad is None]
        assert not missing
        sizes.append(torch.stack([parameter.grad.abs().max() for parameter in named.values()]))
        optimizer.step()
        energies.append(energy.detach())
    after = free_energy(model, engine, data)
    largest = torch.stack(sizes).amax(0)  # NaN where any is
    assert largest.isfinite().all(), dict(zip(named, largest.tolist(), strict=True))
    assert (largest > 0).all(), dict(zip(named, largest.tolist(), strict=True))
    energies = torch.stack(energies)
    assert energies.isfinite().all()
    assert after.isfinite().all()
    first, last = energies[:20].mean(), energies[-20:].mean()
    assert last < 0.9 * first
    gain = before - after
    assert gain.mean() > 5 * gain.std() / len(gain) ** 0.5
    assert after.mean() < 0.9 * before.mean()


@pytest.mark.parametrize("name", FAMILIES)
def test_the_loop_trains_what_the_engine_infers(data, name):
    model, engine = small(name, "linear")
    expected, found = infer(model, engine, 3 * data).posterior, posterior(model, engine, 3 * data)
    assert type(expected) is type(found)
    torch.testing.assert_close(found.u, expected.u)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("prior", ["fixed", "learned"])
def test_a_fixed_prior_stays_and_a_learned_one_moves(data, name, prior):
    model, engine = small(name, "linear", prior)
    start = {key: value.clone() for key, value in model.prior.state_dict().items()}
    assert len(list(model.prior.parameters())) == (len(start) if prior == "learned" else 0)
    optimizer = torch.optim.Adam([*model.parameters(), *engine.parameters()], lr=0.01)
    for _ in range(10):
        x = data[:BATCH]
        optimizer.zero_grad()
        model.free_energy(x, posterior(model, engine, x)).total.mean().backward()
        optimizer.step()
    for key, value in model.prior.state_dict().items():
        assert (value != start[key]).all() if prior == "learned" else torch.equal(value, start[key]), key
