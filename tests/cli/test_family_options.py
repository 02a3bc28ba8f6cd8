"""`--family` and what belongs to each family, on the command line and in YAML."""

import re

import numpy as np
import pytest
import torch

from itervae import InputError, cli, load
from itervae.config import parse_train
from itervae.distributions import LogNormal
from itervae.model import GaussianVAESettings, LaplaceVAESettings

QUICK = ["--updates", "10", "--latents", "6", "--batch-size", "20", "--device", "cpu", "--inference", "amortized"]


def test_a_family_is_short_for_its_model(tmp_path):
    named, _, _ = parse_train(["--family", "gaussian", "--inference", "amortized", "--activation", "relu"])
    longer, _, _ = parse_train(["--model", "gaussian-vae", "--inference", "amortized", "--activation", "relu"])
    assert named.model == longer.model == GaussianVAESettings(activation="relu")
    assert named.flat()["model"] == "gaussian-vae"
    config = tmp_path / "c.yaml"
    config.write_text("family: laplace\ninference: amortized\nprior: learned\n")
    read, _, _ = parse_train(["--config", str(config), "--latents", "7"])
    assert read.model == LaplaceVAESettings(latents=7, prior="learned")
    # the command line has the last word
    assert parse_train(["--family", "categorical"])[0].inference == "amortized"  # no solver is for it
    other, _, _ = parse_train(["--config", str(config), "--family", "gaussian"])
    assert other.model == GaussianVAESettings(prior="learned")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--family", "gausian"], "family 'gausian' is unknown; did you mean gaussian"),
        (["--family", "gaussian", "--model", "laplace-vae"], "family gaussian was given beside model laplace-vae"),
        (["--family", "laplace", "--activation", "relu"], "--activation does not apply to model laplace-vae"),
        (["--activation", "relu"], "--activation does not apply to model poisson-vae.*or use one of gaussian-vae"),
        (["--family", "gaussian", "--start-log-rate", "-2"], "--start-log-rate does not apply to model gaussian-vae"),
        (["--family", "gaussian", "--freeze", "phi.npz"], "--family was given beside --freeze phi.npz"),
    ],
)
def test_what_does_not_apply_is_refused(args, message):
    with pytest.raises(InputError, match=message):
        parse_train(args)


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    path = tmp_path_factory.mktemp("rows") / "x.npy"
    np.save(path, np.random.default_rng(0).normal(size=(200, 16)))
    return path


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--family", "gaussian", "--inference", "lca-unrolled"],
            "needs a model with Poisson family or sparse coding.*engines that fit: amortized",
        ),
        (
            ["--family", "gaussian", "--estimator", "eat"],
            "--estimator eat does not fit this model; use one of exact",
        ),
        (
            ["--family", "categorical", "--estimator", "eat-then-straight-through"],
            "does not fit this model; use one of",
        ),
        (["--family", "laplace", "--estimator", "score"], "use one of exact, pathwise"),
        (["--family", "categorical", "--decoder", "mlp", "--estimator", "exact"], "--estimator exact needs a linear"),
        (["--estimator", "score"], "--samples is 1; --estimator score needs at least 2"),
        (
            ["--estimator", "score", "--samples", "2", "--temperature", "0.3"],
            "--temperature 0.3 does not apply to",
        ),
        (["--indicator", "sigmoid"], "--indicator sigmoid does not apply to the exact free energy"),
        (
            ["--indicator", "sigmoid", "--estimator", "gumbel-softmax"],
            "--indicator sigmoid does not apply to",
        ),
        (
            ["--family", "laplace", "--samples", "3"],
            "--samples 3 does not apply to .*or add --estimator pathw",
        ),
    ],
)
def test_estimators_that_do_not_fit_are_refused(capsys, rows, tmp_path, options, message):
    given = [*QUICK, *options] if "--inference" not in options else [*QUICK[:-2], *options]
    with pytest.raises(SystemExit):
        cli.main(["train", "--data", "array", "--data-path", str(rows), "--run-dir", str(tmp_path / "run"), *given])
    assert re.search(message, " ".join(capsys.readouterr().err.split()))
    assert not (tmp_path / "run" / "config.yaml").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("pictures")
def test_from_training_to_codes_and_gap(capsys, rows, tmp_path):
    folder = tmp_path / "run"
    family = ["--family", "gaussian", "--activation", "exp", "--prior", "learned"]
    cli.main(["train", "--data", "array", "--data-path", str(rows), "--run-dir", str(folder), *QUICK, *family])
    model, _ = load(folder)
    assert model.prior().__class__ is LogNormal
    assert isinstance(model.prior.location, torch.nn.Parameter)  # learned
    cli.main(["infer", str(folder), "--input", str(rows), "--output", str(tmp_path / "codes.npz")])
    codes = np.load(tmp_path / "codes.npz")
    assert codes["parameters"].shape == (200, 12)
    assert codes["mean"].shape == codes["sample"].shape == (200, 6)
    assert (codes["sample"] > 0).all()
    cli.main(["gap", str(folder), "--num", "5"])
    assert "the optimum is an estimate" in capsys.readouterr().out
    cli.main(["export", str(folder), "--dictionary", str(tmp_path / "phi.npz")])
    assert set(np.load(tmp_path / "phi.npz").files) == {"dictionary", "shape", "observation_variance", "beta"}
    cli.main(["train", "--resume", str(folder), "--updates", "12"])
    with pytest.raises(SystemExit):
        cli.main(["rate-distortion", str(folder)])
    assert "between Poisson VAEs and sparse coding" in capsys.readouterr().err
