"""Recurrent refinement: the solver before training, safe whatever it has learned, better after
training."""

import pytest
import torch
from problems import any_model, random_data, random_model

from itervae import InputError
from itervae.inference import FamilyEnergy, FISTAUnrolled, Problem, Recurrent, infer
from itervae.model import CategoricalVAESettings, GaussianVAESettings, LaplaceVAESettings, build_model

pytestmark = pytest.mark.usefixtures("unchecked")  # of shapes, which the contract of all engines checks

FAMILIES = {
    "gaussian": GaussianVAESettings(latents=6),
    "gaussian-relu": GaussianVAESettings(latents=6, activation="relu"),
    "gaussian-exp": GaussianVAESettings(latents=6, activation="exp"),
    "laplace": LaplaceVAESettings(latents=6),
    "categorical": CategoricalVAESettings(latents=6),
}
X = torch.randn(5, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def made(family):
    return build_model(FAMILIES[family], (4, 4), seed=1).double().requires_grad_(False)


def engine_for(model, scale=0.0, **settings):
    """The engine, its parameters disturbed."""
    torch.manual_seed(0)
    engine = Recurrent.build(Recurrent.Settings(**settings), model, model.shape).to(model.beta.dtype)
    with torch.no_grad():
        for parameter in engine.parameters():
            parameter.add_(scale * torch.randn(parameter.shape, dtype=parameter.dtype))
    return engine


def free_energy(model, x, engine, steps=None):
    return model.free_energy(x, infer(model, engine, x, steps=steps).posterior).total.detach()


def test_is_fista_before_training():
    model = random_model(32, 48)
    x = random_data(model, 6)
    for steps in (1, 3, 5):
        found = infer(model, engine_for(model), x, steps=steps).posterior.u
        assert torch.equal(found, infer(model, FISTAUnrolled(), x, steps=steps).posterior.u)


@pytest.mark.parametrize("scale", [0.0, 0.5, 20.0])
@pytest.mark.parametrize("family", FAMILIES)
def test_f_never_rises_where_it_is_exact(family, scale):
    model = made(family)
    engine = engine_for(model, scale)
    with torch.no_grad():
        trace = infer(model, engine, 10 * X, steps=40, record=("free_energy",)).trace["free_energy"]
    assert torch.isfinite(trace).all()
    assert (trace.diff(dim=0) <= 1e-9 * trace[:-1].abs()).all()
    assert (trace[-1] < trace[0]).all()


@pytest.mark.parametrize("scale", [0.5, 20.0])
def test_f_never_rises_on_the_convex_problem_and_the_optimum_is_reached(scale):
    model = random_model(32, 48)
    x = random_data(model, 20)
    engine = engine_for(model, scale)
    with torch.no_grad():
        trace = infer(model, engine, x, steps=300, record=("free_energy",)).trace["free_energy"]
    assert (trace.diff(dim=0) <= 1e-9 * trace[:-1].abs()).all()
    assert (trace[-1] - free_energy(model, x, FISTAUnrolled(), 500)).abs().max() < 1e-6


@pytest.mark.parametrize("family", FAMILIES)
def test_the_natural_gradient_is_that_of_the_fisher_matrix(family):
    """∂F/∂u by central differences, and the Fisher information as the curvature of KL(q_u ‖
    q_{u+d}) at d = 0."""
    model = made(family)
    u = torch.randn(5, len(model.prior().u), generator=torch.Generator().manual_seed(1), dtype=torch.float64) / 2
    problem = Problem(model, X, model.prior())
    assert isinstance(problem.energy, FamilyEnergy)
    slope = problem.energy.evaluate(u)
    for index in (0, 5, u.shape[1] - 1):
        step = torch.zeros_like(u)
        step[:, index] = 1e-4
        up, down = (model.free_energy(X, model.posterior(u + sign * step)).total for sign in (1, -1))
        here = model.posterior(u)
        curvature = sum(model.free_energy(X, here, model.posterior(u + sign * step)).kl for sign in (1, -1)) / 1e-8
        if family == "categorical":  # p(1 − p) on the diagonal of the whole matrix, of which `fisher` has p
            curvature = curvature / (1 - here.mean[:, index])
        if family == "laplace" and index < 6:
            curvature = torch.exp(-2 * here.log_scale[:, index])  # a KL that is not smooth: its value is known
        torch.testing.assert_close(here.fisher[:, index], curvature, rtol=2e-3, atol=1e-6)
        torch.testing.assert_close(
            slope.gradient[:, index], (up - down) / 2e-4 / here.fisher[:, index], rtol=1e-4, atol=1e-6
        )


def trained(model, engine, batches, updates=60):
    optimizer = torch.optim.Adam(engine.parameters(), lr=0.02)
    generator = torch.Generator().manual_seed(0)
    for update in range(updates):
        x = batches(update)
        posterior = infer(model, engine, x, generator=generator).posterior
        loss = model.free_energy(x, posterior.at(0.3), generator=generator).total.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return engine


def test_training_beats_the_solver_and_runs_on_another_dictionary():
    model = random_model(32, 48, log_rate=-2.0).requires_grad_(False)
    x = random_data(model, 200)
    best = free_energy(model, x, FISTAUnrolled(), 300)
    before = (free_energy(model, x, FISTAUnrolled(), 3) - best).mean()
    engine = trained(
        model, engine_for(model, steps=3, hidden=8), lambda update: random_data(model, 50, seed=2 + update)
    )
    assert (free_energy(model, x, engine) - best).mean() < 0.7 * before
    other = random_model(24, 40, seed=5, log_rate=-2.0)
    assert torch.isfinite(free_energy(other, random_data(other, 20), engine)).all()


@pytest.mark.slow
@pytest.mark.parametrize("family", ["gaussian-relu", "laplace"])
def test_training_closes_the_gap_of_other_families(family):
    model = made(family)
    x = torch.randn(200, 16, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    best = free_energy(model, x, engine_for(model), 400)
    before = (free_energy(model, x, engine_for(model, steps=3)) - best).mean()
    engine = trained(model, engine_for(model, steps=3, hidden=8), lambda update: x)
    assert (free_energy(model, x, engine) - best).mean() < 0.5 * before


@pytest.mark.slow
def test_a_network_decoder_gains_by_training_and_keeps_it_beyond_the_trained_steps():
    model = any_model("mlp", latents=8).requires_grad_(False)
    with torch.no_grad():
        for parameter in model.decoder.parameters():
            parameter.mul_(3)
        x = model.decode(torch.poisson(torch.full((300, 8), 1.0), generator=torch.Generator().manual_seed(0)))

    def measured(engine, steps):
        found = infer(model, engine, x, steps=steps, generator=torch.Generator().manual_seed(1)).posterior
        return model.free_energy(x, found, samples=50, generator=torch.Generator().manual_seed(2)).total.mean()

    with torch.no_grad():
        before = measured(engine_for(model, steps=4), 4)
    engine = trained(model, engine_for(model, steps=4, hidden=8), lambda update: x)
    with torch.no_grad():
        trained_to, beyond = measured(engine, 4), measured(engine, 40)
    assert trained_to < 0.9 * before
    assert beyond < 1.02 * trained_to


def test_errors():
    with pytest.raises(InputError, match="hidden is 0"):
        Recurrent(hidden=0)
    with pytest.raises(InputError, match="steps is 0"):
        Recurrent(steps=0)
