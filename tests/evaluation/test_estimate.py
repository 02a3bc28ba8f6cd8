"""The estimated optimum, against a certified one: a linear decoder that does not say that it is
linear."""

import pytest
import torch
from problems import any_model, build_engine, random_data, random_model
from scipy.optimize import minimize
from torch import nn

from itervae.evaluation import amortization_gap
from itervae.evaluation.estimate import SCORING, estimate_optimum, scored_free_energy
from itervae.inference import LCAUnrolled, Optimal, State, infer
from itervae.model import GaussianVAESettings, LaplaceVAESettings, build_model


class Disguised(nn.Module):
    """A linear decoder of another class: no closed form is known of it."""

    def __init__(self, dictionary):
        super().__init__()
        self.weight = nn.Parameter(dictionary)

    def forward(self, z):
        return z @ self.weight.mT


@pytest.fixture(scope="module")
def known():
    """A model, the same in disguise, data and the certified optimum."""
    model = random_model(16, 12, log_rate=-1.0).float()
    hidden = random_model(16, 12, log_rate=-1.0).float()
    hidden.decoder = Disguised(model.dictionary.detach().clone())
    x = random_data(model, 60)
    with torch.no_grad():
        best = infer(model, Optimal(), x).posterior
        value = model.free_energy(x, best).total
    return model, hidden, x, best.log_rate, value


def test_scored_free_energy_is_that_of_the_closed_form(known):
    _, hidden, x, log_rate, value = known
    assert not hidden.exact
    draws = torch.stack(
        [
            scored_free_energy(hidden, x, log_rate, torch.Generator().manual_seed(seed)).total.mean()
            for seed in range(20)
        ]
    )
    assert (draws.mean() - value.mean()).abs() < 4 * draws.std() / 20**0.5


def test_from_the_prior_it_comes_near_the_certified_optimum(known):
    model, hidden, x, _, optimum = known
    prior = model.prior.log_rate.detach().expand(len(x), -1)
    at_start = (model.free_energy(x, model.posterior(prior)).total - optimum).mean()
    with torch.no_grad():
        found = estimate_optimum(hidden, x, {"prior": prior})
    gap = model.free_energy(x, model.posterior(found.u)).total - optimum
    assert (gap > -1e-3).all()
    assert gap.mean() < 0.03 * at_start
    assert found.won == {"prior": 1.0}


def test_a_start_at_the_optimum_is_not_made_worse(known):
    model, hidden, x, best, optimum = known
    prior = model.prior.log_rate.detach().expand(len(x), -1)
    with torch.no_grad():
        found = estimate_optimum(hidden, x, {"bad": prior + 3, "best": best})
    gap = (model.free_energy(x, model.posterior(found.u)).total - optimum).mean()
    noise = found.free_energy.std() / (len(x) * SCORING) ** 0.5
    assert gap < 0.3 + 3 * noise
    assert (found.spread > 0).all()
    assert found.won["bad"] + found.won["best"] == pytest.approx(1)


def test_the_gap_of_a_nonlinear_decoder_is_labelled_an_estimate():
    model = any_model("mlp", "bernoulli")
    x = torch.rand(12, 64, generator=torch.Generator().manual_seed(0))
    engines = {"amortized": (build_engine("amortized", model), None), "lca": (LCAUnrolled(), 5)}
    report = amortization_gap(model, engines, x, trace=True)
    optimal = report.to_dict("x")["optimal"]
    assert optimal["method"] == "estimate"
    assert "certificate_max" not in optimal
    assert set(optimal["won"]) == {"prior", "lca", "perturbed", "amortized"}
    assert optimal["spread_max"] >= optimal["spread_mean"] >= 0
    assert report.observation_variance is None
    assert report.arrays["spread"].shape == (12,)
    for gap in report.engines.values():
        assert gap.gap_mean > -0.5  # up to sampling noise
        assert gap.trace is not None
    assert len(report.engines["lca"].trace.mean) == 6


def test_an_engine_that_answers_nan_is_counted_and_spoils_nothing():
    class Broken(LCAUnrolled):
        def step(self, problem, state):
            u = super().step(problem, state).u.clone()
            u[0] = torch.nan
            return State(u)

    model = any_model("mlp")
    x = torch.rand(6, 64, generator=torch.Generator().manual_seed(0))
    report = amortization_gap(model, {"broken": (Broken(), 1)}, x)
    assert report.engines["broken"].non_finite == 1
    assert report.arrays["free_energy_optimal"].isfinite().all()


def test_rates_that_cannot_be_drawn_are_counted():
    model = any_model("mlp")
    x = torch.rand(5, 64)
    log_rate = torch.zeros(5, model.latents)
    log_rate[2, 3] = 11.0
    log_rate[4, 0] = torch.nan
    value = scored_free_energy(model, x, log_rate, torch.Generator().manual_seed(0)).total
    assert value.isfinite().tolist() == [True, True, False, True, False]


def test_exact_free_energies_are_minimized_from_every_start():
    """Laplace posteriors: F is jointly convex in location and scale, so all starts meet, near
    scipy's minimum."""
    model = build_model(LaplaceVAESettings(latents=10), (4, 4), seed=3).double()
    with torch.no_grad():
        model.decoder.weight.mul_(8)
    x = 2 * torch.randn(4, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    prior = model.prior().u.expand(4, -1)
    found = estimate_optimum(model, x, {"prior": prior, "off": prior + 1.5})
    assert found.spread.max() < 0.01
    for row, least in zip(x, found.free_energy, strict=True):

        def value(u, row=row):
            u = torch.tensor(u[None], requires_grad=True)
            total = model.free_energy(row[None], model.posterior(u)).total.sum()
            return total.item(), torch.autograd.grad(total, u)[0][0].numpy()

        solved = minimize(value, [0.1] * 20, jac=True, method="L-BFGS-B", options={"ftol": 1e-15, "gtol": 1e-9})
        assert -1e-9 < least.item() - solved.fun < 0.005


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["relu", "exp"])
def test_a_start_that_overflows_spoils_nothing(activation):
    """A Gaussian under an activation: a start far off, where F is not finite, loses, and the answer
    is stationary."""
    model = build_model(GaussianVAESettings(latents=10, activation=activation), (4, 4), seed=3)
    with torch.no_grad():
        model.decoder.weight.mul_(4)
    x = torch.randn(6, 16, generator=torch.Generator().manual_seed(0))
    prior = model.prior().u.expand(6, -1)
    found = estimate_optimum(model, x, {"prior": prior, "far": prior + 60.0, "nan": prior + torch.nan})
    assert torch.isfinite(found.free_energy).all()
    assert (found.free_energy < model.free_energy(x, model.posterior(prior)).total).all()
    u = found.u.double().requires_grad_()
    value = model.double().free_energy(x.double(), model.posterior(u)).total
    assert torch.autograd.grad(value.sum(), u)[0].abs().max() < 0.05
    report = amortization_gap(model.float(), {"amortized": (build_engine("amortized", model), None)}, x)
    assert report.engines["amortized"].gap_mean > 0
    assert report.optimal.method == "estimate"
