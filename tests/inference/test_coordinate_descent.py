"""The compiled lasso: against scikit-learn, theory and the batched steps, on dependent atoms, from
anywhere."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import sparse_encode

from itervae.inference import Optimal, State, infer
from itervae.inference.engines import optimal as optimal_module
from itervae.inference.problem import Problem
from itervae.inference.systems.coordinate_descent import minimize
from itervae.model import SparseCodingSettings, sparse_coding_model

SIZE, LATENTS = 24, 60


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def coding(threshold, signed, atoms="random"):
    """Random atoms; the second half of them the same as the first ("twins"), in four dimensions
    ("flat"), or every third of norm zero ("void")."""
    dictionary = draw(SIZE, LATENTS)
    if atoms == "twins":
        dictionary[:, LATENTS // 2 :] = dictionary[:, : LATENTS // 2]
    if atoms == "flat":
        dictionary = draw(SIZE, 4) @ draw(4, LATENTS, seed=1)
    settings = SparseCodingSettings(LATENTS, threshold, "soft", signed)
    model = sparse_coding_model(dictionary, settings, (SIZE,)).requires_grad_(False)
    if atoms == "void":
        model.decoder.weight[:, ::3] = 0
    return model


def energy_of(model, x):
    return Problem(model, x, model.prior()).energy


@pytest.mark.parametrize("atoms", ["random", "twins", "flat", "void"])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("threshold", [0.02, 0.5, 3.0])
def test_it_ends_at_the_optimum_from_anywhere(threshold, signed, atoms):
    """Its potentials say what its point says, evaluated anew, and are those of the LCA at rest."""
    model, x = coding(threshold, signed, atoms), 3 * draw(40, SIZE, seed=2)
    energy = energy_of(model, x)
    for start in (torch.zeros(40, LATENTS).double(), 2 * draw(40, LATENTS, seed=3)):
        u, point = minimize(energy, start, 1e-8)
        again = energy.evaluate(u)
        assert energy.certificate(u).max() <= 1e-8
        for name in ("value", "mean", "data_gradient", "gradient"):
            torch.testing.assert_close(getattr(point, name), getattr(again, name), atol=1e-9, rtol=1e-9)
        torch.testing.assert_close(point.gradient, torch.zeros_like(u), atol=1e-3, rtol=0)
        assert signed or (point.mean >= 0).all()


@pytest.mark.parametrize("signed", [False, True])
def test_it_is_the_optimum_of_scikit_learn_and_of_the_batched_steps(signed, monkeypatch):
    model, x = coding(0.5, signed), 3 * draw(20, SIZE, seed=4)
    found = infer(model, Optimal(tolerance=1e-10), x)
    assert (found.stats["steps"] == 0).all()
    atoms = model.dictionary.mT.numpy()
    other = sparse_encode(x.numpy(), atoms, algorithm="lasso_lars", alpha=0.5, positive=not signed)
    np.testing.assert_allclose(found.posterior.mean, other, atol=1e-5)
    monkeypatch.setattr(optimal_module, "_compiled", lambda problem: False)
    batched = infer(model, Optimal(tolerance=1e-10), x)
    assert (batched.stats["steps"] > 0).all()
    torch.testing.assert_close(found.posterior.mean, batched.posterior.mean, atol=1e-5, rtol=0)
    torch.testing.assert_close(found.posterior.u, batched.posterior.u, atol=1e-5, rtol=0)


@pytest.mark.parametrize("signed", [False, True])
def test_working_sets_that_outgrow_their_room(signed, patches):
    dictionary = draw(256, 512)
    settings = SparseCodingSettings(512, 0.05, "soft", signed)
    model = sparse_coding_model(dictionary, settings, (256,)).requires_grad_(False)
    found = infer(model, Optimal(tolerance=1e-9), patches[:10].double())
    assert (found.posterior.mean != 0).sum(1).max() > 100
    assert found.stats["certificate"].max() <= 1e-9


def test_threads_and_other_data_change_nothing():
    model, x = coding(0.5, True), 3 * draw(300, SIZE, seed=5)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = infer(model, Optimal(tolerance=1e-8), x).state.u
        alone = infer(model, Optimal(tolerance=1e-8), x[7:8]).state.u
        torch.set_num_threads(2)
        two = infer(model, Optimal(tolerance=1e-8), x).state.u
    finally:
        torch.set_num_threads(threads)
    torch.testing.assert_close(one, two, atol=1e-12, rtol=0)
    torch.testing.assert_close(one[7:8], alone, atol=1e-12, rtol=0)


def test_a_tolerance_finer_than_rounding_is_reported_not_claimed():
    model, x = coding(0.5, True), 1e3 * draw(5, SIZE, seed=6)
    found = infer(model, Optimal(tolerance=1e-18), x)
    assert found.stats["stalled"].all()
    assert found.stats["steps"].max() < 100
    assert ((found.stats["certificate"] > 1e-18) & (found.stats["certificate"] < 1e-6)).all()


def test_silent_data_and_a_warm_start():
    model, x = coding(0.5, True), 3 * draw(10, SIZE, seed=7)
    x[3] = 0
    found = infer(model, Optimal(tolerance=1e-9), x)
    assert (found.posterior.mean[3] == 0).all()
    assert found.stats["certificate"][3] == 0
    again = infer(model, Optimal(tolerance=1e-9), 1.001 * x, state=State(found.state.u))
    assert again.stats["certificate"].max() <= 1e-9
    silent = infer(coding(1e4, True), Optimal(), x)
    torch.testing.assert_close(silent.posterior.u, x @ model.dictionary)
