"""scripts/estimators measures what theory says of a quadratic, and writes what it promises."""

import json
import math
import runpy
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch
from families import seeded

SCRIPT = Path(__file__).parents[1] / "scripts" / "estimators"


@pytest.fixture(scope="module")
def script():
    return Namespace(**runpy.run_path(str(SCRIPT), run_name="script"))


def test_the_exact_gradient_is_that_of_the_model(script):
    model = script.random_model(0).double()
    x, log_rate = script.problem(script.random_model(0), 3.0, seeded(1))
    rates = log_rate.exp() / 3
    assert rates.min() > 0.7 - 1e-6
    assert rates.max() < 1.3 + 1e-6
    u = log_rate.double()[None].requires_grad_()
    value = model.free_energy(x.double()[None], model.posterior(u)).reconstruction
    (expected,) = torch.autograd.grad(value.sum(), u)
    torch.testing.assert_close(script.exact_gradient(model, x, log_rate), expected[0])


def test_errors_of_gradients_with_known_errors(script):
    """Gaussian gradients around g* + b: |b|²/|g*|² and K s²/|g*|², each from many repeats of few
    draws."""
    exact = torch.linspace(-1, 2, 20, dtype=torch.float64)
    bias, scale = torch.linspace(0, 0.4, 20, dtype=torch.float64), 3.0
    found = np.array(
        [
            script.errors(exact + bias + scale * torch.randn(8, 20, generator=draw, dtype=torch.float64), exact)
            for draw in map(seeded, range(2000))
        ]
    )
    mean, error = found.mean(0), found.std(0) / math.sqrt(len(found))
    size = exact.square().sum().item()
    assert abs(mean[0] - bias.square().sum().item() / size) < 4 * error[0]
    assert abs(mean[1] - 20 * scale**2 / size) < 4 * error[1]
    along = script.errors(2 * exact.expand(3, -1), exact)
    assert along == pytest.approx((1, 0, 1))
    assert script.errors(torch.zeros(3, 20, dtype=torch.float64), exact) == pytest.approx((1, 0, 0))


@pytest.mark.parametrize(
    ("name", "share"), [("eat, cubic", 9 / 70), ("straight-through", 3 / 16), ("score, 10 samples", 0.0)]
)
def test_the_bias_found_is_that_of_theory(script, name, share):
    """At τ = 1 the gradient is off by `share`·c λ/σ² (tests/model/test_estimators.py)."""
    model, (one,) = script.random_model(0), [one for one in script.ESTIMATORS if one.name == name]
    options = Namespace(seed=0, replicates=6, draws=300)
    found = script.cell(model, one, 0.3, 1.0 if one.relaxed else 0.0, options)
    squares = []
    for replicate in range(6):
        x, log_rate = script.problem(model, 0.3, script.seeded(0, 1, 300000, replicate))
        off = share * model.dictionary.detach().square().sum(0) * log_rate.exp() / model.likelihood.variance
        squares.append((off.norm() / script.exact_gradient(model, x, log_rate).norm()).item() ** 2)
    assert abs(found["bias_square"] - np.mean(squares)) < 4 * found["bias_square_se"]
    if share:
        assert found["bias"] == pytest.approx(np.sqrt(found["bias_square"]))
        assert found["bias_square_se"] < 0.4 * np.mean(squares)
    else:
        assert found["bias"] is None
        assert 0 < found["bias_bound"] < 0.3


def test_pieces_do_not_change_the_number_of_gradients(script):
    model, one = script.random_model(0), script.ESTIMATORS[3]
    x, log_rate = script.problem(model, 1.0, seeded(1))
    script.gradients.__globals__["LARGEST"] = 3 * model.latents * 12
    try:
        assert script.gradients(model, one, x, log_rate, 0.3, 17, seeded(2)).shape == (17, model.latents)
    finally:
        script.gradients.__globals__["LARGEST"] = script.LARGEST


@pytest.mark.slow
def test_the_command(tmp_path):
    report, picture, phi = tmp_path / "report.json", tmp_path / "picture.png", tmp_path / "phi.npz"
    np.savez(phi, dictionary=np.random.default_rng(0).normal(size=(9, 12)) / 3)
    arguments = ["--rates", "0.5", "5", "--temperatures", "0.1", "1", "--replicates", "2", "--draws", "20"]
    out = subprocess.run(
        [sys.executable, SCRIPT, *arguments, "--dictionary", phi, "--json", report, "--figure", picture],
        capture_output=True,
        text=True,
        check=True,
    )
    lines = out.stdout.splitlines()
    assert lines[0] == "| bias / variance / cosine | τ | rate 0.5 | rate 5 |"
    assert len(lines) == 2 + 4 * 2 + 2
    found = json.loads(report.read_text())
    assert found["settings"]["latents"] == 12
    assert found["machine"]["threads"] == 1
    assert np.array(found["estimators"]["eat, cubic"]["variance"]).shape == (2, 2)
    assert np.array(found["estimators"]["score, 2 samples"]["cosine"]).shape == (2, 1)
    assert picture.stat().st_size > 20_000


@pytest.mark.parametrize("wrong", ["--rates 0", "--temperatures 2", "--draws 1", "--replicates 1"])
def test_settings_out_of_range_are_refused(script, wrong, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["estimators", *wrong.split()])
    with pytest.raises(SystemExit):
        script.parse()
    last = capsys.readouterr().err.splitlines()[-1]
    assert wrong.split()[0] in last
    assert "expected" in last
