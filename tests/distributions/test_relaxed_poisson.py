"""What a relaxed Poisson promises as a distribution and as a node of autograd; its law is in
test_relaxed_moments."""

import math

import pytest
import torch
from torch.distributions import Poisson, kl_divergence
from torch.testing import assert_close

from itervae.distributions import RelaxedPoisson, poisson_kl, relaxed_poisson_sample


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def log_rates(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=generator(seed), dtype=dtype)


def poisson_p_value(counts, rate):
    """Chi-square test of integer counts against the Poisson distribution, cells of at least 10
    expected counts."""
    n, top = len(counts), int(rate + 10 * math.sqrt(rate) + 20)
    pmf = Poisson(torch.tensor(rate, dtype=torch.float64)).log_prob(torch.arange(top, dtype=torch.float64)).exp()
    seen = torch.bincount(counts.long(), minlength=top).double()
    assert len(seen) == top, f"a count of {int(counts.max())} at rate {rate}"
    full = (n * pmf >= 10).nonzero().squeeze(1)
    first, last = int(full[0]), int(full[-1])
    cells = [(seen[:first].sum(), n * pmf[:first].sum())] if first else []
    cells += [(seen[k], n * pmf[k]) for k in range(first, last)]
    cells += [(seen[last:].sum(), n * (1 - pmf[:last].sum()))]
    statistic = sum((observed - expected) ** 2 / expected for observed, expected in cells)
    return float(torch.special.gammaincc(torch.tensor((len(cells) - 1) / 2).double(), statistic / 2))


# Integer counts


@pytest.mark.parametrize("rate", [0.05, 1.0, 7.5, 60.0])
@pytest.mark.parametrize(
    "kind", ["sample", "rsample at temperature 0", "straight through", "straight through, sigmoid"]
)
def test_integer_counts_are_poisson(kind, rate):
    shape, draw = (20_000,), generator(int(100 * rate) + len(kind))
    log_rate = torch.tensor(math.log(rate))
    if kind == "sample":
        counts = RelaxedPoisson(log_rate, temperature=0.5).sample(shape, generator=draw)
    elif kind == "rsample at temperature 0":
        counts = RelaxedPoisson(log_rate, temperature=0).rsample(shape, generator=draw)
    else:
        indicator = "sigmoid" if "sigmoid" in kind else "cubic"
        q = RelaxedPoisson(log_rate, temperature=0.03 if indicator == "sigmoid" else 0.4, indicator=indicator)
        counts = q.rsample(shape, generator=draw, relaxation="straight-through")
    assert torch.equal(counts, counts.round())
    assert counts.min() >= 0
    assert poisson_p_value(counts, rate) > 1e-3


def test_the_chi_square_test_notices_a_wrong_rate():
    counts = torch.poisson(torch.full((20_000,), 7.5), generator=generator())
    assert poisson_p_value(counts, 7.5) > 1e-3
    assert poisson_p_value(counts, 7.7) < 1e-6


def test_temperature_zero_has_no_gradient():
    assert not RelaxedPoisson(torch.zeros(3, requires_grad=True), 0).rsample(generator=generator()).requires_grad
    assert not RelaxedPoisson(torch.zeros(3, requires_grad=True), 0.5).sample(generator=generator()).requires_grad


def test_relaxed_counts_are_fractional_and_non_negative():
    z = RelaxedPoisson(torch.zeros(1000), 0.5).rsample(generator=generator())
    assert z.min() >= 0
    assert (z != z.round()).float().mean() > 0.5


@pytest.mark.parametrize("indicator", ["cubic", "sigmoid"])
def test_straight_through_has_the_gradient_of_the_same_relaxed_draw(indicator):
    log_rate = log_rates(500).requires_grad_()
    q = RelaxedPoisson(log_rate, 0.3, indicator)
    hard, soft = (q.rsample(generator=generator(5), relaxation=name) for name in ("straight-through", "eat"))
    assert not torch.equal(hard, soft)
    (of_hard,) = torch.autograd.grad(hard.sum(), log_rate)
    (of_soft,) = torch.autograd.grad(soft.sum(), log_rate)
    assert of_soft.abs().sum() > 0
    assert_close(of_hard, of_soft, rtol=1e-6, atol=1e-6)


# Randomness


@pytest.mark.parametrize("temperature", [0.0, 0.02, 1.0])
def test_a_generator_makes_draws_reproducible_and_leaves_the_global_state_alone(temperature):
    q = RelaxedPoisson(log_rates(50, 4) + 1, temperature)
    before = torch.get_rng_state()
    first, again = q.rsample(generator=generator(3)), q.rsample(generator=generator(3))
    assert_close(again, first, rtol=1e-6, atol=1e-6)
    assert not torch.equal(q.rsample(generator=generator(4)), first)
    assert torch.equal(q.sample(generator=generator(3)), q.sample(generator=generator(3)))
    assert torch.equal(torch.get_rng_state(), before)


def test_without_a_generator_the_global_one_is_used():
    q = RelaxedPoisson(log_rates(50, 4), 0.3)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        first, second = q.rsample(), q.rsample()
        torch.manual_seed(1)
        assert_close(q.rsample(), first, rtol=1e-6, atol=1e-6)
    assert not torch.equal(first, second)


def test_the_log_rate_is_not_changed():
    log_rate = log_rates(20)
    kept = log_rate.clone()
    RelaxedPoisson(log_rate, 0.3).rsample(generator=generator())
    assert torch.equal(log_rate, kept)


# Shapes and types


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("temperature", [0.0, 0.3])
def test_the_type_of_the_log_rate_is_kept(dtype, temperature):
    log_rate = log_rates(6, dtype=dtype).requires_grad_()
    q = RelaxedPoisson(log_rate, temperature)
    z = q.rsample(generator=generator())
    assert {t.dtype for t in (z, q.sample(generator=generator()), q.mean, q.variance, q.log_prob(z.round()))} == {dtype}
    if temperature:
        assert torch.autograd.grad(z.sum(), log_rate)[0].dtype == dtype


@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (0, 5), (4, 0), (2, 3, 4)])
@pytest.mark.parametrize("sample_shape", [(), (7,), (2, 1), (0,)])
@pytest.mark.parametrize("temperature", [0.0, 0.02, 1.0])
def test_shapes(shape, sample_shape, temperature):
    log_rate = log_rates(*shape).requires_grad_()
    q = RelaxedPoisson(log_rate, temperature)
    z = q.rsample(sample_shape, generator=generator())
    assert q.batch_shape == shape
    assert q.event_shape == ()
    assert z.shape == q.sample(sample_shape, generator=generator()).shape == sample_shape + shape
    if temperature:
        (gradient,) = torch.autograd.grad(z.sum(), log_rate)
        assert gradient.shape == shape
        assert gradient.isfinite().all()


def test_the_gradient_of_several_samples_is_the_sum_of_theirs():
    log_rate = log_rates(5)
    together, apart = log_rate.clone().requires_grad_(), log_rate.expand(6, 5).clone().requires_grad_()
    RelaxedPoisson(together, 0.5).rsample((6,), generator=generator()).sum().backward()
    RelaxedPoisson(apart, 0.5).rsample(generator=generator()).sum().backward()
    assert_close(together.grad, apart.grad.sum(0))


def test_the_incoming_gradient_is_weighted_unit_by_unit():
    log_rate = log_rates(40).requires_grad_()
    weight = log_rates(40, seed=9)
    q = RelaxedPoisson(log_rate, 0.5)
    (plain,) = torch.autograd.grad(q.rsample(generator=generator()).sum(), log_rate)
    (weighted,) = torch.autograd.grad((weight * q.rsample(generator=generator())).sum(), log_rate)
    assert_close(weighted, weight * plain)


@pytest.mark.parametrize("temperature", [0.02, 1.0])
def test_a_non_contiguous_log_rate_gives_the_draw_of_its_contiguous_copy(temperature):
    base = log_rates(6, 8).requires_grad_()
    for view in (base.T, base[:, ::2], base[2:3].expand(4, 8)):
        z = RelaxedPoisson(view, temperature).rsample(generator=generator(2))
        copy = view.detach().contiguous().requires_grad_()
        expected = RelaxedPoisson(copy, temperature).rsample(generator=generator(2))
        assert_close(z, expected, rtol=1e-6, atol=1e-6)
        weight = log_rates(*view.shape, seed=1)
        (gradient,) = torch.autograd.grad((weight * z).sum(), base)
        (on_copy,) = torch.autograd.grad((weight * expected).sum(), copy)
        (expected_gradient,) = torch.autograd.grad(view, base, on_copy)
        assert_close(gradient, expected_gradient)


@pytest.mark.parametrize("log_rate", [-40.0, -300.0])
@pytest.mark.parametrize("indicator", ["cubic", "sigmoid"])
@pytest.mark.parametrize("temperature", [0.0, 0.02, 1.0])
def test_a_rate_without_arrivals_gives_zeros(log_rate, indicator, temperature):
    rates = torch.full((100,), log_rate, requires_grad=True)
    q = RelaxedPoisson(rates, temperature, indicator)
    z = q.rsample(generator=generator())
    assert torch.equal(z.detach(), torch.zeros(100))
    if temperature:
        assert torch.equal(torch.autograd.grad(z.sum(), rates)[0], torch.zeros(100))


# The integer Poisson's statistics


def test_statistics_are_those_of_the_integer_poisson():
    log_rate = log_rates(30, dtype=torch.float64) * 2
    q, reference = RelaxedPoisson(log_rate, 0.7, "sigmoid"), Poisson(log_rate.exp())
    counts = torch.arange(12, dtype=torch.float64)[:, None]
    assert_close(q.mean, reference.mean)
    assert_close(q.variance, reference.variance)
    assert_close(q.rate, reference.rate)
    assert_close(q.log_prob(counts), reference.log_prob(counts))


def test_kl_divergence_is_registered():
    u, v = log_rates(4, 3, dtype=torch.float64), log_rates(3, seed=1, dtype=torch.float64)
    expected = kl_divergence(Poisson(u.exp()), Poisson(v.exp()))
    assert_close(kl_divergence(RelaxedPoisson(u, 0.1), RelaxedPoisson(v, 0.9)), expected)
    assert_close(poisson_kl(u, v), expected)


def test_expand_at_and_detach_change_one_thing_each():
    log_rate = log_rates(1, 3).requires_grad_()
    q = RelaxedPoisson(log_rate, 0.3, "sigmoid")
    wide, hot, cut = q.expand((4, 3)), q.at(0.8), q.detach()
    assert wide.batch_shape == wide.rsample(generator=generator()).shape == (4, 3)
    assert torch.equal(wide.log_rate, log_rate.expand(4, 3))
    assert hot.log_rate is log_rate
    assert hot.temperature == 0.8
    assert q.temperature == wide.temperature == cut.temperature == 0.3
    assert {q.indicator, wide.indicator, hot.indicator, cut.indicator} == {"sigmoid"}
    assert not cut.log_rate.requires_grad
    assert not cut.rsample(generator=generator()).requires_grad
    assert torch.equal(cut.log_rate, log_rate)


# Refusals


@pytest.mark.parametrize("method", ["sample", "rsample"])
@pytest.mark.parametrize(
    ("bad", "named"), [(math.nan, "nan"), (math.inf, "to inf"), (-math.inf, "from -inf"), (10.01, "to 10.01")]
)
def test_sampling_refuses_a_log_rate_that_is_not_finite_or_too_large(method, bad, named):
    log_rate = torch.zeros(3, 4)
    log_rate[1, 2] = bad
    with pytest.raises(ValueError, match=rf"log-rates run .*{named}.*at most 10"):
        getattr(RelaxedPoisson(log_rate), method)()


def test_a_log_rate_of_exactly_ten_is_sampled():
    z = RelaxedPoisson(torch.full((4,), 10.0), 0.1).rsample(generator=generator())
    assert ((z - math.exp(10)).abs() < 6 * math.exp(5)).all()


def test_an_unknown_indicator_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"'cubik'.*cubic, sigmoid"):
        RelaxedPoisson(torch.zeros(2), 0.1, "cubik")


@pytest.mark.parametrize("temperature", [-0.1, math.nan])
def test_a_temperature_that_is_no_temperature_is_refused(temperature):
    with pytest.raises(ValueError, match=f"temperature is {temperature}"):
        RelaxedPoisson(torch.zeros(2), temperature)


# Derivatives beyond the first


def test_create_graph_alone_gives_the_first_derivative():
    log_rate = (log_rates(20) + 1).requires_grad_()
    q = RelaxedPoisson(log_rate, 0.5)
    losses = [q.rsample(generator=generator()).square().sum() for _ in range(2)]
    (plain,) = torch.autograd.grad(losses[0], log_rate)
    (with_graph,) = torch.autograd.grad(losses[1], log_rate, create_graph=True)
    assert plain.abs().sum() > 0
    assert_close(with_graph.detach(), plain)


@pytest.mark.parametrize(
    "loss",
    [
        pytest.param(lambda z, u: z.square().sum(), id="quadratic in z"),
        pytest.param(lambda z, u: z.sum(), id="linear in z"),
        pytest.param(lambda z, u: z.sum() + u.exp().sum(), id="linear in z beside a smooth term"),
    ],
)
def test_a_second_derivative_is_refused_rather_than_zero(loss):
    log_rate = torch.ones(5, requires_grad=True)
    z = relaxed_poisson_sample(log_rate, 0.5, generator=generator())
    (first,) = torch.autograd.grad(loss(z, log_rate), log_rate, create_graph=True)
    with pytest.raises(RuntimeError, match="first derivatives only"):
        torch.autograd.grad(first.sum(), log_rate)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("temperature", [0.0, 0.1, 1.0])
def test_on_a_gpu_the_mean_and_its_gradient_are_the_rate(temperature):
    n, rate = 100_000, 3.0
    log_rate = torch.full((n,), math.log(rate), device="cuda", requires_grad=True)
    z = RelaxedPoisson(log_rate, temperature).rsample(generator=torch.Generator("cuda").manual_seed(0))
    assert z.device == log_rate.device
    assert abs(z.mean().item() - rate) < 5 * math.sqrt(rate / n)
    if temperature:
        (gradient,) = torch.autograd.grad(z.sum(), log_rate)
        assert abs(gradient.mean().item() - rate) < 5 * gradient.std().item() / math.sqrt(n)
