"""Steps and certificates by the GPU kernels against those in tensors: by Triton's interpreter where
there is no GPU, in one process for all; and the kernels compiled for a GPU that is not there."""

import inspect
import math
import os
import re
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from compiled_kernels import compiled
from problems import random_data, random_model

from itervae import devices
from itervae.distributions import RelaxedPoisson
from itervae.inference import FISTAUnrolled, ISTAUnrolled, LCAUnrolled, State, infer
from itervae.inference.energies import poisson
from itervae.inference.engines import descent, fused
from itervae.inference.problem import Problem

triton = pytest.importorskip("triton")
import triton.language as tl  # noqa: E402

from itervae.inference.kernels import descent_triton, programs_triton  # noqa: E402

KINDS = {kind.__name__: kind for kind in (LCAUnrolled, ISTAUnrolled, FISTAUnrolled)}
CASES = {  # latents, data, a prior for each datum, precision, largest block
    "gram": (48, 2, True, torch.float64, 2048),
    "residual, in blocks": (72, 1, False, torch.float64, 32),
    "one datum": (72, 1, True, torch.float32, 2048),
}
PAIRS = [(name, case) for name in KINDS for case in CASES if name != "ISTAUnrolled" or case == "gram"]
TOGETHER = [(name, "one datum") for name in KINDS] + [("FISTAUnrolled", "residual, in blocks")]
ROUNDING = {torch.float32: 1e-5, torch.float64: 1e-7}
"""Difference of numbers in units of the largest; Triton has constants in float32, also beside
float64."""


@triton.jit
def lambert(s_at, ell_at, LEAST: tl.constexpr, SIZE: tl.constexpr):
    k = tl.arange(0, SIZE)
    tl.store(ell_at + k, programs_triton.log_lambertw_exp(tl.load(s_at + k), LEAST))


def problem_of(latents, count, per_datum, dtype, device, size=32):
    """With a unit of zero norm, and one whose rate underflows."""
    model = random_model(size, latents, variance=0.05).requires_grad_(False)
    model.dictionary[:, 5] = 0
    model.prior.log_rate[7] = -800.0
    x = random_data(model, count, scale=2.0)
    prior = model.prior()
    if per_datum:
        noise = torch.randn(count, latents, generator=torch.Generator().manual_seed(4), dtype=x.dtype)
        prior = RelaxedPoisson(prior.log_rate + 0.3 * noise)
    return Problem(model.to(device), x.to(device), prior.like(prior.u.to(device))).to(dtype)


@contextmanager
def in_tensors():
    with patch.object(descent, "fusible", lambda value: False), patch.object(poisson, "fusible", lambda value: False):
        yield


def plain(state):
    """All numbers of a state, by name."""
    energy = {name: getattr(state.point, name) for name in ("value", "mean", "data_gradient", "gradient")}
    found = {"u": state.u, **energy, **state.memory, **state.diagnostics}
    return {name: value.cpu() for name, value in found.items()}


def steps(name, case, device="cpu"):
    """Each of some steps from the same state by both; some are far too long, overflow, or start
    where the data are not."""
    latents, count, per_datum, dtype, most = CASES[case]
    problem, engine = problem_of(latents, count, per_datum, dtype, device), KINDS[name](20)
    state, pairs = engine.init(problem, None), []
    generator = torch.Generator().manual_seed(1)
    for step in range(6):
        if step == 2:  # far too long
            noise = 30 * torch.randn(state.u.shape, generator=generator, dtype=dtype).to(device)
            far = {key: noise for key in state.memory if "velocity" in key}
            state = replace(state, memory={**state.memory, **far, "damping": 0.01 * state.memory["damping"]})
        if step == 4:  # beyond all numbers
            far = {key: torch.full_like(value, 1e30) for key, value in state.memory.items() if "velocity" in key}
            momentum = torch.full_like(state.memory["momentum"], 50.0)
            state = replace(state, memory={**state.memory, **far, "momentum": momentum})
        if step == 5:  # rates of 1e8, and of 1e-50
            start = torch.where(torch.arange(latents, device=device) % 2 == 0, 18.0, -120.0).to(dtype)
            state = engine.init(problem, State(start.expand_as(state.u).contiguous()))
        assert engine.fuses(problem, state)
        with patch.object(descent_triton, "MOST", most):
            found = engine.step(problem, state)
        with in_tensors():
            expected = engine.step(problem, state)
        pairs.append((plain(found), plain(expected)))
        state = expected
    return pairs


def repeated(name, case, device="cpu"):
    """Some steps that nobody looks at between, and the same one by one, all by the kernels: from
    the start, and from a step that is beyond all numbers."""
    latents, count, per_datum, dtype, most = CASES[case]
    problem, engine = problem_of(latents, count, per_datum, dtype, device), KINDS[name](20)
    state, pairs = engine.init(problem, None), []
    with torch.no_grad(), patch.object(descent_triton, "MOST", most):
        for _ in range(2):
            single = state
            for _ in range(3):
                single = engine.step(problem, single)
            pairs.append((plain(engine.repeat(problem, state, 3)), plain(single)))
            far = {key: torch.full_like(value, 1e30) for key, value in single.memory.items() if "velocity" in key}
            momentum = torch.full_like(single.memory["momentum"], 50.0)
            state = replace(single, memory={**single.memory, **far, "momentum": momentum})
    return pairs


def answers(name, device="cpu", count=1, latents=48):
    """F of each step and the certificate after 10 of them in float32, by both."""
    problem = problem_of(latents, count, False, torch.float32, device)

    def answer():
        found = infer(problem.model, KINDS[name](10), problem.x, prior=problem.prior, record=("free_energy",))
        return found.trace["free_energy"].cpu(), found.stats["certificate"].cpu()

    with torch.inference_mode():
        compiled_code = answer()
    with in_tensors():
        return compiled_code, answer()


def certificates(device="cpu"):
    """The same certificates by both, from far off to where log-rates hardly show the gradient."""
    problem, pairs = problem_of(72, 2, True, torch.float64, device), []
    with in_tensors():
        best = infer(problem.model, FISTAUnrolled(100), problem.x, prior=problem.prior).posterior.u
    noise = torch.randn(best.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64).to(device)
    for scale in (0, 1e-6, 0.1, 700.0):
        u = best + scale * noise
        found = problem.energy.certificate(u)
        with in_tensors():
            pairs.append((found.cpu(), problem.energy.certificate(u).cpu()))
    return pairs


def lambertw(device="cpu"):
    """s and the logarithm of W(e^s), in both precisions."""
    pairs = []
    for dtype in (torch.float32, torch.float64):
        s = torch.cat(
            [torch.linspace(-800, 800, 2001), torch.linspace(-9, 9, 2092), torch.tensor([-1e30, 1e30, torch.nan])]
        )
        s = s.to(device, dtype)
        ell = torch.empty_like(s)
        least = 0.9 * math.log(torch.finfo(dtype).tiny)
        lambert[(1,)](s, ell, least, len(s))
        pairs.append((s.cpu(), ell.cpu()))
    return pairs


def interpreted(path):
    """All of this by the interpreter, saved; called in a process that has TRITON_INTERPRET=1."""
    devices.on_cpu, devices.takes_triton = lambda value: False, lambda value: True
    found = {"lambertw": lambertw()}
    found |= {pair: steps(*pair) for pair in PAIRS}
    found |= {("repeated", *pair): repeated(*pair) for pair in TOGETHER}
    found |= {name: answers(name) for name in KINDS}
    with patch.object(descent_triton, "MOST", 32), torch.no_grad():
        found["certificates"] = certificates()
    torch.save(found, path)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    path, here = tmp_path_factory.mktemp("interpreted") / "found.pt", Path(__file__).parent
    code = f"import test_descent_triton as test; test.interpreted({str(path)!r})"
    places = [str(here), str(here.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": os.pathsep.join(places), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return torch.load(path)


def check_lambertw(pairs):
    """ℓ + e^ℓ = s to rounding, as far as e^s is a number; s itself below."""
    for s, ell in pairs:
        assert torch.equal(ell[-3], s[-3])
        assert ell[-1].isnan()
        s, ell, eps = s[:-3].double(), ell[:-3].double(), torch.finfo(s.dtype).eps
        off = (ell + ell.exp() - s) / (1 + ell.exp())
        assert (off.abs() <= 4 * eps * s.abs().clamp_min(1)).all()


def check_steps(pairs, dtype):
    for step, (ours, theirs) in enumerate(pairs):
        assert ours.keys() == theirs.keys()
        for name, value in theirs.items():
            off = (ours[name] - value).abs().max() / value.abs().max().clamp_min(1)
            assert off <= ROUNDING[dtype], f"{name}, step {step}: {off}"


def check_answers(pair):
    (ours, our_gap), (theirs, their_gap) = pair
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(our_gap, their_gap, rtol=1e-2, atol=1e-4)


def check_certificates(pairs):
    for ours, theirs in pairs:
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-18, equal_nan=True)
    assert not pairs[-1][0].isfinite().any()


def test_lambertw(found):
    check_lambertw(found["lambertw"])


@pytest.mark.parametrize(("name", "case"), PAIRS)
def test_each_step_is_the_step_in_tensors(name, case, found):
    pairs = found[name, case]
    check_steps(pairs, CASES[case][3])
    rejected = [ours["rejected"].sum() for ours, _ in pairs]
    if name != "ISTAUnrolled":  # it has no step to repeat that could overflow
        assert rejected[4] > rejected[3]


@pytest.mark.parametrize(("name", "case"), TOGETHER)
def test_steps_together_are_the_steps_one_by_one(name, case, found):
    """To the last bit: the kernel that ends a step and begins the next has the arithmetic of
    both."""
    pairs = found["repeated", name, case]
    for ours, theirs in pairs:
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], value) for key, value in theirs.items())
    assert name == "ISTAUnrolled" or pairs[1][0]["rejected"].sum() > pairs[0][0]["rejected"].sum()


@pytest.mark.parametrize("name", KINDS)
def test_answers(name, found):
    check_answers(found[name])


def test_certificates(found):
    check_certificates(found["certificates"])


@pytest.mark.gpu
@pytest.mark.parametrize(("name", "case"), PAIRS)
def test_each_step_on_a_gpu(name, case):
    check_steps(steps(name, case, "cuda"), CASES[case][3])


@pytest.mark.gpu
@pytest.mark.parametrize(("name", "case"), TOGETHER)
def test_steps_together_on_a_gpu(name, case):
    check_steps(repeated(name, case, "cuda"), CASES[case][3])


@pytest.mark.gpu
@pytest.mark.parametrize("name", KINDS)
def test_answers_on_a_gpu(name):
    check_answers(answers(name, "cuda", count=1000, latents=480))


@pytest.mark.gpu
def test_certificates_and_lambertw_on_a_gpu():
    check_certificates(certificates("cuda"))
    check_lambertw(lambertw("cuda"))


def test_names_are_those_of_the_table():
    lines = [line for line in inspect.getdoc(fused).splitlines() if line.startswith("    ")]
    cells = [re.split(" {2,}", line.strip())[1].split(",")[0] for line in lines[1:]]
    named = [name for cell in cells for name in cell.split(" and ")]
    assert len(named) == 8
    assert all(hasattr(descent_triton, name) or hasattr(programs_triton, name) for name in named)


def launches(name, dtype, latents):
    """What two steps, two more at once and a certificate launch: kernels with their arguments."""
    found = []

    class Recorder:
        def __init__(self, kernel):
            self.kernel = kernel

        def __getitem__(self, grid):
            return lambda *given, **constants: found.append((self.kernel, given, constants))

    with ExitStack() as stack:
        for kernel in ("_propose", "_settle", "_gaps"):
            stack.enter_context(patch.object(descent_triton, kernel, Recorder(getattr(descent_triton, kernel))))
        stack.enter_context(patch.object(devices, "on_cpu", lambda value: False))
        stack.enter_context(patch.object(devices, "takes_triton", lambda value: True))
        problem = problem_of(latents, 2, False, dtype, "cpu", size=256)
        engine = KINDS[name](5)
        state = engine.step(problem, engine.step(problem, engine.init(problem, None)))
        state = engine.repeat(problem, state, 2)
        problem.energy.certificate(state.u)
    return found


@pytest.mark.parametrize(
    ("name", "dtype", "latents"),
    [
        ("LCAUnrolled", torch.float32, 480),
        pytest.param("FISTAUnrolled", torch.float32, 512, marks=pytest.mark.slow),
        pytest.param("LCAUnrolled", torch.float64, 3000, marks=pytest.mark.slow),
        pytest.param("FISTAUnrolled", torch.float64, 480, marks=pytest.mark.slow),
    ],
)
def test_it_compiles_for_a_gpu(name, dtype, latents, tmp_path, monkeypatch):
    """What the interpreter lets pass and a GPU would not: every kernel that is launched has machine
    code, which reads and writes each row once, as many as the roofline counts."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "scripts")
    from benchmarks.roofline import PROPOSED, SETTLED

    # beside rows of the state: c, log r and `shift`
    rows = {"_propose": (PROPOSED[0] + 1, PROPOSED[1]), "_settle": (SETTLED[0] + 3, SETTLED[1])}
    found = launches(name, dtype, latents)
    assert [kernel.fn.__name__ for kernel, _, _ in found] == ["_propose", "_settle"] * 3 + ["_settle", "_gaps"]
    for number, (kernel, given, constants) in enumerate(found):
        made = compiled(kernel, given, constants)
        assert made.asm["cubin"]
        if latents == 480 and dtype == torch.float32 and 2 <= number <= 6:  # a flow step, in one block
            lines = [line for line in made.asm["ttgir"].splitlines() if "tensor<" in line]
            counts = tuple(sum(f"tt.{what} " in line for line in lines) for what in ("load", "store"))
            assert counts == rows[kernel.fn.__name__]
