"""The certified gap against an independent solver, closed forms and itself."""

import json
import re
from itertools import pairwise

import numpy as np
import pytest
import torch
from problems import build_engine, linear_model, random_data, random_model
from scipy.optimize import minimize

from itervae import InputError, cli
from itervae.evaluation import amortization_gap
from itervae.inference import LCAUnrolled
from itervae.model import SparseCodingSettings, build_model


def engine(name, model, steps=None):
    return {name: (build_engine(name, model), steps)}


def scipy_optimum(model, x):
    """F* of one datum by a trust-region method on log-rates, from the free energy written out again
    in NumPy."""
    phi = model.dictionary.detach().numpy()
    prior = model.prior.log_rate.detach().numpy()
    beta, variance = model.beta.item(), model.likelihood.variance.item()
    norms = (phi**2).sum(0)

    def value(u):
        residual = x - phi @ np.exp(u)
        squares = (residual @ residual + norms @ np.exp(u)) / (2 * variance)
        return squares + beta * (np.exp(prior) - np.exp(u) + np.exp(u) * (u - prior)).sum()

    def slope(u):
        return (norms / 2 - phi.T @ (x - phi @ np.exp(u))) / variance + beta * (u - prior)

    def hessian(u):
        rate = np.exp(u)
        return rate[:, None] * (phi.T @ phi) * rate / variance + np.diag(beta * rate + rate * slope(u))

    def gradient(u):
        return slope(u) * np.exp(u)

    options = {"gtol": 1e-11, "maxiter": 2000}
    return minimize(value, prior, jac=gradient, hess=hessian, method="trust-exact", options=options).fun


@pytest.mark.parametrize(("variance", "beta", "log_rate"), [(0.5, 1.0, -3.0), (0.1, 0.3, -5.0), (2.0, 3.0, 0.0)])
def test_optimum_agrees_with_an_independent_solver(variance, beta, log_rate):
    model = random_model(12, 20, variance=variance, beta=beta, log_rate=log_rate)
    x = random_data(model, 6, scale=1.5)
    report = amortization_gap(model, engine("lca-unrolled", model, 20), x)
    assert report.optimal.certificate_max <= 1e-6
    assert report.optimal.not_certified == 0
    for row, found in zip(x.numpy(), report.arrays["free_energy_optimal"].tolist(), strict=True):
        assert scipy_optimum(model, row) == pytest.approx(found, abs=1e-6)


def test_orthonormal_dictionary_has_the_closed_form():
    """Units do not interact: F* is the sum of scalar minima, found by bisection on each slope."""
    basis = torch.linalg.qr(torch.randn(9, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(1)))[0]
    model = linear_model(basis, log_rate=-2.0)
    x = random_data(model, 4)
    drive = (x @ basis - 0.5) / 0.5
    low, high = torch.full_like(drive, -40), torch.full_like(drive, 10)
    for _ in range(200):
        middle = (low + high) / 2
        uphill = middle.exp() / 0.5 - drive + (middle + 2) > 0
        low, high = torch.where(uphill, low, middle), torch.where(uphill, middle, high)
    optimum = model.free_energy(x, model.posterior(low)).total.detach()
    report = amortization_gap(model, engine("fista-unrolled", model, 20), x)
    torch.testing.assert_close(report.arrays["free_energy_optimal"], optimum, rtol=0, atol=1e-6)
    assert report.engines["fista-unrolled"].gap_max < 1e-6


def test_optimal_has_no_gap_to_itself():
    model = random_model().float()
    report = amortization_gap(model, engine("optimal", model), random_data(model, 20))
    gap = report.engines["optimal"]
    assert gap.gap_max < 1e-5  # its answer is handed on in float32
    assert gap.share_above_1_nat == 0


def test_statistics_are_those_of_the_arrays():
    model = random_model().float()
    x = random_data(model, 1200)  # more than one batch
    report = amortization_gap(model, engine("amortized", model), x)
    gap = report.engines["amortized"]
    values = (report.arrays["free_energy amortized"] - report.arrays["free_energy_optimal"]).numpy()
    assert len(values) == report.num == 1200
    assert (values > -report.optimal.certificate_max).all()
    assert gap.gap_mean == pytest.approx(values.mean())
    assert gap.gap_se == pytest.approx(values.std(ddof=1) / 1200**0.5)
    assert gap.gap_p99 == pytest.approx(np.quantile(values, 0.99))
    assert gap.share_above_1_nat == pytest.approx((values > 1).mean())
    assert gap.free_energy_mean == pytest.approx(gap.reconstruction_mean + gap.kl_mean)


def test_trace_ends_at_the_gap_and_falls():
    model = random_model().float()
    x = random_data(model, 30)
    gap = amortization_gap(model, {"a": (LCAUnrolled(), 8)}, x, trace=True).engines["a"]
    assert gap.trace is not None
    mean, times = gap.trace.mean, gap.trace.seconds_per_1000
    assert len(mean) == len(times) == 9
    assert mean[-1] == pytest.approx(gap.gap_mean, rel=1e-4, abs=1e-6)
    assert all(after <= before + 1e-5 for before, after in pairwise(mean))
    assert all(low <= high for low, high in zip(gap.trace.p10, gap.trace.p90, strict=True))
    assert times[-1] == pytest.approx(gap.seconds_per_1000)
    assert all(before <= after for before, after in pairwise(times))


def test_non_finite_answers_are_counted_and_kept_out_of_the_means():
    class Broken(LCAUnrolled):
        def step(self, problem, state):
            state = super().step(problem, state)
            log_rate = state.u.clone()
            log_rate[0] = torch.nan
            return type(state)(log_rate, state.memory, state.point, state.diagnostics)

    model = random_model().float()
    gap = amortization_gap(model, {"broken": (Broken(), 1)}, random_data(model, 10)).engines["broken"]
    assert gap.non_finite == 1
    assert np.isfinite([gap.gap_mean, gap.free_energy_mean, gap.reconstruction_mean, gap.spikes_mean]).all()


def test_zero_steps_is_the_start():
    model = random_model().float()
    x = random_data(model, 10)
    gap = amortization_gap(model, {"lca:0": (LCAUnrolled(), 0)}, x).engines["lca:0"]
    prior = model.posterior(model.prior.log_rate.expand(10, -1))
    assert gap.steps == 0
    assert gap.free_energy_mean == pytest.approx(model.free_energy(x, prior).total.mean().item(), rel=1e-5)


def test_errors():
    coding = build_model(SparseCodingSettings(latents=4, shrinkage="hard"), (8, 8))
    with pytest.raises(InputError, match="cost is not convex"):
        amortization_gap(coding, engine("lca-unrolled", coding), torch.rand(3, 64))
    linear = random_model()
    with pytest.raises(InputError, match="there are no data"):
        amortization_gap(linear, engine("lca-unrolled", linear), torch.zeros(0, 64, dtype=torch.float64))


def test_command_on_a_bare_dictionary(capsys, tmp_path):
    rng = np.random.default_rng(0)
    np.save(tmp_path / "phi.npy", rng.normal(size=(16, 24)) / 4)
    np.save(tmp_path / "x.npy", rng.normal(size=(50, 16)))
    data = ["--data", "array", "--data-path", str(tmp_path / "x.npy")]
    files = ["--json", str(tmp_path / "g.json"), "--save", str(tmp_path / "g.npz"), "--figure", str(tmp_path / "g.png")]
    engines = ["--engines", "lca-unrolled:5, fista-unrolled:50", "--log-rate", "-2", "--trace", "--approximation"]
    cli.main(["gap", str(tmp_path / "phi.npy"), *data, *engines, *files])
    assert "certificate of the optimum" in capsys.readouterr().out
    report = json.loads((tmp_path / "g.json").read_text())
    assert report["schema"] == 1
    assert report["num"] == 50
    assert set(report["engines"]) == {"lca-unrolled:5", "fista-unrolled:50"}
    expected = (
        "steps free_energy_mean gap_mean gap_se gap_median gap_p99 gap_max share_above_1_nat non_finite "
        "seconds_per_1000 reconstruction_mean kl_mean spikes_mean trace"
    )
    assert set(report["engines"]["lca-unrolled:5"]) == set(expected.split())
    assert set(report["optimal"]) >= {"free_energy_mean", "certificate_max", "certificate_mean", "steps", "seconds"}
    approximation = report["approximation"]
    assert approximation["samples"] == [1, 10, 100, 1000, 5000]
    expected = report["optimal"]["free_energy_mean"] - approximation["bound_mean"][-1]
    assert approximation["gap_mean"] == pytest.approx(expected)
    assert approximation["gap_mean"] > 0
    assert np.load(tmp_path / "g.npz")["certificate"].shape == (50,)
    assert (tmp_path / "g.png").stat().st_size > 10_000


def test_command_errors(capsys, tmp_path):
    np.save(tmp_path / "phi.npy", np.eye(16))
    np.save(tmp_path / "nan.npy", np.full((4, 4), np.nan))
    np.save(tmp_path / "x.npy", np.arange(450.0).reshape(50, 9))
    data = ["--data", "array", "--data-path", str(tmp_path / "x.npy")]
    for args, message in (
        (["phi.npy", *data], "the data have 9 values per datum and .* explains 16"),
        (["nan.npy", *data], "holds nan at row 0, column 0"),
        (["none.npy", *data], "there is no dictionary file"),
        (["phi.npy", "--engines", "lca:5"], "engine 'lca' is unknown"),
        (["phi.npy", "--engines", "lca-unrolled:five"], "asks for 'five' steps"),
        (["phi.npy", "--engines", "amortized"], "amortized has to be trained"),
        (["phi.npy", "--engines", ","], "--engines was given no value"),
        (["phi.npy", "--num", "0"], "--num is 0"),
    ):
        with pytest.raises(SystemExit) as stopped:
            cli.main(["gap", str(tmp_path / args[0]), *args[1:]])
        error = capsys.readouterr().err
        assert stopped.value.code == 2
        assert re.search(message, error), error
