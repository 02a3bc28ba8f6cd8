"""Sparse coding on the same engines: against scikit-learn, closed forms, duality and the theory of
the LCA."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import sparse_encode

from itervae import InputError
from itervae.distributions import RelaxedPoisson
from itervae.inference import (
    LCAODE,
    Envelope,
    FISTAUnrolled,
    ISTAUnrolled,
    LCAUnrolled,
    Optimal,
    Recurrent,
    State,
    Unroll,
    certificate,
    infer,
)
from itervae.model import (
    GaussianLikelihood,
    GenerativeModel,
    LinearDecoder,
    SparseCodingSettings,
    SparsityPrior,
    build_model,
    sparse_coding_model,
)

SOLVERS = {"lca": LCAUnrolled, "lca-ode": LCAODE, "ista": ISTAUnrolled, "fista": FISTAUnrolled}


def coding(size=20, latents=40, threshold=0.5, hard=False, signed=True, seed=0):
    """Sparse coding with a random dictionary of unit-norm atoms, float64."""
    generator = torch.Generator().manual_seed(seed)
    dictionary = torch.randn(size, latents, generator=generator, dtype=torch.float64)
    settings = SparseCodingSettings(latents, threshold, "hard" if hard else "soft", signed)
    return sparse_coding_model(dictionary, settings, (size,))


def data(count=6, size=20, seed=1, scale=1.0):
    return scale * torch.randn(count, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def solved(model, engine, x, steps):
    with torch.no_grad():
        return infer(model, engine, x, steps=steps)


def energy(model, x, a):
    """The objective, written out again."""
    threshold = model.prior.threshold
    cost = 0.5 * threshold**2 * (a != 0) if model.prior.hard else threshold * a.abs()
    return 0.5 * (x - a @ model.dictionary.detach().mT).square().sum(-1) + cost.sum(-1)


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("name", SOLVERS)
def test_the_lasso_optimum_is_that_of_scikit_learn(name, signed):
    model, x = coding(signed=signed), data()
    found = solved(model, SOLVERS[name](), x, 700)
    a = found.posterior.mean.detach()
    assert found.stats["certificate"].max() < 1e-8
    atoms = model.dictionary.detach().mT.numpy()
    other = sparse_encode(x.numpy(), atoms, algorithm="lasso_lars", alpha=0.5, positive=not signed)
    theirs = energy(model, x, torch.as_tensor(other))
    ours = energy(model, x, a)
    assert (ours <= theirs + 1e-8).all()
    assert (theirs - ours).max() < 1e-6
    np.testing.assert_allclose(a, other, atol=1e-5)
    torch.testing.assert_close(model.free_energy(x, found.posterior).total.detach(), ours)


@pytest.mark.parametrize("signed", [True, False])
def test_certificate_bounds_what_is_left_to_gain(signed):
    """At any code, and it is 0 only at the optimum."""
    model, x = coding(signed=signed), data()
    with torch.no_grad():
        best = infer(model, Optimal(steps=5000, tolerance=1e-10), x)
        optimum = energy(model, x, best.posterior.mean)
        for seed in range(5):
            noise = torch.randn(6, 40, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
            code = model.posterior(best.posterior.u + 0.1 * noise)
            left = energy(model, x, code.mean) - optimum
            bound = certificate(model, x, code)
            assert (bound >= left - 1e-10).all()
            assert (bound[left > 1e-6] > 0).all()
            dual = energy(model, x, code.mean) - bound
            assert (dual <= optimum + 1e-9).all()


def test_optimal_certifies_every_datum_and_refuses_a_cost_that_is_not_convex():
    x = data(20)
    found = infer(coding(), Optimal(steps=5000, tolerance=1e-8), x)
    assert (found.stats["certificate"] <= 1e-8).all()
    with pytest.raises(InputError, match="Optimal needs a model with certifiable optimum"):
        infer(coding(hard=True), Optimal(), x)


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("signed", [True, False])
def test_orthonormal_atoms_give_the_threshold_function(name, signed):
    basis = torch.linalg.qr(data(12, 12))[0]
    x = data(5, 12, seed=3)
    inner = x @ basis
    for hard in (False, True):
        settings = SparseCodingSettings(12, 0.5, "hard" if hard else "soft", signed)
        model = sparse_coding_model(basis, settings, (12,))
        a = solved(model, SOLVERS[name](), x, 200).posterior.mean
        size = inner.abs() if signed else inner
        kept = inner if hard else inner - 0.5 * inner.sign()
        torch.testing.assert_close(a.detach(), torch.where(size > 0.5, kept, 0), atol=1e-9, rtol=0)


def test_the_fixed_point_is_that_of_the_lca():
    """u = Φᵀx − (ΦᵀΦ − I)a, a = T(u): Rozell et al. (2008), equation 2.3 at rest."""
    for hard in (False, True):
        model, x = coding(hard=hard), data()
        posterior = solved(model, LCAUnrolled(), x, 700).posterior
        phi, a = model.dictionary.detach(), posterior.mean.detach()
        at_rest = x @ phi - a @ (phi.mT @ phi - torch.eye(40))
        torch.testing.assert_close(posterior.u.detach(), at_rest, atol=1e-5, rtol=0)


def test_no_single_coefficient_can_be_bettered_under_a_hard_threshold():
    model, x = coding(hard=True), data()
    a = solved(model, LCAUnrolled(), x, 700).posterior.mean
    reached = energy(model, x, a)
    phi = model.dictionary.detach()
    residual = x - a @ phi.mT
    for k in range(40):
        for value in (torch.zeros(6, dtype=torch.float64), a[:, k] + residual @ phi[:, k]):
            changed = a.clone()
            changed[:, k] = value
            assert (energy(model, x, changed) >= reached - 1e-6).all()


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize("scale", [0.0, 1e-3, 1.0, 100.0])
def test_stable_for_every_datum(name, hard, scale, patches):
    """The energy never rises, on any scale of input, in float32."""
    model = coding(256, 512, hard=hard, signed=False).float()
    x = scale * patches[:20]
    with torch.no_grad():
        trace = infer(model, SOLVERS[name](), x, record=("free_energy",)).trace["free_energy"].double()
    assert torch.isfinite(trace).all()
    assert (trace.diff(dim=0) <= 1e-5 * (trace[:-1].abs() + x.double().square().sum(-1))).all()


@pytest.mark.parametrize("name", SOLVERS)
def test_permuting_splitting_and_going_on_change_nothing(name):
    model, x = coding(), data(6)
    engine = SOLVERS[name]()
    whole = solved(model, engine, x, 20)
    alone = torch.cat([infer(model, engine, row[None], steps=20).posterior.mean for row in x])
    torch.testing.assert_close(alone, whole.posterior.mean, atol=1e-9, rtol=0)
    first = infer(model, engine, x, steps=12)
    second = infer(model, engine, x, steps=8, state=first.state)
    torch.testing.assert_close(second.posterior.mean, whole.posterior.mean, atol=1e-9, rtol=0)
    warm = infer(model, engine, x, steps=0, state=State(whole.state.u))
    torch.testing.assert_close(warm.posterior.mean, whole.posterior.mean)


def test_the_envelope_gradient_is_the_local_rule():
    """dE/dΦ at fixed a is −(x − Φa)aᵀ, its part along each unit-norm atom taken out by the
    normalization."""
    model, x = coding(), data()
    found = infer(model, FISTAUnrolled(), x, steps=200, gradient=Envelope())
    model.free_energy(x, found.posterior).total.sum().backward()
    phi, a = model.dictionary.detach(), found.posterior.mean
    rule = -(x - a @ phi.mT).mT @ a
    tangent = rule - phi * (phi * rule).sum(0)
    torch.testing.assert_close(model.decoder.weight.grad, tangent)


def test_unrolled_gradient_at_the_optimum_is_the_envelope_gradient():
    """At the optimum of a convex energy both are the gradient of its minimum; finite differences
    agree."""
    model, x = coding(threshold=0.5), data(3)

    def optimum():
        return model.free_energy(
            x, infer(model, FISTAUnrolled(), x, steps=300, gradient=Unroll()).posterior
        ).total.sum()

    value = optimum()
    value.backward()
    direction = torch.randn(20, 40, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    along = (model.decoder.weight.grad * direction).sum().item()
    step = 1e-6
    with torch.no_grad():
        model.decoder.weight.add_(step * direction)
        above = optimum().item()
        model.decoder.weight.sub_(2 * step * direction)
        below = optimum().item()
    assert along == pytest.approx((above - below) / (2 * step), rel=1e-5)


@pytest.mark.parametrize("name", SOLVERS)
def test_gradients_stay_finite_when_nothing_moves(name):
    """Data that call for no coefficient: for hundreds of steps no curvature is seen."""
    model = coding(threshold=5.0).float()
    x = data(4, scale=0.5).float()
    found = infer(model, SOLVERS[name](), x, steps=300, gradient=Unroll())
    assert (found.posterior.mean == 0).all()
    model.free_energy(x, found.posterior).total.sum().backward()
    assert torch.isfinite(model.decoder.weight.grad).all()


def test_building_leaves_the_global_random_state():
    before = torch.get_rng_state()
    build_model(SparseCodingSettings(latents=8), (4, 4))
    assert torch.equal(torch.get_rng_state(), before)


def test_errors():
    model, x = coding(), data()
    with pytest.raises(InputError, match="`threshold` is 0"):
        build_model(SparseCodingSettings(threshold=0.0), (4, 4))
    message = "Recurrent needs a model with variational posterior, and this one has a SparsityPrior"
    with pytest.raises(InputError, match=message):
        infer(model, Recurrent(), x)
    other = SparsityPrior(40, 1.0, signed=True)()
    with pytest.raises(InputError, match=r"another sparsity cost than the model's \(threshold 1 for 0.5"):
        infer(model, LCAUnrolled(), x, prior=other)
    with pytest.raises(InputError, match="another likelihood than a Gaussian of variance 1"):
        GenerativeModel(SparsityPrior(4, 1.0), LinearDecoder(3, 4), GaussianLikelihood(0.5), (3,))
    with pytest.raises(InputError, match="this model has exact: use"):
        model.free_energy(x, infer(model, LCAUnrolled(), x).posterior, estimator="eat")
    with pytest.raises(InputError, match="the prior is a RelaxedPoisson; this model has a SparsityCost"):
        infer(model, LCAUnrolled(), x, prior=RelaxedPoisson(torch.zeros(40)))
