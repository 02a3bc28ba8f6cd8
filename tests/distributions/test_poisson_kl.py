"""The Poisson KL against 50-digit arithmetic, its derivatives of every order, and its shape
rules."""

from decimal import Decimal, localcontext

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Poisson, kl_divergence
from torch.testing import assert_close

from itervae.distributions import poisson_kl

# log δ = log λ − log r: both sides of the change of formula at .06, zero's neighbourhood, and far
# out
OFFSETS = [0.0, *(s * d for d in (1e-7, 1e-4, 1e-2, 0.0599, 0.06, 0.0601, 0.3, 1.0, 5.0, 20.0, 50.0) for s in (-1, 1))]
TOLERANCE = {torch.float32: 2e-6, torch.float64: 1e-13}


def pairs(dtype, spread=60):
    """Log-rates (u, v), all in [−40, 10]."""
    generator = torch.Generator().manual_seed(0)
    u = torch.rand(len(OFFSETS), spread, dtype=dtype, generator=generator) * 50 - 40
    v = u - torch.tensor(OFFSETS, dtype=dtype)[:, None]
    u, v = (torch.cat([t.flatten(), torch.rand(300, dtype=dtype, generator=generator) * 50 - 40]) for t in (u, v))
    inside = (v >= -40) & (v <= 10)
    return u[inside], v[inside]


def exactly(u, v):
    """KL, λd and r − λ of each pair, rounded to float64 from 50 digits."""
    rows = []
    with localcontext() as context:
        context.prec = 50
        for a, b in zip(u.tolist(), v.tolist(), strict=True):
            a, b = Decimal(a), Decimal(b)
            rate, prior, d = a.exp(), b.exp(), a - b
            rows.append([float(prior - rate + rate * d), float(rate * d), float(prior - rate)])
    return torch.tensor(rows, dtype=torch.float64).T


def relative_error(found, exact):
    return torch.where(exact == 0, found.double().abs(), (found.double() - exact).abs() / exact.abs()).max().item()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_value_and_gradients_to_rounding_error(dtype):
    u, v = pairs(dtype)
    assert len(u) > 800
    u.requires_grad_()
    v.requires_grad_()
    kl = poisson_kl(u, v)
    to_rate, to_prior = torch.autograd.grad(kl.sum(), (u, v))
    assert kl.dtype == to_rate.dtype == to_prior.dtype == dtype
    value, rate_gradient, prior_gradient = exactly(u, v)
    assert relative_error(kl.detach(), value) < TOLERANCE[dtype]
    assert relative_error(to_rate, rate_gradient) < TOLERANCE[dtype]
    assert relative_error(to_prior, prior_gradient) < TOLERANCE[dtype]


def test_it_is_the_kl_of_torch_where_that_one_is_stable():
    u = torch.linspace(-4, 4, 41, dtype=torch.float64)[:, None]
    v = torch.linspace(-3, 3, 31, dtype=torch.float64)
    assert_close(poisson_kl(u, v), kl_divergence(Poisson(u.exp()), Poisson(v.exp())), rtol=1e-9, atol=1e-12)


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(st.floats(-40, 10, width=32), st.floats(-40, 10, width=32))
def test_it_is_non_negative_and_zero_at_equality_only(a, b):
    u, v = torch.tensor(a), torch.tensor(b)
    assert poisson_kl(u, v) >= 0
    assert poisson_kl(u, u) == poisson_kl(v, v) == 0
    if abs(a - b) > 1e-3:
        assert poisson_kl(u, v) > 0


@pytest.mark.parametrize(("u", "v"), [(-40.0, 10.0), (10.0, -40.0), (-40.0, -40.0), (10.0, 10.0), (80.0, -80.0)])
def test_extremes_are_finite(u, v):
    u, v = torch.tensor(u, requires_grad=True), torch.tensor(v, requires_grad=True)
    kl = poisson_kl(u, v)
    assert torch.stack([kl, *torch.autograd.grad(kl, (u, v))]).isfinite().all()


def points():
    """Log-rates for finite differences: apart, close, across the change of formula, and equal (a
    fresh posterior)."""
    u = torch.tensor([-2.0, 0.5, 1.0, 0.3, 0.3, -1.0, 1.5], dtype=torch.float64, requires_grad=True)
    d = torch.tensor([1.5, -0.7, 0.03, -0.03, 0.08, 0.0, 0.0], dtype=torch.float64)
    return u, (u.detach() - d).requires_grad_()


def test_first_derivatives_against_finite_differences():
    assert torch.autograd.gradcheck(poisson_kl, points())


def test_second_derivatives_against_finite_differences():
    assert torch.autograd.gradgradcheck(poisson_kl, points())


def test_derivatives_up_to_the_fourth_order_in_closed_form():
    u, v = points()
    rate, prior, d = u.detach().exp(), v.detach().exp(), (u - v).detach()
    kl = poisson_kl(u, v).sum()
    by_rate, by_prior = torch.autograd.grad(kl, (u, v), create_graph=True)
    for order in range(2, 5):  # ∂ⁿ/∂uⁿ = λ(d + n − 1), ∂ⁿ/∂vⁿ = r; ∂/∂v of the former −λ, ∂/∂u of the latter −λ or 0
        by_rate, across = torch.autograd.grad(by_rate.sum(), (u, v), create_graph=True)
        assert_close(by_rate.detach(), rate * (d + order - 1))
        assert_close(across.detach(), -rate)
        across, by_prior = torch.autograd.grad(by_prior.sum(), (u, v), create_graph=True)
        assert_close(by_prior.detach(), prior)
        assert_close(across.detach(), -rate if order == 2 else 0 * rate)


def test_a_prior_is_broadcast_and_its_gradient_summed():
    generator = torch.Generator().manual_seed(0)
    u = torch.randn(5, 3, dtype=torch.float64, generator=generator, requires_grad=True)
    v = torch.randn(3, dtype=torch.float64, generator=generator, requires_grad=True)
    kl = poisson_kl(u, v)
    assert kl.shape == (5, 3)
    assert_close(kl, torch.stack([poisson_kl(row, v) for row in u]))
    to_rate, to_prior = torch.autograd.grad(kl.sum(), (u, v))
    assert_close(to_rate, (u.exp() * (u - v)).detach())
    assert_close(to_prior, (v.exp() - u.exp()).sum(0).detach())


@pytest.mark.parametrize("shapes", [((), ()), ((0, 4), (4,)), ((2, 1), (1, 3)), ((3,), (2, 3))])
def test_shapes(shapes):
    u, v = (torch.zeros(shape) for shape in shapes)
    assert poisson_kl(u, v).shape == torch.broadcast_shapes(*shapes)


@pytest.mark.parametrize("argument", [0, 1])
def test_one_argument_may_be_constant(argument):
    arguments = [torch.tensor([1.0, 2.0]), torch.tensor([0.5, 2.5])]
    both = [a.clone().requires_grad_() for a in arguments]
    expected = torch.autograd.grad(poisson_kl(*both).sum(), both)
    arguments[argument].requires_grad_()
    (found,) = torch.autograd.grad(poisson_kl(*arguments).sum(), arguments[argument])
    assert_close(found, expected[argument])
