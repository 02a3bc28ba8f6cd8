"""Learned ISTA: FISTA before training, safe whatever it has learned, better after training."""

import pytest
import torch
from problems import random_data, random_model

from itervae import InputError
from itervae.inference import LISTA, FISTAUnrolled, infer
from itervae.model import SparseCodingSettings, sparse_coding_model

pytestmark = pytest.mark.usefixtures("unchecked")  # of shapes, which the contract of all engines checks

SIZE, LATENTS = 32, 48
SETTINGS = [{}, {"hidden": 0}, {"tied": True}, {"matrices": True, "latents": LATENTS}, {"steps": 3, "tied": True}]


def coding(signed=False, threshold=0.3):
    """Sparse coding with a random dictionary, float64."""
    atoms = torch.randn(SIZE, LATENTS, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return sparse_coding_model(atoms, SparseCodingSettings(LATENTS, threshold, signed=signed), (SIZE,))


MODELS = {
    "poisson": lambda: random_model(SIZE, LATENTS),
    "lasso": coding,
    "signed lasso": lambda: coding(signed=True),
}
CASES = [*(("poisson", each) for each in SETTINGS), ("lasso", SETTINGS[0]), ("signed lasso", SETTINGS[3])]


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


@pytest.mark.parametrize(("kind", "settings"), CASES)
def test_is_fista_before_training(kind, settings):
    model = MODELS[kind]()
    x = random_data(model, 6)
    engine = LISTA(**settings).double()
    for steps in range(1, engine.steps + 1):
        found = infer(model, engine, x, steps=steps).posterior.u
        assert torch.equal(found, infer(model, FISTAUnrolled(), x, steps=steps).posterior.u)


@pytest.mark.parametrize("signed", [False, True])
def test_its_first_step_on_the_lasso_is_that_of_ista(signed):
    """a = T(Φᵀx/h) at the threshold θ/h, the first layer of Gregor & LeCun; eased by δ at (1 −
    δ)θ/h."""
    model = coding(signed, threshold=0.5)
    x, engine = 0.3 * random_data(model, 6), LISTA(steps=1, hidden=0).double()
    drive, ease = x @ model.dictionary.detach(), 0.5
    for threshold in (0.5, 0.25):
        size = drive.abs() - threshold if signed else drive - threshold
        expected = drive.sign() * size.clamp_min(0) / 4  # h = 4, in units of atoms of norm 1
        found = infer(model, engine, x).posterior.mean.detach()
        assert (found != 0).any(1).all()
        torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)
        engine.layers[0].scalars.data[1] = ease


def test_a_hard_threshold_is_refused():
    model = sparse_coding_model(torch.eye(4), SparseCodingSettings(4, 0.3, "hard"), (4,))
    with pytest.raises(InputError, match="LISTA needs a model with certifiable optimum"):
        infer(model, LISTA(), torch.ones(1, 4))


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(("kind", "settings"), CASES)
@pytest.mark.parametrize("scale", [0.3, 30.0])
def test_whatever_it_has_learned_f_never_rises_and_the_optimum_is_reached(kind, settings, scale):
    model = MODELS[kind]()
    x = random_data(model, 20)
    engine = disturbed(LISTA(**settings), scale)
    with torch.no_grad():
        trace = infer(model, engine, x, steps=300, record=("free_energy",)).trace["free_energy"]
    assert torch.isfinite(trace).all()
    assert (trace.diff(dim=0) <= 1e-9 * trace[:-1].abs()).all()
    assert gap(model, engine, x, steps=300).max() < 1e-6


@pytest.mark.parametrize("kind", MODELS)
def test_where_a_learned_step_raises_f_it_is_one_of_fista(kind):
    """Thresholds so low that every learned step raises F: nothing of what was learned is used."""
    model = MODELS[kind]()
    x = random_data(model, 5)
    engine = LISTA(steps=4, hidden=0).double()
    with torch.no_grad():
        for layer in engine.layers:
            layer.scalars[1] = 50.0
    for steps in (1, 2, 4):
        found = infer(model, engine, x, steps=steps).posterior.u
        assert torch.equal(found, infer(model, FISTAUnrolled(), x, steps=steps).posterior.u)


@pytest.mark.parametrize("kind", ["poisson", pytest.param("lasso", marks=pytest.mark.slow)])
def test_training_closes_the_gap_and_runs_on_another_dictionary(kind):
    model = random_model(SIZE, LATENTS, log_rate=-2.0) if kind == "poisson" else coding(threshold=1.0)
    model.requires_grad_(False)
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
