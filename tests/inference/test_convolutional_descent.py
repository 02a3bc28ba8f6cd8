"""The lasso of maps in compiled code: at the optimum of the same problem as a matrix, whatever the
dimensions, borders, strides, channels and weights."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from sklearn.linear_model import Lasso

from itervae.inference import Optimal, infer
from itervae.inference.engines import optimal
from itervae.model import ConvolutionalDecoder, GaussianLikelihood, GenerativeModel
from itervae.model.priors.sparse_code import SparsityPrior

CASES = {
    "recording": ((40,), 7, 2),
    "two channels": ((2, 30), 6, 3),
    "picture": ((13, 11), 4, 1),
    "colour": ((3, 12, 15), 5, 2),
    "smaller than an atom": ((5, 4), 6, 3),
    "film": ((1, 5, 7, 6), 3, 2),
}


def made(case: str, signed: bool) -> tuple[GenerativeModel, torch.Tensor]:
    torch.manual_seed(0)
    shape, width, stride = CASES[case]
    channels = len(shape) != 2 or case == "two channels"
    decoder = ConvolutionalDecoder(shape, 6, width, stride, channels=channels and len(shape) > 1, unit_norm=True)
    prior = SparsityPrior(6, 0.3, signed=signed, places=decoder.places)
    model = GenerativeModel(prior, decoder, GaussianLikelihood(1.0), shape).double()
    return model, torch.randn(3, int(np.prod(shape)), dtype=torch.float64)


def columns(model: GenerativeModel) -> np.ndarray:
    with torch.no_grad():
        return model.operator().forward(torch.eye(model.latents, dtype=torch.float64)).mT.numpy()


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_it_is_the_optimum_of_scikit_learn_on_the_columns(case, signed, monkeypatch):
    monkeypatch.setattr(optimal.Optimal, "step", None)  # no other step is taken
    model, x = made(case, signed)
    found = infer(model, Optimal(tolerance=1e-9), x)
    assert found.stats["certificate"].max() <= 1e-9
    matrix = columns(model)
    for row, code in zip(x.numpy(), found.posterior.mean.numpy(), strict=True):
        solver = Lasso(0.3 / len(row), fit_intercept=False, positive=not signed, tol=1e-14, max_iter=100_000)
        best = solver.fit(matrix, row).coef_
        energies = [0.5 * ((row - matrix @ a) ** 2).sum() + 0.3 * abs(a).sum() for a in (code, best)]
        assert energies[0] <= energies[1] + 1e-9


@pytest.mark.parametrize("each", [False, True])
def test_weights_are_those_of_the_rows_of_the_matrix(each, monkeypatch):
    monkeypatch.setattr(optimal.Optimal, "step", None)
    model, x = made("colour", signed=True)
    weights = torch.rand(x.shape if each else x.shape[1:], dtype=torch.float64)
    weights[..., ::5] = 0
    found = infer(model, Optimal(tolerance=1e-9), x, precision=weights)
    assert found.stats["certificate"].max() <= 1e-9
    for i, code in enumerate(found.posterior.mean.numpy()):
        root = (weights[i] if each else weights).sqrt().numpy()
        matrix, row = root[:, None] * columns(model), root * x[i].numpy()
        best = Lasso(0.3 / len(row), fit_intercept=False, tol=1e-14, max_iter=100_000).fit(matrix, row).coef_
        energies = [0.5 * ((row - matrix @ a) ** 2).sum() + 0.3 * abs(a).sum() for a in (code, best)]
        assert energies[0] <= energies[1] + 1e-9


def test_a_warm_start_silent_data_and_company_change_nothing():
    model, x = made("picture", signed=False)
    x[1] = 0
    together = infer(model, Optimal(tolerance=1e-8), x)
    for i in range(3):
        alone = infer(model, Optimal(tolerance=1e-8), x[i : i + 1]).posterior.mean[0]
        torch.testing.assert_close(together.posterior.mean[i], alone, rtol=0, atol=0)
    assert not together.posterior.mean[1].any()
    again = infer(model, Optimal(tolerance=1e-8), x, state=together.state)
    assert (again.stats["certificate"] <= 1e-8).all()


@pytest.mark.parametrize("threads", [1, 2])
def test_atoms_that_are_learned_and_threads(threads):
    """Parameters have gradients, and whether one is followed is a state of each thread."""
    model, x = made("picture", signed=True)
    expected = infer(model, Optimal(tolerance=1e-8), x).posterior.mean.detach()
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for kind in (torch.enable_grad, torch.no_grad):
            with kind():
                for part in (model.double(), deepcopy(model).float()):
                    found = infer(part, Optimal(tolerance=1e-8), x.to(part.decoder.weight.dtype))
                    assert found.stats["certificate"].max() <= (1e-8 if part is model else 1e-3)
        torch.testing.assert_close(infer(model, Optimal(tolerance=1e-8), x).posterior.mean.detach(), expected)
    finally:
        torch.set_num_threads(before)


def test_a_tolerance_finer_than_rounding_is_reported_not_claimed():
    model, x = made("picture", signed=True)
    found = infer(model, Optimal(5, tolerance=1e-30), 30 * x[:1])
    assert (found.stats["certificate"] > 1e-30).all()
