"""The pass over (B, K) of the exact free energy in compiled code: equal to the families' own
equations, in value and in derivatives of first and second order."""

import pytest
import torch
from families import FAMILIES, parameters, seeded
from torch.autograd import gradcheck, gradgradcheck
from torch.distributions import kl_divergence
from torch.testing import assert_close

from itervae.distributions import Family, total_kl
from itervae.distributions.moments import fused

COMPILED = ("poisson", "gaussian", "laplace", "categorical")
BATCH, LATENTS = 3, 5


def members(name: str, shared: bool, dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    """Parameters of posteriors and of their prior, some of them equal or nearly so."""
    u, prior = parameters(name, BATCH, LATENTS), parameters(name, *(() if shared else (BATCH,)), LATENTS, seed=1)
    u[:, 0] = prior[..., 0]
    u[:, 1] = prior[..., 1] + 1e-3
    return u.to(dtype), prior.to(dtype)


def in_tensors(name: str, u: torch.Tensor, prior: torch.Tensor, norms: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The equations, from the family's mean, variance and KL."""
    q, p = FAMILIES[name](u), FAMILIES[name](prior)
    kl = kl_divergence(q, p)
    return q.mean, (q.mean if q.event_shape else q.variance) @ norms, kl if q.event_shape else kl.sum(-1)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("name", COMPILED)
def test_values_and_gradients_are_those_of_the_equations(name, shared):
    u, prior = members(name, shared)
    norms = torch.rand(LATENTS, generator=seeded(2), dtype=torch.float64)
    inputs = [value.requires_grad_() for value in (u, prior, norms)]
    weights = [torch.randn(size, generator=seeded(3), dtype=torch.float64) for size in ((BATCH, LATENTS), BATCH, BATCH)]
    found = FAMILIES[name](u).moments(FAMILIES[name](prior), norms)
    expected = in_tensors(name, u, prior, norms)
    assert all(value.grad_fn is not None for value in found)
    for one, other in zip(found, expected, strict=True):
        assert_close(one, other, rtol=1e-13, atol=1e-14)
    gradients = [
        torch.autograd.grad(sum((w * value).sum() for w, value in zip(weights, values, strict=True)), inputs)
        for values in (found, expected)
    ]
    for one, other in zip(*gradients, strict=True):
        assert_close(one, other, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", COMPILED)
def test_derivatives_of_both_orders_against_finite_differences(name):
    u, prior = members(name, True)
    u += 0.01  # off the corner of a Laplace
    norms = torch.rand(LATENTS, dtype=torch.float64)
    inputs = tuple(value.requires_grad_() for value in (u, prior, norms))

    def moments(u, prior, norms):
        return FAMILIES[name](u).moments(FAMILIES[name](prior), norms)

    assert gradcheck(moments, inputs)
    assert gradgradcheck(moments, inputs)


@pytest.mark.parametrize("name", COMPILED)
def test_single_precision_loses_nothing_but_its_rounding(name):
    u, prior = members(name, True, torch.float32)
    norms = torch.rand(LATENTS, generator=seeded(2))
    found = FAMILIES[name](u).moments(FAMILIES[name](prior), norms)
    expected = in_tensors(name, u.double(), prior.double(), norms.double())
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == torch.float32
        assert_close(one.double(), other, rtol=2e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("name", "far"),
    [
        ("poisson", [-40.0, -20.0, 10.0]),
        ("gaussian", [-30.0, 0.0, 5.0, -20.0, 5.0, -40.0]),
        ("laplace", [-30.0, 0.0, 5.0, -60.0, 5.0, -40.0]),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_far_from_the_prior_nothing_overflows_or_cancels(name, far, dtype):
    u = torch.tensor([far], dtype=dtype, requires_grad=True)
    prior = torch.zeros(len(far), dtype=dtype)
    _, _, kl = FAMILIES[name](u).moments(FAMILIES[name](prior))
    (slope,) = torch.autograd.grad(kl.sum(), u)
    exact = torch.tensor([far], dtype=torch.float64, requires_grad=True)
    expected = kl_divergence(FAMILIES[name](exact), FAMILIES[name](prior.double())).sum()
    (expected_slope,) = torch.autograd.grad(expected, exact)
    assert_close(kl.sum().double(), expected, rtol=1e-6, atol=0)
    assert_close(slope.double(), expected_slope, rtol=1e-6, atol=1e-6)


def test_the_kl_alone_takes_the_same_pass_and_leaves_the_mean_without_a_gradient():
    u, prior = members("poisson", True)
    u.requires_grad_()
    q, p = FAMILIES["poisson"](u), FAMILIES["poisson"](prior)
    (slope,) = torch.autograd.grad(total_kl(q, p).sum(), u)
    assert_close(slope, u.exp() * (u - prior))


def test_what_compiled_code_cannot_take_is_left_to_tensors():
    u = torch.zeros(2, 3)

    def compiled(u: torch.Tensor, prior: torch.Tensor) -> bool:
        return fused("poisson", u, prior, None, lambda *_: (u, u, u)) is not None

    assert compiled(u, u[0])
    assert not compiled(u.half(), u[0].half())
    assert not compiled(u, u[0].double())
    assert not compiled(u[None], u[0])


@pytest.mark.parametrize("shape", [(2,), (4,), (2, 3), (4, 3)])
def test_a_prior_of_another_shape_is_refused_and_not_read_beyond_its_end(shape):
    q, p = FAMILIES["poisson"](torch.zeros(3, 3)), FAMILIES["poisson"](torch.zeros(shape))
    with pytest.raises(RuntimeError, match="must match"):
        total_kl(q, p)
    with pytest.raises(RuntimeError):
        q.moments(q, torch.ones(4))


class Own(FAMILIES["poisson"]):
    """A family of a user's, whose mean is another."""

    compiled = None

    @property
    def mean(self) -> torch.Tensor:
        return 2 * self.rate


def test_a_family_without_compiled_code_has_its_own_equations():
    u = torch.zeros(2, 3)
    q: Family = Own(u)
    mean, spread, kl = q.moments(Own(u[0] + 1), torch.ones(3))
    assert_close(mean, torch.full((2, 3), 2.0))
    assert_close(spread, torch.full((2,), 3.0))
    assert_close(kl, torch.full((2,), 3 * (torch.e - 2)))
