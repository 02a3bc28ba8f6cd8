"""The flow of the LCA: against its optimum, a step by hand, scipy's integrator and finite
differences."""

from typing import get_args

import numpy as np
import pytest
import torch
import torchdiffeq
from problems import linear_model, random_data, random_model
from scipy.integrate import solve_ivp
from torchdiffeq._impl.odeint import SOLVERS

from itervae import InputError
from itervae.inference import LCAODE, Checkpoint, Optimal, PoissonEnergy, State, Unroll, infer
from itervae.inference.engines import runge_kutta
from itervae.inference.engines.ode import AdaptiveMethod, FixedMethod
from itervae.model import SparseCodingSettings, sparse_coding_model

FIXED, ADAPTIVE = get_args(FixedMethod), get_args(AdaptiveMethod)


def small(latents=12):
    """A model whose energy has the Gram form (12 latents) or the residual form (24)."""
    return random_model(size=10, latents=latents, log_rate=-1.0)


def energy_of(model, x):
    return PoissonEnergy(model, x, model.prior())


def kappa(count, value=1.5):
    return torch.full((count, 1), value, dtype=torch.float64)


def velocity(model, x, u, damping):
    """The flow of one datum written out again, in numpy."""
    phi = model.dictionary.detach().numpy()
    variance, beta = model.likelihood.variance.item(), model.beta.item()
    rate, squares = np.exp(u), (phi**2).sum(0)
    gradient = (phi.T @ (phi @ rate - x) + squares / 2) / variance + beta * (u - model.prior.log_rate.detach().numpy())
    return 4 * np.tanh(-gradient / (beta + damping * squares * rate / variance) / 4)


def test_every_method_exists():
    assert {*FIXED, *ADAPTIVE} <= set(SOLVERS)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("method", [*FIXED, *ADAPTIVE])
def test_every_method_reaches_the_certified_optimum(method):
    model = small(24)
    x = random_data(model, 4)
    with torch.no_grad():
        found = infer(model, LCAODE(method=method), x, steps=80)
        best = infer(model, Optimal(tolerance=1e-9), x)
    assert (found.stats["certificate"] < 1e-6).all()
    torch.testing.assert_close(found.posterior.mean, best.posterior.mean, rtol=1e-3, atol=1e-3)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("method", [*FIXED, *ADAPTIVE])
def test_every_method_reaches_the_optimum_of_sparse_coding(method):
    dictionary = torch.randn(10, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    model = sparse_coding_model(dictionary, SparseCodingSettings(12, 0.5), (10,))
    x = torch.randn(4, 10, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.no_grad():
        assert infer(model, LCAODE(method=method), x, steps=150).stats["certificate"].max() < 1e-6


@pytest.mark.parametrize("method", ["euler", "rk4", "bosh3", "dopri5"])
@pytest.mark.parametrize(("scale", "norm"), [(0.0, 1.0), (100.0, 1e-3), (1.0, 30.0), (100.0, 30.0)])
def test_stable_for_every_datum(method, scale, norm, patches):
    """As in the contract, by other methods than the default."""
    model = random_model(256, 512).float()
    x = scale * patches[:10]
    with torch.no_grad():
        model.dictionary.mul_(norm)
        trace = infer(model, LCAODE(method=method), x, record=("free_energy",)).trace["free_energy"].double()
    assert torch.isfinite(trace).all()
    assert (trace.diff(dim=0) <= 1e-5 * (trace[:-1].abs() + x.double().square().sum(-1))).all()


@pytest.mark.parametrize("latents", [12, 24])
def test_euler_is_the_step_by_hand(latents):
    model = small(latents)
    x = random_data(model, 3)
    u = torch.randn(3, latents, generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 1
    with torch.no_grad():
        found = LCAODE(method="euler").integrate(energy_of(model, x), u, kappa(3))
    by_hand = np.stack(
        [row + velocity(model, datum, row, 1.5) for datum, row in zip(x.numpy(), u.numpy(), strict=True)]
    )
    np.testing.assert_allclose(found, by_hand, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("method", ADAPTIVE)
def test_a_step_of_an_adaptive_method_follows_the_flow_of_scipy(method):
    """Ten data of any contrast in one batch, past the proximal step: each is on its own
    trajectory."""
    model = small()
    x = random_data(model, 10) * torch.logspace(-1, 1, 10, dtype=torch.float64)[:, None]
    memory = {"damping": kappa(10), "momentum": kappa(10, 1.0)}
    start = State(torch.full((10, 12), -1.0, dtype=torch.float64), memory, step_count=1, engine="LCAODE")
    with torch.no_grad():
        found = infer(model, LCAODE(method=method, rtol=1e-6, atol=1e-6), x, steps=1, state=start)
    assert (found.stats["rejected"] == 0).all()
    assert (found.stats["fallback"] == 0).all()
    for datum, row in zip(x.numpy(), found.posterior.u, strict=True):
        path = solve_ivp(
            lambda time, u, datum=datum: velocity(model, datum, u, 1.5), (0, 1), start.u[0], rtol=1e-10, atol=1e-10
        )
        np.testing.assert_allclose(row, path.y[:, -1], atol=5e-4)  # local errors add up over the substeps


def test_smaller_tolerances_come_closer():
    model = small()
    x = random_data(model, 5)
    start = torch.full((5, 12), -1.0, dtype=torch.float64)
    energy = energy_of(model, x)
    with torch.no_grad():
        exact = LCAODE(method="dopri8", rtol=1e-11, atol=1e-11).integrate(energy, start, kappa(5))
        errors = [
            (LCAODE(method="dopri5", rtol=size, atol=size).integrate(energy, start, kappa(5)) - exact).abs().max()
            for size in (1e-2, 1e-5, 1e-8)
        ]
    assert errors[0] > 10 * errors[1] > 100 * errors[2]
    assert errors[2] < 1e-7


def test_a_datum_at_rest_leaves_the_batch():
    model = small(24)
    x = random_data(model, 12) * torch.logspace(-1, 0.5, 12, dtype=torch.float64)[:, None]
    engine = LCAODE(steps=200, tolerance=1e-5)
    found = infer(model, engine, x)
    assert (found.stats["certificate"] <= 1e-5).all()
    assert not found.posterior.u.requires_grad
    steps = found.stats["steps"]
    assert (steps < 200).all()
    assert len(steps.unique()) > 1
    for row, taken, u in zip(x, steps, found.posterior.u, strict=True):
        before = infer(model, LCAODE(), row[None], steps=int(taken) - 1)
        at_rest = infer(model, LCAODE(), row[None], steps=int(taken))
        assert before.stats["certificate"] > 1e-5
        torch.testing.assert_close(at_rest.posterior.u[0].detach(), u, rtol=1e-8, atol=1e-8)
    few = infer(model, LCAODE(steps=2, tolerance=1e-12), x)  # the largest number of steps
    assert (few.stats["steps"] <= 2).all()
    assert (few.stats["certificate"] > 1e-12).any()


def test_where_no_step_size_will_do_the_fixed_step_is_taken_and_counted():
    model = small()
    x = random_data(model, 3)
    with torch.no_grad():
        hopeless = infer(model, LCAODE(method="bosh3", rtol=1e-300, atol=1e-300), x, steps=3)
        fixed = infer(model, LCAODE(method="heun3"), x, steps=3)
        fine = infer(model, LCAODE(method="bosh3"), x, steps=3)
    assert torch.equal(hopeless.stats["fallback"], torch.full((3,), 2.0, dtype=torch.float64))  # the first is proximal
    assert torch.equal(hopeless.posterior.u, fixed.posterior.u)
    assert (fine.stats["fallback"] == 0).all()
    assert "fallback" not in fixed.stats


def test_other_assertions_are_not_hidden(monkeypatch):
    def broken(*arguments, **options):
        raise AssertionError("something else")

    monkeypatch.setattr(torchdiffeq, "odeint", broken)
    model = small()
    with torch.no_grad(), pytest.raises(AssertionError, match="something else"):
        infer(model, LCAODE(method="dopri5"), random_data(model, 2))


@pytest.mark.parametrize("latents", [12, 24])
@pytest.mark.parametrize(
    ("method", "tolerances"), [("dopri5", {"rtol": 1e-9, "atol": 1e-9}), ("heun3", {})], ids=["dopri5", "heun3"]
)
def test_gradients_of_a_step_are_its_derivative(latents, method, tolerances):
    """Against central differences, in the dictionary, the prior, the start and x; the adjoint of an
    accurate method too."""
    generator = torch.Generator().manual_seed(2)
    model = small(latents)
    x = random_data(model, 3)
    start = torch.full((3, latents), -1.0, dtype=torch.float64)
    weights = torch.randn(3, latents, generator=generator, dtype=torch.float64)
    inputs = [model.dictionary.detach(), model.prior.log_rate.detach(), start, x]
    directions = [torch.randn(value.shape, generator=generator, dtype=torch.float64) for value in inputs]

    def value(engine, dictionary, log_rate, u, data):
        moved = linear_model(dictionary.detach())
        moved.decoder.weight.requires_grad_()
        with torch.no_grad():
            moved.prior.log_rate.copy_(log_rate)
        leaves = (moved.decoder.weight, moved.prior.log_rate, u.clone().requires_grad_(), data.clone().requires_grad_())
        end = engine.integrate(PoissonEnergy(moved, leaves[3], moved.prior()), leaves[2], kappa(3))
        return (weights * end).sum(), leaves

    def derivative(engine):
        result, leaves = value(engine, *inputs)
        slopes = torch.autograd.grad(result, leaves)
        return sum((slope * along).sum() for slope, along in zip(slopes, directions, strict=True))

    direct = LCAODE(method=method, **tolerances)
    with torch.no_grad():
        up, down = (
            value(direct, *(v + size * d for v, d in zip(inputs, directions, strict=True)))[0] for size in (1e-5, -1e-5)
        )
    slope = (up - down) / 2e-5
    torch.testing.assert_close(derivative(direct), slope, rtol=1e-6, atol=1e-6)
    if method in ADAPTIVE:
        adjoint = derivative(LCAODE(method=method, adjoint=True, **tolerances))
        torch.testing.assert_close(adjoint, slope, rtol=1e-5, atol=0)


def test_the_adjoint_through_inference_agrees_and_needs_less_memory():
    """Of whole inferences, to every parameter of the model, under Unroll and Checkpoint."""
    x = random_data(small(24), 3, scale=0.7)
    found, memory = {}, {}
    for name, adjoint, gradient in (
        ("direct", False, Unroll()),
        ("adjoint", True, Unroll()),
        ("checkpoint", True, Checkpoint()),
    ):
        model = small(24)
        engine = LCAODE(method="dopri5", rtol=1e-8, atol=1e-8, adjoint=adjoint)
        kept = 0

        def pack(tensor):
            nonlocal kept
            kept += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            posterior = infer(model, engine, x, steps=4, gradient=gradient).posterior
        memory[name] = kept
        model.free_energy(x, posterior).total.sum().backward()
        found[name] = torch.cat([parameter.grad.flatten() for parameter in model.parameters()])
    torch.testing.assert_close(found["adjoint"], found["direct"], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found["checkpoint"], found["adjoint"], rtol=1e-8, atol=1e-10)
    assert memory["adjoint"] < memory["direct"] / 5


def test_a_warm_start_takes_a_proximal_step_first_and_a_continued_one_does_not():
    model = small()
    x = random_data(model, 3)
    reached = infer(model, LCAODE(), x, steps=5).state
    assert reached.step_count == 5
    assert infer(model, LCAODE(), x, steps=1, state=reached).state.step_count == 6
    assert infer(model, LCAODE(), x, steps=1, state=State(reached.u)).state.step_count == 1


def test_errors():
    for settings, message in (
        ({"steps": 0}, "steps is 0"),
        ({"method": "implicit_adams"}, "method is 'implicit_adams'; expected one of euler, midpoint"),
        ({"method": "dopri5", "rtol": 0.0}, "rtol is 0.0; expected a positive number"),
        ({"method": "dopri5", "atol": -1.0}, "atol is -1.0; expected a positive number"),
        ({"tolerance": float("nan")}, "tolerance is nan; expected a positive number"),
        ({"method": "rk4", "rtol": 1e-3}, "rtol is 0.001, but rk4 takes fixed steps; leave it out, or use one of adap"),
        ({"adjoint": True}, "adjoint was asked for with heun3, whose one step back is too coarse"),
        ({"method": "dopri5", "adjoint": True, "tolerance": 1e-3}, "adjoint was asked for with tolerance 0.001"),
    ):
        with pytest.raises(InputError, match=message):
            LCAODE(**settings)


@pytest.mark.parametrize("method", runge_kutta.TABLEAUS)
def test_fixed_steps_are_those_of_torchdiffeq(method):
    u = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    times = torch.arange(2, dtype=torch.float64)
    for length in (1.0, 0.3):

        def flow(u, length=length):
            return length * (u.sin() - 0.3 * u * u.roll(1, -1))

        (_, expected) = torchdiffeq.odeint(lambda time, u, flow=flow: flow(u), u, times, method=method)
        torch.testing.assert_close(runge_kutta.step(method, flow, u), expected, rtol=1e-14, atol=1e-15)
