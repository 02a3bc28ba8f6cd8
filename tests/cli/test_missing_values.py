"""Data of which some values were not seen, and data about a mean that is not 0, from file to
codes."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

import itervae
from itervae import InputError, cli
from itervae.evaluation import amortization_gap, encode, r_squared
from itervae.inference import LCAUnrolled, Optimal

TRAIN = ("train", "--data", "array", "--data-path", "x.npy", "--latents", "6", "--batch-size", "50", "--bias")


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """x (300, 8) about a mean of 5, a third of it lost, and the run trained on it."""
    folder = tmp_path_factory.mktemp("missing")
    random = np.random.default_rng(0)
    phi = random.normal(size=(8, 6))
    whole = (5 + random.poisson(0.5, size=(300, 6)) @ phi.T + 0.3 * random.normal(size=(300, 8))).astype(np.float32)
    x = np.where(random.random(x_shape := whole.shape) < 1 / 3, np.nan, whole).astype(np.float32)
    assert x.shape == x_shape
    np.save(folder / "x.npy", x)
    run = ("--run-dir", str(folder / "run"), "--updates", "20", "--missing", "nan")
    cli.main([*TRAIN[:4], str(folder / "x.npy"), *TRAIN[5:], *run])
    return folder, x, whole


@pytest.mark.usefixtures("unchecked")
def test_a_run_learns_from_what_is_seen(table):
    folder, x, _ = table
    model, engine = itervae.load(folder / "run")
    assert model.missing
    assert np.abs(model.decoder.bias.numpy() - np.nanmean(x, 0)).max() < 2
    found = itervae.infer(model, engine, x)
    assert found.stats["certificate"].max() < 1
    record = json.loads((folder / "run/metrics.jsonl").read_text().splitlines()[-1])
    assert record["split"] == "validation"
    assert np.isfinite(record["free_energy"])


def test_infer_fills_in_by_nan_or_by_a_mask(table, tmp_path, monkeypatch, capsys):
    folder, x, whole = table
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", x)
    np.save("whole.npy", whole)
    np.save("mask.npy", np.isnan(x))
    cli.main(["export", str(folder / "run"), "--output", "phi.npz"])
    shared = ("infer", "phi.npz", "--output", "o.npz", "--inference", "optimal")
    cli.main([*shared, "--input", "x.npy", "--missing", "nan", "--fill", "one.npy", "--figure", "o.png"])
    cli.main([*shared, "--input", "whole.npy", "--missing", "mask.npy", "--fill", "two.npy"])
    one, two, lost = np.load("one.npy"), np.load("two.npy"), np.isnan(x)
    np.testing.assert_allclose(one, two, rtol=1e-5)
    np.testing.assert_array_equal(one[~lost], x[~lost])
    model = itervae.load_dictionary("phi.npz")
    decoded = model.decode(itervae.infer(model, Optimal(), x, precision=~lost).posterior.mean).numpy()
    np.testing.assert_allclose(one[lost], decoded[lost], rtol=1e-4)
    assert f"{lost.sum()} of {x.size} values were not seen" in capsys.readouterr().out
    np.save("other.npy", np.zeros((3, 8)))
    for more, message in {
        ("x.npy",): "x.npy holds nan at row .*remove or replace",
        ("whole.npy", "--fill", "f.npy"): "--fill was given, and nothing is missing; say with --missing",
        ("whole.npy", "--missing", "other.npy"): r"other.npy has shape \(3, 8\), and the input \(300, 8\).*expected",
        ("whole.npy", "--missing", "maybe"): "--missing is maybe; expected nan, or the file of an array",
        ("whole.npy", "--missing", "none.npy"): "no array of what is missing at .*none.npy; expected",
    }.items():
        with pytest.raises(SystemExit):
            cli.main([*shared, "--input", *more])
        error = capsys.readouterr().err.strip()
        assert re.search(message, error.splitlines()[-1]), error


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked")
def test_what_is_lost_is_filled_in_better_than_by_the_mean(table, tmp_path):
    folder, x, whole = table
    more = ("--observation-variance", "0.1", "--lr", "0.03", "--updates", "1500", "--missing", "nan")
    cli.main([*TRAIN[:4], str(folder / "x.npy"), *TRAIN[5:], *more, "--run-dir", str(tmp_path / "run")])
    model, engine = itervae.load(tmp_path / "run")
    filled, lost = model.decode(itervae.infer(model, engine, x).posterior.mean).numpy(), np.isnan(x)
    error, spread = (((known - whole)[lost] ** 2).mean() for known in (filled, np.nanmean(x, 0)))
    assert error < 0.7 * spread


@pytest.mark.usefixtures("unchecked")
def test_measurements_leave_out_what_is_lost(table):
    folder, x, _ = table
    model, _ = itervae.load(folder / "run")
    data = torch.from_numpy(x[:40])
    gap = amortization_gap(model, {"lca": (LCAUnrolled(), 20)}, data, approximation=True)
    assert gap.optimal.not_certified == 0
    assert gap.engines["lca"].gap_mean < 0.1
    assert gap.approximation is not None
    assert gap.approximation.gap_mean > 0
    codes = encode(model, Optimal(), data)
    residual = np.nan_to_num((data - model.decode(codes.mean)).numpy())
    np.testing.assert_allclose(codes.error, (residual**2).sum(1), rtol=1e-4)
    seen = [row[np.isfinite(row)] for row in x[:40].astype(float)]
    each = [1 - float(e) / ((row - row.mean()) ** 2).sum() for e, row in zip(codes.error, seen, strict=True)]
    assert r_squared(codes.error, data).per_datum == pytest.approx(np.mean(each), rel=1e-4)


@pytest.mark.usefixtures("unchecked")
def test_a_dictionary_file_keeps_the_bias(table, tmp_path):
    folder, x, _ = table
    model, engine = itervae.load(folder / "run")
    cli.main(["export", str(folder / "run"), "--output", str(tmp_path / "phi.npz")])
    other = itervae.load_dictionary(tmp_path / "phi.npz")
    known = torch.from_numpy(x[:5]).nan_to_num(5)
    one, two = itervae.infer(model, engine, known), itervae.infer(other, engine, known)
    torch.testing.assert_close(one.posterior.u, two.posterior.u)


def test_a_file_keeps_the_variance_of_each_value_and_a_run_keeps_the_file(tmp_path, monkeypatch, capsys):
    """Bias and variances of a dictionary file, in codes and under --freeze."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    arrays = {"dictionary": random.normal(size=(8, 6)), "bias": random.normal(size=8)}
    variances = random.uniform(0.1, 2, 8).astype(np.float32)
    np.savez("phi.npz", observation_variance=variances, log_rate=np.full(6, -2.0), **arrays)
    np.save("x.npy", 2 * random.normal(size=(60, 8)).astype(np.float32))
    model = itervae.load_dictionary("phi.npz")
    np.testing.assert_allclose(model.likelihood.variance, variances, rtol=1e-6)
    itervae.model.save_dictionary(model, "again.npz")
    np.testing.assert_array_equal(
        itervae.load_dictionary("again.npz").likelihood.log_variance, model.likelihood.log_variance
    )
    cli.main(["infer", "phi.npz", "--input", "x.npy", "--output", "o.npz", "--inference", "optimal"])
    assert f"observation variance {variances.min():.3g} to {variances.max():.3g}" in capsys.readouterr().err
    data = ("--data", "array", "--data-path", "x.npy", "--batch-size", "20")
    cli.main(["train", "--freeze", "phi.npz", "--inference", "amortized", *data, "--updates", "2", "--run-dir", "run"])
    kept, _ = itervae.load("run")
    assert kept.decoder.bias is not None
    np.testing.assert_array_equal(kept.likelihood.log_variance, model.likelihood.log_variance)
    np.savez("bad.npz", observation_variance=np.ones(5), **arrays)
    with pytest.raises(InputError, match=r"shape \(5,\); expected one number, or \(8,\), one per value"):
        itervae.load_dictionary("bad.npz")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ((), "holds nan at row .*; remove or replace such values"),
        (("--missing", "0"), "missing.*'0'.*nan"),
        (("--missing", "nan", "--dictionary-steps", "both"), "dictionary-steps both needs a dictionary"),
        (("--missing", "nan", "--decoder", "mlp"), "a bias was asked of decoder mlp.*: use one"),
    ],
)
def test_what_cannot_be_is_refused(table, more, message, monkeypatch, capsys):
    monkeypatch.chdir(table[0])
    with pytest.raises(SystemExit):
        cli.main([*TRAIN, *more, "--run-dir", "other", "--updates", "1"])
    error = " ".join(capsys.readouterr().err.split())
    assert re.search(message, error), error
    assert not Path("other").exists()
