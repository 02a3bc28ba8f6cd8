"""Rate and distortion: the points against their definitions, and the command on small runs."""

import json

import numpy as np
import pytest
import torch
from problems import build_engine, random_data, random_model

from itervae import InputError, cli
from itervae.evaluation import lifetime_sparsity, rate_points
from itervae.evaluation.explained import total_variance
from itervae.evaluation.rate_distortion import curves, matched_error
from itervae.inference import LCAUnrolled, Optimal, infer
from itervae.model import SparseCodingSettings, sparse_coding_model


def test_points_of_a_poisson_model_are_their_definitions():
    model = random_model(16, 24, log_rate=-1.0).float()
    x = random_data(model, 400)
    varied = {"family": "f", "setting": "β 1", "order": 1.0}
    mean, counts = rate_points(model, Optimal(), x, **varied)
    with torch.no_grad():
        rates = infer(model, Optimal(), x).posterior.mean
        errors = (x - rates @ model.dictionary.mT).square().sum(-1)
        expected_of_counts = (errors + rates @ model.dictionary.square().sum(0)).mean()
    assert (mean.kind, counts.kind) == ("mean", "counts")
    assert mean.curve != counts.curve
    assert mean.error == pytest.approx(errors.mean().item(), rel=1e-5)
    assert mean.error_median == pytest.approx(errors.median().item(), rel=1e-5)
    assert mean.lifetime_sparsity == pytest.approx(lifetime_sparsity(rates).mean().item(), rel=1e-5)
    assert mean.r2_pooled == pytest.approx(1 - mean.error / x.var(0, correction=0).sum().item(), rel=1e-4)
    assert mean.share_zero is None
    # counts: their error and share of zeros in expectation
    assert abs(counts.error - expected_of_counts.item()) < 5 * counts.error_se
    assert counts.share_zero == pytest.approx(torch.exp(-rates).mean().item(), abs=0.01)
    assert mean.certificate_max is not None
    assert mean.certificate_max < 1e-6


def test_points_of_a_sparse_code():
    model = random_model(16, 24).float()
    x = random_data(model, 100)
    found = []
    for threshold in (0.3, 1.0, 3.0):
        coder = sparse_coding_model(model.dictionary.detach(), SparseCodingSettings(24, threshold), (16,))
        varied = {"family": "lca", "setting": f"θ {threshold:g}", "order": threshold}
        (point,) = rate_points(coder, LCAUnrolled(), x, steps=200, **varied)
        assert point.share_zero is not None
        assert point.certificate_max is not None
        assert point.certificate_max < 0.1
        found.append(point)
    errors = [point.error for point in found]
    assert errors == sorted(errors)  # a larger threshold, a sparser and worse code
    assert [point.share_zero for point in found] == sorted(point.share_zero for point in found)
    assert list(curves(found[::-1])) == ["lca"]
    assert [point.order for point in curves(found[::-1])["lca"]] == [0.3, 1.0, 3.0]
    low, high = found[0], found[1]
    half = (low.lifetime_sparsity + high.lifetime_sparsity) / 2
    assert matched_error(found, half) == pytest.approx((low.error + high.error) / 2)
    assert matched_error(found, 1.5) is None


def test_total_variance():
    x = torch.randn(500, 16, generator=torch.Generator().manual_seed(0))
    assert total_variance(x) == pytest.approx(x.var(0, correction=0).sum().item(), rel=1e-5)
    model = random_model(16, 24).float()
    with pytest.raises(InputError, match="there are 1 data"):
        rate_points(model, build_engine("lca-unrolled", model), x[:1, :16], family="", setting="", order=0)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two small Poisson VAEs and a sparse-coding run on the same rows."""
    folder = tmp_path_factory.mktemp("runs")
    rng = np.random.default_rng(0)
    np.save(folder / "x.npy", rng.normal(size=(300, 16)))
    data = ["--data", "array", "--data-path", str(folder / "x.npy"), "--latents", "24", "--updates", "20"]
    found = {}
    for name, options in {
        "one": ["--inference", "amortized"],
        "four": ["--inference", "amortized", "--beta", "4"],
        "coding": ["--model", "sparse-coding", "--threshold", "0.5"],
    }.items():
        cli.main(["train", *data, *options, "--device", "cpu", "--run-dir", str(folder / name)])
        found[name] = str(folder / name)
    return found


def test_command(runs, tmp_path, capsys):
    capsys.readouterr()
    report, picture = tmp_path / "rd.json", tmp_path / "rd.png"
    options = ["--coders", "lca-unrolled:50:hard,ista-unrolled:50:soft", "--thresholds", "0.2", "0.6", "--num", "50"]
    cli.main(["rate-distortion", *runs.values(), *options, "--json", str(report), "--figure", str(picture)])
    printed = capsys.readouterr().out
    content = json.loads(report.read_text())
    names = {point["curve"] for point in content["points"]}
    assert names == {
        "P-VAE, linear encoder, mean rate",
        "P-VAE, linear encoder, spike counts",
        "best posterior, linear encoder's model, mean rate",
        "best posterior, linear encoder's model, spike counts",
        "LCA soft, own dictionary",
        "LCA hard, P-VAE dictionary",
        "ISTA soft, P-VAE dictionary",
    }
    assert all(name in printed for name in names)
    assert content["num"] == 50
    assert {point["setting"] for point in content["points"]} == {"β 1", "β 4", "θ 0.5", "θ 0.2", "θ 0.6"}
    assert picture.stat().st_size > 10_000


def test_command_errors(runs, tmp_path, capsys):
    np.save(tmp_path / "y.npy", np.zeros((50, 16)))
    np.save(tmp_path / "phi.npy", np.eye(9))
    for args, message in (
        ([runs["one"], "--coders", "lca:20:soft"], "coder 'lca:20:soft' is not ENGINE:STEPS:soft"),
        ([runs["one"], "--num", "1"], "--num is 1"),
        (["--num", "5"], "no run was named"),
        (["phi.npz", "phi.npy"], "phi.npz and phi.npy were named as dictionaries"),
        ([runs["one"], "--thresholds", "0"], "--thresholds has 0"),
        ([runs["one"], "--data", "array", "--data-path", str(tmp_path / "y.npy")], "is constant: all 40 rows"),
        ([str(tmp_path / "none")], "there is no checkpoint"),
        ([runs["one"], "--dictionary", str(tmp_path / "phi.npy")], "phi.npy have 9 values and the data 16"),
    ):
        with pytest.raises(SystemExit) as stopped:
            cli.main(["rate-distortion", *args])
        assert stopped.value.code == 2
        assert message in capsys.readouterr().err
