"""What an update does between its products, in kernels of a GPU (moments, soft clamp, misfit),
against the same in tensors: by Triton's interpreter where there is no GPU, in one process for all;
and compiled for a GPU that is not there."""

import os
import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from compiled_kernels import compiled
from families import FAMILIES, parameters, seeded
from test_moments import in_tensors
from torch.testing import assert_close

from itervae import devices
from itervae.distributions import total_kl
from itervae.distributions.clamp import clamped, soft_clamp
from itervae.model.misfit import squared_distance

pytest.importorskip("triton")
from itervae.distributions import clamp_triton, moments_triton
from itervae.model import misfit_triton

KINDS = ("poisson", "gaussian", "laplace")
PARTS = {"poisson": 1, "gaussian": 2, "laplace": 2}
CASES = {  # data, latents, a prior for each datum, precision; of the interpreter, largest block and tile
    "blocks": (5, 37, False, torch.float64, 16, (2, 16)),
    "blocks, a prior each": (5, 37, True, torch.float64, 16, (4, 8)),
    "one block, single": (18, 30, False, torch.float32, 1024, (16, 64)),
    "a prior each, single": (3, 1, True, torch.float32, 1024, (16, 64)),
    "one datum of many": (1, 2**16, False, torch.float64, 2**14, (1, 2**14)),
}
FAR = {  # latents far from the prior, which is at 0: u, or locations and log-scales
    "poisson": ([-800.0, -120.0, -40.0, 18.0, 60.0, float("nan")],),
    "gaussian": ([-30.0, 0.0, 1e4, 0.0, float("nan")], [-20.0, -300.0, 3.0, 20.0, 0.0]),
    "laplace": ([-30.0, 0.0, 1e4, 0.0, 1e-3, float("nan")], [-60.0, -300.0, 3.0, 20.0, -70.0, 0.0]),
}
CLOSE = {torch.float64: (1e-12, 1e-13), torch.float32: (2e-6, 2e-6)}
"""Differences that rounding makes: relative, and in units of the largest."""


def drawn(name, batch, latents, each, dtype):
    """Parameters of posteriors and prior; of some latents they are equal, or nearly so."""
    u, prior = parameters(name, batch, latents), parameters(name, *((batch,) if each else ()), latents, seed=1)
    for part in range(PARTS[name]):
        k = part * latents
        u[:, k] = prior[..., k]
        u[:, k + latents // 2] = prior[..., k + latents // 2] + 1e-4
    norms, pull = torch.rand(latents, generator=seeded(2)), torch.randn(batch, latents, generator=seeded(3))
    to_spread, to_kl = torch.randn(2, batch, generator=seeded(4))
    return [value.to(dtype) for value in (u, prior, norms, pull, to_spread, to_kl)]


def all_of(moments, u, prior, norms, *weights):
    """The moments, and their gradients."""
    inputs = [value.detach().requires_grad_() for value in (u, prior, norms)]
    values = moments(*inputs)
    total = sum((weight * value).sum() for weight, value in zip(weights, values, strict=True))
    return [value.detach().cpu() for value in (*values, *torch.autograd.grad(total, inputs))]


def moments_of(name):
    return lambda u, prior, norms: FAMILIES[name](u).moments(FAMILIES[name](prior), norms)


def pairs(name, case, device="cpu"):
    """By the kernels in the precision of the case, and in tensors in float64."""
    batch, latents, each, dtype, most, tile = CASES[case]
    given = drawn(name, batch, latents, each, dtype)
    small = {"MOST": most, "TILE": tile} if device == "cpu" else {"TILE": moments_triton.TILE}
    with patch.multiple(moments_triton, **small):
        found = all_of(moments_of(name), *(value.to(device) for value in given))
    return found, all_of(lambda *inputs: in_tensors(name, *inputs), *(value.double() for value in given))


def far(name, dtype, device="cpu"):
    """Each latent of its own datum, by the kernels and in tensors in float64."""
    u = torch.stack([torch.tensor(part) for part in FAR[name]], 1)
    one = torch.ones(len(u))
    given = [u, torch.zeros_like(u), torch.ones(1), one[:, None], one, one]
    found = all_of(moments_of(name), *(value.to(device, dtype) for value in given))
    return found, all_of(lambda *inputs: in_tensors(name, *inputs), *(value.double() for value in given))


def kl_alone(name, device="cpu"):
    """The KL with its gradient, and the second derivative of a sum of both kinds of gradient."""
    u, prior, norms, pull, *_ = (value.to(device) for value in drawn(name, 3, 6, False, torch.float64))
    u, norms = (u + 0.01).requires_grad_(), norms.requires_grad_()  # off the corner of a Laplace
    found = []
    for moments in (moments_of(name), lambda *inputs: in_tensors(name, *inputs)):
        _, _, kl = moments(u, prior, norms)
        (slope,) = torch.autograd.grad(kl.sum(), u, create_graph=True)
        mean, spread, _ = moments(u, prior, norms)
        (other,) = torch.autograd.grad((mean * pull).sum() + spread.sum(), u, create_graph=True)
        second = torch.autograd.grad((slope * other).sum(), (u, norms))
        found.append([value.detach().cpu() for value in (kl, slope, other, *second)])
    (slope,) = torch.autograd.grad(total_kl(FAMILIES[name](u), FAMILIES[name](prior)).sum(), u)
    return found, slope.cpu()


def clamps(dtype, device="cpu"):
    """Numbers on both sides of the limit, in rows that are parts of others; their answer, the
    number above it and the gradient."""
    u = torch.linspace(-9, 40, 3 * 2 * 37, dtype=dtype).reshape(3, 74)
    u[0, 0], u[0, 1], u[1, 3], u[2, 36] = torch.nan, -torch.inf, torch.inf, 5.0
    found = []
    for limit in (5.0, 0.0):
        part = u.to(device)[:, :37].requires_grad_()
        with patch.object(clamp_triton, "MOST", 16):
            bent, hits = clamped(part, limit)
            (slope,) = torch.autograd.grad((2 * bent).sum(), part, retain_graph=True, create_graph=limit == 0)
            (again,) = torch.autograd.grad(bent[:, :9].sum(), part)
        exact = u[:, :37].double().requires_grad_()
        expected = soft_clamp(exact, limit)
        own = torch.where(exact > limit, 1 - torch.tanh(exact - limit).square(), torch.ones_like(exact))
        only = torch.where(torch.arange(37) < 9, own, 0.0)
        ours = [value.detach().cpu() for value in (bent, hits, slope, again)]
        theirs = [value.detach() for value in (expected, (exact > limit).sum(-1), 2 * own, only)]
        found.append((ours, theirs))
    return found


def misfits(dtype, device="cpu"):
    """‖x − y‖², its gradients of both orders, of rows in several blocks."""
    x, y = torch.randn(2, 3, 50, generator=seeded(5), dtype=torch.float64)
    weights, answers = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64), []
    for distance, kind, where in (
        (squared_distance, dtype, device),
        (lambda a, b: (a - b).square().sum(-1), torch.float64, "cpu"),
    ):
        a, b, w = (value.to(where, kind) for value in (x.to(dtype), y.to(dtype), weights))
        a, b = a.requires_grad_(), b.requires_grad_()
        with patch.object(misfit_triton, "MOST", 16):
            value = distance(a, b)
            first = torch.autograd.grad((w * value).sum(), (a, b), retain_graph=True)
            (total,) = torch.autograd.grad(value.sum(), b, create_graph=True)
        second = torch.autograd.grad(total.square().sum(), (a, b))
        answers.append([value.detach().cpu() for value in (value, *first, total, *second)])
    return answers


def interpreted(path):
    """All of this by the interpreter, saved; called in a process that has TRITON_INTERPRET=1."""
    devices.on_cpu, devices.takes_triton = lambda value: False, lambda value: True
    found = {(name, case): pairs(name, case) for name in KINDS for case in CASES}
    for name in KINDS:
        found |= {("far", name, dtype): far(name, dtype) for dtype in CLOSE} | {("alone", name): kl_alone(name)}
    for dtype in CLOSE:
        found |= {("clamp", dtype): clamps(dtype), ("misfit", dtype): misfits(dtype)}
    torch.save(found, path)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    path, here = tmp_path_factory.mktemp("interpreted") / "found.pt", Path(__file__).parent
    code = f"import test_moments_triton as test; test.interpreted({str(path)!r})"
    places = [str(here), str(here.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": os.pathsep.join(places), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return torch.load(path)


def check(found, expected, dtype, scale=1.0):
    relative, absolute = CLOSE[dtype]
    for one, other in zip(found, expected, strict=True):
        assert one.dtype in (dtype, torch.int64)
        largest = other[other.isfinite()].abs().max().item() if one.numel() > 1 and other.isfinite().any() else 0.0
        assert_close(one.to(other.dtype), other, rtol=scale * relative, atol=scale * absolute * largest, equal_nan=True)


def check_far(found, expected, dtype, scale=1.0):
    """Each number by itself, where float32 has it."""
    largest = torch.finfo(dtype).max
    for one, other in zip(found, expected, strict=True):
        if one.ndim and len(one) > 2:  # per datum, not summed over them
            other = torch.where(other.abs() > largest, other.sign() * torch.inf, other)
            assert_close(one.double(), other, rtol=scale * CLOSE[dtype][0], atol=scale * 1e-6, equal_nan=True)


def check_alone(found, dtype):
    (ours, theirs), slope = found
    check(ours, theirs, dtype)
    check([slope], [theirs[1]], dtype)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", KINDS)
def test_moments_and_gradients_are_those_in_tensors(name, case, found):
    check(*found[name, case], CASES[case][3])


@pytest.mark.parametrize("dtype", CLOSE)
@pytest.mark.parametrize("name", KINDS)
def test_far_from_the_prior_nothing_overflows_or_is_lost(name, dtype, found):
    check_far(*found["far", name, dtype], dtype)


@pytest.mark.parametrize("name", KINDS)
def test_the_kl_alone_and_second_derivatives(name, found):
    check_alone(found["alone", name], torch.float64)


@pytest.mark.parametrize("dtype", CLOSE)
def test_soft_clamps_and_misfits(dtype, found):
    for pair in [*found["clamp", dtype], found["misfit", dtype]]:
        check(*pair, dtype)


@pytest.mark.gpu
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", KINDS)
def test_moments_on_a_gpu(name, case):
    check(*pairs(name, case, "cuda"), CASES[case][3], scale=5)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", CLOSE)
@pytest.mark.parametrize("name", KINDS)
def test_far_from_the_prior_on_a_gpu(name, dtype):
    check_far(*far(name, dtype, "cuda"), dtype, scale=20)


@pytest.mark.gpu
@pytest.mark.parametrize("name", KINDS)
def test_the_kl_alone_on_a_gpu(name):
    check_alone(kl_alone(name, "cuda"), torch.float64)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", CLOSE)
def test_soft_clamps_and_misfits_on_a_gpu(dtype):
    for pair in [*clamps(dtype, "cuda"), misfits(dtype, "cuda")]:
        check(*pair, dtype, scale=5)


@pytest.mark.gpu
@pytest.mark.parametrize("name", KINDS)
def test_a_pass_on_a_gpu_does_not_wait(name):
    given = [value.cuda() for value in drawn(name, 100, 512, False, torch.float32)]
    all_of(moments_of(name), *given)  # compiles
    inputs = [value.requires_grad_() for value in given[:3]]
    torch.cuda.set_sync_debug_mode("error")
    try:
        mean, spread, kl = moments_of(name)(*inputs)
        found = torch.autograd.grad((mean * given[3]).sum() + (spread + kl).sum(), inputs)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert all(value.isfinite().all() for value in found)


def launches(name, dtype, latents):
    """All that is launched: kernels with their arguments."""
    found = []

    class Recorder:
        def __init__(self, kernel):
            self.kernel = kernel

        def __getitem__(self, grid):
            return lambda *given, **constants: found.append((self.kernel, given, constants))

    u, prior, norms, pull, to_spread, to_kl = drawn(name, 20, latents, False, dtype)
    with patch.multiple(
        moments_triton,
        _moments=Recorder(moments_triton._moments),
        _moments_back=Recorder(moments_triton._moments_back),
    ):
        moments_triton.moments(u, prior, norms, name)
        moments_triton.moments_back(u, prior, norms, pull, to_spread, to_kl, name, True, True)
        moments_triton.moments_back(u, u, norms, None, None, to_kl, name, True, False)
    with patch.multiple(
        clamp_triton, _clamp=Recorder(clamp_triton._clamp), _clamp_back=Recorder(clamp_triton._clamp_back)
    ):
        clamp_triton.clamp(u, 5.0)
        clamp_triton.clamp_back(u, u, 5.0)
    with patch.multiple(
        misfit_triton, _misfit=Recorder(misfit_triton._misfit), _misfit_back=Recorder(misfit_triton._misfit_back)
    ):
        misfit_triton.misfit(u, u)
        misfit_triton.misfit_back(u, u, to_kl)
    return found


@pytest.mark.parametrize(
    ("name", "dtype", "latents"),
    [
        ("poisson", torch.float32, 480),
        pytest.param("gaussian", torch.float32, 512, marks=pytest.mark.slow),
        pytest.param("laplace", torch.float32, 512, marks=pytest.mark.slow),
        pytest.param("poisson", torch.float64, 3000, marks=pytest.mark.slow),
        pytest.param("gaussian", torch.float64, 2**16, marks=pytest.mark.slow),
        pytest.param("laplace", torch.float64, 480, marks=pytest.mark.slow),
    ],
)
def test_it_compiles_for_a_gpu(name, dtype, latents, tmp_path, monkeypatch):
    """What the interpreter lets pass and a GPU would not: every kernel has machine code, which
    reads and writes each row once."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    made = [compiled(*launch) for launch in launches(name, dtype, latents)]
    assert all(each.asm["cubin"] for each in made)
    if latents > 1024:
        return
    lines = [[line for line in each.asm["ttgir"].splitlines() if "tensor<" in line] for each in made]
    counts = [tuple(sum(f"tt.{what} " in line for line in each) for what in ("load", "store")) for each in lines]
    parts = PARTS[name]
    assert counts[0] == (2 * parts + 1, 1)  # u, prior and c; the mean
    assert counts[1] == (2 * parts + 4, 2 * parts + 1)  # and three gradients; those of u, prior and c
    assert counts[3:] == [(1, 1), (2, 1), (2, 0), (2, 1)]
