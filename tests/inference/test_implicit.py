"""The gradient through a fixed point, against long unrolls and finite differences of the certified
optimum."""

import warnings

import pytest
import torch
from families import linear_model_of
from problems import any_model, build_engine, linear_model, random_data, random_model

from itervae import InputError
from itervae.distributions import RelaxedPoisson
from itervae.inference import (
    Envelope,
    FISTAUnrolled,
    Implicit,
    LCAUnrolled,
    Optimal,
    Problem,
    SolvableEnergy,
    Unroll,
    infer,
)
from itervae.inference.energies.base import Point
from itervae.inference.systems.implicit import attach, solve_by_products, solve_transposed
from itervae.inference.systems.jacobian import gmres
from itervae.model import SparseCodingSettings, sparse_coding_model

SHAPES = pytest.mark.parametrize(("size", "latents"), [(12, 20), (20, 12)], ids=["overcomplete", "undercomplete"])


def draw(*shape, seed=5):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def model_of(size, latents):
    """A model with everything learned, of which every parameter moves the optimum."""
    model = random_model(size=size, latents=latents, log_rate=draw(latents, seed=3) - 1)
    model.likelihood.log_variance.requires_grad_()
    return model


def coding(signed=True, hard=False, size=12, latents=20, twice=False):
    settings = SparseCodingSettings(latents, 0.5, "hard" if hard else "soft", signed)
    dictionary = draw(size, latents, seed=2)
    if twice:
        dictionary[:, 1] = dictionary[:, 0]
    return sparse_coding_model(dictionary, settings, (size,))


def read_out(posterior):
    """A loss that is not F: linear in u, and in the mean."""
    return (posterior.u * draw(*posterior.u.shape)).sum() + (posterior.mean * draw(*posterior.mean.shape, seed=6)).sum()


def gradients(model, engine, x, gradient, steps=None, prior=None, loss=read_out, state=None):
    """Of the loss, in the parameters of the model, in x and in the log-rates of a prior of each
    datum."""
    x = x.clone().requires_grad_()
    wanted = [*(p for p in model.parameters() if p.requires_grad), x]
    if prior is not None:
        prior = prior.clone().requires_grad_()
        wanted.append(prior)
    given = None if prior is None else RelaxedPoisson(prior)
    posterior = infer(model, engine, x, steps=steps, gradient=gradient, prior=given, state=state).posterior
    return torch.autograd.grad(loss(posterior), wanted, materialize_grads=True)


def slope(model, x, prior=None, loss=read_out, change=1e-5, state=None, engine=None):
    """Central differences of the loss at the certified optimum along a random direction, and that
    direction."""
    engine = engine or Optimal(tolerance=1e-20)
    moved = [*(p for p in model.parameters() if p.requires_grad), x, *([] if prior is None else [prior])]
    direction = [draw(*tensor.shape, seed=10 + i) for i, tensor in enumerate(moved)]

    @torch.no_grad()
    def value(change):
        saved = [tensor.clone() for tensor in moved]
        for tensor, along in zip(moved, direction, strict=True):
            tensor.add_(change * along)
        given = None if prior is None else RelaxedPoisson(prior)
        found = loss(infer(model, engine, x, prior=given, state=state).posterior)
        for tensor, before in zip(moved, saved, strict=True):
            tensor.copy_(before)
        return found

    return (value(change) - value(-change)) / (2 * change), direction


def inner(one, other):
    return sum((a * b).sum() for a, b in zip(one, other, strict=True))


@pytest.mark.usefixtures("unchecked")
@SHAPES
@pytest.mark.parametrize("name", ["lca-unrolled", "ista-unrolled", "fista-unrolled"])
@pytest.mark.parametrize("steps", [250])
def test_it_is_the_limit_of_unrolling(name, steps, size, latents):
    """Also long after the steps have come to rest, where κ must not follow rounding noise."""
    model = model_of(size, latents)
    engine, x = build_engine(name, model), random_data(model, 3, scale=1)
    assert infer(model, engine, x, steps=steps).stats["certificate"].max() < 1e-25
    unrolled = gradients(model, engine, x, Unroll(), steps)
    for one, other in zip(gradients(model, engine, x, Implicit(), steps), unrolled, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-9)


@SHAPES
@pytest.mark.parametrize("carried", [False, True], ids=["static prior", "prior per datum"])
def test_it_is_the_derivative_of_the_certified_optimum(carried, size, latents):
    """In the dictionary, the observation variance, the prior and x."""
    model = model_of(size, latents)
    x = random_data(model, 3, scale=1)
    prior = draw(3, latents, seed=8) - 1 if carried else None
    for gradient in gradients(model, Optimal(tolerance=1e-20), x, Implicit(), prior=prior):
        assert gradient.abs().max() > 1e-3 or carried
    expected, direction = slope(model, x, prior)
    for engine, steps in ((Optimal(tolerance=1e-20), None), (LCAUnrolled(), 400)):
        found = gradients(model, engine, x, Implicit(), steps, prior)
        torch.testing.assert_close(inner(found, direction), expected, rtol=1e-6, atol=1e-7)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("signed", [True, False])
def test_it_is_the_derivative_of_the_lasso(signed):
    """Of coefficients, and of potentials at rest, which move with the data as well."""
    model = coding(signed)
    x = draw(4, model.size, seed=1)
    found = infer(model, Optimal(steps=500, tolerance=1e-20), x)
    state, engine = found.state.detach(), Optimal(steps=100, tolerance=1e-20)  # on from there
    assert 0 < (found.posterior.mean != 0).double().mean() < 0.6
    for loss in (read_out, lambda posterior: (posterior.mean * draw(*posterior.mean.shape)).sum()):
        expected, direction = slope(model, x, loss=loss, change=1e-6, state=state, engine=engine)
        gradient = gradients(model, engine, x, Implicit(), loss=loss, state=state)
        torch.testing.assert_close(inner(gradient, direction), expected, rtol=1e-5, atol=1e-6)


def test_it_is_the_derivative_of_a_code_under_a_hard_threshold():
    """Of the local minimum that the LCA has reached, which moves continuously."""
    model = coding(hard=True)
    x = draw(4, model.size, seed=1)
    engine = LCAUnrolled(steps=400)
    state = infer(model, engine, x).state.detach()
    expected, direction = slope(model, x, change=1e-6, state=state, engine=engine)
    gradient = gradients(model, engine, x, Implicit())
    torch.testing.assert_close(inner(gradient, direction), expected, rtol=1e-5, atol=1e-6)


def test_a_code_that_is_not_unique_gets_no_gradient_and_a_warning():
    model = coding(twice=True)
    # both copies are active in the first datum; one other atom alone in the second, and it leaves
    # φ_5/2 of x
    x = torch.stack([5 * model.dictionary[:, 0], 2 * model.dictionary[:, 5]]).detach()
    with pytest.warns(UserWarning, match="1 of 2 data have active atoms that are linearly dependent"):
        *_, gradient = gradients(model, FISTAUnrolled(), x, Implicit(), 500)
    assert (gradient[0] == 0).all()
    assert gradient[1].abs().max() > 0.1


def test_data_without_an_active_unit():
    model = coding()
    *_, gradient = gradients(model, FISTAUnrolled(), 1e-3 * draw(2, 12), Implicit(), 5)
    # u = Φᵀx there
    torch.testing.assert_close(gradient, draw(2, 20) @ model.dictionary.detach().mT)


@SHAPES
def test_gmres_agrees_with_the_closed_forms(size, latents):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for model in (model_of(size, latents), coding(size=size, latents=latents)):
            x = draw(5, model.size, seed=1)
            found = infer(model, FISTAUnrolled(), x, steps=300, gradient=Envelope())
            energy = Problem(model, x, model.prior()).energy
            right = draw(5, latents)
            closed = solve_transposed(energy, found.state.u, right)
            torch.testing.assert_close(solve_by_products(energy, found.state.u, right), closed, rtol=1e-7, atol=1e-8)


def test_gmres_against_a_direct_solver():
    """Systems that are not symmetric, of several sizes, one of them of low rank plus the identity,
    one zero."""
    matrices = draw(4, 90, 90) / 20 + 2 * torch.eye(90, dtype=torch.float64)
    matrices[1] = torch.eye(90, dtype=torch.float64)
    matrices[1, :, 0] += 3  # the Krylov space is exhausted after two products
    right = draw(4, 90, seed=7)
    right[2] = 0
    answer, converged = gmres(lambda vector: (matrices @ vector[..., None])[..., 0], right)
    assert converged.all()
    torch.testing.assert_close(answer, torch.linalg.solve(matrices, right), rtol=1e-8, atol=1e-9)
    alone, _ = gmres(lambda vector: vector @ matrices[3].mT, right[3:])
    torch.testing.assert_close(alone[0], answer[3], rtol=1e-8, atol=1e-9)


def test_what_gmres_does_not_solve_is_said():
    singular = torch.zeros(3, 3, dtype=torch.float64)
    answer, converged = gmres(lambda vector: vector @ singular, draw(2, 3))
    assert not converged.any()
    assert torch.isfinite(answer).all()


class Squashed(SolvableEnergy):
    """½‖x − tanh(Φu)‖² + ½‖u‖², by automatic differentiation alone: no energy of this package."""

    exact = True

    def __init__(self, dictionary, x):
        self.dictionary, self.x = dictionary, x

    def evaluate(self, u):
        with torch.enable_grad():
            u = u if u.requires_grad else u.detach().requires_grad_()
            value = 0.5 * (self.x - (u @ self.dictionary.mT).tanh()).square().sum(-1) + 0.5 * u.square().sum(-1)
            (gradient,) = torch.autograd.grad(value.sum(), u, create_graph=True)
        return Point(value.detach(), u, gradient - u, gradient, torch.ones_like(u))


@pytest.mark.usefixtures("unchecked")
def test_any_energy_with_second_derivatives_will_do():
    dictionary, x = draw(8, 11, seed=1) / 3, draw(4, 8, seed=2)

    def root(dictionary, x):
        u = torch.zeros(4, 11, dtype=torch.float64)
        for _ in range(2000):
            u = (u - 0.3 * Squashed(dictionary, x).evaluate(u).gradient).detach()
        return u

    given = dictionary.clone().requires_grad_(), x.clone().requires_grad_()
    u = root(dictionary, x)
    attached = attach(Squashed(*given), u)
    assert torch.equal(attached, u)
    found = torch.autograd.grad((attached * draw(4, 11)).sum(), given)
    direction = draw(8, 11, seed=20), draw(4, 8, seed=21)
    up, down = (root(dictionary + h * direction[0], x + h * direction[1]) for h in (1e-5, -1e-5))
    torch.testing.assert_close(inner(found, direction), ((up - down) * draw(4, 11)).sum() / 2e-5, rtol=1e-7, atol=1e-8)


def test_the_error_falls_with_the_distance_to_the_fixed_point():
    model = model_of(12, 20)
    x = random_data(model, 3, scale=1)
    exact = gradients(model, FISTAUnrolled(), x, Implicit(), 300)
    best = infer(model, FISTAUnrolled(), x, steps=300).state.u
    ratios = []
    for steps in (10, 20, 40):  # at 60 what is left is rounding
        away = (infer(model, FISTAUnrolled(), x, steps=steps).state.u - best).norm()
        found = gradients(model, FISTAUnrolled(), x, Implicit(), steps)
        ratios.append(sum((a - b).norm() for a, b in zip(found, exact, strict=True)) / away)
    assert max(ratios) < 5 * min(ratios)


def test_the_posterior_is_that_of_the_steps():
    model = model_of(12, 20)
    x = random_data(model, 3)
    for engine in (LCAUnrolled(), Optimal()):
        implicit, envelope = (infer(model, engine, x, gradient=mode) for mode in (Implicit(), Envelope()))
        assert torch.equal(implicit.posterior.log_rate, envelope.posterior.log_rate)
        assert torch.equal(implicit.stats["certificate"], envelope.stats["certificate"])
        assert implicit.posterior.log_rate.requires_grad
        with torch.no_grad():
            assert not infer(model, engine, x, gradient=Implicit()).posterior.log_rate.requires_grad


def test_memory_does_not_depend_on_the_steps():
    model = random_model(size=32, latents=64)
    x = random_data(model, 8)
    saved = []
    for steps in (5, 50):
        total = 0

        def pack(tensor):
            nonlocal total
            total += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            infer(model, LCAUnrolled(), x, steps=steps, gradient=Implicit())
        saved.append(total)
    assert saved[0] == saved[1] > 0


def test_pieces_change_nothing(monkeypatch):
    for model in (model_of(12, 20), model_of(20, 12), coding()):
        x = draw(5, model.size, seed=1)
        whole = gradients(model, LCAUnrolled(), x, Implicit(), 100)
        with monkeypatch.context() as patch:
            patch.setattr("itervae.inference.systems.jacobian.SYSTEM_BYTES", 20_000)
            pieces = gradients(model, LCAUnrolled(), x, Implicit(), 100)
        for one, other in zip(pieces, whole, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("latents", [16, 40])
def test_extreme_rates(latents, dtype):
    """Rates from e^-800, which is 0, and 1e-8 to 1e3; float32 as good as float64."""
    log_rate = torch.linspace(-18.4, 6.9, latents)
    log_rate[0] = -800
    atoms = draw(24, latents, seed=1) / 24**0.5
    model = linear_model(atoms.to(dtype), log_rate=log_rate.to(dtype))
    x = (linear_model(atoms, log_rate=log_rate).decode(log_rate.double().exp()[None]) + draw(4, 24)).to(dtype)
    found = gradients(model, Optimal(tolerance=1e-9), x, Implicit())
    assert all(torch.isfinite(gradient).all() for gradient in found)
    posterior = infer(model, Optimal(tolerance=1e-9), x).posterior
    assert posterior.mean.min() == 0
    assert posterior.mean.max() > 300
    # one by one: ∂g/∂log r = −β and J = βI + ΦᵀΦ·diag(λ)/σ²
    rate, dictionary = posterior.mean.double(), model.dictionary.detach().double()
    jacobian = torch.eye(latents) + dictionary.mT @ dictionary / 0.5 * rate[:, None, :]
    right = (draw(4, latents) + draw(4, latents, seed=6) * rate)[..., None]
    expected = torch.linalg.solve(jacobian.mT, right)[..., 0]
    torch.testing.assert_close(found[-1].double(), expected @ dictionary.mT / 0.5, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("family", ["gaussian", "categorical"])
def test_it_is_the_derivative_of_an_optimum_in_closed_form(family):
    """Other families, by GMRES on the natural gradient; logits may all be shifted, so their loss is
    one of the mean."""
    model = linear_model_of(family)
    x = draw(3, model.size)
    loss = read_out if family == "gaussian" else lambda posterior: (posterior.mean * draw(*posterior.mean.shape)).sum()
    expected, direction = slope(model, x, loss=loss, engine=Optimal())
    found = gradients(model, Optimal(), x, Implicit(), loss=loss)
    assert expected.abs() > 1e-2
    torch.testing.assert_close(inner(found, direction), expected, rtol=1e-6, atol=1e-7)


def test_what_does_not_fit_is_refused():
    for name, model, x, message in (
        (
            "amortized",
            model_of(12, 20),
            draw(2, 12),
            "Amortized, whose one pass does not end at an optimum; use unroll",
        ),
        (
            "spiking-lca",
            model_of(12, 20),
            draw(2, 12),
            "draws spikes at every step and does not settle; use unroll",
        ),
        (
            "lca-unrolled",
            any_model("mlp"),
            torch.rand(2, 64),
            "sampled, and its gradients are detached: use unroll",
        ),
    ):
        engine = build_engine(name, model)
        with pytest.raises(InputError, match=message):
            infer(model, engine, x, gradient=Implicit())


def test_linear_models_are_solved_in_closed_form(monkeypatch):
    monkeypatch.setattr("itervae.inference.systems.implicit.gmres", None)
    for model in (model_of(12, 20), coding()):
        gradients(model, LCAUnrolled(), draw(2, 12), Implicit(), 5)
