"""The joint law of (z, ∂z/∂log λ): against theory, and against the published sampler.

By Campbell's theorem a sum over the arrivals of a Poisson process has the joint cumulants

    κ_ij = λ ∫ s^i (s' t/τ)^j dt      with z = Σ s((1 − t)/τ), ∂z/∂log λ = Σ s'((1 − t)/τ) t/τ

so mean, variance and covariance are known, and the fourth cumulants give the standard errors of
their estimates.
"""

import functools
import math

import numpy as np
import pytest
import torch
from published_sampler import REACH, SOFT_INDICATORS, published_n_exp, published_sample, sufficient_n_exp

from itervae import devices
from itervae.distributions import arrivals, relaxed_poisson_sample

RATES = (0.01, 0.1, 1.0, 10.0, 100.0)
# The sigmoid's window is cut at t = 0 above τ = 1/17 = .059; the cubic's never is for τ ≤ 1.
TEMPERATURES = (0.01, 0.05, 0.3, 1.0)
INDICATORS = ("cubic", "sigmoid")
ERRORS = 4  # standard errors allowed
MOMENTS = ("mean of z", "variance of z", "mean gradient", "variance of the gradient", "covariance of z and gradient")


@functools.cache
def integral(indicator, temperature, i, j, hard=False):
    """∫ s^i (s' t/τ)^j dt; with `hard`, s is the indicator of t < 1 and s' that of the soft one."""
    reach = REACH[indicator] * temperature * (2 if indicator == "sigmoid" else 1)
    edges = np.unique(np.concatenate([[0.0, 1.0], np.linspace(max(0.0, 1 - reach), 1 + reach, 201)]))
    nodes, weights = np.polynomial.legendre.leggauss(20)
    half = np.diff(edges)[:, None] / 2
    t = torch.from_numpy(edges[:-1, None] + half * (1 + nodes))
    v = ((1 - t) / temperature).requires_grad_()
    s = SOFT_INDICATORS[indicator](v)
    (slope,) = torch.autograd.grad(s.sum(), v)
    s = (t < 1).double() if hard else s.detach()
    return float((torch.from_numpy(half * weights) * s**i * (slope * t / temperature) ** j).sum())


def theory(indicator, temperature, rate, hard=False):
    """The moments, and the standard error of each for one sample."""

    def cumulant(i, j):
        return rate * integral(indicator, temperature, i, j, hard)

    z, g, both = cumulant(2, 0), cumulant(0, 2), cumulant(1, 1)
    moments = [cumulant(1, 0), z, cumulant(0, 1), g, both]
    squares = [z, cumulant(4, 0) + 2 * z**2, g, cumulant(0, 4) + 2 * g**2, cumulant(2, 2) + z * g + both**2]
    return np.array(moments), np.sqrt(squares)


def estimates(z, g):
    z, g = z.detach().double(), g.double()
    covariance = torch.cov(torch.stack([z, g]))
    moments = [z.mean(), covariance[0, 0], g.mean(), covariance[1, 1], covariance[0, 1]]
    return np.array([float(m) for m in moments]), len(z)


def assert_within(found, expected, error, what):
    away = np.abs(found - expected) / error
    for k, name in enumerate(MOMENTS):
        assert away[k] < ERRORS, f"{what}: {name} is {found[k]:.6g}, expected {expected[k]:.6g}, {away[k]:.1f} SE away"


def seeded(*key):
    return torch.Generator().manual_seed(hash(key) % 2**31)  # hashes of numbers do not change between runs


@functools.cache
def windowed(indicator, temperature):
    """Estimates per rate; all rates are drawn in one batch, mixed."""
    reach = 1 + 2 * REACH[indicator] * temperature
    counts = [int(min(4e5, 5e6 / (1 + rate * reach))) for rate in RATES]
    generator = seeded(INDICATORS.index(indicator), temperature)
    which = torch.cat([torch.full((n,), k) for k, n in enumerate(counts)])
    which = which[torch.randperm(len(which), generator=generator)]
    log_rate = torch.tensor(RATES).log()[which].requires_grad_()
    z = relaxed_poisson_sample(log_rate, temperature, indicator, generator)
    (g,) = torch.autograd.grad(z.sum(), log_rate)
    return [estimates(z[which == k], g[which == k]) for k in range(len(RATES))]


every_case = pytest.mark.parametrize(
    ("indicator", "temperature", "rate"), [(s, tau, rate) for s in INDICATORS for tau in TEMPERATURES for rate in RATES]
)


@every_case
def test_moments_are_those_of_theory(indicator, temperature, rate):
    found, n = windowed(indicator, temperature)[RATES.index(rate)]
    expected, error = theory(indicator, temperature, rate)
    assert_within(found, expected, error / math.sqrt(n), "windowed")


@every_case
def test_moments_are_those_of_the_published_sampler(indicator, temperature, rate):
    n_exp = sufficient_n_exp(rate, temperature, indicator)
    n = int(min(2e5, 3e6 / n_exp))
    log_rate = torch.full((n,), math.log(rate), requires_grad=True)
    generator = seeded(7, INDICATORS.index(indicator), temperature, rate)
    z = published_sample(log_rate, temperature, indicator, n_exp=n_exp, generator=generator)
    published, _ = estimates(z, torch.autograd.grad(z.sum(), log_rate)[0])
    found, m = windowed(indicator, temperature)[RATES.index(rate)]
    _, error = theory(indicator, temperature, rate)
    assert_within(found, published, error * math.sqrt(1 / n + 1 / m), "windowed against published")


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_theory_has_the_known_closed_forms(temperature):
    moments, _ = theory("cubic", temperature, 2.0)
    np.testing.assert_allclose(moments[:3], [2, 2 * (1 - 9 * temperature / 35), 2], rtol=1e-9)
    moments, _ = theory("sigmoid", temperature, 2.0)
    mean = 2 * temperature * np.logaddexp(0, 1 / temperature)
    np.testing.assert_allclose(moments[[0, 2]], [mean, mean], rtol=1e-9)  # z is linear in λ: gradient λ·d(mean)/dλ


def test_units_are_independent():
    n = 50_000
    log_rate = torch.tensor([0.05, 2.0, 0.7, 20.0]).log().expand(n, 4).clone().requires_grad_()
    z = relaxed_poisson_sample(log_rate, 0.5, generator=seeded(1))
    (g,) = torch.autograd.grad(z.sum(), log_rate)
    correlation = torch.corrcoef(torch.cat([z.detach(), g], 1).T.double())
    for a in range(4):
        for b in range(4):
            if a != b:
                found = correlation[[a, a, a + 4], [b, b + 4, b + 4]]
                assert (found.abs() < ERRORS / math.sqrt(n)).all(), (a, b, found)


@pytest.mark.parametrize(("indicator", "temperature"), [("cubic", 0.2), ("cubic", 1.0), ("sigmoid", 0.3)])
@pytest.mark.parametrize("rate", [0.1, 3.0])
def test_straight_through_counts_have_the_relaxed_gradient(indicator, temperature, rate):
    n = 200_000
    log_rate = torch.full((n,), math.log(rate), requires_grad=True)
    z = relaxed_poisson_sample(log_rate, temperature, indicator, seeded(2, rate), straight_through=True)
    found, _ = estimates(z, torch.autograd.grad(z.sum(), log_rate)[0])
    expected, error = theory(indicator, temperature, rate, hard=True)
    np.testing.assert_allclose(expected[:2], rate, rtol=1e-9)
    assert_within(found, expected, error / math.sqrt(n), "straight through")


@pytest.mark.parametrize("rate", [0.02, 0.3])
@pytest.mark.parametrize(("indicator", "temperature"), [("cubic", 0.3), ("sigmoid", 1.0)])
def test_arrivals_in_tensors_keep_the_law(indicator, temperature, rate, monkeypatch):
    monkeypatch.setattr(devices, "on_cpu", lambda value: False)
    n = 100_000
    log_rate = torch.full((n,), math.log(rate), requires_grad=True)
    z = relaxed_poisson_sample(log_rate, temperature, indicator, seeded(4, rate))
    found, _ = estimates(z, torch.autograd.grad(z.sum(), log_rate)[0])
    expected, error = theory(indicator, temperature, rate)
    assert_within(found, expected, error / math.sqrt(n), "in tensors")


def test_a_draw_does_not_depend_on_the_number_of_threads():
    log_rate, threads = torch.randn(400, 200, generator=seeded(1)), torch.get_num_threads()
    draws = []
    for count in (1, 2):
        torch.set_num_threads(count)
        draws.append(relaxed_poisson_sample(log_rate, 0.1, generator=seeded(2)))
    torch.set_num_threads(threads)
    assert torch.equal(*draws)
    assert not torch.equal(draws[0], relaxed_poisson_sample(log_rate, 0.1, generator=seeded(3)))
    rows = draws[0] - draws[0].mean(0)  # those of neighbouring rows, and of neighbouring units, have nothing in common
    for one, other in ((rows[1:], rows[:-1]), (rows[:, 1:], rows[:, :-1])):
        correlation = (one * other).mean() / rows.square().mean()
        assert correlation.abs() < 5 / math.sqrt(one.numel())


@pytest.mark.parametrize("straight_through", [False, True])
@pytest.mark.parametrize(("indicator", "temperature"), [("cubic", 0.3), ("cubic", 1.0), ("sigmoid", 1.0)])
def test_many_passes_over_the_arrivals_keep_the_law(indicator, temperature, straight_through, monkeypatch):
    monkeypatch.setattr(devices, "on_cpu", lambda value: False)
    monkeypatch.setattr(arrivals, "ARRIVALS_AT_ONCE", 1000)
    passes = []
    in_passes = arrivals._in_passes

    def counted(count, limit):
        for piece in in_passes(count, limit):
            assert len(piece) <= limit
            passes.append(piece)
            yield piece

    monkeypatch.setattr(arrivals, "_in_passes", counted)
    n, rate = 4000, 30.0
    log_rate = torch.full((n,), math.log(rate), requires_grad=True)
    z = relaxed_poisson_sample(log_rate, temperature, indicator, seeded(3), straight_through)
    assert len(passes) > 10
    found, _ = estimates(z, torch.autograd.grad(z.sum(), log_rate)[0])
    expected, error = theory(indicator, temperature, rate, hard=straight_through)
    assert_within(found, expected, error / math.sqrt(n), "in passes")


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 12, 13, 100])
def test_passes_hand_out_every_arrival_once_and_in_order(limit):
    count = torch.tensor([0, 3, 0, 8, 2, 0])
    pieces = list(arrivals._in_passes(count, limit))
    assert all(0 < len(piece) <= limit for piece in pieces)
    assert torch.equal(torch.cat(pieces), torch.tensor([1] * 3 + [3] * 8 + [4] * 2))


@pytest.mark.parametrize("temperature", [0.05, 0.3, 1.0])
@pytest.mark.parametrize("others", [-9.0, 0.0, 3.0])
def test_neighbours_on_the_axis_keep_their_own_law(temperature, others):
    """Units of very different rates, however many arrivals their neighbours have: few (placed on
    one axis), or many (counted, before the window or in it)."""
    n, rates = 20_000, torch.tensor([1e-4, 0.05, 0.7, 2.5])
    log_rate = torch.cat([rates.log(), torch.full((4,), others)]).repeat(n, 1).requires_grad_()
    z = relaxed_poisson_sample(log_rate, temperature, generator=seeded(6))
    (g,) = torch.autograd.grad(z.sum(), log_rate)
    for k, rate in enumerate(rates.tolist()):
        found, _ = estimates(z[:, k], g[:, k])
        expected, error = theory("cubic", temperature, rate)
        assert_within(found, expected, error / math.sqrt(n), f"rate {rate}")
    correlation = torch.corrcoef(z[:, 1:4].detach().T)
    assert correlation.sub(torch.eye(3)).abs().max() < ERRORS / math.sqrt(n)


def test_one_unit_with_more_arrivals_than_a_pass_holds(monkeypatch):
    monkeypatch.setattr(arrivals, "ARRIVALS_AT_ONCE", 1000)
    log_rate = torch.tensor([9.5, -9.0, 2.0], requires_grad=True)
    z = relaxed_poisson_sample(log_rate, 1.0, generator=seeded(4))
    (g,) = torch.autograd.grad(z.sum(), log_rate)
    for k, rate in enumerate(log_rate.detach().exp().tolist()):
        moments, _ = theory("cubic", 1.0, rate)
        assert abs(z[k].item() - moments[0]) <= ERRORS * math.sqrt(moments[1])
        assert abs(g[k].item() - moments[2]) <= ERRORS * math.sqrt(moments[3])


def test_the_published_rule_truncates_and_the_sufficient_one_does_not():
    assert published_n_exp(39.0) == 60  # the 1 − 1e-3 quantile of Poisson(39)
    assert published_n_exp(1e-9) == 1
    rate, n = 20.0, 50_000
    log_rate = torch.full((n,), math.log(rate))
    means = [
        float(published_sample(log_rate, 1.0, n_exp=n_exp, generator=seeded(5)).mean())
        for n_exp in (published_n_exp(rate), sufficient_n_exp(rate, 1.0))
    ]
    expected, error = theory("cubic", 1.0, rate)
    assert expected[0] - means[0] > 10 * error[0] / math.sqrt(n)
    assert abs(means[1] - expected[0]) < ERRORS * error[0] / math.sqrt(n)
