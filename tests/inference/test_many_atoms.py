"""Many atoms: working sets in place of the Gram matrix, nothing of K × K numbers, answers that do
not depend on the batch."""

import pytest
import torch
from problems import random_data, random_model
from sklearn.decomposition import sparse_encode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from itervae.evaluation import amortization_gap, least_errors
from itervae.inference import FISTAUnrolled, LCAUnrolled, Optimal, State, driver, infer
from itervae.inference.engines import optimal as optimal_module
from itervae.inference.problem import Problem
from itervae.inference.systems import working_sets
from itervae.inference.systems.coordinate_descent import minimize
from itervae.model import Dense, SparseCodingSettings, operators, sparse_coding_model

SIZE, LATENTS = 24, 90


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def coding(threshold, signed, atoms="random", latents=LATENTS):
    """Random atoms; the second half of them the same as the first ("twins"), in four dimensions
    ("flat"), or every third of norm zero ("void")."""
    dictionary = draw(SIZE, latents)
    if atoms == "twins":
        dictionary[:, latents // 2 :] = dictionary[:, : latents // 2]
    if atoms == "flat":
        dictionary = draw(SIZE, 4) @ draw(4, latents, seed=1)
    settings = SparseCodingSettings(latents, threshold, "soft", signed)
    model = sparse_coding_model(dictionary, settings, (SIZE,)).requires_grad_(False)
    if atoms == "void":
        model.decoder.weight[:, ::3] = 0
    return model


@pytest.fixture
def many(monkeypatch):
    """Atoms count as many, however few they are."""
    monkeypatch.setattr(operators, "GRAM_BYTES", 0)


@pytest.mark.parametrize("atoms", ["random", "twins", "flat", "void"])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("threshold", [0.02, 3.0])
def test_working_sets_end_at_the_optimum_from_anywhere(threshold, signed, atoms, many):
    """Its potentials say what its point says, evaluated anew, and are those of the LCA at rest."""
    model, x = coding(threshold, signed, atoms), 3 * draw(10, SIZE, seed=2)
    energy = Problem(model, x, model.prior()).energy
    assert energy.quadratic.terms.gram is None
    for start in (torch.zeros(10, LATENTS).double(), 2 * draw(10, LATENTS, seed=3)):
        u, point = minimize(energy, start, 1e-8)
        again = energy.evaluate(u)
        assert energy.certificate(u).max() <= 1e-8
        for name in ("value", "mean", "data_gradient", "gradient"):
            torch.testing.assert_close(getattr(point, name), getattr(again, name), atol=1e-9, rtol=1e-9)
        torch.testing.assert_close(point.gradient, torch.zeros_like(u), atol=1e-3, rtol=0)
        assert signed or (point.mean >= 0).all()


@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "batched"])
@pytest.mark.parametrize("signed", [False, True])
def test_the_optimum_is_that_of_scikit_learn(signed, compiled, many, monkeypatch):
    if not compiled:
        monkeypatch.setattr(optimal_module, "_compiled", lambda energy: False)
    model, x = coding(0.5, signed), 3 * draw(10, SIZE, seed=4)
    found = infer(model, Optimal(tolerance=1e-10), x)
    assert (found.stats["certificate"] <= 1e-10).all()
    other = sparse_encode(
        x.numpy(), model.dictionary.mT.numpy(), algorithm="lasso_lars", alpha=0.5, positive=not signed
    )
    torch.testing.assert_close(found.posterior.mean, torch.from_numpy(other), atol=1e-5, rtol=0)


@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "batched"])
def test_weights_of_the_values_are_rows_of_the_atoms(compiled, monkeypatch):
    """Each datum with weights of its own is that of a dictionary of its own."""
    if not compiled:
        monkeypatch.setattr(optimal_module, "_compiled", lambda energy: False)
    model, x, w = coding(0.5, True), 3 * draw(3, SIZE, seed=5), draw(3, SIZE, seed=6).square()
    w[1, :9] = 0
    found = infer(model, Optimal(tolerance=1e-9), x, precision=w)
    assert (found.stats["certificate"] <= 1e-9).all()
    settings = SparseCodingSettings(LATENTS, 0.5, "soft", True, unit_norm=False)
    for row, root in enumerate(w.sqrt()):
        own = sparse_coding_model(root[:, None] * model.dictionary, settings, (SIZE,))
        alone = infer(own, Optimal(tolerance=1e-9), root * x[row : row + 1])
        torch.testing.assert_close(found.posterior.mean[row], alone.posterior.mean[0], atol=1e-4, rtol=0)


def test_the_batch_and_the_threads_change_nothing(many):
    """A datum alone, among 4096, and on two threads."""
    model, x = coding(0.5, False, latents=40), 3 * draw(4096, SIZE, seed=7)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        all_ = infer(model, Optimal(tolerance=1e-8), x)
        torch.set_num_threads(1)
        for row in (0, 7, 4095):
            alone = infer(model, Optimal(tolerance=1e-8), x[row : row + 1])
            torch.testing.assert_close(all_.state.u[row : row + 1], alone.state.u, atol=1e-12, rtol=0)
    finally:
        torch.set_num_threads(threads)
    assert (all_.stats["certificate"] <= 1e-8).all()


def test_parts_are_of_so_many_latents(monkeypatch):
    model, x = coding(0.5, True), 3 * draw(11, SIZE, seed=8)
    whole = infer(model, LCAUnrolled(), x)
    seen = []
    monkeypatch.setattr(driver, "LATENTS_AT_ONCE", 4 * LATENTS + 1)
    run = driver.Problem
    monkeypatch.setattr(driver, "Problem", lambda model, x, *rest: seen.append(len(x)) or run(model, x, *rest))
    parts = infer(model, LCAUnrolled(), x)
    assert seen == [4, 4, 3]
    torch.testing.assert_close(parts.posterior.u, whole.posterior.u, atol=1e-10, rtol=0)


def test_a_set_that_does_not_end_says_what_it_reached(many, monkeypatch):
    monkeypatch.setattr(working_sets, "ROUNDS", 1)
    model, x = coding(0.02, True), 3 * draw(4, SIZE, seed=9)
    energy = Problem(model, x, model.prior()).energy
    u, point = minimize(energy, torch.zeros(4, LATENTS).double(), 1e-12)
    torch.testing.assert_close(point.data_gradient, energy.evaluate(u).data_gradient, atol=1e-10, rtol=0)
    found = infer(model, Optimal(steps=300, tolerance=1e-9), x, state=State(u))  # other steps go on from there
    assert (found.stats["certificate"] <= 1e-9).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5])
def test_codes_that_are_mostly_zero_are_multiplied_as_such(share, dtype, many):
    operator, z = Dense(draw(SIZE, 300).to(dtype)), draw(7, 300, seed=1).to(dtype)
    z = z * (torch.rand(z.shape, generator=torch.Generator().manual_seed(2)) < share)
    x = draw(7, SIZE, seed=3).to(dtype)
    for laid in (operator, operator.copy()):
        assert laid.equals(operator)
        torch.testing.assert_close(laid.residual(x, z), x - z @ operator.dictionary.mT)
    copy = operator.copy()
    operator.dictionary[0, 0] = 0
    assert not copy.equals(operator)


class Largest(TorchDispatchMode):
    """Remembers how many numbers the largest tensor has that is made."""

    numbers = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        sizes = [leaf.numel() for leaf in tree_leaves(made) if isinstance(leaf, torch.Tensor)]
        self.numbers = max(self.numbers, *sizes, 0)
        return made


@pytest.mark.parametrize("family", ["sparse coding", "poisson"])
def test_nothing_has_the_square_of_the_latents(family):
    latents, size = 6000, 12
    if family == "poisson":
        model = random_model(size, latents).requires_grad_(False)
        x = random_data(model, 2)
    else:
        settings = SparseCodingSettings(latents, 0.5)
        model = sparse_coding_model(draw(size, latents), settings, (size,)).requires_grad_(False)
        x = 3 * draw(2, size, seed=1)
    with Largest() as seen:
        for engine in (Optimal(), LCAUnrolled(5), FISTAUnrolled(5)):
            codes = infer(model, engine, x).posterior.mean
        report = amortization_gap(model, {"lca:5": (LCAUnrolled(), 5)}, x)
        if family == "sparse coding":
            least_errors(model, x, codes)
    assert report.optimal.not_certified == 0
    assert seen.numbers <= 5 * size * latents
