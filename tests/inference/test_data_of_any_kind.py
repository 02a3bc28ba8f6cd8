"""Every engine on every model takes an empty batch, data of any floating-point precision, and
states of another one."""

from itertools import product

import pytest
import torch

from itervae.errors import InputError
from itervae.evaluation import encode
from itervae.inference import ENGINES, Engine, State, certificate, check_fit, infer
from itervae.model import CAPABILITIES, MODELS, build_model
from itervae.sequence import NoCarryover, filter_sequence

DECODERS = ("linear", "mlp", "conv")
CASES = [
    (model, decoder) for model in MODELS for decoder in DECODERS if model != "sparse-coding" or decoder == "linear"
]


def fitting(name, decoder):
    """A model on 8×8 images, and every engine that fits it."""
    settings = MODELS[name](latents=8)
    if decoder != "linear":
        settings.decoder = decoder
    model = build_model(settings, (8, 8), 0)
    kinds = [kind for kind in ENGINES.values() if kind.requires <= model.capabilities]
    few = [kind.Settings(**({"steps": 2} if hasattr(kind.Settings, "steps") else {})) for kind in kinds]
    return model, [kind.build(settings, model, (8, 8)) for kind, settings in zip(kinds, few, strict=True)]


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(("name", "decoder"), CASES)
@pytest.mark.parametrize("count", [0, 3])
def test_precision_and_empty_batches(name, decoder, count):
    model, engines = fitting(name, decoder)
    data = torch.randn(count, 64, generator=torch.Generator().manual_seed(0))
    for engine in engines:
        for dtype in (torch.float16, torch.float32, torch.float64):
            for gradient in (False, True) if dtype == torch.float64 else (False,):
                generator = torch.Generator().manual_seed(0)
                with torch.set_grad_enabled(gradient):
                    found = infer(model, engine, data.to(dtype), generator=generator)
                    assert found.state.u.dtype == (dtype if dtype == torch.float64 and model.exact else torch.float32)
                    other = torch.float32 if dtype == torch.float64 else torch.float64
                    state = State(found.state.u.to(other))
                    again = infer(model, engine, data.to(dtype), state=state, generator=generator)
                assert again.state.u.dtype == found.state.u.dtype
                assert len(found.state.u) == len(again.state.u) == count
                assert all(len(value) == count for value in found.stats.values())
                energy = model.free_energy(data.to(found.state.u.dtype), found.posterior, generator=generator)
                assert energy.total.isfinite().all()


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(("name", "decoder"), [case for case in CASES if case[1] != "conv"])
@pytest.mark.parametrize("own", [torch.float32, torch.float64])
def test_what_is_measured_takes_any_precision(name, decoder, own):
    model, engines = fitting(name, decoder)
    model, engine = model.to(own), engines[0].to(own)
    data = torch.rand(3, 64, generator=torch.Generator().manual_seed(0))
    static = model.prior()
    u = static.u.detach().expand(3, -1)
    for of_data, of_posterior in product((torch.float16, torch.float32, torch.float64), repeat=2):
        posterior, x = model.posterior(u.to(of_posterior)), data.to(of_data)
        assert model.free_energy(x, posterior).total.isfinite().all()
        assert certificate(model, x, posterior).shape == (3,)
        assert model.decode(posterior.mean).shape == (3, 64)
        if of_data == of_posterior:
            assert encode(model, engine, x).free_energy.isfinite().all()
            if name != "sparse-coding":
                frames = x[:, None].expand(3, 2, 64)
                assert filter_sequence(model, engine, frames, NoCarryover()).free_energy.isfinite().all()
    assert model.decode(torch.ones(3, model.latents, dtype=torch.int64)).dtype == own  # counts are


def test_what_an_engine_requires_exists():
    for name, kind in ENGINES.items():
        assert kind.requires <= CAPABILITIES, name
    for name, decoder in CASES:
        assert fitting(name, decoder)[0].capabilities <= CAPABILITIES


def test_a_capability_that_no_model_has_is_said_to_be_that():
    class Odd(Engine):
        requires = frozenset({"sparsity cost"})

    model, _ = fitting("poisson-vae", "linear")
    with pytest.raises(InputError, match="Odd requires 'sparsity cost', which no model here has; expected some of Cat"):
        check_fit(Odd, model)
