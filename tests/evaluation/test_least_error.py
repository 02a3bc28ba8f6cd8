"""The least error at no larger L1, against SciPy's solvers and theory."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize, nnls

from itervae import InputError, infer
from itervae.evaluation import least_errors
from itervae.inference import Optimal
from itervae.model import SparseCodingSettings, sparse_coding_model

D, K, N = 6, 10, 7


def example(signed=False, unit_norm=True, bias=True, seed=0):
    """A model, data and codes of no great merit."""
    generator = torch.Generator().manual_seed(seed)
    phi = torch.randn(D, K, generator=generator)
    settings = SparseCodingSettings(K, 0.3, signed=signed, unit_norm=unit_norm, bias=bias)
    model = sparse_coding_model(phi, settings, (D,)).requires_grad_(False)
    if bias:
        model.decoder.bias.copy_(torch.randn(D, generator=generator))
    x = 2 * torch.randn(N, D, generator=generator)
    codes = (x @ phi - 1).relu() * 0.2
    if signed:
        codes = codes * torch.randn(N, K, generator=generator).sign()
    codes[0] = 0
    return model, x, codes


def data_of(model, x):
    bias = 0 if model.decoder.bias is None else model.decoder.bias.double().numpy()
    return x.double().numpy() - bias, model.operator(torch.float64).dictionary.numpy()


@pytest.mark.parametrize(("signed", "unit_norm", "bias"), [(False, True, True), (True, False, False)])
def test_least_errors_are_those_of_scipy(signed, unit_norm, bias):
    """A quadratic program for each datum; signed codes are two that are not negative."""
    model, x, codes = example(signed, unit_norm, bias)
    found = least_errors(model, x, codes, tolerance=1e-6)
    y, phi = data_of(model, x)
    phi = np.hstack([phi, -phi]) if signed else phi
    for row in range(N):
        budget = codes[row].abs().double().sum().item()

        def error(a, row=row):
            return 0.5 * ((y[row] - phi @ a) ** 2).sum()

        a = minimize(
            error,
            np.zeros(phi.shape[1]),
            jac=lambda a, row=row: -phi.T @ (y[row] - phi @ a),
            bounds=[(0, None)] * phi.shape[1],
            constraints=[{"type": "ineq", "fun": lambda a, b=budget: b - a.sum(), "jac": lambda a: -np.ones_like(a)}],
            options={"ftol": 1e-14, "maxiter": 500},
        ).x.clip(0)
        least = error(a * min(1, budget / max(a.sum(), 1e-300)))  # a solver may leave the constraint by a little
        assert found.least[row].item() == pytest.approx(least, rel=1e-5, abs=1e-8)
        assert found.proved[row].item() <= least
    assert (found.least - found.proved <= 1e-6 * found.error + 1e-11 * found.power).all()
    assert (found.least <= found.error).all()
    ours = 0.5 * ((y - codes.double().numpy() @ phi[:, :K].T) ** 2).sum(1)
    np.testing.assert_allclose(found.error, ours, rtol=1e-12)
    np.testing.assert_allclose(found.power, 0.5 * (y**2).sum(1), rtol=1e-12)
    assert found.proved[0].item() == pytest.approx(found.power[0].item(), rel=1e-11)  # of norm 0 there is one code


def test_the_lasso_itself_cannot_be_improved():
    """At any threshold the code of the lasso has the least error of its norm."""
    model, x, _ = example()
    best = infer(model, Optimal(tolerance=1e-12), x.double()).posterior.mean
    found = least_errors(model, x.double(), best)
    torch.testing.assert_close(found.proved, found.error, rtol=1e-4, atol=1e-10)
    assert (found.proved <= found.error).all()


def test_with_a_large_budget_it_is_that_of_non_negative_least_squares():
    model, x, _ = example()
    found = least_errors(model, x, torch.full((N, K), 50.0))
    y, phi = data_of(model, x)
    expected = [0.5 * nnls(phi, row)[1] ** 2 for row in y]
    np.testing.assert_allclose(found.least, expected, atol=1e-4 * found.error.max().item())
    assert (found.proved <= torch.tensor(expected) + 1e-12).all()


def test_answers_do_not_depend_on_other_data():
    model, x, codes = example()
    whole, order = least_errors(model, x, codes), torch.tensor([3, 1, 5])
    some = least_errors(model, x[order], codes[order])
    for name in ("least", "proved"):
        torch.testing.assert_close(getattr(some, name), getattr(whole, name)[order], rtol=2e-4, atol=1e-9)


def test_refusals():
    model, x, codes = example()
    hard = sparse_coding_model(torch.eye(D), SparseCodingSettings(D, 0.3, "hard"), (D,))
    for given, pattern in (
        ((hard, x, x), r"hard threshold.*expected a soft threshold"),
        ((model, x, codes[:, :4]), r"codes have shape \(7, 4\); expected \(7, 10\)"),
        ((model, x, codes - 1), r"codes are negative.*pass posterior.mean"),
        ((model, x[:, :2], codes), r"x has 2 values per datum"),
        ((model, x.where(x < 2, torch.nan), codes), r"values that were not seen.*leave such data out"),
    ):
        with pytest.raises(InputError, match=pattern):
            least_errors(*given)
    with pytest.raises(InputError, match=r"tolerance is 0.*expected a positive number"):
        least_errors(model, x, codes, tolerance=0)
