"""The GPU kernel of the sampler: its law, by Triton's interpreter where there is no GPU."""

import importlib.util
import math
import os
import subprocess
import sys

import pytest
import torch
from compiled_kernels import compiled
from test_relaxed_moments import ERRORS, assert_within, estimates, theory

from itervae.distributions import relaxed_poisson_sample

needs_triton = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
CASES = [("cubic", 0.05, False), ("cubic", 1.0, True), ("sigmoid", 0.3, False)]
RATES = (1e-3, 0.2, 4.0)
UNITS = 1 << 12

DRAW = """
import sys
import torch
from itervae.distributions.arrivals_triton import add_window

generator = torch.Generator().manual_seed(0)
rate = torch.tensor(RATES).repeat_interleave(UNITS)
found = []
for name, temperature, integer in CASES:
    reach = temperature * (1 if name == "cubic" else 17)
    start, end = max(0.0, 1 - reach), 1 + reach
    z = torch.poisson(rate * start, generator=generator)
    pathwise = add_window(z, rate, (start, end), temperature, name == "cubic", integer, generator)
    found.append((z, pathwise))
torch.save(found, sys.argv[1])
"""


@needs_triton
def test_the_law_of_the_kernel(tmp_path):
    script = DRAW.replace("RATES", repr(RATES)).replace("UNITS", repr(UNITS)).replace("CASES", repr(CASES))
    command = [sys.executable, "-W", "ignore", "-c", script, str(tmp_path / "drawn.pt")]
    subprocess.run(command, check=True, env={**os.environ, "TRITON_INTERPRET": "1"}, capture_output=True)
    for (name, temperature, integer), (z, g) in zip(CASES, torch.load(tmp_path / "drawn.pt"), strict=True):
        assert (z == z.round()).all() == integer
        for number, rate in enumerate(RATES):
            part = slice(number * UNITS, (number + 1) * UNITS)
            found, _ = estimates(z[part], g[part])
            expected, error = theory(name, temperature, rate, hard=integer)
            assert_within(found, expected, error / math.sqrt(UNITS), f"{name} {temperature} {rate}")
        independent = torch.corrcoef(torch.stack([z.reshape(3, -1)[2], z.reshape(3, -1)[1]]))[0, 1]
        assert independent.abs() < ERRORS / math.sqrt(UNITS)


@needs_triton
def test_it_compiles_for_a_gpu(tmp_path, monkeypatch):
    from itervae.distributions import arrivals_triton

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    z, seed = torch.zeros(512), torch.zeros(1, dtype=torch.int64)
    given = (z, z, z, seed, 512, 0.0, 2.0, 1.0, True, False, 512)
    assert compiled(arrivals_triton._window, given, {}).asm["cubin"]


@pytest.mark.gpu
@needs_triton
@pytest.mark.parametrize(("name", "temperature", "integer"), CASES)
@pytest.mark.parametrize("rate", RATES)
def test_the_law_on_a_gpu(name, temperature, integer, rate):
    n = 200_000
    log_rate = torch.full((n,), math.log(rate), device="cuda", requires_grad=True)
    generator = torch.Generator("cuda").manual_seed(0)
    z = relaxed_poisson_sample(log_rate, temperature, name, generator, integer)
    (g,) = torch.autograd.grad(z.sum(), log_rate)
    found, _ = estimates(z.cpu(), g.cpu())
    expected, error = theory(name, temperature, rate, hard=integer)
    assert_within(found, expected, error / math.sqrt(n), "kernel")


@pytest.mark.gpu
@needs_triton
def test_a_draw_on_a_gpu_does_not_wait_and_is_repeatable():
    log_rate = torch.randn(1000, 512, device="cuda", requires_grad=True)
    relaxed_poisson_sample(log_rate, 0.1)  # compiles
    torch.cuda.set_sync_debug_mode("error")
    try:
        draws = [
            relaxed_poisson_sample(log_rate, 0.1, generator=torch.Generator("cuda").manual_seed(3)) for _ in range(2)
        ]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(*draws)
