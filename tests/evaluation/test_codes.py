"""Codes and their read-outs against their definitions, and what is measured of them without
labels."""

import pytest
import torch
from problems import build_engine, random_data, random_model

from itervae.cli.suites import SUITES, measure
from itervae.evaluation.codes import CODE_READOUTS, encode
from itervae.evaluation.sparsity import lifetime_sparsity, population_sparsity
from itervae.inference import LCAUnrolled, Optimal, infer
from itervae.model import MODELS, SparseCodingSettings, build_model, sparse_coding_model


@pytest.fixture(scope="module")
def poisson():
    model = random_model(16, 24, log_rate=-1.0, beta=0.7).float()
    x = random_data(model, 1200)  # more than one batch
    return model, x, encode(model, Optimal(), x, seed=5)


def test_codes_of_a_poisson_model_are_those_inferred(poisson):
    model, x, codes = poisson
    done = []
    again = encode(model, Optimal(), x, seed=5, advance=done.append)
    with torch.no_grad():
        q = infer(model, Optimal(), x).posterior
        energy = model.free_energy(x, q)
    assert done == [1000, 200]
    assert codes.family == "poisson"
    assert codes.readouts == CODE_READOUTS
    torch.testing.assert_close(codes.mean, q.mean)
    torch.testing.assert_close(codes.residual, q.log_rate - model.prior.log_rate.detach())
    torch.testing.assert_close(codes.free_energy, energy.total)
    torch.testing.assert_close(codes.kl, energy.kl)
    torch.testing.assert_close(codes.error, (x - q.mean @ model.dictionary.detach().mT).double().square().sum(-1))
    assert codes.share_zero == pytest.approx(torch.exp(-q.rate).mean().item())
    assert codes.certificate.max() < 1e-4
    # samples are whole numbers, the same for the same seed, and have the moments of the posterior
    assert torch.equal(codes.sample, again.sample)
    assert torch.equal(codes.sample, codes.sample.round())
    assert not torch.equal(codes.sample, encode(model, Optimal(), x, seed=6).sample)
    spread = q.rate.sum().sqrt()
    assert abs((codes.sample - q.mean).sum()) < 4 * spread


def test_readouts_are_their_formulas(poisson):
    codes = poisson[2]
    torch.testing.assert_close(codes.readout("clamped"), codes.residual.clamp_min(-2))
    assert (codes.residual < -2).any()
    torch.testing.assert_close(codes.readout("root"), codes.mean.sqrt())
    for name in ("residual", "mean", "sample"):
        assert codes.readout(name) is getattr(codes, name)


@pytest.mark.parametrize("name", [name for name in MODELS if name.endswith("-vae")])
def test_every_family_has_every_readout(name):
    model = build_model(MODELS[name](latents=6), (5,))
    x = torch.randn(40, 5, generator=torch.Generator().manual_seed(0))
    codes = encode(model, build_engine("amortized", model), x)
    assert codes.family == name.removesuffix("-vae")
    for readout in codes.readouts:
        features = codes.readout(readout)
        assert features.shape == (40, 6)
        assert features.isfinite().all()
    torch.testing.assert_close(codes.readout("root").square() * codes.mean.sign(), codes.mean)
    measured = measure(codes, x, SUITES)
    assert set(measured) == {"units", "sparsity", "reconstruction"}


def test_a_sparse_code_has_mean_and_root_only():
    dictionary = random_model(16, 24).dictionary.detach().float()
    model = sparse_coding_model(dictionary, SparseCodingSettings(24, 0.5, signed=True), (16,))
    x = torch.randn(50, 16, generator=torch.Generator().manual_seed(0))
    codes = encode(model, LCAUnrolled(), x, steps=50)
    assert codes.family == "sparse code"
    assert codes.readouts == ("mean", "root")
    root = codes.readout("root")
    assert (root < 0).any()
    torch.testing.assert_close(root * root.abs(), codes.mean)
    measured = measure(codes, x, SUITES)
    assert set(measured) == {"sparsity", "reconstruction"}
    assert "sample" not in measured["sparsity"]
    assert measured["sparsity"]["share_zero"] == pytest.approx((codes.mean == 0).double().mean().item())
    assert measured["sparsity"]["share_zero_expected"] == pytest.approx(measured["sparsity"]["share_zero"])


def test_measures_are_their_definitions(poisson):
    model, x, codes = poisson
    found = measure(codes, x, ("sparsity", "reconstruction"))
    sparsity, reconstruction = found["sparsity"], found["reconstruction"]
    assert sparsity["mean"]["lifetime"] == pytest.approx(lifetime_sparsity(codes.mean).mean().item())
    assert sparsity["sample"]["population"] == pytest.approx(population_sparsity(codes.sample).mean().item())
    zeros = 1 - codes.share_zero
    assert abs(sparsity["share_zero"] - codes.share_zero) < 4 * (zeros * codes.share_zero / codes.mean.numel()) ** 0.5
    assert sparsity["activity"] == pytest.approx(codes.mean.sum(1).mean().item(), rel=1e-5)
    variance = x.double().var(0, correction=0).sum().item()
    assert reconstruction["variance"] == pytest.approx(variance, rel=1e-5)
    mean, sample = reconstruction["mean"], reconstruction["sample"]
    assert mean["r2_pooled"] == pytest.approx(1 - codes.error.mean().item() / variance, rel=1e-5)
    assert mean["error_se"] == pytest.approx(codes.error.std().item() / 1200**0.5)
    assert mean["r2_pooled_se"] == pytest.approx(mean["error_se"] / variance, rel=1e-5)
    # E‖x − Φz‖² = ‖x − Φλ‖² + c·λ
    expected = codes.error + codes.mean.double() @ model.dictionary.detach().double().square().sum(0)
    assert abs(sample["error"] - expected.mean().item()) < 4 * sample["error_se"]
    # σ² = 1/2: the negative log-likelihood is that expected error; β = 0.7 weighs the KL
    assert reconstruction["nll"] == pytest.approx(expected.mean().item(), rel=1e-4)
    parts = reconstruction["nll"], reconstruction["kl"]
    assert reconstruction["free_energy"] == pytest.approx(parts[0] + 0.7 * parts[1], rel=1e-5)
    assert reconstruction["free_energy_at_beta_1"] == pytest.approx(sum(parts), rel=1e-5)
    assert reconstruction["certificate_max"] == pytest.approx(codes.certificate.max().item())


def test_one_unit_and_data_without_variance_leave_gaps_not_errors():
    model = random_model(4, 1).float()
    x = torch.ones(10, 4)
    codes = encode(model, LCAUnrolled(), x, steps=5)
    found = measure(codes, x, SUITES)
    assert found["sparsity"]["mean"]["population"] is None
    assert found["reconstruction"]["mean"]["r2_pooled"] is None
    assert found["reconstruction"]["mean"]["r2_per_datum"] is None
    network = build_model(MODELS["poisson-vae"](latents=3, decoder="mlp"), (8, 8))
    y = torch.rand(10, 64, generator=torch.Generator().manual_seed(0))
    measured = measure(encode(network, build_engine("amortized", network), y), y, ("reconstruction",))
    assert measured["reconstruction"]["certificate_max"] is None
