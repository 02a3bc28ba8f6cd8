"""Saved dictionaries: what is written comes back, and what cannot be read says why."""

from functools import partial

import numpy as np
import pytest
import scipy.io
import torch
from problems import any_model, random_data, random_model

import itervae
from itervae import InputError
from itervae.model import save_dictionary


def test_round_trip_keeps_the_free_energy(tmp_path):
    model = random_model(variance=0.2, beta=1.7, log_rate=-2.5).float()
    save_dictionary(model, tmp_path / "phi.npz")
    with np.load(tmp_path / "phi.npz") as file:
        assert file["dictionary"].shape == (64, 128)
        assert file["log_rate"].shape == (128,)
        assert file["observation_variance"] == pytest.approx(0.2)
    again = itervae.load_dictionary(tmp_path / "phi.npz")
    x = random_data(model, 3)
    log_rate = torch.zeros(3, 128)
    expected = model.free_energy(x, model.posterior(log_rate)).total
    torch.testing.assert_close(again.free_energy(x, again.posterior(log_rate)).total, expected)


def test_bare_array_takes_defaults(tmp_path):
    phi = np.random.default_rng(0).normal(size=(16, 5))
    np.save(tmp_path / "phi.npy", phi)
    model = itervae.load_dictionary(tmp_path / "phi.npy")
    np.testing.assert_allclose(model.dictionary.detach().numpy(), phi, rtol=1e-6)
    assert model.prior.log_rate.tolist() == [-5.0] * 5
    assert model.likelihood.variance.item() == pytest.approx(0.5)
    assert model.shape == (16,)  # and no square is guessed
    other = itervae.load_dictionary(tmp_path / "phi.npy", log_rate=-1.0, observation_variance=2.0)
    assert other.prior.log_rate.tolist() == [-1.0] * 5
    assert other.likelihood.variance.item() == pytest.approx(2.0)


@pytest.mark.parametrize("dtype", [">f8", ">f4", "<f2", "longdouble", "int16", "uint8", "bool"])
def test_numbers_of_any_kind(tmp_path, dtype):
    phi = np.random.default_rng(0).integers(0, 2, (16, 5)).astype(dtype)
    np.savez(tmp_path / "phi.npz", dictionary=np.asfortranarray(phi), log_rate=np.full(5, -2).astype(">f8"))
    model = itervae.load_dictionary(tmp_path / "phi.npz")
    assert model.dictionary.dtype == torch.float32
    np.testing.assert_array_equal(model.dictionary.detach().numpy(), phi.astype(np.float32))
    assert model.prior.log_rate.tolist() == [-2.0] * 5


def test_numbers_beyond_float32_are_named(tmp_path):
    phi = np.ones((16, 5))
    phi[3, 2] = 1e39
    np.save(tmp_path / "phi.npy", phi)
    with pytest.raises(InputError, match=r"holds 1e\+39 at row 3, column 2, which is no finite 32-bit number"):
        itervae.load_dictionary(tmp_path / "phi.npy")


def test_errors(tmp_path):
    rng = np.random.default_rng(0)
    phi = rng.normal(size=(6, 3))
    np.savez(tmp_path / "named.npz", weights=phi, others=phi)
    np.save(tmp_path / "vector.npy", phi[0])
    np.save(tmp_path / "nan.npy", np.where(phi > 0, phi, np.nan))
    np.savez(tmp_path / "rates.npz", dictionary=phi, log_rate=np.zeros(7))
    np.save(tmp_path / "text.npy", np.array(["a", "b"]))
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04 not a zip")
    np.savez(tmp_path / "whole.npz", dictionary=phi)
    (tmp_path / "half.npz").write_bytes((tmp_path / "whole.npz").read_bytes()[:150])
    for name, message in (
        ("missing.npz", "there is no dictionary file"),
        ("named.npz", "holds others, weights; expected an array named dictionary .*: name it with `dictionary_key`"),
        ("vector.npy", r"shape \(3,\); expected \(D, K\)"),
        ("nan.npy", r"holds nan at row \d, column \d"),
        ("text.npy", "values of type <U1, not real numbers"),
        ("rates.npz", r"log_rate of .* has shape \(7,\); expected \(3,\)"),
        ("broken.npz", "cannot be read"),
        ("half.npz", "cannot be read"),
    ):
        with pytest.raises(InputError, match=message):
            itervae.load_dictionary(tmp_path / name)
    with pytest.raises(InputError, match=r"named .*phi.txt; expected a name ending in .npz"):
        save_dictionary(random_model(), tmp_path / "phi.txt")
    with pytest.raises(InputError, match="Bernoulli"):
        save_dictionary(any_model(likelihood="bernoulli"), tmp_path / "phi.npz")
    with pytest.raises(InputError, match="has no dictionary"):
        save_dictionary(any_model("mlp"), tmp_path / "phi.npz")


@pytest.mark.parametrize("name", ["phi.npy", "phi.csv", "phi.mat", "only.npz", "phi.h5"])
@pytest.mark.filterwarnings("ignore:.*was taken for")
def test_dictionaries_of_other_formats(tmp_path, name):
    phi, path = np.random.default_rng(0).normal(size=(12, 5)), tmp_path / name
    if name == "phi.h5":
        with pytest.importorskip("h5py").File(path, "w") as file:
            file["learned/atoms"] = phi
    elif name == "phi.mat":  # where every number is a matrix
        scipy.io.savemat(path, {"A": phi, "log_rate": np.full(5, -2.0), "beta": 2.0, "shape": [3, 4]})
    else:
        {"phi.npy": np.save, "only.npz": np.savez}.get(name, partial(np.savetxt, delimiter=","))(path, phi)
    model = itervae.load_dictionary(path)
    np.testing.assert_allclose(model.dictionary.detach().numpy(), phi, rtol=1e-6)
    if name == "phi.mat":
        assert model.shape == (3, 4)
        assert model.beta == 2
        assert model.prior.log_rate.tolist() == [-2.0] * 5


def test_atoms_in_rows_are_turned_where_one_says_so(tmp_path):
    components = np.random.default_rng(0).normal(size=(5, 12))
    np.save(tmp_path / "components.npy", components)
    model = itervae.load_dictionary(tmp_path / "components.npy", atoms="rows", shape=(3, 4))
    np.testing.assert_allclose(model.dictionary.detach().numpy(), components.T, rtol=1e-6)
    assert (model.latents, model.shape) == (5, (3, 4))
    assert itervae.load_dictionary(tmp_path / "components.npy").latents == 12


def test_a_key_names_the_dictionary(tmp_path):
    phi = np.random.default_rng(0).normal(size=(12, 5))
    np.savez(tmp_path / "two.npz", dictionary=phi * 0, other=phi)
    found = itervae.load_dictionary(tmp_path / "two.npz", key="other").dictionary
    np.testing.assert_allclose(found.detach().numpy(), phi, rtol=1e-6)
