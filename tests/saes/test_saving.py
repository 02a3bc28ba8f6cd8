"""Sparse autoencoders that are written, and encoders trained on a frozen one."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

import itervae
from itervae import InputError, cli
from itervae.saes import save_sae

HOME = Path(__file__).parents[1] / "data/saes"
FROZEN = (
    f"train --freeze {HOME / 'saelens_standard'} --data array --data-path x.npy --run-dir run --inference amortized"
)


@pytest.mark.parametrize(
    "name", ["saelens_standard", "saelens_topk", "saelens_gated", "gemma_scope", "dictionary_learning_BatchTopKSAE"]
)
def test_what_is_written_gives_the_same_codes(name, tmp_path):
    model, engine = itervae.load_sae(HOME / name)
    save_sae(model, engine, tmp_path / "again")
    again, encoder = itervae.load_sae(tmp_path / "again")
    x = torch.from_numpy(np.load(HOME / name / "expected.npz")["x"])
    code = itervae.infer(model, engine, x).posterior.mean
    found = itervae.infer(again, encoder, x).posterior.mean
    torch.testing.assert_close(found, code, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(again.decode(found), model.decode(code), rtol=1e-5, atol=1e-5)


def test_a_linear_encoder_trained_on_a_frozen_one_is_written_as_such(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model, _ = itervae.load_sae(HOME / "saelens_standard", threshold=0.5)
    generator = torch.Generator().manual_seed(0)
    codes = torch.rand(80, 20, generator=generator) * (torch.rand(80, 20, generator=generator) < 0.2)
    np.save("x.npy", model.decode(3 * codes).numpy())
    more = "--model sparse-coding --threshold 0.5 --updates 3 --batch-size 20 --device cpu --validate-every 3"
    cli.main(f"{FROZEN} {more}".split())
    trained, engine = itervae.load("run")
    assert torch.equal(trained.dictionary, model.dictionary)
    assert torch.equal(trained.decoder.bias, model.decoder.bias)
    assert trained.prior.threshold == 0.5
    save_sae(trained, engine, "better")
    again, encoder = itervae.load_sae("better")
    x = torch.from_numpy(np.load("x.npy"))
    ours = itervae.infer(trained, engine, x).posterior.mean
    assert (ours > 0).any()
    torch.testing.assert_close(itervae.infer(again, encoder, x).posterior.mean, ours, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("engine", ["amortized", "semi-amortized --start-encoder linear"])
def test_a_linear_encoder_starts_as_that_of_the_autoencoder(engine, tmp_path, monkeypatch):
    """After an update of no size its codes are those of the file."""
    monkeypatch.chdir(tmp_path)
    theirs = np.load(HOME / "saelens_standard/expected.npz")
    np.save("x.npy", theirs["x"])
    more = "--model sparse-coding --threshold 0.5 --updates 1 --batch-size 5 --device cpu --lr 1e-12"
    cli.main(f"{FROZEN.replace('amortized', engine)} {more}".split())
    model, found = itervae.load("run")
    encoder = found if engine == "amortized" else found.encoder
    norms = itervae.load_sae(HOME / "saelens_standard").engine.norms
    codes = itervae.infer(model, encoder, torch.from_numpy(theirs["x"])).posterior.mean
    torch.testing.assert_close(codes, norms * torch.from_numpy(theirs["codes"]), rtol=1e-4, atol=1e-5)


def test_a_dictionary_is_written_as_safetensors(tmp_path):
    model, _ = itervae.load_sae(HOME / "saelens_standard", threshold=0.5)
    itervae.model.save_dictionary(model, tmp_path / "phi.safetensors")
    again = itervae.load_dictionary(tmp_path / "phi.safetensors")
    torch.testing.assert_close(again.dictionary, model.dictionary)
    assert torch.equal(again.decoder.bias, model.decoder.bias)
    assert again.prior.threshold == 0.5


REFUSED = {
    FROZEN: "has no threshold; name one with --model sparse-coding and --threshold",
    f"{FROZEN} --model sparse-coding --signed": "a hard threshold were asked of .*expected neither: leave them out",
    f"{FROZEN} --model sparse-coding --atoms rows": "--atoms rows is for the dictionary file of --freeze.*leave it out",
    f"{FROZEN} --model sparse-coding --latents 3": "--latents was given beside --freeze .*leave it out",
}


@pytest.mark.parametrize("line", REFUSED)
def test_refusals_of_freeze(line, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", np.random.default_rng(0).normal(size=(40, 8)))
    with pytest.raises(SystemExit):
        cli.main(line.split())
    said = capsys.readouterr().err
    assert re.search(REFUSED[line], said), said
    assert said.count("\n") == 1, said


def test_what_cannot_be_written_is_refused(tmp_path):
    model, engine = itervae.load_sae(HOME / "sparsify_groupmax")
    poisson = itervae.build_model(itervae.model.PoissonVAESettings(latents=4), (8,))
    other = itervae.build_engine("amortized", model, encoder="mlp")
    for given, pattern in (
        ((poisson, engine), "this model is no sparse coding"),
        ((model, engine), "GroupMax, which SAELens has not; expected another"),
        ((model, other), "Amortized without a linear encoder; expected that of load_sae"),
    ):
        with pytest.raises(InputError, match=pattern):
            save_sae(*given, tmp_path / "sae")
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").write_text("")
    sae = itervae.load_sae(HOME / "saelens_topk")
    with pytest.raises(InputError, match=r"cannot be written.*name another"):
        save_sae(*sae, tmp_path / "file")
