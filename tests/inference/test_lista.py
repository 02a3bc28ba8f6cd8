"""Learned ISTA: FISTA before training, safe whatever it has learned, better after training."""

import pytest
import torch
from problems import random_data, random_model

from itervae import InputError
from itervae.inference import LISTA, FISTAUnrolled, infer

pytestmark = pytest.mark.usefixtures("unchecked")  # of shapes, which the contract of all engines checks

SIZE, LATENTS = 32, 48
SETTINGS = [{}, {"hidden": 0}, {"tied": True}, {"matrices": True, "latents": LATENTS}, {"steps": 3, "tied": True}]


def gap(model, engine, x, steps=None):
    """F(engine) − F(300 steps of FISTA) (B,)."""
    best = model.free_energy(x, infer(model, FISTAUnrolled(), x, steps=300).posterior).total
    return (model.free_energy(x, infer(model, engine, x, steps=steps).posterior).total - best).detach()


def disturbed(engine, scale):
    """The engine with random parameters."""
    with torch.no_grad():
        for index, parameter in enumerate(engine.parameters()):
            parameter.add_(scale * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(index)))
    return engine.double()


@pytest.mark.parametrize("settings", SETTINGS)
def test_is_fista_before_training(settings):
    model = random_model(SIZE, LATENTS)
    x = random_data(model, 6)
    engine = LISTA(**settings).double()
    for steps in range(1, engine.steps + 1):
        found = infer(model, engine, x, steps=steps).posterior.u
        assert torch.equal(found, infer(model, FISTAUnrolled(), x, steps=steps).posterior.u)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("scale", [0.3, 30.0])
def test_whatever_it_has_learned_f_never_rises_and_the_optimum_is_reached(settings, scale):
    model = random_model(SIZE, LATENTS)
    x = random_data(model, 20)
    engine = disturbed(LISTA(**settings), scale)
    with torch.no_grad():
        trace = infer(model, engine, x, steps=300, record=("free_energy",)).trace["free_energy"]
    assert torch.isfinite(trace).all()
    assert (trace.diff(dim=0) <= 1e-9 * trace[:-1].abs()).all()
    assert gap(model, engine, x, steps=300).max() < 1e-6


def test_where_a_learned_step_raises_f_it_is_one_of_fista():
    """Thresholds so low that every learned step raises F: nothing of what was learned is used."""
    model = random_model(SIZE, LATENTS)
    x = random_data(model, 5)
    engine = LISTA(steps=4, hidden=0).double()
    with torch.no_grad():
        for layer in engine.layers:
            layer.scalars[1] = 50.0
    for steps in (1, 2, 4):
        found = infer(model, engine, x, steps=steps).posterior.u
        assert torch.equal(found, infer(model, FISTAUnrolled(), x, steps=steps).posterior.u)


def test_training_closes_the_gap_and_runs_on_another_dictionary():
    model = random_model(SIZE, LATENTS, log_rate=-2.0).requires_grad_(False)
    x = random_data(model, 200)
    engine = LISTA(steps=3, hidden=8).double()
    before = gap(model, engine, x).mean()
    optimizer = torch.optim.Adam(engine.parameters(), lr=0.03)
    for update in range(60):
        batch = random_data(model, 50, seed=2 + update)
        loss = model.free_energy(batch, infer(model, engine, batch).posterior).total.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert gap(model, engine, x).mean() < 0.6 * before
    assert gap(model, engine, x, steps=30).max() < 1e-2  # beyond its layers, it is a solver
    other = random_model(24, 40, seed=5, log_rate=-2.0)
    assert torch.isfinite(gap(other, engine, random_data(other, 20))).all()


def test_errors():
    engine = LISTA(matrices=True, latents=10).double()
    model = random_model(SIZE, LATENTS)
    with pytest.raises(InputError, match="matrices of this engine are for 10 latents and the model has 48"):
        infer(model, engine, random_data(model, 2))
    with pytest.raises(InputError, match="hidden is -1"):
        LISTA(hidden=-1)
    with pytest.raises(InputError, match="steps is 0"):
        LISTA(steps=0)
