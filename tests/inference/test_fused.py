"""Steps in compiled code against the same steps in tensors, one by one; their exp, log and Lambert
W by definition."""

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from problems import random_data, random_model
from scipy.special import wrightomega

from itervae.distributions import RelaxedPoisson
from itervae.errors import InputError
from itervae.inference import (
    FISTAUnrolled,
    ISTAUnrolled,
    LCAUnrolled,
    Optimal,
    State,
    compile_steps,
    infer,
)
from itervae.inference.energies import lambertw, poisson
from itervae.inference.energies.linear import Quadratic
from itervae.inference.engines import damping, descent, fused
from itervae.inference.engines.ista import ProximalDescent
from itervae.inference.engines.lca import LCADescent
from itervae.inference.kernels import descent_numba
from itervae.inference.kernels.descent_numba import compiled, exp, log, log_lambertw_exp
from itervae.inference.problem import Problem
from itervae.kernels.launch import SERIAL
from itervae.model import ConvolutionalDecoder, GaussianLikelihood, GenerativeModel, PoissonPrior

KINDS = [LCADescent, ISTAUnrolled, FISTAUnrolled]
LATENTS, MAPS = 96, "maps"
PRECISIONS = [torch.float32, torch.float64]


@compiled
def elementary(x, e, ell, logarithm):
    for i in range(len(x)):
        e[i] = exp(x[i])
        logarithm[i] = log(e[i])
        ell[i] = log_lambertw_exp(x[i])


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_elementary_functions(kind):
    info = np.finfo(kind)
    least, most = np.log(info.tiny), np.log(info.max)
    last = [np.nextafter(kind(most), kind(0))]
    x = np.concatenate([np.linspace(least + 0.4, most - 0.4, 100_001), np.linspace(-9, 9, 20_001), last]).astype(kind)
    e, ell, logarithm = (np.empty_like(x) for _ in range(3))
    elementary(x, e, ell, logarithm)
    exact = x.astype(np.longdouble)
    assert np.abs(e / np.exp(exact) - 1).max() < 2 * info.eps
    true = np.log(e.astype(np.longdouble))
    assert (np.abs(logarithm - true) <= 2 * info.eps * np.abs(true)).all()
    residual = (ell + np.exp(ell.astype(np.longdouble)) - exact) / (1 + np.exp(ell.astype(np.longdouble)))
    assert (np.abs(residual) <= 2 * info.eps * np.maximum(np.abs(exact), 1)).all()


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_elementary_functions_at_the_ends(kind):
    x = np.array([-np.inf, -1e30, -1e4, 1e4, 1e30, np.inf, np.nan], kind)
    e, ell, logarithm = (np.empty_like(x) for _ in range(3))
    elementary(x, e, ell, logarithm)
    np.testing.assert_array_equal(e, [0, 0, 0, np.inf, np.inf, np.inf, np.nan])
    np.testing.assert_array_equal(ell[:3], x[:3])
    np.testing.assert_allclose(ell[3:5], np.log(wrightomega(x[3:5].astype(np.float64)).real), rtol=1e-6)
    assert np.isnan(ell[-1])


def test_constants_are_those_in_tensors():
    """Compiled code has its own copies: numba's cache knows of changes in a function's own file
    alone."""
    assert (descent_numba.BELOW, descent_numba.ABOVE) == (lambertw.BELOW, lambertw.ABOVE)
    assert np.float32(damping.LEAST_SQUARE) == descent_numba.LEAST_SQUARE


@pytest.mark.parametrize("module", [descent_numba, fused])
def test_the_table_of_pairs_names_what_there_is(module):
    """Both docstrings have the same table, and each function named in it exists."""
    pairs = [re.split(" {2,}", line.strip()) for line in module.__doc__.split("\n") if line.startswith("    ")]
    assert pairs[0] == ["in tensors", "in compiled code"]
    assert len(pairs) == 8
    places = [LCADescent, ProximalDescent, poisson.PoissonEnergy, Quadratic, descent.Descent, descent, lambertw]
    known = {f"{place.__name__.split('.')[-1]}.{name}" for place in places for name in vars(place)}
    known |= {"log_lambertw_exp", "poisson_kl"}
    for tensors, compiled_code in pairs[1:]:
        names = [name.strip() for name in re.sub(r"\(.*?\)", "", tensors).split(",")]
        assert {name for name in names if "in the" not in name} <= known
        for name in re.findall(r"\b_?[a-z_]+\b", compiled_code.split(", where")[0].split(", otherwise")[0]):
            assert name in ("and", "in") or hasattr(descent_numba, name)
    assert descent_numba.__doc__.split("\n\n")[2] == fused.__doc__.rstrip().split("\n\n")[2].rstrip()


def in_tensors(monkeypatch):
    for module in (descent, poisson):
        monkeypatch.setattr(module, "fusible", lambda value: False)


def problem_of(latents, per_datum, scale=2.0, size=32, count=40):
    """With a unit of zero norm, and one whose rate underflows; maps where `latents` is MAPS."""
    if latents == MAPS:
        decoder = ConvolutionalDecoder((9, 8), 5, 4, stride=2, unit_norm=True)
        prior, latents = PoissonPrior(5, -2.0, -1.0, places=decoder.places), 5 * decoder.places
        model = GenerativeModel(prior, decoder, GaussianLikelihood(0.05), (9, 8)).double().requires_grad_(False)
        decoder.weight[3] = 0
        model.prior.log_rate[4] = -20.0
    else:
        model = random_model(size, latents, variance=0.05).requires_grad_(False)
        model.dictionary[:, 5] = 0
        model.prior.log_rate[7] = -800.0
    x = random_data(model, count, scale=scale)
    prior = model.prior()
    if per_datum:
        prior = RelaxedPoisson(
            prior.log_rate + 0.3 * torch.randn(count, latents, generator=torch.Generator().manual_seed(4))
        )
    return Problem(model, x, prior)


def compare(found, expected, **tolerance):
    torch.testing.assert_close(found.u, expected.u, **tolerance)
    assert found.memory.keys() == expected.memory.keys()
    for name, value in expected.memory.items():
        torch.testing.assert_close(
            found.memory[name], value, **tolerance, msg=lambda text, name=name: f"{name}: {text}"
        )
    for name in ("value", "mean", "data_gradient", "gradient"):
        torch.testing.assert_close(getattr(found.point, name), getattr(expected.point, name), **tolerance)
    assert found.diagnostics.keys() == expected.diagnostics.keys()
    torch.testing.assert_close(found.diagnostics["rejected"], expected.diagnostics["rejected"])


@pytest.mark.parametrize("per_datum", [False, True])
@pytest.mark.parametrize("latents", [48, LATENTS, MAPS])  # by the Gram matrix, and by the residual
@pytest.mark.parametrize("kind", KINDS)
def test_each_step_is_the_step_in_tensors(kind, latents, per_datum, monkeypatch):
    torch.manual_seed(0)
    problem, engine = problem_of(latents, per_datum), kind(20)
    state = engine.init(problem, None)
    cut = rejected = 0
    for step in range(10):
        if step in (2, 5):  # steps far too long
            far = {name: 30 * torch.randn_like(state.u) for name in state.memory if "velocity" in name}
            short = 0.01 * state.memory["damping"]
            state = replace(state, memory={**state.memory, **far, "damping": short})
        assert engine.fuses(problem, state)
        found = engine.step(problem, state)
        with monkeypatch.context() as patched:
            in_tensors(patched)
            assert not engine.fuses(problem, state)
            expected = engine.step(problem, state)
            inertia = (state.memory["momentum"] - 1) / (0.5 + (0.25 + state.memory["momentum"] ** 2).sqrt())
            target = engine.propose(problem.energy, state, inertia)[0]
        compare(found, expected, rtol=1e-6, atol=1e-7)
        again = problem.energy.evaluate(found.u)
        torch.testing.assert_close(found.point.value, again.value)
        cut += int(((found.u - target).abs().amax(1) > 1e-6).sum())
        rejected = found.diagnostics["rejected"].sum()
        state = found
    assert cut > rejected
    assert rejected > 0 or kind is ISTAUnrolled  # what is cut by itself does not raise F


@pytest.mark.parametrize("kind", KINDS)
def test_answers_in_single_precision(kind, monkeypatch):
    model = random_model(32, LATENTS).float().requires_grad_(False)
    x = random_data(model, 500)
    found = infer(model, kind(40), x, record=("free_energy",))
    in_tensors(monkeypatch)
    expected = infer(model, kind(40), x, record=("free_energy",))
    torch.testing.assert_close(found.trace["free_energy"], expected.trace["free_energy"], rtol=2e-4, atol=1e-2)
    torch.testing.assert_close(found.trace["free_energy"][-1], expected.trace["free_energy"][-1], rtol=1e-5, atol=1e-4)
    assert found.stats["certificate"].max() < 1e-2
    assert found.posterior.u.dtype == torch.float32


@pytest.mark.parametrize("kind", [LCAUnrolled, FISTAUnrolled])
@pytest.mark.parametrize("dtype", PRECISIONS)
def test_a_step_that_overflows_is_taken_back(kind, dtype):
    problem, engine = problem_of(LATENTS, False).to(dtype), kind(20)
    state = engine.step(problem, engine.init(problem, None))
    wild = state.memory["velocity"].clone()
    wild[::2] = 1e30
    memory = {**state.memory, "velocity": wild, "momentum": torch.full_like(state.memory["momentum"], 50.0)}
    new = engine.step(problem, replace(state, memory=memory))
    assert new.point.value.isfinite().all()
    assert (new.point.value <= state.point.value + problem.energy.tolerance(state.point)).all()
    assert torch.equal(new.u[::2], state.u[::2])
    assert (new.diagnostics["rejected"][::2] == 1).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", PRECISIONS)
def test_rates_belong_to_their_log_rates_and_values_to_both(kind, dtype):
    """Where the observation variance is small, log-rates that are off by their rounding change F by
    nats; and where the start is far, a sum of differences would keep the rounding of its first
    terms."""
    model = random_model(32, LATENTS, variance=1e-4).to(dtype).requires_grad_(False)
    x = random_data(model, 20)
    problem, engine = Problem(model, x, model.prior()), kind(20)
    for start in (None, State(torch.full((20, LATENTS), 12.0, dtype=dtype))):
        state = engine.init(problem, start)
        for _ in range(30):
            state = engine.step(problem, state)
            torch.testing.assert_close(state.point.mean, state.u.exp(), rtol=100 * torch.finfo(dtype).eps, atol=1e-37)
        again = problem.energy.evaluate(state.u)
        size = again.value.abs() + problem.energy.quadratic.offset
        assert ((state.point.value - again.value).abs() <= 2000 * torch.finfo(dtype).eps * size).all()


@pytest.mark.parametrize("kind", KINDS)
def test_from_far_away_it_comes_down(kind):
    model = random_model(32, LATENTS).float().requires_grad_(False)
    x = random_data(model, 5)
    found = infer(model, kind(60), x, state=State(torch.full((5, LATENTS), 20.0)), record=("free_energy",))
    assert (found.trace["free_energy"][-1] < 1e-3 * found.trace["free_energy"][0]).all()
    assert found.stats["rejected"].max() <= 3


@pytest.mark.parametrize("engine", [*(kind(5) for kind in KINDS), Optimal()])
def test_any_layout_will_do(engine):
    model = random_model(32, LATENTS).requires_grad_(False)
    x, u = random_data(model, 20), torch.randn(LATENTS, 20, generator=torch.Generator().manual_seed(3)).double()
    prior = model.prior().like(u - 3)
    expected = infer(model, engine, x, prior=prior.like((u - 3).T.contiguous()), state=State(u.T.contiguous()))
    found = infer(model, engine, x.T.contiguous().T, prior=prior.like((u - 3).T), state=State(u.T))
    torch.testing.assert_close(found.state.u, expected.state.u)


def test_memory_of_other_data_is_refused():
    model = random_model(32, LATENTS).requires_grad_(False)
    x = random_data(model, 5)
    state = infer(model, LCAUnrolled(3), x).state
    for rows in (slice(0, 3), [0] * 9):
        with pytest.raises(InputError, match="the state's damping is of 5 data; expected"):
            infer(model, LCAUnrolled(3), x[rows], state=replace(state, u=state.u[rows]))
    problem, engine = Problem(model, x, model.prior()), LCAUnrolled()
    begun = engine.init(problem, None)
    short = {**begun.memory, "damping": begun.memory["damping"][:2]}
    with pytest.raises(ValueError, match=r"damping is torch\.float64 of 2 data; expected torch\.float64 of 5"):
        engine.step(problem, replace(begun, memory=short))


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("per_datum", [False, True])
def test_the_certificate_is_that_in_tensors(dtype, per_datum, monkeypatch):
    """From far off to where gradients are so small that log-rates do not show them."""
    problem = problem_of(LATENTS, per_datum).to(dtype)
    best = infer(problem.model, Optimal(tolerance=1e-12), problem.x.double(), prior=problem.prior).posterior.u
    noise = torch.randn(best.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    for scale in (0, 1e-9, 1e-6, 1e-3, 0.1, 2.0, 30.0):
        u = (best + scale * noise).to(dtype)
        found = problem.energy.certificate(u)
        with monkeypatch.context() as patch:
            patch.setattr(poisson, "fusible", lambda value: False)
            expected = problem.energy.certificate(u)
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-18)
    assert not problem.energy.certificate(torch.full_like(u, 700.0)).isfinite().any()


def test_where_a_gradient_goes_back_steps_are_in_tensors():
    model = random_model(32, LATENTS)
    x = random_data(model, 4)
    problem, engine = Problem(model, x, model.prior()), LCAUnrolled()
    state = engine.init(problem, None)
    assert not engine.fuses(problem, state)
    assert engine.step(problem, state).u.requires_grad
    with torch.no_grad():
        assert engine.fuses(problem, state)


def test_a_subclass_that_steps_otherwise_is_not_taken_for_its_parent():
    class Slow(LCADescent):
        def propose(self, energy, state, inertia):
            u, mean, smooth = super().propose(energy, state, inertia)
            return state.u + 0.1 * (u - state.u), mean, smooth

    problem = problem_of(LATENTS, False)
    assert not Slow(20).fuses(problem, Slow(20).init(problem, None))


def test_compile_steps_leaves_them_as_they_are(monkeypatch):
    def broken(function, **options):
        def call(*args):
            raise RuntimeError("not to be called")

        return call

    model = random_model(32, LATENTS).requires_grad_(False)
    x = random_data(model, 4)
    monkeypatch.setattr(torch, "compile", broken)
    assert torch.equal(infer(model, compile_steps(LCAUnrolled(5)), x).state.u, infer(model, LCAUnrolled(5), x).state.u)


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("kind", [LCAUnrolled, pytest.param(FISTAUnrolled, marks=pytest.mark.slow)])
def test_any_number_of_threads_gives_the_same_answer(kind, threads):
    model = random_model(32, LATENTS).requires_grad_(False)
    x = random_data(model, 2 * SERIAL // LATENTS)
    found = {}
    for number in (1, 2, 3):
        threads(number)
        found[number] = infer(model, kind(3), x)
        assert torch.get_num_threads() == number
    for number in (2, 3):
        torch.testing.assert_close(found[number].state.u, found[1].state.u, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(found[number].stats["certificate"], found[1].stats["certificate"])


def test_callers_in_several_threads(threads):
    threads(2)
    model = random_model(32, LATENTS).requires_grad_(False)
    x = random_data(model, 2 * SERIAL // LATENTS)
    expected = infer(model, LCAUnrolled(5), x).state.u
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: infer(model, LCAUnrolled(5), x).state.u, range(8)):
            torch.testing.assert_close(found, expected)
