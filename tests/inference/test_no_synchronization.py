"""On a GPU no step of an engine of fixed steps waits for the device."""

import pytest
import torch

from itervae.inference import ENGINES
from itervae.inference.problem import Problem
from itervae.model import PoissonVAESettings, SparseCodingSettings, build_model

FIXED = ("lca-unrolled", "ista-unrolled", "fista-unrolled", "lista", "recurrent", "lca-ode")
MODELS = [PoissonVAESettings(latents=64), SparseCodingSettings(latents=64)]


@pytest.mark.gpu
@pytest.mark.parametrize("gradient", [False, True])
@pytest.mark.parametrize("name", FIXED)
@pytest.mark.parametrize(
    "model", [PoissonVAESettings(latents=64), SparseCodingSettings(latents=64)], ids=["vae", "code"]
)
def test_steps_do_not_wait(name, model, gradient):
    model = build_model(model, (6, 6), 0).cuda()
    kind = ENGINES[name]
    if not kind.requires <= model.capabilities:
        pytest.skip(f"{name} is not for this model")
    engine = kind.build(kind.Settings(steps=6), model, (6, 6)).cuda()
    x = torch.randn(32, 36, device="cuda")
    with torch.set_grad_enabled(gradient):
        problem = Problem(model, x, model.prior())
        state = engine.step(problem, engine.init(problem, None))  # what is lazily made is made here
        for _ in range(2):  # and the graph of three steps, where they are one
            engine.repeat(problem, state, 3)
        torch.cuda.set_sync_debug_mode("error")
        try:
            for _ in range(4):
                state = engine.repeat(problem, engine.step(problem, state), 3)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert state.u.isfinite().all()
