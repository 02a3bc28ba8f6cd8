"""What is kept of a dictionary follows its parameters, their precision and their gradient."""

import copy
import gc
import weakref

import numpy as np
import pytest
import torch
from torch.nn import Parameter, functional

from itervae.inference import LCAUnrolled, Optimal, infer
from itervae.inference.energies.linear import decoder_terms
from itervae.model import PoissonVAESettings, SparseCodingSettings, build_model


def _replaced(model, values):
    """A weight at the address of the one before, as the allocator may give it, of the same
    version."""
    before = model.decoder.weight.data_ptr()
    memory = torch.from_numpy(model.decoder.weight.detach().numpy())
    memory.numpy()[:] = values
    model.decoder.weight = Parameter(memory, requires_grad=False)
    assert model.decoder.weight.data_ptr() == before


def _assigned(model, values):
    model.decoder.weight.data = torch.from_numpy(values)


def _copied(model, values):
    model.decoder.weight.data.copy_(torch.from_numpy(values))


def _by_numpy(model, values):
    model.decoder.weight.detach().numpy()[:] = values


@pytest.mark.parametrize("change", [_replaced, _assigned, _copied, _by_numpy])
@pytest.mark.parametrize("settings", [SparseCodingSettings(latents=32), PoissonVAESettings(latents=32)])
@pytest.mark.parametrize("unit_norm", [False, True])
def test_the_optimum_is_that_of_the_parameters_however_they_were_changed(change, settings, unit_norm):
    model = build_model(settings, (16,), 0).requires_grad_(False)
    model.decoder.unit_norm = unit_norm
    generator = np.random.default_rng(0)
    x = torch.from_numpy(generator.normal(size=(8, 16)).astype(np.float32))
    for _ in range(3):
        infer(model, Optimal(), x)  # something is kept
        values = generator.normal(size=(16, 32)).astype(np.float32)
        change(model, values / np.linalg.norm(values, axis=0))
        fresh = copy.deepcopy(model)
        found, expected = (infer(m, Optimal(tolerance=1e-9), x) for m in (model, fresh))
        assert (found.stats["certificate"] <= 2e-9).all()
        energies = [fresh.free_energy(x, answer.posterior).total for answer in (found, expected)]
        torch.testing.assert_close(*energies, rtol=1e-5, atol=1e-5)


def test_what_is_kept_in_inference_mode_serves_a_gradient():
    model = build_model(PoissonVAESettings(latents=8), (6,), 0).requires_grad_(False)
    x = torch.randn(5, 6, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        infer(model, LCAUnrolled(3), x)
        infer(model, LCAUnrolled(3), x.double())
    for data in (x, x.double()):
        data = data.clone().requires_grad_()
        infer(model, LCAUnrolled(3), data).posterior.mean.sum().backward()
        assert data.grad.isfinite().all()


def test_terms_are_computed_in_the_precision_asked_for():
    model = build_model(PoissonVAESettings(latents=8, unit_norm=True, observation_variance=0.3), (6,), 0)
    terms, exact = decoder_terms(model, torch.float64), copy.deepcopy(model).double()
    assert torch.equal(terms.operator.dictionary, functional.normalize(exact.decoder.weight, dim=0))
    assert torch.equal(terms.variance, exact.likelihood.log_variance.exp())


def test_terms_are_made_once_and_again_after_every_change():
    model = build_model(PoissonVAESettings(latents=8), (6,), 0).requires_grad_(False)
    terms = decoder_terms
    first = terms(model, torch.float32)
    assert terms(model, torch.float32) is first
    assert terms(model, torch.float64).gram.dtype == torch.float64
    assert terms(model, torch.float32) is first
    x = torch.randn(5, 6, generator=torch.Generator().manual_seed(0))
    for change in (
        lambda: model.decoder.weight.mul_(2),
        lambda: model.likelihood.log_variance.add_(1),
        lambda: model.load_state_dict(build_model(PoissonVAESettings(latents=8), (6,), 1).state_dict()),
    ):
        before = terms(model, torch.float32)
        change()
        after = terms(model, torch.float32)
        assert after is not before
        expected = model.dictionary.mT @ model.dictionary / model.likelihood.variance
        torch.testing.assert_close(after.gram, expected)
        fresh = build_model(PoissonVAESettings(latents=8), (6,), 2)
        fresh.load_state_dict(model.state_dict())
        kept, made = (infer(m, LCAUnrolled(5), x).posterior.log_rate for m in (model, fresh))
        torch.testing.assert_close(kept, made)


def test_gradients_are_never_taken_through_what_was_kept():
    model = build_model(PoissonVAESettings(latents=8), (6,), 0)
    terms = decoder_terms
    with torch.no_grad():
        kept = terms(model, torch.float32)
        assert not kept.gram.requires_grad
        assert terms(model, torch.float32) is kept
    assert terms(model, torch.float32) is not kept
    assert terms(model, torch.float32).gram.requires_grad


def test_nothing_keeps_a_model_alive():
    model = build_model(PoissonVAESettings(latents=8), (6,), 0).requires_grad_(False)
    decoder_terms(model, torch.float32)
    alive = weakref.ref(model)
    del model
    gc.collect()
    assert alive() is None
