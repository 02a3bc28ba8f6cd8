"""Active-set steps on the lasso: E never rises, hard problems end in tens of steps, dependent atoms
do no harm."""

import pytest
import torch

from itervae.inference import LCAUnrolled, Optimal, infer
from itervae.inference.energies.lasso import LassoEnergy
from itervae.inference.engine import State
from itervae.inference.engines import optimal as optimal_module
from itervae.inference.problem import Problem
from itervae.inference.systems.active_set import active_set_step
from itervae.model import SparseCodingSettings, build_model

SIZE, LATENTS = 24, 48


def coding(threshold, signed, twins=False):
    settings = SparseCodingSettings(latents=LATENTS, threshold=threshold, shrinkage="soft", signed=signed)
    model = build_model(settings, (SIZE,), 0).double().requires_grad_(False)
    if twins:
        model.decoder.weight[:, 1::2] = model.decoder.weight[:, ::2]
    return model


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def batched(monkeypatch):
    """`Optimal` as it is on a GPU."""
    monkeypatch.setattr(optimal_module, "_compiled", lambda problem: False)


@pytest.mark.parametrize("twins", [False, True])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("threshold", [0.02, 0.5])
def test_the_energy_never_rises_and_its_end_is_the_optimum(threshold, signed, twins):
    """From anywhere, by these steps alone; potentials say what the point says. More units than
    dimensions are active on the way, and with equal atoms at the end."""
    model = coding(threshold, signed, twins)
    x = 3 * draw(20, SIZE)
    problem = Problem(model, x, model.prior())
    energy = problem.energy
    assert isinstance(energy, LassoEnergy)
    for u in (torch.zeros(20, LATENTS).double(), 2 * draw(20, LATENTS, seed=1)):
        point = energy.evaluate(u)
        for _ in range(60):
            before, before_u = point, u
            u, point = active_set_step(energy, u, point)
            again = energy.evaluate(u)
            assert (point.value <= before.value + energy.tolerance(before)).all()
            torch.testing.assert_close(point.mean, again.mean)
            torch.testing.assert_close(point.gradient, again.gradient)
            at_rest = point.mean == 0 if not signed else (point.mean == 0) & (point.data_gradient.abs() < threshold)
            at_rest &= -point.data_gradient < threshold
            assert (point.gradient[at_rest & (u != before_u)].abs() < 1e-9).all()  # as the LCA at rest has it
        assert energy.certificate(u).max() < 1e-8


@pytest.mark.parametrize("signed", [False, True])
def test_a_low_threshold_needs_tens_of_steps(signed, batched):
    """Where the LCA alone takes thousands."""
    model = coding(0.02, signed)
    x = 3 * draw(50, SIZE, seed=2)
    found = infer(model, Optimal(tolerance=1e-9), x)
    assert found.stats["certificate"].max() <= 1e-9
    assert found.stats["steps"].max() < 100
    assert infer(model, LCAUnrolled(), x, steps=1000).stats["certificate"].max() > 1e-6


def test_what_is_given_a_warm_start_is_not_rounded(batched):
    model = coding(0.5, True)
    x = 3 * draw(30, SIZE, seed=3)
    best = infer(model, Optimal(tolerance=1e-9), x)
    again = infer(model, Optimal(tolerance=1e-9), x, state=best.state)
    assert (again.stats["steps"] == 0).all()
    nearby = infer(model, Optimal(tolerance=1e-9), 1.001 * x, state=State(best.state.u))
    assert nearby.stats["steps"].max() < 5


def test_nothing_active_stays_silent():
    model = coding(100.0, True)
    x = draw(3, SIZE)
    problem = Problem(model, x, model.prior())
    u, point = active_set_step(
        problem.energy, torch.zeros(3, LATENTS).double(), problem.energy.evaluate(problem.start())
    )
    assert (point.mean == 0).all()
    torch.testing.assert_close(u, x @ model.dictionary)
