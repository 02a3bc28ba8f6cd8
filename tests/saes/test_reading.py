"""Sparse autoencoders that other libraries wrote (`scripts/make_sae_fixtures`): codes and
reconstructions are those of the library itself, and damage is told in one sentence."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

import itervae
from itervae import InputError
from itervae.formats import array_names, read_array

HOME = Path(__file__).parents[1] / "data/saes"
FOLDERS = sorted(path.name for path in HOME.iterdir() if path.is_dir())


def norms_of(folder):
    """‖w_k‖ (K,), in NumPy, of the atoms that the library's codes are for."""
    if folder.name == "saelens_topk_unit":
        return np.ones(20)  # its codes are in units of atoms of unit norm
    if (folder / "ae.pt").exists():
        arrays = {name: value.numpy() for name, value in torch.load(folder / "ae.pt").items()}
    else:
        arrays = np.load(folder / "params.npz") if (folder / "params.npz").exists() else None
        arrays = load_file(next(folder.glob("*.safetensors"))) if arrays is None else arrays
    atoms = arrays["W_dec"] if "W_dec" in arrays else arrays["decoder.weight"].T
    return np.linalg.norm(atoms, axis=1)


def test_there_is_one_of_each_library_and_kind():
    assert len(FOLDERS) == 19
    assert json.loads((HOME / "made_by.json").read_text()).keys() >= {"sae-lens", "dictionary-learning", "eai-sparsify"}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", FOLDERS)
def test_codes_and_reconstructions_are_those_of_the_library(name):
    folder, theirs = HOME / name, np.load(HOME / name / "expected.npz")
    sae = itervae.load_sae(folder, threshold=0.3)
    model, engine = sae
    x = torch.from_numpy(theirs["x"])
    seen = sae.normalize(x)
    found = itervae.infer(model, engine, seen)
    code = found.posterior.mean
    np.testing.assert_allclose(code, theirs["codes"] * norms_of(folder), rtol=1e-5, atol=1e-5)
    assert (theirs["codes"] > 0).any(1).all()
    rebuilt = model.decode(code)
    if sae.normalization == "constant_norm_rescale":
        rebuilt = rebuilt * x.norm(dim=1, keepdim=True) / 8**0.5
    if sae.normalization == "layer_norm":
        rebuilt = rebuilt * x.std(1, keepdim=True) + x.mean(1, keepdim=True)
    np.testing.assert_allclose(rebuilt, theirs["reconstruction"], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(model.dictionary.norm(dim=0), torch.ones(20))
    other, _ = itervae.load_sae(folder, threshold=2.0)  # the price of a code does not change it
    torch.testing.assert_close(itervae.infer(other, engine, seen).posterior.mean, code, atol=1e-6, rtol=1e-6)


def test_safetensors_are_arrays_like_others(tmp_path):
    path = tmp_path / "phi.safetensors"
    phi = np.random.default_rng(0).normal(size=(6, 9)).astype(np.float32)
    save_file({"dictionary": phi, "threshold": np.array([0.2])}, path)
    assert array_names(path) == ["dictionary", "threshold"]
    np.testing.assert_array_equal(read_array(path, "dictionary"), phi)
    model = itervae.load_dictionary(path)
    assert model.prior.threshold.item() == pytest.approx(0.2)
    np.testing.assert_array_equal(model.dictionary, phi)


def test_half_precision_is_read(tmp_path):
    from safetensors.torch import save_file as save_tensors

    folder = tmp_path / "half"
    shutil.copytree(HOME / "saelens_standard", folder)
    arrays = load_file(folder / "sae_weights.safetensors")
    half = {name: torch.from_numpy(value).bfloat16() for name, value in arrays.items()}
    save_tensors(half, folder / "sae_weights.safetensors")
    model, engine = itervae.load_sae(folder)
    torch.testing.assert_close(engine.weight, half["W_enc"].float().mT)
    assert model.beta.dtype == torch.float32


def config(**changes):
    def change(folder):
        path = next(folder.glob("c*.json"))
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


def weights(**changes):
    def change(folder):
        (path,) = folder.glob("*.safetensors")
        arrays = load_file(path)
        save_file({name: value for name, value in (arrays | changes).items() if value is not None}, path)

    return change


class Code:
    """What is no tensor."""


DAMAGED = {
    "empty": ("saelens_gated", lambda f: shutil.rmtree(f) or f.mkdir(), "holds none of sae_weights.*; expected the"),
    "no config": ("saelens_gated", lambda f: (f / "cfg.json").unlink(), "there is no cfg.json in .*; expected it"),
    "cut config": ("saelens_gated", lambda f: (f / "cfg.json").write_text("{"), r"cannot be read \(.*expected JSON"),
    "config a list": ("saelens_gated", lambda f: (f / "cfg.json").write_text("[1]"), "holds a list; expected the set"),
    "cut weights": (
        "saelens_topk",
        lambda f: (f / "sae_weights.safetensors").write_bytes(b"1234"),
        "cannot be read .*make or copy it again",
    ),
    "no threshold": ("saelens_jumprelu", weights(threshold=None), "no array threshold; expected one, and it holds W_d"),
    "bias of another size": (
        "saelens_standard",
        weights(b_dec=np.zeros(7, np.float32)),
        r"b_dec of .* has shape \(7,\); expected \(8,\)",
    ),
    "encoder transposed": (
        "saelens_standard",
        weights(W_enc=np.zeros((20, 8), np.float32)),
        r"W_enc of .* has shape \(20, 8\); expected \(8, 20\)",
    ),
    "not finite": (
        "saelens_standard",
        weights(b_enc=np.full(20, np.nan, np.float32)),
        "array b_enc of .* holds nan",
    ),
    "scaled": ("saelens_standard", weights(scaling_factor=np.full(20, 2.0, np.float32)), "scaling_factor.*expected n"),
    "transcoder": ("saelens_topk", config(architecture="transcoder"), "architecture of .* is 'transcoder'.*expected"),
    "activation": ("saelens_standard", config(activation_fn="tanh-relu"), "activation_fn of .* is 'tanh-relu'.*expec"),
    "whitened": ("saelens_topk", config(normalize_activations="covariance_whitening"), "'covariance_whitening'.*exp"),
    "k too large": ("saelens_topk", config(k=21), "k of .* is 21; expected a whole number from 1 to 20"),
    "k a word": ("sparsify_topk", config(k="4"), "k of .* is '4'; expected"),
    "skips": ("sparsify_topk", config(skip_connection=True), "skip_connection of .* is True.*expected false"),
    "no trainer": (
        "dictionary_learning_AutoEncoder",
        lambda f: (f / "config.json").write_text("{}"),
        "has no trainer; expected",
    ),
    "class": (
        "dictionary_learning_AutoEncoder",
        config(trainer={"dict_class": "CrossCoder"}),
        "dict_class of .* is 'CrossCoder'.*expected AutoEncoder",
    ),
    "a pickle": (
        "dictionary_learning_AutoEncoder",
        lambda f: torch.save({"decoder.weight": Code()}, f / "ae.pt"),
        "cannot be read .*expected tensors by name and no code",
    ),
    "a list of weights": (
        "dictionary_learning_AutoEncoder",
        lambda f: torch.save([torch.zeros(3)], f / "ae.pt"),
        "holds no tensors by name; expected",
    ),
    "Gemma Scope without atoms": (
        "gemma_scope",
        lambda f: np.savez(f / "params.npz", W_enc=np.zeros((8, 20))),
        "no array W_dec or w_dec; expected",
    ),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damage_is_one_sentence(name, tmp_path):
    whole, damage, pattern = DAMAGED[name]
    folder = tmp_path / "sae"
    shutil.copytree(HOME / whole, folder)
    damage(folder)
    with pytest.raises(InputError, match=pattern) as refused:
        itervae.load_sae(folder)
    assert "\n" not in str(refused.value)


def test_an_engine_of_another_model_is_refused():
    _, engine = itervae.load_sae(HOME / "gemma_scope")
    other = itervae.build_model(itervae.model.SparseCodingSettings(latents=7), (8,))
    with pytest.raises(InputError, match=r"of a sparse autoencoder with 20 atoms of 8 values.*use the model that"):
        itervae.infer(other, engine, torch.zeros(2, 8))
