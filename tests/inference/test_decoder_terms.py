"""What is kept of a dictionary follows its parameters, their precision and their gradient."""

import gc
import weakref

import torch

from itervae.inference import LCAUnrolled, decoder_terms, infer
from itervae.model import PoissonVAESettings, build_model


def test_terms_are_made_once_and_again_after_every_change():
    model = build_model(PoissonVAESettings(latents=8), (6,), 0).requires_grad_(False)
    terms = decoder_terms.decoder_terms
    first = terms(model, torch.float32)
    assert terms(model, torch.float32) is first
    assert terms(model, torch.float64).gram.dtype == torch.float64
    assert terms(model, torch.float32) is first
    x = torch.randn(5, 6, generator=torch.Generator().manual_seed(0))
    for change in (
        lambda: model.decoder.weight.mul_(2),
        lambda: model.likelihood.log_variance.add_(1),
        lambda: model.load_state_dict(build_model(PoissonVAESettings(latents=8), (6,), 1).state_dict()),
        lambda: model.double().float(),
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
    terms = decoder_terms.decoder_terms
    with torch.no_grad():
        kept = terms(model, torch.float32)
        assert not kept.gram.requires_grad
        assert terms(model, torch.float32) is kept
    assert terms(model, torch.float32) is not kept
    assert terms(model, torch.float32).gram.requires_grad


def test_nothing_keeps_a_model_alive():
    model = build_model(PoissonVAESettings(latents=8), (6,), 0).requires_grad_(False)
    decoder_terms.decoder_terms(model, torch.float32)
    alive = weakref.ref(model)
    del model
    gc.collect()
    assert alive() is None
