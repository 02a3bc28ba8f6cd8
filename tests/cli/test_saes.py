"""`itervae gap` and `infer` of a sparse autoencoder, against NumPy and scikit-learn's lasso."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from sklearn.decomposition import sparse_encode

import itervae
from itervae import cli
from itervae.evaluation import encoder_loss, fitted_threshold, frontier
from itervae.plotting import frontier_figure

D, K, N = 8, 14, 60
DATA = ("--data", "array", "--data-path", "x.npy")


@pytest.fixture
def the(tmp_path, monkeypatch):
    """A folder as SAELens writes it, of an encoder that is none too good, and data that it is
    for."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    atoms = random.normal(size=(K, D)).astype(np.float32)
    bias = random.normal(size=D).astype(np.float32)
    codes = random.exponential(size=(N, K)) * (random.random((N, K)) < 0.15)
    x = (codes @ atoms + bias + 0.1 * random.normal(size=(N, D))).astype(np.float32)
    weight = (0.4 * atoms / (atoms**2).sum(1, keepdims=True)).T.copy()
    arrays = {"W_dec": atoms, "b_dec": bias, "W_enc": weight, "b_enc": np.full(K, -0.2, np.float32)}
    folder = Path("sae")
    folder.mkdir()
    save_file(arrays, folder / "sae_weights.safetensors")
    (folder / "cfg.json").write_text(json.dumps({"architecture": "standard", "d_in": D, "d_sae": K}))
    np.save("x.npy", x)
    norms = np.linalg.norm(atoms, axis=1)
    y = x.astype(float) - bias
    found = np.maximum(y @ weight - 0.2, 0) * norms
    return y, (atoms / norms[:, None]).astype(float), found


def error(y, atoms, a):
    """½‖y − Φa‖² of each datum."""
    return 0.5 * ((y - a @ atoms) ** 2).sum(1)


def lasso(y, atoms, threshold):
    return sparse_encode(y, atoms, algorithm="lasso_lars", alpha=threshold, positive=True)


@pytest.mark.usefixtures("unchecked")
def test_gap_without_a_threshold_fits_one_and_proves_what_the_encoder_loses(the, capsys):
    y, atoms, a = the
    outputs = ("--json", "g.json", "--save", "g.npz", "--frontier", "f.png")
    cli.main(["gap", "sae", *DATA, "--engines", "encoder", *outputs])
    said, report, arrays = capsys.readouterr(), json.loads(Path("g.json").read_text()), np.load("g.npz")
    loss, threshold = report["encoder"], report["threshold"]
    assert "no threshold was named" in said.err
    assert "taken for sparse coding with atoms of norm 1" in said.err
    assert "inference alone could remove" in said.out
    assert lasso(y, atoms, threshold).sum(1).mean() == pytest.approx(a.sum(1).mean(), rel=2e-3)
    np.testing.assert_allclose(np.sort(arrays["error"]), np.sort(error(y, atoms, a)), rtol=1e-4, atol=1e-5)
    variance = 0.5 * ((y - y.mean(0)) ** 2).sum()
    assert loss["unexplained"] == pytest.approx(error(y, atoms, a).sum() / variance, rel=1e-4)
    assert loss["active_mean"] == pytest.approx((a > 0).sum(1).mean())
    assert (arrays["proved"] <= arrays["least"]).all()
    assert (arrays["least"] <= arrays["error"]).all()
    assert loss["certificate_max"] <= 1e-4
    assert loss["not_proved"] == 0
    assert loss["removable"] > 0.1
    best, own = lasso(y, atoms, threshold), threshold * a.sum(1) + error(y, atoms, a)
    gap = own - threshold * best.sum(1) - error(y, atoms, best)
    assert report["engines"]["encoder"]["gap_mean"] == pytest.approx(gap.mean(), rel=1e-3)
    norms = [point["weight"] for point in loss["frontier"]]
    assert norms == sorted(norms, reverse=True)
    for point in loss["frontier"]:
        codes = lasso(y, atoms, point["threshold"])
        assert point["error"] == pytest.approx(error(y, atoms, codes).mean(), rel=1e-3, abs=1e-5)
        assert 0 <= point["error"] - point["proved"] <= 1e-4 * 0.5 * (y**2).sum(1).mean()
    assert Path("f.png").stat().st_size > 5000


def test_a_named_threshold_is_kept_and_infer_gives_the_codes_of_the_encoder(the, capsys):
    y, atoms, a = the
    cli.main(["infer", "sae", "--threshold", "0.4", "--input", "x.npy", "--output", "c.npz"])
    found = np.load("c.npz")
    np.testing.assert_allclose(found["coefficients"], a, atol=1e-5)
    np.testing.assert_allclose(found["free_energy"], error(y, atoms, a) + 0.4 * a.sum(1), rtol=1e-4)
    assert "threshold 0.4" in capsys.readouterr().err
    cli.main(["infer", "sae", "--threshold", "0.4", "--input", "x.npy", "--output", "o.npz", "--inference", "optimal"])
    np.testing.assert_allclose(np.load("o.npz")["coefficients"], lasso(y, atoms, 0.4), atol=2e-4)


@pytest.mark.parametrize("kind", ["layer_norm", "rescaled"])
def test_inputs_are_normalized_as_the_file_says(kind, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folder = Path(__file__).parents[1] / f"data/saes/saelens_{kind}"
    theirs = np.load(folder / "expected.npz")
    np.save("x.npy", theirs["x"])
    cli.main(["infer", str(folder), "--threshold", "1", "--input", "x.npy", "--output", "c.npz"])
    norms = np.linalg.norm(load_file(folder / "sae_weights.safetensors")["W_dec"], axis=1)
    np.testing.assert_allclose(np.load("c.npz")["coefficients"], theirs["codes"] * norms, rtol=1e-5, atol=1e-5)
    assert "before" in capsys.readouterr().err


def test_python_measures_the_same(the):
    y, atoms, a = the
    model, engine = itervae.load_sae("sae")
    x = torch.from_numpy(np.load("x.npy"))
    loss = encoder_loss(model, engine, x)
    assert loss.error_mean == pytest.approx(error(y, atoms, a).mean(), rel=1e-4)
    assert "removable" in repr(loss)
    threshold, norm = fitted_threshold(model, x, 1e6)  # no codes are as large
    assert norm == pytest.approx(lasso(y, atoms, threshold).sum(1).mean(), rel=0.05)
    assert model.prior.threshold == 1
    points = frontier(model, x, [0.5, 1.0])
    assert [point.threshold for point in points] == [0.5, 1.0]
    with pytest.raises(itervae.InputError, match=r"silent.*name one"):
        fitted_threshold(model, x, 0.0)
    with pytest.raises(itervae.InputError, match=r"1 points; expected at least two"):
        frontier_figure([(1.0, 2.0, 3.0, 0.5)], {})


REFUSED = {
    "infer sae --input x.npy --output o.npz": "no threshold was named for sae.*give one with --threshold",
    "infer sae --threshold 1 --log-rate -2 --input x.npy --output o.npz": "--log-rate -2.0 was given for sae.*leave it",
    "gap sae --atoms rows": "--atoms rows was given for sae, a sparse autoencoder.*leave it out",
    "gap sae --threshold 0": "threshold is 0.*expected a positive number",
    "gap sae --engines amortized": "engine amortized has to be trained.*use a run",
    "gap phi.npy --engines encoder": "engine encoder was named, and phi.npy is no sparse autoencoder; leave it out",
    "gap phi.npy --frontier f.png": "--frontier was given for phi.npy, which is no sparse autoencoder; leave it out",
    "evaluate sae": "sae is the folder of a sparse autoencoder, and a run .* is expected here; use .* itervae gap",
    "report sae": "sae is the folder of a sparse autoencoder.*use it with itervae gap",
    "rate-distortion sae": "sae is the folder of a sparse autoencoder.*use it with itervae gap",
    "gap nowhere": "no checkpoint at nowhere.*; expected .*dictionary file or the folder of a sparse autoencoder",
    "train --freeze nowhere": "no checkpoint at .*nowhere.*, a dictionary file or the folder of a sparse autoencoder",
    "gap phi.safetensors": "phi.safetensors cannot be read .*make or copy it again",
}


@pytest.mark.parametrize("line", REFUSED)
def test_refusals_are_one_line(the, line, capsys):
    np.save("phi.npy", np.eye(D))
    Path("phi.safetensors").write_bytes(b"1234")
    data = [] if line.startswith("infer") else list(DATA)
    with pytest.raises(SystemExit) as stopped:
        cli.main([*line.split(), *data])
    said = capsys.readouterr().err
    assert stopped.value.code == 2
    assert said.count("\n") == 1, said
    assert re.search(REFUSED[line], said), said
