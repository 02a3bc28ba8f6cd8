"""Every family of posterior: moments against samples and quadrature, KLs against torch and Monte
Carlo, gradients against finite differences."""

import math

import numpy as np
import pytest
import torch
from families import FAMILIES, LOCATION_SCALE, assert_mean, output_variance, p_value, parameters, seeded
from scipy.integrate import quad
from scipy.stats import norm
from torch import distributions as reference
from torch.distributions import kl_divergence
from torch.testing import assert_close

from itervae import InputError
from itervae.distributions import (
    Categorical,
    Gaussian,
    Laplace,
    LogNormal,
    RectifiedGaussian,
    RelaxedPoisson,
    total_kl,
    unit_kl,
)

every_family = pytest.mark.parametrize("name", FAMILIES)
N = 1 << 16


def location_scale(pairs):
    """u from pairs (location, scale)."""
    location, scale = torch.tensor(pairs, dtype=torch.float64).T
    return torch.cat([location, scale.log()])


# One latent each; extremes included. Of a log-normal only scales at which sample variances are
# themselves reliable.
CASES = {
    "gaussian": location_scale([(0, 1), (-3, 0.01), (1e3, 5), (0.2, 30)]),
    "rectified": location_scale([(0, 1), (-2, 1), (-100, 2), (100, 2), (0.5, 0.1), (-1, 3), (2.5, 1), (-30, 1)]),
    "log-normal": location_scale([(0, 0.5), (-3, 0.1), (3, 0.3), (0, 0.01)]),
    "laplace": location_scale([(0, 1), (-3, 0.01), (1e3, 5), (0.2, 30)]),
    "categorical": torch.tensor([0.0, 1.0, -3.0, 4.0, -0.5, -30.0], dtype=torch.float64),
    "poisson": torch.tensor([0.01, 0.3, 1.0, 7.5, 300.0, 1e-3], dtype=torch.float64).log(),
}


def torch_of(name, u):
    """The same law made by torch; of a rectified Gaussian, the law before the rectifier."""
    if name in LOCATION_SCALE:
        kind = {"log-normal": reference.LogNormal, "laplace": reference.Laplace}.get(name, reference.Normal)
        location, log_scale = u.chunk(2, -1)
        return kind(location, log_scale.exp())
    return reference.Poisson(u.exp()) if name == "poisson" else reference.OneHotCategorical(logits=u)


# Moments


@every_family
def test_moments_are_those_of_samples(name):
    q = FAMILIES[name](CASES[name])
    z = q.sample((N,), seeded(1))
    assert not z.requires_grad
    assert_mean(z, q.mean)
    assert_mean((z - q.mean).square(), q.variance)
    error = (q.share_zero * (1 - q.share_zero) / N).sqrt()
    assert (((z == 0).double().mean(0) - q.share_zero).abs() <= 4 * error + 1e-9).all()


@every_family
def test_rsample_without_relaxation_has_the_law_of_sample(name):
    q = FAMILIES[name](CASES[name]).at(0.0)
    z = q.rsample((N,), seeded(2)).detach()
    assert_mean(z, q.mean)
    assert_mean((z - q.mean).square(), q.variance)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 2e-2)])
@pytest.mark.parametrize("scale", [1.0, 0.03, 20.0])
def test_rectified_moments_are_integrals_down_to_the_tails(dtype, tolerance, scale):
    """∫ (y + a)ⁿ φ(y) dy from −a, in which nothing cancels."""
    for a in (-8.0, -5.0, -3.0, -1.0, -0.1, 0.0, 0.3, 2.0, 6.0):
        lower, upper = max(-a, -40), max(-a, 0) + 40
        around = [] if lower >= 0 else [0.0]
        first, second = (
            quad(lambda y, n=n, a=a: (y + a) ** n * norm.pdf(y), lower, upper, points=around, epsabs=0, limit=400)[0]
            for n in (1, 2)
        )
        q = RectifiedGaussian(torch.tensor([a * scale, math.log(scale)], dtype=dtype))
        assert q.mean.item() == pytest.approx(first * scale, rel=tolerance, abs=0)
        assert q.variance.item() == pytest.approx((second - first**2) * scale**2, rel=tolerance, abs=0)
        assert q.share_zero.item() == pytest.approx(norm.cdf(-a), rel=tolerance, abs=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("location", "mean"), [(2.0, 2.0), (-2.0, 0.0), (0.0, 0.0)])
def test_a_rectified_gaussian_of_vanishing_scale_is_its_location(dtype, location, mean):
    """No scale is small enough to give a NaN, in value or gradient."""
    for log_scale in (-20.0, -45.0, -90.0, -300.0, -1000.0):
        u = torch.tensor([location, log_scale], dtype=dtype, requires_grad=True)
        q = RectifiedGaussian(u)
        assert q.mean.item() == pytest.approx(mean, abs=1e-8)
        assert 0 <= q.variance.item() <= math.exp(2 * log_scale) * 1.001
        assert q.share_zero.item() == pytest.approx({2.0: 0, -2.0: 1, 0.0: 0.5}[location])
        (gradient,) = torch.autograd.grad((q.mean + q.variance + q.share_zero).sum(), u)
        assert gradient.isfinite().all()
        if location:
            assert gradient[0].item() == pytest.approx(mean / location)


# Densities


@pytest.mark.parametrize("name", ["gaussian", "log-normal", "laplace", "categorical", "poisson"])
def test_log_prob_is_that_of_torch(name):
    u = CASES[name]
    q, expected = FAMILIES[name](u), torch_of(name, u)
    z = q.sample((50,), seeded(3))
    assert_close(q.log_prob(z), expected.log_prob(z))
    assert q.log_prob(z).shape == (50, *q.batch_shape)


def test_a_rectified_gaussian_has_no_density():
    with pytest.raises(InputError, match="no density at 0"):
        RectifiedGaussian(torch.zeros(2)).log_prob(torch.zeros(1))


# Divergences


@every_family
def test_kl_is_that_of_torch(name):
    u, v = parameters(name, 40, 5), parameters(name, 5, seed=1)
    q, p = FAMILIES[name](u), FAMILIES[name](v)
    kl, expected = kl_divergence(q, p), kl_divergence(torch_of(name, u), torch_of(name, v))
    assert_close(kl, expected)
    together = expected if name == "categorical" else expected.sum(-1)
    assert total_kl(q, p).shape == (40,)
    assert_close(total_kl(q, p), together)
    if name != "categorical":
        assert torch.equal(unit_kl(q, p), kl)


@pytest.mark.parametrize("name", ["gaussian", "log-normal", "laplace", "categorical", "poisson"])
def test_kl_is_the_mean_of_log_ratios(name):
    q, p = FAMILIES[name](parameters(name, 4)), FAMILIES[name](parameters(name, 4, seed=1))
    z = q.sample((1 << 18,), seeded(4))
    assert_mean(q.log_prob(z) - p.log_prob(z), kl_divergence(q, p))


@every_family
def test_kl_gradients_against_finite_differences(name):
    u, v = parameters(name, 3, 4).requires_grad_(), parameters(name, 4, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: kl_divergence(FAMILIES[name](a), FAMILIES[name](b)), (u, v))


@every_family
def test_kl_to_oneself_is_zero_with_zero_gradient(name):
    """A fresh posterior is the prior; the |μ − m| of a Laplace has no kink in its KL."""
    u = parameters(name, 2, 4).requires_grad_()
    kl = kl_divergence(FAMILIES[name](u), FAMILIES[name](u.detach().clone()))
    (gradient,) = torch.autograd.grad(kl.sum(), u)
    assert_close(kl.detach(), torch.zeros_like(kl))
    assert_close(gradient, torch.zeros_like(u))
    assert torch.autograd.gradcheck(lambda a: kl_divergence(FAMILIES[name](a), FAMILIES[name](u.detach())), (u,))


@pytest.mark.parametrize("name", ["gaussian", "laplace"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_kl_near_the_prior_does_not_cancel(name, dtype):
    """Second order in small differences: (d² + 2r²)/2 of Gaussians, (d² + r²)/2 of Laplaces, r of
    the log-scale."""
    d, r = torch.tensor([1e-3, 0, -1e-3, 1e-4], dtype=dtype), torch.tensor([0, 1e-3, 1e-3, 1e-5], dtype=dtype)
    kl = kl_divergence(FAMILIES[name](torch.cat([d, r])), FAMILIES[name](torch.zeros(8, dtype=dtype)))
    expected = (d.square() + (2 if name == "gaussian" else 1) * r.square()) / 2
    assert_close(kl, expected, rtol=2e-3, atol=0)


@pytest.mark.parametrize("name", ["gaussian", "laplace"])
@pytest.mark.parametrize("log_scale", [-30.0, -70.0, -95.0, -150.0])
def test_kl_of_a_vanishing_scale_is_finite(name, log_scale):
    """In the limit −1/2 or −1, less the log-scale, plus the cost of the location."""
    location = torch.tensor([0.0, 0.7, -3.0])
    u = torch.cat([location, torch.full((3,), log_scale)]).requires_grad_()
    kl = kl_divergence(FAMILIES[name](u), FAMILIES[name](torch.zeros(6)))
    cost = 0.5 * location.square() - 0.5 if name == "gaussian" else location.abs() - 1
    assert_close(kl.detach(), cost - log_scale)
    (gradient,) = torch.autograd.grad(kl.sum(), u)
    assert_close(gradient, torch.cat([location if name == "gaussian" else location.sign(), -torch.ones(3)]))


# The KL of one coordinate of a one-hot


def test_unit_kl_of_a_categorical_is_that_of_bernoullis():
    u, v = parameters("categorical", 30, 6) * 2, parameters("categorical", 6, seed=1)
    q, p = Categorical(u), Categorical(v)
    prior = reference.Bernoulli(probs=v.softmax(-1).expand(30, 6))
    expected = kl_divergence(reference.Bernoulli(probs=u.softmax(-1)), prior)
    assert_close(unit_kl(q, p), expected)


def test_unit_kl_of_a_categorical_near_certainty():
    """In float32, for probabilities within 1e-7 of 0 and of 1 on either side: finite, never
    negative, and right."""
    gaps = torch.tensor([0.0, 1.0, 15.0, 15.9, 16.2, 16.6, 17.0, 20.0, 50.0, 100.0, 1000.0])
    u = torch.stack([gaps, torch.zeros_like(gaps)], -1)
    q, p = Categorical(u[:, None]), Categorical(u)
    found = unit_kl(q, p)
    assert found.isfinite().all()
    assert (found >= 0).all()
    log_p = u.double().log_softmax(-1)
    here, there = log_p[:, None], log_p
    exact = (here.exp() * (here - there)).sum(-1, keepdim=True)  # of two, the complement of one is the other
    # float32 knows the complement of a probability to 1e-7 and no better
    unknown = 1.2e-7 / there.exp().amin(-1)[:, None]
    allowed = 5e-6 + unknown * torch.ones_like(exact)
    known = (unknown < 1).expand_as(found)
    assert ((found - exact).abs() <= allowed)[known].all()


def test_unit_kl_of_a_categorical_has_finite_gradients():
    u = torch.tensor([[0.0, -1e3], [0.0, -20.0], [0.0, 0.0]], requires_grad=True)
    (gradient,) = torch.autograd.grad(unit_kl(Categorical(u), Categorical(torch.zeros(2))).sum(), u)
    assert gradient.isfinite().all()


def test_unit_kl_is_never_negative_near_the_prior():
    u = parameters("categorical", 4000, 8, dtype=torch.float32)
    close = u + 1e-4 * parameters("categorical", 4000, 8, seed=1, dtype=torch.float32)
    assert (unit_kl(Categorical(close), Categorical(u)) >= 0).all()


# Spread of a linear decoder's output


@every_family
def test_spread_is_the_variance_of_the_output(name):
    dictionary = torch.randn(5, 6, generator=seeded(5), dtype=torch.float64) * torch.linspace(0.2, 3, 6)
    q = FAMILIES[name](parameters(name, 2, 6))
    output = (q.sample((N,), seeded(6)) - q.mean) @ dictionary.mT
    assert output_variance(q, dictionary).shape == (2,)
    assert_mean(output.square().sum(-1), output_variance(q, dictionary))


def test_spread_of_a_one_hot_has_the_full_covariance():
    dictionary = torch.randn(5, 6, generator=seeded(5), dtype=torch.float64)
    q = Categorical(parameters("categorical", 6))
    covariance = torch.diag(q.mean) - torch.outer(q.mean, q.mean)
    z = q.sample((N,), seeded(7))
    pairs = (z - q.mean)[:, :, None] * (z - q.mean)[:, None, :]
    assert_mean(pairs, covariance)
    assert_close(output_variance(q, dictionary), torch.trace(dictionary @ covariance @ dictionary.T))
    assert_close(q.variance, covariance.diagonal())


# Sampling


@every_family
@pytest.mark.parametrize("shape", [(3,), (2, 3), (0, 3), (2, 1, 3)])
@pytest.mark.parametrize("sample_shape", [(), (4,), (2, 1), (0,)])
def test_shapes_and_types(name, shape, sample_shape):
    for dtype in (torch.float32, torch.float64):
        u = parameters(name, *shape, dtype=dtype).requires_grad_()
        q = FAMILIES[name](u).at(0.5)
        assert q.shape == q.mean.shape == q.variance.shape == q.share_zero.shape == q.location.shape == shape
        assert total_kl(q, q.detach()).shape == shape[:-1]
        assert unit_kl(q, q.detach()).shape == shape
        norms = torch.ones(3, dtype=dtype)
        assert q.moments(q, norms)[1].shape == shape[:-1]
        z = q.sample(sample_shape, generator=seeded())
        assert z.shape == sample_shape + shape
        assert z.dtype == q.mean.dtype == q.variance.dtype == dtype
        for relaxation in (None, *q.relaxations):
            y = q.rsample(sample_shape, generator=seeded(), relaxation=relaxation)
            assert y.shape == sample_shape + shape
            assert y.dtype == dtype
            (gradient,) = torch.autograd.grad(y.sum(), u)
            assert gradient.shape == u.shape
            assert gradient.isfinite().all()


@every_family
def test_a_generator_decides_the_draw_and_the_global_state_is_left_alone(name):
    q = FAMILIES[name](parameters(name, 20, 5)).at(0.5)
    before = torch.get_rng_state()
    draws = [lambda seed: q.sample((3,), generator=seeded(seed))]
    draws += [lambda seed, r=r: q.rsample((3,), generator=seeded(seed), relaxation=r) for r in q.relaxations]
    for draw in draws:
        # arrivals of one unit are added up in no fixed order
        assert_close(draw(3), draw(3), rtol=1e-9, atol=1e-9)
        assert not torch.equal(draw(3), draw(4))
    assert torch.equal(torch.get_rng_state(), before)


PATHWISE = [(name, None) for name in LOCATION_SCALE] + [("categorical", None), ("poisson", "gumbel-softmax")]


@pytest.mark.parametrize(("name", "relaxation"), PATHWISE)
def test_gradients_of_a_draw_against_finite_differences_at_the_same_noise(name, relaxation):
    u = parameters(name, 2, 3).requires_grad_()

    def draw(u):
        return FAMILIES[name](u).at(0.7).rsample((2,), generator=seeded(5), relaxation=relaxation)

    assert draw(u).std() > 0.1
    assert torch.autograd.gradcheck(draw, (u,))


def test_straight_through_choices_have_the_gradient_of_the_relaxed_ones():
    u = parameters("categorical", 200, 5).requires_grad_()
    q = Categorical(u, 0.5)
    hard, soft = (q.rsample(generator=seeded(6), relaxation=name) for name in ("straight-through", "gumbel-softmax"))
    assert ((hard == 0) | (hard == 1)).all()
    assert torch.equal(hard.sum(-1), torch.ones(200, dtype=torch.float64))
    assert torch.equal(hard.argmax(-1), soft.argmax(-1))
    assert_close(soft.sum(-1).detach(), torch.ones(200, dtype=torch.float64))
    assert ((soft > 1e-3) & (soft < 1 - 1e-3)).any()
    weight = parameters("categorical", 200, 5, seed=9)
    gradients = [torch.autograd.grad((weight * z).sum(), u)[0] for z in (hard, soft)]
    assert gradients[1].abs().sum() > 1
    assert_close(*gradients)


@pytest.mark.parametrize("kind", ["sample", "temperature 0", "straight-through", "largest of the relaxed"])
def test_choices_follow_their_probabilities(kind):
    """At any temperature the largest entry is the choice of the Gumbel-max trick."""
    u = parameters("categorical", 7) * 1.5
    draw = {"generator": seeded(8)}
    z = {
        "sample": lambda: Categorical(u, 0.3).sample((N,), **draw),
        "temperature 0": lambda: Categorical(u, 0.0).rsample((N,), **draw),
        "straight-through": lambda: Categorical(u, 0.3).rsample((N,), **draw, relaxation="straight-through"),
        "largest of the relaxed": lambda: Categorical(u, 2.0).rsample((N,), **draw),
    }[kind]()
    expected = u.softmax(-1).numpy()
    assert p_value(z.argmax(-1), expected) > 1e-3
    assert p_value(z.argmax(-1), np.roll(expected, 1)) < 1e-6


def test_relaxed_choices_become_one_hot_as_the_temperature_falls():
    q = Categorical(parameters("categorical", 7))
    away = [(1 - q.at(tau).rsample((2000,), seeded(9)).amax(-1)).mean().item() for tau in (1.0, 0.1, 0.01)]
    assert away[0] > 3 * away[1] > 9 * away[2]
    assert away[2] < 0.01


@pytest.mark.parametrize(("rate", "draws"), [(1e-6, 1 << 22), (1e3, 1 << 16)])
def test_integer_counts_are_poisson_at_extreme_rates(rate, draws):
    counts = RelaxedPoisson(torch.full((draws,), math.log(rate))).sample(generator=seeded(10))
    assert torch.equal(counts, counts.round())
    total, expected = counts.double().sum().item(), rate * draws
    assert abs(total - expected) <= 4 * math.sqrt(expected)
    if rate < 1:
        assert total > 0
        assert counts.max() == 1
        return
    top = int(rate + 10 * math.sqrt(rate))
    log_pmf = reference.Poisson(torch.tensor(rate).double()).log_prob(torch.arange(top, dtype=torch.float64))
    assert p_value(counts, log_pmf.exp().numpy()) > 1e-3


# Copies, clamps, refusals


@every_family
def test_like_at_and_detach(name):
    u = parameters(name, 2, 3).requires_grad_()
    q = FAMILIES[name](u).at(0.3)
    other = parameters(name, 2, 3, seed=1)
    assert type(q.like(other)) is type(q.detach()) is type(q.at(0.7)) is FAMILIES[name]
    assert torch.equal(q.like(other).u, other)
    assert torch.equal(q.detach().u, u)
    assert not q.detach().u.requires_grad
    assert q.at(0.7).u is u
    if FAMILIES[name].discrete:
        assert q.like(other).temperature == q.detach().temperature == 0.3
        assert q.at(0.7).temperature == 0.7


@pytest.mark.parametrize(
    ("name", "limits"),
    [
        ("gaussian", (math.inf, 5)),
        ("rectified", (math.inf, 5)),
        ("laplace", (math.inf, 5)),
        ("log-normal", (5, 0)),
        ("poisson", (5,)),
        ("categorical", (math.inf,)),
    ],
)
def test_clamps_bend_what_is_above_the_limit_and_count_it(name, limits):
    family = FAMILIES[name]
    values = torch.linspace(-20, 40, 60, dtype=torch.float64)
    u = torch.cat([values] * family.parts)
    clamped, hits = family.clamp(u[None])
    assert hits.tolist() == [sum(int((values > limit).sum()) for limit in limits)]
    for part, limit in zip(clamped[0].chunk(family.parts), limits, strict=True):
        assert torch.equal(part[values <= limit], values[values <= limit])
        assert (part <= limit + 1).all()
        assert (part.diff() >= 0).all()


@every_family
def test_parameters_that_are_not_finite_cannot_be_drawn(name):
    u = parameters(name, 3, 4)
    u[1, 2] = math.nan
    u[2, 1] = math.inf
    assert FAMILIES[name](u).drawable.tolist() == [True, False, False]


def test_refusals():
    for family in (Gaussian, RectifiedGaussian, LogNormal, Laplace):
        with pytest.raises(InputError, match=r"u has shape \(3,\); expected \(\.\.\., 2K\)"):
            family(torch.zeros(3))
        with pytest.raises(InputError, match=f"'eat'; samples of a {family.__name__}.*use pathwise"):
            family(torch.zeros(4)).rsample(relaxation="eat")
    with pytest.raises(InputError, match="'eat'; expected one of gumbel-softmax, straight-through"):
        Categorical(torch.zeros(4)).rsample(relaxation="eat")
    with pytest.raises(InputError, match="'pathwise'; expected one of eat, straight-through, gumbel-softmax"):
        RelaxedPoisson(torch.zeros(4)).rsample(relaxation="pathwise")
    for temperature in (-0.1, math.nan):
        with pytest.raises(ValueError, match=f"temperature is {temperature}"):
            Categorical(torch.zeros(4), temperature)
