"""Runs of sparse coding, and engines trained on a model that is kept as it is."""

import numpy as np
import pytest
import torch

import itervae
from itervae import InputError, cli
from itervae.config import parse_train
from itervae.model import save_dictionary
from itervae.training import train_run


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """600 rows of 32 values: two of 24 unit-norm atoms each."""
    rng = np.random.default_rng(0)
    atoms = rng.normal(size=(32, 24))
    atoms /= np.linalg.norm(atoms, axis=0)
    codes = np.zeros((600, 24))
    for row in codes:
        row[rng.choice(24, 2, replace=False)] = rng.uniform(2, 4, 2)
    folder = tmp_path_factory.mktemp("rows")
    np.save(folder / "x.npy", codes @ atoms.T)
    np.save(folder / "atoms.npy", atoms)
    return folder / "x.npy"


def arguments(rows, *options):
    return ["--data", "array", "--data-path", str(rows), "--latents", "24", "--device", "cpu", *options]


def begin(args, run):
    settings, _, _ = parse_train(args)
    return train_run(settings, run)


@pytest.mark.slow
def test_it_finds_the_dictionary_that_made_the_data(rows, tmp_path):
    options = ("--model", "sparse-coding", "--threshold", "0.5", "--updates", "200")
    summary = begin(arguments(rows, *options), tmp_path / "run")
    model, _ = itervae.load(tmp_path / "run")
    atoms = torch.as_tensor(np.load(rows.parent / "atoms.npy"), dtype=torch.float32)
    dictionary = model.dictionary.detach()
    torch.testing.assert_close(dictionary.norm(dim=0), torch.ones(24))
    found = (atoms.mT @ dictionary).amax(1)
    assert (found > 0.95).float().mean() > 0.8
    assert summary.validation["share_zero"] > 0.5


@pytest.mark.usefixtures("pictures")
def test_the_command_infers_and_exports_sparse_codes(rows, tmp_path, capsys):
    run = str(tmp_path / "run")
    cli.main(["train", *arguments(rows, "--model", "sparse-coding", "--updates", "10", "--signed"), "--run-dir", run])
    assert "sparsity cost" in capsys.readouterr().out
    pictures = {path.name for path in (tmp_path / "run").glob("*.png")}
    assert pictures == {
        "dictionary.png",
        "reconstructions.png",
        "curves.png",
    }  # no samples: there is no prior to draw from
    cli.main(["infer", run, "--input", str(rows), "--output", str(tmp_path / "codes.npz")])
    codes = np.load(tmp_path / "codes.npz")
    assert set(codes.files) == {"coefficients", "reconstruction", "free_energy", "certificate"}
    cli.main(["export", run, "--dictionary", str(tmp_path / "phi.npz")])
    assert set(np.load(tmp_path / "phi.npz").files) == {"dictionary", "shape", "threshold", "signed", "hard"}
    assert itervae.load_dictionary(tmp_path / "phi.npz").latents == 24
    cli.main(["gap", run])
    assert "gap of sparse coding, E − E* per datum" in capsys.readouterr().out


@pytest.mark.usefixtures("unchecked")
def test_settings_that_do_not_apply_are_refused(rows):
    for options, message in (
        (
            ("--beta", "2"),
            "--beta does not apply to model sparse-coding, whose own settings are",
        ),
        (("--estimator", "eat"), "does not apply to sparse coding"),
        (("--beta-ramp", "0.5"), "does not apply to sparse coding"),
        (("--inference", "recurrent"), "recurrent needs a model with variational posterior"),
        (("--no-unit-norm",), "atoms would grow without bound"),
        (("--threshold", "-1"), "`threshold` is -1"),
    ):
        with pytest.raises(InputError, match=message):
            begin(arguments(rows, "--model", "sparse-coding", *options), rows.parent / "refused")
    with pytest.raises(InputError, match="--threshold does not apply to model poisson-vae"):
        parse_train(arguments(rows, "--threshold", "1"))
    with pytest.raises(InputError, match="model 'sparse-codin' is unknown; did you mean sparse-coding"):
        parse_train(arguments(rows, "--model", "sparse-codin"))
    assert not (rows.parent / "refused").exists()


def test_a_frozen_model_stays_and_its_engine_learns(rows, tmp_path):
    begin(arguments(rows, "--updates", "20", "--steps", "5", "--beta", str(1 / 7)), tmp_path / "solver")
    model, _ = itervae.load(tmp_path / "solver")
    save_dictionary(model, tmp_path / "phi.npz")
    data = ["--data", "array", "--data-path", str(rows), "--inference", "amortized", "--device", "cpu"]
    for target in (tmp_path / "solver", tmp_path / "phi.npz"):
        run = tmp_path / f"frozen-{target.suffix}"
        options = ("--freeze", str(target), "--updates", "60", "--lr", "0.01")
        summary = begin([*data, *options], run)
        kept, _ = itervae.load(run)
        for name, value in model.state_dict().items():
            torch.testing.assert_close(kept.state_dict()[name], value)
        x = torch.as_tensor(np.load(rows), dtype=torch.float32)
        prior = model.posterior(model.prior.log_rate.expand(len(x), -1))
        assert summary.validation["free_energy"] < model.free_energy(x, prior).total.mean() - 1
    assert model.beta.item() == pytest.approx(1 / 7)  # of all places that β passes, none rounds it
    # resumed, it is still frozen, and does not need its target
    (tmp_path / "phi.npz").unlink()
    resumed, _, folder = parse_train(["--resume", str(run), "--updates", "65"])
    train_run(resumed, folder, resume=True)
    again, _ = itervae.load(folder)
    for name, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name


def test_freeze_errors(rows, tmp_path):
    data = ["--data", "array", "--data-path", str(rows), "--device", "cpu"]
    np.save(tmp_path / "phi.npy", np.eye(32))
    np.save(tmp_path / "other.npy", np.eye(9))
    for options, message in (
        (("--freeze", str(tmp_path / "phi.npy")), "there is nothing to train"),
        (("--inference", "amortized", "--freeze", str(tmp_path / "other.npy")), "explains data of 9 values"),
        (
            ("--inference", "amortized", "--freeze", str(tmp_path / "phi.npy"), "--latents", "3"),
            "--latents was given beside --freeze",
        ),
        (("--inference", "amortized", "--freeze", str(tmp_path / "none")), "there is no checkpoint"),
        (("--inference", "amortized", "--freeze", str(tmp_path / "phi.npy"), "--beta-ramp", "0.5"), "keeps as it is"),
    ):
        with pytest.raises(InputError, match=message):
            begin([*data, *options], tmp_path / "run")
    assert not (tmp_path / "run").exists()
