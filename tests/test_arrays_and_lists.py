"""Arrays and lists stand for tensors everywhere, and answers come back without a gradient unless
something asks for one."""

import numpy as np
import pytest
import torch

import itervae
from itervae.arrays import as_tensor
from itervae.distributions import Categorical, Gaussian, RelaxedPoisson
from itervae.evaluation import amortization_gap, encode, rate_points
from itervae.inference import FISTAUnrolled, LCAUnrolled, Optimal, certificate
from itervae.model import PoissonVAESettings, SparseCodingSettings, build_model, save_dictionary, sparse_coding_model
from itervae.sequence import Leaky

D, K, N = 16, 6, 5


@pytest.fixture(scope="module")
def model():
    return build_model(PoissonVAESettings(latents=K), (4, 4))


@pytest.fixture(scope="module")
def x():
    return np.random.default_rng(0).normal(size=(N, D)).astype(np.float32)


KINDS = {
    "float32": lambda x: x,
    "lists": lambda x: x.tolist(),
    "big-endian": lambda x: x.astype(">f4"),
    "Fortran order": np.asfortranarray,
    "every other column": lambda x: np.repeat(x, 2, 1)[:, ::2],
    "float64": lambda x: x.astype(np.float64),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_inferred_of_an_array_is_that_of_the_tensor(model, x, kind):
    given, tensor = KINDS[kind](x), torch.tensor(x, dtype=torch.float64 if kind == "float64" else torch.float32)
    found, expected = (itervae.infer(model, LCAUnrolled(3), each) for each in (given, tensor))
    assert found.posterior.u.dtype == tensor.dtype
    assert torch.equal(found.posterior.u, expected.posterior.u)
    for measure in (
        lambda each: model.free_energy(each, expected.posterior).total,
        lambda each: certificate(model, each, expected.posterior),
        lambda each: encode(model, LCAUnrolled(3), each).mean,
        lambda each: amortization_gap(model, {"lca": (LCAUnrolled(3), 3)}, each).engines["lca"].gap_mean,
        lambda each: rate_points(model, LCAUnrolled(3), each, family="f", setting="s", order=1.0)[0].error,
    ):
        torch.testing.assert_close(measure(given), measure(tensor), rtol=0, atol=0)


@pytest.mark.parametrize("kind", ["uint8", "uint16", "uint32", "int64", "bool", "float16", "longdouble"])
def test_other_numbers_become_the_precision_of_the_model(model, kind):
    counts = np.arange(N * D).reshape(N, D) % 2
    expected = torch.tensor(counts, dtype=torch.float32)
    assert torch.equal(as_tensor("x", counts.astype(kind), model.beta), expected)
    assert torch.equal(as_tensor("x", expected.bool(), model.beta), expected)
    assert as_tensor("x", counts.astype(kind), model.beta.double()).dtype == torch.float64


def test_a_tensor_is_taken_as_it_is(x):
    tensor = torch.tensor(x, requires_grad=True)
    assert as_tensor("x", tensor) is tensor


def test_frames_distributions_dictionaries_and_codes_are_taken_from_arrays(model, x):
    frames = np.stack([x, x[::-1]], 1)
    engine, carryover = FISTAUnrolled(3), Leaky(K)
    found = itervae.filter_sequence(model, engine, frames, carryover)
    tensors = itervae.filter_sequence(model, engine, torch.from_numpy(frames), carryover)
    assert torch.equal(found.free_energy, tensors.free_energy)
    each = itervae.filter_sequence(model, engine, list(frames.swapaxes(0, 1)), carryover)  # frames as they come
    assert torch.equal(found.free_energy, each.free_energy)
    assert RelaxedPoisson(np.zeros(3)).mean.tolist() == RelaxedPoisson([0, 0, 0]).mean.tolist() == [1, 1, 1]
    assert Gaussian([0.5, 0.0]).mean.tolist() == [0.5]
    assert Categorical([0.0, 0.0]).mean.tolist() == [0.5, 0.5]
    codes = np.ones((N, K))
    torch.testing.assert_close(model.decode(codes), model.decode(torch.ones(N, K)))
    atoms = np.random.default_rng(1).normal(size=(D, K))
    coding = sparse_coding_model(atoms, SparseCodingSettings(K), (4, 4))
    np.testing.assert_allclose(coding.dictionary.detach(), atoms / np.linalg.norm(atoms, axis=0))


def test_the_prior_of_a_frame_goes_into_the_free_energy(model, x):
    engine, carryover, state, energies = LCAUnrolled(4), Leaky(K), None, []
    for frame in (x, x[::-1].copy()):
        found, prior, state = itervae.filter_step(model, engine, frame, carryover, state)
        energies.append(model.free_energy(frame, found.posterior, prior).total)
    expected = itervae.filter_sequence(model, engine, np.stack([x, x[::-1]], 1), carryover).free_energy
    torch.testing.assert_close(torch.stack(energies, 1), expected)


def test_answers_have_a_gradient_where_something_asks_for_one(model, x, tmp_path):
    def asks(model, x, **options):
        return itervae.infer(model, LCAUnrolled(2), x, **options).posterior.u.requires_grad

    assert asks(model, x)  # a new model is to be trained
    with torch.no_grad():
        assert not asks(model, x)
    save_dictionary(model, tmp_path / "phi.npz")
    saved = itervae.load_dictionary(tmp_path / "phi.npz")
    assert not asks(saved, x)
    itervae.infer(saved, Optimal(), x).posterior.mean.numpy()  # as it could not with a graph
    assert asks(saved, torch.tensor(x, requires_grad=True))
    prior = saved.prior()
    assert asks(saved, x, prior=prior.like(prior.u.clone().requires_grad_()))
    saved.likelihood.log_variance.requires_grad_()  # a buffer
    assert asks(saved, x)
    saved.likelihood.log_variance.requires_grad_(False)
    assert asks(saved.requires_grad_(), x)
