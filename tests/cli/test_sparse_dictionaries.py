"""Sparse coding with a dictionary file from the command, against scikit-learn's lasso."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.decomposition import sparse_encode

import itervae
from itervae import cli
from itervae.model import SparseCodingSettings
from itervae.training import RunSettings, TrainingSettings
from itervae.training.freeze import frozen_model

THETA = 0.25
SPARSE = ("--model", "sparse-coding", "--threshold", str(THETA), "--signed")


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A dictionary whose atoms have norms from .5 to 2, and data that it made."""
    random = np.random.default_rng(0)
    phi = random.normal(size=(24, 40))
    phi *= random.uniform(0.5, 2, 40) / np.linalg.norm(phi, axis=0)
    codes = random.exponential(size=(60, 40)) * (random.random((60, 40)) < 0.1) * random.choice([-1, 1], (60, 40))
    x = (codes @ phi.T + 0.05 * random.normal(size=(60, 24))).astype(np.float32)
    monkeypatch.chdir(tmp_path)
    np.save("phi.npy", phi)
    np.save("x.npy", x)
    phi, x = phi.astype(np.float32).astype(float), x.astype(float)
    best = sparse_encode(x, phi.T.copy(), algorithm="lasso_lars", alpha=THETA)
    return phi, x, best


def energy(phi, x, a):
    """E(a) of each datum, in NumPy."""
    return 0.5 * ((x - a @ phi.T) ** 2).sum(1) + THETA * np.abs(a).sum(1)


def test_infer_gives_the_codes_of_scikit_learn(files, capsys):
    phi, x, best = files
    cli.main(["infer", "phi.npy", *SPARSE, "--input", "x.npy", "--output", "codes.npz"])
    found, said = np.load("codes.npz"), capsys.readouterr()
    np.testing.assert_allclose(found["coefficients"], best, atol=2e-4)
    np.testing.assert_allclose(found["free_energy"], energy(phi, x, best), rtol=1e-5)
    assert found["certificate"].max() < 1e-5
    assert "sparse coding, soft threshold 0.25, signed, atoms of norm 0.5" in said.err
    assert "which is proved" in said.out


@pytest.mark.usefixtures("unchecked")
def test_gap_is_the_distance_to_the_lasso(files, capsys):
    phi, x, best = files
    data = ("--data", "array", "--data-path", "x.npy")
    cli.main(["gap", "phi.npy", *SPARSE, *data, "--engines", "lca-unrolled:3", "--json", "g.json", "--figure", "g.png"])
    report = json.loads(Path("g.json").read_text())
    model = itervae.load_dictionary("phi.npy", threshold=THETA, signed=True)
    code = itervae.infer(model, itervae.inference.LCAUnrolled(), torch.tensor(x).float(), steps=3).posterior.mean
    expected = energy(phi, x, code.detach().double().numpy()) - energy(phi, x, best)
    assert report["engines"]["lca-unrolled:3"]["gap_mean"] == pytest.approx(expected.mean(), rel=1e-3)
    assert report["optimal"]["free_energy_mean"] == pytest.approx(energy(phi, x, best).mean(), rel=1e-6)
    assert report["optimal"]["certificate_max"] < 1e-6
    assert "share_above_1_nat" not in report["engines"]["lca-unrolled:3"]
    assert "nat" not in capsys.readouterr().out


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("engine", ["amortized", "semi-amortized"])
def test_an_encoder_is_trained_for_a_dictionary_kept_as_it_is(files, engine, capsys):
    phi, x, best = files
    data = ("--data", "array", "--data-path", "x.npy", "--batch-size", "40")
    train = ("train", *SPARSE, "--freeze", "phi.npy", "--inference", engine, *data, "--lr", "0.01", "--run-dir")
    cli.main([*train, "short", "--updates", "1"])
    cli.main([*train, "long", "--updates", "200"])
    cli.main(["export", "long", "--dictionary", "kept.npz"])
    kept = np.load("kept.npz")
    np.testing.assert_array_equal(kept["dictionary"], phi.astype(np.float32))
    assert (kept["threshold"], kept["signed"], kept["hard"]) == (THETA, 1, 0)
    alone = ["--steps", "0"] if engine == "semi-amortized" else []
    means = []
    for run in ("short", "long"):
        cli.main(["infer", run, "--input", "x.npy", "--output", "codes.npz", *alone])
        code = np.load("codes.npz")["coefficients"]
        means.append((energy(phi, x, code) - energy(phi, x, best)).mean())
    assert 0 < means[1] < 0.5 * means[0]
    capsys.readouterr()


@pytest.mark.usefixtures("unchecked")
def test_rate_distortion_of_a_dictionary_alone(files, capsys):
    coders = ("--coders", "ista-unrolled:5:soft", "--thresholds", "0.1", "0.4", "--json", "rd.json")
    cli.main(["rate-distortion", "phi.npy", "--data", "array", "--data-path", "x.npy", *coders])
    report = json.loads(Path("rd.json").read_text())
    assert {point["curve"] for point in report["points"]} == {"ISTA soft, atoms of phi.npy"}
    assert [point["order"] for point in report["points"]] == [0.1, 0.4]
    capsys.readouterr()


def test_nothing_is_said_to_be_proved_of_an_encoder(files, capsys):
    data = ("--data", "array", "--data-path", "x.npy", "--updates", "1", "--run-dir", "run")
    cli.main(["train", "--model", "sparse-coding", "--latents", "8", "--inference", "amortized", *data])
    capsys.readouterr()
    cli.main(["infer", "run", "--input", "x.npy", "--output", "codes.npz"])
    assert "proved" not in capsys.readouterr().out
    assert np.isnan(np.load("codes.npz")["certificate"]).all()


def test_an_exported_file_says_what_it_is(files, tmp_path):
    model = itervae.load_dictionary("phi.npy", threshold=THETA, signed=True, shrinkage="hard")
    itervae.model.save_dictionary(model, tmp_path / "out.npz")
    again = itervae.load_dictionary(tmp_path / "out.npz")
    assert (again.prior.threshold, again.prior.signed, again.prior.hard) == (THETA, True, True)
    assert again.dictionary.equal(model.dictionary)
    with pytest.raises(itervae.InputError, match=r"threshold 1 was given, but .* has its own"):
        itervae.load_dictionary(tmp_path / "out.npz", threshold=1)


def test_atoms_in_rows_are_read_by_every_command(files):
    phi, _, _ = files
    np.save("turned.npy", phi.T)
    data = ("--data", "array", "--data-path", "x.npy", "--suite", "sparsity", "--num", "10")
    cli.main(["evaluate", "phi.npy", *SPARSE, *data, "--json", "columns.json"])
    cli.main(["evaluate", "turned.npy", *SPARSE, *data, "--atoms", "rows", "--json", "rows.json"])
    columns, rows = (json.loads(Path(name).read_text())["runs"] for name in ("columns.json", "rows.json"))
    assert rows["turned.npy"] == columns["phi.npy"]
    settings = RunSettings(model=SparseCodingSettings(threshold=THETA), training=TrainingSettings(atoms="rows"))
    _, model = frozen_model(settings, Path("turned.npy"), (24,))
    np.testing.assert_array_equal(model.dictionary.detach(), phi.astype(np.float32))
