"""Counts as a relaxed choice: the support reaches far enough and no further, and the law is the
Poisson law."""

import math

import pytest
import torch
from families import p_value, seeded
from scipy.stats import poisson

from itervae import InputError
from itervae.distributions import RelaxedPoisson, gumbel

N = 20_000


@pytest.mark.parametrize("rate", [0.01, 1.0, 30.0, 300.0])
def test_the_support_ends_where_the_tail_is_below_a_millionth(rate):
    last = gumbel.support_size(torch.tensor([math.log(rate), -8.0])) - 1
    assert poisson.sf(last, rate) < 1e-6
    assert poisson.sf(last - 1, rate) >= 1e-6


def test_the_support_of_extreme_and_of_no_rates():
    assert gumbel.support_size(torch.tensor([-300.0])) == 1  # 0 alone
    last = gumbel.support_size(torch.tensor([10.0])) - 1
    rate = float(torch.tensor(10.0).double().exp())
    assert poisson.sf(last, rate) < 1e-6 <= poisson.sf(last - 1, rate)
    assert gumbel.support_size(torch.zeros(0, 5)) == 1
    assert RelaxedPoisson(torch.zeros(0, 5), 0.5).rsample((3,), relaxation="gumbel-softmax").shape == (3, 0, 5)


def counts(rate, n, seed, temperature=1e-3):
    log_rate = torch.full((n,), math.log(rate))
    return RelaxedPoisson(log_rate, temperature).rsample(generator=seeded(seed), relaxation="gumbel-softmax")


@pytest.mark.parametrize("rate", [0.05, 1.0, 12.0, 100.0])
def test_cold_relaxed_counts_are_poisson(rate):
    z = counts(rate, N, seed=1)
    assert ((z - z.round()).abs() < 1e-2).float().mean() > 0.98
    last = gumbel.support_size(torch.tensor(math.log(rate)))
    assert p_value(z.round(), poisson.pmf(range(last), rate)) > 1e-3
    assert p_value(z.round(), poisson.pmf(range(last), 1.1 * rate + 0.05)) < 1e-4


@pytest.mark.parametrize(("rate", "tail"), [(0.7, 0.2), (4.0, 0.1), (30.0, 0.4)])
def test_the_last_count_is_drawn_as_often_as_it_should_be(rate, tail, monkeypatch):
    """With a support cut where counts are still frequent: the Poisson law among those left, the
    last included."""
    monkeypatch.setattr(gumbel, "TAIL", tail)
    last = gumbel.support_size(torch.tensor(math.log(rate))) - 1
    assert poisson.sf(last, rate) < tail <= poisson.sf(last - 1, rate)
    z = counts(rate, N, seed=2).round()
    expected = poisson.pmf(range(last + 1), rate)
    assert N * expected[-1] > 500
    assert z.max() == last
    assert p_value(z, expected) > 1e-3
    share = expected[-1] / expected.sum()
    assert abs((z == last).double().mean() - share) < 4 * math.sqrt(share * (1 - share) / N)


def test_units_of_several_rates_are_drawn_together():
    rates = torch.tensor([0.1, 2.0, 40.0])
    q = RelaxedPoisson(rates.log(), 1e-3)
    z = q.rsample((N,), seeded(3), relaxation="gumbel-softmax").round()
    size = gumbel.support_size(rates.log())
    for k, rate in enumerate(rates.tolist()):
        assert p_value(z[:, k], poisson.pmf(range(size), rate)) > 1e-3
    correlation = torch.corrcoef(z.T.double())
    assert (correlation - torch.eye(3)).abs().max() < 4 / math.sqrt(N)


def test_a_warm_relaxed_count_stays_in_the_support_and_is_fractional():
    z = counts(2.0, 2000, seed=4, temperature=1.0)
    assert z.min() >= 0
    assert z.max() <= gumbel.support_size(torch.tensor(math.log(2.0))) - 1
    assert ((z - z.round()).abs() > 0.05).float().mean() > 0.5


def test_at_temperature_zero_counts_are_integers_without_gradient():
    log_rate = torch.zeros(N, requires_grad=True)
    z = RelaxedPoisson(log_rate, 0.0).rsample(generator=seeded(5), relaxation="gumbel-softmax")
    assert not z.requires_grad
    assert torch.equal(z, z.round())
    assert p_value(z, poisson.pmf(range(30), 1.0)) > 1e-3


def test_noise_that_is_exactly_zero_does_no_harm(monkeypatch):
    """An exponential draw may be 0, whose logarithm would be −∞."""
    monkeypatch.setattr(torch.Tensor, "exponential_", lambda self, generator=None: self.zero_())
    logits = torch.tensor([0.0, 1.0, -2.0], requires_grad=True)
    for temperature in (0.01, 1.0):
        y = gumbel.gumbel_softmax(logits, temperature)
        assert y.isfinite().all()
        assert y.argmax() == 1
        assert torch.autograd.grad(y[0], logits)[0].isfinite().all()


def test_more_choices_than_memory_holds_are_refused(monkeypatch):
    monkeypatch.setattr(gumbel, "MOST", 1000)
    with pytest.raises(InputError, match=r"would hold \d+ counts for each of 100 units, as the largest rate is 20"):
        counts(20.0, 100, seed=0)
